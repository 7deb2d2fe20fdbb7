"""Curves of a training run, of the codec or of a language model, from its log."""

import json
from collections import defaultdict
from pathlib import Path

from ..audio.files import make_folder, read_json
from .plot import panels
from .provenance import describe_run, require_commit, written_by
from .tables import format_cell, markdown_table

SMOOTHING = 0.9  # of the line through the values of single steps


def read_log(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of every number logged; of a step that was logged twice, by a run that was resumed, the last."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is damaged ({error}); delete the line") from error
        step = row.pop("step")
        for name, value in row.items():
            if not isinstance(value, list | dict):  # bits by place or by group
                values[name][step] = value
    curves = {name: sorted(found.items()) for name, found in values.items() if name != "minutes"}
    return {name: ([step for step, _ in points], [value for _, value in points]) for name, points in curves.items()}


def smoothed(values: list[float]) -> list[float]:
    """Exponential moving average."""
    means, mean = [], values[0]
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        means.append(mean)
    return means


def plot(curves: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    """One panel for each value: validations as they are, values of single steps with a smooth line."""
    with panels(path, len(curves), 3, (4, 2.4), dpi=100) as axes:
        for axis, (name, (steps, values)) in zip(axes, curves.items(), strict=True):
            if name.startswith("validation"):
                axis.plot(steps, values, marker=".")
            else:
                axis.plot(steps, values, alpha=0.3)
                axis.plot(steps, smoothed(values), color="C0")
            axis.set(title=name, xlabel="step")
            axis.locator_params(axis="x", nbins=5)


def write_results(run: Path, folder: Path) -> None:
    """Write curves.png, and curves.md with the settings of a run and its first and last values.

    Raises:
        ValueError: If there is no log in the folder of the run.
    """
    require_commit(folder)
    if not (run / "log.jsonl").is_file():
        raise ValueError(f"{run} holds no log.jsonl: it is no training run, or one that has logged nothing yet")
    curves = read_log(run / "log.jsonl")
    make_folder(folder)
    plot(curves, folder / "curves.png")
    rows = [["value", "first step", "first", "last step", "last"]]
    for name, (steps, values) in curves.items():
        rows.append([name, str(steps[0]), format_cell(values[0]), str(steps[-1]), format_cell(values[-1])])
    settings = json.dumps(read_json(run / "config.json"), indent=2)
    text = f"![curves](curves.png)\n\n{markdown_table(rows)}\n\n```json\n{settings}\n```\n\n"
    (folder / "curves.md").write_text(text + written_by(describe_run()) + "\n")
