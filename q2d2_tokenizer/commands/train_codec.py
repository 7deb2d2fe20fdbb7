"""Train a codec, or go on training one; resumes from the newest checkpoint in the output folder.

    accelerate launch scripts/train_codec.py --data 'speech/*-train-*.parquet' \
        --validation_data 'speech/*-validation-*.parquet' --output runs/default
    python scripts/train_codec.py --config configs/finetune.yaml --data my_recordings --output runs/my_voice
    python scripts/train_codec.py --check --data my_recordings --output runs/my_voice

--config takes a YAML or JSON file with some of the settings; of several the later wins, and the command line wins over
all. --check trains on one batch for a few dozen steps, says what is wrong with the data, the codec or the settings and
what to do, and writes check/report.txt, .json and .png into the output folder. See --help for all settings and
docs/training.md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser

from ..training.codec import CodecTrainer, TrainConfig


def arguments_of(settings: dict[str, Any]) -> list[str]:
    """Settings of a file as they would be written on the command line."""
    arguments = []
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        if values:
            arguments += [f"--{name}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    return arguments


def parse(argv: list[str]) -> tuple[TrainConfig, bool]:
    """The settings, and whether to check them instead of training."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path, action="append", default=[])
    first.add_argument("--check", action="store_true")
    args, rest = first.parse_known_args(argv)
    if args.config:
        import yaml

        of_files = [arguments_of(yaml.safe_load(path.read_text())) for path in args.config]
        rest = [argument for arguments in [*of_files, rest] for argument in arguments]
    parser = HfArgumentParser(
        TrainConfig, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    (config,) = parser.parse_args_into_dataclasses(rest)
    return config, args.check


def check_and_exit(config: TrainConfig) -> NoReturn:
    """Examine settings and data instead of training; the exit status says whether something is wrong."""
    from ..training.doctor import examine

    report = examine(config)
    report.write(Path(config.output) / "check")
    print(report.text())
    sys.exit(1 if report.faults else 0)


def main(argv: list[str] | None = None) -> None:
    """Parse the settings and train, or check."""
    config, check = parse(sys.argv[1:] if argv is None else argv)
    if check:
        check_and_exit(config)
    CodecTrainer(config).run()
