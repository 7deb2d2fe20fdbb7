"""The training loop of codec and language model: steps, checkpoints, log and progress; resumes to the bit."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..audio.files import make_folder, read_json, replaced_folder, write_atomically
from .settings import LoopConfig

_LONGEST_WAIT = timedelta(days=60)  # of processes for the one that decodes the data; launchers end all if one ends
Part = TypeVar("Part")


class NotFiniteError(RuntimeError):
    """A loss or a gradient is NaN or infinite; no weight was changed."""


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


class ResumableTrainer:
    """Trains weights step by step and can be interrupted at any moment.

    A run is a function of its settings: batches depend on seed and step alone, and everything else is in the
    checkpoints, so a resumed run ends with the weights of an uninterrupted one. A subclass supplies `build`, `update`
    and `save_weights`; `validate`, if it has validation data; and what else there is to record, in `settings`.

    Args:
        config: Settings of the run.

    Raises:
        ValueError: If the settings, the data and the processes do not fit together.
    """

    config: LoopConfig
    validation: Any = None
    """Data to validate on, if there is some."""

    def __init__(self, config: LoopConfig):
        self.config = config
        self.output = Path(config.output)
        make_folder(self.output)
        waiting = InitProcessGroupKwargs(timeout=_LONGEST_WAIT)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision, kwargs_handlers=[waiting])
        processes, started = self.accelerator.num_processes, int(os.environ.get("WORLD_SIZE", 1))
        if processes != started:
            raise ValueError(
                f"{started} processes were started and Accelerate uses {processes}; "
                "on a CPU start them with ACCELERATE_USE_CPU=1 torchrun"
            )
        set_seed(config.seed)
        self.progress = Progress()
        self._began = (0, 0.0)  # step and minutes at the start of this process
        self.modules: list[nn.Module] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self._peak_rates: list[float] = []
        self.build()
        self.accelerator.register_for_checkpointing(self.progress)

    def build(self) -> None:
        """Open the data, and make the modules and `add` them; random numbers come from the seed of the run."""
        raise NotImplementedError

    def update(self, step: int) -> dict[str, Any]:
        """Compute gradients and `apply_gradients`; returns what is logged, tensors to be averaged over processes."""
        raise NotImplementedError

    def validate(self) -> dict[str, Any]:
        """What is logged of the validation data."""
        raise NotImplementedError

    def save_weights(self, folder: Path) -> None:
        """Write the weights to use, and what it takes to use them; on the main process alone."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Content of config.json."""
        return asdict(self.config)

    def settings_by_name(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The content of config.json as one level of names and values, to compare."""
        return settings

    def add(
        self,
        module: nn.Module,
        learning_rate: float,
        betas: Sequence[float],
        groups: list[dict[str, Any]] | None = None,
    ) -> nn.Module:
        """Give a module an optimizer; returns the module as it is to be called.

        Args:
            module: Its weights that take gradients are trained.
            learning_rate: Peak rate.
            betas: AdamW betas.
            groups: Parameter groups of the optimizer; one without weight decay if left out.
        """
        groups = groups or [{"params": [p for p in module.parameters() if p.requires_grad], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, learning_rate, (betas[0], betas[1]), fused=True)
        module, optimizer = self.accelerator.prepare(module, optimizer)
        self.modules.append(module)
        self.optimizers.append(optimizer)
        self._peak_rates.append(learning_rate)
        return module

    def run(self) -> None:
        """Train to the last step or the last minute, from the newest checkpoint if there is one."""
        config, progress = self.config, self.progress
        self._resume()
        self.record_settings()
        self._began = first, minutes = progress.step, progress.minutes
        start = time.monotonic() - 60 * minutes
        hidden = None if self.accelerator.is_local_main_process else True  # None: hidden where there is no terminal
        bar = tqdm(total=config.steps, initial=first, desc="train", disable=hidden)
        while progress.step < config.steps and progress.minutes < minutes + config.max_minutes:
            values = self.train_step()
            # One clock for all processes: they must leave the loop at the same step.
            progress.minutes = self._of_main_process((time.monotonic() - start) / 60)
            bar.update()
            if progress.step == first + 10:
                self.say(f"ten steps are done: {self._pace()}")
            if progress.step % config.log_every == 0:
                values = self._means(values)
                self.log(values | {"minutes": round(progress.minutes, 3)})
                shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                bar.set_postfix_str(shown)
                if bar.disable:
                    self.say(f"step {progress.step} of {config.steps}: {shown}; {self._pace()}")
            if self.validation is not None and progress.step % config.validate_every == 0:
                self.log(self.validate())
            if progress.step % config.save_every == 0:
                self.save()
        bar.close()
        if progress.step % config.save_every:
            self.save()
        more = "" if progress.step >= config.steps else "; the same command goes on from there"
        self.say(f"{progress.step} of {config.steps} steps are done, the result is in {self.output / 'weights'}{more}")

    def train_step(self) -> dict[str, Any]:
        """Make one optimizer step; returns what is logged, with losses of this process.

        Raises:
            NotFiniteError: If a loss or a gradient is not finite.
        """
        for optimizer, peak in zip(self.optimizers, self._peak_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * self.config.rate_factor(self.progress.step)
        values = self.update(self.progress.step)
        self.progress.step += 1
        return values

    def accumulate(self, module: nn.Module, parts: Sequence[Part]) -> Iterator[Part]:
        """The parts of a step, one after another; processes exchange the gradients of a module with the last one."""
        for number, part in enumerate(parts, 1):
            with contextlib.nullcontext() if number == len(parts) else self.accelerator.no_sync(module):
                yield part

    def with_gradients(self) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        """The modules that take part in a step, with their optimizers."""
        pairs = zip(self.modules, self.optimizers, strict=True)
        return [pair for pair in pairs if any(p.grad is not None for p in pair[0].parameters())]

    def apply_gradients(self, losses: dict[str, Tensor]) -> list[Tensor]:
        """Clip and check all gradients, then update the weights; returns the norms of the gradients, by module.

        Raises:
            NotFiniteError: If a loss or a gradient is not finite, on any process.
        """
        trained = self.with_gradients()
        clip = self.config.gradient_clip
        norms = [self.accelerator.clip_grad_norm_(module.parameters(), clip) for module, _ in trained]
        finite = torch.isfinite(torch.stack([*norms, *losses.values()])).all()
        if self.accelerator.reduce((~finite).float(), "sum"):
            values = {name: loss.item() for name, loss in losses.items()}
            raise NotFiniteError(
                f"loss or gradient is not finite at step {self.progress.step}: losses {values}, gradient norms "
                f"{[norm.item() for norm in norms]}; lower the learning rate"
            )
        for _, optimizer in trained:
            optimizer.step()
            optimizer.zero_grad()
        return norms

    def save(self) -> None:
        """Write a resumable checkpoint and the weights, then delete the oldest checkpoints."""
        name = f"checkpoint-{self.progress.step:08d}"
        self.accelerator.save_state(str(self.output / f"partial-{name}"))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        with replaced_folder(self.output / "weights") as folder:  # first: a checkpoint says that they are there
            self.save_weights(folder)
        shutil.rmtree(self.output / name, ignore_errors=True)
        (self.output / f"partial-{name}").rename(self.output / name)
        for old in self.checkpoints()[: -self.config.keep_checkpoints]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints in the output folder, the newest last."""
        return sorted(self.output.glob("checkpoint-*"))

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            for interrupted in self.output.glob("partial-checkpoint-*"):
                shutil.rmtree(interrupted)
        if self.checkpoints():
            self.accelerator.load_state(str(self.checkpoints()[-1]))

    def record_settings(self) -> None:
        """Write config.json; a run that goes on with other settings than before says so, in its log too."""
        path = self.output / "config.json"
        now = json.loads(json.dumps(self.settings()))
        before = read_json(path) if self.progress.step and path.exists() else now
        old, new = self.settings_by_name(before), self.settings_by_name(now)
        changed = {name: [old.get(name), value] for name, value in new.items() if old.get(name) != value}
        if changed:
            pairs = ", ".join(f"{name}: {was} -> {value}" for name, (was, value) in changed.items())
            self.say(f"resuming with changed settings (old -> new): {pairs}")
            self.log({"changed": changed})
        self.accelerator.wait_for_everyone()  # all have read
        if self.accelerator.is_main_process:
            write_atomically(path, json.dumps(now, indent=2).encode())

    def log(self, values: dict[str, Any]) -> None:
        """Add a line to log.jsonl."""
        if self.accelerator.is_main_process:
            with open(self.output / "log.jsonl", "a") as file:
                file.write(json.dumps({"step": self.progress.step} | values) + "\n")

    def say(self, text: str) -> None:
        """Print a line beside the progress bar, once on every machine."""
        if self.accelerator.is_local_main_process:
            tqdm.write(text, file=sys.stderr)

    def _pace(self) -> str:
        """Seconds a step since this process started, and when the run will end."""
        step, minutes = self._began
        seconds = 60 * (self.progress.minutes - minutes) / (self.progress.step - step)
        left = (self.config.steps - self.progress.step) * seconds
        left = min(left, 60 * (minutes + self.config.max_minutes - self.progress.minutes))
        end = datetime.now() + timedelta(seconds=left)
        return f"{seconds:.3g} s a step, {tqdm.format_interval(left)} to go, until about {end:%Y-%m-%d %H:%M}"

    def _means(self, values: dict[str, Any]) -> dict[str, float]:
        """Values with those of tensors averaged over processes."""
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        means = self.accelerator.reduce(torch.stack(list(tensors.values())), "mean").tolist()
        return values | dict(zip(tensors, means, strict=True))

    def _of_main_process(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor(value if self.accelerator.is_main_process else 0.0, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum"))
