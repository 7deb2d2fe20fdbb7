"""WebDataset tars of recordings."""

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from ..audio.errors import AudioError, UnreadableAudioError
from ..audio.reading import AUDIO_SUFFIXES
from .inputs import count_left_out, open_input, stop_unless_damaged, stopping_error
from .rows import Batch, Columns, Source

_TEXT_MEMBERS = {"txt": "text", "text": "text", "json": "json", "cls": "cls"}  # suffix -> column
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # first bytes


@dataclass(frozen=True)
class TarMember:
    """A file of a tar.

    Args:
        suffix: What follows its key, in lower case.
        name: The whole of it.
        first_byte: Place of its content in the tar.
        size: Bytes of its content.
    """

    suffix: str
    name: str
    first_byte: int
    size: int

    @property
    def kind(self) -> str:
        """What follows the last dot."""
        return self.suffix.rpartition(".")[2]

    @property
    def is_audio(self) -> bool:
        """Whether it is audio that is read."""
        return f".{self.kind}" in AUDIO_SUFFIXES


def tar_members(path: str) -> Iterator[tuple[str, TarMember]]:
    """Files of a tar, each with its key: the path up to the first dot of the name.

    Raises:
        ValueError: If the tar is compressed.
        tarfile.TarError: If it is damaged; maybe after some files.
    """
    with open_input(path) as file:
        start = file.read(8)
        for first_bytes, kind in _COMPRESSED.items():
            if start.startswith(first_bytes):
                raise ValueError(f"{path} is compressed with {kind}, so its rows cannot be found; decompress it first")
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    folder, slash, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    yield folder + slash + stem, TarMember(suffix.lower(), member.name, member.offset_data, member.size)


class TarSource(Source):
    """Samples of a WebDataset tar: members that share the path up to the first dot.

    Text members become columns: `.txt` the column `text`, `.json` and `.cls` columns of that name; `x.a.txt` the column
    `a.txt`, but the column `text` beside `x.a.wav`, since the names of both have a dot then. A sample that has several
    audio members, or a member twice, cannot be read: it does not say which one is meant.

    The arguments are those of `Source`.

    Raises:
        ValueError: If the file is compressed.
        OSError: If the file cannot be read for a reason that is not the file.
    """

    def __init__(self, name: str, path: str, columns: Columns):
        super().__init__(name, path, columns)
        self._samples: dict[str, list[TarMember]] = {}
        try:
            for key, member in tar_members(path):
                self._samples.setdefault(key, []).append(member)
        except (OSError, tarfile.TarError, EOFError) as error:
            stop_unless_damaged(error, path)
            self.damage = f"the tar file is damaged or cut off: {error}"
        self._keys = list(self._samples)
        self.num_recordings = len(self._keys)
        members = [member for members in self._samples.values() for member in members]
        others = [member.name for member in members if not member.is_audio and member.kind not in _TEXT_MEMBERS]
        self.left_out: Counter[str] = count_left_out(others, path)
        found = {column for members in self._samples.values() for column in _text_columns(members)}
        self.names = frozenset(found)
        self.schema = pa.schema([(column, pa.string()) for column in sorted(found) if columns.keeps(column)])

    def ids(self) -> pa.Array:
        """Name of the tar and key of each sample."""
        return pa.array([f"{self.name}/{key}" for key in self._samples], pa.string())

    def label(self, row: int) -> str:
        """Key and path."""
        return f"{self._keys[row]} of {self.path}" if row < self.num_recordings else self.path

    def _recordings(self, start: int, stop: int) -> Iterator[Batch]:
        try:
            with open_input(self.path) as file:
                for key, members in list(self._samples.items())[start:stop]:
                    table = pa.Table.from_pylist([self._texts(file, members)], self.schema)
                    cell = None if self.columns.audio is None else self._audio(file, members)
                    yield Batch([f"{self.name}/{key}"], [cell], table)
        except OSError as error:
            raise stopping_error(error, self.path) from error

    def _texts(self, file: BinaryIO, members: list[TarMember]) -> dict[str, str | None]:
        values: dict[str, str | None] = dict.fromkeys(self.schema.names)
        for column, member in _text_columns(members).items():
            if column in values and isinstance(content := self._content(file, member), bytes):
                values[column] = content.decode("utf-8-sig", errors="replace")
        return values

    def _audio(self, file: BinaryIO, members: list[TarMember]) -> bytes | AudioError:
        names = sorted(member.name for member in members)
        audio = [member for member in members if member.is_audio]
        if not audio:
            return UnreadableAudioError(f"no audio among {names}")
        if len(audio) > 1 or len({member.suffix for member in members}) < len(members):
            why = f"several members of one kind with the same key, the name up to the first dot: {names}"
            return UnreadableAudioError(why)
        return self._content(file, audio[0])

    def _content(self, file: BinaryIO, member: TarMember) -> bytes | AudioError:
        file.seek(member.first_byte)
        content = file.read(member.size)
        if len(content) < member.size:
            return UnreadableAudioError(f"{self.name} is cut off within {member.name}")
        return content


def _text_columns(members: list[TarMember]) -> dict[str, TarMember]:
    """Text members of a sample by the columns that they become."""
    before = next((member.suffix.rpartition(".")[0] for member in members if member.is_audio), "")
    columns: dict[str, TarMember] = {}
    for member in sorted(members, key=lambda member: member.suffix.rpartition(".")[0] != before):
        if member.kind in _TEXT_MEMBERS:
            is_plain = member.suffix.rpartition(".")[0] in ("", before)
            column = _TEXT_MEMBERS[member.kind] if is_plain else member.suffix
            columns[member.suffix if column in columns else column] = member
    return columns
