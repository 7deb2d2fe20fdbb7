"""What a vocoder loses of a voice: glottal pulses, grain, level; measured without any network.

All functions take audio (N,) and its rate in Hz. A ratio of reconstruction and recording is 1 if nothing is lost.
"""

import math
from collections.abc import Iterable

import numpy as np

from ..layers import mel_filters

FRAME_RATE = 75.0
_BANDS = {
    "envelope_at_f0_1_2_khz": (1000, 2000),
    "envelope_at_f0": (2000, 4000),
    "envelope_at_f0_4_8_khz": (4000, 8000),
}
_NO_VOICE = "no voiced frames"
_TOO_SHORT = "shorter than one window"
_FLOOR = 1e-3  # of the largest value; what is below it is silence


class NotMeasured(float):
    """NaN that says why there is no value."""

    reason: str

    def __new__(cls, reason: str) -> "NotMeasured":
        value = super().__new__(cls, math.nan)
        value.reason = reason
        return value


def _frames(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Centred frames (T, size)."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(audio, (size // 2, size - size // 2)), size)[::hop]


def _fast_size(length: int) -> int:
    """A size that has no large prime factor, for transforms of whole recordings."""
    return -(-length // 4096) * 4096


def envelope(audio: np.ndarray, sampling_rate: int, band_hz: tuple[float, float]) -> np.ndarray:
    """Envelope (N,) of a band: the magnitude of its analytic signal."""
    size = _fast_size(len(audio))
    spectrum, frequencies = np.fft.fft(audio, size), np.fft.fftfreq(size, 1 / sampling_rate)
    inside = (frequencies >= band_hz[0]) & (frequencies < band_hz[1])
    return np.abs(np.fft.ifft(np.where(inside, 2 * spectrum, 0)))[: len(audio)]


def pitch(audio: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (T,) in Hz, from 70 to 400, and which frames are voiced (T,), every 10 ms.

    By autocorrelation below 1.2 kHz in windows of 40 ms: much faster than pYIN, and good enough to find its pulses.
    """
    size, hop = round(0.04 * sampling_rate), round(0.01 * sampling_rate)
    whole = _fast_size(len(audio))
    spectrum = np.fft.rfft(audio, whole)
    low = np.fft.irfft(np.where(np.fft.rfftfreq(whole, 1 / sampling_rate) < 1200, spectrum, 0))[: len(audio)]
    window = np.hanning(size)
    frames = _frames(low, size, hop)
    frames = (frames - frames.mean(1, keepdims=True)) * window
    correlation, of_window = (np.fft.irfft(np.abs(np.fft.rfft(x, 2 * size)) ** 2)[..., :size] for x in (frames, window))
    energy = correlation[:, 0]
    correlation = correlation / np.maximum(energy, 1e-12)[:, None] / (of_window / of_window[0]).clip(1e-3)
    first, last = sampling_rate // 400, sampling_rate // 70
    inside = correlation[:, first:last]
    highest = inside.max(1)
    is_peak = inside >= 0.9 * highest[:, None]  # the shortest period that explains the frame nearly as well
    is_peak[:, 1:] &= inside[:, 1:] >= inside[:, :-1]
    is_peak[:, :-1] &= inside[:, :-1] >= inside[:, 1:]
    voiced = (highest > 0.6) & (energy > _FLOOR * np.percentile(energy, 95)) & (energy > 0)
    return sampling_rate / (first + is_peak.argmax(1)), voiced


def _depth_at(band: np.ndarray, sampling_rate: int, frequencies: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Power of an envelope (N,) at the pitch of each voiced frame, over the square of its mean there."""
    size = round(0.06 * sampling_rate)
    frames = _frames(band, size, round(0.01 * sampling_rate))[: len(voiced)][voiced]
    window = np.hanning(size) / np.hanning(size).sum()
    means = frames @ window
    waves = np.exp(-2j * np.pi * frequencies[voiced, None] * np.arange(size) / sampling_rate)
    return np.abs(((frames - means[:, None]) * window * waves).sum(1)) ** 2 / np.maximum(means, 1e-9) ** 2


def envelope_at_f0(
    reference: np.ndarray,
    reconstruction: np.ndarray,
    sampling_rate: int,
    band_hz: tuple[float, float] = (2000, 4000),
    track: tuple[np.ndarray, np.ndarray] | None = None,
) -> float:
    """Glottal pulses of a band: power of its envelope at the pitch of the recording, reconstruction over recording.

    The power of a frame is relative to the mean of the envelope, so that the level does not count and no loud frame
    outweighs the others; both are summed over the voiced frames of the recording.

    Args:
        reference: The recording (N,).
        reconstruction: Samples (N,).
        sampling_rate: In Hz.
        band_hz: Lowest and highest frequency.
        track: What `pitch` gives for the recording, if that is known.
    """
    if band_hz[1] > sampling_rate / 2:
        return NotMeasured(f"nothing up to {band_hz[1]:g} Hz at this sampling rate")
    frequencies, voiced = track or pitch(reference, sampling_rate)
    if not voiced.any():
        return NotMeasured(_NO_VOICE)
    wanted, found = (
        float(_depth_at(envelope(audio, sampling_rate, band_hz), sampling_rate, frequencies, voiced).sum())
        for audio in (reference, reconstruction)
    )
    return found / wanted if wanted else NotMeasured(f"nothing above {band_hz[0]:g} Hz in the recording")


def frame_line(audio: np.ndarray, sampling_rate: int, frame_rate: float = FRAME_RATE) -> float:
    """Buzz of the frames: power of the envelope of 2 to 4 kHz at three times the frame rate, over that of 30 Hz around.

    Windows are of a third of a second, each relative to its mean. Recordings have about 1.
    """
    size = 2 * round(sampling_rate / 6)
    if len(audio) < size or not audio.any():
        return NotMeasured(_TOO_SHORT if audio.any() else "silence")
    band = envelope(audio, sampling_rate, (2000, 4000))
    windows = np.lib.stride_tricks.sliding_window_view(band, size)[:: size // 2]
    windows = windows / np.maximum(windows.mean(1, keepdims=True), _FLOOR * band.max()) - 1
    power = (np.abs(np.fft.rfft(windows * np.hanning(size))) ** 2).mean(0)
    distance = np.abs(np.fft.rfftfreq(size, 1 / sampling_rate) - 3 * frame_rate)
    bin_hz = sampling_rate / size
    line, around = distance < 1.01 * bin_hz, (distance > 3.5 * bin_hz) & (distance < 30)
    return float(power[line].mean() / power[around].mean())


def _log_mel(audio: np.ndarray, sampling_rate: int, hop_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of magnitudes (T, 80) up to 7.6 kHz in windows of 43 ms, and the centres of the bands (80,) in Hz."""
    size, highest = 2 * round(sampling_rate * 0.0427 / 2), min(7600.0, sampling_rate / 2)
    spectrum = np.abs(np.fft.rfft(_frames(audio, size, round(hop_seconds * sampling_rate)) * np.hanning(size)))
    filters = mel_filters(size // 2 + 1, 80, highest, sampling_rate)
    mel = spectrum @ filters
    centres = np.fft.rfftfreq(size, 1 / sampling_rate) @ filters / filters.sum(0)
    return np.log(np.maximum(mel, _FLOOR * max(mel.max(), 1e-9))), centres


def modulation_16_32(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Grain over time: energy at 16 to 32 Hz of log-mel bands of 1.2 to 6 kHz, reconstruction over recording."""
    energies = []
    for audio in (reference, reconstruction):
        mel, centres = _log_mel(audio, sampling_rate, 0.005)
        mel = mel[:, (centres > 1200) & (centres < 6000)]
        power = np.abs(np.fft.rfft((mel - mel.mean(0)) * np.hanning(len(mel))[:, None], axis=0)) ** 2
        frequencies = np.fft.rfftfreq(len(mel), 0.005)
        energies.append(float(power[(frequencies >= 16) & (frequencies < 32)].sum()))
    return energies[1] / energies[0] if energies[0] else NotMeasured("no modulation in the recording")


def fine_contrast(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Grain over frequency: variance over time of steps between neighbouring log-mel bands, upper fifth of 80.

    Reconstruction over recording, in frames that are louder than 3 % of the loudest of the recording.
    """
    wanted, found = (_log_mel(audio, sampling_rate, 0.01)[0] for audio in (reference, reconstruction))
    loudness = np.exp(wanted).sum(1)
    steps = [np.diff(mel[loudness > 0.03 * loudness.max(), -16:], axis=1) for mel in (wanted, found)]
    before, after = (float(step.var(0).mean()) for step in steps)
    return after / before if before > 1e-9 else NotMeasured("no contrast in the recording")


def phase_concentration(audio: np.ndarray, sampling_rate: int, frame_rate: float = FRAME_RATE) -> float:
    """How far the phase of every frame is one template: 0 to 1, mean over bins of 2 to 7.6 kHz.

    It is the length of the mean unit vector over frames, without what chance adds, of a spectrum with the codec's hop
    in windows of two hops. Recordings have about .01.
    """
    hop = round(sampling_rate / frame_rate)
    spectrum = np.fft.rfft(_frames(audio, 2 * hop, hop) * np.hanning(2 * hop))
    magnitude = np.abs(spectrum)
    loudness = magnitude.sum(1)
    loud = (loudness > 0.05 * loudness.max()) & (loudness > 0)
    if loud.sum() < 2:
        return NotMeasured(_TOO_SHORT if audio.any() else "silence")
    frequencies = np.fft.rfftfreq(2 * hop, 1 / sampling_rate)
    inside = (frequencies > 2000) & (frequencies < min(7600, sampling_rate / 2))
    units = spectrum[loud][:, inside] / np.maximum(magnitude[loud][:, inside], 1e-12)
    count = len(units)
    squares = (count * np.abs(units.mean(0)) ** 2 - 1) / (count - 1)
    return float(np.sqrt(squares.clip(0)).mean())


def level_db(reference: np.ndarray, reconstruction: np.ndarray) -> float:
    """Level of the reconstruction minus that of the recording, in dB."""
    wanted, found = (float((audio.astype(np.float64) ** 2).mean()) for audio in (reference, reconstruction))
    return 10 * math.log10(found / wanted) if wanted and found else NotMeasured("silence")


class Voice:
    """What is lost of a voice next to its recording: `envelope_at_f0` in three bands, and grain."""

    def __init__(self, sampling_rate: int):
        self._sampling_rate = sampling_rate

    def __call__(self, reference: np.ndarray, reconstruction: np.ndarray) -> dict[str, float]:
        pair = reference, reconstruction
        if not reference.any():
            return dict.fromkeys(VOICE_SCORES, NotMeasured("the recording is silent"))
        track = pitch(reference, self._sampling_rate)
        pulses = {name: envelope_at_f0(*pair, self._sampling_rate, band, track) for name, band in _BANDS.items()}
        grain = {"modulation_16_32": modulation_16_32, "fine_contrast": fine_contrast}
        return pulses | {name: measure(*pair, self._sampling_rate) for name, measure in grain.items()}


class Signal:
    """Traces of frames and of too high a level, in the reconstruction alone."""

    def __init__(self, sampling_rate: int, frame_rate: float = FRAME_RATE):
        self._rates = sampling_rate, frame_rate

    def __call__(self, reference: np.ndarray | None, reconstruction: np.ndarray) -> dict[str, float]:
        sizes = np.abs(reconstruction)
        return {
            "frame_line": frame_line(reconstruction, *self._rates),
            "phase_concentration": phase_concentration(reconstruction, *self._rates),
            "peak": float(sizes.max()),
            "clipped_share": float((sizes > 1).mean()),
        }


PULSE_SCORES = tuple(_BANDS)
VOICE_SCORES = (*PULSE_SCORES, "modulation_16_32", "fine_contrast")
SIGNAL_SCORES = ("frame_line", "phase_concentration", "peak", "clipped_share")


def measure_voice(pairs: Iterable[tuple[np.ndarray, np.ndarray]], sampling_rate: int) -> dict[str, float]:
    """Means of all measures over pairs of a recording (N,) and its reconstruction (N,), without those not measured.

    Args:
        pairs: At least one.
        sampling_rate: In Hz.
    """
    voice, signal = Voice(sampling_rate), Signal(sampling_rate)
    rows = [voice(*pair) | signal(*pair) | {"level_db": level_db(*pair)} for pair in pairs]
    columns = {name: [row[name] for row in rows if not math.isnan(row[name])] for name in rows[0]}
    return {name: sum(values) / len(values) for name, values in columns.items() if values}
