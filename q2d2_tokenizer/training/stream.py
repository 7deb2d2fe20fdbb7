"""Training data without a cache: recordings are read in order, near or far, and decoded when a segment needs them."""

import io
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor

from ..audio.reading import AUDIO_SUFFIXES
from .augmentation import Augmentation
from .data import expand_sources, named_audio, parquet_cells, to_int16

_DATA_SUFFIXES = tuple(AUDIO_SUFFIXES | {".parquet"})
_Cell = dict[str, Any]


def expand_urls(sources: list[str]) -> list[str]:
    """Parquet and audio files of paths, folders, globs, and URLs with globs that fsspec knows, such as `hf://`.

    Raises:
        ValueError: If a source names no Parquet or audio file.
    """
    files: list[str] = []
    for source in sources:
        if "://" not in source:
            files += map(str, expand_sources([source]))
            continue
        system, path = fsspec.core.url_to_fs(source)
        found = sorted(system.glob(path)) if "*" in path else [path]
        found = [system.unstrip_protocol(name) for name in found if name.lower().endswith(_DATA_SUFFIXES)]
        if not found:
            raise ValueError(f"no Parquet or audio files at {source!r}")
        files += found
    return files


def read_cells(file: str) -> Iterator[_Cell]:
    """Undecoded audio of every recording of a Parquet file with a column `audio`, or of an audio file.

    Each has a `name` for errors.

    Raises:
        ValueError: If a row has none, or the file cannot be read.
    """
    if not file.lower().endswith(".parquet"):
        with fsspec.open(file, "rb") as content:
            yield {"bytes": content.read(), "path": file, "name": file}
        return
    with fsspec.open(file, "rb") as content:
        for row, cell in enumerate(parquet_cells(content, file)):
            if not isinstance(cell, dict) or all(cell.get(key) is None for key in ("array", "bytes", "path")):
                raise ValueError(f"row {row} of {file} has no audio; leave it out")
            yield cell | {"name": f"row {row} of {file}"}


def _seconds(cell: _Cell) -> float:
    """Duration as far as the header tells, by which recordings are drawn."""
    import soundfile

    if cell.get("array") is not None:
        return len(cell["array"]) / cell["sampling_rate"]
    source = io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else cell["path"]
    try:
        duration = soundfile.info(source).duration
    except soundfile.SoundFileError as error:
        raise ValueError(f"{cell['name']}: cannot read it as audio: {error}; repair or remove it") from error
    return min(max(duration, 0.01), 3600.0)


class _Window:
    """Consecutive recordings, decoded once each and only if a segment needs them."""

    def __init__(self, cells: list[_Cell], sampling_rate: int, pool: ThreadPoolExecutor):
        self._cells, self._rate, self._pool = cells, sampling_rate, pool
        self._ends = np.cumsum([_seconds(cell) for cell in cells])
        self._decoded: dict[int, Future[np.ndarray]] = {}

    def draw(self, rng: np.random.Generator) -> Future[np.ndarray]:
        """Samples (N,) int16 of a recording; every second is as likely."""
        index = int(np.searchsorted(self._ends, rng.uniform(0, self._ends[-1]), side="right"))
        if index not in self._decoded:
            self._decoded[index] = self._pool.submit(self._decode, self._cells[index])
        return self._decoded[index]

    def _decode(self, cell: _Cell) -> np.ndarray:
        return to_int16(named_audio(cell, self._rate, cell["name"]))


class AudioStream:
    """Random segments of recordings that are read in order: a window of some is drawn from, then the next.

    Files come in another order in every epoch, and several are read in turns. Which window a segment is drawn from
    depends on its number alone, so a resumed run goes on exactly; it reads what it skips of an epoch, undecoded.

    Args:
        sources: See `expand_urls`.
        sampling_rate: In Hz.
        ahead: How many segments later the next batch begins, to be decoded in the background.
        window: Recordings drawn from at a time; they and those of the next window are in memory.
        draws: Segments per recording of a window.
        interleave: Files read in turns.
    """

    def __init__(
        self,
        sources: list[str],
        sampling_rate: int,
        ahead: int,
        window: int = 256,
        draws: int = 8,
        interleave: int = 4,
    ):
        self._files = expand_urls(sources)
        self._rate, self._ahead, self._size, self._draws = sampling_rate, ahead, window, draws
        self._interleave = interleave
        self._pool = ThreadPoolExecutor(4, "decode")
        self._reader = ThreadPoolExecutor(1, "read")
        self._seed: int | None = None
        self._windows: dict[int, Future[_Window]] = {}

    def _cells(self, seed: int, skipped: int) -> Iterator[_Cell]:
        """Recordings of all epochs, without the first `skipped` ones; of epochs that are skipped one is read."""
        epoch = 0
        while True:
            found = 0
            for cell in self._epoch(seed, epoch):
                found += 1
                if skipped:
                    skipped -= 1
                else:
                    yield cell
            if not found:
                raise ValueError(f"no recordings in {self._files[0]} and {len(self._files) - 1} more files")
            epoch += 1 + skipped // found
            skipped %= found

    def _epoch(self, seed: int, epoch: int) -> Iterator[_Cell]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self._files))
        waiting = iter([self._files[i] for i in order])
        open_files = [read_cells(file) for file in itertools.islice(waiting, self._interleave)]
        while open_files:
            for place, cells in reversed(list(enumerate(open_files))):
                cell = next(cells, None)
                if cell is not None:
                    yield cell
                elif (file := next(waiting, None)) is not None:
                    open_files[place] = read_cells(file)
                else:
                    del open_files[place]

    def _window(self, seed: int, number: int) -> _Window:
        if seed != self._seed or (number not in self._windows and number < self._next):
            self._seed, self._next, self._windows = seed, number, {}
            self._rows = self._cells(seed, number * self._size)
        while self._next <= number + 1:  # the next one is read in the background
            self._windows[self._next] = self._reader.submit(self._read, self._rows)
            self._next += 1
        for old in [w for w in self._windows if w < number - 1]:
            del self._windows[old]
        return self._windows[number].result()

    def _read(self, rows: Iterator[_Cell]) -> _Window:
        return _Window(list(itertools.islice(rows, self._size)), self._rate, self._pool)

    def _draw(self, seed: int, segment: int) -> tuple[np.random.Generator, Future[np.ndarray]]:
        rng = np.random.default_rng([seed, segment])
        return rng, self._window(seed, segment // (self._size * self._draws)).draw(rng)

    def batch(self, seed: int, indices: range, num_samples: int, augmentation: Augmentation) -> Tensor:
        """Random segments (B, 1, num_samples); see `AudioCache.batch`."""
        drawn = [self._draw(seed, i) for i in indices]
        for i in indices:
            self._draw(seed, i + self._ahead)
        return torch.stack([augmentation.segment(f.result(), rng, num_samples) for rng, f in drawn])
