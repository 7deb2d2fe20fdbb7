"""Training data: recordings of any kind -> one memory-mapped file of samples -> random segments."""

import copy
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..audio.files import replaced_when_complete, write_atomically
from ..audio.reading import AUDIO_SUFFIXES, audio_from_column, matching_paths, read_audio
from .augmentation import Augmentation


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
