"""What the benchmarks share: fresh processes in turns, whose results are kept, and the files that they write."""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from q2d2_tokenizer.evaluation.plot import load_pyplot
from q2d2_tokenizer.evaluation.provenance import describe_run, written_by
from q2d2_tokenizer.evaluation.tables import rows_table

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
    table = rows_table(rows)
    source = f"Seed {settings.seed}. {written_by(provenance)}"
    (folder / f"{name}.md").write_text(f"{table}\n\n{source}\n")
    print(table)


def plot_bars(path: Path, rows: list[dict], panels: dict[str, str], log: bool) -> None:
    """Horizontal bars of the rows, labelled by their first column, with one panel per column of `panels`."""
    pyplot = load_pyplot()
    size = (3.5 + 4 * len(panels), 0.3 * len(rows) + 1.5)  # labels take the first 3.5 inches
    figure, (axes,) = pyplot.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
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


class KeptRuns:
    """Results of processes in a file of JSON lines, from which an interrupted benchmark goes on.

    Args:
        path: The file; nothing is kept if it is None.
        settings: What the results depend on, besides the contestant and the commit.
    """

    def __init__(self, path: Path | None = None, settings: dict[str, Any] | None = None):
        self._path = path
        self._settings = {"settings": settings, "commit": describe_run()["commit"]}
        self._runs: dict[tuple[str, int], dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path and path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when a run was interrupted
                continue
            if {key: row[key] for key in self._settings} == self._settings:
                self._runs[row["name"], row["turn"]] = row["result"]

    def get(self, name: str, turn: int) -> dict[str, Any] | None:
        """The result of a contestant in a turn, if it is known."""
        return self._runs.get((name, turn))

    def add(self, name: str, turn: int, result: dict[str, Any]) -> None:
        """Write a result to the file."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        (self._path.parent / ".gitignore").write_text("*\n")
        with open(self._path, "a") as file:
            file.write(json.dumps(self._settings | {"name": name, "turn": turn, "result": result}) + "\n")


def _run(command: list[str], limit_seconds: float | None) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        return {"not_available": f"took more than {limit_seconds:.0f} s"}
    if done.returncode:
        raise RuntimeError(f"{command[-1]} failed with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def run_in_turns(
    script: str,
    names: list[str],
    argv: list[str],
    repeats: int,
    kept: KeptRuns | None = None,
    limit_seconds: float | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Results by contestant of fresh processes, each contestant once a turn, so noise hits all alike.

    Args:
        script: Calls itself with `--worker NAME`; its last line is the result as JSON.
        names: Of the contestants.
        argv: Other arguments.
        repeats: Turns; a contestant whose result holds `not_available` is not asked again.
        kept: Where results are kept and found.
        limit_seconds: Of one process.
    """
    known = kept or KeptRuns()
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tqdm(total=repeats * len(names), unit="process", mininterval=1.0) as bar:
        for turn in range(repeats):
            for name in names:
                bar.set_description(name, refresh=True)
                if not any("not_available" in result for result in results[name]):
                    result = known.get(name, turn)
                    if result is None:
                        result = _run([sys.executable, script, *argv, "--worker", name], limit_seconds)
                        known.add(name, turn, result)
                    results[name].append(result)
                bar.update()
    return results
