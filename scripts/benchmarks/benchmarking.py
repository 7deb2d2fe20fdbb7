"""Time and memory of a call in a fresh process, and the files both benchmarks write."""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from q2d2_tokenizer.evaluation.plot import load_pyplot
from q2d2_tokenizer.evaluation.provenance import describe_run, written_by
from q2d2_tokenizer.evaluation.tables import format_cell, markdown_table

MEMORY_METHOD = (
    "Linux, fresh process per measurement: VmHWM of /proc/self/status during the first full call (reset just before it "
    "through /proc/self/clear_refs, after malloc_trim) minus VmRSS before the call; inputs, weights and imported "
    "libraries are not counted, everything the call allocates for the first time is"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments both benchmarks share; `--worker` is how they call themselves in a fresh process."""
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes per contestant, in turns")
    parser.add_argument("--timed_calls", type=int, default=3, help="least number of timed calls in each process")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median of every number over the runs of one contestant; other values must agree and are kept.

    A run that holds `not_available` stands for all.
    """
    failed = next((run for run in runs if "not_available" in run), None)
    return failed or {
        key: statistics.median(run[key] for run in runs) if isinstance(value, float) else value
        for key, value in runs[0].items()
    }


def write_results(folder: Path, name: str, settings: argparse.Namespace, rows: list[dict], runs: dict) -> None:
    """Write `name`.json, with where the numbers come from, and `name`.md, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {key: value for key, value in vars(settings).items() if key not in ("output", "worker")}
    provenance = describe_run() | {"threads": settings.threads, "memory_method": MEMORY_METHOD}
    content = {"run": provenance, "settings": values, "results": rows, "all_runs": runs}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    table = markdown_table([list(rows[0]), *([format_cell(value) for value in row.values()] for row in rows)])
    source = f"Seed {settings.seed}. {written_by(provenance)}"
    (folder / f"{name}.md").write_text(f"{table}\n\n{source}\n")
    print(table)


def plot_bars(path: Path, rows: list[dict], panels: dict[str, str], log: bool) -> None:
    """Horizontal bars of the rows, labelled by their first column, with one panel per column of `panels`."""
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 0.5 * len(rows) + 1.5), sharey=True)
    labels = [str(next(iter(row.values()))) for row in rows]
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        bars = axis.barh(labels, [row[column] for row in rows], color=["C0" if "ours" in x else "C7" for x in labels])
        axis.bar_label(bars, fmt="%.3g", padding=3)
        axis.set_title(title)
        axis.margins(x=0.25)
        if log:
            axis.set_xscale("log")
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
