"""Reading audio: bytes, paths and arrays of any rate and channel count -> mono float32 at the rate of the codec."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from .containers import find_damage
from .feature_extraction_q2d2 import to_float32

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
_FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}
_BLOCK_SAMPLES = 2**20


def to_mono(samples: np.ndarray, sampling_rate: int, target_rate: int) -> np.ndarray:
    """Mono float32 samples (N,) at `target_rate` Hz of samples (N,) or (N, channels) at `sampling_rate` Hz.

    Channels are averaged; int16 and int32 are scaled to plus or minus 1.

    Raises:
        ValueError: On another shape or type, a rate that is not positive, no samples, or samples that are not finite.
    """
    import soxr

    samples = np.asarray(samples)
    if samples.ndim not in (1, 2):
        raise ValueError(f"samples must have shape (samples,) or (samples, channels), got {samples.shape}")
    if not sampling_rate or sampling_rate <= 0:
        raise ValueError(f"sampling_rate must be a positive number of Hz, got {sampling_rate}")
    samples = to_float32(samples)
    if samples.ndim == 2:
        samples = samples.T if samples.shape[0] == 1 else samples
        if samples.shape[1] > samples.shape[0]:
            raise ValueError(f"samples must have shape (samples, channels), got {samples.shape}; transpose them")
        samples = samples.mean(axis=1)
    if samples.size == 0:
        raise ValueError("audio is empty; it needs at least one sample")
    if not np.isfinite(samples).all():
        raise ValueError("audio has NaN or infinite samples")
    if sampling_rate == target_rate:
        return samples
    resampled = soxr.resample(samples, sampling_rate, target_rate).astype(np.float32)
    return resampled if resampled.size else samples[:1]  # a few samples may resample to none


def _read_to_end(file: Any) -> np.ndarray:
    """All samples (N,), channels averaged; in blocks, since the length in the header may be missing or absurd."""
    blocks = [file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)]
    while len(blocks[-1]) == _BLOCK_SAMPLES:
        blocks[-1] = blocks[-1].mean(axis=1)
        blocks.append(file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True))
    blocks[-1] = blocks[-1].mean(axis=1)
    return np.concatenate(blocks)


def read_audio(source: str | Path | bytes, target_rate: int) -> np.ndarray:
    """Mono float32 samples (N,) at `target_rate` Hz of an audio file (path or content): wav, flac, ogg, opus, mp3.

    Raises:
        ValueError: If the file is not audio of these formats, is damaged, cut off or empty.
        FileNotFoundError: If there is no such file.
    """
    import soundfile

    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no such audio file: {name}")
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _FORMATS:
                raise ValueError(f"{name} is {file.format_info}; convert it to wav, flac, ogg, opus or mp3 first")
            samples = _read_to_end(file)
            damage = find_damage(data, file.format, len(samples), file.frames)
            rate = file.samplerate
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"cannot read {name} as audio: {getattr(error, 'error_string', error)}") from error
    if damage is not None:
        raise ValueError(f"{name} is damaged or cut off: {damage}")
    try:
        return to_mono(samples, rate, target_rate)
    except ValueError as error:
        raise ValueError(f"cannot use {name}: {error}") from error


def audio_from_column(value: Any, target_rate: int, sampling_rate: int | None = None) -> np.ndarray:
    """Mono float32 samples (N,) of one cell of a data set.

    Args:
        value: What an audio column holds: undecoded `{"bytes", "path"}`, decoded `{"array", "sampling_rate"}`, a
            decoder of torchcodec, a path, or a plain array of samples.
        target_rate: Rate to return, in Hz.
        sampling_rate: Rate of plain arrays, in Hz.

    Raises:
        ValueError: If the cell holds none of these, or audio that cannot be used.
    """
    if hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        return to_mono(decoded.data.numpy().T, decoded.sample_rate, target_rate)
    if isinstance(value, (str, Path)):
        return read_audio(value, target_rate)
    if isinstance(value, dict) and value.get("array") is not None:
        return to_mono(value["array"], value["sampling_rate"], target_rate)
    if isinstance(value, dict) and value.get("bytes") is not None:
        return read_audio(value["bytes"], target_rate)
    if isinstance(value, dict) and value.get("path"):
        return read_audio(value["path"], target_rate)
    if isinstance(value, (list, tuple, np.ndarray)) or hasattr(value, "__array__"):
        if sampling_rate is None:
            raise ValueError("plain arrays need their sampling_rate, in Hz; pass it")
        return to_mono(value, sampling_rate, target_rate)
    raise ValueError(f"expected audio (bytes, path, array or decoder), got {type(value).__name__}")
