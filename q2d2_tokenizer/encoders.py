"""Encoders: audio (B, 1, T * hop_length) -> latents (B, T, hidden_size).

The contract: `forward(audio, frame_mask, exact)` with an optional mask (B, T) of the frames that lie inside the
recording, and the `frame_stages` of a `FramePart`, which begin with frames of audio (B, T, hop_length).

With `exact`, as in `Q2D2Model.encode`, an encoder spares no effort to give the same tokens again, whatever the samples
come with. Training says `exact=False`: faster, and differentiable down to the samples. Nothing else decides: neither
the state of autograd nor `train()`.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_q2d2 import Q2D2Config
from .layers import (
    Context,
    ConvNeXtBackbone,
    Float32Module,
    FramePart,
    Stage,
    apply_stages,
    check_look_ahead,
    exact_dtype,
    frame_signal,
    mel_filters,
    total_context,
)
from .registry import Registry

ENCODERS = Registry("encoder")
_MEL_FLOOR = 1e-5  # of codecs that set none
_FRAMES_AT_ONCE = 96  # of the spectrum: they stay in the cache of a CPU


class Encoder(Float32Module, FramePart):
    """The contract of an encoder. A model casts it to no other precision: its tokens would be others."""

    def frame_stages(self, exact: bool = True) -> list[Stage]:
        """The stages in order; an encoder of finite context has them."""
        raise NotImplementedError

    def forward(self, audio: Tensor, frame_mask: Tensor | None = None, exact: bool = True) -> Tensor:
        """Latents (B, T, D) of audio (B, 1, T * hop_length).

        Args:
            audio: Whole recordings.
            frame_mask: (B, T), which frames lie inside the recordings; all if left out.
            exact: Whether tokens have to be the same again; False in training.
        """
        raise NotImplementedError


@ENCODERS.register("stft")
class StftEncoder(Encoder):
    """Log-mel spectrogram and ConvNeXt blocks at the frame rate: all convolution, and the fast choice on a CPU.

    Args:
        config: Sampling rate, hop length and hidden size are read from it.
        n_fft: Length of an analysis frame, in samples.
        n_mels: Mel bands.
        depth: ConvNeXt blocks.
        expansion: Width of the network in each block, as a multiple of the hidden size.
        kernel_size: Size of the convolutions, in frames; odd.
        sample_bits: Samples are rounded to so many bits. The logarithm sees the noise of this in bands that are
            otherwise empty, as above 8 kHz in audio that was resampled from 16 kHz, so they should look alike whether
            the audio comes from a 16-bit file or from a resampler.
        mel_floor: Smallest magnitude of a mel band; lower ones count as this much; 1e-5 if left out. A higher one makes
            tokens deaf to what is not speech: noise of resamplers and of 16 bits, empty bands. White noise at -90 dBFS
            has .01 in the widest bands.
        look_ahead: Frames behind its own that a latent depends on. The analysis frame takes as many as it needs to be
            centred, or lies earlier; the first convolutions share the rest. If left out, all are symmetric.
    """

    window: Tensor
    mel_filters: Tensor

    def __init__(
        self,
        config: Q2D2Config,
        n_fft: int = 1280,
        n_mels: int = 100,
        depth: int = 3,
        expansion: int = 3,
        kernel_size: int = 7,
        sample_bits: int = 16,
        mel_floor: float | None = None,
        look_ahead: int | None = None,
    ):
        super().__init__()
        if n_fft < config.hop_length:
            raise ValueError(f"n_fft must be at least the hop length, {config.hop_length}, got {n_fft}")
        if not 2 <= sample_bits <= 24:
            raise ValueError(f"sample_bits must be within 2 and 24, got {sample_bits}")
        mel_floor = _MEL_FLOOR if mel_floor is None else mel_floor
        if not mel_floor > 0:
            raise ValueError(f"mel_floor must be above 0, got {mel_floor}")
        self.n_fft = n_fft
        self.hop_length = config.hop_length
        self.mel_floor = mel_floor
        self.full_scale = 2.0 ** (sample_bits - 1)
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32).clone())
        filters = mel_filters(n_fft // 2 + 1, n_mels, config.sampling_rate / 2, config.sampling_rate)
        self.register_buffer("mel_filters", torch.tensor(filters, dtype=torch.float32))  # (n_fft // 2 + 1, n_mels)
        margin, dim = n_fft - self.hop_length, config.hidden_size
        self.samples_after = margin - margin // 2  # of an analysis frame, behind its hop
        rest = None
        if look_ahead is not None:
            centred = math.ceil(self.samples_after / self.hop_length)
            check_look_ahead(look_ahead, centred + (depth + 1) * (kernel_size // 2))
            self.samples_after = min(self.samples_after, look_ahead * self.hop_length)
            rest = look_ahead - min(look_ahead, centred)
        self.backbone = ConvNeXtBackbone(n_mels, dim, depth, dim * expansion, kernel_size, rest)
        self.context_frames = total_context(self.frame_stages())

    def frame_stages(self, exact: bool = True) -> list[Stage]:
        """The spectrogram and the stages of the backbone."""
        before, hop = self.n_fft - self.hop_length - self.samples_after, self.hop_length
        context = Context(math.ceil(before / hop), math.ceil(self.samples_after / hop))
        return [Stage(partial(self._features, exact=exact), context), *self.backbone.frame_stages()]

    def forward(self, audio: Tensor, frame_mask: Tensor | None = None, exact: bool = True) -> Tensor:
        frames = audio.view(len(audio), -1, self.hop_length)
        return apply_stages(self.frame_stages(exact), frames, frame_mask)

    def round_samples(self, samples: Tensor) -> Tensor:
        """Samples (...) rounded to `sample_bits`."""
        return (samples * self.full_scale).round() / self.full_scale

    def _features(self, audio: Tensor, frame_mask: Tensor | None, exact: bool) -> Tensor:
        """Log-mel spectrogram (B, T, n_mels) of frames of audio (B, T, hop_length), zeros outside the recording.

        Next to a loud tone, what float32 rounds off in the transform is more than there is in a quiet band, and the
        logarithm shows it. So with `exact` it is float64, of rounded samples. Rounding has no gradient, and training
        segments bring the noise of 16 bits along.
        """
        dtype = exact_dtype(audio.device) if exact else torch.float32
        samples = audio.flatten(1)
        samples = self.round_samples(samples) if exact else samples
        windows = frame_signal(samples, self.n_fft, self.hop_length, self.samples_after)
        window = self.window.to(dtype)
        frames_at_once = _FRAMES_AT_ONCE if audio.device.type == "cpu" else windows.shape[1]
        mel = torch.cat([self._mel(part * window) for part in windows.split(frames_at_once, dim=1)], dim=1)
        return mel.to(dtype).clamp_min(self.mel_floor).log()

    def _mel(self, windows: Tensor) -> Tensor:
        """Magnitudes (B, T, n_mels) of windowed frames (B, T, n_fft)."""
        squares = torch.view_as_real(torch.fft.rfft(windows)).to(self.mel_filters.dtype).square()
        power = squares[..., 0] + squares[..., 1]  # its root is many times as fast as abs() on a CPU
        if power.requires_grad:  # the root has an infinite derivative at zero, which silence has
            power = power.clamp_min(torch.finfo(power.dtype).tiny)
        return power.sqrt() @ self.mel_filters


class SeanetResidual(nn.Module):
    """ELU, convolution, ELU, pointwise convolution, added to a pointwise shortcut (B, C, N)."""

    def __init__(self, dim: int):
        super().__init__()
        self.spatial = nn.Conv1d(dim, dim // 2, 3, padding=1, padding_mode="replicate")
        self.pointwise = nn.Conv1d(dim // 2, dim, 1)
        self.shortcut = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.pointwise(F.elu(self.spatial(F.elu(x))))


@ENCODERS.register("seanet")
class SeanetEncoder(Encoder):
    """The paper's encoder: strided convolutions with residual units on the waveform, then an LSTM that sees all of it.

    Source: EnCodec, arXiv 2210.13438, section 3.1. Differs: no weight normalization, replicated edges.

    Args:
        config: Ratios (one stage each, the last one first, as in EnCodec) and hidden size are read from it.
        num_filters: Channels before the first stage; each stage doubles them.
        lstm_layers: Layers of the LSTM.
    """

    def __init__(self, config: Q2D2Config, num_filters: int = 32, lstm_layers: int = 2):
        super().__init__()
        dim = num_filters
        self.stem = nn.Conv1d(1, dim, 7, padding=3, padding_mode="replicate")
        self.stages = nn.ModuleList()
        for ratio in reversed(config.downsampling_ratios):
            stage = nn.Sequential(SeanetResidual(dim), nn.ELU(), nn.Conv1d(dim, 2 * dim, 2 * ratio, stride=ratio))
            self.stages.append(stage)
            dim = 2 * dim
        self.lstm = nn.LSTM(dim, dim, lstm_layers, batch_first=True)
        self.project = nn.Conv1d(dim, config.hidden_size, 7, padding=3, padding_mode="replicate")

    def forward(self, audio: Tensor, frame_mask: Tensor | None = None, exact: bool = True) -> Tensor:
        x = self.stem(audio)
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            residual, activation, downsample = stage
            assert isinstance(downsample, nn.Conv1d)
            ratio = downsample.stride[0]
            edges = (ratio // 2, ratio - ratio // 2)
            x = downsample(F.pad(activation(residual(x)), edges, mode="replicate"))  # (B, 2C, N / ratio)
        x = x + self.lstm(x.transpose(1, 2))[0].transpose(1, 2)
        return self.project(F.elu(x)).transpose(1, 2)  # (B, T, D)
