"""Fine-tuning in one command: what it writes, that it helps where it was tuned, and that nothing held out is seen."""

import json

import pytest
import soundfile

from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.commands import finetune
from q2d2_tokenizer.commands.main import main

RATE = 24000
SMALL = {"band": {"sizes": [512], "dim": 8}, "period": {"sizes": [3], "channels": [4, 8]}}


@pytest.fixture
def arguments(tmp_path, tiny_model, speech_like, monkeypatch):
    """Arguments that tune a tiny codec on six short recordings of which two are held out."""
    monkeypatch.setattr(finetune, "SCORES", ["log_mel"])
    tiny_model.save_pretrained(tmp_path / "codec")
    for folder, first in (("mine", 0), ("other", 10)):
        (tmp_path / folder).mkdir()
        for i in range(6):
            soundfile.write(tmp_path / folder / f"{i}.wav", speech_like(RATE, seed=first + i), RATE)
    settings = {"data": tmp_path / "mine", "output": tmp_path / "run", "codec": tmp_path / "codec", "hold_out": 2}
    settings |= {"steps": 40, "decay_steps": 10, "warmup_steps": 5, "learning_rate": 3e-3, "ema_decay": 0.8}
    settings |= {
        "discriminator_kwargs": json.dumps(SMALL),
        "batch_size": 4,
        "segment_frames": 16,
        "validate_every": 100,
        "save_every": 100,
    }
    return ["finetune"] + [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def test_tuning_helps_on_held_out_recordings_and_is_measured(arguments, tmp_path):
    main([*arguments, "--elsewhere", str(tmp_path / "other"), "--clips", "3"])
    result = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert result["training_recordings"] == 4 and result["steps"] == 40
    mine, other = (result["scores"][place]["log_mel"] for place in ("held out", "elsewhere"))
    assert (mine["before"]["n"], other["before"]["n"]) == (2, 3)
    assert mine["difference"]["mean"] == pytest.approx(mine["after"]["mean"] - mine["before"]["mean"])
    assert mine["after"]["mean"] < 0.8 * mine["before"]["mean"]
    table = (tmp_path / "run" / "comparison.md").read_text()
    assert f"{mine['difference']['mean']:+.3f}" in table and "log_mel ↓" in table


def test_frozen_parts_keep_the_tokens(arguments, tmp_path, tiny_model):
    import torch

    main([*arguments, "--steps", "3", "--freeze", "encoder", "quantizer"])
    tuned = Q2D2Model.from_pretrained(tmp_path / "run" / "weights").eval()
    audio = 0.1 * torch.randn(1, 1, RATE)
    before, after = (model.encode(audio).audio_codes for model in (tiny_model, tuned))
    assert torch.equal(before, after) and tuned.fingerprint() == tiny_model.fingerprint()
    assert not torch.equal(tuned.decoder.head.project.weight, tiny_model.decoder.head.project.weight)


def test_a_run_goes_on_only_while_the_same_recordings_are_held_out(arguments, tmp_path, speech_like, capsys):
    main([*arguments, "--steps", "2", "--save_every", "2"])
    main([*arguments, "--steps", "4", "--save_every", "2"])  # says that the steps are others
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["changed"] for line in log if "changed" in line] == [{"steps": [2, 4]}]
    for i in range(6, 9):
        soundfile.write(tmp_path / "mine" / f"{i}.wav", speech_like(RATE, seed=i), RATE)
    for more in ([], ["--hold_out", "1"]):
        assert main([*arguments, *more, "--steps", "6"]) == 2
        assert "held out other recordings" in capsys.readouterr().err


def test_a_config_file_adds_to_the_settings_of_fine_tuning(arguments, tmp_path):
    (tmp_path / "mine.yaml").write_text("loudness_weight: 3.5")
    main([*arguments, "--config", str(tmp_path / "mine.yaml"), "--steps", "1"])
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["loudness_weight"] == 3.5 and settings["gradient_clip"] == 1.0


def test_check_examines_instead_of_tuning(arguments, tmp_path, capsys):
    assert main([*arguments, "--check"]) in (0, 1)
    assert (tmp_path / "run" / "check" / "report.txt").read_text() in capsys.readouterr().out
    assert not (tmp_path / "run" / "weights").exists()


def test_validation_data_instead_of_held_out_recordings_is_refused(arguments, tmp_path):
    assert main([*arguments, "--validation_data", str(tmp_path / "other")]) == 2
    for codec in ("", "config.json"):
        assert main([*arguments, "--codec", codec]) == 2
