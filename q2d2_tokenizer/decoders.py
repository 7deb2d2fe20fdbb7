"""Decoders: quantized latents (B, T, hidden_size) -> audio (B, 1, T * hop_length).

The contract is that of `encoders`: `forward(quantized, frame_mask)`, and `frame_stages` that end in frames of audio.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_q2d2 import Q2D2Config
from .layers import (
    ConvNeXtBackbone,
    Float32Buffers,
    FramePart,
    Stage,
    frame_signal,
    multiply,
    overlap_add,
    total_context,
)
from .registry import Registry

DECODERS = Registry("decoder")


class IstftHead(Float32Buffers):
    """Hidden states (B, T, C) -> audio (B, T, hop_length): magnitude and phase of every frame, then inverse STFT.

    Source: Vocos, arXiv 2306.00814, section 3.3.
    """

    window: Tensor

    def __init__(self, dim: int, n_fft: int, hop_length: int):
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.overlap_frames = math.ceil((n_fft / hop_length - 1) / 2)  # on each side, that a frame overlaps
        self.project = nn.Linear(dim, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32).clone())

    def frame_stages(self) -> list[Stage]:
        """The head is one stage."""
        return [Stage(self, self.overlap_frames)]

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        real, imaginary, _ = self._spectrum(x)
        return self._overlap(self._windows(real, imaginary), frame_mask)

    def _spectrum(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Real part, imaginary part and magnitude (B, T, n_fft // 2 + 1) of every frame."""
        log_magnitude, phase = multiply(x, self.project.weight, self.project.bias).float().chunk(2, dim=-1)
        magnitude = log_magnitude.clamp_max(math.log(self.n_fft)).exp()  # a full-scale frame cannot be louder
        return magnitude * phase.cos(), magnitude * phase.sin(), magnitude

    def _windows(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Windowed samples (B, T, n_fft) of spectra."""
        return self.inverse_transform(real, imaginary) * self.window

    def inverse_transform(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Samples (..., n_fft) of the real and imaginary parts of the first frequencies, the others being zero."""
        return torch.fft.irfft(torch.complex(real, imaginary), self.n_fft)  # faster than torch.polar

    def transform(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts (..., n_fft // 2 + 1) of samples (..., n_fft)."""
        spectra = torch.fft.rfft(windows)
        return spectra.real, spectra.imag

    def _overlap(self, windows: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Audio (B, T, hop_length) of windowed samples (B, T, n_fft)."""
        mask = torch.ones_like(windows[..., :1]) if frame_mask is None else frame_mask.unsqueeze(-1).float()
        envelope = overlap_add(self.window.square() * mask, self.hop_length)
        audio = overlap_add(windows * mask, self.hop_length) / envelope.clamp_min(1e-8)
        return audio.unflatten(-1, (-1, self.hop_length))


class ExcitedIstftHead(IstftHead):
    """An inverse-STFT head whose spectra are excited by the harmonics of its own lower band.

    A network at the frame rate places the phases of low harmonics well, and those of high ones not at all: they turn
    many times a frame. So the lower band is synthesized first and rectified, which gives harmonics at all multiples of
    its pitch, with phases that run on. Their spectrum, made flat, is mixed into every frame as the network asks.

    Source: after neural source-filter vocoders, arXiv 1904.12088. Differs: the source is the decoder's own lower band,
    so no pitch is predicted, and a frame still depends on a few others only.

    Args:
        dim: Channels of the hidden states.
        n_fft: Length of a synthesis frame, in samples.
        hop_length: Samples per frame.
        cutoff: Upper end of the lower band, as a share of the sampling rate.
    """

    SMOOTHING = 5  # its square is the number of bins over which the source is made flat; odd
    SILENCE = 3e-5  # power of a source that counts as none; far above what float32 rounds off

    low_pass: Tensor

    def __init__(self, dim: int, n_fft: int, hop_length: int, cutoff: float):
        super().__init__(dim, n_fft, hop_length)
        self.mix = nn.Linear(dim, n_fft + 2)  # what is added of the frame's own phases and of the source
        bins = torch.arange(n_fft // 2 + 1, dtype=torch.float32) / n_fft
        self.register_buffer("low_pass", ((1.25 - bins / cutoff) * 2).clamp(0, 1))
        self.num_low = min(len(bins), math.ceil(1.25 * cutoff * n_fft))  # bins that pass

    def frame_stages(self) -> list[Stage]:
        """Spectra of the frames, the excited spectra, the audio."""
        excite = Stage(self._excite, 2 * self.overlap_frames)  # synthesizes the lower band and analyses it again
        return [Stage(self._spectra, 0), excite, Stage(self._overlap, self.overlap_frames)]

    def _spectra(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Windows of the lower band; real and imaginary part of the frame's own share; magnitude of the source."""
        real, imaginary, magnitude = self._spectrum(x)
        passing = self.low_pass[: self.num_low]
        low = self._windows(real[..., : self.num_low] * passing, imaginary[..., : self.num_low] * passing)
        own, source = multiply(x, self.mix.weight, self.mix.bias).float().chunk(2, dim=-1)
        own = own + 1
        return torch.cat([low, own * real, own * imaginary, source * magnitude], dim=-1)

    def _excite(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Windows (B, T, n_fft) of the excited spectra."""
        low = self._overlap(x[..., : self.n_fft].detach(), frame_mask).relu()
        low = low if frame_mask is None else low * frame_mask.unsqueeze(-1).float()
        real, imaginary, source = x[..., self.n_fft :].chunk(3, dim=-1)
        windows = frame_signal(low.flatten(1), self.n_fft, self.hop_length) * self.window
        excitation = self.transform(windows)  # 2 x (B, T, n_fft // 2 + 1)
        power = excitation[0].square() + excitation[1].square()
        scale = source * (self._smooth(power) + self.SILENCE).rsqrt()
        real = torch.addcmul(real, scale, excitation[0])
        return self._windows(real, torch.addcmul(imaginary, scale, excitation[1]))

    def _smooth(self, power: Tensor) -> Tensor:
        """Means (B, T, F) of the bins around each: means of means, which take a third of the time of `avg_pool1d`."""
        size, num_bins = self.SMOOTHING, power.shape[-1]
        margin = size**2 // 2
        inside = F.pad(torch.ones(num_bins, device=power.device), (margin, margin))
        total, count = (
            _sum_shifted(_sum_shifted(values, size, 1, num_bins + 2 * margin - size + 1), size, size, num_bins)
            for values in (F.pad(power, (margin, margin)), inside)
        )
        return total / count


def _sum_shifted(values: Tensor, count: int, step: int, width: int) -> Tensor:
    """Sum (..., width) of `count` parts of values (..., N), each `step` further on."""
    total = values[..., :width].clone()
    for start in range(step, count * step, step):
        total += values[..., start : start + width]
    return total


class ResnetBlock(nn.Module):
    """Two normalized convolutions over time, added to the input (B, T, C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv1d(dim, dim, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.silu(norm(y)).transpose(1, 2)).transpose(1, 2)
        return x + y


class AttentionBlock(nn.Module):
    """Single-head self-attention over all frames, added to the input (B, T, C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        mask = None if frame_mask is None else frame_mask.bool().unsqueeze(1)  # (B, 1, T)
        return x + self.project(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


class AttentionPrenet(nn.Module):
    """ResNet and attention blocks in front of the ConvNeXt backbone, as in the paper's decoder (B, T, C).

    Source: WavTokenizer, arXiv 2408.16532, section 3.3. Differs: layer instead of group normalization.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.before = nn.Sequential(ResnetBlock(dim), ResnetBlock(dim))
        self.attention = AttentionBlock(dim)
        self.after = nn.Sequential(ResnetBlock(dim), ResnetBlock(dim))

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return self.after(self.attention(self.before(x), frame_mask))


@DECODERS.register("vocos")
class VocosDecoder(FramePart):
    """ConvNeXt blocks at the frame rate and an inverse-STFT head.

    Source: Vocos, arXiv 2306.00814.

    Args:
        config: Sampling rate, hidden size and hop length are read from it.
        dim: Channels of the blocks.
        depth: ConvNeXt blocks.
        expansion: Width of the network in each block, as a multiple of `dim`.
        kernel_size: Size of the convolutions, in frames; odd.
        overlap: Length of a synthesis frame, in hops.
        attention: Put the paper's ResNet and attention blocks first; every frame then depends on the whole recording.
        excitation_hz: Excite the head by the harmonics of its band below that frequency, see [`ExcitedIstftHead`]; 0
            for none.
    """

    def __init__(
        self,
        config: Q2D2Config,
        dim: int = 320,
        depth: int = 8,
        expansion: int = 3,
        kernel_size: int = 7,
        overlap: int = 4,
        attention: bool = False,
        excitation_hz: float = 0.0,
    ):
        super().__init__()
        self.prenet = AttentionPrenet(config.hidden_size) if attention else None
        self.backbone = ConvNeXtBackbone(config.hidden_size, dim, depth, dim * expansion, kernel_size)
        n_fft, hop = overlap * config.hop_length, config.hop_length
        self.head = (
            ExcitedIstftHead(dim, n_fft, hop, excitation_hz / config.sampling_rate)
            if excitation_hz
            else IstftHead(dim, n_fft, hop)
        )
        if not attention:
            self.context_frames = total_context(self.frame_stages())

    def frame_stages(self) -> list[Stage]:
        """The stages of the backbone and of the head; with attention before them."""
        return [*self.backbone.frame_stages(), *self.head.frame_stages()]

    def forward(self, quantized: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        x = quantized.to(self.head.project.weight.dtype)
        if self.prenet is not None:
            x = self.prenet(x, frame_mask)
        return super().forward(x, frame_mask).flatten(1).unsqueeze(1)  # (B, 1, N)
