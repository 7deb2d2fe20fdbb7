"""Loss terms of codec training; each takes audio (B, 1, N) or outputs of discriminators and returns a scalar."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..layers import frame_signal, mel_filters, overlap_add


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
        highest: Upper end of the mel bands, in Hz; half the sampling rate if left out.
    """

    def __init__(
        self,
        sampling_rate: int,
        n_ffts: tuple[int, ...],
        n_mels: tuple[int, ...],
        floor: float,
        highest: float | None = None,
    ):
        super().__init__()
        self.n_ffts = n_ffts
        self.floor = floor
        highest = highest or sampling_rate / 2
        for n_fft, mels in zip(n_ffts, n_mels, strict=True):
            filters = mel_filters(n_fft // 2 + 1, mels, highest, sampling_rate)
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

    window: Tensor
    filters: Tensor

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
        spectrum = spectrogram(F.pad(audio, (0, -audio.shape[-1] % hop)), hop, self.window)
        envelopes = ((spectrum.real.square() + spectrum.imag.square()) @ self.filters + 1e-4).sqrt()  # (B, T, bands)
        size = min(self.window_frames, envelopes.shape[1])
        pieces = envelopes.unfold(1, size, max(1, size // 8))  # (B, W, bands, size)
        pieces = torch.cat([pieces, envelopes[:, -size:].unfold(1, size, 1)], dim=1)  # the end, wherever it falls
        return pieces - pieces.mean(-1, keepdim=True)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Mean of 1 - correlation of audio (B, 1, N) with audio (B, 1, N), in 0 .. 2."""
        with torch.autocast(target.device.type, enabled=False):
            fake, real = self._pieces(reconstruction), self._pieces(target)
            energy = (real.square().sum(-1) + 1e-3) * (fake.square().sum(-1) + 1e-3)
            return 1 - ((real * fake).sum(-1) / energy.sqrt()).mean()


class LevelLoss(nn.Module):
    """Difference in level between segments, in dB, and how far peaks exceed full scale, in dB.

    The other losses forgive a change of level, or look at it band by band and then find the median, which is too low.
    """

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Mean of |level difference| + overshoot of audio (B, 1, N) against audio (B, 1, N)."""
        power = [audio.float().square().mean((1, 2)) + 1e-6 for audio in (reconstruction, target)]
        peak = reconstruction.float().abs().amax((1, 2)).clamp_min(1.0)
        return (10 * (power[0] / power[1]).log10().abs() + 20 * peak.log10()).mean()


class PulseLoss(nn.Module):
    """Glottal pulses: how far the envelopes of bands move at the rates of a pitch, whenever they do so.

    A distance between spectrograms asks for a smooth envelope wherever pulses are not placed to the millisecond. This
    one compares sizes of modulation, which do not depend on the place, above all where the target has much: its pitch.

    Args:
        sampling_rate: In Hz.
        bands_hz: Lowest and highest frequency of each band.
        rates_hz: Lowest and highest rate of modulation.
    """

    window: Tensor
    filters: Tensor
    piece_window: Tensor

    def __init__(
        self,
        sampling_rate: int,
        bands_hz: tuple[tuple[float, float], ...] = ((1000, 2000), (2000, 4000), (4000, 8000)),
        rates_hz: tuple[float, float] = (70, 400),
    ):
        super().__init__()
        self.hop = round(sampling_rate / 750)
        n_fft = 4 * self.hop  # 5.3 ms
        self.register_buffer("window", torch.hann_window(n_fft).clone())
        frequencies = torch.arange(n_fft // 2 + 1).unsqueeze(-1) * (sampling_rate / n_fft)
        low, high = torch.tensor(bands_hz).T
        self.register_buffer("filters", ((frequencies >= low) & (frequencies < high)).float())  # (bins, bands)
        frame_rate = sampling_rate / self.hop
        size = round(0.064 * frame_rate)
        self.register_buffer("piece_window", torch.hann_window(size) / torch.hann_window(size).sum())
        rates = torch.fft.rfftfreq(size, 1 / frame_rate)
        self.rates = slice(int((rates < rates_hz[0]).sum()), int((rates <= rates_hz[1]).sum()))

    def _modulation(self, audio: Tensor) -> Tensor:
        """Sizes of modulation (B, bands, W, rates) relative to the means of the pieces W of the envelopes."""
        size = len(self.piece_window)
        audio = F.pad(audio, (0, max(-audio.shape[-1] % self.hop, size * self.hop - audio.shape[-1])))
        spectrum = spectrogram(audio, self.hop, self.window)
        power = (spectrum.real.square() + spectrum.imag.square()) @ self.filters
        pieces = (power + 1e-4).sqrt().transpose(1, 2).unfold(-1, size, size // 4)  # (B, bands, W, size)
        means = (pieces * self.piece_window).sum(-1, keepdim=True)
        spectrum = torch.fft.rfft((pieces / means - 1) * self.piece_window)[..., self.rates]
        return (spectrum.real.square() + spectrum.imag.square() + 1e-6).sqrt()

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Difference of audio (B, 1, N) from a target (B, 1, N), as a share of it and weighted by its square."""
        with torch.autocast(target.device.type, enabled=False):
            fake, real = self._modulation(reconstruction), self._modulation(target)
            return (real.square() * (fake - real).abs()).sum() / real.pow(3).sum()
