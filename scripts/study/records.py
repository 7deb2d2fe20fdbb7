"""Records of runs: one JSON file each, with a line for every key."""

import json
from pathlib import Path
from typing import Any

from q2d2_tokenizer.audio.files import read_json, without_nan, write_atomically

Record = dict[str, Any]


def read_record(path: Path, wanted: dict[str, Any] | None = None) -> Record | None:
    """The record of a run, if it has one.

    Args:
        path: Its file.
        wanted: Settings that it must have been made with, if any.

    Raises:
        ValueError: If it was made with others, or the file is damaged.
    """
    if not path.exists():
        return None
    record, wanted = read_json(path, ["config"]), json.loads(json.dumps(wanted or {}))  # lists for tuples
    if other := sorted(name for name, value in wanted.items() if record["config"].get(name) != value):
        raise ValueError(f"{path} was made with other settings of {other}; move it away, or use another folder")
    return record


def write_record(path: Path, record: Record) -> None:
    """Write a record whole or not at all."""
    lines = [f"{json.dumps(name)}: {json.dumps(without_nan(value))}" for name, value in record.items()]
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def rounded(value: Any, digits: int) -> Any:
    """A value, or lists and dicts of values, with so many significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
