"""Loss terms of codec training; each takes audio (B, 1, N) or outputs of discriminators and returns a scalar."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.audio_utils import mel_filter_bank

from .layers import frame_signal, overlap_add


class _Spectrogram(torch.autograd.Function):
    """Windowed frames of audio (B, N), transformed; its gradient is one inverse transform of half the spectrum.

    The gradient that autograd derives for `rfft` is a complex transform of all of the spectrum, and that of `unfold`
    adds sample by sample; together they take a third of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx, audio: Tensor, hop_length: int, window: Tensor) -> Tensor:
        ctx.hop_length = hop_length
        ctx.save_for_backward(window)
        return torch.fft.rfft(frame_signal(audio, len(window), hop_length) * window)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        halves = torch.full((gradient.shape[-1],), 0.5, device=gradient.device)
        halves[0] = halves[-1] = 1.0
        frames = torch.fft.irfft(gradient * halves, len(window), norm="forward") * window
        return overlap_add(frames, ctx.hop_length), None, None


def spectrogram(audio: Tensor, hop_length: int, window: Tensor) -> Tensor:
    """Complex spectrogram (B, T, n_fft // 2 + 1) of audio (B, 1, N); `n_fft` is the length of the window.

    N must be a multiple of `hop_length`, and `n_fft` an even one.
    """
    with torch.autocast(audio.device.type, enabled=False):
        return _Spectrogram.apply(audio.squeeze(1).float(), hop_length, window)


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms, averaged over several resolutions.

    Source: DAC, arXiv 2306.06546, section 3.4. Differs: natural logarithm, floor as an argument.

    Args:
        sampling_rate: In Hz.
        n_ffts: Frame lengths, in samples; the hop is a quarter.
        n_mels: Mel bands of each.
        floor: Magnitudes below it count as this much.
    """

    def __init__(self, sampling_rate: int, n_ffts: tuple[int, ...], n_mels: tuple[int, ...], floor: float):
        super().__init__()
        self.n_ffts = n_ffts
        self.floor = floor
        for n_fft, mels in zip(n_ffts, n_mels, strict=True):
            filters = mel_filter_bank(n_fft // 2 + 1, mels, 0.0, sampling_rate / 2, sampling_rate, mel_scale="slaney")
            self.register_buffer(f"filters_{n_fft}", torch.tensor(filters, dtype=torch.float32))
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft).clone())

    def _log_mel(self, audio: Tensor, n_fft: int) -> Tensor:
        hop = n_fft // 4
        audio = F.pad(audio, (0, max(0, hop - audio.shape[-1])))
        audio = audio[..., : audio.shape[-1] // hop * hop]
        spectrum = spectrogram(audio, hop, getattr(self, f"window_{n_fft}"))
        # The derivative of the magnitude at zero is not finite; the floor hides the small constant.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        with torch.autocast(audio.device.type, enabled=False):
            return (magnitude @ getattr(self, f"filters_{n_fft}")).clamp_min(self.floor).log()

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Distance of audio (B, 1, N) to audio (B, 1, N)."""
        losses = [(self._log_mel(reconstruction, n) - self._log_mel(target, n)).abs().mean() for n in self.n_ffts]
        return torch.stack(losses).mean()


def bark(frequency_hz: Tensor) -> Tensor:
    """Critical-band rate of frequencies. Source: H. Traunmueller, "Analytical expressions", JASA 88, 1990."""
    return 26.81 * frequency_hz / (1960.0 + frequency_hz) - 0.53


class LoudnessLoss(nn.Module):
    """What a listener loses, in points of a quality scale: differences of specific loudness on the Bark scale.

    Differences below a quarter of the loudness are masked; energy that was added counts more than energy that is
    missing. Source: the perceptual model of ITU-T P.862 (PESQ). Differs: differentiable, no alignment in time and no
    equalization, uniform Bark bands, the threshold in quiet of Terhardt 1979, root mean square over time.

    Args:
        sampling_rate: In Hz.
        max_frequency: Upper edge of the bands, in Hz.
        num_bands: Bands of equal width in Bark.
    """

    def __init__(self, sampling_rate: int, max_frequency: float = 8_000.0, num_bands: int = 49):
        super().__init__()
        self.n_fft = 2 * round(0.016 * sampling_rate)
        self.register_buffer("window", torch.hann_window(self.n_fft).clone())
        edges = torch.arange(self.n_fft // 2 + 2) * (sampling_rate / self.n_fft) - sampling_rate / self.n_fft / 2
        low, high = bark(torch.tensor(20.0)), bark(torch.tensor(max_frequency))
        self.band_width = float(high - low) / num_bands
        position = ((bark(edges.clamp_min(0)) - low) / self.band_width).unsqueeze(-1)
        covered = (position - torch.arange(num_bands)).clamp(0, 1)  # share of each band below each edge
        share = covered.diff(dim=0) / position.diff(dim=0).clamp_min(1e-9)  # share of each bin in each band
        self.register_buffer("filters", share.clamp(0, 1))  # (n_fft // 2 + 1, bands)
        centres = low + (torch.arange(num_bands) + 0.5) * self.band_width
        khz = 1.96 * (centres + 0.53) / (26.28 - centres)
        quiet_db = 3.64 * khz**-0.8 - 6.5 * (-0.6 * (khz - 3.3).square()).exp() + 1e-3 * khz**4
        self.register_buffer("threshold", 10 ** (quiet_db / 10))  # (bands,)
        exponent = 0.23 * torch.where(centres < 4, (6 / (centres + 2)).clamp_max(2.0) ** 0.15, 1.0)
        self.register_buffer("exponent", exponent)

    def _power(self, audio: Tensor) -> Tensor:
        hop = self.n_fft // 2
        spectrum = spectrogram(audio[..., : audio.shape[-1] // hop * hop], hop, self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        return power @ self.filters * (2 / (self.n_fft * self.window.square().sum()))  # (B, T, bands)

    def _loudness(self, power: Tensor) -> Tensor:
        relative = (0.5 + 0.5 * power / self.threshold) ** self.exponent - 1
        return 0.187 * (self.threshold / 0.5) ** self.exponent * relative.clamp_min(0)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Points lost by audio (B, 1, N) against audio (B, 1, N), averaged over the batch."""
        with torch.autocast(target.device.type, enabled=False):
            level = target.float().square().mean((1, 2)).sqrt().clamp_min(0.01)
            calibration = ((10 ** (79 / 20)) / level).square().view(-1, 1, 1)  # speech at 79 dB SPL
            real, fake = self._power(target) * calibration, self._power(reconstruction) * calibration
            loudness_real, loudness_fake = self._loudness(real), self._loudness(fake)
            difference = (loudness_fake - loudness_real).abs()
            audible = F.relu(difference - 0.25 * torch.minimum(loudness_fake, loudness_real))  # (B, T, bands)
            added = ((fake + 50) / (real + 50)) ** 1.2
            added = torch.where(added < 3, 0.0, added.clamp_max(12.0))
            total_width = self.band_width * audible.shape[-1]
            symmetric = (audible.square().mean(-1) + 1e-6).sqrt() * total_width  # (B, T)
            asymmetric = (audible * added).sum(-1) * self.band_width
            weight = ((real.sum(-1) + 1e5) / 1e7) ** -0.04
            points = [(part * weight).square().mean(-1).add(1e-6).sqrt().mean() for part in (symmetric, asymmetric)]
        return 0.1 * points[0] + 0.0309 * points[1]


class EnvelopeLoss(nn.Module):
    """What intelligibility loses: one minus the correlation of short pieces of third-octave envelopes.

    A distance asks for the median envelope where the future is uncertain, and so for smooth ones; a correlation asks
    for the modulation. Source: STOI, C. Taal et al., "An Algorithm for Intelligibility Prediction", 2011. Differs:
    differentiable, no silence removal, no clipping, native sampling rate.

    Args:
        sampling_rate: In Hz.
        num_bands: Third octaves from 150 Hz on.
        window_seconds: Length of the pieces.
    """

    def __init__(self, sampling_rate: int, num_bands: int = 17, window_seconds: float = 0.384):
        super().__init__()
        self.n_fft = 2 * round(0.016 * sampling_rate)
        self.window_frames = round(window_seconds * sampling_rate / (self.n_fft // 2))
        self.register_buffer("window", torch.hann_window(self.n_fft).clone())
        frequencies = torch.arange(self.n_fft // 2 + 1).unsqueeze(-1) * (sampling_rate / self.n_fft)
        centres = 150.0 * 2 ** (torch.arange(num_bands) / 3)
        low, high = centres * 2 ** (-1 / 6), centres * 2 ** (1 / 6)
        self.register_buffer("filters", ((frequencies >= low) & (frequencies < high)).float())  # (bins, bands)

    def _pieces(self, audio: Tensor) -> Tensor:
        hop = self.n_fft // 2
        spectrum = spectrogram(audio[..., : audio.shape[-1] // hop * hop], hop, self.window)
        power = (spectrum.real.square() + spectrum.imag.square()) @ self.filters
        size = min(self.window_frames, power.shape[1])
        pieces = (power + 1e-4).sqrt().unfold(1, size, max(1, size // 8))  # (B, W, bands, size)
        return pieces - pieces.mean(-1, keepdim=True)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Mean of 1 - correlation of audio (B, 1, N) with audio (B, 1, N), in 0 .. 2."""
        with torch.autocast(target.device.type, enabled=False):
            fake, real = self._pieces(reconstruction), self._pieces(target)
            energy = (real.square().sum(-1) + 1e-3) * (fake.square().sum(-1) + 1e-3)
            return 1 - ((real * fake).sum(-1) / energy.sqrt()).mean()
