"""Discriminators for adversarial training: audio (B, 1, N) -> scores and the features of every layer.

Each discriminator returns a list of hidden features whose last entry is the score, of any shape. All of them are built
of 1-D convolutions with many channels, which are matrix products: the 2-D convolutions of the usual multi-resolution
discriminators run at a third of that speed on a CPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .losses import spectrogram


class BandDiscriminator(nn.Module):
    """Judges the complex spectrogram, cut into frequency bands with weights of their own.

    Source: after the multi-band multi-resolution discriminator of DAC, arXiv 2306.06546, section 3.3. Differs: a band
    is a vector of channels and not an image, so frequencies share no weights and a layer is one product per band.

    Args:
        n_fft: Frame length, in samples; the hop is a quarter.
        bands: Bands of equal width.
        dim: Channels per band.
        depth: Convolutions per band.
    """

    def __init__(self, n_fft: int, bands: int = 8, dim: int = 64, depth: int = 3):
        super().__init__()
        self.n_fft = n_fft
        self.bands = bands
        self.register_buffer("window", torch.hann_window(n_fft).clone())
        widths = [n_fft // bands] + [dim] * depth  # real and imaginary parts of n_fft // 2 // bands frequencies
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(bands * a, bands * b, 3, padding=1, groups=bands))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.mix = weight_norm(nn.Conv1d(bands * dim, bands * dim // 2, 1))
        self.score = weight_norm(nn.Conv1d(bands * dim // 2, bands, 3, padding=1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        hop = self.n_fft // 4
        audio = audio[..., : audio.shape[-1] // hop * hop]
        spectrum = spectrogram(audio, self.n_fft, hop, self.window)[..., 1:]  # (B, T, n_fft // 2)
        power = spectrum.real.square() + spectrum.imag.square()
        scale = (power + 1e-6) ** -0.35  # magnitude to the power 0.3, phase kept
        x = torch.stack([spectrum.real * scale, spectrum.imag * scale], dim=-1).flatten(2)  # (B, T, n_fft)
        x = x.transpose(1, 2)  # bands stay contiguous in the channels
        features = []
        for layer in [*self.layers, self.mix]:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return [*features, self.score(x)]


class PeriodDiscriminator(nn.Module):
    """Judges the waveform folded at a period: every `period`-th sample is one sequence.

    Source: HiFi-GAN, arXiv 2010.05646, section 2.3; its (k, 1) convolutions are 1-D convolutions of the folded signal.

    Args:
        period: In samples.
        channels: Of the successive layers.
    """

    def __init__(self, period: int, channels: tuple[int, ...] = (32, 128, 512, 1024)):
        super().__init__()
        self.period = period
        widths = (1, *channels)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(a, b, 5, stride=3, padding=2)) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.layers.append(weight_norm(nn.Conv1d(widths[-1], widths[-1], 5, padding=2)))
        self.score = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        x = F.pad(audio, (0, -audio.shape[-1] % self.period), mode="reflect")
        x = x.view(x.shape[0], -1, self.period).transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B * period, 1, N')
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return [*features, self.score(x)]


class Discriminators(nn.Module):
    """Several discriminators side by side.

    Args:
        band_n_ffts: Frame lengths of the [`BandDiscriminator`]s.
        band_dim: Their channels per band.
        periods: Periods of the [`PeriodDiscriminator`]s.
        period_channels: Their channels.
    """

    def __init__(
        self,
        band_n_ffts: tuple[int, ...],
        band_dim: int,
        periods: tuple[int, ...],
        period_channels: tuple[int, ...],
    ):
        super().__init__()
        parts = [BandDiscriminator(n_fft, dim=band_dim) for n_fft in band_n_ffts]
        parts += [PeriodDiscriminator(period, period_channels) for period in periods]
        self.parts = nn.ModuleList(parts)

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Features and score of every discriminator for audio (B, 1, N)."""
        return [part(audio) for part in self.parts]
