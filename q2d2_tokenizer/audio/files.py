"""Files that are missing, as they were, or complete, at every moment."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def make_folder(folder: str | Path) -> None:
    """Make a folder, and its parents, to write files into.

    Raises:
        OSError: If it cannot be made or written to; names what is in the way.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        reason = f"{file} is a file; choose another folder" if file else error.strerror
        raise OSError(error.errno, f"cannot write to {folder}: {reason}") from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, f"cannot write to {folder}: permission denied")


def refuse_folder(path: str | Path) -> None:
    """Raise an OSError if a file to be written is a folder."""
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, f"cannot write to {path}: it is a folder; name a file")


def read_json(
    path: str | Path,
    needed: Iterable[str] = (),
    kind: type[dict] | type[list] = dict,
    advice: str = "restore it, or delete it to have it made again",
) -> Any:
    """Content of a JSON file that a command wrote.

    Args:
        path: The file.
        needed: Keys that it must have.
        kind: Type of the content.
        advice: What to do about a damaged file.

    Raises:
        ValueError: If it is damaged, such as by a full disk; names the file.
        OSError: If it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, it is no JSON ({error}); {advice}") from error
    if not isinstance(content, kind) or (missing := [key for key in needed if key not in content]):
        problem = f"lacks {', '.join(missing)}" if isinstance(content, kind) else f"is no {kind.__name__}"
        raise ValueError(f"{path} is damaged, its content {problem}; {advice}")
    return content


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
    refuse_folder(path)
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
