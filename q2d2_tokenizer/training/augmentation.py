"""Random changes of training segments."""

import math
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from ..feature_extraction_q2d2 import to_float32


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training segments, as another voice, room or microphone would make them.

    Args:
        gain_db: Largest gain, up or down; peaks stay below 1.
        speed: Largest change of speed, pitch and formants, as a share: 0.2 plays between 1 / 1.2 and 1.2 times as fast.
        tone_db: Largest gain of a smooth curve over frequency, up or down.
        formants: Largest shift of formants alone, as a share: 0.15 makes the mouth up to 1.15 times as long or short.
    """

    gain_db: float = 0.0
    speed: float = 0.0
    tone_db: float = 0.0
    formants: float = 0.0

    def segment(self, samples: np.ndarray, rng: np.random.Generator, num_samples: int) -> Tensor:
        """Random segment (1, num_samples) float32 of a recording (N,) int16; a shorter one gets silence at its end."""
        speed = math.exp(rng.uniform(-1, 1) * math.log1p(self.speed))
        taken = math.ceil(num_samples * speed)
        start = int(rng.integers(max(1, len(samples) - taken + 1)))
        piece = to_float32(samples[start : start + taken])
        if self.speed:
            piece = soxr.resample(piece, speed, 1.0)[:num_samples]
        segment = np.pad(piece, (0, num_samples - len(piece)))
        if self.formants:
            segment = _shift_formants(segment, math.exp(rng.uniform(-1, 1) * math.log1p(self.formants)))
        if self.tone_db:
            segment = _change_tone(segment, rng.uniform(-self.tone_db, self.tone_db, size=8))
        gain = 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
        gain = min(gain, 0.99 / max(float(np.abs(segment).max()), 1e-6))
        return torch.from_numpy(segment * np.float32(gain)).unsqueeze(0)


def _change_tone(segment: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    """A segment (N,) with gains at points that are evenly spread over the octaves up to half the sampling rate."""
    octave = np.log2(np.fft.rfftfreq(len(segment)).clip(2.0**-8) * 2)  # -7 .. 0
    curve_db = np.interp(octave, np.linspace(-7, 0, len(gains_db)), gains_db)
    return np.fft.irfft(np.fft.rfft(segment) * 10 ** (curve_db / 20), len(segment)).astype(np.float32)


def _shift_formants(segment: np.ndarray, factor: float) -> np.ndarray:
    """A segment (N,) whose spectral envelope is stretched along frequency, with its pitch and phases.

    The envelope is what the low cepstrum tells, frame by frame; gains stay within 15 dB.
    """
    n_fft, quefrencies = 1024, 40  # at 24 kHz a pitch of 600 Hz has quefrency 40
    window = torch.hann_window(n_fft)
    audio = torch.from_numpy(np.pad(segment, (0, max(0, n_fft - len(segment)))))
    spectrum = torch.stft(audio, n_fft, n_fft // 4, window=window, return_complex=True)  # (n_fft // 2 + 1, T)
    cepstrum = torch.fft.irfft(spectrum.abs().clamp_min(1e-3).log(), dim=0)
    cepstrum[quefrencies : 1 - quefrencies] = 0
    envelope = torch.fft.rfft(cepstrum, dim=0).real
    place = (torch.arange(len(envelope)) / factor).clamp_max(len(envelope) - 1)
    low, share = place.long(), place.frac().unsqueeze(1)
    stretched = envelope[low].lerp(envelope[(low + 1).clamp_max(len(envelope) - 1)], share)
    gain = (stretched - envelope).clamp(-math.log(10) * 0.75, math.log(10) * 0.75).exp()
    shifted = torch.istft(spectrum * gain, n_fft, n_fft // 4, window=window, length=len(audio))
    return shifted[: len(segment)].numpy()
