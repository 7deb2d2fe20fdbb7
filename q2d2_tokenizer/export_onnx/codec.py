"""A codec as ONNX files: encoder.onnx (audio -> tokens) and decoder.onnx (tokens -> audio), chunk by chunk.

Both take the next frames of recordings, whether each lies inside its recording, and the state after the frames before:
zeros at the beginning. A frame comes out `context_frames` later than it goes in: so far the part looks ahead. The
Fourier transforms are matrix
products here, that of the encoder in float64 as in the model.
"""

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ..corpus.shards import codec_metadata
from ..decoders import VocosDecoder
from ..encoders import StftEncoder
from ..layers import Stage, frame_signal, total_context
from ..modeling_q2d2 import Q2D2Model
from .files import write_onnx


class _Fourier(nn.Module):
    """The Fourier transform of real frames of `n_fft` samples as matrix products, whose factors a runtime works out."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, n_fft: int, dtype: torch.dtype):
        super().__init__()
        self.n_fft = n_fft
        angles = 2 * math.pi * torch.arange(n_fft).double() / n_fft
        self.register_buffer("cosines", angles.cos().to(dtype))
        self.register_buffer("sines", angles.sin().to(dtype))

    def factors(self, num_bins: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (num_bins, n_fft) of the first frequencies."""
        places = torch.arange(self.n_fft // 2 + 1).unsqueeze(1) * torch.arange(self.n_fft) % self.n_fft
        return self.cosines[places][:num_bins], self.sines[places][:num_bins]

    def transform(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts (..., n_fft // 2 + 1) of frames (..., n_fft)."""
        cosines, sines = self.factors(self.n_fft // 2 + 1)
        real, imaginary = (frames.to(cosines.dtype) @ torch.cat([cosines, -sines]).T).chunk(2, dim=-1)
        return real, imaginary

    def inverse_transform(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Frames (..., n_fft) of the real and imaginary parts (..., num_bins) of the first frequencies."""
        num_bins = real.shape[-1]
        twice = torch.full((num_bins, 1), 2.0 / self.n_fft)
        twice[0] /= 2  # all other frequencies stand for two
        if num_bins > self.n_fft // 2:
            twice[-1] /= 2
        cosines, sines = self.factors(num_bins)
        return torch.cat([real, imaginary], dim=-1) @ torch.cat([cosines * twice, -sines * twice])


class _Streamed(nn.Module):
    """Stages with all they remember in one tensor: `frames, frame_mask, state -> frames, state`.

    The state (B, state_size) holds which of the last frames lay inside the recording, then the last frames that went
    into each stage, as many as its context. Zeros are the state before the first frame.

    Args:
        part: Module of the stages.
        stages: They.
        example: Frames (1, T, ...) for the first of them.
    """

    def __init__(self, part: nn.Module, stages: list[Stage], example: Tensor):
        super().__init__()
        self.part, self.stages = part, stages
        self.context = total_context(stages)
        lag, self.num_flags, self.widths = 0, 0, []
        for apply, context in stages:
            self.num_flags = max(self.num_flags, lag + context.size)
            self.widths.append(example.shape[2])
            example = apply(example, torch.ones(example.shape[:2]))
            lag += context.after
        sizes = [context.size * width for (_, context), width in zip(stages, self.widths, strict=True)]
        self.state_size = self.num_flags + sum(sizes)

    def forward(self, frames: Tensor, frame_mask: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        flags = torch.cat([state[:, : self.num_flags], frame_mask.to(state.dtype)], dim=1)
        num_frames, lag, start = frames.shape[1], 0, self.num_flags
        remembered = flags[:, num_frames:]
        for (apply, context), width in zip(self.stages, self.widths, strict=True):
            window, size = frames, context.size
            if size:  # states are cut and joined one by one: WebGPU takes a handful of tensors at a time
                stop = start + size * width
                window = torch.cat([state[:, start:stop].unflatten(1, (size, width)), frames], dim=1)
                remembered = torch.cat([remembered, window[:, num_frames:].flatten(1)], dim=1)
                start = stop
            first = self.num_flags - lag - size
            mask = flags[:, first : first + size + num_frames]
            frames = apply(window, mask)[:, context.before : context.before + num_frames]
            lag += context.after
        return frames, remembered


class OnnxEncoder(nn.Module):
    """Audio (B, T, hop_length) -> tokens (B, T) int64, `context_frames` later, as `Q2D2Model.encode`."""

    def __init__(self, model: Q2D2Model):
        super().__init__()
        self.encoder, self.quantizer = model.encoder, model.quantizer
        self.fourier = _Fourier(self.encoder.n_fft, torch.float64)
        (_, context), *others = self.encoder.frame_stages()
        example = torch.zeros(1, 2, model.config.hop_length)
        self.streamed = _Streamed(self.encoder, [Stage(self._features, context), *others], example)

    def _features(self, audio: Tensor, frame_mask: Tensor | None) -> Tensor:
        encoder = self.encoder
        assert frame_mask is not None  # `_Streamed` always has one
        samples = encoder.round_samples(audio * frame_mask.unsqueeze(-1)).flatten(1)
        windows = frame_signal(samples, encoder.n_fft, encoder.hop_length, encoder.samples_after) * encoder.window
        real, imaginary = self.fourier.transform(windows)
        mel = (real.square() + imaginary.square()).sqrt().float() @ encoder.mel_filters
        return mel.clamp_min(encoder.mel_floor).log()

    def forward(self, input_values: Tensor, frame_mask: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        latents, state = self.streamed(input_values, frame_mask, state)
        return self.quantizer.encode(latents), state


class OnnxDecoder(nn.Module):
    """Tokens (B, T) int64 -> audio (B, T, hop_length), `context_frames` later, as `Q2D2Model.decode`."""

    def __init__(self, model: Q2D2Model):
        super().__init__()
        self.quantizer = model.quantizer
        head = copy.copy(model.decoder.head)
        self.fourier = _Fourier(head.n_fft, torch.float32)
        head.transform, head.inverse_transform = self.fourier.transform, self.fourier.inverse_transform
        stages = [*model.decoder.backbone.frame_stages(), *head.frame_stages()]
        self.streamed = _Streamed(model.decoder, stages, torch.zeros(1, 2, model.config.hidden_size))

    def forward(self, audio_codes: Tensor, frame_mask: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.streamed(self.quantizer.decode(audio_codes), frame_mask, state)


def export_codec(model: Q2D2Model, folder: Path) -> None:
    """Write encoder.onnx and decoder.onnx.

    Raises:
        ValueError: If the codec has other parts than the default one.
    """
    if not isinstance(model.encoder, StftEncoder) or not isinstance(model.decoder, VocosDecoder):
        raise ValueError(f"only stft and vocos can be exported, got {model.config.encoder} and {model.config.decoder}")
    if model.decoder.prenet is not None:
        raise ValueError("a decoder with attention cannot be exported")
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {key.decode(): value.decode() for key, value in codec_metadata(model).items()}
    samples, codes = torch.zeros(2, 50, model.config.hop_length), torch.zeros(2, 50, dtype=torch.int64)
    parts: dict[str, tuple[OnnxEncoder | OnnxDecoder, Tensor, str, str]] = {
        "encoder": (OnnxEncoder(model), samples, "input_values", "audio_codes"),
        "decoder": (OnnxDecoder(model), codes, "audio_codes", "audio_values"),
    }
    free = {0: "batch", 1: "frames"}
    for name, (part, example, given, result) in parts.items():
        inputs = {
            given: (example, free),
            "frame_mask": (torch.ones(2, 50, dtype=torch.bool), free),
            "state": (torch.zeros(2, part.streamed.state_size), {0: "batch"}),
        }
        context = part.streamed.context
        facts = {"context_frames": str(context.after), "context_frames_before": str(context.before)}
        write_onnx(part, folder / f"{name}.onnx", inputs, [result, "new_state"], metadata | facts)
