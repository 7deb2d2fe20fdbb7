"""Loss of loudness: what a listener loses, by the perceptual model of PESQ."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .losses import spectrogram

# Bands of wide-band PESQ at 16 kHz: bins of 31.25 Hz in each, its width in Bark, its correction of power density,
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

    window: Tensor
    filters: Tensor
    level_bins: Tensor
    threshold: Tensor
    width: Tensor
    exponent: Tensor

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
