"""Changes of a recording under which its tokens should stay the same: noise, rooms, other codecs, levels."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from ..alignment import fit_length
from ..domains import mix

RATIOS_DB = (20.0, 10.0, 5.0)
_TALKERS = 4
_REVERBERATION_SECONDS = 0.5  # until the sound of a room has fallen by 60 dB
_NARROW_RATE = 16000
# Settings with which libsndfile makes about 32 kbit/s of 24 kHz mono; what came is measured.
_LOSSY = {
    "Opus 32 kbit/s": {"format": "OGG", "subtype": "OPUS", "compression_level": 0.896},
    # Not "CONSTANT": then the file does not tell its delay, and 46 ms of silence come first.
    "mp3 32 kbit/s": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "compression_level": 1 - 24 / 152,
        "bitrate_mode": "AVERAGE",
    },
}


@dataclass(frozen=True)
class Changed:
    """A recording that was changed, sample by sample in step with what it was; and bits per second of its file."""

    audio: np.ndarray
    bits_per_second: float | None = None


Others = list[np.ndarray]  # recordings of other speakers, each (N,)
Change = Callable[[np.ndarray, Others, np.random.Generator], Changed]


def babble(others: Others, size: int, rng: np.random.Generator) -> np.ndarray:
    """Some other recordings at once (size,), each at the same level and from a random place on.

    Args:
        others: Recordings of other speakers, each (N,).
        size: Samples.
        rng: Chooses recordings and places.

    Raises:
        ValueError: If there are no others.
    """
    if not others:
        raise ValueError("babble takes recordings of at least two speakers, got one; give more clips")
    chosen = rng.choice(len(others), min(_TALKERS, len(others)), replace=False)
    voices = [np.roll(np.resize(others[i], size), rng.integers(size)) for i in chosen]
    return np.sum([voice / max(float(np.sqrt((voice**2).mean())), 1e-9) for voice in voices], axis=0)


def reverberate(audio: np.ndarray, rate: int, ratio_db: float, rng: np.random.Generator) -> np.ndarray:
    """Audio (N,) in a room: noise that decays exponentially follows every sample.

    Args:
        audio: Samples (N,).
        rate: In Hz.
        ratio_db: Energy of the direct sound over that of the room.
        rng: Makes the room.
    """
    time = np.arange(round(rate * _REVERBERATION_SECONDS)) / rate
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time / _REVERBERATION_SECONDS)
    room[: round(0.002 * rate)] = 0.0  # before the first wall
    size = len(audio) + len(room)
    tail = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size), size)[: len(audio)]
    return mix(audio, tail, ratio_db)


def compress(audio: np.ndarray, rate: int, name: str) -> Changed:
    """Audio (N,) through a file of a lossy format in memory."""
    content = io.BytesIO()
    soundfile.write(content, audio, rate, **_LOSSY[name])
    bits = 8 * len(content.getvalue()) / (len(audio) / rate)
    decoded = soundfile.read(io.BytesIO(content.getvalue()), dtype="float32")[0]
    return Changed(fit_length(decoded, len(audio)), bits)


def resample_there_and_back(audio: np.ndarray, rate: int) -> np.ndarray:
    """Audio (N,) at 16 kHz and at its rate again."""
    back = soxr.resample(soxr.resample(audio, rate, _NARROW_RATE), _NARROW_RATE, rate)
    return fit_length(back, len(audio)).astype(np.float32)


def scale(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """Audio (N,) louder by a gain in dB, cut off at full scale."""
    return (audio * 10 ** (gain_db / 20)).clip(-1, 1).astype(np.float32)


def all_changes(rate: int) -> dict[str, Change]:
    """Changes by name, for recordings at a rate in Hz."""

    def lossy(name: str) -> Change:
        return lambda audio, others, rng: compress(audio, rate, name)

    def louder(gain_db: float) -> Change:
        return lambda audio, others, rng: Changed(scale(audio, gain_db))

    def white(ratio: float) -> Change:
        return lambda audio, others, rng: Changed(mix(audio, rng.standard_normal(len(audio)), ratio))

    def talkers(ratio: float) -> Change:
        return lambda audio, others, rng: Changed(mix(audio, babble(others, len(audio), rng), ratio))

    def room(ratio: float) -> Change:
        return lambda audio, others, rng: Changed(reverberate(audio, rate, ratio, rng))

    found: dict[str, Change] = {
        "none": lambda audio, others, rng: Changed(audio),
        "16 kHz and back": lambda audio, others, rng: Changed(resample_there_and_back(audio, rate)),
    }
    found |= {name: lossy(name) for name in _LOSSY} | {f"gain {gain:+.0f} dB": louder(gain) for gain in (6.0, -6.0)}
    for name, disturb in {"white noise": white, "babble": talkers, "reverberation": room}.items():
        found |= {f"{name}, {ratio:g} dB": disturb(ratio) for ratio in RATIOS_DB}
    return found
