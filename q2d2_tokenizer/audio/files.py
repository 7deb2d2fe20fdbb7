"""Files that are missing, as they were, or complete, at every moment."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that at every moment it is missing, as it was, or complete.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    with replaced_when_complete(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, as `write_atomically` does, with null for NaN and infinity."""
    write_atomically(path, (json.dumps(without_nan(value), indent=1) + "\n").encode())


def without_nan(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def replaced_when_complete(path: str | Path) -> Iterator[Path]:
    """Path to write to instead of `path`; takes its place in the end, unless there was an error.

    Raises:
        OSError: If the file cannot be written; what was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """Empty folder to write to instead of `path`; takes its place in the end, unless there was an error.

    An interruption leaves the old folder or the new one, complete, as `path`; between two renames, in the moment when
    there is none, the old one is beside it, as `.<name>.old`.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    path = Path(path)
    new, old = (path.with_name(f".{path.name}.{word}") for word in ("new", "old"))
    if old.exists() and not path.exists():
        old.rename(path)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)
