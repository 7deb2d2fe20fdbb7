"""The one lister: which files inputs name, and how to open them; local ones, and URLs through fsspec."""

import csv
import errno
import glob
import io
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from ..audio.reading import AUDIO_SUFFIXES

ROW_SUFFIXES = (".parquet", ".tar")  # of files that hold many recordings
_SUFFIXES = AUDIO_SUFFIXES.union(ROW_SUFFIXES)
_DAMAGE = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}  # no such file
_DAMAGE |= {errno.EINVAL}  # of seeking to a place that a damaged file names


_File = tuple[str, dict[str, str | None]]  # path or URL, and other columns


class Entry(NamedTuple):
    """A file of the inputs.

    Args:
        name: Path below the folder that all files share, or the URL.
        path: Absolute path or URL.
        columns: Values from metadata, by name of the column.
    """

    name: str
    path: str
    columns: dict[str, str | None]


def open_input(path: str) -> Any:
    """A file or URL, to read bytes from."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


def size_of(path: str) -> int | None:
    """Bytes of a file or URL; None if there is no such file."""
    if "://" in path:
        filesystem, inner = fsspec.core.url_to_fs(path)
        return filesystem.info(inner)["size"]
    return os.path.getsize(path) if os.path.exists(path) else None


def version_of(path: str) -> str:
    """What changes when a file or what is behind a URL does.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if "://" in path:
        filesystem, inner = fsspec.core.url_to_fs(path)
        return f"{path}:{filesystem.ukey(inner)}"
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such audio file: {path}; take it out of the list or metadata that name it")
    stat = os.stat(path)
    return f"{Path(path).resolve()}:{stat.st_size}:{stat.st_mtime_ns}"


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


def matching_paths(pattern: str) -> list[Path]:
    """What a path or a glob pattern names, sorted; a path that exists is no pattern, whatever brackets it holds."""
    names = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    return [Path(name) for name in names]


def local_files(item: str, suffixes: Collection[str]) -> list[Path]:
    """Files with these endings (in lower case) that a path, a folder or a glob pattern names, each once.

    Folders, also those that a pattern matches, are searched to any depth.
    """
    found = [file for path in matching_paths(item) for file in (path.rglob("*") if path.is_dir() else [path])]
    files = {file for file in found if file.suffix.lower() in suffixes and file.is_file()}
    return sorted(files, key=_order(item))


def _order(item: str) -> Any:
    """Files of a folder come folder by folder, those of a pattern by their names."""
    return Path if os.path.isdir(item) else str


def list_entries(inputs: list[str], output: str | None = None, keep_order: bool = False) -> list[Entry]:
    """All Parquet, tar and audio files of the inputs.

    Args:
        inputs: Files, folders (with `metadata.csv` or `metadata.jsonl` that name files in the column `file_name`),
            glob patterns, text files with one path a line (relative to the text file), URLs, or data sets of the Hub
            (`owner/name`). Of URLs and the Hub, audio files are taken only where there are no Parquet and tar files.
        output: Folder of results; files in it are no inputs where it lies below the folder of an input.
        keep_order: Keep the order of the inputs and of the lines of lists, so that an input named twice comes twice in
            its place; else all files are sorted by name.

    Raises:
        ValueError: If there are no files at an input, or a text file is not UTF-8.
        OSError: If an input cannot be listed.
    """
    found: list[_File] = []
    for item in inputs:
        files = _without(output, _folder_of(item), _list_input(item)) if output else _list_input(item)
        if not files:
            raise ValueError(f"no Parquet, tar or audio files at {item!r}")
        found += files
    local = [os.path.dirname(path) for path, _ in found if "://" not in path]
    root = os.path.commonpath(local) if local else ""
    entries = [
        Entry(path if "://" in path else Path(path).relative_to(root).as_posix(), path, columns)
        for path, columns in found
    ]
    return entries if keep_order else sorted(entries, key=lambda entry: entry.name)


def _folder_of(item: str) -> Path:
    """The folder that an input is searched from."""
    if os.path.exists(item) or not glob.has_magic(item):
        return Path(item)
    parts = Path(item).parts
    return Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])


def _without(output: str, folder: Path, files: list[_File]) -> list[_File]:
    """Files that are not results of an earlier run, for which the output has to be below the folder."""
    results = Path(output).resolve()
    if folder.resolve() not in results.parents:
        return files
    return [(path, more) for path, more in files if "://" in path or results not in Path(path).resolve().parents]


def _list_input(item: str) -> list[_File]:
    matches = matching_paths(item)
    if "://" in item or (not matches and re.fullmatch(r"[\w.-]+/[\w.-]+", item)):
        return [(url, {}) for url in _list_url(item if "://" in item else f"hf://datasets/{item}")]
    found: dict[str, dict[str, str | None]] = {os.path.abspath(file): {} for file in local_files(item, _SUFFIXES)}
    for folder in filter(Path.is_dir, matches):
        for path, columns in _read_metadata(folder).items():  # also of files that are not there
            found[path] = found.get(path) or columns
    listed = [path for path in matches if item.lower().endswith(".txt") and path.is_file()]  # else maybe transcripts
    return [
        *sorted(found.items(), key=lambda file: _order(item)(file[0])),
        *((path, {}) for file in listed for path in _read_list(file)),
    ]


def _list_url(url: str) -> list[str]:
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        if glob.has_magic(root):
            files = sorted(filesystem.glob(root))
        else:
            files = [root] if filesystem.isfile(root) else sorted(filesystem.find(root))
    except (OSError, ValueError, ImportError) as error:
        raise OSError(f"cannot list {url}: {error}; a local input must exist") from error
    for suffixes in (ROW_SUFFIXES, tuple(AUDIO_SUFFIXES)):  # audio beside tables shows what they hold
        if wanted := [path for path in files if path.lower().endswith(suffixes)]:
            return [filesystem.unstrip_protocol(path) for path in wanted]
    return []


def _read_list(path: Path) -> list[str]:
    lines = [line.strip() for line in _read_text(path).splitlines()]
    return [os.path.normpath(Path(os.path.abspath(path)).parent / line) for line in lines if line]


def _read_metadata(folder: Path) -> dict[str, dict[str, str | None]]:
    """Columns by absolute path, of the metadata files of an audio folder."""
    found: dict[str, dict[str, str | None]] = {}
    for path in sorted(Path(os.path.abspath(folder)).rglob("metadata.*")):
        if path.suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(_read_text(path), newline="")))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in _read_text(path).splitlines() if line.strip()]
        else:
            continue
        for row in rows:
            if "file_name" not in row:
                raise ValueError(f"{path} has no column 'file_name'; rename the column, or the file if it is none")
            target = os.path.normpath(path.parent / row.pop("file_name"))
            found[target] = {name: value if value is None else str(value) for name, value in row.items()}
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # with line ends as they are, as csv needs it
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; convert it") from error
