"""Parquet files of recordings."""

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .inputs import open_input, stop_unless_damaged
from .rows import Batch, Columns, Source

_BATCH_ROWS = 16


class ParquetSource(Source):
    """Rows of a Parquet file.

    Without a column of ids, they are made of `name` and the number of the row. The arguments are those of `Source`.

    Raises:
        ValueError: If a column is missing, or that of the ids holds lists or the like.
        OSError: If the file cannot be read for a reason that is not the file.
    """

    def __init__(self, name: str, path: str, columns: Columns):
        super().__init__(name, path, columns)
        self._row_groups: list[tuple[int, int, int]] = []  # number, first row and rows of each
        try:
            with open_input(path) as file:
                parquet = pq.ParquetFile(file)
                schema, metadata = parquet.schema_arrow, parquet.metadata
        except (OSError, pa.ArrowException) as error:
            stop_unless_damaged(error, path)
            self.damage = f"cannot read the Parquet file: {error}"
            return
        self.names = frozenset(schema.names)
        self.num_recordings = metadata.num_rows
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._row_groups = [(group, sum(counts[:group]), count) for group, count in enumerate(counts)]
        for column in filter(None, [columns.audio, columns.id]):
            if column not in schema.names:
                raise ValueError(f"{path} has no column {column!r}, it has {schema.names}; name another one")
        self.id_column = columns.id or ("id" if "id" in schema.names and columns.keeps("id") else None)
        if self.id_column is not None:
            _check_id_type(schema, self.id_column, path)
        kept = [field for field in schema if field.name not in (columns.audio, self.id_column)]
        self.schema = pa.schema([field for field in kept if columns.keeps(field.name)], schema.metadata)

    def ids(self) -> pa.Array:
        """Ids of all recordings; only that column is read."""
        parts = [self._ids(group, first, 0, count) for group, first, count in self._row_groups]  # damaged ones alone
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    def _ids(self, group: int, first: int, start: int, stop: int) -> pa.Array:
        numbered = pa.array([f"{self.name}/{row}" for row in range(first + start, first + stop)], pa.string())
        if self.id_column is None:
            return numbered
        try:
            with open_input(self.path) as file:
                table = pq.ParquetFile(file).read_row_group(group, columns=[self.id_column], use_threads=False)
        except (OSError, pa.ArrowException) as error:
            stop_unless_damaged(error, self.path)
            return numbered
        ids = table.column(0).combine_chunks().cast(pa.string())
        return pc.coalesce(ids.slice(start, stop - start), numbered)

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        for group, first, count in self._row_groups:
            lower, upper = max(start - first, 0), min(stop - first, count)
            if lower < upper:
                yield from self._read_group(group, lower, upper, self._ids(group, first, lower, upper).to_pylist())

    def _read_group(self, group: int, lower: int, upper: int, ids: list[str]) -> Iterator[Batch]:
        audio = self.columns.audio
        names = [*([] if audio is None else [audio]), *self.schema.names]
        done = position = 0
        try:
            with open_input(self.path) as file:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                for rows in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                    low, high = max(lower, position), min(upper, position + len(rows))
                    if low < high:
                        part = rows.slice(low - position, high - low)
                        values = [None] * len(part) if audio is None else part.column(audio).to_pylist()
                        cells = [self._cell(value) for value in values]
                        kept = pa.Table.from_batches([part.select(self.schema.names)])
                        yield Batch(ids[done : done + len(part)], cells, kept)
                        done += len(part)
                    position += len(rows)
                    if position >= upper:
                        return
        except (OSError, pa.ArrowException) as error:
            stop_unless_damaged(error, self.path)
            yield self._lost(ids[done:], f"cannot read row group {group} of {self.name}: {error}")

    def _cell(self, value: Any) -> Any:
        """The cell with a path relative to this file made absolute."""
        path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else value
        if isinstance(path, str) and os.path.exists(os.path.join(os.path.dirname(self.path), path)):
            return os.path.join(os.path.dirname(self.path), path)
        return value


def _check_id_type(schema: pa.Schema, column: str, path: str) -> None:
    kind = schema.field(column).type
    try:
        pa.array([], kind).cast(pa.string())
    except pa.ArrowException as error:
        raise ValueError(
            f"{path}: the column {column!r} holds {kind}, which cannot be ids; name another one, or drop it"
        ) from error
