"""The commands that speak, on a tiny codec and language model; bundling one."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from language_models import TINY
from transformers import LlamaForCausalLM

import lm
from lm.bundled import export_checkpoint
from lm.layout import Layout
from lm.model import LanguageModel, ModelSettings, make_language_model
from q2d2_tokenizer import Q2D2Config, Q2D2Model
from q2d2_tokenizer import speech as speaking
from q2d2_tokenizer.audio.token_file import TokenFile, save_tokens
from q2d2_tokenizer.commands import bundle_lm
from q2d2_tokenizer.commands.main import main

HOP = 320


@pytest.fixture
def options(tmp_path, tiny_model, language_model) -> list[str]:
    """Options of the scripts for these models."""
    tiny_model.save_pretrained(tmp_path / "codec")
    language_model.save(tmp_path / "lm")
    folders = ["--codec", str(tmp_path / "codec"), "--language_model", str(tmp_path / "lm")]
    return [*folders, "--output", str(tmp_path / "out.wav"), "--max_seconds", "0.5", "--min_seconds", "0.5"]


@pytest.fixture
def recording(tmp_path, speech_like) -> Path:
    """Half a second of audio."""
    soundfile.write(tmp_path / "voice.wav", speech_like(12000), 24000)
    return tmp_path / "voice.wav"


def test_pieces_are_the_audio_of_all_codes(tiny_model):
    rng = np.random.default_rng(0)
    assert tiny_model.decoder.context_frames.after < 24
    for size in (1, 20, 30, 100, 143):
        codes = rng.integers(0, tiny_model.config.codebook_size, size)
        whole = tiny_model.decode(torch.from_numpy(codes).view(1, 1, -1)).audio_values.flatten().numpy()
        chunks = list(speaking.decode_chunks(tiny_model, map(int, codes)))
        assert np.allclose(np.concatenate(chunks), whole, atol=1e-5)
    first, *others = (len(chunk) // HOP for chunk in chunks[:-2])
    assert first <= 8 and others == [6, 12, *[24] * (len(others) - 2)]  # the first comes early, and few chunks follow


def test_audio_comes_while_codes_come(tiny_model):
    taken = []
    chunks = speaking.decode_chunks(tiny_model, (taken.append(i) or i for i in range(100)))
    next(chunks)
    assert len(taken) < 60


def test_a_decoder_that_needs_all_codes_waits_for_them(tiny_config):
    settings = tiny_config.to_dict()
    settings["decoder_kwargs"] = settings["decoder_kwargs"] | {"attention": True}
    model = Q2D2Model(Q2D2Config(**settings)).eval()
    chunks = list(speaking.decode_chunks(model, range(70)))
    assert [len(chunk) for chunk in chunks] == [70 * HOP]


def test_a_text_is_spoken_the_same_way_for_one_seed(options, tmp_path, capsys):
    audio = []
    for seed in ("0", "0", "1"):
        main(["speak", "hello there", *options, "--seed", seed])
        audio.append(soundfile.read(tmp_path / "out.wav")[0])
    assert len(audio[0]) == 38 * HOP
    assert np.array_equal(audio[0], audio[1]) and not np.array_equal(audio[0], audio[2])
    printed = capsys.readouterr().out
    assert "x real time" in printed and "max_length" in printed and "'hello there'" in printed


def test_a_long_text_is_spoken_in_parts(options, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("you are. " * 20)
    main(["speak", "--file", str(tmp_path / "text.txt"), *options, "--part_characters", "50"])
    assert capsys.readouterr().out.count("max_length") == 4
    assert len(soundfile.read(tmp_path / "out.wav")[0]) == 4 * 38 * HOP


def test_the_voice_of_a_prompt_changes_what_is_spoken(options, recording, tmp_path):
    audio = []
    for prompt in ([], ["--prompt", str(recording), "--prompt_text", "a bold one"]):
        main(["speak", "hello there", *options, *prompt, "--temperature", "0"])
        audio.append(soundfile.read(tmp_path / "out.wav")[0])
    assert len(audio[0]) == len(audio[1]) and not np.array_equal(*audio)


def test_a_recording_is_continued(options, recording, tmp_path, tiny_model, capsys):
    main(["continue", str(recording), *options, "--prompt_seconds", "0.4"])
    audio = soundfile.read(tmp_path / "out.wav")[0]
    assert len(audio) == (30 + 38) * HOP
    codes = tiny_model.encode(torch.from_numpy(soundfile.read(recording, dtype="float32")[0]).view(1, 1, -1))
    decoded = tiny_model.decode(codes.audio_codes).audio_values.flatten().numpy()
    safe = (30 - tiny_model.decoder.context_frames.after) * HOP
    assert np.allclose(audio[:safe], decoded[:safe], atol=1e-3)
    assert "0.4 s of voice.wav, then 0.5 s" in capsys.readouterr().out


def fails(arguments: list[str], capsys) -> str:
    """The message of a command that refuses its arguments."""
    capsys.readouterr()  # such as the progress of saving
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("q2d2: ") and len(error.splitlines()) == 1
    return error


def test_what_cannot_be_spoken_is_reported(options, recording, tmp_path, capsys):
    assert "nothing to read in the text ''" in fails(["speak", "", *options], capsys)
    assert "nothing to read" in fails(["speak", "🙂 你好", *options], capsys)
    assert "takes both" in fails(["speak", "hello", *options, "--prompt", str(recording)], capsys)
    assert "either a text or --file" in fails(["speak", *options], capsys)
    assert "no such audio file" in fails(["continue", str(tmp_path / "none.wav"), *options], capsys)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(HOP * 130), 24000)
    assert "leaves no room in the context of 128" in fails(["continue", str(long), *options], capsys)


def test_what_is_read_is_not_overwritten(options, recording, tmp_path, capsys):
    text, before = tmp_path / "text.txt", recording.read_bytes()
    text.write_text("hello there")
    (tmp_path / "linked.wav").symlink_to(recording)
    here = ["--output", str(recording)]
    prompted = ["speak", "hello", *options, "--prompt", str(tmp_path / "linked.wav"), "--prompt_text", "hi"]
    for arguments in (["continue", str(recording), *options, *here], [*prompted, *here]):
        assert "would overwrite the input" in fails(arguments, capsys)
    assert "would overwrite the input" in fails(["speak", "--file", str(text), *options, "--times", str(text)], capsys)
    assert recording.read_bytes() == before and text.read_text() == "hello there"


def test_wrong_options_are_reported_and_leave_the_output_alone(options, recording, tmp_path, capsys):
    (tmp_path / "out.wav").write_bytes(b"precious")
    assert "above 0, got -1" in fails(["continue", str(recording), *options, "--prompt_seconds", "-1"], capsys)
    assert "above 0 and min_seconds at least 0, got 0.0" in fails(
        ["speak", "hello", *options, "--max_seconds", "0"], capsys
    )
    assert "at least 1 character" in fails(["speak", "hello", *options, "--part_characters", "0"], capsys)
    for output, message in (("none/out.wav", "no folder"), ("out.mpg", "must end in .wav"), ("out", "must end in")):
        assert message in fails(["speak", "hello", *options, "--output", str(tmp_path / output)], capsys)
    for times, message in (("out.wav", "must be two files"), ("none/a.txt", "in a folder that"), ("", "a file")):
        assert message in fails(["speak", "hello", *options, "--times", str(tmp_path / times)], capsys)
    times = ["--times", str(tmp_path / "times.txt")]
    assert "has no alignment" in fails(["speak", "hello", *options, *times], capsys)
    assert "voice.wav is not UTF-8" in fails(["speak", "--file", str(recording), *options], capsys)
    assert (tmp_path / "out.wav").read_bytes() == b"precious"


def test_tokens_and_models_of_another_codec_are_refused(options, language_model, tmp_path, capsys):
    tokens = tmp_path / "other.q2d2"
    save_tokens(tokens, TokenFile(np.arange(9), 24000, 9 * HOP, "another"))
    assert "'another'" in fails(["continue", str(tokens), *options], capsys)
    save_tokens(tokens, TokenFile(np.arange(9), 24000, 9 * HOP, language_model.layout.codec_fingerprint))
    main(["continue", str(tokens), *options])
    layout = Layout(language_model.layout.codebook_size, 24000, "another")
    LanguageModel(make_language_model(ModelSettings(**TINY), layout), layout).save(tmp_path / "lm")
    assert "is for codec 'another'" in fails(["continue", str(tokens), *options], capsys)


def test_damaged_weights_are_reported(options, language_model, recording, tmp_path, capsys):
    with torch.no_grad():
        language_model.model.model.norm.weight.fill_(float("nan"))
    language_model.save(tmp_path / "lm")
    assert "its weights are damaged" in fails(["speak", "hello", *options], capsys)
    assert "its weights are damaged" in fails(["continue", str(recording), *options], capsys)


def test_a_bundled_model_is_half_as_large_and_float32_in_use(language_model, tmp_path, monkeypatch, capsys):
    language_model.save(tmp_path / "run")
    main(["bundle-lm", str(tmp_path / "run"), "--output", str(tmp_path / "lm" / "checkpoint")])
    assert "M parameters" in capsys.readouterr().out
    bundled = tmp_path / "lm" / "checkpoint"
    assert {"config.json", "generation_config.json", "layout.json", "model.safetensors", "text.model"} == {
        path.name for path in bundled.iterdir()
    }
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "run", bundled)]
    assert sizes[1] < 0.55 * sizes[0]
    monkeypatch.setattr("lm.bundled.__file__", str(tmp_path / "lm" / "bundled.py"))
    loaded = LanguageModel.load(lm.default_checkpoint(), language_model.layout.codec_fingerprint)
    stock = LlamaForCausalLM.from_pretrained(bundled)
    assert loaded.text.fingerprint == language_model.text.fingerprint and stock.generation_config.suppress_tokens
    for name, weight in language_model.model.state_dict().items():
        for other in (loaded.model.state_dict()[name], stock.state_dict()[name]):
            assert other.dtype == torch.float32 and torch.equal(other, weight.half().float())


def test_no_bundled_model_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("lm.bundled.__file__", str(tmp_path / "bundled.py"))
    with pytest.raises(FileNotFoundError, match="no language model came with this package"):
        lm.default_checkpoint()


def test_weights_that_float16_does_not_hold_and_large_models_are_refused(language_model, tmp_path, monkeypatch, capsys):
    language_model.save(tmp_path / "run")
    monkeypatch.setattr(bundle_lm, "LARGEST_MB", 0.1)
    assert "take more than" in fails(["bundle-lm", str(tmp_path / "run"), "--output", str(tmp_path)], capsys)
    with torch.no_grad():
        language_model.model.model.norm.weight[0] = 1e6
    with pytest.raises(ValueError, match="model.norm.weight does not"):
        export_checkpoint(language_model, tmp_path)
