"""The codec: waveform -> tokens -> waveform.

`encode` and `decode` compute a recording in blocks of frames, or piece by piece as it comes in; `streaming` says how,
and why the tokens are then the same, to the bit, alone or in a padded batch.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedAudioTokenizerBase, local_torch_dtype
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_q2d2 import Q2D2Config
from .decoders import DECODERS
from .encoders import ENCODERS
from .quantizers import QUANTIZERS
from .streaming import Q2D2DecoderCache, Q2D2EncoderCache, decode_next, encode_next

_BLOCKS_PER_CALL = {"cpu": 1}  # accelerators need many blocks at a time to be busy
_BLOCKS_PER_CALL_ON_ACCELERATORS = 32


@dataclass
class Q2D2EncoderOutput(ModelOutput):
    """Tokens of a batch.

    Args:
        audio_codes: Tokens (B, 1, T) int64 with `T = ceil(N / hop_length)`; 0 where `audio_codes_mask` is 0.
        audio_codes_mask: (B, T) int64, 1 where a token belongs to the recording.
        cache: With `use_streaming`, what to pass on with the next piece. The tokens are then those that the samples up
            to here determine, maybe none.
    """

    audio_codes: Tensor | None = None
    audio_codes_mask: Tensor | None = None
    cache: Q2D2EncoderCache | None = None


@dataclass
class Q2D2DecoderOutput(ModelOutput):
    """Audio of a batch.

    Args:
        audio_values: Samples (B, 1, N) float32; 0 behind the end of the shorter recordings.
        cache: With `use_streaming`, what to pass on with the next tokens. The samples are then those that the tokens up
            to here determine, maybe none.
    """

    audio_values: Tensor | None = None
    cache: Q2D2DecoderCache | None = None


@dataclass
class Q2D2Output(ModelOutput):
    """Tokens of a batch and the audio decoded from them; see [`Q2D2EncoderOutput`] and [`Q2D2DecoderOutput`]."""

    audio_values: Tensor | None = None
    audio_codes: Tensor | None = None
    audio_codes_mask: Tensor | None = None


class Q2D2Model(PreTrainedAudioTokenizerBase):
    """Speech codec with one flat stream of tokens.

    Example:
        >>> model = AutoModel.from_pretrained(q2d2_tokenizer.default_checkpoint())
        >>> codes = model.encode(**feature_extractor(audio, sampling_rate=24000, return_tensors="pt")).audio_codes
        >>> model.decode(codes, num_samples=len(audio)).audio_values
    """

    config: Q2D2Config
    config_class = Q2D2Config
    base_model_prefix = "model"
    main_input_name = "input_values"
    input_modalities = "audio"
    _no_split_modules = ["ConvNeXtBlock"]

    def __init__(self, config: Q2D2Config):
        super().__init__(config)
        config.encoder_kwargs = ENCODERS.resolve(config.encoder, config.encoder_kwargs)
        config.decoder_kwargs = DECODERS.resolve(config.decoder, config.decoder_kwargs)
        QUANTIZERS.resolve(config.quantizer, {})
        self.encoder = ENCODERS[config.encoder](config, **config.encoder_kwargs)
        # `from_pretrained` gives a tensor the dtype it is made with: float32 here, whatever dtype is asked for, and
        # integers stay integers. `_keep_in_fp32_modules_strict` would turn the integer tables into floats.
        with local_torch_dtype(torch.float32):
            self.quantizer = QUANTIZERS[config.quantizer](config)
        self.decoder = DECODERS[config.decoder](config, **config.decoder_kwargs)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load a checkpoint, as in transformers, but refuse one that does not fit the model exactly.

        Raises:
            ValueError: If tensors are missing, left over or of another shape, or lattice tables of other levels.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if wrong := {name: sorted(map(str, keys)) for name, keys in info.items() if keys}:
            raise ValueError(f"checkpoint {args[0] if args else ''} does not fit its config: {wrong}")
        model.quantizer.check_tables()  # transformers runs no hook after loading
        return (model, info) if output_loading_info else model

    @property
    def receptive_field_samples(self) -> int | None:
        """Samples on each side of a frame that its token depends on, or None if that is the whole recording."""
        context = self.encoder.context_frames
        return None if context is None else context * self.config.hop_length

    @property
    def encoder_latency_samples(self) -> int | None:
        """Samples behind the end of a frame that come in before `encode` gives its token; None if it cannot stream."""
        return self.receptive_field_samples

    @property
    def decoder_latency_samples(self) -> int | None:
        """Samples of tokens behind a frame that come in before `decode` gives its audio; None if it cannot stream."""
        context = self.decoder.context_frames
        return None if context is None else context * self.config.hop_length

    def fingerprint(self) -> str:
        """Sixteen hex digits that identify encoder and quantizer: equal fingerprints mean equal tokens.

        A decoder that is trained further reads the same tokens, so data sets and language models stay valid.
        """
        settings = json.dumps(self.config.settings_of_tokens, sort_keys=True, default=list)
        digest = hashlib.sha256(settings.encode())
        for name, tensor in sorted(self.state_dict().items()):
            if name.startswith(("encoder.", "quantizer.")):
                digest.update(f"{name}:{tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().double().numpy().tobytes())
        return digest.hexdigest()[:16]

    @can_return_tuple
    @torch.no_grad()
    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        cache: Q2D2EncoderCache | None = None,
        use_streaming: bool = False,
        **kwargs: Any,
    ) -> Q2D2EncoderOutput:
        """Tokens of audio, of whole recordings or of the next piece of them.

        A recording in pieces: pass every piece with `use_streaming=True` and the `cache` that came with the one
        before, and the last, which may be empty, with the cache alone. The tokens that come out, one piece after the
        other, are those of the whole recording.

        Args:
            input_values: Audio (B, 1, N) at `config.sampling_rate`, within plus or minus 1.
            padding_mask: (B, N), 1 for samples and 0 for the padding behind them; all samples if left out.
            cache: Of the pieces before this one.
            use_streaming: Whether more of the recordings follows.

        Returns:
            [`Q2D2EncoderOutput`] with `audio_codes` (B, 1, T), `audio_codes_mask` (B, T) and `cache`.

        Raises:
            ValueError: On a wrong shape, samples that are not finite, a mask that does not end in its padding, or
                pieces for a model that cannot take them.
        """
        self._refuse_unknown(kwargs)
        in_pieces = use_streaming or cache is not None
        lengths = self._check_audio(input_values, padding_mask, in_pieces)
        if in_pieces:
            self._check_piece("encoder", lengths, input_values.shape, cache, Q2D2EncoderCache)
            codes, cache = self._encode_piece(input_values[:, 0], cache, not use_streaming)
        else:
            rows = zip(input_values, lengths, strict=True)
            codes = [self._encode_one(audio[:, :length]) for audio, length in rows]
        return Q2D2EncoderOutput(
            audio_codes=nn.utils.rnn.pad_sequence(codes, batch_first=True).unsqueeze(1),
            audio_codes_mask=nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in codes], batch_first=True),
            cache=cache if use_streaming else None,
        )

    @can_return_tuple
    @torch.no_grad()
    def decode(
        self,
        audio_codes: Tensor,
        audio_codes_mask: Tensor | None = None,
        num_samples: int | list[int] | Tensor | None = None,
        cache: Q2D2DecoderCache | None = None,
        use_streaming: bool = False,
        **kwargs: Any,
    ) -> Q2D2DecoderOutput:
        """Audio of tokens, of whole recordings or of the next tokens of them, as in `encode`.

        Args:
            audio_codes: Tokens (B, 1, T).
            audio_codes_mask: (B, T), 1 for tokens and 0 for the padding behind them; all tokens if left out.
            num_samples: Samples of the recordings, one number or one per item; whole frames if left out. With a cache,
                the number of the whole recordings, passed with the last tokens.
            cache: Of the tokens before these.
            use_streaming: Whether more tokens of the recordings follow.

        Returns:
            [`Q2D2DecoderOutput`] with `audio_values` (B, 1, N) and `cache`.

        Raises:
            ValueError: On a wrong shape, tokens out of range, a `num_samples` that takes another number of tokens, or
                pieces for a model that cannot take them.
        """
        self._refuse_unknown(kwargs)
        in_pieces = use_streaming or cache is not None
        lengths = self._check_codes(audio_codes, audio_codes_mask, in_pieces)
        if in_pieces:
            self._check_piece("decoder", lengths, audio_codes.shape, cache, Q2D2DecoderCache)
            if use_streaming and num_samples is not None:
                raise ValueError("num_samples says where the recordings end; pass it with their last tokens only")
            audio, cache = self._decode_piece(audio_codes[:, 0], cache, not use_streaming, num_samples)
        else:
            samples = self._check_num_samples(num_samples, lengths)
            rows = zip(audio_codes, lengths, samples, strict=True)
            audio = [self._decode_one(codes[:, :length])[:count] for codes, length, count in rows]
        return Q2D2DecoderOutput(
            audio_values=nn.utils.rnn.pad_sequence(audio, batch_first=True).unsqueeze(1),
            cache=cache if use_streaming else None,
        )

    @can_return_tuple
    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None, **kwargs: Any) -> Q2D2Output:
        """Audio through tokens: `decode(encode(...))` with the samples that came in; not differentiable.

        Training calls the parts one after another instead: `encoder`, `quantizer`, `decoder`.
        """
        self._refuse_unknown(kwargs)
        encoded = self.encode(input_values, padding_mask, return_dict=True)
        num_samples = input_values.shape[-1] if padding_mask is None else padding_mask.bool().sum(-1)
        decoded = self.decode(encoded.audio_codes, encoded.audio_codes_mask, num_samples, return_dict=True)
        return Q2D2Output(audio_values=decoded.audio_values, **encoded)

    def _encode_one(self, audio: Tensor) -> Tensor:
        """Codes (T,) of one recording (1, N)."""
        if self.encoder.context_frames is not None:
            return self._encode_piece(audio, None, True)[0][0]
        audio = F.pad(audio, (0, -audio.shape[-1] % self.config.hop_length)).to(self.dtype)
        with torch.autocast(audio.device.type, enabled=False):  # it would change tokens
            return self.quantizer.encode(self.encoder(audio.unsqueeze(0))).squeeze(0)

    def _encode_piece(
        self, audio: Tensor, cache: Q2D2EncoderCache | None, is_last: bool
    ) -> tuple[Tensor, Q2D2EncoderCache]:
        """Codes (B, T) that the next samples (B, N) determine, and the cache; computed block by block."""
        outputs = []
        blocks = self._blocks(audio.to(self.dtype), self.config.hop_length)
        for i, block in enumerate(blocks):
            ends = is_last and i == len(blocks) - 1
            with torch.autocast(audio.device.type, enabled=False):
                codes, cache = encode_next(self.encoder, self.quantizer, block, self.config.hop_length, cache, ends)
            outputs.append(codes)
        return torch.cat(outputs, dim=1), cache

    def _decode_one(self, codes: Tensor) -> Tensor:
        """Audio (N,) of the tokens (1, T) of one recording."""
        if self.decoder.context_frames is not None:
            return self._decode_piece(codes, None, True, None)[0][0]
        with torch.autocast(codes.device.type, enabled=False):
            return self.decoder(self.quantizer.decode(codes)).flatten().float()

    def _decode_piece(
        self, codes: Tensor, cache: Q2D2DecoderCache | None, is_last: bool, num_samples: int | list[int] | Tensor | None
    ) -> tuple[Tensor, Q2D2DecoderCache]:
        """Audio (B, N) that the next tokens (B, T) determine, and the cache; computed block by block."""
        hop, outputs = self.config.hop_length, []
        num_tokens = codes.shape[1] + (0 if cache is None else cache.frames.num_frames)
        blocks = self._blocks(codes, 1)
        for i, block in enumerate(blocks):
            ends = is_last and i == len(blocks) - 1
            with torch.autocast(codes.device.type, enabled=False):
                audio, cache = decode_next(self.decoder, self.quantizer, block, cache, ends)
            outputs.append(audio)
        audio = torch.cat(outputs, dim=1)
        if num_samples is not None:
            count, *others = set(self._check_num_samples(num_samples, [num_tokens] * len(codes)))
            if others:
                raise ValueError(f"recordings decoded in pieces together have one num_samples, got {num_samples}")
            audio = audio[:, : audio.shape[1] - (num_tokens * hop - count)]
        return audio, cache

    def _blocks(self, values: Tensor, per_frame: int) -> tuple[Tensor, ...]:
        """Cut values (B, N) into blocks of about the frames that are computed at a time."""
        calls = _BLOCKS_PER_CALL.get(values.device.type, _BLOCKS_PER_CALL_ON_ACCELERATORS)
        size = self.config.block_frames * calls * per_frame
        return torch.tensor_split(values, max(1, round(values.shape[1] / size)), dim=1)

    def _refuse_unknown(self, kwargs: dict[str, Any]) -> None:
        if kwargs:
            raise ValueError(f"got unknown arguments {sorted(kwargs)}")

    def _check_piece(self, part: str, lengths: list[int], shape: torch.Size, cache: Any, cache_class: type) -> None:
        """Raise unless a part of the model can take this piece of recordings."""
        if getattr(self, part).context_frames is None:
            raise ValueError(
                f"the {part} {getattr(self.config, part)!r} of this model sees the whole recording at once (it has an "
                "LSTM or attention), so it cannot work piece by piece; pass the whole recording"
            )
        if part == "encoder" and torch.finfo(self.dtype).bits < 32:
            raise ValueError(f"a model in {self.dtype} rounds too much for tokens that fit together; use model.float()")
        if cache is not None and not isinstance(cache, cache_class):
            raise ValueError(f"cache must be a {cache_class.__name__}, got {type(cache).__name__}")
        if cache is not None and cache.batch_size != shape[0]:
            raise ValueError(f"the cache is of {cache.batch_size} recordings, got a piece of {shape[0]}")
        if any(length != shape[-1] for length in lengths):
            raise ValueError("pieces of a batch must have the same length, got padding; stream those recordings alone")

    def _check_audio(self, input_values: Tensor, padding_mask: Tensor | None, in_pieces: bool) -> list[int]:
        """Samples of each item."""
        _check_tensor(input_values, "input_values")
        if input_values.ndim != 3 or input_values.shape[1] != 1:
            raise ValueError(
                f"input_values must be mono audio of shape (batch, 1, samples), got {tuple(input_values.shape)}; "
                "the feature extractor makes it"
            )
        if not input_values.is_floating_point():
            raise ValueError(f"input_values must be floats within plus or minus 1, got {input_values.dtype}")
        lengths = _lengths(padding_mask, (input_values.shape[0], input_values.shape[2]), "padding_mask", "samples")
        if not lengths or (min(lengths) < 1 and not in_pieces):
            raise ValueError("every recording needs at least one sample, got an empty one; drop it before encoding")
        if not all(torch.isfinite(audio[0, :n]).all() for audio, n in zip(input_values, lengths, strict=True)):
            raise ValueError("input_values must be finite, got NaN or infinite samples")
        return lengths

    def _check_codes(self, audio_codes: Tensor, audio_codes_mask: Tensor | None, in_pieces: bool) -> list[int]:
        """Tokens of each item."""
        _check_tensor(audio_codes, "audio_codes")
        if audio_codes.ndim != 3 or audio_codes.shape[1] != 1:
            raise ValueError(
                f"audio_codes must have shape (batch, 1, tokens), got {tuple(audio_codes.shape)}; "
                "tokens (T,) of one recording become it by codes.view(1, 1, -1)"
            )
        if audio_codes.dtype not in (torch.int64, torch.int32, torch.int16):
            raise ValueError(f"audio_codes must be integers, got {audio_codes.dtype}; int64, int32 and int16 will do")
        lengths = _lengths(audio_codes_mask, (audio_codes.shape[0], audio_codes.shape[2]), "audio_codes_mask", "tokens")
        if not lengths or (min(lengths) < 1 and not in_pieces):
            raise ValueError("every item needs at least one token, got an empty one")
        size = self.config.codebook_size
        for codes, length in zip(audio_codes, lengths, strict=True):
            low, high = (codes[0, :length].min().item(), codes[0, :length].max().item()) if length else (0, 0)
            if low < 0 or high >= size:
                raise ValueError(
                    f"audio_codes must be within 0 and {size - 1}, got {low if low < 0 else high}; "
                    "are they of another codec, or shifted by the offset of a language model?"
                )
        return lengths

    def _check_num_samples(self, num_samples: int | list[int] | Tensor | None, lengths: list[int]) -> list[int]:
        """Samples to return of each item."""
        hop = self.config.hop_length
        if num_samples is None:
            return [length * hop for length in lengths]
        given = torch.as_tensor(num_samples)
        if given.is_floating_point() or given.ndim > 1:
            raise ValueError(f"num_samples must be an integer or one for each item, got {num_samples}")
        if given.ndim == 1 and len(given) != len(lengths):
            raise ValueError(f"num_samples must be one number or {len(lengths)}, got {len(given)}")
        counts = given.expand(len(lengths)).tolist()
        for count, length in zip(counts, lengths, strict=True):
            if -(-count // hop) != length:
                raise ValueError(
                    f"num_samples={count} takes {-(-count // hop)} tokens of {hop} samples, got {length} tokens"
                )
        return counts


def _check_tensor(value: Any, name: str) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} must be a torch tensor, got {type(value).__name__}; outputs and batches unpack: "
            "model.encode(**batch), model.decode(**encoded)"
        )


def _lengths(mask: Tensor | None, shape: tuple[int, int], name: str, unit: str) -> list[int]:
    """Length of each row of a mask whose zeros all stand behind its ones."""
    if mask is None:
        return [shape[1]] * shape[0]
    _check_tensor(mask, name)
    if tuple(mask.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, (batch, {unit}), got {tuple(mask.shape)}")
    lengths = mask.bool().sum(-1)
    if not torch.equal(mask.bool(), torch.arange(shape[1], device=mask.device) < lengths.unsqueeze(-1)):
        raise ValueError(f"{name} must be 1 for {unit} and then 0 for padding; padding goes on the right")
    return lengths.tolist()
