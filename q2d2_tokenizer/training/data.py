"""Training data: recordings of any kind -> one memory-mapped file of samples -> random segments."""

import copy
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.errors import AudioError
from ..audio.files import make_folder, read_json, replaced_when_complete, write_atomically
from ..audio.reading import READER, to_int16
from ..corpus.cells import read_cell
from ..corpus.inputs import Entry, list_entries, version_of
from ..corpus.rows import Columns, Source
from ..corpus.sources import open_source
from .augmentation import Augmentation


def _read_recordings(source: Source, sampling_rate: int) -> Iterator[np.ndarray]:
    for name, cell in source.cells():
        yield named_audio(cell, sampling_rate, name)


def named_audio(cell: Any, sampling_rate: int, name: str) -> np.ndarray:
    """Samples (N,) float32 of the audio of a row, which errors call `name`.

    Raises:
        AudioError: If it cannot be used; see `read_cell`.
    """
    try:
        return np.concatenate(list(read_cell(cell, sampling_rate)))
    except AudioError as error:
        raise type(error)(f"{name}: {error}; repair or remove it") from error


def spread(size: int, count: int | None) -> list[int]:
    """At most `count` numbers below `size`, evenly spread; all of them if it is None."""
    count = min(count or size, size)
    return [i * size // count for i in range(count)]


@functools.lru_cache(64)  # an open file each
def _open_samples(path: Path) -> np.ndarray:
    return np.memmap(path, dtype=np.int16, mode="r")


class AudioCache:
    """Recordings as int16 samples in memory-mapped files, one for each source file, decoded once.

    Args:
        sources: See `list_entries`; in this order, and one that is named twice counts twice.
        folder: Where the samples are kept.
        sampling_rate: In Hz.
        audio_column: Column of Parquet files that holds the audio.
        output: Folder of the run; files in it are no data, see `list_entries`.

    Raises:
        ValueError: If a row or a file cannot be read, or there are no recordings.
        OSError: If an input cannot be listed or read.
    """

    def __init__(
        self,
        sources: list[str],
        folder: str | Path,
        sampling_rate: int,
        audio_column: str = "audio",
        output: str | None = None,
    ):
        from tqdm.auto import tqdm

        self.sampling_rate = sampling_rate
        self._columns = Columns(audio_column, only=())
        folder = Path(folder)
        make_folder(folder)
        numbers: dict[Path, int] = {}  # of files of samples: one that is named twice is one file
        starts: list[tuple[int, int, int]] = []  # file, first sample, samples
        for entry in tqdm(list_entries(sources, output, keep_order=True), desc="audio", disable=None):
            path = self._path(entry.path, folder)
            lengths = self._decode(entry, path)
            number = numbers.setdefault(path, len(numbers))
            ends = np.cumsum(lengths)
            starts += [(number, int(end - n), int(n)) for end, n in zip(ends, lengths, strict=True)]
        self._files = list(numbers)
        if not starts:
            raise ValueError(f"the files of {sources} hold no recordings")
        self._keep(np.array(starts, dtype=np.int64))

    def _keep(self, recordings: np.ndarray) -> None:
        self._recordings = recordings
        self._ends = np.cumsum(recordings[:, 2])

    def _path(self, file: str, folder: Path) -> Path:
        key = f"{READER}:{version_of(file)}:{self.sampling_rate}"
        if file.lower().endswith(".parquet") and self._columns.audio != "audio":
            key += f":{self._columns.audio}"
        return folder / f"{Path(file).stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.i16"

    def _decode(self, entry: Entry, path: Path) -> list[int]:
        """Samples of each recording of a file; decodes the file to `path` if that was not done before."""
        index = path.with_suffix(".json")
        if index.exists():
            return read_json(index, kind=list)
        lengths = []
        with replaced_when_complete(path) as partial, open(partial, "wb") as out:
            for samples in _read_recordings(open_source(entry, self._columns), self.sampling_rate):
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
        return spread(len(self), count)

    def split(self, count: int) -> "tuple[AudioCache, AudioCache]":
        """The other recordings, and `count` evenly spread ones, which count once if they were named several times.

        Raises:
            ValueError: If no recordings would be left.
        """
        different, copy_of = np.unique(self._recordings, axis=0, return_inverse=True)
        if count >= len(different):
            raise ValueError(f"cannot hold out {count} of {len(different)} recordings; some must be left to train on")
        chosen = spread(len(different), count)
        rest, held = copy.copy(self), copy.copy(self)
        rest._keep(self._recordings[~np.isin(copy_of.reshape(-1), chosen)])
        held._keep(different[chosen])
        return rest, held

    def batch(self, seed: int, indices: range, num_samples: int, augmentation: Augmentation) -> Tensor:
        """Random segments (B, 1, num_samples); every second of audio is as likely, short recordings get silence.

        Segment `i` depends on `seed` and `i` alone, whatever the batch and the process: training resumes exactly.

        Args:
            seed: Seed of the whole run.
            indices: Numbers of the segments.
            num_samples: Length of each.
            augmentation: How they are changed.
        """
        generators = [np.random.default_rng([seed, i]) for i in indices]
        return torch.stack([augmentation.segment(self._draw(rng), rng, num_samples) for rng in generators])

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return self[int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))]
