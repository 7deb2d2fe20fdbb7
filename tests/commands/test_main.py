"""The command `q2d2`: whole folders, broken files, refusals before work starts, and `info`."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recordings import file_bytes

from q2d2_tokenizer import Q2D2Config, bundled
from q2d2_tokenizer.audio.reading import read_audio
from q2d2_tokenizer.audio.token_file import TokenFile, load_tokens, save_tokens
from q2d2_tokenizer.commands import main as cli
from q2d2_tokenizer.decoders import DECODERS
from q2d2_tokenizer.encoders import ENCODERS

CONFIGS = Path(__file__).parents[2] / "configs"
RATE = 24000


@pytest.fixture
def folder(tmp_path, speech_like) -> Path:
    """Recordings of several formats in a tree, and a file that is none."""
    root = tmp_path / "in"
    (root / "b" / "c").mkdir(parents=True)
    (root / "a.wav").write_bytes(file_bytes(speech_like(5000), RATE, "WAV", "PCM_16"))
    (root / "b" / "a.v1.FLAC").write_bytes(file_bytes(speech_like(4000, seed=1), 16000, "FLAC", "PCM_16"))
    (root / "b" / "c" / "d.opus").write_bytes(file_bytes(speech_like(9600, seed=2), 48000, "OGG", "OPUS"))
    (root / "notes.txt").write_text("no audio")
    return root


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def run(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_encode_and_decode_a_folder(folder, checkpoint, tiny_model, tmp_path, capsys):
    tokens, audio = tmp_path / "tokens", tmp_path / "audio"
    assert run(capsys, "encode", folder, "--output", tokens, "--codec", checkpoint) == (0, "wrote 3 files\n", "")
    assert files_below(tokens) == ["a.q2d2", "b/a.v1.q2d2", "b/c/d.q2d2"]
    assert run(capsys, "decode", tokens, "--output", audio, "--codec", checkpoint)[0] == 0
    assert files_below(audio) == ["a.wav", "b/a.v1.wav", "b/c/d.wav"]
    for name, source, length in [("a", "a.wav", 5000), ("b/a.v1", "b/a.v1.FLAC", 6000), ("b/c/d", "b/c/d.opus", 4800)]:
        samples = torch.from_numpy(read_audio(folder / source, RATE)).view(1, 1, -1)
        stored = load_tokens(tokens / f"{name}.q2d2")
        expected = tiny_model(samples)
        assert stored.audio_codes.tolist() == expected.audio_codes[0, 0].tolist()
        assert (stored.num_samples, stored.codec_fingerprint) == (length, tiny_model.fingerprint())
        decoded, rate = soundfile.read(audio / f"{name}.wav", dtype="float32")
        assert rate == RATE and decoded.shape == (length,)
        np.testing.assert_allclose(decoded, expected.audio_values[0, 0].clamp(-1, 1), atol=2**-15)


def test_single_file_and_reconstruct(folder, checkpoint, tmp_path, capsys):
    common = ("--codec", checkpoint)
    assert run(capsys, "encode", folder / "a.wav", "--output", tmp_path / "x" / "t.q2d2", *common)[0] == 0
    assert run(capsys, "decode", tmp_path / "x" / "t.q2d2", "--output", tmp_path / "y.wav", *common)[0] == 0
    assert run(capsys, "reconstruct", folder / "a.wav", "--output", tmp_path / "z", *common)[0] == 0
    assert (tmp_path / "y.wav").read_bytes() == (tmp_path / "z" / "a.wav").read_bytes()


def test_broken_files_do_not_stop_the_rest(folder, checkpoint, tmp_path, capsys):
    (folder / "b" / "broken.wav").write_text("no audio")
    (folder / "cut.wav").write_bytes((folder / "a.wav").read_bytes()[:3000])
    (folder / "nothing.mp3").write_bytes(b"")
    output = tmp_path / "tokens"
    inputs = (folder, tmp_path / "absent.wav")
    code, _, errors = run(capsys, "encode", *inputs, "--output", output, "--codec", checkpoint)
    assert code == 1
    assert files_below(output) == ["a.q2d2", "b/a.v1.q2d2", "b/c/d.q2d2"]
    reasons = {"broken": "cannot read", "cut": "cut off", "nothing": "cannot read", "absent": "no such"}
    for name, reason in reasons.items():
        assert any(f"{name}." in line and reason in line for line in errors.splitlines()), errors
    assert "4 of 7 files failed" in errors


def test_decode_refuses_what_does_not_fit(folder, checkpoint, tiny_model, tmp_path, capsys):
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    fingerprint, size = tiny_model.fingerprint(), tiny_model.config.codebook_size
    save_tokens(tokens / "good.q2d2", TokenFile(np.array([1, 2]), RATE, 640, fingerprint))
    save_tokens(tokens / "other.q2d2", TokenFile(np.array([1, 2]), RATE, 640, "f" * 16))
    save_tokens(tokens / "range.q2d2", TokenFile(np.array([1, size]), RATE, 640, fingerprint))
    save_tokens(tokens / "length.q2d2", TokenFile(np.array([1, 2]), RATE, 320, fingerprint))
    (tokens / "cut.q2d2").write_bytes((tokens / "good.q2d2").read_bytes()[:-1])
    code, _, errors = run(capsys, "decode", tokens, "--output", tmp_path / "out", "--codec", checkpoint)
    assert code == 1 and files_below(tmp_path / "out") == ["good.wav"]
    lines = {Path(line.split(": ")[1]).stem: line for line in errors.splitlines()[:-1]}
    assert "f" * 16 in lines["other"] and fingerprint in lines["other"]
    assert f"within 0 and {size - 1}" in lines["range"]
    assert "takes 1 tokens" in lines["length"]
    assert "cut off" in lines["cut"]


def test_colliding_outputs_are_refused_before_work(folder, tmp_path, capsys):
    (folder / "a.flac").write_bytes(b"")
    code, _, errors = run(capsys, "encode", folder, "--output", tmp_path / "out", "--codec", "absent")
    assert code == 2 and "a.wav" in errors and "a.flac" in errors and not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["in place", "named", "hard link", "symbolic link", "other input"])
def test_inputs_are_never_overwritten(how, folder, checkpoint, tmp_path, capsys):
    source = folder / "a.wav"
    before = source.read_bytes()
    inputs, output = [source], folder
    if how == "named":
        output = source
    elif how == "hard link":
        output = tmp_path / "link.wav"
        os.link(source, output)
    elif how == "symbolic link":
        output = tmp_path / "link.wav"
        output.symlink_to(source)
    elif how == "other input":
        (folder / "e").mkdir()
        (folder / "e" / "a.flac").write_bytes(file_bytes(np.zeros(9), RATE, "FLAC", "PCM_16"))
        inputs, output = [folder / "e", source], folder
    code, _, errors = run(capsys, "reconstruct", *inputs, "--output", output, "--codec", checkpoint)
    assert code == 2 and "overwrite" in errors and source.read_bytes() == before


def test_results_inside_the_input_folder_are_no_input(folder, checkpoint, capsys):
    for _ in range(2):
        arguments = ("reconstruct", folder, "--output", folder / "out", "--codec", checkpoint)
        assert run(capsys, *arguments)[0] == 0
    assert files_below(folder / "out") == ["a.wav", "b/a.v1.wav", "b/c/d.wav"]


def test_unusable_output_and_input_are_explained(folder, checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        (("encode", folder, "--output", folder / "notes.txt" / "out"), "cannot write to"),
        (("encode", folder, "--output", folder / "notes.txt"), "notes.txt is a file"),
        (("encode", tmp_path / "empty", "--output", tmp_path / "out"), "no .flac, .mp3"),
        (("decode", folder, "--output", tmp_path / "out"), "no .q2d2 files"),
        (("encode", folder / "a.wav", "--output", tmp_path / "b.wav"), "must end in .q2d2 for a single file, or be a"),
        (("reconstruct", folder, "--output", tmp_path / "b.wav"), "the output must be a folder, got"),
    ]:
        code, _, errors = run(capsys, *arguments, "--codec", checkpoint)
        assert code == 2 and message in errors
    assert not (tmp_path / "b.wav").exists()


def test_unusable_codecs_are_explained(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "type.json").write_text('{"hidden_size": "wide"}')
    (tmp_path / "key.json").write_text('{"hiden_size": 3}')
    (tmp_path / "part.json").write_text('{"encoder": "magic"}')
    (tmp_path / "codec").mkdir()
    for name in ("bad", "type", "key", "part", "absent"):
        code, _, errors = run(capsys, "info", "--codec", tmp_path / f"{name}.json")
        assert code == 2 and f"{name}.json" in errors
    for name, message in [("codec", "has no config.json; did you mean"), ("absent", "there is no folder")]:
        (tmp_path / name / "weights").mkdir(parents=True) if name == "codec" else None
        code, _, errors = run(capsys, "info", "--codec", tmp_path / name)
        assert code == 2 and name in errors and message in errors
    (tmp_path / "codec" / "config.json").write_text('{"model_type": "whisper"}')
    code, _, errors = run(capsys, "info", "--codec", tmp_path / "codec")
    assert code == 2 and "holds a model of type 'whisper', expected a codec of type 'q2d2'" in errors
    monkeypatch.setattr(bundled.Q2D2Model, "from_pretrained", lambda *_, **__: pytest.fail("the Hub was asked"))
    monkeypatch.chdir(tmp_path)
    for name in ("runs/default/weights", "bundle", "./me/codec", "codec/weihgts"):
        code, _, errors = run(capsys, "info", "--codec", name)
        assert code == 2 and f"there is no folder {name};" in errors
    monkeypatch.setattr(bundled, "default_checkpoint", lambda: str(tmp_path / "absent"))
    code, _, errors = run(capsys, "encode", folder, "--output", tmp_path / "out")
    assert code == 2 and "no codec comes with" in errors


def info_fields(text: str) -> dict[str, str]:
    return {line[:18].strip(): line[18:].strip() for line in text.splitlines()}


def test_output_that_nobody_reads_is_no_error(checkpoint, capsys, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", unread)
        assert cli.main(["info", "--codec", checkpoint]) == 0
    assert capsys.readouterr().err == ""  # not when it is closed either


def test_info_of_a_checkpoint(checkpoint, tiny_model, capsys):
    code, text, _ = run(capsys, "info", "--codec", checkpoint)
    fields = info_fields(text)
    assert code == 0 and fields["fingerprint"] == tiny_model.fingerprint()
    assert fields["parameters"] == f"{sum(p.numel() for p in tiny_model.parameters()):,}"
    counts = [int(fields[part].split()[0].replace(",", "")) for part in ("encoder", "quantizer", "decoder")]
    assert sum(counts) == sum(p.numel() for p in tiny_model.parameters()) and min(counts) > 0
    samples = tiny_model.receptive_field_samples
    assert f"= {1000 * samples / RATE:.1f} ms" in fields["encoder context"]
    assert fields["sampling rate"] == "24,000 Hz" and fields["hop length"] == "320 samples"


# Of the table of settings in the paper and of the default: hop, tokens/s, points, codebook, bits/token, bit/s.
TABLE = {
    "q2d2_24khz_1kbps": (320, "75.00 /s", [145, 145], 21025, "14.360 bits/token", "1077 bit/s"),
    "q2d2_24khz_1kbps_120ms": (320, "75.00 /s", [145, 145], 21025, "14.360 bits/token", "1077 bit/s"),
    "paper_1kbps": (450, "53.33 /s", [145, 85, 85], 1047625, "19.999 bits/token", "1067 bit/s"),
    "paper_3.3kbps": (144, "166.67 /s", [145, 85, 85], 1047625, "19.999 bits/token", "3333 bit/s"),
    "paper_6.9kbps": (72, "333.33 /s", [145, 145, 85], 1787125, "20.769 bits/token", "6923 bit/s"),
}


@pytest.mark.parametrize("name", TABLE)
def test_configurations_are_those_of_the_table(name, capsys):
    hop, tokens, points, codebook, bits, bitrate = TABLE[name]
    config = Q2D2Config.from_json_file(CONFIGS / f"{name}.json")
    assert (config.hop_length, config.points_per_group, config.codebook_size) == (hop, points, codebook)
    code, text, _ = run(capsys, "info", "--codec", CONFIGS / f"{name}.json")
    fields = info_fields(text)
    assert code == 0 and (fields["tokens"], fields["information"], fields["bitrate"]) == (tokens, bits, bitrate)
    assert fields["codebook size"] == f"{codebook:,}" and fields["points per group"] == " * ".join(map(str, points))
    assert ("whole recording" in fields["latency"]) == name.startswith("paper")
    if name.endswith("120ms"):
        assert fields["latency"].startswith("120.0 ms")


@pytest.mark.parametrize("name", TABLE)
def test_configurations_leave_nothing_to_defaults(name):
    written = json.loads((CONFIGS / f"{name}.json").read_text())
    assert set(written) == (set(Q2D2Config.__annotations__) | {"model_type"}) - {"quantizer_kwargs"}  # theirs has none
    for registry, part in [(ENCODERS, "encoder"), (DECODERS, "decoder")]:
        assert set(written[f"{part}_kwargs"]) == set(registry.resolve(written[part], written[f"{part}_kwargs"]))


def test_default_configuration_is_the_default():
    config, default = Q2D2Config.from_json_file(CONFIGS / "q2d2_24khz_1kbps.json"), Q2D2Config()
    for name in set(Q2D2Config.__annotations__) - {"encoder_kwargs", "decoder_kwargs"}:
        value = getattr(default, name)
        assert getattr(config, name) == (list(value) if isinstance(value, tuple) else value)
    assert config.encoder_kwargs == ENCODERS.resolve(default.encoder, {})
    assert config.decoder_kwargs == DECODERS.resolve(default.decoder, {})
