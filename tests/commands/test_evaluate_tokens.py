"""`q2d2 evaluate-tokens` and `q2d2 align` on tiny models: what is written, and the page that is filled."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch

from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.evaluation.token_tests import contrasts, probes, stability

RATE = 24000


@pytest.fixture
def models(tiny_model, language_model, tmp_path) -> list[str]:
    tiny_model.save_pretrained(tmp_path / "codec")
    language_model.save(tmp_path / "lm")
    return ["--codec", str(tmp_path / "codec"), "--language_model", str(tmp_path / "lm")]


@pytest.fixture
def files(tiny_model, speech_like, tmp_path):
    """Recordings of digits, the same as a Parquet file with speakers, and their token shards."""
    rows = {"codes": [], "num_samples": [], "text": ["hello there"] * 6}
    audio_rows = {"id": list("abcdef"), "audio": [], "speaker": ["x", "x", "x", "y", "y", "y"]}
    (tmp_path / "digits").mkdir()
    for number in range(6):
        audio, path = (
            speech_like(RATE // 2, seed=number),
            tmp_path / "digits" / f"{number % 2}_s{number % 3}_{number}.wav",
        )
        soundfile.write(path, audio, RATE)
        audio_rows["audio"].append({"bytes": path.read_bytes(), "path": None})
        codes = tiny_model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes.flatten()
        rows["codes"].append(codes.to(torch.int32).tolist())
        rows["num_samples"].append(len(audio))
    config = tiny_model.config
    metadata = {"codec_fingerprint": tiny_model.fingerprint(), "codebook_size": str(config.codebook_size)}
    metadata |= {"sampling_rate": str(RATE), "points_per_group": json.dumps(config.points_per_group)}
    table = pyarrow.table(rows).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, tmp_path / "tokens.parquet")
    pyarrow.parquet.write_table(pyarrow.table(audio_rows), tmp_path / "speech.parquet")
    return tmp_path


def test_parts_are_written_and_fill_a_page(files, models, monkeypatch):
    monkeypatch.setattr(probes, "EPOCHS", 2)
    monkeypatch.setattr(stability, "ROUNDS", 1)
    monkeypatch.setattr(contrasts, "PAIRS", 2)
    monkeypatch.setattr(contrasts, "_SECONDS", 0.1)
    digits, tokens, output = files / "digits", files / "tokens.parquet", files / "out"
    speech = str(files / "speech.parquet")
    (files / "docs").mkdir()
    page = files / "docs" / "PAGE.md"
    parts = "sets probes stability rounds modelling ngrams contrasts word_times runs summary"
    page.write_text("".join(f"<!-- tokens: {name} -->\n<!-- end -->\n" for name in parts.split()))
    arguments = ["--probes", f"fsdd={digits}", "--stability", speech, "--modelling", f"mine={tokens}"]
    arguments += ["--counted", str(tokens), "--contrasts", speech, "--output", str(output), "--clips", "4"]
    cache = ["--cache", str(files / "cache"), "--page", str(page)]
    assert main(["evaluate-tokens", *arguments, *cache, *models]) == 0
    found = {path.stem: json.loads(path.read_text()) for path in output.glob("*.json")}
    assert set(found) == {"probes-fsdd", "stability", "modelling-lm", "contrasts"}
    assert found["probes-fsdd"]["clips"] == found["stability"]["clips"] == 4
    measured = found["modelling-lm"]
    assert measured["language_model"]["mine"]["speech alone"]["recordings"] == 4
    assert (
        measured["ngrams"]["counted"]["recordings"] == 6 and measured["ngrams"]["held_out"]["mine"]["recordings"] == 4
    )
    assert [row["order"] for row in measured["ngrams"]["held_out"]["mine"]["factored"]] == list(range(10))
    assert set(found["contrasts"]["tasks"]) == {"speaker", "background", "room"}
    text = page.read_text()
    assert (
        "| fsdd | spoken digit" in text
        and "first 48 samples cut off, 0.15 of a frame" in text
        and "mine, 4 recordings" in text
    )
    assert "mine, 4 recordings, speech alone | lm, " in text and "M, flat |" in text
    assert text.count("not measured yet") == 1  # word times
    assert {path.name for path in output.glob("*.png")} == {"probes.png", "stability.png"}


def test_n_grams_that_saw_the_recordings_pay_less_than_uniform_codes(files, models, tiny_model):
    output = files / "out"
    arguments = ["--modelling", f"mine={files / 'tokens.parquet'}", "--counted", str(files / "tokens.parquet")]
    assert main(["evaluate-tokens", *arguments, "--output", str(output), *models]) == 0
    found = json.loads((output / "modelling-lm.json").read_text())
    for row in found["ngrams"]["held_out"]["mine"]["flat"]:
        assert 0 < row["held_out"] < tiny_model.config.bitrate


def test_wrong_use_is_explained(files, models, capsys):
    other = files / "other.parquet"
    table = pyarrow.parquet.read_table(files / "tokens.parquet")
    pyarrow.parquet.write_table(
        table.replace_schema_metadata(table.schema.metadata | {b"codec_fingerprint": b"x"}), other
    )
    for arguments, message in [
        ([], "give --probes"),
        (["--probes", f"fsdd={files / 'digits'}", "--clips", "0"], "clips must be at least 1"),
        (["--probes", "emotions=somewhere"], "must be one of ravdess"),
        (["--probes", "ravdess"], "--probes takes NAME=VALUE, got 'ravdess'"),
        (["--modelling", "=tokens", "mine="], "--modelling takes NAME=VALUE, got '=tokens mine='"),
        (["--sentences", str(files / "digits" / "0_s0_0.wav")], "0_s0_0.wav is not UTF-8"),
        (["--modelling", f"mine={other}"], "these tokens are of codec"),
    ]:
        output = ["--output", str(files / "out")]
        assert main(["evaluate-tokens", *arguments, *output, *models]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1


@pytest.mark.filterwarnings("error")
def test_align_needs_an_alignment_and_prints_a_label_track(files, models, capsys):
    recording = str(files / "digits" / "0_s0_0.wav")
    assert main(["align", recording, "hello there", *models]) == 2
    assert "no alignment" in capsys.readouterr().err
    assert main(["align", recording, "Hello there!"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [word for _, _, word in lines] == ["hello", "there"]
    assert np.all(np.diff([float(edge) for line in lines for edge in line[:2]]) >= 0)


def test_align_warns_of_a_text_that_the_recording_cannot_hold(files, capsys):
    recording = str(files / "digits" / "0_s0_0.wav")  # half a second
    with pytest.warns(UserWarning, match="the text is too long for its recording.*the recording has 0.5 s"):
        assert main(["align", recording, "Hello there, how are you today? " * 4]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 24
