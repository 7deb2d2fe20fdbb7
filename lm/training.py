"""The trainer of the language model, with validation in bits."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from q2d2_tokenizer.training.loop import ResumableTrainer

from .batches import TrainingBatches, validation_batches
from .bundled import default_checkpoint
from .data import TokenCorpus, expand_shards, shard_layout, shard_neighbours
from .layout import LAYOUT_FILE, Layout
from .model import LanguageModel, make_language_model
from .pairs import PairLlamaForCausalLM
from .reading import add_reading_heads, first_batch_with_text
from .scoring import Totals, make_scorer
from .settings import ModelSettings, TrainConfig
from .text import TextTokenizer


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _load_weights(language_model: LanguageModel, source: str) -> None:
    """Take the weights of a folder, or those that come with the package.

    Raises:
        ValueError: If they are of another codec, vocabulary, head or size, or place text otherwise.
    """
    folder = default_checkpoint() if source == "bundled" else source
    found = LanguageModel.load(folder, language_model.layout.codec_fingerprint)
    if found.layout != language_model.layout:
        raise ValueError(f"{folder} has another vocabulary; give its text tokenizer: text_model={folder}")
    theirs, ours = (_settings_of_weights(model) for model in (found, language_model))
    if theirs != ours:
        raise ValueError(f"{folder} was made with other settings: {theirs}, got {ours}")
    language_model.model.load_state_dict(found.model.state_dict())


def _settings_of_weights(language_model: LanguageModel) -> dict[str, Any]:
    """What weights depend on, besides the vocabulary, under the names of `ModelSettings`."""
    config = language_model.model.config
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "context": config.max_position_embeddings,
        "audio_head": "pairs" if isinstance(language_model.model, PairLlamaForCausalLM) else "flat",
        "text_positions": "durations" if language_model.layout.codes_per_piece else "order",
        "tie_embeddings": config.tie_word_embeddings,
    }


class LanguageModelTrainer(ResumableTrainer):
    """Trains a language model on the tokens of one codec; see `ResumableTrainer`.

    Args:
        config: Data and training.
        settings: Size of the model.

    Raises:
        ValueError: If data, text tokenizer and the run in the output folder do not belong to one codec.
    """

    config: TrainConfig
    validation: TokenCorpus | None

    def __init__(self, config: TrainConfig, settings: ModelSettings):
        self.model_settings = settings
        super().__init__(config)

    def build(self) -> None:
        """Open the data and make the model."""
        config, settings = self.config, self.model_settings
        text = TextTokenizer.load(config.text_model) if config.text_model else None
        first_shard = expand_shards(config.data)[0]
        layout = shard_layout(first_shard, text)
        corpus = TokenCorpus(config.data, layout, text, config.speech_data, config.spelled_share, config.seed)
        alignment = None
        if settings.text_positions == "durations":
            layout, alignment = corpus.fit_alignment(text)
        if (self.output / LAYOUT_FILE).exists():
            found = Layout.load(self.output, layout.codec_fingerprint)
            if found != layout:
                raise ValueError(f"{self.output} holds a run with another vocabulary; choose another output")
            layout = found  # with the positions of its first start
        self.language_model = LanguageModel(make_language_model(settings, layout), layout, text, alignment)
        context, size, share = settings.context, config.tokens_per_batch, config.speech_only_share
        self.batches = TrainingBatches(corpus, context, size, share, config.seed)
        if config.weights and not self.checkpoints():
            _load_weights(self.language_model, config.weights)
        if config.reading_layers:
            ids = first_batch_with_text(self.batches).input_ids  # the same for all processes
            add_reading_heads(self.language_model.model, layout, ids, tuple(config.reading_layers))
        self.validation = TokenCorpus(config.validation_data, layout, text) if config.validation_data else None
        if alignment and self.validation is not None and self.validation.num_pieces.any():
            self.validation.place_text(alignment)
        self.scorer = make_scorer(self.language_model.model, layout, shard_neighbours(first_shard))
        groups = _parameter_groups(self.scorer, config.weight_decay)
        self.model = self.add(self.scorer, config.learning_rate, config.betas, groups)

    def update(self, step: int) -> dict[str, Any]:
        """Update the weights; returns the loss of all processes, the norm of the gradient and where the run is."""
        accelerator, count = self.accelerator, self.config.accumulation
        first, all_parts = accelerator.process_index * count, accelerator.num_processes * count
        total = torch.zeros((), device=accelerator.device)
        for part in self.accumulate(self.model, range(first, first + count)):
            batch = self.batches.batch(step, part, all_parts)
            nats = self.model(*batch.inputs(accelerator.device)).sum()
            # Accelerate averages gradients over processes; every token counts the same, whichever process has it.
            accelerator.backward(nats * accelerator.num_processes / batch.num_scored)
            total = total + nats.detach()
        loss = accelerator.reduce(total, "sum") / batch.num_scored
        (norm,) = self.apply_gradients({"loss_nats": loss})
        return {
            "loss_nats": loss,
            "bits_per_token": loss / math.log(2),
            "gradient_norm": norm,
            "learning_rate": self.config.learning_rate * self.config.rate_factor(step),
            "epoch": self.batches.epoch(step),
        }

    def validate(self) -> dict[str, Any]:
        """Loss on all validation recordings: as they are, and, where some have text, also without any text."""
        assert self.validation is not None
        results = self._validate(self.validation, with_text=True, name="validation")
        if self.validation.num_pieces.any():
            results |= self._validate(self.validation, with_text=False, name="validation_speech_only")
        return results

    @torch.no_grad()
    def _validate(self, corpus: TokenCorpus, with_text: bool, name: str) -> dict[str, Any]:
        """Bits per second of audio, and the means of `Totals`."""
        accelerator = self.accelerator
        self.model.eval()
        totals, codes = Totals(len(self.scorer.points_per_group)), 0
        context, size = self.model_settings.context, self.config.tokens_per_batch
        share = accelerator.process_index, accelerator.num_processes
        for batch in validation_batches(corpus, context, size, with_text, *share):
            with accelerator.autocast():
                score = self.scorer.score(*batch.inputs(accelerator.device))
            totals.add(score, batch.targets)
            codes += batch.num_codes
        self.model.train()
        totals.reduce(accelerator)
        values = totals.means() | {"bits_per_second": totals.bits / (codes / corpus.codes_per_second)}
        if self.scorer.neighbours is None:
            del values["near_miss_share"]
        return {f"{name}_{key}": value for key, value in values.items()}

    def save_weights(self, folder: Path) -> None:
        """Write model, layout and text tokenizer."""
        self.language_model.save(folder)

    def settings(self) -> dict[str, Any]:
        """Content of config.json, in two parts."""
        return {"training": asdict(self.config), "model": asdict(self.model_settings)}

    def settings_by_name(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Both parts in one."""
        return settings["training"] | settings["model"]

    def record_settings(self) -> None:
        """Write the layout and the settings."""
        if self.accelerator.is_main_process and not (self.output / LAYOUT_FILE).exists():
            self.language_model.layout.save(self.output)
        super().record_settings()
