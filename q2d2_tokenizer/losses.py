"""Loss terms of codec training; each takes audio (B, 1, N) or outputs of discriminators and returns a scalar."""

import math

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
            filters = mel_filter_bank(n_fft // 2 + 1, mels, 0.0, highest, sampling_rate, mel_scale="slaney")
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


# Of wide-band PESQ at 16 kHz: bins of 31.25 Hz in each band, the band's width in Bark, its correction of power density,
# and its threshold in quiet. Source: the reference code of ITU-T P.862.2.
_BAND_BINS = [1] * 8 + [2] + [1] * 5 + [2, 1, 1] + [2] * 8 + [3] * 4 + [4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9]
_BAND_BINS += [12, 12, 15, 16, 18, 21, 25, 20]
_BAND_BARK = [0.157344, 0.317994, 0.322441, 0.326934, 0.331474, 0.336061, 0.340697, 0.345381, 0.350114, 0.354897]
_BAND_BARK += [0.359729, 0.364611, 0.369544, 0.374529, 0.379565, 0.384653, 0.389794, 0.394989, 0.400236, 0.405538]
_BAND_BARK += [0.410894, 0.416306, 0.421773, 0.427297, 0.432877, 0.438514, 0.444209, 0.449962, 0.455774, 0.461645]
_BAND_BARK += [0.467577, 0.473569, 0.479621, 0.485736, 0.491912, 0.498151, 0.504454, 0.510819, 0.517250, 0.523745]
_BAND_BARK += [0.530308, 0.536934, 0.543629, 0.550390, 0.557220, 0.564119, 0.571085, 0.578125, 0.585232]
_BAND_DENSITY = [100.0] * 8 + [50.0] + [100.0] * 5 + [53.047, 110.0, 117.992, 65.0, 68.760, 70.0, 71.429, 75.0, 76.843]
_BAND_DENSITY += [80.969, 88.646, 63.864, 68.155, 72.548, 75.585, 58.379, 80.951, 64.136, 54.385, 73.822, 64.437]
_BAND_DENSITY += [59.176, 65.521, 61.400, 58.144, 57.005, 64.126, 54.311, 61.115, 55.078, 56.849, 55.629, 53.137]
_BAND_DENSITY += [54.986, 79.547]
_BAND_QUIET = [51286152.0, 2454709.5, 70794.594, 4897.789, 1174.898, 389.045, 104.713, 45.709, 17.783, 9.772, 4.898]
_BAND_QUIET += [3.090, 1.905, 1.259, 0.977, 0.724, 0.562, 0.457, 0.389, 0.331, 0.295, 0.269, 0.257, 0.251, 0.251]
_BAND_QUIET += [0.251, 0.251, 0.263, 0.288, 0.309, 0.339, 0.372, 0.398, 0.437, 0.468, 0.490, 0.501, 0.501, 0.513]
_BAND_QUIET += [0.525, 0.525, 0.525, 0.513, 0.479, 0.427, 0.372, 0.363, 0.417, 0.537]


class LoudnessLoss(nn.Module):
    """What a listener loses, in points of a quality scale: differences of specific loudness on the Bark scale.

    Differences below a quarter of the loudness are masked; energy that was added counts more than energy that is
    missing; the level of single frames and a constant colouring are forgiven. Source: the perceptual model of ITU-T
    P.862.2 (wide-band PESQ). Differs: differentiable; no alignment in time, no second look at bad moments, the same
    weight for all times; levels are those of the segment, behind the input filter; what a disturbance has beyond the
    limit counts a fifth instead of nothing; a colouring is forgiven up to 1.5 dB instead of 20, since a codec that is
    trained with 20 takes the fundamental out of low voices.

    Args:
        sampling_rate: In Hz, at least 16,000; what is above 8 kHz is not heard.

    Raises:
        ValueError: If the rate is lower.
    """

    DISTURBANCE_LIMIT = 45.0
    BEYOND_LIMIT = 0.2
    FORGIVEN_COLOUR = 10**0.15
    FILTER_POWER = 7.94  # of the input filter, far above 100 Hz
    SPEECH_POWER = 1e7  # stands for 79 dB SPL
    LEAST_POWER = 1e-3  # pauses of a recording are not raised to the level of speech

    def __init__(self, sampling_rate: int):
        super().__init__()
        if sampling_rate < 16_000:
            raise ValueError(
                "the loudness loss hears up to 8 kHz and needs a sampling rate of at least 16000 Hz, got "
                f"{sampling_rate}; train without it: loudness_weight 0"
            )
        self.sampling_rate = sampling_rate
        self.n_fft = 2 * round(0.016 * sampling_rate)
        self.register_buffer("window", torch.hann_window(self.n_fft).clone())
        frequencies = torch.arange(self.n_fft // 2 + 1) * (sampling_rate / self.n_fft)
        band = torch.repeat_interleave(torch.arange(len(_BAND_BINS)), torch.tensor(_BAND_BINS))
        filters = F.pad(F.one_hot(band).float(), (0, 0, 0, self.n_fft // 2 + 1 - len(band)))
        filters[0] = 0.0
        density = 6.910853e-6 * (512 / self.n_fft) ** 2 * torch.tensor(_BAND_DENSITY)
        self.register_buffer("filters", filters * density)
        self.register_buffer("level_bins", ((frequencies >= 325) & (frequencies <= 3250)).float())
        self.register_buffer("threshold", torch.tensor(_BAND_QUIET))  # (bands,)
        self.register_buffer("width", torch.tensor(_BAND_BARK))
        centre = self.width.cumsum(0) - self.width / 2
        self.register_buffer("exponent", 0.23 * (6 / (centre + 2)).clamp(1, 2) ** 0.15)

    def _power(self, audio: Tensor) -> Tensor:
        """Power (B, T, bands) of audio (B, 1, N), behind the input filter and with its speech at 79 dB SPL."""
        audio, hop = audio.squeeze(1).float(), self.n_fft // 2
        audio = F.pad(audio, (0, max(0, hop - audio.shape[-1])))
        size = audio.shape[-1] // hop * hop
        padded = audio.shape[-1] + self.n_fft  # the tail of the filter must not come round
        frequencies = torch.arange(padded // 2 + 1, device=audio.device) * (self.sampling_rate / padded)
        delay = torch.polar(torch.ones_like(frequencies), -2 * math.pi * frequencies.clamp_max(8_000.0) / 16_000.0)
        response = 2.740826 * (1 - delay).square() / (1 - 1.9444777 * delay + 0.94597794 * delay.square())
        audio = torch.fft.irfft(torch.fft.rfft(audio, padded) * response, padded)[:, :size].unsqueeze(1)
        spectrum = spectrogram(audio, hop, self.window)
        power = spectrum.real.square() + spectrum.imag.square()  # (B, T, n_fft // 2 + 1)
        level = (power @ self.level_bins).mean(1) * (2 / (self.n_fft * self.window.square().sum()))
        level = (level / self.FILTER_POWER).clamp_min(self.LEAST_POWER)
        return power @ self.filters * (self.SPEECH_POWER / level).view(-1, 1, 1)

    def _audible(self, power: Tensor, factor: float = 1.0) -> Tensor:
        return torch.where(power > factor * self.threshold, power, 0.0)

    def _loudness(self, power: Tensor) -> Tensor:
        relative = (0.5 + 0.5 * power / self.threshold) ** self.exponent - 1
        return 0.1866055 * (2 * self.threshold) ** self.exponent * relative.clamp_min(0)

    def _over_time(self, disturbance: Tensor) -> Tensor:
        """Mean (B,) over time of disturbances (B, T); bad moments of .3 s count more than their share."""
        limited = disturbance - (1 - self.BEYOND_LIMIT) * F.relu(disturbance - self.DISTURBANCE_LIMIT)
        size, step = 20, 10
        missing = max(0, size - limited.shape[1]) or -(limited.shape[1] - size) % step
        moments = F.pad(limited.clamp_min(1e-3), (0, missing), value=1e-3).unfold(1, size, step)
        return moments.pow(6).mean(-1).pow(1 / 6).square().mean(-1).sqrt()

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Points lost by audio (B, 1, N) against audio (B, 1, N), averaged over the batch."""
        with torch.autocast(target.device.type, enabled=False):
            real, fake = self._power(target), self._power(reconstruction)
            heard_now = self._audible(real, 100.0).sum(-1, keepdim=True) >= 1e7
            colour = [(self._audible(x, 100.0) * heard_now).mean(1, keepdim=True) + 1e3 for x in (real, fake)]
            real = real * (colour[1] / colour[0]).clamp(1 / self.FORGIVEN_COLOUR, self.FORGIVEN_COLOUR)
            total = [self._audible(x).sum(-1, keepdim=True) for x in (real, fake)]  # 2 x (B, T, 1)
            gain = (total[0] + 5e3) / (total[1] + 5e3)
            smooth = gain
            for _ in range(4):  # of a recursion over frames, as far as that can be heard
                smooth = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * smooth[:, :-1]], dim=1)
            fake = fake * smooth.clamp(3e-4, 5.0)

            loudness_real, loudness_fake = self._loudness(real), self._loudness(fake)
            difference = (loudness_fake - loudness_real).abs()
            audible = F.relu(difference - 0.25 * torch.minimum(loudness_fake, loudness_real)) * self.width
            added = ((fake + 50) / (real + 50)) ** 1.2
            added = torch.where(added < 3, 0.0, added.clamp_max(12.0))
            total_width = self.width[1:].sum()  # the first band is empty
            symmetric = (audible.square().sum(-1) * total_width + 1e-6).sqrt()  # (B, T)
            asymmetric = (audible * added).sum(-1)
            weight = ((total[0].squeeze(-1) + 1e5) / 1e7) ** -0.04
            return (0.1 * self._over_time(symmetric * weight) + 0.0309 * self._over_time(asymmetric * weight)).mean()


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
