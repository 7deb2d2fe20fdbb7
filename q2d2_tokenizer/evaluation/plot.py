"""Pictures of scores."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .metrics import BEST_AT, LOWER_IS_BETTER


def load_pyplot() -> Any:
    """matplotlib's pyplot, which draws into files and opens no window."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def arrow(name: str) -> str:
    """Name of a score and which way is better, or the value it should have."""
    if name in BEST_AT:
        return f"{name} →{BEST_AT[name]:g}"
    return f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}"


@contextmanager
def panels(path: Path, count: int, columns: int, size: tuple[float, float], dpi: int = 120) -> Iterator[list[Any]]:
    """The axes of a figure, which is written in the end.

    Args:
        path: File of the picture.
        count: Number of panels.
        columns: How many of them stand side by side.
        size: Width and height of one, in inches.
        dpi: Dots per inch.
    """
    plt = load_pyplot()
    lines = -(-count // columns)
    size = size[0] * columns, size[1] * lines
    figure, axes = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    yield list(axes.flat[:count])
    figure.savefig(path, dpi=dpi)
    plt.close(figure)


def plot_scores(path: Path, summaries: dict[str, dict[str, dict[str, float]]]) -> None:
    """One bar chart with intervals for every score; the bars are codecs, or domains."""
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary))
    with panels(path, len(names), min(4, len(names)), (4, 1 + 0.4 * len(summaries))) as axes:
        for axis, name in zip(axes, names, strict=True):
            scores = {label: summary[name] for label, summary in summaries.items() if name in summary}
            means = [score["mean"] for score in scores.values()]
            intervals = [0.0 if math.isnan(score["interval"]) else score["interval"] for score in scores.values()]
            axis.barh(list(scores), means, xerr=intervals)
            axis.set_title(arrow(name))
            axis.invert_yaxis()
