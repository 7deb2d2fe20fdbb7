"""Feature extractor of the codec: recordings of any length -> one padded batch."""

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType

from .configuration_q2d2 import drop_folder_loader

logger = logging.getLogger(__name__)
_Audio = np.ndarray | Tensor | Sequence
MAX_PEAK = 8.0  # of full scale; above it, samples are of another scale
_LOUD_PEAK = 2.0
_warned: set[str] = set()  # what was warned of
_INTEGER_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


class Q2D2FeatureExtractor(SequenceFeatureExtractor):
    """Brings mono recordings into the form [`Q2D2Model`] takes: checked, float32 and padded on the right.

    Example:
        >>> inputs = feature_extractor(audio, sampling_rate=24000, return_tensors="pt")
        >>> codes = model.encode(**inputs).audio_codes

    Args:
        feature_size: Channels of the audio; only 1 is possible.
        sampling_rate: Rate of the audio, in Hz.
        padding_value: Put behind the shorter recordings of a batch; the mask leaves it out.

    Raises:
        ValueError: If more than one channel or padding on the left is asked for.
    """

    model_input_names = ["input_values", "padding_mask"]
    auto_map: dict[str, str]  # set by `export`, as is the next
    processor_class: str

    def __init__(self, feature_size: int = 1, sampling_rate: int = 24000, padding_value: float = 0.0, **kwargs: Any):
        drop_folder_loader(kwargs)
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        if feature_size != 1:
            raise ValueError(f"feature_size must be 1, since the codec is mono, got {feature_size}")
        if self.padding_side != "right":
            raise ValueError(f"padding_side must be 'right', got {self.padding_side!r}")

    def __call__(
        self,
        audio: _Audio | None = None,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        return_tensors: str | TensorType | None = None,
        sampling_rate: int | None = None,
        raw_audio: _Audio | None = None,
    ) -> BatchFeature:
        """Batch of one recording or of a list of recordings.

        Args:
            audio: A recording, or a list of them: array, tensor or list of samples of shape (N,) or (1, N). Floats lie
                within plus or minus 1; int16 and int32 are scaled to that range. A peak above 2 is warned of, above 8
                it is refused.
            padding: `True` or `"longest"` to the longest recording, `"max_length"`, or `False` to keep every length.
            max_length: Length in samples for `padding="max_length"` and for `truncation`.
            truncation: Cut what is longer than `max_length`.
            return_tensors: `"pt"` or `"np"`; numpy arrays if left out, or a list of them without padding.
            sampling_rate: Rate of `audio`, in Hz; checked.
            raw_audio: Another name of `audio`, which EnCodec and DAC use.

        Returns:
            `input_values` (B, 1, N) float32 and `padding_mask` (B, N) int32, 1 for samples and 0 for padding.

        Raises:
            ValueError: Without audio or with both names of it, on another sampling rate, more than one channel, no
                samples, samples that are not finite, of another scale or another type, or lengths that do not fit
                `max_length`.
        """
        self._check_sampling_rate(sampling_rate)
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1 sample, got {max_length}")
        strategy = _padding_strategy(padding)
        if max_length is None and (truncation or strategy == PaddingStrategy.MAX_LENGTH):
            raise ValueError("truncation=True and padding='max_length' need max_length, got None; pass it, in samples")
        rows = [row[: max_length if truncation else None] for row in _recordings(_either(audio, raw_audio))]
        masks = [np.ones(len(row), np.int32) for row in rows]
        longest = max(len(row) for row in rows)
        if strategy == PaddingStrategy.DO_NOT_PAD:
            values = [row[np.newaxis] for row in rows]  # (1, N) each
            return BatchFeature({"input_values": values, "padding_mask": masks}, tensor_type=return_tensors)
        if max_length is not None and longest > max_length:
            raise ValueError(f"audio has {longest} samples, more than max_length={max_length}; pass truncation=True")
        size = max_length if max_length is not None and strategy == PaddingStrategy.MAX_LENGTH else longest
        batch = {
            "input_values": np.stack([_padded(row, size, self.padding_value) for row in rows])[:, np.newaxis],
            "padding_mask": np.stack([_padded(mask, size, 0) for mask in masks]),
        }
        return BatchFeature(batch, tensor_type=return_tensors)

    def _check_sampling_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            logger.warning(
                "sampling_rate was not passed, so audio of another rate than %d Hz would go unnoticed; pass it",
                self.sampling_rate,
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate must be {self.sampling_rate} Hz, got {sampling_rate!r} Hz; resample the audio first"
            )


def to_float32(samples: np.ndarray) -> np.ndarray:
    """Samples as float32; int16 and int32 are scaled to plus or minus 1.

    Raises:
        ValueError: On any other integer type, and on what is not a number.
    """
    if samples.dtype in _INTEGER_SCALE:
        if samples.dtype == np.int32 and 0 < samples.max(initial=0) < 2**23:
            logger.warning("int32 samples peak 48 dB below full scale; if they hold 24 bits, multiply them by 256")
        return samples.astype(np.float32) / _INTEGER_SCALE[samples.dtype]
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be floats, int16 or int32, got {samples.dtype}; read files with soundfile")
    with np.errstate(over="ignore"):  # becomes infinite, which callers refuse
        return samples.astype(np.float32)


def _either(audio: _Audio | None, raw_audio: _Audio | None) -> _Audio:
    """The one that was passed."""
    if audio is not None and raw_audio is not None:
        raise ValueError("audio and raw_audio are two names of one argument; pass one of them, got both")
    given = raw_audio if audio is None else audio
    if given is None:
        raise ValueError("audio is missing; pass a recording or a list of them")
    return given


def check_peak(peak: float, name: str) -> None:
    """Refuse samples by their peak if they are not finite or of another scale.

    Args:
        peak: Of the samples as floats; 1 is full scale.
        name: What errors call the samples.

    Raises:
        ValueError: If they cannot be used.
    """
    if not math.isfinite(peak):
        raise ValueError(f"{name} has NaN or infinite samples; repair or drop it")
    if peak > MAX_PEAK:
        raise ValueError(f"{name} {_scale(peak)}, at most {MAX_PEAK:.0f} is taken")


def warn_if_loud(peak: float, name: str, once: bool = False) -> None:
    """Warn if the samples may be of another scale, given their peak; maybe once for all of that name."""
    if peak > _LOUD_PEAK and name not in _warned:
        _warned.update([name] if once else [])
        logger.warning("%s %s", name, _scale(peak))


def warn_if_half(dtype: Any) -> None:
    """Warn if samples of that type (of torch or numpy) are too coarse for the tokens of the recording."""
    if (name := str(dtype).removeprefix("torch.")) in ("float16", "bfloat16"):
        logger.warning("samples in %s are rounded so far that most tokens become others; pass float32", name)


def _scale(peak: float) -> str:
    return f"has a peak of {peak:.3g}; floats lie within plus or minus 1: divide samples of 16 bits by 32768"


def _recordings(audio: _Audio) -> list[np.ndarray]:
    """Checked samples (N,) float32 of one recording or of each of a list."""
    is_batch = isinstance(audio, (list, tuple)) and len(audio) > 0 and not _is_number(audio[0])
    if not is_batch:
        return [_mono(audio, "audio")]
    return [_mono(recording, f"audio[{index}]") for index, recording in enumerate(audio)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0


def _mono(recording: _Audio, name: str) -> np.ndarray:
    warn_if_half(getattr(recording, "dtype", None))
    if isinstance(recording, Tensor):
        recording = recording.detach().cpu()
        recording = (recording.float() if recording.is_floating_point() else recording).numpy()
    samples = np.asarray(recording)
    if samples.ndim == 2 and 1 in samples.shape:
        samples = samples.reshape(-1)
    if samples.ndim == 2:
        raise ValueError(
            f"{name} must be mono of shape (samples,) or (1, samples), got {samples.shape}; "
            "average the channels, or pass several recordings as a list"
        )
    if samples.ndim == 0:
        raise ValueError(f"{name} must be samples of shape (N,), got {type(recording).__name__}; {_advice(recording)}")
    if samples.ndim != 1:
        raise ValueError(f"{name} must have shape (samples,) or (1, samples), got {samples.shape}")
    if samples.size == 0:
        raise ValueError(f"{name} is empty; it needs at least one sample")
    samples = to_float32(samples)
    peak = float(np.abs(samples).max())
    check_peak(peak, name)
    warn_if_loud(peak, name)
    return samples


def _advice(value: Any) -> str:
    """How to get samples from what holds none by itself."""
    if isinstance(value, (str, bytes, os.PathLike)):
        return "read the file first: q2d2_tokenizer.read_audio(path, feature_extractor.sampling_rate)"
    if isinstance(value, dict):
        return "pass its array, such as audio['array'], and its rate as sampling_rate"
    return "pass an array, a tensor or a list of numbers, or a list of these"


def _padding_strategy(padding: bool | str | PaddingStrategy) -> PaddingStrategy:
    if isinstance(padding, bool):
        return PaddingStrategy.LONGEST if padding else PaddingStrategy.DO_NOT_PAD
    return PaddingStrategy(padding)


def _padded(row: np.ndarray, size: int, value: float) -> np.ndarray:
    return np.pad(row, (0, size - len(row)), constant_values=value)
