"""`evaluate_codec.py` on a tiny codec and two recordings: files, resuming, peers, and messages."""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from q2d2_tokenizer.audio.files import without_nan
from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.corpus.inputs import list_entries
from q2d2_tokenizer.evaluation import clips as eval_clips
from q2d2_tokenizer.evaluation import codecs as eval_codecs
from q2d2_tokenizer.evaluation import domains as eval_domains
from q2d2_tokenizer.evaluation import evaluate as eval_evaluate
from q2d2_tokenizer.evaluation import memory as eval_memory
from q2d2_tokenizer.evaluation import programs as eval_programs
from q2d2_tokenizer.evaluation import report as eval_report
from q2d2_tokenizer.evaluation import rows as eval_rows
from q2d2_tokenizer.evaluation import summary as eval_summary
from q2d2_tokenizer.evaluation import transformers_codecs as eval_transformers

RATE = 24000
METRICS = ["log_mel", "si_sdr"]


@pytest.fixture
def setting(tmp_path, tiny_model, speech_like, monkeypatch):
    """Arguments that measure a tiny codec on two recordings."""
    monkeypatch.setattr(eval_evaluate, "measure_memory", lambda *args, **kwargs: None)
    tiny_model.save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "data").mkdir()
    for i in range(2):
        soundfile.write(tmp_path / "data" / f"clip{i}.wav", speech_like(RATE // 2, seed=i), RATE)
    arguments = ["--codec", str(tmp_path / "checkpoint"), "--data", str(tmp_path / "data"), "--no_peers"]
    return [*arguments, "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "out"), "--metrics", *METRICS]


def read(folder: Path) -> tuple[dict, list[str]]:
    """The result and the lines of the rows."""
    lines = (folder / "details" / "rows.jsonl").read_text().splitlines()
    return json.loads((folder / "evaluation.json").read_text()), lines


def test_all_files_are_written_and_agree(setting, tmp_path, tiny_model):
    main(["evaluate", *setting, "--listen", "1"])
    result, lines = read(tmp_path / "out")
    (name,) = result["summary"]
    assert [row["clip"] for row in result["clips"][name]] == ["clip0", "clip1"] and len(lines) == 2
    mean = np.mean([row["log_mel"] for row in result["clips"][name]])
    assert result["summary"][name]["log_mel"] == {
        "n": 2,
        "mean": pytest.approx(mean),
        "interval": pytest.approx(
            12.7062 * np.std([row["log_mel"] for row in result["clips"][name]], ddof=1) / math.sqrt(2)
        ),
    }
    config, ours = tiny_model.config, result["ours"]
    assert ours["usage"]["size"] == config.codebook_size
    assert [grid["size"] for grid in ours["usage_per_grid"]] == config.points_per_group
    assert result["codecs"][name]["nominal_bps"] == pytest.approx(config.bitrate)
    entropy_bps = ours["usage"]["entropy_bits"] * config.frame_rate
    assert result["codecs"][name]["entropy_bps"] == pytest.approx(entropy_bps) and entropy_bps <= config.bitrate
    page = (tmp_path / "out" / "details" / "index.html").read_text()
    (wav,) = (tmp_path / "out" / "details" / "audio").iterdir()
    assert 'src="data:image/png;base64,' in page
    assert page.count("<audio") == 1 and f"audio/{wav.name}" in page
    assert f"| {name} | 2 |" in (tmp_path / "out" / "evaluation.md").read_text()
    assert (tmp_path / "out" / "evaluation.png").stat().st_size > 1000


def test_an_interrupted_evaluation_goes_on(setting, tmp_path, monkeypatch):
    main(["evaluate", *setting])
    whole, lines = read(tmp_path / "out")
    rows = tmp_path / "out" / "details" / "rows.jsonl"
    rows.write_text(lines[0] + "\n" + lines[1][:50])  # as if stopped while writing
    decoded = []
    call = eval_codecs.OurCodec.__call__
    monkeypatch.setattr(
        eval_codecs.OurCodec, "__call__", lambda self, clip: decoded.append(clip.id) or call(self, clip)
    )
    main(["evaluate", *setting, "--listen", "0"])
    assert decoded == ["clip1"]
    assert read(tmp_path / "out")[0]["summary"] == whole["summary"]
    main(["evaluate", *setting, "--listen", "0"])
    assert decoded == ["clip1"]
    main(["evaluate", *setting, "--listen", "0", "--restart"])
    assert decoded == ["clip1", "clip0", "clip1"]


def test_metrics_can_be_added_later(setting, tmp_path):
    main(["evaluate", *setting[:-1]])
    main(["evaluate", *setting])
    result, lines = read(tmp_path / "out")
    assert len(lines) == 4
    assert list(next(iter(result["summary"].values()))) == METRICS


def test_a_folder_of_equal_audio_scores_best(setting, tmp_path):
    main(["evaluate", *setting, "--write_clips", str(tmp_path / "peer")])
    assert not (tmp_path / "out").exists()
    for path in (tmp_path / "peer").iterdir():  # a delay that has to be found
        audio = soundfile.read(path)[0]
        soundfile.write(path, np.concatenate([np.zeros(500), audio]), RATE)
    main(["evaluate", *setting, "--decoded", f"same={tmp_path / 'peer'}"])
    result = read(tmp_path / "out")[0]
    assert result["summary"]["same"]["log_mel"]["mean"] < 1e-3
    assert result["summary"]["same"]["si_sdr"]["mean"] > 60


def tiny_encodec() -> tuple:
    """Model with random weights, feature extractor, setting of its call, and bit/s."""
    from transformers import EncodecConfig, EncodecFeatureExtractor, EncodecModel

    sizes = {"num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16, "num_lstm_layers": 1}
    return EncodecModel(EncodecConfig(**sizes)), EncodecFeatureExtractor(), "bandwidth=1.5", 75 * 5 * 4


def tiny_dac() -> tuple:
    """See `tiny_encodec`."""
    from transformers import DacConfig, DacFeatureExtractor, DacModel

    config = DacConfig(encoder_hidden_size=8, decoder_hidden_size=32, codebook_size=16)
    extractor = DacFeatureExtractor(sampling_rate=16000, hop_length=int(config.hop_length))
    return DacModel(config), extractor, "n_quantizers=2", 16000 / config.hop_length * 2 * 4


def tiny_mimi() -> tuple:
    """See `tiny_encodec`."""
    from transformers import EncodecFeatureExtractor, MimiConfig, MimiModel

    sizes = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 8, "codebook_size": 16, "vector_quantization": 8}
    sizes = sizes | {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
    }
    config = MimiConfig(**sizes, head_dim=8, vector_quantization_hidden_dimension=8, upsample_groups=16)
    return MimiModel(config), EncodecFeatureExtractor(), "num_quantizers=2", 12.5 * 2 * 4


@pytest.mark.parametrize("make", [tiny_encodec, tiny_dac, tiny_mimi])
def test_codecs_of_transformers_run(make, tmp_path, speech_like):
    model, extractor, setting, bps = make()
    for part in (model, extractor):
        part.save_pretrained(tmp_path)
    clip = eval_clips.Clip("clip", speech_like(2 * RATE), RATE)
    decoded = eval_transformers.TransformersCodec("peer", f"{tmp_path},{setting}")(clip)
    assert abs(len(decoded.audio) - len(clip.audio)) < RATE // 10
    row = {"seconds": 2.0, "facts": decoded.facts}
    assert eval_summary.describe_codec([row], None)["nominal_bps"] == pytest.approx(bps, rel=0.05)
    with pytest.raises(ValueError, match="takes no \\['no_such_setting'\\]"):
        eval_transformers.TransformersCodec("peer", f"{tmp_path},no_such_setting=1")


def test_a_folder_must_hold_every_clip(setting, tmp_path, capsys):
    (tmp_path / "peer").mkdir()
    assert main(["evaluate", *setting, "--decoded", f"empty={tmp_path / 'peer'}"]) == 2
    assert "none for 2, such as clip0.wav" in capsys.readouterr().err


def test_installed_peers_decode(speech_like):
    clip = eval_clips.Clip("clip", speech_like(2 * RATE), RATE)
    peers = eval_programs.installed_peers(RATE)
    for programs, name in {"opusenc opusdec": "Opus 6 kbit/s", "c2enc c2dec": "Codec2 1.2 kbit/s"}.items():
        assert all(map(shutil.which, programs.split())) == (name in [peer.name for peer in peers])
    for peer in peers:
        decoded = peer(clip)
        assert abs(len(decoded.audio) - len(clip.audio)) < RATE // 10
        assert decoded.facts["file_bits"] > peer.bitrate


def test_a_missing_package_is_named(setting, monkeypatch, capsys):
    metric = eval_evaluate.METRICS["log_mel"]
    broken = type(metric)(metric.build, ("no_such_module",), "the-package")
    monkeypatch.setitem(eval_evaluate.METRICS, "log_mel", broken)
    assert main(["evaluate", *setting]) == 2
    assert "log_mel needs no_such_module" in (error := capsys.readouterr().err) and "pip install the-package" in error


def test_no_clips_at_all_are_refused(setting, capsys):
    assert main(["evaluate", *setting, "--clips", "0"]) == 2
    assert "must be a whole number from 1 on, got 0" in capsys.readouterr().err


def rows_of(folder):
    entries = list_entries([str(folder)], keep_order=True)
    return [row for entry in entries for row in eval_clips.names_and_texts(entry)]


def test_clip_ids_are_different_and_follow_the_data(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "x.wav", np.zeros(10), RATE)
    pq.write_table(pa.table({"id": ["p/1", "p-1", "p2", "x-2"], "audio": [b""] * 4}), tmp_path / "named.parquet")
    pq.write_table(pa.table({"audio": [b"", b""]}), tmp_path / "plain.parquet")
    plain = ["plain-00000", "plain-00001"]
    assert eval_clips.different_names([name for name, _, _ in rows_of(tmp_path)]) == [
        "x",
        "x-3",
        "p-1",
        "p-1-2",
        "p2",
        "x-2",
        *plain,
    ]


def test_rows_of_other_samples_or_checkpoints_are_not_used(tmp_path):
    rows = eval_rows.Rows(tmp_path / "rows.jsonl")
    original = eval_codecs.Original()
    clip = eval_clips.Clip("clip", np.zeros(10, np.float32), RATE)
    rows.add(rows.get(original, clip) | {"scores": {"a": 1.0}})
    assert rows.get(original, clip)["scores"] == {"a": 1.0}
    assert rows.get(original, eval_clips.Clip("clip", np.ones(10, np.float32), RATE))["scores"] == {}
    original.name = "other"
    assert rows.get(original, clip)["scores"] == {}


def test_speed_and_bitrate_from_rows():
    rows = [{"seconds": 2.0, "facts": {"encode_seconds": 0.5, "file_bits": 100}} for _ in range(3)]
    assert eval_summary.describe_codec(rows, None) == {"file_bps": 50.0, "encode_speed": 4.0}


def test_speakers_are_those_of_the_data_or_of_the_ids(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(10), RATE)
    pq.write_table(pa.table({"audio": [b"", b""], "speaker": ["anna", None]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"audio": [b""]}), tmp_path / "b.parquet")
    assert [speaker for _, _, speaker in rows_of(tmp_path)] == ["anna", "", "", ""]
    audio = np.zeros(10, np.float32)
    known = [eval_clips.Clip(name, audio, RATE).speaker for name in ("1272-128104-0000", "kathleen-arctic_1", "x")]
    assert known == ["1272", "kathleen-arctic_1", "x"]
    assert eval_clips.Clip("1272-128104-0000", audio, RATE, speaker="anna").speaker == "anna"


def test_intervals_are_of_speakers(setting, tmp_path):
    for i in range(2):
        (tmp_path / "data" / f"clip{i}.wav").rename(tmp_path / "data" / f"12-34-{i}.wav")
    main(["evaluate", *setting])
    result = read(tmp_path / "out")[0]
    assert result["data"]["speakers"] == 1
    assert next(iter(result["summary"].values()))["log_mel"]["interval"] is None
    assert "2 clips of 1 speakers" in (tmp_path / "out" / "evaluation.md").read_text()


def test_what_cannot_be_measured_is_left_out_and_said(setting, tmp_path):
    soundfile.write(tmp_path / "data" / "silence.wav", np.zeros(RATE // 2), RATE)
    main(["evaluate", *setting])
    result = read(tmp_path / "out")[0]
    (name,) = result["summary"]
    score = result["summary"][name]["si_sdr"]
    assert score["n"] == 2 and score["left_out"] == {"silence": 1}
    assert result["clips"][name][2]["reasons"] == {"si_sdr": "silence"} and result["clips"][name][2]["si_sdr"] is None
    assert f"Left out: 1 of {name} in si_sdr (silence)." in (tmp_path / "out" / "evaluation.md").read_text()
    main(["evaluate", *setting])  # from the rows of the first run
    assert read(tmp_path / "out")[0]["clips"] == result["clips"]


def test_frames_of_the_codec_reach_the_metrics_that_ask_for_them():
    built = eval_rows.build_metrics(["signal", "log_mel"], RATE, frame_rate=50.0)
    buzz = np.random.default_rng(0).standard_normal(2 * RATE) * (1 + 0.5 * np.cos(np.arange(2 * RATE) * np.pi / 80))
    assert built["signal"](eval_clips.Clip("a", buzz, RATE), buzz)["frame_line"] > 10  # 150 Hz


def test_json_has_no_nan():
    assert without_nan({"a": [math.nan, 1.0], "b": math.inf}) == {"a": [None, 1.0], "b": None}


def test_cells_say_what_was_left_out():
    score = {"n": 2, "mean": 1.0, "interval": 0.5}
    cells = [eval_report.format_score(s, n) for s, n in ((score, 2), (score, 3), (None, 2), (score | {"n": 0}, 2))]
    assert cells == ["1.000 ± 0.500", "1.000 ± 0.500 (n=2)", "–", "–"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_measured(tmp_path, tiny_model, capsys):
    tiny_model.save_pretrained(tmp_path)
    eval_memory.main(["--codec", str(tmp_path), "--seconds", "1"])
    memory = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert memory["audio_seconds"] == 1 and memory["process_mb"] > memory["peak_mb"] >= 0


class Echo:
    """An ASR model that hears one sentence, which is the name of its folder."""

    def __init__(self, folder):
        self.heard = self.digest = folder

    def transcribe(self, samples):
        return self.heard


def test_word_errors_count_where_an_english_text_is_known(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_rows.asr, "Transcriber", Echo)
    (tmp_path / "data" / "clip0.txt").write_text("The cat sat down.")
    for heard, mean in (("the cat sat", 0.25), ("the cat", 0.5)):  # another model hears again
        main(["evaluate", *setting, "--asr", heard])
        result = read(tmp_path / "out")[0]
        for codec in ("Original", next(iter(result["summary"]))):
            assert result["summary"][codec]["wer"] == {"n": 1, "mean": mean, "interval": None}
    assert "wer ↓" in (tmp_path / "out" / "evaluation.md").read_text()


def test_texts_follow_the_data(tmp_path):
    columns = {"audio": [b"", b""], "text": ["yes", "ja"], "language": ["en", "nl"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    pq.write_table(pa.table({"audio": [b""], "text": ["yes"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"audio": [b""]}), tmp_path / "c.parquet")
    assert [text for _, text, _ in rows_of(tmp_path)] == ["yes", "", "yes", ""]


def test_any_program_is_a_codec(speech_like):
    clip = eval_clips.Clip("clip", speech_like(RATE), RATE)
    copy = eval_programs.Program("copy", "16000 cp in.wav out.wav && head -c 50 in.raw > bits")
    decoded = copy(clip)
    assert len(decoded.audio) == RATE and decoded.facts == {"file_bits": 400}
    raw = eval_programs.Program("raw", "24000 cp in.raw out.raw")(clip)
    assert np.abs(raw.audio - clip.audio).max() < 1e-3 and raw.facts == {}
    with pytest.raises(RuntimeError, match="broken left no out.wav .exit code 3.: oh"):
        eval_programs.Program("broken", "24000 echo oh >&2; exit 3")(clip)
    with pytest.raises(ValueError, match="NAME=RATE COMMAND"):
        eval_programs.Program("none", "cp in.wav out.wav")


def test_noise_is_mixed_at_its_ratio(speech_like):
    speech, noise = speech_like(RATE), np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    for snr_db in (20.0, 0.0):
        mixed = eval_domains.mix(speech, noise, snr_db)
        gain = (mixed @ speech) / (speech @ speech)  # peaks may have been lowered
        added = mixed / gain - speech
        assert 10 * np.log10((speech**2).sum() / (added**2).sum()) == pytest.approx(snr_db, abs=0.5)
        assert np.abs(mixed).max() < 1


def test_domains_are_measured_and_make_a_page(setting, tmp_path, monkeypatch):
    (tmp_path / "speech").mkdir()
    for name, source in (("a", "clip0"), ("b", "clip1")):
        (tmp_path / "data" / f"{source}.wav").rename(tmp_path / "speech" / f"{name}.wav")
    domains = {eval_domains.NOISY: ["a.wav"], eval_domains.NOISE: ["b.wav", "x.wav"], "absent": ["c*.wav"]}
    monkeypatch.setattr(eval_domains, "DOMAINS", domains)
    own = ["--speech", str(tmp_path / "speech"), "--output", str(tmp_path / "out"), "--snr", "10"]
    further = ["--codec", setting[1], "--no_peers", "--metrics", "log_mel"]
    main(["evaluate-domains", *own, "--cache", str(tmp_path / "cache"), *further])
    table = (tmp_path / "out" / "domains.md").read_text()
    assert all(name in table for name in (eval_domains.NOISY, eval_domains.NOISE, "noisy, 10 dB"))
    assert (tmp_path / "out" / "domains.png").stat().st_size > 1000
    decoded = sorted(path.name for path in (tmp_path / "cache").glob("*.i16"))
    main(["evaluate-domains", *own, "--cache", str(tmp_path / "cache"), *further])
    assert sorted(path.name for path in (tmp_path / "cache").glob("*.i16")) == decoded  # once for all runs
    assert [path.name for path in (tmp_path / "out").rglob("evaluation.*")] == ["evaluation.json"] * 3
    assert "| imitated in training by | – | mel loss | – |" in table
    folders = sorted(str(path) for path in (tmp_path / "out").iterdir())
    main(["results", *folders, "--output", str(tmp_path / "RESULTS.md")])
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.count("\n## ") == 3 and "## noisy, 10 dB" in page and "log_mel ↓" in page


def test_results_name_no_machine(setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["evaluate", *setting])
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["ours"]["checkpoint"] == "checkpoint"
