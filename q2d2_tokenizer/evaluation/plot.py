"""Pictures of scores, for `evaluate_codec.py` and `evaluate_domains.py`."""

import math
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


def plot_scores(path: Path, summaries: dict[str, dict[str, dict[str, float]]]) -> None:
    """One bar chart with intervals for every score; the bars are codecs, or domains."""
    plt = load_pyplot()
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary))
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    height = lines * (1 + 0.4 * len(summaries))
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, height), layout="constrained", squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        scores = {label: summary[name] for label, summary in summaries.items() if name in summary}
        means = [score["mean"] for score in scores.values()]
        intervals = [0.0 if math.isnan(score["interval"]) else score["interval"] for score in scores.values()]
        axis.barh(list(scores), means, xerr=intervals)
        axis.set_title(arrow(name))
        axis.invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)
