"""The codec: waveform -> tokens -> waveform.

`encode` and `decode` compute frames in blocks, each with exactly the context its frames depend on, in shapes that
follow from the length of the recording alone. A frame is therefore always computed by the same operations on the same
numbers, and its token is the same, to the bit, whether the recording is encoded alone or in a padded batch.
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

_BLOCKS_PER_CALL = {"cpu": 1}  # accelerators need many blocks at a time to be busy
_BLOCKS_PER_CALL_ON_ACCELERATORS = 32


@dataclass
class Q2D2EncoderOutput(ModelOutput):
    """Tokens of a batch.

    Args:
        audio_codes: Tokens (B, 1, T) int64 with `T = ceil(N / hop_length)`; 0 where `audio_codes_mask` is 0.
        audio_codes_mask: (B, T) int64, 1 where a token belongs to the recording.
    """

    audio_codes: Tensor | None = None
    audio_codes_mask: Tensor | None = None


@dataclass
class Q2D2DecoderOutput(ModelOutput):
    """Audio of a batch.

    Args:
        audio_values: Samples (B, 1, N) float32; 0 behind the end of the shorter recordings.
    """

    audio_values: Tensor | None = None


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
            ValueError: If tensors are missing, left over or of another shape.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        wrong = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
        if wrong:
            raise ValueError(f"checkpoint {args[0] if args else ''} does not fit its config: {wrong}")
        return (model, info) if output_loading_info else model

    @property
    def receptive_field_samples(self) -> int | None:
        """Samples on each side of a frame that its token depends on, or None if that is the whole recording."""
        context = self.encoder.context_frames
        return None if context is None else context * self.config.hop_length

    def fingerprint(self) -> str:
        """Sixteen hex digits that identify config and weights: equal fingerprints mean equal tokens."""
        fields = {name: getattr(self.config, name) for name in sorted(Q2D2Config.__annotations__)}
        fields.pop("model_type", None)
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True, default=list).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().double().numpy().tobytes())
        return digest.hexdigest()[:16]

    @can_return_tuple
    @torch.no_grad()
    def encode(self, input_values: Tensor, padding_mask: Tensor | None = None, **kwargs: Any) -> Q2D2EncoderOutput:
        """Tokens of audio.

        Args:
            input_values: Audio (B, 1, N) at `config.sampling_rate`, within plus or minus 1.
            padding_mask: (B, N), 1 for samples and 0 for the padding behind them; all samples if left out.

        Returns:
            [`Q2D2EncoderOutput`] with `audio_codes` (B, 1, T) and `audio_codes_mask` (B, T).

        Raises:
            ValueError: On a wrong shape, samples that are not finite, or a mask that does not end in its padding.
        """
        self._refuse_unknown(kwargs)
        lengths = self._check_audio(input_values, padding_mask)
        codes = [self._encode_one(audio[:, :length]) for audio, length in zip(input_values, lengths, strict=True)]
        mask = [torch.ones_like(code) for code in codes]
        return Q2D2EncoderOutput(
            audio_codes=nn.utils.rnn.pad_sequence(codes, batch_first=True).unsqueeze(1),
            audio_codes_mask=nn.utils.rnn.pad_sequence(mask, batch_first=True),
        )

    @can_return_tuple
    @torch.no_grad()
    def decode(
        self,
        audio_codes: Tensor,
        audio_codes_mask: Tensor | None = None,
        num_samples: int | list[int] | Tensor | None = None,
        **kwargs: Any,
    ) -> Q2D2DecoderOutput:
        """Audio of tokens.

        Args:
            audio_codes: Tokens (B, 1, T).
            audio_codes_mask: (B, T), 1 for tokens and 0 for the padding behind them; all tokens if left out.
            num_samples: Samples to return, one number or one per item; whole frames if left out.

        Returns:
            [`Q2D2DecoderOutput`] with `audio_values` (B, 1, N).

        Raises:
            ValueError: On a wrong shape, tokens out of range or a `num_samples` that takes another number of tokens.
        """
        self._refuse_unknown(kwargs)
        lengths = self._check_codes(audio_codes, audio_codes_mask)
        samples = self._check_num_samples(num_samples, lengths)
        audio = [
            self._decode_one(codes[0, :length])[:count]
            for codes, length, count in zip(audio_codes, lengths, samples, strict=True)
        ]
        return Q2D2DecoderOutput(audio_values=nn.utils.rnn.pad_sequence(audio, batch_first=True).unsqueeze(1))

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
        hop = self.config.hop_length
        num_frames = -(-audio.shape[-1] // hop)
        audio = F.pad(audio, (0, num_frames * hop - audio.shape[-1])).view(num_frames, hop)
        audio = audio.to(self.dtype)

        def encode_block(frames: Tensor, mask: Tensor | None) -> Tensor:
            return self.quantizer.encode(self.encoder(frames.flatten(1).unsqueeze(1), mask))

        return self._in_blocks(encode_block, audio, self.encoder.context_frames)

    def _decode_one(self, codes: Tensor) -> Tensor:
        """Audio (N,) of the tokens (T,) of one recording."""

        def decode_block(codes: Tensor, mask: Tensor | None) -> Tensor:
            return self.decoder(self.quantizer.decode(codes), mask).unflatten(-1, (codes.shape[1], -1)).squeeze(1)

        return self._in_blocks(decode_block, codes, self.decoder.context_frames).flatten().float()

    def _in_blocks(self, part: Any, frames: Tensor, context: int | None) -> Tensor:
        """Apply `part`, (b, T', ...) and mask (b, T') -> (b, T', ...), to the frames (T, ...) of one recording."""
        num_frames = frames.shape[0]
        if context is None:
            return part(frames.unsqueeze(0), None).squeeze(0)
        block = self.config.block_frames
        per_call = _BLOCKS_PER_CALL.get(frames.device.type, _BLOCKS_PER_CALL_ON_ACCELERATORS)
        whole = num_frames - num_frames % block
        calls = [(start, min(start + block * per_call, whole), block) for start in range(0, whole, block * per_call)]
        if whole < num_frames:  # the rest in one of eight shapes, so that a short recording is not a whole block
            step = max(1, block // 8)
            rest = -(-(num_frames - whole) // step) * step
            calls.append((whole, whole + rest, rest))
        outputs = []
        for start, end, size in calls:
            positions = torch.arange(start - context, end + context, device=frames.device)
            mask = (positions >= 0) & (positions < num_frames)  # frames outside the recording are zeros
            inside = frames[positions.clamp(0, num_frames - 1)]
            inside = torch.where(mask.view(-1, *[1] * (frames.ndim - 1)), inside, torch.zeros_like(inside))
            windows = inside.unfold(0, size + 2 * context, size).movedim(-1, 1)  # (b, size + 2 context, ...)
            with torch.autocast(frames.device.type, enabled=False):  # it would change tokens
                output = part(windows, mask.unfold(0, size + 2 * context, size))
            outputs.append(output[:, context : context + size].flatten(0, 1))
        return torch.cat(outputs)[:num_frames]

    def _refuse_unknown(self, kwargs: dict[str, Any]) -> None:
        if kwargs:
            raise ValueError(f"got unknown arguments {sorted(kwargs)}")

    def _check_audio(self, input_values: Tensor, padding_mask: Tensor | None) -> list[int]:
        """Samples of each item."""
        _check_tensor(input_values, "input_values")
        if input_values.ndim != 3 or input_values.shape[1] != 1:
            raise ValueError(
                f"input_values must be mono audio of shape (batch, 1, samples), got {tuple(input_values.shape)}; "
                "the feature extractor makes it"
            )
        if not input_values.is_floating_point():
            raise ValueError(f"input_values must be floats within plus or minus 1, got {input_values.dtype}")
        shape = (input_values.shape[0], input_values.shape[2])
        lengths = _lengths(padding_mask, shape, "padding_mask", "samples")
        if not lengths or min(lengths) < 1:
            raise ValueError("every recording needs at least one sample, got an empty one; drop it before encoding")
        if not all(torch.isfinite(audio[0, :n]).all() for audio, n in zip(input_values, lengths, strict=True)):
            raise ValueError("input_values must be finite, got NaN or infinite samples")
        return lengths

    def _check_codes(self, audio_codes: Tensor, audio_codes_mask: Tensor | None) -> list[int]:
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
        if not lengths or min(lengths) < 1:
            raise ValueError("every item needs at least one token, got an empty one")
        size = self.config.codebook_size
        for codes, length in zip(audio_codes, lengths, strict=True):
            low, high = codes[0, :length].min().item(), codes[0, :length].max().item()
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
