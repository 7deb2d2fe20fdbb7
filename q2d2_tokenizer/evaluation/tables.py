"""Tables of the results that scripts write."""


def markdown_table(rows: list[list[str]]) -> str:
    """Markdown of rows of cells; the first row holds the titles."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def format_cell(value: object) -> str:
    """Four significant digits of floats, a dash for what is missing."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
