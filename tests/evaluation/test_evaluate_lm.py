"""`evaluate_lm.py` on a tiny codec and language model: what is measured, resuming, and the files."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from language_models import CODES, GROUPS, TINY, write_shard

from lm.data import TokenCorpus, shard_layout
from lm.generate import GenerationSettings
from lm.model import LanguageModel, ModelSettings, make_language_model
from lm.text import train_text_tokenizer
from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.evaluation import asr
from q2d2_tokenizer.evaluation.language_model import likelihood as lm_likelihood
from q2d2_tokenizer.evaluation.language_model import speech as lm_speech
from q2d2_tokenizer.evaluation.language_model import tasks as lm_tasks
from q2d2_tokenizer.evaluation.metrics import METRICS, Metric
from q2d2_tokenizer.evaluation.rows import audio_file

TEXTS = ["hello there", "you are a bold one", "general"]
RATE = 24000


@pytest.fixture
def setting(tmp_path, tiny_model, language_model, speech_like, monkeypatch) -> list[str]:
    """Arguments for models, three recordings of two speakers, their tokens, and measures that cost nothing."""
    import io

    import soundfile

    columns = {"id": [], "audio": [], "text": TEXTS, "speaker": ["a", "a", "b"], "codes": [], "num_samples": []}
    for i in range(3):
        audio, file = speech_like(6400 + 3200 * i, seed=i), io.BytesIO()
        soundfile.write(file, audio, RATE, format="WAV")
        columns["id"].append(f"clip{i}")
        columns["audio"].append({"bytes": file.getvalue(), "path": None})
        codes = tiny_model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes
        columns["codes"].append(codes.flatten().to(torch.int32).tolist())
        columns["num_samples"].append(len(audio))
    layout = language_model.layout
    metadata = {"codec_fingerprint": layout.codec_fingerprint, "codebook_size": str(layout.codebook_size)}
    table = pyarrow.table(columns).replace_schema_metadata(metadata | {"sampling_rate": str(RATE)})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    (tmp_path / "sentences.txt").write_text("hello general\n\nyou are there\n")
    tiny_model.save_pretrained(tmp_path / "codec")
    language_model.save(tmp_path / "lm")

    class Deaf:
        def __init__(self, folder):
            self.digest = folder

        def transcribe(self, audio):
            return "hello there" if len(audio) and self.digest == "x" else ""

    monkeypatch.setattr(asr, "Transcriber", Deaf)
    loudness = Metric(lambda rate: lambda reference, audio: float(np.abs(audio).max()), needs_reference=False)
    same = Metric(lambda rate: lambda reference, audio: float(len(reference)))
    monkeypatch.setitem(METRICS, "speaker", same)
    monkeypatch.setitem(METRICS, "dnsmos", loudness)
    data = [str(tmp_path / "data.parquet")]
    models = ["--codec", str(tmp_path / "codec"), "--language_model", str(tmp_path / "lm")]
    options = [
        "--asr",
        "x",
        "--metrics",
        "dnsmos",
        "speaker",
        "--max_seconds",
        "0.3",
        "--output",
        str(tmp_path / "out"),
    ]
    return ["--tokens", *data, "--recordings", *data, "--sentences", str(tmp_path / "sentences.txt"), *models, *options]


def test_everything_is_measured_and_written(setting, tmp_path):
    main(["evaluate-lm", *setting])
    result = json.loads((tmp_path / "out" / "lm.json").read_text())
    speech = result["speech"]
    assert {system: summary["runs"] for system, summary in speech.items()} == {
        "recording": 3,
        "codec": 3,
        "text to speech": 3,
        "in the voice of a prompt": 2,
        "continuation": 3,
        "sentences": 2,
    }
    # "hello there" for each of the three texts: 0 of 2 words wrong, 5 of 5, 2 of 1.
    assert speech["recording"]["wer"]["mean"] == speech["codec"]["wer"]["mean"] == pytest.approx(7 / 8)
    assert "wer" not in speech["continuation"]
    assert speech["recording"]["speaker"]["n"] == 2 and speech["continuation"]["speaker"]["n"] == 3
    lengths = [6400 / RATE, 9600 / RATE, 12800 / RATE]
    generated = speech["text to speech"]["duration_ratio"]
    assert generated["n"] == 3 and 0 < generated["mean"] <= np.mean(0.3 / np.array(lengths)) + 0.1
    shares = [speech["sentences"][name]["share"] for name in ("ended", "max_length", "looped")]
    assert sum(shares) == pytest.approx(1) and "ended" not in speech["codec"]
    assert speech["sentences"]["speed"] > 0
    report = (tmp_path / "out" / "lm.md").read_text()
    assert "| in the voice of a prompt | 2 |" in report and "| with text | 3 |" in report
    for name in ("bits_by_place.png", "speech.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000


def test_continuations_have_a_temperature_of_their_own(setting, monkeypatch):
    main(["evaluate-lm", *setting])
    said = set()
    say = lm_speech.Speech._say
    monkeypatch.setattr(lm_speech.Speech, "_say", lambda self, task: said.add(task.system) or say(self, task))
    main(["evaluate-lm", *setting, "--continuation_temperature", "0"])
    assert said == {"continuation"}
    said.clear()
    main(["evaluate-lm", *setting, "--continuation_temperature", "0", "--temperature", "0"])
    assert said == {"text to speech", "in the voice of a prompt", "sentences"}


def test_an_interrupted_evaluation_goes_on(setting, tmp_path, monkeypatch):
    main(["evaluate-lm", *setting[4:]])  # without tokens and recordings: the sentences
    rows = tmp_path / "out" / "details" / "rows.jsonl"
    lines = rows.read_text().splitlines()
    assert len(lines) == 2
    whole = json.loads((tmp_path / "out" / "lm.json").read_text())["speech"]["sentences"]
    rows.write_text(lines[0] + "\n" + lines[1][:40])
    said = []
    say = lm_speech.Speech._say
    monkeypatch.setattr(lm_speech.Speech, "_say", lambda self, task: said.append(task.id) or say(self, task))

    def again(*more: str) -> dict:
        said.clear()
        main(["evaluate-lm", *setting[4:], *more])
        return json.loads((tmp_path / "out" / "lm.json").read_text())["speech"]["sentences"]

    resumed = again()
    assert said == ["002"]
    assert {name: resumed[name] for name in ("wer", "cer", "ended")} == {n: whole[n] for n in ("wer", "cer", "ended")}
    again()
    assert said == []
    assert again("--asr", "y")["wer"]["mean"] == 1  # another model, which hears nothing
    assert said == ["001", "002"]
    again("--seed", "1")  # other speech
    assert said == ["001", "002"]
    again("--restart")
    assert said == ["001", "002"]


def test_a_line_that_cannot_be_read_is_named(setting, tmp_path, capsys):
    (tmp_path / "sentences.txt").write_text("hello\n\n🙂\n")
    assert main(["evaluate-lm", *setting[4:]]) == 2
    assert re.search("line 3 of .*sentences.txt holds nothing", capsys.readouterr().err)


def test_bits_are_those_of_the_model(setting, tiny_model, language_model):
    for weight in language_model.model.parameters():
        torch.nn.init.zeros_(weight)  # every id is as likely
    result = lm_likelihood.measure_likelihood(language_model, tiny_model.config, [setting[1]])
    bits = math.log2(language_model.layout.vocab_size)
    for facts in result.values():
        assert facts["bits_per_token"]["mean"] == pytest.approx(bits, rel=1e-5)
        assert facts["bits_per_token"]["n"] == 3 and facts["tokens"] == 20 + 30 + 40 + 3
        assert facts["bits_per_second"]["mean"] == pytest.approx(bits * 93 / (90 / 75), rel=1e-5)
        assert facts["nominal_bits_per_second"] == pytest.approx(75 * math.log2(21025))
        assert facts["saved_share"] == pytest.approx(1 - bits * 93 / 90 / math.log2(21025))
        assert sum(facts["nominal_bits_by_group"]) == pytest.approx(math.log2(21025))
        # The softmax is over text and specials too: they cost what is missing to the nominal bits.
        assert sum(facts["bits_by_group"]) == pytest.approx(bits, rel=1e-5)
        assert facts["zero_order_bits_per_token"] <= math.log2(90)
    assert list(result) == ["with text", "speech alone"]


def test_zero_order_bits_are_the_entropy_of_the_counts(setting, tiny_model, language_model):
    layout = language_model.layout
    corpus = TokenCorpus([setting[1]], layout, language_model.text)
    codes = np.concatenate([corpus.sequence(i, whole)[2:] for i, whole in enumerate(_whole(corpus))])
    facts = lm_likelihood.measure_likelihood(language_model, tiny_model.config, [setting[1]])["speech alone"]
    _, counts = np.unique(layout.ids_to_codes(codes), return_counts=True)
    shares = counts / counts.sum()
    assert facts["zero_order_bits_per_token"] == pytest.approx(-(shares * np.log2(shares)).sum())


def _whole(corpus: TokenCorpus) -> list:
    """Windows that show each recording without text and end."""
    from lm.data import Window

    return [Window(False, 0, int(count), False) for count in corpus.num_codes]


def test_silence_is_found():
    tone = 0.1 * np.sin(np.arange(RATE))
    quiet = np.zeros(int(2.5 * RATE))
    assert not lm_speech.goes_silent(tone, RATE)
    assert not lm_speech.goes_silent(np.concatenate([tone, quiet[: RATE // 2], tone]), RATE)
    for silent in ([quiet], [tone, quiet], [quiet, tone], [tone, quiet, tone], [np.zeros(100)]):
        assert lm_speech.goes_silent(np.concatenate(silent), RATE)


def test_tasks_and_models_are_told_apart(tiny_model, language_model):
    settings = GenerationSettings()
    known = lm_tasks.identify(language_model, settings, tiny_model)
    assert lm_tasks.identify(language_model, settings, tiny_model) == known
    assert lm_tasks.identify(language_model, GenerationSettings(seed=1), tiny_model) != known
    with torch.no_grad():
        language_model.model.model.norm.weight[0] += 1e-3
    assert lm_tasks.identify(language_model, settings, tiny_model) != known
    known = lm_tasks.identify(language_model, settings, tiny_model)
    with torch.no_grad():
        tiny_model.decoder.head.project.bias[0] += 1e-3  # which the fingerprint does not cover
    assert lm_tasks.identify(language_model, settings, tiny_model) != known
    one, two = (lm_tasks.Task("a", "1", "text", codes=np.array([code])) for code in (1, 2))
    assert one.digest != two.digest


def test_audio_of_a_clip_whose_id_has_slashes_lies_in_the_folder(tmp_path):
    path = audio_file(tmp_path, {"clip": "84/1.flac", "codec": "text to speech", "identity": "0123456789"})
    assert path.parent == tmp_path and path.name == "84_1.flac-text_to_speech_01234567.wav"


def test_what_is_missing_is_named(setting, capsys):
    assert main(["evaluate-lm", *setting[6:]]) == 2
    assert "give --tokens, --recordings or --sentences" in capsys.readouterr().err


def test_bits_of_a_recording_do_not_depend_on_the_others(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    text = train_text_tokenizer(TEXTS * 5, 40)
    codes = [rng.integers(0, CODES, 25 + 2 * row).tolist() for row in range(30)]
    texts = [TEXTS[1]] * 30
    paths = {rows: write_shard(tmp_path / f"{rows}.parquet", codes[:rows], texts[:rows]) for rows in (10, 30)}
    layout = shard_layout(paths[30], text)
    layout, alignment = TokenCorpus([str(paths[30])], layout, text).fit_alignment(text)
    settings = ModelSettings(**TINY | {"context": 128}, text_positions="durations")
    model = LanguageModel(make_language_model(settings, layout), layout, text, alignment)
    model.save(tmp_path / "lm")
    codec = SimpleNamespace(points_per_group=GROUPS, bits_per_code=math.log2(CODES), bitrate=75.0, frame_rate=75.0)
    found = []
    describe = lm_likelihood._describe
    monkeypatch.setattr(lm_likelihood, "_describe", lambda *facts: found.append(facts[1]) or describe(*facts))
    for rows in (10, 30):
        result = lm_likelihood.measure_likelihood(LanguageModel.load(tmp_path / "lm"), codec, [str(paths[rows])])
        assert list(result) == ["with text and its timing", "speech alone"]
    for few, many in zip(found[:2], found[2:], strict=True):  # recordings in the order of their lengths
        assert few == pytest.approx(many[:10], rel=1e-5)
