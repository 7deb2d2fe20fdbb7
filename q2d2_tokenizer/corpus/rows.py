"""Files of recordings as numbered rows, whatever the kind of file.

What cannot be read is a row too: every row of a damaged row group, and one row for what is missing of a damaged file.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..audio.errors import UnreadableAudioError
from .inputs import size_of


@dataclass(frozen=True)
class Columns:
    """Which columns of a file mean what, and which are kept.

    Args:
        audio: Holds the audio in Parquet files: bytes, a path, or both as `datasets.Audio` does. If None, no audio is
            read from files of any kind: cells are None.
        id: Holds the ids in Parquet files; the column `id` where there is one and it is kept if None.
        drop: Not kept.
        only: Alone are kept; all others if None.
    """

    audio: str | None = "audio"
    id: str | None = None
    drop: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None

    def keeps(self, name: str) -> bool:
        """Whether a column is kept besides those of audio and ids."""
        return name not in self.drop and (self.only is None or name in self.only)


@dataclass(frozen=True)
class Batch:
    """Rows of a corpus.

    Args:
        ids: Ids of the rows.
        cells: What the audio column holds, bytes or a path; an `AudioError` where it cannot be read.
        columns: All other columns.
    """

    ids: list[str]
    cells: list[Any]
    columns: pa.Table


class Source:
    """One file of recordings, or several plain audio files.

    Args:
        name: Path below the common folder of the inputs; stays the same when they are moved.
        path: Local path or URL.
        columns: What is kept.
    """

    num_recordings = 0
    schema = pa.schema([])  # of the columns that are kept
    names: frozenset[str] = frozenset()
    """Columns that the file has, kept or not."""
    left_out: Counter[str] = Counter()  # of what is in it but not read, by ending
    damage: str | None = None
    """Why not all of it can be read; counts as one more row."""

    def __init__(self, name: str, path: str, columns: Columns):
        self.name = name
        self.path = path
        self.columns = columns

    @property
    def num_rows(self) -> int:
        """Recordings, and one for what is missing."""
        return self.num_recordings + (self.damage is not None)

    def identity(self) -> list[Any]:
        """What changes if the source does."""
        return [self.name, size_of(self.path), self.num_rows]

    def ids(self) -> pa.Array:
        """Ids of all recordings, as strings."""
        raise NotImplementedError

    def label(self, row: int) -> str:
        """What errors call a row; the one for what is missing is the file."""
        return f"row {row} of {self.path}" if row < self.num_recordings else self.path

    def cells(self) -> Iterator[tuple[str, Any]]:
        """Audio of every row, each with its label."""
        rows = itertools.count()
        for batch in self.read(0, self.num_rows):
            for cell in batch.cells:
                yield self.label(next(rows)), cell

    def read(self, start: int, stop: int) -> Iterator[Batch]:
        """Rows `start` to `stop`, without the last."""
        yield from self._recordings(start, min(stop, self.num_recordings))
        if self.damage is not None and stop > self.num_recordings:
            yield self._lost([self.name], self.damage)

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        raise NotImplementedError

    def _lost(self, ids: list[str], why: str) -> Batch:
        columns = {field.name: pa.nulls(len(ids), field.type) for field in self.schema}
        return Batch(ids, [UnreadableAudioError(why)] * len(ids), pa.table(columns, schema=self.schema))
