"""Training data without a cache: recordings are read in order, near or far, and decoded when a segment needs them."""

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.reading import to_int16
from ..corpus.cells import announced_seconds
from ..corpus.inputs import Entry, list_entries
from ..corpus.rows import Columns
from ..corpus.sources import open_source
from .augmentation import Augmentation
from .data import named_audio

_Cell = tuple[str, Any]
"""Audio of a row, and before it what errors call it."""


def _seconds(name: str, cell: Any, sampling_rate: int) -> float:
    """Duration, by which recordings are drawn."""
    seconds = announced_seconds(cell)
    if seconds is None:  # decoding it tells what is wrong
        seconds = len(named_audio(cell, sampling_rate, name)) / sampling_rate
    return max(seconds, 0.01)


class _Window:
    """Consecutive recordings, decoded once each and only if a segment needs them."""

    def __init__(self, cells: list[_Cell], sampling_rate: int, pool: ThreadPoolExecutor):
        self._cells, self._rate, self._pool = cells, sampling_rate, pool
        self._ends = np.cumsum([_seconds(name, cell, sampling_rate) for name, cell in cells])
        self._decoded: dict[int, Future[np.ndarray]] = {}

    def draw(self, rng: np.random.Generator) -> Future[np.ndarray]:
        """Samples (N,) int16 of a recording; every second is as likely."""
        index = int(np.searchsorted(self._ends, rng.uniform(0, self._ends[-1]), side="right"))
        if index not in self._decoded:
            self._decoded[index] = self._pool.submit(self._decode, *self._cells[index])
        return self._decoded[index]

    def _decode(self, name: str, cell: Any) -> np.ndarray:
        return to_int16(named_audio(cell, self._rate, name))


class AudioStream:
    """Random segments of recordings that are read in order: a window of some is drawn from, then the next.

    Files come in another order in every epoch, and several are read in turns. Which window a segment is drawn from
    depends on its number alone, so a resumed run goes on exactly; it reads what it skips of an epoch, undecoded.

    Args:
        sources: See `list_entries`; one that is named twice counts twice.
        sampling_rate: In Hz.
        ahead: How many segments later the next batch begins, to be decoded in the background.
        window: Recordings drawn from at a time; they and those of the next window are in memory.
        draws: Segments per recording of a window.
        interleave: Files read in turns.
        audio_column: Column of Parquet files that holds the audio.
        output: Folder of the run; files in it are no data, see `list_entries`.
    """

    def __init__(
        self,
        sources: list[str],
        sampling_rate: int,
        ahead: int,
        window: int = 256,
        draws: int = 8,
        interleave: int = 4,
        audio_column: str = "audio",
        output: str | None = None,
    ):
        self._files = list_entries(sources, output, keep_order=True)
        self._columns = Columns(audio_column, only=())
        self._rate, self._ahead, self._size, self._draws = sampling_rate, ahead, window, draws
        self._interleave = interleave
        self._pool = ThreadPoolExecutor(4, "decode")
        self._reader = ThreadPoolExecutor(1, "read")
        self._seed: int | None = None
        self._next = 0
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
                raise ValueError(f"no recordings in {self._files[0].path} and {len(self._files) - 1} more files")
            epoch += 1 + skipped // found
            skipped %= found

    def _epoch(self, seed: int, epoch: int) -> Iterator[_Cell]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self._files))
        waiting = iter([self._files[i] for i in order])
        open_files = [self._read_file(file) for file in itertools.islice(waiting, self._interleave)]
        while open_files:
            for place, cells in reversed(list(enumerate(open_files))):
                cell = next(cells, None)
                if cell is not None:
                    yield cell
                elif (file := next(waiting, None)) is not None:
                    open_files[place] = self._read_file(file)
                else:
                    del open_files[place]

    def _read_file(self, entry: Entry) -> Iterator[_Cell]:
        return open_source(entry, self._columns).cells()

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
