"""The command `q2d2 plot-training`."""

from pathlib import Path


def plot_training(run: Path, *, output: Path) -> None:
    """Draw the curves of a training run, of the codec or of a language model, from its log.

        q2d2 plot-training runs/default --output docs/results/training

    Writes curves.png, and curves.md with the settings of the run and its first and last values.

    Args:
        run: Output folder of q2d2 train or q2d2 train-lm.
        output: Folder to write.
    """
    from ..evaluation.curves import write_results

    write_results(run, output)
