"""Reading audio: bytes, paths and arrays of any rate and channel count -> mono float32 at the rate of the codec."""

import io
import mmap
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..feature_extraction_q2d2 import check_peak, to_float32, warn_if_loud
from .containers import Part, split
from .errors import AudioError, EmptyAudioError, LoudAudioError, NotFiniteAudioError, UnreadableAudioError
from .printed import lines_of_mpg123

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
READER = 2
"""Raise it when a file gives other samples than before: caches of decoded audio hold this number."""
_BLOCK_SAMPLES = 2**20


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples int16 of float samples of any shape, 32767 for 1; what exceeds full scale is clipped.

    `to_float32` is the way back, with 32768 for 1 as files have it.
    """
    return (samples.clip(-1, 1) * 32767).round().astype(np.int16)


def _peak(samples: np.ndarray) -> float:
    """Peak of float samples of any shape.

    Raises:
        NotFiniteAudioError: If there are NaN or infinite samples.
        LoudAudioError: If the peak is so far above full scale that the samples are of another scale.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    try:
        check_peak(peak, "audio")
    except ValueError as error:
        raise (LoudAudioError if np.isfinite(peak) else NotFiniteAudioError)(str(error)) from error
    return peak


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
    peak = _peak(samples)
    if samples.ndim == 2:
        samples = samples.T if samples.shape[0] == 1 else samples
        if samples.shape[1] > samples.shape[0]:
            raise ValueError(f"samples must have shape (samples, channels), got {samples.shape}; transpose them")
        samples = samples.mean(axis=1)
    if samples.size == 0:
        raise EmptyAudioError("audio is empty; it needs at least one sample")
    warn_if_loud(peak, "audio")
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
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)
    num_decoded, peak = 0, 0.0
    try:
        for part in open_parts(source):
            for block in part.blocks(target_rate):
                num_decoded += len(block)
                yield block
            peak = max(peak, part.peak)
    except AudioError as error:
        raise type(error)(f"cannot read {name} as audio: {error}") from error
    if not num_decoded:
        raise EmptyAudioError(f"cannot use {name}: audio is empty; it needs at least one sample")
    warn_if_loud(peak, name)


def open_parts(source: str | Path | bytes) -> Iterator["Recording"]:
    """The recording of an audio file, or those that were joined to one, one after the other.

    Raises:
        AudioError: If it is no audio, or damaged.
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no such audio file: {source}")
    with _open(source) as file:
        content = _content(file)
    if not content:
        raise UnreadableAudioError("the file has no content")
    for part in split(content):
        with Recording(part) as recording:
            yield recording


def _open(source: str | Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _content(file: BinaryIO) -> bytes | mmap.mmap:
    """The bytes of an open file, without reading those that are not looked at."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()
    is_empty = not os.fstat(file.fileno()).st_size
    return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Recording:
    """A part of an audio file, open to be decoded; use it in a `with` block.

    Attributes:
        peak: Of the samples that were decoded, over all channels.
    """

    def __init__(self, part: Part):
        import soundfile

        self._is_mp3, self._is_flac = part.kind == "MP3", part.kind == "FLAC"
        self._errors = (soundfile.SoundFileError, RuntimeError)
        self._printed: list[str] = []
        self.peak = 0.0
        self._file = self._call(lambda: soundfile.SoundFile(part.file))
        self._file.seekable = lambda: False  # soundfile seeks after every block otherwise

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def seconds(self) -> float:
        """Duration."""
        return self._file.frames / self._file.samplerate

    def blocks(self, target_rate: int) -> Iterator[np.ndarray]:
        """Mono samples (N,) float32 at `target_rate` Hz, block by block.

        Raises:
            AudioError: If there are samples that cannot be used, or not as many as the file promises.
        """
        import soxr

        rate = self._file.samplerate
        stream = None if rate == target_rate else soxr.ResampleStream(rate, target_rate, 1, "float32")
        num_decoded, is_last, first, is_empty = 0, False, np.empty(0, np.float32), True
        while not is_last:
            left = self._file.frames - num_decoded if self._is_flac else _BLOCK_SAMPLES  # zeros may be behind FLAC
            size = min(left, _BLOCK_SAMPLES)
            samples = self._call(partial(self._file.read, size, dtype="float32", always_2d=True))
            self.peak = max(self.peak, _peak(samples))
            block = samples.mean(axis=1)
            is_last = len(block) < _BLOCK_SAMPLES
            num_decoded += len(block)
            first = first if first.size else block[:1]
            block = block if stream is None else stream.resample_chunk(block, last=is_last)
            if block.size:
                is_empty = False
                yield block
        if num_decoded != self._file.frames:
            why = f"its header promises {self._file.frames} samples, {num_decoded} could be decoded"
            raise UnreadableAudioError(f"it is damaged or cut off: {why}")
        if is_empty and num_decoded:  # a few samples may resample to none
            yield first

    def _call(self, function: Callable[[], Any]) -> Any:
        """Result of a function of soundfile; what it or mpg123 complains about becomes an `AudioError`."""
        try:
            if not self._is_mp3:
                return function()
            with lines_of_mpg123() as lines:
                result = function()
        except self._errors as error:
            raise UnreadableAudioError(getattr(error, "error_string", str(error))) from error
        if errors := [line for line in lines if "error:" in line]:
            raise UnreadableAudioError(f"it is damaged: {errors[0]}")
        return result


def stream_from_column(value: Any, target_rate: int, sampling_rate: int | None = None) -> Iterator[np.ndarray]:
    """Mono float32 samples of one cell of a data set in chunks (N,), in little memory if the cell holds a file.

    Args:
        value: What an audio column holds: undecoded `{"bytes", "path"}`, decoded `{"array", "sampling_rate"}`, a
            decoder of torchcodec, a path, the bytes of a file, or a plain array of samples.
        target_rate: Rate to return, in Hz.
        sampling_rate: Rate of plain arrays, in Hz.

    Raises:
        AudioError: If the audio cannot be used; see `to_mono` and `stream_audio`.
        ValueError: If the cell holds none of these.
    """
    if hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        yield to_mono(decoded.data.numpy().T, decoded.sample_rate, target_rate)
    elif isinstance(value, (str, Path, bytes)):
        yield from stream_audio(value, target_rate)
    elif isinstance(value, dict) and value.get("array") is not None:
        if not isinstance(rate := value.get("sampling_rate"), int | float):
            raise ValueError(
                "an array of samples needs its sampling_rate, a number in Hz, beside it: "
                f"the field 'sampling_rate' of the audio holds {type(rate).__name__}"
            )
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
