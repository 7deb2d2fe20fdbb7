"""Which files the inputs of a corpus name, and how to open them: local ones, and URLs through fsspec."""

import csv
import errno
import glob
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from ..audio.reading import AUDIO_SUFFIXES, matching_paths

_SUFFIXES = AUDIO_SUFFIXES | {".parquet", ".tar"}
_DAMAGE = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}  # no such file
_DAMAGE |= {errno.EINVAL}  # of seeking to a place that a damaged file names
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # first bytes

Entry = tuple[str, dict[str, str]]
"""Path or URL of a file, and its other columns."""


def open_input(path: str) -> Any:
    """A file or URL, to read bytes from."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


def size_of(path: str) -> int | None:
    """Bytes of a file or URL; None if there is no such file."""
    if "://" in path:
        filesystem, inner = fsspec.core.url_to_fs(path)
        return filesystem.info(inner)["size"]
    return os.path.getsize(path) if os.path.exists(path) else None


def stop_unless_damaged(error: Exception, path: str) -> None:
    """Tell an error that a file is damaged or missing from one that may be gone in the next run.

    Raises:
        OSError: Unless the file is damaged or missing.
    """
    if not isinstance(error, OSError):
        return
    # Arrow says with a plain OSError that a file is damaged; errors of the network are subclasses without a number.
    damaged = type(error) is OSError if error.errno is None else error.errno in _DAMAGE
    if "://" in path or not (damaged or isinstance(error, FileNotFoundError | IsADirectoryError)):
        raise stopping_error(error, path) from error


def stopping_error(error: OSError, path: str) -> OSError:
    """An error that stops the run and names the file."""
    return OSError(f"cannot read {path}: {error}; nothing was rejected for that, run again when it can be read")


@dataclass(frozen=True)
class TarMember:
    """A file of a tar.

    Args:
        suffix: What follows its key, in lower case.
        name: The whole of it.
        first_byte: Of its content.
        size: Of its content in bytes.
    """

    suffix: str
    name: str
    first_byte: int
    size: int


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
                    key, suffix = re.fullmatch(r"((?:.*/)?[^/.]*)\.?([^/]*)", member.name).groups()
                    yield key, TarMember(suffix.lower(), member.name, member.offset_data, member.size)


def list_entries(inputs: list[str], output: str | None = None) -> list[tuple[str, str, dict[str, str]]]:
    """(name, path or URL, other columns) of each file, sorted by name, the path below the folder they share.

    Args:
        inputs: See `Corpus`.
        output: See `Corpus`.

    Raises:
        ValueError: If there are no files at an input, or a text file is not UTF-8.
        OSError: If an input cannot be listed.
    """
    found: list[Entry] = []
    for item in inputs:
        files = _without(output, _folder_of(item), _list_input(item)) if output else _list_input(item)
        if not files:
            raise ValueError(f"no Parquet, tar or audio files at {item!r}")
        found += files
    local = [os.path.dirname(path) for path, _ in found if "://" not in path]
    root = os.path.commonpath(local) if local else ""
    named = [(path if "://" in path else Path(path).relative_to(root).as_posix(), path, more) for path, more in found]
    return sorted(named, key=lambda entry: entry[0])


def _folder_of(item: str) -> Path:
    """The folder that an input is searched from."""
    if os.path.exists(item) or not glob.has_magic(item):
        return Path(item)
    parts = Path(item).parts
    return Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])


def _without(output: str, folder: Path, files: list[Entry]) -> list[Entry]:
    """Files that are not results of an earlier run, for which the output has to be below the folder."""
    results = Path(output).resolve()
    if folder.resolve() not in results.parents:
        return files
    return [(path, more) for path, more in files if "://" in path or results not in Path(path).resolve().parents]


def _list_input(item: str) -> list[Entry]:
    paths = [Path(os.path.abspath(path)) for path in matching_paths(item)]  # without .., as metadata is looked up
    if "://" in item or (not paths and re.fullmatch(r"[\w.-]+/[\w.-]+", item)):
        return _list_url(item if "://" in item else f"hf://datasets/{item}")
    listed: list[Entry] = []
    found: dict[str, dict[str, str]] = {}  # a pattern may match a folder and the files in it
    for path in paths:
        if path.is_dir():
            files = _list_folder(path)
        elif path.suffix.lower() == ".txt" and item.lower().endswith(".txt"):  # other patterns match transcripts too
            lines = [line.strip() for line in _read_text(path).splitlines()]
            listed += [(os.path.normpath(path.parent / line), {}) for line in lines if line]
            continue
        else:
            files = [(str(path), {})] if path.suffix.lower() in _SUFFIXES else []
        for name, columns in files:
            found[name] = found.get(name) or columns
    return [*found.items(), *listed]


def _list_folder(folder: Path) -> list[Entry]:
    """Files of a folder, and those that its metadata name although they are not there."""
    metadata = _read_metadata(folder)
    files = [str(path) for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()]
    return [(path, metadata.get(path, {})) for path in dict.fromkeys([*files, *metadata])]


def _list_url(url: str) -> list[Entry]:
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        files = filesystem.glob(root) if glob.has_magic(root) else filesystem.find(root)
    except (OSError, ValueError, ImportError) as error:
        raise OSError(f"cannot list {url}: {error}; a local input must exist") from error
    wanted = [path for path in files if path.lower().endswith((".parquet", ".tar"))]
    return [(filesystem.unstrip_protocol(path), {}) for path in wanted]


def _read_metadata(folder: Path) -> dict[str, dict[str, str]]:
    """Columns by path, of the metadata files of an audio folder."""
    found = {}
    for path in sorted(folder.rglob("metadata.*")):
        if path.suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(_read_text(path), newline="")))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in _read_text(path).splitlines() if line.strip()]
        else:
            continue
        for row in rows:
            if "file_name" not in row:
                raise ValueError(f"{path} has no column 'file_name'")
            target = os.path.normpath(path.parent / row.pop("file_name"))
            found[target] = {name: value if value is None else str(value) for name, value in row.items()}
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # with line ends as they are, as csv needs it
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; convert it") from error
