"""The picture of a report of the training doctor."""

from pathlib import Path
from typing import Any


def plot_report(path: Path, report: dict[str, Any]) -> None:
    """Losses, gradient norms, shares of the losses and use of every grid.

    Args:
        path: Of the PNG file.
        report: Fields of `doctor.Report`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    grids = report["histograms"]
    columns = max(3, len(grids))
    figure, axes = plt.subplots(2, columns, figsize=(4.5 * columns, 7), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title in zip(axes[0], ("losses", "gradient norms"), strict=False):
        rows = report["losses" if title == "losses" else "gradient_norms"]
        axis.set_axis_on()
        axis.set(title=title, xlabel="step", yscale="log")
        for name in dict.fromkeys(name for row in rows for name in row):
            axis.plot([row.get(name) for row in rows], label=name)
        if rows:
            axis.legend(fontsize="x-small")
    axes[0, 2].set_axis_on()
    axes[0, 2].barh(list(report["shares"]), list(report["shares"].values()))
    axes[0, 2].set(title="share of each weighted loss", xlim=(0, 1))
    for number, (axis, counts) in enumerate(zip(axes[1], grids, strict=False), 1):
        use = report["usage"][number - 1]
        axis.set_axis_on()
        axis.bar(range(len(counts)), sorted(counts, reverse=True), width=1.0)
        title = f"grid {number}: {use['used']} of {use['size']} points, {use['entropy_bits']:.2f} bits"
        axis.set(title=title, xlabel="point, by use", ylabel="frames")
    figure.savefig(path, dpi=100)
    plt.close(figure)
