"""What tells whether audio is speech at its own speed: pitch, syllables, formants, and where its energy lies."""

import math
from dataclasses import dataclass

import numpy as np

_TYPICAL = {"pitch_hz": 150.0, "syllable_hz": 3.0, "energy_hz": 330.0}
_SPEEDS = (0.75, 1.3)  # outside of it the three together are not those of adults reading
_HIGHEST_THIRD_FORMANT = 3150.0


@dataclass(frozen=True)
class SpeechStatistics:
    """Medians over recordings, in Hz; NaN where nothing could be measured."""

    pitch_hz: float
    """Fundamental frequency of voiced frames."""
    syllable_hz: float
    """Centre of the modulation of loudness between 1 and 20 Hz."""
    energy_hz: float
    """Half of the energy lies below."""
    third_formant_hz: float
    """Third resonance of the vocal tract, which hardly differs between adults."""
    bandwidth_hz: float
    """Above it there is nothing within 60 dB of the strongest frequency."""

    @property
    def speed(self) -> float:
        """How many times too fast speech seems, from pitch, syllables and energy; about 1 if all is well."""
        ratios = [getattr(self, name) / typical for name, typical in _TYPICAL.items()]
        return math.exp(sum(map(math.log, ratios)) / len(ratios))

    @property
    def wrong_speed(self) -> bool:
        """Whether the audio can hardly be adult speech at its own speed."""
        outside = not math.isnan(self.speed) and not _SPEEDS[0] <= self.speed <= _SPEEDS[1]
        return outside or self.third_formant_hz > _HIGHEST_THIRD_FORMANT


def measure_speech(recordings: list[np.ndarray], sampling_rate: int) -> SpeechStatistics:
    """Statistics of recordings (N,) float32 of at least half a second; shorter ones are left out."""
    rows = []
    for audio in recordings:
        audio = audio[: 6 * sampling_rate].astype(np.float64)
        if len(audio) >= sampling_rate // 2 and np.abs(audio).max() > 1e-4:
            energy, bandwidth = _spectrum(audio, sampling_rate)
            voice = _pitch(audio, sampling_rate), _syllables(audio, sampling_rate)
            rows.append((*voice, energy, _third_formant(audio, sampling_rate), bandwidth))
    columns = np.array(rows, dtype=float).reshape(-1, 5).T
    known = [column[~np.isnan(column)] for column in columns]
    return SpeechStatistics(*(float(np.median(column)) if column.size else math.nan for column in known))


def _frames(audio: np.ndarray, length: int, hop: int, loud: float) -> np.ndarray:
    """Frames (T, length) with more than `loud` times the mean energy."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, length)[::hop]
    energy = frames.var(1)
    return frames[energy > loud * energy.mean()]


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(frames, 2 * frames.shape[1])) ** 2
    return np.fft.irfft(spectrum)[:, : frames.shape[1]]


def _pitch(audio: np.ndarray, rate: int) -> float:
    length = int(0.064 * rate)
    window = np.hanning(length)
    frames = _frames(audio, length, length // 3, 0.1)
    correlation = _autocorrelation((frames - frames.mean(1, keepdims=True)) * window)
    correlation /= correlation[:, :1].clip(1e-12) * (_autocorrelation(window[None]) / (window @ window) + 1e-6)
    first, last = int(rate / 500), int(rate / 40)
    lags = correlation[:, first:last].argmax(1) + first
    voiced = correlation[np.arange(len(lags)), lags] > 0.6
    return rate / float(np.median(lags[voiced])) if voiced.sum() > 5 else math.nan


def _syllables(audio: np.ndarray, rate: int) -> float:
    loudness = np.log(1e-8 + np.lib.stride_tricks.sliding_window_view(audio, rate // 50)[:: rate // 100].var(1))
    power = np.abs(np.fft.rfft((loudness - loudness.mean()) * np.hanning(len(loudness)), 4096)) ** 2
    frequency = np.arange(len(power)) * 100 / 4096
    band = (frequency > 1) & (frequency < 20)
    total = power[band].sum()
    return float(np.exp((np.log(frequency[band]) * power[band]).sum() / total)) if total > 0 else math.nan


def _spectrum(audio: np.ndarray, rate: int) -> tuple[float, float]:
    length = int(0.043 * rate)
    power = (np.abs(np.fft.rfft(_frames(audio, length, length // 2, 0.1) * np.hanning(length))) ** 2).mean(0)
    frequency = np.arange(len(power)) * rate / length
    below = power.cumsum() / power.sum()
    return float(frequency[(below > 0.5).argmax()]), float(frequency[np.flatnonzero(power > power.max() * 1e-6)[-1]])


def _third_formant(audio: np.ndarray, rate: int) -> float:
    """Median of the third resonance of linear prediction (order 14 at 12 kHz) in loud frames."""
    import soxr

    audio = soxr.resample(audio, rate, 12000)
    frames = _frames(np.diff(audio, prepend=0.0) + 0.03 * audio, 360, 180, 0.5)[:150] * np.hanning(360)
    found = []
    for correlation in _autocorrelation(frames)[:, :15]:
        matrix = correlation[np.abs(np.subtract.outer(range(14), range(14)))] + np.eye(14) * 1e-6 * correlation[0]
        poles = np.roots(np.append(1, -np.linalg.solve(matrix, correlation[1:])))
        poles = poles[poles.imag > 0.01]
        frequency, width = np.angle(poles) * 12000 / 2 / np.pi, -np.log(np.abs(poles)) * 12000 / np.pi
        resonances = np.sort(frequency[(width < 500) & (frequency > 150)])
        found += [resonances[2]] if len(resonances) >= 3 else []
    return float(np.median(found)) if len(found) > 10 else math.nan
