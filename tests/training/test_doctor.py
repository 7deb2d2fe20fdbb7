"""The training doctor finds planted faults, and none in a healthy run."""

import json

import numpy as np
import pytest
import soundfile
import torch

from q2d2_tokenizer import Q2D2Model, read_audio, sample_recording
from q2d2_tokenizer.audio.errors import NotFiniteAudioError
from q2d2_tokenizer.training import codec as training
from q2d2_tokenizer.training.codec import TrainConfig
from q2d2_tokenizer.training.doctor import Report, check_shares, examine
from q2d2_tokenizer.training.speech_statistics import measure_speech

RATE = 24000
SMALL = {"band": {"sizes": [512], "dim": 16}, "period": {"sizes": [3], "channels": [8, 16]}}


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """File with the bundled recording."""
    path = tmp_path_factory.mktemp("data") / "speech.wav"
    soundfile.write(path, read_audio(sample_recording(), RATE), RATE)
    return path


@pytest.fixture
def run(tmp_path, tiny_model, speech):
    """Function of changed settings and of a change of the codec -> report of a tiny codec on the bundled recording."""

    def make(damage=None, **settings) -> Report:
        if damage:
            damage(tiny_model)
        tiny_model.save_pretrained(tmp_path / "codec")
        settings = {"data": [str(speech)], "codec": str(tmp_path / "codec"), "segment_frames": 40} | settings
        settings = {"discriminator_kwargs": SMALL, "learning_rate": 5e-3} | settings
        return examine(TrainConfig(output=str(tmp_path / "run"), **settings), steps=10, batch_size=2)

    return make


def parts(report: Report) -> set[str]:
    """Where the faults are."""
    return {fault.part for fault in report.faults}


def test_a_healthy_run_has_no_fault_and_the_report_shows_everything(run, tmp_path, tiny_config, capsys):
    report = run()
    said = capsys.readouterr().err
    assert "training on one batch for 10 steps" in said and "check: step 3 of 10 on one batch, about 0" in said
    assert report.faults == [], report.text()
    report.write(tmp_path / "check")
    written = json.loads((tmp_path / "check" / "report.json").read_text())
    assert {"encoder", "quantizer", "decoder", "band 512", "period 3"} <= set(written["gradient_norms"][-1])
    assert [grid["size"] for grid in written["usage"]] == tiny_config.points_per_group
    assert sum(written["shares"].values()) == pytest.approx(1) and len(written["shares"]) == 5
    text = (tmp_path / "check" / "report.txt").read_text()
    assert "No fault found" in text and "frame_line" in text and "level_db" in written["voice"]
    if pytest.importorskip("matplotlib"):
        assert (tmp_path / "check" / "report.png").stat().st_size > 10_000


def test_a_dead_encoder_is_found(run, monkeypatch):
    forward = training.Q2D2Model.from_pretrained

    def dead(*args, **kwargs):
        model = forward(*args, **kwargs)
        model.encoder.register_forward_hook(lambda module, inputs, output: output * 0)
        return model

    monkeypatch.setattr(training.Q2D2Model, "from_pretrained", dead)
    report = run()
    assert "the encoder" in parts(report) and "group 1 of the quantizer" in parts(report)
    assert {"no gradient reaches it"} <= {f.problem for f in report.faults if f.part == "the encoder"}


def test_a_frozen_encoder_is_found_unless_it_was_asked_for(run, monkeypatch):
    assert run(freeze=["encoder"]).faults == []
    load = training.make_codec
    monkeypatch.setattr(training, "make_codec", lambda *source: load(*source).apply(freeze_encoder))
    assert parts(run()) == {"the encoder"}


def freeze_encoder(module: torch.nn.Module) -> None:
    """Take the gradient from the encoder of a codec."""
    if isinstance(module, Q2D2Model):
        module.encoder.requires_grad_(False)


def test_silent_audio_is_found(run, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.full(2 * RATE, 1e-5), RATE, "FLOAT")
    report = run(data=[str(tmp_path / "silent.wav")])
    assert "the data" in parts(report) and "silent" in report.text()


@pytest.mark.parametrize("label", [12000, 16000, 36000, 48000])
def test_a_wrong_rate_is_found(label):
    audio = read_audio(sample_recording(), RATE)
    assert not measure_speech([audio], RATE).wrong_speed
    import soxr

    heard = soxr.resample(audio, label, RATE)  # as if the header said so
    assert measure_speech([heard], RATE).wrong_speed


def test_a_wrong_rate_is_a_fault_of_the_data(run, tmp_path):
    soundfile.write(tmp_path / "fast.wav", read_audio(sample_recording(), 16000), RATE)
    report = run(data=[str(tmp_path / "fast.wav")])
    assert parts(report) == {"the data"} and "sampling rate" in report.text()


@pytest.mark.parametrize("streaming", [False, True])
def test_nan_in_the_data_is_found_and_named(run, tmp_path, speech, streaming):
    soundfile.write(tmp_path / "broken.wav", np.array([0.1, np.nan] * RATE, np.float32), RATE, "FLOAT")
    others = [] if streaming else [str(speech)]  # streaming reads what the batch needs
    report = run(data=[*others, str(tmp_path / "broken.wav")], streaming=streaming)
    assert parts(report) == {"the data"} and "broken.wav" in report.text()


def test_what_is_not_finite_is_known_by_its_class(run, monkeypatch):
    def damaged(*_):
        raise NotFiniteAudioError("other words")

    monkeypatch.setattr("q2d2_tokenizer.training.data.read_cell", damaged)
    report = run()
    assert parts(report) == {"the data"} and "other words" in report.text()


def test_nan_in_the_weights_is_named_before_anything_is_trained(run):
    def damage(model):
        with torch.no_grad():
            next(model.decoder.parameters()).view(-1)[0] = float("nan")

    with pytest.raises(ValueError, match=r"holds NaN or infinity in \['decoder\..*an earlier checkpoint"):
        run(damage)


def test_a_weight_off_by_100_is_found(run):
    assert "the weight of the mel loss" in parts(run(mel_weight=1500.0))
    healthy = run().losses
    for name in ("mel", "loudness", "envelope", "adversarial", "feature"):
        default = TrainConfig.__dataclass_fields__[f"{name}_weight"].default
        for factor in (100, 0.01):
            report = Report(losses=healthy)
            check_shares(report, TrainConfig(data=[], output="", **{f"{name}_weight": factor * default}))
            assert any(part.startswith("the weight of the") for part in parts(report)), (name, factor)


def test_a_loss_that_is_switched_off_is_no_fault():
    report = Report(losses=[{"mel": 1.0, "loudness": 2.0, "adversarial": 1.0, "feature": 0.5}])
    check_shares(report, TrainConfig(data=[], output="", feature_weight=0.0))
    assert report.faults == [] and "feature" not in report.shares


def test_a_run_without_the_loudness_loss_can_be_checked(run):
    assert "the loudness loss" not in parts(run(loudness_weight=0.0))


def test_the_bundled_codec_is_healthy(run):
    report = run(codec="bundled", learning_rate=2e-4, adversarial_start=10**6)
    assert report.faults == [], report.text()
