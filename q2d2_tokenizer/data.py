"""Training data: recordings of any kind -> one memory-mapped file of samples -> random segments."""

import copy
import functools
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr
import torch
from torch import Tensor

from .audio import AUDIO_SUFFIXES, audio_from_column, matching_paths, read_audio
from .token_file import replaced_when_complete, write_atomically


def expand_sources(sources: list[str]) -> list[Path]:
    """Parquet and audio files of paths, folders and glob patterns, in order; a source named twice counts twice.

    Raises:
        ValueError: If a source names no Parquet or audio file.
    """
    files: list[Path] = []
    for source in sources:
        found = sorted(Path(source).rglob("*")) if Path(source).is_dir() else matching_paths(source)
        found = [path for path in found if path.suffix.lower() in AUDIO_SUFFIXES | {".parquet"}]
        if not found:
            hint = "; URLs need streaming" if "://" in source else ""
            raise ValueError(f"no Parquet or audio files at {source!r}{hint}")
        files += found
    return files


def parquet_cells(source: str | Path | BinaryIO, name: str) -> Iterator[Any]:
    """Undecoded audio of every row of a Parquet file, which errors call `name`.

    Raises:
        ValueError: If the file cannot be read or has no column `audio`.
    """
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(source)
        if "audio" not in file.schema_arrow.names:
            raise ValueError(f"{name} has no column audio but {file.schema_arrow.names}; rename the one with the audio")
        for batch in file.iter_batches(64, columns=["audio"]):
            yield from batch.column("audio").to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"cannot read {name} as Parquet: {error}") from error


def _read_recordings(file: Path, sampling_rate: int) -> Iterator[np.ndarray]:
    if file.suffix.lower() != ".parquet":
        yield read_audio(file, sampling_rate)
        return
    for row, cell in enumerate(parquet_cells(file, str(file))):
        yield named_audio(cell, sampling_rate, f"row {row} of {file}")


def named_audio(cell: Any, sampling_rate: int, name: str) -> np.ndarray:
    """Samples (N,) float32 of a cell, which errors call `name`.

    Raises:
        ValueError: If the cell cannot be used; see `audio_from_column`.
    """
    try:
        return audio_from_column(cell, sampling_rate)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; repair or remove it") from error


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples (N,) int16 of samples (N,) float32; what exceeds full scale is clipped."""
    return (samples.clip(-1, 1) * 32767).round().astype(np.int16)


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
        piece = samples[start : start + taken].astype(np.float32) / 32768.0
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


def _spread(size: int, count: int | None) -> list[int]:
    count = min(count or size, size)
    return [i * size // count for i in range(count)]


@functools.lru_cache(64)  # an open file each
def _open_samples(path: Path) -> np.ndarray:
    return np.memmap(path, dtype=np.int16, mode="r")


class AudioCache:
    """Recordings as int16 samples in memory-mapped files, one for each source file, decoded once.

    Args:
        sources: Parquet files with an `audio` column, audio files, folders or glob patterns; see `expand_sources`.
        folder: Where the samples are kept.
        sampling_rate: In Hz.

    Raises:
        ValueError: If a file cannot be read, or none holds a recording.
    """

    def __init__(self, sources: list[str], folder: str | Path, sampling_rate: int):
        from tqdm.auto import tqdm

        self.sampling_rate = sampling_rate
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        numbers: dict[Path, int] = {}  # of files of samples: one that is named twice is one file
        starts: list[tuple[int, int, int]] = []  # file, first sample, samples
        for file in tqdm(expand_sources(sources), desc="audio", disable=None):
            lengths = self._decode(file, folder)
            number = numbers.setdefault(self._path(file, folder), len(numbers))
            ends = np.cumsum(lengths)
            starts += [(number, int(end - n), int(n)) for end, n in zip(ends, lengths, strict=True)]
        self._files = list(numbers)
        if not starts:
            raise ValueError(f"the files of {sources} hold no recordings")
        self._keep(np.array(starts, dtype=np.int64))

    def _keep(self, recordings: np.ndarray) -> None:
        self._recordings = recordings
        self._ends = np.cumsum(recordings[:, 2])

    def _path(self, file: Path, folder: Path) -> Path:
        stat = file.stat()
        key = f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{self.sampling_rate}"
        return folder / f"{file.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.i16"

    def _decode(self, file: Path, folder: Path) -> list[int]:
        """Samples of each recording of a file; decodes the file if that was not done before."""
        path = self._path(file, folder)
        index = path.with_suffix(".json")
        if index.exists():
            return json.loads(index.read_text())
        lengths = []
        with replaced_when_complete(path) as partial, open(partial, "wb") as out:
            for samples in _read_recordings(file, self.sampling_rate):
                to_int16(samples).tofile(out)
                lengths.append(len(samples))
        write_atomically(index, json.dumps(lengths).encode())  # an index that is there is whole, and so are the samples
        return lengths

    @property
    def seconds(self) -> float:
        """Total duration."""
        return float(self._recordings[:, 2].sum()) / self.sampling_rate

    @property
    def digests(self) -> list[str]:
        """Hex digits that identify the samples of every recording."""
        return [hashlib.sha256(self[index].tobytes()).hexdigest()[:16] for index in range(len(self))]

    def __len__(self) -> int:
        return len(self._recordings)

    def __getitem__(self, index: int) -> np.ndarray:
        """Samples (N,) int16 of one recording."""
        file, start, length = self._recordings[index]
        return _open_samples(self._files[file])[start : start + length]

    def spread(self, count: int | None) -> list[int]:
        """Numbers of at most `count` recordings, evenly spread; all of them if it is None."""
        return _spread(len(self), count)

    def split(self, count: int) -> "tuple[AudioCache, AudioCache]":
        """The other recordings, and `count` evenly spread ones, which count once if they were named several times.

        Raises:
            ValueError: If no recordings would be left.
        """
        different, copy_of = np.unique(self._recordings, axis=0, return_inverse=True)
        if count >= len(different):
            raise ValueError(f"cannot hold out {count} of {len(different)} recordings; some must be left to train on")
        chosen = _spread(len(different), count)
        rest, held = copy.copy(self), copy.copy(self)
        rest._keep(self._recordings[~np.isin(copy_of.reshape(-1), chosen)])
        held._keep(different[chosen])
        return rest, held

    def batch(self, seed: int, indices: range, num_samples: int, augmentation: Augmentation) -> Tensor:
        """Random segments (B, 1, num_samples); every second of audio is as likely, short recordings get silence.

        Segment `i` depends on `seed` and `i` alone, whatever the batch and the process: training resumes exactly.

        Args:
            seed: Of the whole run.
            indices: Numbers of the segments.
            num_samples: Length of each.
            augmentation: How they are changed.
        """
        generators = [np.random.default_rng([seed, i]) for i in indices]
        return torch.stack([augmentation.segment(self._draw(rng), rng, num_samples) for rng in generators])

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return self[int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))]
