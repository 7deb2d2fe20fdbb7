"""The trainer of the language model: one Accelerate loop, resumable, with validation in bits."""

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm.auto import tqdm

from .batches import TrainingBatches, validation_batches
from .bundled import default_checkpoint
from .data import TokenCorpus, expand_shards, shard_layout, shard_neighbours
from .layout import LAYOUT_FILE, Layout
from .model import LanguageModel, ModelSettings, make_language_model
from .pairs import PairLlamaForCausalLM
from .reading import add_reading_heads, first_batch_with_text
from .scoring import Totals, make_scorer
from .text import TextTokenizer


@dataclass
class TrainConfig:
    """Everything a training run depends on, besides the size of the model."""

    data: list[str] = field(metadata={"help": "Token shards (Parquet), folders or globs; twice counts twice"})
    output: str = field(metadata={"help": "Folder of the run: log, checkpoints, weights"})
    validation_data: list[str] = field(default_factory=list, metadata={"help": "Like data; held out"})
    text_model: str = field(default="", metadata={"help": "Text tokenizer; empty for a model of speech alone"})
    weights: str = field(
        default="", metadata={"help": "Folder of a language model to go on from, or 'bundled'; random weights if empty"}
    )
    speech_data: list[str] = field(default_factory=list, metadata={"help": "Like data; texts are not shown"})
    spelled_share: float = field(
        default=0.05, metadata={"help": "Of the words with a pronunciation that are shown in letters"}
    )
    reading_layers: list[int] = field(
        default_factory=list, metadata={"help": "Whose first heads begin by attending to the text due; see lm.reading"}
    )
    speech_only_share: float = field(default=0.1, metadata={"help": "Of recordings with text shown without it"})
    steps: int = field(default=20_000, metadata={"help": "Optimizer steps in all"})
    max_minutes: float = field(default=math.inf, metadata={"help": "Stop, resumable, after that many minutes"})
    tokens_per_batch: int = field(default=8_192, metadata={"help": "Per step with padding, over all processes"})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak rate"})
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95], metadata={"help": "Of AdamW"})
    weight_decay: float = field(default=0.1, metadata={"help": "Of matrices; other weights have none"})
    warmup_steps: int = field(default=200, metadata={"help": "Steps of linear warm-up"})
    decay_steps: int = field(default=4_000, metadata={"help": "Steps of linear decay to zero at the end"})
    gradient_clip: float = field(default=1.0, metadata={"help": "Largest gradient norm"})
    mixed_precision: str = field(default="no", metadata={"help": "no or bf16; losses are float32 in any case"})
    seed: int = field(default=0, metadata={"help": "Of weights and batches"})
    log_every: int = field(default=20, metadata={"help": "Steps between lines of log.jsonl"})
    validate_every: int = field(default=500, metadata={"help": "Steps between validations"})
    save_every: int = field(default=500, metadata={"help": "Steps between resumable checkpoints"})
    keep_checkpoints: int = field(default=2, metadata={"help": "Resumable checkpoints kept"})

    def __post_init__(self):
        if min(self.save_every, self.log_every, self.validate_every, self.keep_checkpoints) < 1:
            raise ValueError("log_every, validate_every, save_every and keep_checkpoints must be at least 1")
        if self.warmup_steps < 1 or self.decay_steps < 1:
            raise ValueError("warmup_steps and decay_steps must be at least 1")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"mixed_precision must be 'no' or 'bf16', got {self.mixed_precision!r}")
        if self.weights and self.reading_layers:
            raise ValueError("reading_layers would reset heads of the weights; leave one of the two out")
        if not 0 <= self.speech_only_share <= 1:
            raise ValueError(f"speech_only_share must be within 0 and 1, got {self.speech_only_share}")

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, constant, linear decay to zero."""
        return min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / self.decay_steps)


class Progress:
    """Steps made and time spent, over all interruptions, in the form Accelerate saves and loads."""

    step = 0
    minutes = 0.0

    def state_dict(self) -> dict[str, float]:
        """The values to save."""
        return {"step": self.step, "minutes": self.minutes}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take saved values."""
        self.step, self.minutes = int(state["step"]), state["minutes"]


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


class LanguageModelTrainer:
    """Trains a language model on the tokens of one codec.

    A run is a function of its settings: batches depend on seed and step alone, and everything else is in the
    checkpoints, so a resumed run ends with the weights of an uninterrupted one.

    Args:
        config: Data and training.
        settings: Size of the model.

    Raises:
        ValueError: If data, text tokenizer and the run in the output folder do not belong to one codec.
    """

    def __init__(self, config: TrainConfig, settings: ModelSettings):
        self.config = config
        self.settings = settings
        self.output = Path(config.output)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        started = int(os.environ.get("WORLD_SIZE", 1))
        if self.accelerator.num_processes != started:
            raise ValueError(
                f"{started} processes were started and Accelerate uses {self.accelerator.num_processes}; "
                "on a CPU start them with ACCELERATE_USE_CPU=1 torchrun"
            )
        set_seed(config.seed)
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
        self.batches = TrainingBatches(
            corpus,
            settings.context,
            config.tokens_per_batch,
            config.speech_only_share,
            config.seed,
        )
        if config.weights and not self._checkpoints():
            _load_weights(self.language_model, config.weights)
        if config.reading_layers:
            ids = first_batch_with_text(self.batches).input_ids  # the same for all processes
            add_reading_heads(self.language_model.model, layout, ids, tuple(config.reading_layers))
        self.validation = TokenCorpus(config.validation_data, layout, text) if config.validation_data else None
        if alignment and self.validation is not None and self.validation.num_pieces.any():
            self.validation.place_text(alignment)
        self.progress = Progress()
        neighbours = shard_neighbours(first_shard)
        self.scorer = make_scorer(self.language_model.model, layout, neighbours)
        optimizer = torch.optim.AdamW(
            _parameter_groups(self.scorer, config.weight_decay), config.learning_rate, tuple(config.betas), fused=True
        )
        self.model, self.optimizer = self.accelerator.prepare(self.scorer, optimizer)
        self.accelerator.register_for_checkpointing(self.progress)

    def run(self) -> None:
        """Train to the last step or the last minute, from the newest checkpoint if there is one."""
        config = self.config
        self._resume()
        if self.accelerator.is_main_process:
            self.output.mkdir(parents=True, exist_ok=True)
            self.language_model.layout.save(self.output)
            self._record_settings()
        start = time.monotonic() - 60 * self.progress.minutes
        last_minute = self.progress.minutes + config.max_minutes
        hidden = None if self.accelerator.is_local_main_process else True
        bar = tqdm(total=config.steps, initial=self.progress.step, desc="train", disable=hidden)
        while self.progress.step < config.steps and self.progress.minutes < last_minute:
            values = self.train_step()
            step = self.progress.step
            # One clock for all processes: they must leave the loop at the same step.
            self.progress.minutes = self._of_main_process((time.monotonic() - start) / 60)
            bar.update()
            if step % config.log_every == 0:
                values = {name: float(value) for name, value in values.items()}
                bar.set_postfix(bits_per_token=f"{values['bits_per_token']:.3f}")
                self._log(values | {"minutes": round(self.progress.minutes, 3)})
            if self.validation is not None and step % config.validate_every == 0:
                self._log(self.validate())
            if step % config.save_every == 0:
                self.save()
        bar.close()
        if self.progress.step % config.save_every:
            self.save()

    def train_step(self) -> dict[str, Any]:
        """Update the weights; returns what is logged, where smoothed targets are scored as such.

        Raises:
            RuntimeError: If the loss is not finite.
        """
        config, accelerator, step = self.config, self.accelerator, self.progress.step
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * config.rate_factor(step)
        batch = self.batches.batch(step, accelerator.process_index, accelerator.num_processes)
        nats = self.model(*batch.inputs(accelerator.device)).sum()
        # Accelerate averages gradients over processes; every token counts the same, whichever process has it.
        accelerator.backward(nats * accelerator.num_processes / batch.num_scored)
        loss = accelerator.reduce(nats.detach(), "sum") / batch.num_scored
        if not torch.isfinite(loss):
            raise RuntimeError(f"loss is {loss.item()} at step {step}; lower the learning rate")
        norm = accelerator.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        return {
            "loss_nats": loss,
            "bits_per_token": loss / math.log(2),
            "gradient_norm": norm,
            "learning_rate": config.learning_rate * config.rate_factor(step),
            "epoch": self.batches.epoch(step),
        }

    def validate(self) -> dict[str, Any]:
        """Loss on all validation recordings: as they are, and, where some have text, also without any text."""
        results = self._validate(with_text=True, name="validation")
        if self.validation.num_pieces.any():
            results |= self._validate(with_text=False, name="validation_speech_only")
        return results

    @torch.no_grad()
    def _validate(self, with_text: bool, name: str) -> dict[str, Any]:
        """Bits per second of audio, and the means of `Totals`."""
        accelerator = self.accelerator
        self.model.eval()
        totals, codes = Totals(len(self.scorer.points_per_group)), 0
        for batch in validation_batches(
            self.validation,
            self.settings.context,
            self.config.tokens_per_batch,
            with_text,
            accelerator.process_index,
            accelerator.num_processes,
        ):
            with accelerator.autocast():
                score = self.scorer.score(*batch.inputs(accelerator.device))
            totals.add(score, batch.targets)
            codes += batch.num_codes
        self.model.train()
        totals.reduce(accelerator)
        values = totals.means() | {"bits_per_second": totals.bits / (codes / self.validation.codes_per_second)}
        if self.scorer.neighbours is None:
            del values["near_miss_share"]
        return {f"{name}_{key}": value for key, value in values.items()}

    def save(self) -> None:
        """Write a resumable checkpoint and the weights, then delete the oldest checkpoints."""
        name = f"checkpoint-{self.progress.step:08d}"
        self.accelerator.save_state(str(self.output / f"partial-{name}"))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        self.language_model.save(self.output / "weights")  # first: a checkpoint says that they are there
        shutil.rmtree(self.output / name, ignore_errors=True)
        (self.output / f"partial-{name}").rename(self.output / name)
        for old in self._checkpoints()[: -self.config.keep_checkpoints]:
            shutil.rmtree(old)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.output.glob("checkpoint-*"))

    def _resume(self) -> None:
        if self._checkpoints():
            self.accelerator.load_state(str(self._checkpoints()[-1]))

    def _record_settings(self) -> None:
        """Write the settings; a run that goes on with others than before says so, in its log too."""
        path = self.output / "config.json"
        now = json.loads(json.dumps({"training": asdict(self.config), "model": asdict(self.settings)}))
        before = json.loads(path.read_text()) if self.progress.step and path.exists() else now
        changed = {
            name: [before[part].get(name), value]
            for part, values in now.items()
            for name, value in values.items()
            if before[part].get(name) != value
        }
        if changed:
            self.accelerator.print(f"goes on with other settings than before [before, now]: {changed}")
            self._log({"changed": changed})
        path.write_text(json.dumps(now, indent=2))

    def _of_main_process(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor(value if self.accelerator.is_main_process else 0.0, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum"))

    def _log(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with open(self.output / "log.jsonl", "a") as log:
                log.write(json.dumps({"step": self.progress.step} | values) + "\n")
