"""Tables of the results that scripts write."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown_table(rows: list[list[str]]) -> str:
    """Markdown of rows of cells; the first row holds the titles."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of rows with the same keys, which are the titles."""
    return markdown_table([list(rows[0]), *([format_cell(value) for value in row.values()] for row in rows)])


def format_cell(value: object) -> str:
    """Four significant digits of floats, a dash for what is missing."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
