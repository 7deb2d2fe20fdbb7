"""Token shards of a corpus: what stops a run, with an error that says why, rather than rejecting rows for good."""

import errno
import json
import os
from argparse import Namespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import OPTIONS, digests, tokenize, tokenizer_of
from recordings import file_bytes

from q2d2_tokenizer import tokenize_corpus
from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.corpus import processes, sources
from q2d2_tokenizer.corpus.inputs import open_input, stop_unless_damaged
from q2d2_tokenizer.corpus.sources import Corpus
from q2d2_tokenizer.corpus.tokenize import CorpusTokenizer

STOPPING = [
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    PermissionError(errno.EACCES, "Permission denied"),
    ConnectionError("refused"),
    TimeoutError("timed out"),
    type("HTTPError", (OSError,), {})("503 Server Error"),  # as requests and huggingface_hub have it
]


@pytest.mark.parametrize("error", STOPPING, ids=str)
def test_errors_that_may_pass_stop(error):
    with pytest.raises(OSError, match="cannot read a.parquet: .*; nothing was rejected for that, run again"):
        stop_unless_damaged(error, "a.parquet")


def test_damage_does_not_stop():
    for error in (FileNotFoundError("a"), IsADirectoryError(errno.EISDIR, "a"), OSError("Arrow"), pa.ArrowInvalid("a")):
        stop_unless_damaged(error, "a.parquet")
    with pytest.raises(OSError, match="cannot read hf://a.parquet"):
        stop_unless_damaged(OSError("Arrow"), "hf://a.parquet")


class Failing:
    """Opens inputs, but not those from a given one on."""

    def __init__(self, good: int):
        self.left = good

    def __call__(self, path, *_):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "Input/output error")
        return open_input(path)


@pytest.mark.parametrize("good", [0, 1, 4, 8])
def test_inputs_that_cannot_be_read_for_now_stop_the_run(corpus_file, tiny_model, tmp_path, monkeypatch, good):
    tokenize(corpus_file, tiny_model, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr("q2d2_tokenizer.corpus.parquet.open_input", Failing(good))
        with pytest.raises(OSError, match="cannot read .*corpus.parquet: .*Input/output error"):
            tokenize(corpus_file, tiny_model, tmp_path / "out")
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


def test_recordings_that_cannot_be_read_for_now_stop_the_run(speech_like, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / f"in/{name}.wav").write_bytes(file_bytes(speech_like(500), 24000, "WAV", "PCM_16"))
    tokenize(tmp_path / "in", tiny_model, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr("q2d2_tokenizer.audio.reading._open", Failing(2))  # to measure and to decode
        with pytest.raises(OSError, match="cannot read .*b.wav: .*Input/output error"):
            tokenize(tmp_path / "in", tiny_model, tmp_path / "out")
    tokenize(tmp_path / "in", tiny_model, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


def test_a_corpus_has_a_licence(corpus_file, tmp_path):
    with pytest.raises(ValueError, match="licence must name"):
        tokenize_corpus(str(corpus_file), tmp_path / "out", " ")
    assert not (tmp_path / "out").exists()


def test_every_process_compares_its_plan(corpus_file, tiny_model, tmp_path, monkeypatch):
    tokenizer_of(corpus_file, tiny_model, tmp_path / "out").prepare()
    tiny_model.save_pretrained(tmp_path / "codec")
    pq.write_table(pq.read_table(corpus_file).slice(0, 4), corpus_file)
    with pytest.raises(ValueError, match="20 rows in 1 sources .*, this is 4 rows"):
        tokenizer_of(corpus_file, tiny_model, tmp_path / "out").check_plan()
    with pytest.raises(ValueError, match="20 rows in 1 sources .*, this is 4 rows"):
        processes.ShardWorker(lambda _: tokenizer_of(corpus_file, tiny_model, tmp_path / "out"), os.getcwd())
    second = {"local_process_index": 1, "process_index": 1, "num_processes": 2, "is_main_process": False}
    monkeypatch.setattr("accelerate.PartialState", lambda **_: Namespace(**second, wait_for_everyone=lambda: None))
    with pytest.raises(ValueError, match="20 rows in 1 sources .*, this is 4 rows"):
        tokenize_corpus(str(corpus_file), tmp_path / "out", "x", codec=str(tmp_path / "codec"), options=OPTIONS)
    assert not list((tmp_path / "out/data").iterdir())


@pytest.mark.parametrize("name", ["data/tokens-00001-of-00003.parquet", "rejects/00001-of-00003.jsonl"])
def test_files_of_another_plan_are_refused(corpus_file, tiny_model, tmp_path, name):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"")
    tokenizer = tokenizer_of(corpus_file, tiny_model, tmp_path / "out")
    for step in (tokenizer.prepare, tokenizer.check_plan, lambda: tokenizer.finish("cc0-1.0", "a test")):
        with pytest.raises(ValueError, match=f"1 files in .*out are not of this data set, such as .*{name}"):
            step()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"audio_column": "speech"}, "audio_column 'audio', this run has audio_column 'speech'"),
        ({"id_column": "id"}, "id_column None, this run has id_column 'id'"),
        ({"drop_columns": ["text"]}, r"drop_columns \[\], this run has drop_columns \['text'\]"),
    ],
)
def test_other_columns_are_refused(corpus_file, tiny_model, tmp_path, changed, message):
    table = pq.read_table(corpus_file)
    pq.write_table(table.append_column("speech", table["audio"]), corpus_file)
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    other = CorpusTokenizer(Corpus([str(corpus_file)], **changed), tiny_model, tmp_path / "out", OPTIONS)
    with pytest.raises(ValueError, match=f"out was begun with {message}; use that one"):
        other.prepare()


def test_a_folder_of_another_version_is_refused(corpus_file, tiny_model, tmp_path):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    path = tmp_path / "out/plan.json"
    plan = json.loads(path.read_text())
    for part, name in (("codec", "neighbours_per_group"), ("options", "audio_column")):
        older = {**plan, part: {key: value for key, value in plan[part].items() if key != name}}
        path.write_text(json.dumps(older))
        with pytest.raises(ValueError, match=rf"begun with {name} unknown \(another version .*this run has {name} "):
            tokenize(corpus_file, tiny_model, tmp_path / "out")


@pytest.mark.parametrize(
    ("cell", "detail"),
    [
        ({"array": [0.5] * 500}, "'sampling_rate' of the audio holds NoneType"),
        ({"array": [0.5] * 500, "sampling_rate": "24000"}, "'sampling_rate' of the audio holds str"),
        ({"bytes": "text", "path": None}, "'bytes' of the audio holds str"),
        ({"bytes": None, "path": 5}, "'path' of the audio holds int"),
        ({"bytes": None, "path": "https://host/a.wav"}, "no such audio file"),
    ],
)
def test_cells_of_other_types_are_rejected(tiny_model, tmp_path, cell, detail):
    pq.write_table(pa.table({"audio": [cell]}), tmp_path / "a.parquet")
    assert tokenize(tmp_path / "a.parquet", tiny_model, tmp_path / "out")["rejects"] == {"unreadable": 1}
    assert detail in next((tmp_path / "out/rejects").iterdir()).read_text()


def test_errors_of_the_command_name_the_file(corpus_file, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "codec/config.json")

    monkeypatch.setattr(sources, "Corpus", fail)
    assert main(["tokenize", str(corpus_file), "--output", str(tmp_path / "out"), "--licence", "x"]) == 2
    assert capsys.readouterr().err == "q2d2: Permission denied: codec/config.json\n"
