"""Reading audio: bytes, paths and arrays of any rate and channel count -> mono float32 at the rate of the codec."""

import io
import mmap
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..feature_extraction_q2d2 import to_float32
from .containers import find_damage
from .errors import EmptyAudioError, NotFiniteAudioError, UnreadableAudioError

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
_FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}
_BLOCK_SAMPLES = 2**20


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples int16 of float samples of any shape, 32767 for 1; what exceeds full scale is clipped.

    `to_float32` is the way back, with 32768 for 1 as files have it.
    """
    return (samples.clip(-1, 1) * 32767).round().astype(np.int16)


def to_mono(samples: np.ndarray, sampling_rate: int, target_rate: int) -> np.ndarray:
    """Mono float32 samples (N,) at `target_rate` Hz of samples (N,) or (N, channels) at `sampling_rate` Hz.

    Channels are averaged; int16 and int32 are scaled to plus or minus 1.

    Raises:
        EmptyAudioError: If there are no samples.
        NotFiniteAudioError: If there are NaN or infinite samples.
        ValueError: On another shape or type, or a rate that is not positive.
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
        raise EmptyAudioError("audio is empty; it needs at least one sample")
    if not np.isfinite(samples).all():
        raise NotFiniteAudioError("audio has NaN or infinite samples")
    if sampling_rate == target_rate:
        return samples
    resampled = soxr.resample(samples, sampling_rate, target_rate).astype(np.float32)
    return resampled if resampled.size else samples[:1]  # a few samples may resample to none


def read_audio(source: str | Path | bytes, target_rate: int) -> np.ndarray:
    """Mono float32 samples (N,) at `target_rate` Hz of an audio file (path or content): wav, flac, ogg, opus, mp3.

    Raises:
        AudioError: If the file is not audio of these formats, is damaged, cut off or empty, or not finite.
        FileNotFoundError: If there is no such file.
    """
    return np.concatenate(list(stream_audio(source, target_rate)))


def stream_audio(source: str | Path | bytes, target_rate: int) -> Iterator[np.ndarray]:
    """What `read_audio` returns, in chunks and in little memory.

    Raises:
        AudioError: As `read_audio`; that a file is damaged may turn out after its last chunk only.
        FileNotFoundError: If there is no such file.
    """
    import soundfile

    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no such audio file: {name}")
    try:
        with _open(source) as content, soundfile.SoundFile(content) as file:
            if file.format not in _FORMATS:
                message = f"{name} is {file.format_info}; convert it to wav, flac, ogg, opus or mp3 first"
                raise UnreadableAudioError(message)
            num_decoded = yield from _resampled_blocks(file, name, target_rate)
            damage = find_damage(_content(content), file.format, num_decoded, file.frames)
    except (soundfile.SoundFileError, RuntimeError) as error:
        message = f"cannot read {name} as audio: {getattr(error, 'error_string', error)}"
        raise UnreadableAudioError(message) from error
    if damage is not None:
        raise UnreadableAudioError(f"{name} is damaged or cut off: {damage}")
    if not num_decoded:
        raise EmptyAudioError(f"cannot use {name}: audio is empty; it needs at least one sample")


def _open(source: str | Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _content(file: BinaryIO) -> bytes | mmap.mmap:
    """The bytes of an open file that is not empty, without reading those that are not looked at."""
    return file.getvalue() if isinstance(file, io.BytesIO) else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _resampled_blocks(file: Any, name: str, target_rate: int) -> Generator[np.ndarray, None, int]:
    """Blocks (N,) of the mono audio of an open file at `target_rate` Hz; returns how many samples the file held.

    A file is read to its end, since the length in the header may be missing or absurd.
    """
    import soxr

    stream = None if file.samplerate == target_rate else soxr.ResampleStream(file.samplerate, target_rate, 1, "float32")
    num_decoded, is_last, first, empty = 0, False, np.empty(0, np.float32), True
    while not is_last:
        block = file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True).mean(axis=1)
        if not np.isfinite(block).all():
            raise NotFiniteAudioError(f"cannot use {name}: audio has NaN or infinite samples")
        is_last = len(block) < _BLOCK_SAMPLES
        num_decoded += len(block)
        first = first if first.size else block[:1]
        block = block if stream is None else stream.resample_chunk(block, last=is_last)
        if block.size:
            empty = False
            yield block
    if empty and num_decoded:  # a few samples may resample to none
        yield first
    return num_decoded


def stream_from_column(value: Any, target_rate: int, sampling_rate: int | None = None) -> Iterator[np.ndarray]:
    """Mono float32 samples of one cell of a data set in chunks (N,), in little memory if the cell holds a file.

    Args:
        value: What an audio column holds: undecoded `{"bytes", "path"}`, decoded `{"array", "sampling_rate"}`, a
            decoder of torchcodec, a path, or a plain array of samples.
        target_rate: Rate to return, in Hz.
        sampling_rate: Rate of plain arrays, in Hz.

    Raises:
        AudioError: If the audio cannot be used; see `to_mono` and `stream_audio`.
        ValueError: If the cell holds none of these.
    """
    if hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        yield to_mono(decoded.data.numpy().T, decoded.sample_rate, target_rate)
    elif isinstance(value, (str, Path)):
        yield from stream_audio(value, target_rate)
    elif isinstance(value, dict) and value.get("array") is not None:
        yield to_mono(value["array"], value["sampling_rate"], target_rate)
    elif isinstance(value, dict) and value.get("bytes") is not None:
        yield from stream_audio(value["bytes"], target_rate)
    elif isinstance(value, dict) and value.get("path"):
        yield from stream_audio(value["path"], target_rate)
    elif isinstance(value, (list, tuple, np.ndarray)) or hasattr(value, "__array__"):
        if sampling_rate is None:
            raise ValueError("plain arrays need their sampling_rate, in Hz; pass it")
        yield to_mono(value, sampling_rate, target_rate)
    else:
        raise ValueError(f"expected audio (bytes, path, array or decoder), got {type(value).__name__}")
