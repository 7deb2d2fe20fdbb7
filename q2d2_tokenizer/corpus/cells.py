"""The audio of a row: a path, bytes, samples, or the error that says why there is none."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..audio.errors import AudioError, EmptyAudioError, UnreadableAudioError
from ..audio.reading import open_parts, stream_from_column
from .inputs import stop_unless_damaged


def read_cell(cell: Any, target_rate: int) -> Iterator[np.ndarray]:
    """Mono samples float32 at `target_rate` Hz of the audio of a row, in chunks (N,).

    Raises:
        AudioError: With its reason; some of it turns out after the last chunk only.
        OSError: If a file cannot be read for a reason that is not the file.
    """
    if isinstance(cell, AudioError):
        raise cell
    content, path = _content_and_path(cell)
    if cell is None or content == b"" or (isinstance(cell, dict) and not any(v is not None for v in cell.values())):
        raise EmptyAudioError("the row holds no audio")
    _check_fields(cell)
    try:
        if content is None and path and os.path.isfile(path) and not os.path.getsize(path):
            raise EmptyAudioError(f"{path} has no content")
        yield from stream_from_column(cell, target_rate)
    except AudioError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        if not isinstance(error, FileNotFoundError):  # URLs in rows are never opened
            stop_unless_damaged(error, path or "the audio of a row")
        raise UnreadableAudioError(str(error)) from error


def announced_seconds(cell: Any) -> float | None:
    """Length of the audio of a row by its container, without decoding it; None if there is no audio."""
    if isinstance(cell, dict) and cell.get("array") is not None:
        rate = cell.get("sampling_rate")
        return len(cell["array"]) / rate if isinstance(rate, int | float) and rate > 0 else None
    content, path = _content_and_path(cell)
    source = content if isinstance(content, bytes) else path
    if not isinstance(source, bytes | str):
        return None
    try:
        return sum(part.seconds for part in open_parts(source))
    except (AudioError, OSError):
        return None


def _content_and_path(cell: Any) -> tuple[Any, Any]:
    if isinstance(cell, dict):
        return cell.get("bytes"), cell.get("path")
    return cell if isinstance(cell, bytes) else None, cell if isinstance(cell, str) else None


def _check_fields(cell: Any) -> None:
    if not isinstance(cell, dict):
        return
    for name, kind in {"bytes": bytes, "path": str}.items():
        value = cell.get(name)
        if value is not None and not isinstance(value, kind):
            raise UnreadableAudioError(f"the field {name!r} of the audio holds {type(value).__name__}")
