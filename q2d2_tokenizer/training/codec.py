"""The trainer of the codec: one Accelerate loop, resumable, with every loss weight in one place."""

import contextlib
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
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from ..audio.files import write_atomically
from ..export import save_feature_extractor
from ..feature_extraction_q2d2 import to_float32
from ..modeling_q2d2 import Q2D2Model
from .augmentation import Augmentation
from .data import AudioCache
from .discriminators import Discriminators
from .gan import Autoencoder, discriminator_step, generator_step, spectral_step
from .losses import EnvelopeLoss, LevelLoss, MelLoss
from .loudness import LoudnessLoss
from .projected import ProjectedDiscriminator  # noqa: F401  (registers it)
from .start import make_codec
from .stream import AudioStream


@dataclass
class TrainConfig:
    """Everything a training run depends on, besides the codec's own config."""

    data: list[str] = field(
        metadata={"help": "Parquet, tar or audio files, folders, globs, lists, URLs; twice counts twice"}
    )
    output: str = field(metadata={"help": "Folder of the run: log, checkpoints, validation audio, weights"})
    validation_data: list[str] = field(default_factory=list, metadata={"help": "Like data; of other speakers"})
    hold_out: int = field(default=0, metadata={"help": "Recordings of data to validate on instead of validation_data"})
    codec: str = field(
        default="", metadata={"help": "Config file, checkpoint folder or 'bundled'; the default config if empty"}
    )
    levels: list[int] = field(
        default_factory=list, metadata={"help": "Of the codec's channels instead of its own; its other weights stay"}
    )
    freeze: list[str] = field(
        default_factory=list, metadata={"help": "Parts that stay as they are: encoder, quantizer, decoder"}
    )
    audio_column: str = field(default="audio", metadata={"help": "Column of Parquet files that holds the audio"})
    streaming: bool = field(default=False, metadata={"help": "Decode data while training, without a cache on disk"})
    cache: str = field(default="", metadata={"help": "Folder for decoded audio; inside the output if empty"})
    steps: int = field(default=100_000, metadata={"help": "Optimizer steps in all"})
    max_minutes: float = field(default=math.inf, metadata={"help": "Stop, resumable, after that many minutes"})
    batch_size: int = field(default=16, metadata={"help": "Segments per step, over all processes"})
    accumulation: int = field(default=1, metadata={"help": "Parts of a step, one after another to save memory"})
    segment_frames: int = field(default=64, metadata={"help": "Length of a segment, in frames"})
    gain_db: float = field(default=6.0, metadata={"help": "Largest random gain, up or down, in dB"})
    speed: float = field(default=0.0, metadata={"help": "Largest random change of speed and pitch, as a share"})
    tone_db: float = field(default=0.0, metadata={"help": "Largest gain of a random curve over frequency, in dB"})
    formants: float = field(default=0.0, metadata={"help": "Largest random shift of formants alone, as a share"})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak rate of the codec"})
    discriminator_learning_rate: float = field(default=5e-4, metadata={"help": "Peak rate of the discriminators"})
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99], metadata={"help": "AdamW betas of the codec"})
    discriminator_betas: list[float] = field(
        default_factory=lambda: [0.9, 0.99], metadata={"help": "AdamW betas of the discriminators"}
    )
    warmup_steps: int = field(default=300, metadata={"help": "Steps of linear warm-up"})
    decay_steps: int = field(default=5_000, metadata={"help": "Steps of linear decay to zero at the end"})
    gradient_clip: float = field(default=1.0, metadata={"help": "Largest gradient norm of the codec"})
    ema_decay: float = field(default=0.999, metadata={"help": "Of the averaged weights that are released"})
    mel_weight: float = field(default=15.0, metadata={"help": "Weight of the mel loss"})
    loudness_weight: float = field(default=2.0, metadata={"help": "Weight of the loudness loss"})
    envelope_weight: float = field(default=15.0, metadata={"help": "Weight of the envelope loss"})
    level_weight: float = field(default=0.0, metadata={"help": "Weight of the level loss, in dB"})
    adversarial_weight: float = field(default=1.0, metadata={"help": "Weight of the adversarial loss"})
    feature_weight: float = field(default=2.0, metadata={"help": "Weight of the feature loss"})
    adversarial_start: int = field(default=10_000, metadata={"help": "First step with discriminators"})
    mel_n_ffts: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048, 4096], metadata={"help": "Samples"})
    mel_bands: list[int] = field(default_factory=lambda: [20, 40, 80, 160, 320], metadata={"help": "Of each n_fft"})
    mel_floor: float = field(default=1e-3, metadata={"help": "Magnitudes below it count as this much"})
    discriminators: list[str] = field(
        default_factory=lambda: ["band", "period"],
        metadata={"help": "Of q2d2_tokenizer.training.discriminators; the paper's are period resolution multiband"},
    )
    discriminator_kwargs: str = field(
        default="{}", metadata={"help": 'Their arguments as JSON: {"period": {"sizes": [2, 3], "channels": [8, 16]}}'}
    )
    mixed_precision: str = field(default="no", metadata={"help": "no or bf16; the quantizer is float32 in any case"})
    seed: int = field(default=0, metadata={"help": "Of weights and segments"})
    log_every: int = field(default=50, metadata={"help": "Steps between lines of log.jsonl"})
    validate_every: int = field(default=1_000, metadata={"help": "Steps between validations"})
    validation_clips: int = field(default=40, metadata={"help": "Clips per validation"})
    save_every: int = field(default=500, metadata={"help": "Steps between resumable checkpoints"})
    keep_checkpoints: int = field(default=2, metadata={"help": "Resumable checkpoints kept"})

    def __post_init__(self):
        if min(self.save_every, self.log_every, self.validate_every, self.keep_checkpoints) < 1:
            raise ValueError("log_every, validate_every, save_every and keep_checkpoints must be at least 1")
        if self.warmup_steps < 1 or self.decay_steps < 1:
            raise ValueError("warmup_steps and decay_steps must be at least 1")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"mixed_precision must be 'no' or 'bf16', got {self.mixed_precision!r}")
        if unknown := set(self.freeze) - {"encoder", "quantizer", "decoder"}:
            raise ValueError(f"freeze takes encoder, quantizer and decoder, got {sorted(unknown)}")
        if self.hold_out and (self.validation_data or self.streaming):
            raise ValueError("hold_out takes recordings from data: it excludes validation_data and streaming")

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, constant, linear decay to zero."""
        return min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / min(self.decay_steps, self.steps))


class Progress:
    """Steps made and time spent, over all interruptions, in the form Accelerate saves and loads."""

    step = 0
    minutes = 0.0

    def state_dict(self) -> dict[str, float]:
        """The values to save."""
        return {"step": self.step, "minutes": self.minutes}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take saved values."""
        self.step, self.minutes = int(state["step"]), state.get("minutes", 0.0)


class CodecTrainer:
    """Trains a codec with mel and adversarial losses and keeps an average of its weights.

    A run is a function of its `TrainConfig`: segments depend on seed and step alone, and everything else is in the
    checkpoints, so a resumed run ends with the weights of an uninterrupted one.
    """

    def __init__(self, config: TrainConfig):
        self.config = config
        self.output = Path(config.output)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        self._check_processes()
        set_seed(config.seed)
        codec = make_codec(config.codec, config.levels)
        for name in config.freeze:
            codec.get_submodule(name).requires_grad_(False)
        self._open_data(codec.config.sampling_rate)
        rate = codec.config.sampling_rate
        mel_loss = MelLoss(rate, tuple(config.mel_n_ffts), tuple(config.mel_bands), config.mel_floor)
        self.spectral_losses = nn.ModuleDict({"mel": mel_loss, "envelope": EnvelopeLoss(rate)})
        if config.loudness_weight:
            self.spectral_losses["loudness"] = LoudnessLoss(rate)
        if config.level_weight:
            self.spectral_losses["level"] = LevelLoss()
        self.spectral_losses.to(self.accelerator.device)
        self.average = AveragedModel(codec, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.average.to(self.accelerator.device)
        self.progress = Progress()
        model = Autoencoder(codec)
        discriminators = Discriminators(config.discriminators, json.loads(config.discriminator_kwargs))
        optimizers = [
            torch.optim.AdamW(
                [p for p in module.parameters() if p.requires_grad],
                rate,
                tuple(betas),
                weight_decay=0.0,
                fused=True,
            )
            for module, rate, betas in (
                (model, config.learning_rate, config.betas),
                (discriminators, config.discriminator_learning_rate, config.discriminator_betas),
            )
        ]
        self.model, self.discriminators, *self.optimizers = self.accelerator.prepare(model, discriminators, *optimizers)
        self.accelerator.register_for_checkpointing(self.average, self.progress)

    def _check_processes(self) -> None:
        processes, started = self.accelerator.num_processes, int(os.environ.get("WORLD_SIZE", 1))
        if processes != started:
            raise ValueError(
                f"{started} processes were started and Accelerate uses {processes}; "
                "on a CPU start them with ACCELERATE_USE_CPU=1 torchrun"
            )
        if self.config.batch_size % (processes * self.config.accumulation):
            raise ValueError(
                f"batch_size={self.config.batch_size} must be a multiple of {processes} processes times "
                f"accumulation={self.config.accumulation}"
            )

    def _open_data(self, sampling_rate: int) -> None:
        config = self.config
        output = self.output.resolve()
        for folder in filter(os.path.isdir, [*config.data, *config.validation_data]):
            if output.is_relative_to(Path(folder).resolve()):
                raise ValueError(
                    f"output {config.output} lies in the data folder {folder}: what is written there would be data"
                )
        cache, column = config.cache or str(self.output / "cache"), config.audio_column
        self.validation = None
        with self.accelerator.main_process_first():
            if config.streaming:
                self.data = AudioStream(
                    config.data, sampling_rate, config.batch_size, audio_column=column, output=config.output
                )
            else:
                self.data = AudioCache(config.data, cache, sampling_rate, column, config.output)
            if config.validation_data:
                self.validation = AudioCache(config.validation_data, cache, sampling_rate, column, config.output)
        if config.hold_out:
            self.data, self.validation = self.data.split(config.hold_out)

    @property
    def codec(self) -> Q2D2Model:
        """The codec that is trained."""
        return self.accelerator.unwrap_model(self.model).codec

    def run(self) -> None:
        """Train to the last step or the last minute, from the newest checkpoint if there is one."""
        config = self.config
        self.output.mkdir(parents=True, exist_ok=True)
        self._resume()
        self._record_settings()
        start = time.monotonic() - 60 * self.progress.minutes
        last_minute = self.progress.minutes + config.max_minutes
        hidden = None if self.accelerator.is_local_main_process else True
        bar = tqdm(total=config.steps, initial=self.progress.step, desc="train", disable=hidden)
        while self.progress.step < config.steps and self.progress.minutes < last_minute:
            losses = self.train_step()
            step = self.progress.step
            # One clock for all processes: they must leave the loop at the same step.
            self.progress.minutes = self._of_main_process((time.monotonic() - start) / 60)
            bar.update()
            if step % config.log_every == 0:
                values = self.accelerator.reduce(torch.stack(list(losses.values())), "mean").tolist()
                self._log(dict(zip(losses, values, strict=True)) | {"minutes": round(self.progress.minutes, 3)})
            if self.validation is not None and step % config.validate_every == 0:
                self._log(self.validate())
            if step % config.save_every == 0:
                self.save()
        bar.close()
        if self.progress.step % config.save_every:
            self.save()

    def batch(self, step: int) -> Tensor:
        """Segments (b, 1, N) of this process for a step."""
        config = self.config
        share = config.batch_size // self.accelerator.num_processes
        first = step * config.batch_size + self.accelerator.process_index * share
        samples = config.segment_frames * self.codec.config.hop_length
        augmentation = Augmentation(config.gain_db, config.speed, config.tone_db, config.formants)
        segments = self.data.batch(config.seed, range(first, first + share), samples, augmentation)
        return segments.to(self.accelerator.device)

    def train_step(self) -> dict[str, Tensor]:
        """Update the codec and then, once they take part, the discriminators; returns this process's losses by name."""
        config, step = self.config, self.progress.step
        for optimizer, peak in zip(
            self.optimizers, (config.learning_rate, config.discriminator_learning_rate), strict=True
        ):
            for group in optimizer.param_groups:
                group["lr"] = peak * config.rate_factor(step)
        parts = self.batch(step).chunk(config.accumulation)
        adversarial = step >= config.adversarial_start
        losses, seen, codes = self._update_codec(parts, adversarial)
        if adversarial:
            losses["discriminator"] = self._update_discriminators(seen)
        self.average.update_parameters(self.codec)
        self.progress.step += 1
        codes = self.accelerator.gather(torch.cat(codes))
        losses["codes_used"] = torch.tensor(float(codes.unique().numel()), device=codes.device)
        return losses

    def _update_codec(
        self, parts: tuple[Tensor, ...], adversarial: bool
    ) -> tuple[dict[str, Tensor], list[tuple[Any, Any]], list[Tensor]]:
        """Losses, what the discriminators saw of audio and reconstruction, and codes (b, T) of the parts of a step."""
        # Unwrapped and frozen: the codec's loss needs no gradient of the discriminators' weights.
        frozen = self.accelerator.unwrap_model(self.discriminators).requires_grad_(False) if adversarial else None
        sums: dict[str, Tensor] = {}
        seen, codes = [], []
        for number, audio in enumerate(parts, 1):
            with self._gradients(self.model, complete=number == len(parts)):
                with self.accelerator.autocast():
                    reconstruction, part_codes = self.model(audio)
                    losses = spectral_step(audio, reconstruction, self.spectral_losses)
                    if frozen is not None:
                        with torch.no_grad():
                            real = frozen.prepare(audio)
                        fake = frozen.prepare(reconstruction)
                        losses |= generator_step(frozen, real, fake, self.config.feature_weight > 0)
                        seen.append((real, fake))
                self.accelerator.backward(self._total(losses) / len(parts))
            sums = {name: sums.get(name, 0) + loss.detach() / len(parts) for name, loss in losses.items()}
            codes.append(part_codes)
        if frozen is not None:
            frozen.requires_grad_(True)
        norm = self._step(self.model, self.optimizers[0], sums)
        return sums | {"gradient_norm": norm}, seen, codes

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        """Weighted sum of the losses of the codec."""
        return sum(getattr(self.config, f"{name}_weight") * loss for name, loss in losses.items())

    def _update_discriminators(self, seen: list[tuple[Any, Any]]) -> Tensor:
        total = torch.zeros((), device=self.accelerator.device)
        for number, (real, fake) in enumerate(seen, 1):
            with self._gradients(self.discriminators, complete=number == len(seen)):
                with self.accelerator.autocast():
                    loss = discriminator_step(self.discriminators, real, fake) / len(seen)
                self.accelerator.backward(loss)
            total = total + loss.detach()
        self._step(self.discriminators, self.optimizers[1], {"discriminator": total})
        return total

    def _gradients(self, module: nn.Module, complete: bool) -> contextlib.AbstractContextManager:
        """Context of a backward pass; processes exchange gradients once those of a step are complete."""
        return contextlib.nullcontext() if complete else self.accelerator.no_sync(module)

    def _step(self, module: nn.Module, optimizer: torch.optim.Optimizer, losses: dict[str, Tensor]) -> Tensor:
        """Update the weights; returns the norm of the gradient, which is the same on all processes."""
        norm = self.accelerator.clip_grad_norm_(module.parameters(), self.config.gradient_clip)
        if not torch.isfinite(norm):  # of a loss that is not finite too
            values = {name: loss.item() for name, loss in losses.items()}
            raise RuntimeError(
                f"loss or gradient is not finite at step {self.progress.step}: {values}; lower the learning rate"
            )
        optimizer.step()
        optimizer.zero_grad()
        return norm

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mel loss and code usage of the averaged weights on whole validation clips; writes the first three as wav."""
        import soundfile

        codec = self.average.module.eval()
        clips = self.validation.spread(self.config.validation_clips)
        losses, used = [], set()
        for number, index in enumerate(clips):
            audio = torch.from_numpy(to_float32(self.validation[index])).view(1, 1, -1)
            audio = audio.to(self.accelerator.device)
            output = codec(audio)
            losses.append(self.spectral_losses["mel"](output.audio_values, audio).item())
            used.update(output.audio_codes.flatten().tolist())
            if number < 3 and self.accelerator.is_main_process:
                folder = self.output / "validation"
                folder.mkdir(exist_ok=True)
                soundfile.write(
                    folder / f"{number}.wav", output.audio_values.flatten().cpu(), codec.config.sampling_rate
                )
        return {"validation_mel": sum(losses) / len(losses), "validation_codes_used": len(used)}

    def save(self) -> None:
        """Write a resumable checkpoint and the averaged weights, then delete the oldest checkpoints."""
        name = f"checkpoint-{self.progress.step:08d}"
        self.accelerator.save_state(str(self.output / f"partial-{name}"))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        weights = self.output / "weights"  # first: a checkpoint says that they are there
        self.average.module.save_pretrained(weights)
        save_feature_extractor(self.codec.config, weights)
        shutil.rmtree(self.output / name, ignore_errors=True)
        (self.output / f"partial-{name}").rename(self.output / name)
        for old in self._checkpoints()[: -self.config.keep_checkpoints]:
            shutil.rmtree(old)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.output.glob("checkpoint-*"))

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            for interrupted in self.output.glob("partial-checkpoint-*"):
                shutil.rmtree(interrupted)
        if self._checkpoints():
            self.accelerator.load_state(str(self._checkpoints()[-1]))

    def _of_main_process(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor(value if self.accelerator.is_main_process else 0.0, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum"))

    def _record_settings(self) -> None:
        """Write the settings and what is held out; a run that goes on with other settings says so, in its log too.

        Raises:
            ValueError: If other recordings were held out before: some would be trained on.
        """
        held_out = self.validation.digests if self.config.hold_out else []
        files = {"config.json": asdict(self.config), "held_out.json": {"digests": held_out}}
        files = {self.output / name: json.loads(json.dumps(values)) for name, values in files.items()}
        changed = {}
        for path, now in files.items():
            if self.progress.step and path.exists():
                before = json.loads(path.read_text())
                changed |= {name: [before.get(name), value] for name, value in now.items() if before.get(name) != value}
        if "digests" in changed:
            raise ValueError(
                f"{self.output} holds a run that held out other recordings, which would be trained on; choose another "
                "output, or the data and hold_out it was started with"
            )
        if changed:
            self.accelerator.print(f"goes on with other settings than before [before, now]: {changed}")
            self._log({"changed": changed})
        self.accelerator.wait_for_everyone()  # all have read
        if self.accelerator.is_main_process:
            for path, now in files.items():
                write_atomically(path, json.dumps(now, indent=2).encode())

    def _log(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with open(self.output / "log.jsonl", "a") as log:
                log.write(json.dumps({"step": self.progress.step} | values) + "\n")
