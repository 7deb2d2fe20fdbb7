"""Configuration of a Q2D2 codec: every model setting; what follows from them is a property."""

import functools
import math
from typing import Any

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import PreTrainedConfig

from .lattices import group_sizes_in_points

FOLDER_LOADER = "from_package"  # module of the bundled folder that finds the code in the package


def _with_value_errors(cls: type) -> type:
    """A strict class that raises `ValueError` for a value of another type, made with it or set later."""
    set_checked: Any = cls.__setattr__

    @functools.wraps(set_checked)
    def __setattr__(self: Any, name: str, value: Any) -> None:
        try:
            set_checked(self, name, value)
        except StrictDataclassFieldValidationError as error:
            raise ValueError(f"{cls.__name__}: {error.__cause__}") from error

    cls.__setattr__ = __setattr__  # type: ignore[method-assign, assignment]
    return cls


@_with_value_errors
@strict
class Q2D2Config(PreTrainedConfig):
    """Settings of a [`Q2D2Model`]; the defaults are the released 24 kHz model.

    Args:
        sampling_rate: Rate of the audio, in Hz.
        downsampling_ratios: Their product is the hop length, in samples per frame. The `seanet` encoder has one stage
            per ratio; for other encoders only the product counts.
        hidden_size: Channels of the latents between encoder, quantizer and decoder.
        lattice: `rectangle`, `rhombic`, `hexagon`, `brick` or `bcc`.
        levels: Levels of each quantized channel.
        group_size: Channels that are quantized together: 1 (FSQ), 2 (Q2D2) or 3.
        quantizer: Name of the quantizer. One without a lattice, such as `vq`, takes the lattice `rectangle` in groups
            of 1, and levels are the sizes of its codebooks.
        quantizer_kwargs: Arguments of the quantizer that differ from its defaults. They are not completed: codecs are
            older than some of them, and their files and fingerprints stay as they are.
        encoder: Name of the encoder.
        encoder_kwargs: Arguments of the encoder; what is left out is completed with its defaults.
        decoder: Name of the decoder.
        decoder_kwargs: Arguments of the decoder, completed likewise.
        block_frames: About how many frames `encode` and `decode` compute at a time; more of them take more memory. The
            blocks of a recording have the same size, up to half more or a third less than this. Models of infinite
            receptive field ignore it.

    Raises:
        ValueError: On an unknown key (usually a misspelt one), or a value of another type or out of range.
    """

    model_type = "q2d2"

    sampling_rate: int = 24000
    downsampling_ratios: list[int] | tuple[int, ...] = (320,)
    hidden_size: int = 256
    lattice: str = "rhombic"
    levels: list[int] | tuple[int, ...] = (9, 9, 9, 9)
    group_size: int = 2
    quantizer: str = "lattice"
    quantizer_kwargs: dict[str, Any] | None = None
    encoder: str = "stft"
    encoder_kwargs: dict[str, Any] | None = None
    decoder: str = "vocos"
    decoder_kwargs: dict[str, Any] | None = None
    block_frames: int = 768

    def __post_init__(self, **kwargs: Any):
        self.quantizer_kwargs = self.quantizer_kwargs or {}
        self.encoder_kwargs = self.encoder_kwargs or {}
        self.decoder_kwargs = self.decoder_kwargs or {}
        drop_folder_loader(kwargs)
        super().__post_init__(**kwargs)
        known = set(type(self).__dataclass_fields__) | _KEYS_OF_TRANSFORMERS
        unknown = sorted(key for key in kwargs if key not in known and not key.startswith("_"))
        if unknown:
            raise ValueError(f"Q2D2Config got unknown keys {unknown}; it takes {sorted(_own_fields())}")
        self.validate_architecture()  # the call by transformers wraps a ValueError into an error that is none

    def validate_architecture(self) -> None:
        """Check the values; called by transformers whenever a configuration is made."""
        for name in ("sampling_rate", "hidden_size", "block_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.downsampling_ratios or min(self.downsampling_ratios) < 1:
            raise ValueError(f"downsampling_ratios must be positive integers, got {self.downsampling_ratios}")
        if self.codebook_size >= 2**63:
            raise ValueError(f"tokens are int64, got a codebook of {self.codebook_size} entries; use fewer levels")

    @property
    def hop_length(self) -> int:
        """Samples per frame, and so per token."""
        return math.prod(self.downsampling_ratios)

    @property
    def frame_rate(self) -> float:
        """Frames, and so tokens, per second."""
        return self.sampling_rate / self.hop_length

    @property
    def points_per_group(self) -> list[int]:
        """Lattice points of every group of channels."""
        return group_sizes_in_points(self.lattice, self.levels, self.group_size)

    @property
    def codebook_size(self) -> int:
        """Number of distinct tokens: the product of the lattice points of the groups."""
        return math.prod(self.points_per_group)

    @property
    def bits_per_code(self) -> float:
        """Information of one token if all were equally likely, in bits."""
        return math.log2(self.codebook_size)

    @property
    def bitrate(self) -> float:
        """Nominal bits per second."""
        return self.frame_rate * self.bits_per_code

    @property
    def settings_of_tokens(self) -> dict[str, Any]:
        """What tokens depend on: all settings but those of the decoder and the size of blocks."""
        others = {"model_type", "decoder", "decoder_kwargs", "block_frames"}
        return {name: getattr(self, name) for name in _own_fields() - others if name in self.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """All settings; arguments of the quantizer only if there are some, as in files of codecs older than them."""
        settings = super().to_dict()
        if not settings.get("quantizer_kwargs"):
            settings.pop("quantizer_kwargs", None)
        return settings


def drop_folder_loader(kwargs: dict[str, Any]) -> None:
    """Remove the `auto_map` of the bundled folder: what is saved elsewhere would name a file that is not there."""
    if FOLDER_LOADER in str(kwargs.get("auto_map")):
        del kwargs["auto_map"]


def _own_fields() -> set[str]:
    return set(Q2D2Config.__annotations__)


# Keys that transformers itself passes on when it reads a saved configuration.
_KEYS_OF_TRANSFORMERS = set(PreTrainedConfig().to_dict()) | {
    "attn_implementation",
    "auto_map",
    "experts_implementation",
    "name_or_path",
    "torch_dtype",
}
