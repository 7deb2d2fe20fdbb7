"""The training loop, with the codec and with the language model: what stops it, and that nothing else changes a run."""

import functools
import json
import math
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate.launchers import debug_launcher
from accelerate.state import AcceleratorState
from language_models import CODES, TINY, write_shard
from safetensors.torch import load_file
from torch.distributed import distributed_c10d
from torch.multiprocessing import start_processes

from lm.model import ModelSettings
from lm.training import LanguageModelTrainer
from lm.training import TrainConfig as LanguageModelConfig
from q2d2_tokenizer import Q2D2Config
from q2d2_tokenizer.training import codec as codec_training
from q2d2_tokenizer.training.codec import CodecTrainer
from q2d2_tokenizer.training.codec import TrainConfig as CodecConfig
from q2d2_tokenizer.training.data import AudioCache
from q2d2_tokenizer.training.loop import LoopConfig, NotFiniteError, ResumableTrainer

Make = Callable[..., ResumableTrainer]
RATE = 24000
SETTINGS = {"steps": 6, "warmup_steps": 2, "decay_steps": 2, "log_every": 1, "validate_every": 4, "save_every": 2}
SMALL = {"band": {"sizes": [512], "dim": 8}, "period": {"sizes": [3], "channels": [4, 8]}}
CONFIGS = {"codec": CodecConfig, "language model": LanguageModelConfig}


def make_codec_trainer(folder: Path, output: str, dropout: float = 0.0, **changes) -> CodecTrainer:
    """A trainer with discriminators; codecs have no dropout."""
    settings = {"data": [str(folder / "noise.wav")], "validation_data": [str(folder / "noise.wav")]}
    settings |= {"codec": str(folder / "codec.json"), "cache": str(folder / "cache"), "discriminator_kwargs": SMALL}
    settings |= {"batch_size": 4, "segment_frames": 16, "adversarial_start": 1, "discriminator_learning_rate": 1e-4}
    return CodecTrainer(CodecConfig(**SETTINGS | settings | changes, output=str(folder / output)))


def make_language_model_trainer(folder: Path, output: str, dropout: float = 0.1, **changes) -> LanguageModelTrainer:
    """A trainer of a tiny model."""
    settings = {"data": [str(folder / "tokens.parquet")], "validation_data": [str(folder / "tokens.parquet")]}
    config = LanguageModelConfig(
        **SETTINGS | settings | {"tokens_per_batch": 256} | changes, output=str(folder / output)
    )
    return LanguageModelTrainer(config, ModelSettings(**TINY, attention_dropout=dropout))


@pytest.fixture(params=CONFIGS)
def make(request, tmp_path, tiny_config: Q2D2Config) -> Make:
    """Function of the name of the output and of changed settings -> trainer in a folder of this test."""
    rng = np.random.default_rng(0)
    if request.param == "codec":
        soundfile.write(tmp_path / "noise.wav", 0.1 * rng.standard_normal(2 * RATE), RATE)
        tiny_config.to_json_file(tmp_path / "codec.json")
        return functools.partial(make_codec_trainer, tmp_path)
    write_shard(tmp_path / "tokens.parquet", [rng.integers(0, CODES, rng.integers(5, 40)).tolist() for _ in range(20)])
    return functools.partial(make_language_model_trainer, tmp_path)


def weights(trainer: ResumableTrainer) -> dict[str, torch.Tensor]:
    """The weights that a run has written."""
    return load_file(trainer.output / "weights" / "model.safetensors")


def log(trainer: ResumableTrainer) -> list[dict]:
    """Lines of the log, without the time."""
    lines = map(json.loads, (trainer.output / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "minutes"} for line in lines]


def assert_same_training(one: ResumableTrainer, other: ResumableTrainer) -> None:
    """Two runs log the same losses, up to rounding, and end with the same weights."""
    one_log, other_log = ([line for line in log(trainer) if "gradient_norm" in line] for trainer in (one, other))
    assert len(one_log) == one.config.steps
    for line, others in zip(one_log, other_log, strict=True):
        assert line == pytest.approx(others, rel=1e-3, abs=1e-5)
    for name, tensor in weights(one).items():
        assert torch.allclose(tensor, weights(other)[name], atol=2e-4)


@pytest.mark.parametrize("module", [0, -1])  # codec and discriminators, or twice the language model
def test_a_gradient_that_is_not_finite_changes_nothing_and_the_run_can_go_on(make, module):
    make("whole").run()
    make("run", steps=4, max_minutes=0.0).run()
    first = make("run")
    for _ in range(2):
        first.train_step()
    first.save()
    before = {path: path.read_bytes() for path in first.output.glob("*/*") if path.is_file()}
    planted = make("run")
    parameter = next(planted.modules[module].parameters())
    parameter.register_hook(lambda gradient: gradient * math.nan)  # the loss stays finite
    with pytest.raises(NotFiniteError, match="not finite at step 2.*lower the learning rate"):
        planted.run()
    assert {path: path.read_bytes() for path in before} == before
    for ours, theirs in zip(planted.modules, first.modules, strict=True):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)
    resumed = make("run")
    resumed.run()
    for name, tensor in weights(make("whole")).items():
        assert torch.equal(tensor, weights(resumed)[name])


def test_a_loss_that_is_not_finite_stops_the_run(make):
    with pytest.raises(NotFiniteError, match="'mel': nan"):
        make("run").apply_gradients({"mel": torch.tensor(math.nan)})


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_run_shorter_than_its_decay_reaches_the_peak_rate(config):
    settings = config(data=[], output="", steps=100, warmup_steps=1)
    assert settings.decay_steps > 1000
    assert settings.rate_factor(0) == 1 and settings.rate_factor(50) == 0.5
    default, codec = config(data=[], output="", steps=100), CodecConfig(data=[], output="", steps=100)
    assert max(map(default.rate_factor, range(100))) >= max(map(codec.rate_factor, range(100))) > 0.24


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(
    "wrong",
    [{name: 0} for name in ("accumulation", "warmup_steps", "decay_steps", "log_every", "save_every")]
    + [{"validate_every": 0}, {"keep_checkpoints": 0}, {"mixed_precision": "fp8"}, {"betas": [0.9]}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_settings_are_refused(config, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(data=["x"], output="y", **wrong)


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(make, monkeypatch):
    whole = make("whole")
    whole.run()
    make("parts", max_minutes=0.0).run()  # stops at once
    killed = make("parts")
    step = killed.update
    monkeypatch.setattr(killed, "update", lambda number: step(number) if number < 5 else exit("killed"))
    with pytest.raises(SystemExit):
        killed.run()
    (killed.output / "partial-checkpoint-00000005").mkdir()
    resumed = make("parts", keep_checkpoints=1)
    resumed.run()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name])
    assert [path.name for path in whole.checkpoints()] == ["checkpoint-00000004", "checkpoint-00000006"]
    assert [path.name for path in resumed.checkpoints()] == ["checkpoint-00000006"]
    assert not list(resumed.output.glob("partial-*"))
    losses = [line for line in log(resumed) if "gradient_norm" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4, 5, 5, 6] and losses[4] == losses[5]
    assert [line["step"] for line in log(resumed) if any(name.startswith("validation") for name in line)] == [4]


def test_weights_are_written_before_the_checkpoint_that_promises_them(make, monkeypatch):
    trainer = make("run")
    trainer.train_step()
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda path, to: exit("killed") if "checkpoint" in path.name else rename(path, to)
    )
    with pytest.raises(SystemExit):
        trainer.save()
    assert weights(trainer) and not trainer.checkpoints()


@pytest.mark.parametrize("when", ["while weights are written", "before they are in place"])
def test_an_interruption_leaves_no_half_model(make, monkeypatch, when):
    trainer = make("run", save_every=1)
    trainer.train_step()
    trainer.save()
    before = weights(trainer)
    files = sorted(path.name for path in (trainer.output / "weights").iterdir())

    def half(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        exit("killed")

    trainer.train_step()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        if when.startswith("while"):
            patch.setattr(trainer, "save_weights", half)
        else:
            rename = Path.rename
            patch.setattr(Path, "rename", lambda path, to: exit("killed") if "new" in path.name else rename(path, to))
        trainer.save()
    kept = trainer.output / ("weights" if when.startswith("while") else ".weights.old")
    for name, tensor in load_file(kept / "model.safetensors").items():
        assert torch.equal(tensor, before[name])
    trainer.save()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(trainer).items())
    assert sorted(path.name for path in (trainer.output / "weights").iterdir()) == files
    assert not list(trainer.output.glob(".weights*"))


def test_settings_are_whole_after_a_crash_while_they_are_written(make, monkeypatch):
    make("run", steps=2).run()
    path = make("run").output / "config.json"
    before = path.read_text()

    def half(self, content):
        with open(self, "wb") as file:
            file.write((content if isinstance(content, bytes) else content.encode())[:100])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="no space left"):
        make("run", steps=4).record_settings()
    assert path.read_text() == before and json.loads(before)


def test_a_run_that_goes_on_with_other_settings_says_so(make, capsys):
    make("run", steps=2).run()
    assert "changed" not in capsys.readouterr().err
    trainer = make("run", steps=4, gradient_clip=0.5)
    trainer.run()
    said = "resuming with changed settings (old -> new): "
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(said)]
    assert sorted(line.removeprefix(said).split(", ")) == ["gradient_clip: 1.0 -> 0.5", "steps: 2 -> 4"]
    (changed,) = [line["changed"] for line in log(trainer) if "changed" in line]
    assert changed == {"steps": [2, 4], "gradient_clip": [1.0, 0.5]}


def test_without_a_terminal_lines_show_losses_and_the_expected_end(make, capsys):
    trainer = make("run", steps=12, log_every=4, save_every=20, validate_every=20)
    trainer.run()
    lines = [line for line in capsys.readouterr().err.splitlines() if " step" in line or line.startswith("step")]
    assert [line[:13] for line in lines] == [
        "step 4 of 12:",
        "step 8 of 12:",
        "ten steps are",
        "step 12 of 12",
        "12 of 12 step",
    ]
    for line in lines[:-1]:
        assert "s a step" in line and time.strftime("until about %Y-") in line
    assert "gradient_norm" in lines[0] and str(trainer.output / "weights") in lines[-1]


def test_a_step_in_parts_is_the_same_step(make):
    whole = make("whole", dropout=0.0, learning_rate=1e-4)
    parts = make("parts", dropout=0.0, learning_rate=1e-4, accumulation=2)
    whole.run()
    parts.run()
    assert_same_training(whole, parts)


def run_in_fork(make: Make, settings: dict) -> None:
    """A run in a process that was forked from this one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    make(**settings).run()


def test_two_processes_are_the_same_as_one(make, monkeypatch):
    settings = {"dropout": 0.0, "learning_rate": 1e-4}
    debug_launcher(run_in_fork, (make, settings | {"output": "two", "accumulation": 2}), num_processes=2)
    one = make("one", **settings)
    one.run()
    assert_same_training(one, make("two"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started and Accelerate uses 1"):
        make("lonely")


def run_while_the_main_process_decodes_for_long(rank: int, folder: Path, port: int) -> None:
    """A run in a fork whose processes by default wait for a second, and that decodes for longer."""
    AcceleratorState._reset_state(reset_partial_state=True)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()} | {"ACCELERATE_USE_CPU": "yes"})

    class Slow(AudioCache):
        def __init__(self, *arguments):
            time.sleep(3 if rank == 0 else 0)
            super().__init__(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed_c10d, "default_pg_timeout", timedelta(seconds=1))
        patch.setattr(codec_training, "AudioCache", Slow)
        make_codec_trainer(folder, "run", steps=1).run()


def test_processes_wait_for_the_one_that_decodes(tmp_path, tiny_config):
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(2 * RATE), RATE)
    tiny_config.to_json_file(tmp_path / "codec.json")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # not by debug_launcher, which makes a process group of its own
    start_processes(run_while_the_main_process_decodes_for_long, (tmp_path, port), nprocs=2, start_method="fork")
    assert (tmp_path / "run" / "weights").is_dir()


def run_with_a_clock_of_its_own(make: Make, folder: Path) -> None:
    """A run in a fork, where the clock of the main process gives a minute a look and that of the others an hour."""
    AcceleratorState._reset_state(reset_partial_state=True)
    trainer = make("run", max_minutes=2.5)
    looks = iter(range(1000))
    seconds = 60 if trainer.accelerator.is_main_process else 3600
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("q2d2_tokenizer.training.loop.time.monotonic", lambda: seconds * next(looks))
        trainer.run()
    (folder / f"{trainer.accelerator.process_index}.step").write_text(str(trainer.progress.step))


def test_two_processes_stop_at_the_same_step(make, tmp_path):
    debug_launcher(run_with_a_clock_of_its_own, (make, tmp_path), num_processes=2)
    assert [(tmp_path / f"{rank}.step").read_text() for rank in (0, 1)] == ["3", "3"]


def test_every_setting_has_a_help_text():
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    for config in (LoopConfig, *CONFIGS.values(), ModelSettings):
        parser = ArgumentParser()
        parser.add_class_arguments(config, as_group=False)
        for action in parser._actions:
            assert action.help and not action.help.startswith("Of "), action.dest


@pytest.mark.parametrize("config", [CodecConfig, LanguageModelConfig])
@pytest.mark.parametrize("steps", [0, -3])
def test_a_run_needs_at_least_one_step(config, steps, tmp_path):
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        config(data=["speech"], output=str(tmp_path), steps=steps)
