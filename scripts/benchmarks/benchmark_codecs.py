"""The codecs that `benchmark.py` compares: ours, and those of transformers with random weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Codec:
    """A codec and how to call it.

    Args:
        model: In evaluation mode.
        sampling_rate: In Hz.
        bitrate: In bit/s.
        encode: Audio (B, 1, N) -> whatever `decode` takes.
        decode: The result of `encode` -> audio (B, 1, N) or (B, N).
        to_compile: What torch.compile is for; the parts of the model if left out.
    """

    model: torch.nn.Module
    sampling_rate: int
    bitrate: float
    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Tensor]
    to_compile: Sequence[torch.nn.Module] | None = None

    def compile(self) -> None:
        """Let torch.compile work at the next call."""
        for module in self.model.children() if self.to_compile is None else self.to_compile:
            module.compile()


def ours(codec: str) -> Codec:
    """Our codec, a folder, a name on the Hub or `bundled`: its speed depends on the weights, by what is recomputed."""
    from q2d2_tokenizer.bundled import load_codec
    from q2d2_tokenizer.layers import ConvNeXtBlock

    model = load_codec(codec)
    blocks = [part for part in model.modules() if isinstance(part, ConvNeXtBlock)]  # `encode` calls them one by one

    def decode(encoded: Any) -> Tensor:
        return model.decode(encoded.audio_codes).audio_values

    return Codec(model, model.config.sampling_rate, model.config.bitrate, model.encode, decode, blocks)


def encodec(_: str) -> Codec:
    """EnCodec, 24 kHz, at its lowest bitrate."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig()).eval()
    bandwidth_kbps = model.config.target_bandwidths[0]

    def decode(encoded: Any) -> Tensor:
        codes, scales, pad = encoded.audio_codes, encoded.audio_scales, encoded.last_frame_pad_length
        return model.decode(codes, scales, last_frame_pad_length=pad).audio_values

    return Codec(model, 24_000, 1000 * bandwidth_kbps, lambda x: model.encode(x, bandwidth=bandwidth_kbps), decode)


def mimi(_: str) -> Codec:
    """Mimi with eight codebooks, as in Moshi."""
    from transformers import MimiConfig, MimiModel

    model, codebooks = MimiModel(MimiConfig()).eval(), 8
    bitrate = model.config.frame_rate * codebooks * math.log2(model.config.codebook_size)
    return Codec(
        model,
        24_000,
        bitrate,
        lambda x: model.encode(x, num_quantizers=codebooks),
        lambda e: model.decode(e.audio_codes).audio_values,
    )


def dac(_: str) -> Codec:
    """DAC of the size of its 24 kHz checkpoint, with the two codebooks that come closest to our bitrate."""
    from transformers import DacConfig, DacModel

    config = DacConfig(sampling_rate=24_000, downsampling_ratios=[2, 4, 5, 8], n_codebooks=32)
    model, codebooks = DacModel(config).eval(), 2
    bitrate = config.sampling_rate / config.hop_length * codebooks * math.log2(config.codebook_size)
    return Codec(
        model,
        24_000,
        bitrate,
        lambda x: model.encode(x, n_quantizers=codebooks),
        lambda e: model.decode(audio_codes=e.audio_codes).audio_values,
    )


def xcodec2(_: str) -> Codec:
    """X-codec2, 16 kHz; the spectrogram for its semantic encoder is given, so its computation is not counted."""
    from transformers import Xcodec2Config, Xcodec2Model

    model = Xcodec2Model(Xcodec2Config()).eval()
    config = model.config
    bitrate = config.sampling_rate / config.hop_length * math.log2(math.prod(config.quantization_levels))
    bands = config.semantic_model_config.feature_projection_input_dim

    def encode(audio: Tensor) -> Any:
        frames = audio.shape[-1] // config.hop_length
        features = torch.ones(len(audio), frames, bands, dtype=audio.dtype)
        return model.encode(audio[..., : frames * config.hop_length], features)

    return Codec(model, config.sampling_rate, bitrate, encode, lambda e: model.decode(e.audio_codes).audio_values)


CODECS = {"Q2D2 (ours)": ours, "EnCodec": encodec, "Mimi": mimi, "DAC": dac, "X-codec2": xcodec2}
