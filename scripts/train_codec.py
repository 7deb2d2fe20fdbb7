"""Train a codec, or go on training one; resumes from the newest checkpoint in the output folder.

    accelerate launch scripts/train_codec.py --data 'speech/*-train-*.parquet' \
        --validation_data 'speech/*-validation-*.parquet' --output runs/default

See --help for all settings.
"""

import sys

from transformers import HfArgumentParser

from q2d2_tokenizer.training import CodecTrainer, TrainConfig


def main(argv: list[str] | None = None) -> None:
    """Parse the settings and train."""
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(TrainConfig, description=__doc__)
    (config,) = parser.parse_args_into_dataclasses(argv)
    CodecTrainer(config).run()


if __name__ == "__main__":
    main()
