"""Token shards of a corpus: complete whatever happens, every row accounted for, and refused for another codec."""

import errno
import json
import os
import random
import re
import signal
import threading
import time
import warnings

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from corpora import OPTIONS, RATE, REASONS, digests, tokenize, tokenizer_of
from recordings import file_bytes

from lm.data import expand_shards
from q2d2_tokenizer import Q2D2Model, TokenizeAudio
from q2d2_tokenizer.audio.reading import read_audio
from q2d2_tokenizer.corpus.shards import find_row, list_shards, load_token_shards
from q2d2_tokenizer.corpus.sources import Corpus
from q2d2_tokenizer.corpus.tokenize import CorpusOptions, CorpusTokenizer, Progress


def test_tokens_are_those_of_the_model_and_rows_add_up(corpus_file, tiny_model, tmp_path):
    summary = tokenize(corpus_file, tiny_model, tmp_path / "out")
    assert summary["input_rows"] == 20 and summary["token_rows"] == 12 and summary["rejects"] == REASONS
    source = {row["id"]: row for row in pq.read_table(corpus_file).to_pylist()}
    tokens = load_token_shards(tmp_path / "out", tiny_model.fingerprint())
    assert tokens.column_names == ["id", "codes", "num_samples", "text"]
    assert tokens.features["codes"] == datasets.List(datasets.Value("int32"))
    for row in tokens:
        audio = read_audio(source[row["id"]]["audio"]["bytes"], RATE)
        assert row["codes"] == tiny_model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes.flatten().tolist()
        assert row["num_samples"] == len(audio) and row["text"] == source[row["id"]]["text"]
    assert summary["tokens"] == sum(map(len, tokens["codes"]))
    assert summary["hours"] == pytest.approx(sum(tokens["num_samples"]) / RATE / 3600)
    lines = [line for path in sorted((tmp_path / "out/rejects").iterdir()) for line in path.read_text().splitlines()]
    rejected = [json.loads(line) for line in lines]
    assert sorted([row["id"] for row in rejected] + tokens["id"][:]) == sorted(source)
    assert all(row["detail"] for row in rejected)


def test_metadata_and_card(corpus_file, tiny_model, tmp_path, monkeypatch):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    metadata = pq.read_schema(list_shards(tmp_path / "out", None)[0]).metadata
    assert metadata[b"codec_fingerprint"].decode() == tiny_model.fingerprint()
    assert int(metadata[b"sampling_rate"]) == RATE
    assert int(metadata[b"codebook_size"]) == tiny_model.config.codebook_size
    card = (tmp_path / "out/README.md").read_text()
    for part in ('license: "cc0-1.0"', tiny_model.fingerprint(), "| input rows | 20 |", "3 empty", "`codes` | list"):
        assert part in card
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 12  # the header of the card says where the shards are


def test_silent_recordings_can_be_kept(corpus_file, tiny_model, tmp_path):
    options = CorpusOptions(OPTIONS.max_hours, "keep", 3)
    summary = tokenize(corpus_file, tiny_model, tmp_path / "out", options)
    assert summary["token_rows"] == 13 and "silent" not in summary["rejects"]
    with pytest.raises(ValueError, match="silent must be"):
        CorpusOptions(silent="maybe")
    with pytest.raises(ValueError, match="must be positive"):
        CorpusOptions(max_hours=0)


def test_long_recordings_are_rejected_without_decoding(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC") as file:
        for _ in range(50):
            file.write(np.zeros(8000 * 360, dtype=np.int16))
    monkeypatch.setattr("q2d2_tokenizer.corpus.cells.stream_from_column", None)
    summary = tokenize(path, tiny_model, tmp_path / "out", CorpusOptions())
    assert summary["rejects"] == {"too long": 1}
    assert "5 h, at most 4 h" in next((tmp_path / "out/rejects").iterdir()).read_text()


def test_any_number_of_processes_gives_the_same_files(corpus_file, tiny_model, tmp_path):
    tokenize(corpus_file, tiny_model, tmp_path / "one")
    several = tokenizer_of(corpus_file, tiny_model, tmp_path / "three")
    several.prepare()
    several.run(2, 3)
    several.run(0, 3)
    with pytest.raises(ValueError, match="2 of 7 shards are missing"):
        several.finish("cc0-1.0", "a test")
    several.run(1, 3)
    several.finish("cc0-1.0", "a test")
    assert digests(tmp_path / "three") == digests(tmp_path / "one")


def test_killed_at_random_it_ends_the_same(corpus_file, tiny_model, tmp_path):
    options = CorpusOptions(OPTIONS.max_hours, "reject", 1)
    start = time.perf_counter()
    tokenize(corpus_file, tiny_model, tmp_path / "undisturbed", options)
    duration = time.perf_counter() - start
    rng, kills, folder = random.Random(0), 0, tmp_path / "killed"
    for _ in range(40):
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a deadlock ends as one more kill
            Progress.set_lock(threading.RLock())  # its own is shared with the parent: once dead, it would never let go
            try:
                tokenize(corpus_file, tiny_model, folder, options)
            finally:
                os._exit(0 if (folder / "README.md").exists() else 1)
        time.sleep(rng.uniform(0, 0.3 * duration))
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
        elif (folder / "README.md").exists():
            break
    assert kills >= 5
    tokenize(corpus_file, tiny_model, folder, options)
    assert digests(folder) == digests(tmp_path / "undisturbed")


def test_killed_at_every_write_it_ends_the_same(corpus_file, tiny_model, tmp_path, monkeypatch):
    tokenize(corpus_file, tiny_model, tmp_path / "undisturbed")
    replace, folder, kills = os.replace, tmp_path / "killed", 0
    left = [0]

    def dying(source, target):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)  # the temporary file stays
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    while True:
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            left[0], code = 3, 1  # one is for .writable, so there is progress in every run
            try:
                tokenize(corpus_file, tiny_model, folder)
                code = 0
            finally:
                os._exit(code)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        kills += 1
        assert kills < 20
    monkeypatch.undo()
    assert kills >= 4
    assert digests(folder) == digests(tmp_path / "undisturbed")


def test_damaged_shards_are_made_again(corpus_file, tiny_model, tmp_path):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    before = digests(tmp_path / "out")
    shards, rejects = sorted((tmp_path / "out/data").iterdir()), sorted((tmp_path / "out/rejects").iterdir())
    shards[0].write_bytes(shards[0].read_bytes()[:-10])
    shards[1].unlink()
    rejects[-1].unlink()
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_second_run_computes_nothing(corpus_file, tiny_model, tmp_path, monkeypatch):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    before = digests(tmp_path / "out")
    monkeypatch.setattr(Q2D2Model, "encode", None)
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_resuming_with_something_else_is_refused(corpus_file, tiny_model, tmp_path):
    folder = tmp_path / "out"
    tokenize(corpus_file, tiny_model, folder)
    old = tiny_model.fingerprint()
    with pytest.raises(ValueError, match="begun with rows_per_shard 3, this run has rows_per_shard 4"):
        tokenize(corpus_file, tiny_model, folder, CorpusOptions(OPTIONS.max_hours, "reject", 4))
    pq.write_table(pq.read_table(corpus_file).slice(1), corpus_file)
    with pytest.raises(ValueError, match=r"20 rows in 1 sources \(digest \w+\), this is 19 rows in 1 sources"):
        tokenize(corpus_file, tiny_model, folder)
    with torch.no_grad():
        tiny_model.quantizer.project_in.bias += 0.5
    with pytest.raises(ValueError, match=f"codec {old}, this is codec {tiny_model.fingerprint()}"):
        tokenize(corpus_file, tiny_model, folder)
    (folder / "plan.json").unlink()
    with pytest.raises(ValueError, match="holds shards but no plan.json"):
        tokenize(corpus_file, tiny_model, folder)


def test_columns_that_collide_and_repeated_ids(corpus_file, tiny_model, tmp_path):
    table = pq.read_table(corpus_file)
    pq.write_table(table.append_column("codes", pa.nulls(20)), tmp_path / "codes.parquet")
    with pytest.raises(ValueError, match=r"the corpus has columns \['codes'\]"):
        tokenize(tmp_path / "codes.parquet", tiny_model, tmp_path / "out")
    pq.write_table(pa.concat_tables([table, table]), tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="20 ids occur more than once"):
        tokenize(tmp_path / "twice.parquet", tiny_model, tmp_path / "out")
    assert not (tmp_path / "out/data").exists()


def test_full_disk_and_read_only_output(corpus_file, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="cannot write to .*file/out: .*file is a file"):
        tokenize(corpus_file, tiny_model, tmp_path / "file/out")
    tokenizer = tokenizer_of(corpus_file, tiny_model, tmp_path / "out")
    tokenizer.prepare()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk of .*out is full; complete shards are kept"):
        tokenizer.run()
    assert not [path for path in (tmp_path / "out/data").iterdir()]
    monkeypatch.undo()
    assert tokenize(corpus_file, tiny_model, tmp_path / "out")["input_rows"] == 20


@pytest.mark.parametrize(("code", "message"), [(errno.EROFS, "Read-only file system"), (errno.EACCES, "denied")])
def test_read_only_output(corpus_file, tiny_model, tmp_path, monkeypatch, code, message):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=f"cannot write to .*out: .*{message}"):
        tokenize(corpus_file, tiny_model, tmp_path / "out")


def test_damaged_inputs_do_not_stop_the_run(corpus_file, tiny_model, tmp_path):
    content = corpus_file.read_bytes()
    (tmp_path / "torn.parquet").write_bytes(content[: len(content) // 2])
    damaged = bytearray(content)
    start = pq.read_metadata(corpus_file).row_group(0).column(1).data_page_offset  # audio of the first eight rows
    damaged[start : start + 40] = b"\xff" * 40
    (tmp_path / "damaged.parquet").write_bytes(damaged)
    corpus = Corpus([str(tmp_path / f"{name}.parquet") for name in ("corpus", "damaged", "torn")], drop_columns=["id"])
    tokenizer = CorpusTokenizer(corpus, tiny_model, tmp_path / "out", OPTIONS)
    tokenizer.prepare()
    tokenizer.run()
    summary = tokenizer.finish("cc0-1.0", "a test")
    assert summary["input_rows"] == 20 + 20 + 1 == summary["token_rows"] + sum(summary["rejects"].values())
    tokens = load_token_shards(tmp_path / "out", None)
    alone = tokenize(corpus_file, tiny_model, tmp_path / "alone")
    good = load_token_shards(tmp_path / "alone", None)
    assert tokens["codes"][: alone["token_rows"]] == good["codes"][:]
    second = [row["text"] for row in tokens if row["id"].startswith("damaged.parquet/")]
    assert second == [text for text in good["text"] if int(text.split()[1]) >= 8]


def test_progress_shows_hours_speed_and_the_time_that_remains(corpus_file, tiny_model, tmp_path, capsys):
    tokenizer = tokenizer_of(corpus_file, tiny_model, tmp_path / "out")
    tokenizer.prepare()
    tokenizer.run(0, 2, show_progress=True)
    tokenizer.run(show_progress=True)  # goes on: rows and hours of the first run count as done
    hours = tokenizer.finish("cc0-1.0", "a test")["hours"]
    first, second = (text.split("\r") for text in capsys.readouterr().err.strip().split("\n"))
    assert "process 0 of 2" in first[-1] and "11/11" in first[-1]
    assert "11/20" in second[1] and "20/20" in second[-1]
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d, .*row/s, ([\d.]+) h, \d+x real time\]", second[-1])
    assert f" {hours:.2f} h, " in second[-1]


def test_dataset_map_gives_the_same_tokens(corpus_file, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "codec")
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    shards = load_token_shards(tmp_path / "out", None)
    rows = {row["id"]: row for row in pq.read_table(corpus_file).to_pylist()}
    same = datasets.Dataset.from_list([rows[row_id] for row_id in shards["id"]])
    mapped = same.map(TokenizeAudio(tmp_path / "codec"), batched=True, batch_size=4, remove_columns=["audio"])
    assert mapped["audio_codes"][:] == shards["codes"][:] and mapped["text"][:] == shards["text"][:]


def test_reading_refuses_other_codecs_and_finds_rows(corpus_file, tiny_model, tmp_path):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    with pytest.raises(ValueError, match=f"of codec {tiny_model.fingerprint()}, expected codec other"):
        load_token_shards(tmp_path / "out", "other")
    row = find_row(tmp_path / "out", "id8", tiny_model.fingerprint())
    assert row.codec_fingerprint == tiny_model.fingerprint() and row.sampling_rate == RATE
    assert len(row.audio_codes) == -(-row.num_samples // tiny_model.config.hop_length)
    with pytest.raises(KeyError, match="'id5' was rejected, unreadable"):
        find_row(tmp_path / "out", "id5")
    with pytest.raises(KeyError, match="no row 'nobody'"):
        find_row(tmp_path / "out", "nobody")
    with pytest.raises(FileNotFoundError, match="no token shards"):
        list_shards(tmp_path, None)
    streamed = load_token_shards(tmp_path / "out", None, streaming=True)
    assert next(iter(streamed))["id"] == "id0"
    pq.write_table(pa.table({"a": [1]}), tmp_path / "out/data/other.parquet")
    with pytest.raises(ValueError, match="names no codec_fingerprint"):
        list_shards(tmp_path / "out", None)


def test_shards_that_are_not_there_are_told(corpus_file, tiny_model, tmp_path):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shards = list_shards(tmp_path / "out", None)
    shards[0].unlink()
    with pytest.warns(UserWarning, match=f"has {len(shards) - 1} of {len(shards)} shards"):
        list_shards(tmp_path / "out", None)
    with pytest.warns(UserWarning, match=f"has {len(shards) - 1} of {len(shards)} shards"):
        expand_shards([str(tmp_path / "out/data")])


def test_names_of_classes_are_kept(tiny_model, tmp_path, speech_like):
    audio = [{"bytes": file_bytes(speech_like(500), RATE, "WAV", "PCM_16"), "path": None}] * 2
    label = datasets.ClassLabel(names=["north", "south"])
    dataset = datasets.Dataset.from_dict({"audio": audio, "accent": [1, 0]}).cast_column("accent", label)
    dataset.cast_column("audio", datasets.Audio(decode=False)).to_parquet(tmp_path / "corpus.parquet")
    tokenize(tmp_path / "corpus.parquet", tiny_model, tmp_path / "out")
    assert load_token_shards(tmp_path / "out", None).features["accent"] == label


def test_a_shard_without_tokens(tiny_model, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    summary = tokenize(tmp_path / "a.wav", tiny_model, tmp_path / "out")
    assert summary["rejects"] == {"empty": 1} and summary["tokens"] == 0
    assert len(load_token_shards(tmp_path / "out", None)) == 0
