"""Decoders: quantized latents (B, T, hidden_size) -> audio (B, 1, T * hop_length).

The contract is that of `encoders`: `forward(quantized, frame_mask)`, and `frame_stages` that end in frames of audio.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_q2d2 import Q2D2Config
from .layers import (
    Context,
    ConvNeXtBackbone,
    Float32Buffers,
    FramePart,
    Stage,
    check_look_ahead,
    frame_signal,
    multiply,
    overlap_add,
    total_context,
)
from .registry import Registry

DECODERS = Registry("decoder")


class Windows(NamedTuple):
    """Where the windows of a head lie.

    Args:
        samples_before: Samples of a synthesis frame before its hop.
        source_after: Samples of the source of an excited frame behind its hop.
        look_ahead: Frames that a head with these windows looks ahead.
    """

    samples_before: int
    source_after: int
    look_ahead: int


def place_windows(n_fft: int, hop_length: int, is_excited: bool, look_ahead: int | None = None) -> Windows:
    """Windows that are centred on their hops, or begin whole hops before them, as early as the look-ahead allows.

    The source of an excited frame lies where the frame does. If even frames that begin with their hops need more than
    there is, the source lies earlier, so the pulses come later than the lower band they are made of.
    """
    margin = n_fft - hop_length
    begin = margin // 2 if look_ahead is None else margin // 2 // hop_length * hop_length
    for before in range(begin, -1, -hop_length):
        overlap, source = math.ceil(before / hop_length), math.ceil((margin - before) / hop_length)
        need = 2 * overlap + source if is_excited else overlap
        if look_ahead is None or need <= look_ahead:
            return Windows(before, margin - before, need)
    assert look_ahead is not None, "centred windows were returned"
    return Windows(0, look_ahead * hop_length, look_ahead)


class IstftHead(Float32Buffers):
    """Hidden states (B, T, C) -> audio (B, T, hop_length): magnitude and phase of every frame, then inverse STFT.

    Source: Vocos, arXiv 2306.00814, section 3.3.

    Args:
        dim: Channels of the hidden states.
        n_fft: Length of a synthesis frame, in samples.
        hop_length: Samples per frame.
        windows: Where they lie.
    """

    window: Tensor

    def __init__(self, dim: int, n_fft: int, hop_length: int, windows: Windows):
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.windows = windows
        before = windows.samples_before
        # Frames that begin with their hops fade in alone at the start of a recording: that is not made up for in full.
        self.least_envelope = 1e-8 if before or n_fft == hop_length else 0.1
        self.overlap_context = Context(math.ceil((n_fft - before) / hop_length) - 1, math.ceil(before / hop_length))
        self.project = nn.Linear(dim, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32).clone())

    def frame_stages(self) -> list[Stage]:
        """The head is one stage."""
        return [Stage(self, self.overlap_context)]

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        real, imaginary = self._spectrum(x)
        return self._overlap(self._windows(real, imaginary), frame_mask)

    def _spectrum(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part (B, T, n_fft // 2 + 1) of every frame."""
        log_magnitude, phase = multiply(x, self.project.weight, self.project.bias).float().chunk(2, dim=-1)
        magnitude = log_magnitude.clamp_max(math.log(self.n_fft)).exp()  # a full-scale frame cannot be louder
        return magnitude * phase.cos(), magnitude * phase.sin()

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
        before = self.windows.samples_before
        envelope = overlap_add(self.window.square() * mask, self.hop_length, before)
        audio = overlap_add(windows * mask, self.hop_length, before) / envelope.clamp_min(self.least_envelope)
        return audio.unflatten(-1, (-1, self.hop_length))


class ExcitedIstftHead(IstftHead):
    """An inverse-STFT head that adds pulses, made of its own lower band.

    A network at the frame rate places the phases of low harmonics well, and those of high ones not at all: they turn
    many times a frame. So the lower band is synthesized first, rectified and squared: a train of pulses at its pitch,
    whose phases run on. Their spectrum, made flat, is added to every frame, with gains that are positive and smooth
    over frequency, so that pulses stay pulses.

    Source: after neural source-filter vocoders, arXiv 1904.12088. Differs: the source is the decoder's own lower band,
    so no pitch is predicted, and a frame still depends on a few others only.

    Args:
        dim: Channels of the hidden states.
        n_fft: Length of a synthesis frame, in samples.
        hop_length: Samples per frame.
        windows: Where they lie.
        cutoff: Upper end of the lower band, as a share of the sampling rate.
    """

    NUM_BANDS = 41  # at most, of the gains: overlapping triangles, 300 Hz apart at 24 kHz
    SILENCE = 1e-9  # mean square of a lower band that counts as none; far above what float32 rounds off
    FLOOR = 1e-2  # power of a band of the pulses that counts as none

    low_pass: Tensor
    bands: Tensor

    def __init__(self, dim: int, n_fft: int, hop_length: int, windows: Windows, cutoff: float):
        super().__init__(dim, n_fft, hop_length, windows)
        num_bins = n_fft // 2 + 1
        self.num_bands = min(self.NUM_BANDS, num_bins)
        self.gain = nn.Linear(dim, self.num_bands)
        nn.init.zeros_(self.gain.weight)
        nn.init.constant_(self.gain.bias, -4.0)  # in the beginning the source is hardly heard
        bins = torch.arange(num_bins, dtype=torch.float32)
        self.register_buffer("low_pass", ((1.25 - bins / n_fft / cutoff) * 2).clamp(0, 1))
        self.num_low = min(num_bins, math.ceil(1.25 * cutoff * n_fft))  # bins that pass
        centres = torch.arange(self.num_bands).unsqueeze(-1)
        positions = bins / (num_bins - 1) * (self.num_bands - 1)
        self.register_buffer("bands", (1 - (positions - centres).abs()).clamp_min(0))  # (num_bands, n_fft // 2 + 1)

    def frame_stages(self) -> list[Stage]:
        """Spectra of the frames, the excited spectra, the audio."""
        hop, after = self.hop_length, self.windows.source_after
        source_before = math.ceil((self.n_fft - hop - after) / hop)
        before_overlap, after_overlap = self.overlap_context
        # The lower band is synthesized and analysed again.
        excite = Stage(self._excite, Context(before_overlap + source_before, after_overlap + math.ceil(after / hop)))
        return [Stage(self._spectra, Context(0, 0)), excite, Stage(self._overlap, self.overlap_context)]

    def _spectra(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Windows of the lower band; real and imaginary part of the frame's own share; gains of the source."""
        real, imaginary = self._spectrum(x)
        passing = self.low_pass[: self.num_low]
        low = self._windows(real[..., : self.num_low] * passing, imaginary[..., : self.num_low] * passing)
        return torch.cat([low, real, imaginary, self.gains(x)], dim=-1)

    def _excite(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Windows (B, T, n_fft) of the excited spectra."""
        num_bins = self.n_fft // 2 + 1
        low, real, imaginary, gain = x.split([self.n_fft, num_bins, num_bins, self.num_bands], dim=-1)
        low = self._overlap(low.detach(), frame_mask)
        low = low if frame_mask is None else low * frame_mask.unsqueeze(-1).float()
        low = frame_signal(low.flatten(1), self.n_fft, self.hop_length, self.windows.source_after)
        pulses = self.pulses(low)
        source = self.transform(pulses * self.window)  # 2 x (B, T, n_fft // 2 + 1)
        scale = self.source_scale(source[0].square() + source[1].square(), gain)
        real = torch.addcmul(real, scale, source[0])
        return self._windows(real, torch.addcmul(imaginary, scale, source[1]))

    def gains(self, x: Tensor) -> Tensor:
        """Gains (B, T, num_bands) of the source."""
        return self.gain(x).float().clamp_max(math.log(self.n_fft)).exp()

    def pulses(self, low: Tensor) -> Tensor:
        """Windows (B, T, n_fft) of the lower band, brought to one level, rectified and squared."""
        return (low * (low.square().mean(-1, keepdim=True) + self.SILENCE).rsqrt()).relu().square()

    def source_scale(self, power: Tensor, gain: Tensor) -> Tensor:
        """Factors (B, T, n_fft // 2 + 1) of a source of that power, so that its bands have gains (B, T, num_bands)."""
        means = power @ (self.bands / self.bands.sum(-1, keepdim=True)).T
        return (gain * (means + self.FLOOR).rsqrt()) @ self.bands


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
        excitation_hz: Excite the head by pulses made of its band below that frequency, see [`ExcitedIstftHead`]; 0
            for none.
        look_ahead: Frames behind its own that a frame of audio depends on, see [`place_windows`]; the first
            convolutions share what the head leaves. If left out, all are symmetric.
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
        look_ahead: int | None = None,
    ):
        super().__init__()
        if attention and look_ahead is not None:
            raise ValueError(f"attention sees the whole recording, so look_ahead must be None, got {look_ahead}")
        self.prenet = AttentionPrenet(config.hidden_size) if attention else None
        n_fft, hop = overlap * config.hop_length, config.hop_length
        of_head = place_windows(n_fft, hop, bool(excitation_hz), 2 * overlap).look_ahead  # at most
        most = of_head + (depth + 1) * (kernel_size // 2)
        check_look_ahead(look_ahead, most)
        windows = place_windows(n_fft, hop, bool(excitation_hz), look_ahead)
        rest = None if look_ahead is None else look_ahead - windows.look_ahead
        self.backbone = ConvNeXtBackbone(config.hidden_size, dim, depth, dim * expansion, kernel_size, rest)
        self.head = (
            ExcitedIstftHead(dim, n_fft, hop, windows, excitation_hz / config.sampling_rate)
            if excitation_hz
            else IstftHead(dim, n_fft, hop, windows)
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
