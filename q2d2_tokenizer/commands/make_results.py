"""docs/RESULTS.md from the evaluation.json files of `evaluate_codec.py`, one section each.

    python scripts/make_results.py docs/results docs/results/domains/* --output docs/RESULTS.md

The title of a section is the --title of its evaluation, or the name of its folder.
"""

import argparse
from pathlib import Path

from ..evaluation.report import notes, quality_table, rate_table, usage_table
from ..evaluation.summary import read_result
from ..evaluation.tables import markdown_table


def section(folder: Path) -> str:
    """Tables and notes of one evaluation."""
    result = read_result(folder)
    tables = [quality_table(result), rate_table(result), usage_table(result)]
    title = result["data"].get("title") or folder.name
    return "\n\n".join([f"## {title}", *map(markdown_table, tables), *notes(result)])


def main(argv: list[str] | None = None) -> None:
    """Read the evaluations and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="each with an evaluation.json; others are left out")
    parser.add_argument("--output", type=Path, default=Path("docs/RESULTS.md"))
    args = parser.parse_args(argv)
    folders = [folder for folder in args.folders if (folder / "evaluation.json").is_file()]
    if not folders:
        parser.error(f"no evaluation.json in {', '.join(map(str, args.folders))}; evaluate_codec.py writes it")
    intro = "Written by `scripts/make_results.py`; change the evaluations, not this page."
    args.output.write_text("\n\n".join(["# Results", intro, *map(section, folders)]) + "\n")
