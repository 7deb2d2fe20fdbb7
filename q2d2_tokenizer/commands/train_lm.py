"""The command `q2d2 train-lm`."""

from lm.settings import ModelSettings, TrainConfig


def train_lm(*, config: TrainConfig, model: ModelSettings) -> None:
    """Train a language model on tokens, or go on training one.

        q2d2 train-lm --data 'tokens/*-train-*.parquet' --validation_data 'tokens/*-validation-*.parquet' \\
            --text_model runs/text --output runs/lm

    A run goes on from the newest checkpoint in its output folder. The weights in output/weights are a stock Llama, or
    a model of pair tokens, with layout.json and the text tokenizer. Several processes: torchrun or accelerate launch
    with scripts/train_lm.py.
    """
    from lm.training import LanguageModelTrainer

    LanguageModelTrainer(config, model).run()
