"""Train a language model on tokens, or go on training one; resumes from the newest checkpoint in the output folder.

    accelerate launch scripts/train_lm.py --data 'tokens/*-train-*.parquet' \
        --validation_data 'tokens/*-validation-*.parquet' --text_model runs/text --output runs/lm

See --help for all settings. The weights in output/weights are a stock Llama, or one of pair tokens, with
layout.json and the text tokenizer.
"""

import sys

from transformers import HfArgumentParser

from lm.model import ModelSettings
from lm.training import LanguageModelTrainer, TrainConfig


def main(argv: list[str] | None = None) -> None:
    """Parse the settings and train."""
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser((TrainConfig, ModelSettings), description=__doc__)
    config, settings = parser.parse_args_into_dataclasses(argv)
    LanguageModelTrainer(config, settings).run()
