"""The one reader: recordings of Parquet files, WebDataset tars, audio folders and lists of paths as numbered rows.

Rows have the same numbers and ids in every process and every run, so work on them can be split, stopped and resumed.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .inputs import ROW_SUFFIXES, Entry, find_entries, open_input, size_of, stopping_error
from .parquet import ParquetSource
from .rows import Batch, Columns, Source
from .tar import TarSource


class FilesSource(Source):
    """Audio files.

    Args:
        files: The files.
        columns: See `Columns`.
    """

    def __init__(self, files: list[Entry], columns: Columns):
        super().__init__("audio files", "", columns)
        self.names = frozenset(name for file in files for name in file.columns)
        self._files = [
            file._replace(columns={name: value for name, value in file.columns.items() if columns.keeps(name)})
            for file in files
        ]
        self.num_recordings = len(files)
        names = sorted({name for file in self._files for name in file.columns})
        self.schema = pa.schema([(name, pa.string()) for name in names])

    def identity(self) -> list[Any]:
        """Names and sizes."""
        return [[name, size_of(path), values] for name, path, values in self._files]

    def ids(self) -> pa.Array:
        """Names."""
        return pa.array([name for name, _, _ in self._files], pa.string())

    def label(self, row: int) -> str:
        """The path."""
        return self._files[row].path

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        for name, path, values in self._files[start:stop]:
            cell = _content(path) if "://" in path and self.columns.audio is not None else path
            yield Batch([name], [cell], pa.Table.from_pylist([values], self.schema))


def _content(url: str) -> bytes:
    try:
        with open_input(url) as file:
            return file.read()
    except OSError as error:
        raise stopping_error(error, url) from error


def open_source(entry: Entry, columns: Columns) -> Source:
    """The rows of one file.

    Raises:
        ValueError: If it lacks a column, or is a compressed tar.
        OSError: If it cannot be read for a reason that is not the file.
    """
    if entry.path.lower().endswith(".parquet"):
        return ParquetSource(entry.name, entry.path, columns)
    if entry.path.lower().endswith(".tar"):
        return TarSource(entry.name, entry.path, columns)
    return FilesSource([entry], columns)


@dataclass(frozen=True)
class RowRange:
    """Rows of one source that become one shard."""

    source: int
    start: int
    stop: int


class Corpus:
    """All rows of the inputs, in an order that does not depend on how they are named.

    Args:
        inputs: See `find_entries`.
        audio_column: See `Columns`.
        id_column: See `Columns`.
        drop_columns: Columns that are not kept.
        output: See `find_entries`.

    Attributes:
        left_out: Files and members of tars that are not read, by their endings.

    Raises:
        ValueError: If there are no rows, a column is missing, or files have columns of different types.
        OSError: If an input cannot be listed or read.
    """

    def __init__(
        self,
        inputs: list[str],
        audio_column: str = "audio",
        id_column: str | None = None,
        drop_columns: list[str] | None = None,
        output: str | None = None,
    ):
        drop_columns = sorted(set(drop_columns or []))
        self.options = {"audio_column": audio_column, "id_column": id_column, "drop_columns": drop_columns}
        columns = Columns(audio_column, id_column, tuple(drop_columns))
        entries, self.left_out = find_entries(inputs, output)
        plain = [entry for entry in entries if not entry.path.lower().endswith(ROW_SUFFIXES)]
        self.sources = [open_source(entry, columns) for entry in entries if entry.path.lower().endswith(ROW_SUFFIXES)]
        for source in self.sources:
            self.left_out += source.left_out
        if plain:
            self.sources.append(FilesSource(plain, columns))
        if not self.num_rows:
            raise ValueError(f"there are no rows in {', '.join(inputs)}")
        names = set().union(*(source.names for source in self.sources))
        if unknown := set(drop_columns) - names:
            raise ValueError(f"drop_columns names {sorted(unknown)}, the inputs have the columns {sorted(names)}")

    @property
    def num_rows(self) -> int:
        """Rows of all sources."""
        return sum(source.num_rows for source in self.sources)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns that are kept, of all sources; where a source lacks one, its rows have nulls.

        Raises:
            ValueError: If sources have columns of one name and different types.
        """
        schema = self.sources[0].schema
        for source in self.sources[1:]:
            try:
                schema = pa.unify_schemas([schema, source.schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise ValueError(f"{source.name} does not fit the files before it: {error}") from error
        return schema

    def digest(self) -> str:
        """Sixteen hex digits of names, sizes and numbers of rows of all files."""
        content = json.dumps([source.identity() for source in self.sources])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def split(self, rows_per_shard: int) -> list[RowRange]:
        """The shards; each holds rows of one source."""
        return [
            RowRange(number, start, min(start + rows_per_shard, source.num_rows))
            for number, source in enumerate(self.sources)
            for start in range(0, source.num_rows, rows_per_shard)
        ]

    def read(self, rows: RowRange) -> Iterator[Batch]:
        """The rows of a shard."""
        return self.sources[rows.source].read(rows.start, rows.stop)

    def check_ids(self) -> None:
        """Refuse ids that occur more than once.

        Raises:
            ValueError: Names some of them.
        """
        counts = pc.value_counts(pa.chunked_array([source.ids() for source in self.sources], pa.string()))
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        if len(repeated):
            raise ValueError(
                f"{len(repeated)} ids occur more than once, such as {repeated[:3].to_pylist()}; remove the repeated "
                "rows, name another id column, or drop the column of ids, so that files and row numbers identify rows"
            )
