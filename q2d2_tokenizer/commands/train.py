"""The command `q2d2 train`."""

from pathlib import Path

from ..training.settings import TrainConfig


def train(*, config: TrainConfig, check: bool = False) -> int:
    """Train a codec, or go on training one.

        q2d2 train --data 'speech/*-train-*.parquet' --validation_data 'speech/*-validation-*.parquet' \\
            --output runs/default
        q2d2 train --config run.yaml --steps 100
        q2d2 train --check --data my_recordings --output runs/my_voice

    A run goes on from the newest checkpoint in its output folder. Several processes: torchrun or accelerate launch
    with scripts/train_codec.py.

    Args:
        check: Train on one batch for a few dozen steps, say what is wrong with data, codec or settings and what to do,
            and write check/report.txt, .json and .png into the output folder; the exit code is 1 if something is wrong.
    """
    if check:
        return examine(config)
    from ..training.codec import CodecTrainer

    CodecTrainer(config).run()
    return 0


def examine(config: TrainConfig) -> int:
    """Check settings and data instead of training; returns the exit code, 1 if something is wrong."""
    from ..training import doctor

    report = doctor.examine(config)
    report.write(Path(config.output) / "check")
    print(report.text())
    return 1 if report.faults else 0
