"""Which files the inputs of a corpus name, and how to open them: local ones, and URLs through fsspec."""

import csv
import glob
import json
import os
import re
from pathlib import Path
from typing import Any

import fsspec

from .audio import AUDIO_SUFFIXES, matching_paths

_SUFFIXES = AUDIO_SUFFIXES | {".parquet", ".tar"}


def open_input(path: str) -> Any:
    """A file or URL, to read bytes from."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


def size_of(path: str) -> int | None:
    """Bytes of a file or URL; None if there is no such file."""
    if "://" in path:
        filesystem, inner = fsspec.core.url_to_fs(path)
        return filesystem.info(inner)["size"]
    return os.path.getsize(path) if os.path.exists(path) else None


def list_entries(inputs: list[str]) -> list[tuple[str, str, dict[str, str]]]:
    """(name, path or URL, other columns) of each file, sorted by name, the path below the folder they share.

    Args:
        inputs: See `Corpus`.

    Raises:
        ValueError: If there are no files at an input.
        OSError: If an input cannot be listed.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for item in inputs:
        files = _list_input(item)
        if not files:
            raise ValueError(f"no Parquet, tar or audio files at {item!r}")
        found += files
    local = [os.path.dirname(path) for path, _ in found if "://" not in path]
    root = os.path.commonpath(local) if local else ""
    named = [(path if "://" in path else Path(path).relative_to(root).as_posix(), path, more) for path, more in found]
    return sorted(named, key=lambda entry: entry[0])


def _list_input(item: str) -> list[tuple[str, dict[str, str]]]:
    paths = [Path(os.path.abspath(path)) for path in matching_paths(item)]  # without .., as metadata is looked up
    if "://" in item or (not paths and re.fullmatch(r"[\w.-]+/[\w.-]+", item)):
        return _list_url(item if "://" in item else f"hf://datasets/{item}")
    if os.path.isdir(item):
        folder = Path(os.path.abspath(item))
        metadata = _read_metadata(folder)
        files = [path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()]
        return [(str(path), metadata.get(str(path), {})) for path in files]
    if len(paths) == 1 and paths[0].suffix.lower() == ".txt":
        lines = paths[0].read_text().splitlines()
        return [(os.path.normpath(paths[0].parent / line.strip()), {}) for line in lines if line.strip()]
    return [(str(path), {}) for path in paths if path.suffix.lower() in _SUFFIXES]


def _list_url(url: str) -> list[tuple[str, dict[str, str]]]:
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
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            continue
        for row in rows:
            if "file_name" not in row:
                raise ValueError(f"{path} has no column 'file_name'")
            target = os.path.normpath(path.parent / row.pop("file_name"))
            found[target] = {name: value if value is None else str(value) for name, value in row.items()}
    return found
