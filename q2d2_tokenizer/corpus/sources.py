"""A corpus of recordings as numbered rows: Parquet files, WebDataset tars, audio folders and lists of paths.

Rows have the same numbers and ids in every process and every run, so work on them can be split, stopped and resumed.
What cannot be read is a row too: every row of a damaged row group, and one row for what is missing of a damaged file.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..audio.reading import AUDIO_SUFFIXES
from .inputs import TarMember, list_entries, open_input, size_of, stop_unless_damaged, stopping_error, tar_members

_TEXT_MEMBERS = {"txt": "text", "text": "text", "json": "json", "cls": "cls"}  # suffix -> column
_BATCH_ROWS = 16


@dataclass(frozen=True)
class Batch:
    """Rows of a corpus.

    Args:
        ids: Of the rows.
        cells: What the audio column holds, bytes or a path; a `ValueError` where it cannot be read.
        columns: All other columns.
    """

    ids: list[str]
    cells: list[Any]
    columns: pa.Table


class Source:
    """One file of a corpus, or all its plain audio files.

    Args:
        name: Path below the common folder of the corpus; stays the same when the corpus is moved.
        path: Local path or URL.
    """

    num_recordings = 0
    schema = pa.schema([])  # of the columns that are kept
    damage: str | None = None
    """Why not all of it can be read; counts as one more row."""

    def __init__(self, name: str, path: str):
        self.name = name
        self.path = path

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

    def read(self, start: int, stop: int) -> Iterator[Batch]:
        """Rows `start` to `stop`, without the last."""
        yield from self._recordings(start, min(stop, self.num_recordings))
        if self.damage is not None and stop > self.num_recordings:
            yield self._lost([self.name], self.damage)

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        raise NotImplementedError

    def _lost(self, ids: list[str], why: str) -> Batch:
        columns = {field.name: pa.nulls(len(ids), field.type) for field in self.schema}
        return Batch(ids, [ValueError(why)] * len(ids), pa.table(columns, schema=self.schema))


class ParquetSource(Source):
    """Rows of a Parquet file.

    Args:
        name: See `Source`.
        path: See `Source`.
        audio_column: Holds bytes, a path, or both as `datasets.Audio` does.
        id_column: Holds the ids; made of `name` and the number of the row if None.
        drop_columns: Not kept.

    Raises:
        ValueError: If a column is missing, or that of the ids holds lists or the like.
        OSError: If the file cannot be read for a reason that is not the file.
    """

    def __init__(self, name: str, path: str, audio_column: str, id_column: str | None, drop_columns: list[str]):
        super().__init__(name, path)
        self.audio_column = audio_column
        try:
            with open_input(path) as file:
                parquet = pq.ParquetFile(file)
                schema, self.num_recordings = parquet.schema_arrow, parquet.metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            stop_unless_damaged(error, path)
            self.damage = f"cannot read the Parquet file: {error}"
            return
        for column in filter(None, [audio_column, id_column]):
            if column not in schema.names:
                raise ValueError(f"{path} has no column {column!r}, it has {schema.names}; name another one")
        self.id_column = id_column or ("id" if "id" in schema.names and "id" not in drop_columns else None)
        _check_id_type(schema, self.id_column, path)
        dropped = {audio_column, self.id_column, *drop_columns}
        self.schema = pa.schema([field for field in schema if field.name not in dropped], schema.metadata)

    def ids(self) -> pa.Array:
        """Ids of all recordings; only that column is read."""
        parts = [
            self._ids(group, first, 0, count)
            for group, first, count in self._row_groups()  # a damaged one must not spoil the others
        ]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    def _row_groups(self) -> list[tuple[int, int, int]]:
        """Number, first row and rows of each."""
        if not self.num_recordings:
            return []
        try:
            with open_input(self.path) as file:
                metadata = pq.ParquetFile(file).metadata
        except OSError as error:
            raise stopping_error(error, self.path) from error
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return [(group, sum(counts[:group]), count) for group, count in enumerate(counts)]

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
        for group, first, count in self._row_groups():
            lower, upper = max(start - first, 0), min(stop - first, count)
            if lower < upper:
                yield from self._read_group(group, lower, upper, self._ids(group, first, lower, upper).to_pylist())

    def _read_group(self, group: int, lower: int, upper: int, ids: list[str]) -> Iterator[Batch]:
        columns = [self.audio_column, *self.schema.names]
        done = position = 0
        try:
            with open_input(self.path) as file:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                for rows in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                    low, high = max(lower, position), min(upper, position + len(rows))
                    if low < high:
                        part = rows.slice(low - position, high - low)
                        cells = [self._cell(value) for value in part.column(self.audio_column).to_pylist()]
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


def _check_id_type(schema: pa.Schema, column: str | None, path: str) -> None:
    if column is None:
        return
    kind = schema.field(column).type
    try:
        pa.array([], kind).cast(pa.string())
    except pa.ArrowException as error:
        raise ValueError(
            f"{path}: the column {column!r} holds {kind}, which cannot be ids; name another one, or drop it"
        ) from error


class TarSource(Source):
    """Samples of a WebDataset tar: members that share the path up to the first dot.

    Text members become columns: `.txt` the column `text`, `.json` and `.cls` columns of that name. A sample that has
    several audio members, or a member twice, cannot be read: it does not say which one is meant.

    Args:
        name: See `Source`.
        path: See `Source`.
        drop_columns: Not kept.

    Raises:
        ValueError: If the file is compressed.
        OSError: If the file cannot be read for a reason that is not the file.
    """

    def __init__(self, name: str, path: str, drop_columns: list[str]):
        super().__init__(name, path)
        self._samples: dict[str, list[TarMember]] = {}
        try:
            for key, member in tar_members(path):
                self._samples.setdefault(key, []).append(member)
        except (OSError, tarfile.TarError, EOFError) as error:
            stop_unless_damaged(error, path)
            self.damage = f"the tar file is damaged or cut off: {error}"
        self.num_recordings = len(self._samples)
        suffixes = {member.suffix for members in self._samples.values() for member in members}
        columns = {_TEXT_MEMBERS[suffix] for suffix in suffixes & _TEXT_MEMBERS.keys()} - set(drop_columns)
        self.schema = pa.schema([(column, pa.string()) for column in sorted(columns)])

    def ids(self) -> pa.Array:
        """Name of the tar and key of each sample."""
        return pa.array([f"{self.name}/{key}" for key in self._samples], pa.string())

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        try:
            with open_input(self.path) as file:
                for key, members in list(self._samples.items())[start:stop]:
                    values = dict.fromkeys(self.schema.names)
                    for member in members:
                        column = _TEXT_MEMBERS.get(member.suffix)
                        if column in values and isinstance(content := self._content(file, member), bytes):
                            values[column] = content.decode(errors="replace")
                    table = pa.Table.from_pylist([values], self.schema)
                    yield Batch([f"{self.name}/{key}"], [self._audio(file, members)], table)
        except OSError as error:
            raise stopping_error(error, self.path) from error

    def _audio(self, file: BinaryIO, members: list[TarMember]) -> bytes | ValueError:
        names = sorted(member.name for member in members)
        audio = [member for member in members if f".{member.suffix.rsplit('.')[-1]}" in AUDIO_SUFFIXES]
        if not audio:
            return ValueError(f"no audio among {names}")
        if len(audio) > 1 or len({member.suffix for member in members}) < len(members):
            return ValueError(f"several members of one kind with the same key, the name up to the first dot: {names}")
        return self._content(file, audio[0])

    def _content(self, file: BinaryIO, member: TarMember) -> bytes | ValueError:
        file.seek(member.first_byte)
        content = file.read(member.size)
        return content if len(content) == member.size else ValueError(f"{self.name} is cut off within {member.name}")


class FilesSource(Source):
    """Audio files.

    Args:
        files: (name, path, other columns) of each.
    """

    def __init__(self, files: list[tuple[str, str, dict[str, str]]]):
        super().__init__("audio files", "")
        self._files = files
        self.num_recordings = len(files)
        columns = sorted({column for _, _, values in files for column in values})
        self.schema = pa.schema([(column, pa.string()) for column in columns])

    def identity(self) -> list[Any]:
        """Names and sizes."""
        return [[name, size_of(path), values] for name, path, values in self._files]

    def ids(self) -> pa.Array:
        """Names."""
        return pa.array([name for name, _, _ in self._files], pa.string())

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        for name, path, values in self._files[start:stop]:
            yield Batch([name], [path], pa.Table.from_pylist([values], self.schema))


@dataclass(frozen=True)
class RowRange:
    """Rows of one source that become one shard."""

    source: int
    start: int
    stop: int


class Corpus:
    """All rows of the inputs, in an order that does not depend on how they are named.

    Args:
        inputs: Parquet files, WebDataset tars, audio files, folders with these (and `metadata.csv` or
            `metadata.jsonl` with `file_name`), glob patterns, text files with one path a line (relative to the text
            file), URLs of Parquet files or tars (`hf://datasets/owner/name/**/train-*.parquet`), or data sets of the
            Hub that are Parquet files (`owner/name`: all of them).
        audio_column: See `ParquetSource`.
        id_column: See `ParquetSource`; the column `id` where there is one if None.
        drop_columns: Columns that are not kept.
        output: Where results are written; files in it are not taken for inputs where it lies below an input.

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
        entries = list_entries(inputs, output)
        self.sources: list[Source] = []
        plain = []
        for name, path, values in entries:
            if path.lower().endswith(".parquet"):
                self.sources.append(ParquetSource(name, path, audio_column, id_column, drop_columns))
            elif path.lower().endswith(".tar"):
                self.sources.append(TarSource(name, path, drop_columns))
            else:
                plain.append((name, path, {k: v for k, v in values.items() if k not in drop_columns}))
        if plain:
            self.sources.append(FilesSource(plain))
        if not self.num_rows:
            raise ValueError(f"there are no rows in {', '.join(inputs)}")

    @property
    def num_rows(self) -> int:
        """Of all sources."""
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
