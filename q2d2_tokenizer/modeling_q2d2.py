"""The codec: waveform -> tokens -> waveform.

`encode` and `decode` compute a recording in blocks of frames, or chunk by chunk as it comes in; `streaming` says how,
and why the tokens are then the same, to the bit, alone or in a padded batch. `validation_q2d2` says what they refuse.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedAudioTokenizerBase, local_torch_dtype
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_q2d2 import Q2D2Config
from .decoders import DECODERS
from .encoders import ENCODERS
from .layers import Context, fast_products
from .quantizers import QUANTIZERS
from .quantizers_baselines import FiniteScalarQuantizer  # noqa: F401  (registers it, and its neighbours)
from .streaming import ChunkDecoder, ChunkEncoder, Q2D2DecoderCache, Q2D2EncoderCache
from .validation_q2d2 import (
    check_audio,
    check_chunk,
    check_codes,
    check_float32,
    check_num_samples,
    check_num_samples_of_chunks,
    refuse_unknown,
)


@dataclass
class Q2D2EncoderOutput(ModelOutput):
    """Tokens of a batch.

    Args:
        audio_codes: Tokens (B, 1, T) int64 with `T = ceil(N / hop_length)`; 0 where `audio_codes_mask` is 0.
        audio_codes_mask: (B, T) int64, 1 where a token belongs to the recording.
        cache: With `use_streaming`, what to pass on with the next chunk. The tokens are then those that the samples up
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
        config.encoder_kwargs = ENCODERS.resolve(config.encoder, config.encoder_kwargs or {})
        config.decoder_kwargs = DECODERS.resolve(config.decoder, config.decoder_kwargs or {})
        quantizer_kwargs = QUANTIZERS.resolve(config.quantizer, config.quantizer_kwargs or {})
        # `from_pretrained` gives a tensor the dtype it is made with: float32 here, whatever dtype is asked for, and
        # integers stay integers. `_keep_in_fp32_modules_strict` would turn the integer tables into floats.
        with local_torch_dtype(torch.float32):
            self.encoder = ENCODERS[config.encoder](config, **config.encoder_kwargs)
            self.quantizer = QUANTIZERS[config.quantizer](config, **quantizer_kwargs)
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
            ValueError: If tensors are missing, left over or of another shape, hold NaN or infinity, or lattice tables
                are of other levels.
        """
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        if wrong := {name: sorted(map(str, keys)) for name, keys in info.items() if keys}:
            raise ValueError(f"checkpoint {args[0] if args else ''} does not fit its config: {wrong}")
        here = {name: tensor for name, tensor in model.state_dict().items() if tensor.device.type != "meta"}
        if damaged := [name for name, tensor in here.items() if not tensor.isfinite().all()]:
            raise ValueError(
                f"checkpoint {args[0] if args else ''} holds NaN or infinity in {damaged}; get it again, or take an "
                "earlier checkpoint of its training"
            )
        model.quantizer.check_tables()  # transformers runs no hook after loading
        return (model, info) if output_loading_info else model

    @property
    def receptive_field_samples(self) -> int | None:
        """Samples on each side of a frame that its token depends on at most, or None if that is the whole recording."""
        context = self.encoder.context_frames
        return None if context is None else max(context) * self.config.hop_length

    @property
    def encoder_latency_samples(self) -> int | None:
        """Samples behind the end of a frame that come in before `encode` gives its token; None if it cannot stream."""
        return self._latency_samples(self.encoder.context_frames)

    @property
    def decoder_latency_samples(self) -> int | None:
        """Samples of tokens behind a frame that come in before `decode` gives its audio; None if it cannot stream."""
        return self._latency_samples(self.decoder.context_frames)

    def _latency_samples(self, context: Context | None) -> int | None:
        return None if context is None else context.after * self.config.hop_length

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
        """Tokens of audio, of whole recordings or of the next chunk of them.

        A recording in chunks: pass every chunk with `use_streaming=True` and the `cache` that came with the one
        before, and the last, which may be empty, with the cache alone. The tokens that come out, one chunk after the
        other, are those of the whole recording.

        Neither casts of the model nor autocast nor the state of autograd change tokens, and threads may share a model.

        Args:
            input_values: Audio (B, 1, N) at `config.sampling_rate`, within plus or minus 1.
            padding_mask: (B, N), 1 for samples and 0 for the padding behind them; all samples if left out.
            cache: Cache of the chunks before this one.
            use_streaming: Whether more of the recordings follows.

        Returns:
            [`Q2D2EncoderOutput`] with `audio_codes` (B, 1, T), `audio_codes_mask` (B, T) and `cache`.

        Raises:
            ValueError: On a wrong shape, samples that are not finite or of another scale, a mask that does not end in
                its padding, chunks for a model that cannot take them, a cache of another codec, or parameters of
                encoder or quantizer that are not float32.
        """
        refuse_unknown(kwargs)
        is_chunk = use_streaming or cache is not None
        lengths = check_audio(input_values, padding_mask, is_chunk)
        check_float32(self.encoder, self.quantizer)
        samples = input_values[:, 0].float()
        with torch.autocast(samples.device.type, enabled=False), fast_products():  # autocast would change tokens
            if is_chunk:
                check_chunk(self, "encoder", cache, Q2D2EncoderCache, lengths, samples.shape[1])
                codes, cache = self._chunk_encoder()(samples, cache, not use_streaming)
                rows = list(codes)
            else:
                rows = self._encode_recordings([row[:n] for row, n in zip(samples, lengths, strict=True)])
        return Q2D2EncoderOutput(
            audio_codes=pad_sequence(rows, batch_first=True).unsqueeze(1),
            audio_codes_mask=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            cache=cache if use_streaming else None,
        )

    def _chunk_encoder(self) -> ChunkEncoder:
        return ChunkEncoder(self.encoder, self.quantizer, self.config.hop_length, self.config.block_frames)

    def _encode_recordings(self, recordings: list[Tensor]) -> list[Tensor]:
        """Codes (T,) of each recording (N,)."""
        if self.encoder.context_frames is not None:
            return self._chunk_encoder().recordings(recordings)
        padded = [F.pad(samples, (0, -len(samples) % self.config.hop_length)) for samples in recordings]
        return [self.quantizer.encode(self.encoder(samples.view(1, 1, -1), exact=True))[0] for samples in padded]

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
            cache: Cache of the tokens before these.
            use_streaming: Whether more tokens of the recordings follow.

        Returns:
            [`Q2D2DecoderOutput`] with `audio_values` (B, 1, N) and `cache`.

        Raises:
            ValueError: On a wrong shape, tokens out of range, a `num_samples` that takes another number of tokens,
                chunks for a model that cannot take them, or a cache of another codec, dtype or device.
        """
        refuse_unknown(kwargs)
        is_chunk = use_streaming or cache is not None
        lengths = check_codes(audio_codes, audio_codes_mask, self.quantizer.codebook_size, is_chunk)
        codes, hop = audio_codes[:, 0], self.config.hop_length
        with torch.autocast(codes.device.type, enabled=False), fast_products():
            if is_chunk:
                check_chunk(self, "decoder", cache, Q2D2DecoderCache, lengths, codes.shape[1])
                audio, cache = self._chunk_decoder()(codes, cache, not use_streaming)
                num_tokens = [cache.frames.num_frames] * cache.batch_size
                count = check_num_samples_of_chunks(num_samples, num_tokens, hop, not use_streaming)
                excess = cache.frames.num_frames * hop - count
                if excess > audio.shape[1]:
                    raise ValueError(
                        f"num_samples={num_samples} comes too late: pass it with the last tokens, not after"
                    )
                rows = list(audio[:, : audio.shape[1] - excess])
            else:
                counts = check_num_samples(num_samples, lengths, hop)
                rows = self._decode_recordings([row[:n] for row, n in zip(codes, lengths, strict=True)])
                rows = [row[:count] for row, count in zip(rows, counts, strict=True)]
        return Q2D2DecoderOutput(
            audio_values=pad_sequence(rows, batch_first=True).unsqueeze(1),
            cache=cache if use_streaming else None,
        )

    def _chunk_decoder(self) -> ChunkDecoder:
        return ChunkDecoder(self.decoder, self.quantizer, self.config.block_frames)

    def _decode_recordings(self, recordings: list[Tensor]) -> list[Tensor]:
        """Audio (T * hop_length,) of the tokens (T,) of each recording."""
        if self.decoder.context_frames is not None:
            return self._chunk_decoder().recordings(recordings)
        quantized = [self.quantizer.decode(codes.unsqueeze(0)) for codes in recordings]
        return [self.decoder(latents).flatten().float() for latents in quantized]

    @can_return_tuple
    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None, **kwargs: Any) -> Q2D2Output:
        """Audio through tokens: `decode(encode(...))` with the samples that came in; not differentiable.

        Training calls the parts one after another instead: `encoder`, `quantizer`, `decoder`.
        """
        refuse_unknown(kwargs)
        encoded = self.encode(input_values, padding_mask, return_dict=True)
        num_samples = input_values.shape[-1] if padding_mask is None else padding_mask.bool().sum(-1)
        decoded = self.decode(encoded.audio_codes, encoded.audio_codes_mask, num_samples, return_dict=True)
        return Q2D2Output(audio_values=decoded.audio_values, **encoded)
