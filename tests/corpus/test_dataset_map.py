"""`TokenizeAudio` under `datasets.map`: the tokens of the model, whatever the column holds and in any process."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from datasets import Audio, Dataset
from datasets.fingerprint import Hasher
from recordings import file_bytes

from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.audio.reading import read_audio
from q2d2_tokenizer.corpus.dataset_map import TokenizeAudio

RATE = 24000
FILES = [  # format, subtype, rate, samples, channels
    ("OGG", "OPUS", 24000, 24001, 1),
    ("OGG", "OPUS", 48000, 9601, 2),
    ("MP3", "MPEG_LAYER_III", 44100, 20000, 1),
    ("FLAC", "PCM_16", 16000, 1, 1),
    ("WAV", "PCM_16", 8000, 8000, 2),
    ("OGG", "VORBIS", 24000, 6400, 1),
]


@pytest.fixture
def cells(speech_like) -> list[dict]:
    def cell(number: int) -> dict:
        file_format, subtype, rate, length, channels = FILES[number]
        samples = np.stack([speech_like(length, seed=number + c, sampling_rate=rate) for c in range(channels)], axis=1)
        return {"bytes": file_bytes(samples, rate, file_format, subtype), "path": f"speaker/{number}.audio"}

    return [cell(number) for number in range(len(FILES))]


@pytest.fixture
def parquet(cells, tmp_path) -> str:
    """File with undecoded audio, as data sets on the Hub have it."""
    dataset = Dataset.from_dict({"audio": cells, "text": [str(i) for i in range(len(cells))]})
    dataset.cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / "speech.parquet")
    return str(tmp_path / "speech.parquet")


@pytest.fixture
def dataset(parquet, tmp_path) -> Dataset:
    loaded = Dataset.from_parquet(parquet, cache_dir=str(tmp_path / "cache"))
    return loaded.cast_column("audio", Audio(decode=False))


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Turns a deadlock into a failure."""

    def stop(number, frame):
        raise TimeoutError("deadlock")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Threads of OpenMP in this process; they do not survive a fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.randn(400, 400) @ torch.randn(400, 400)
    yield
    torch.set_num_threads(before)


def direct_codes(model: Q2D2Model, samples: np.ndarray) -> list[int]:
    return model.encode(torch.from_numpy(samples).view(1, 1, -1)).audio_codes[0, 0].tolist()


def test_undecoded_column_gives_the_tokens_of_the_model(dataset, cells, checkpoint, tiny_model):
    tokens = dataset.map(TokenizeAudio(checkpoint), batched=True, batch_size=4, remove_columns=["audio"])
    assert tokens.column_names == ["text", "audio_codes", "num_samples", "codec_fingerprint"]
    assert tokens.features["audio_codes"] == datasets.List(datasets.Value("int64"))
    for row, cell in zip(tokens, cells, strict=True):
        samples = read_audio(cell["bytes"], RATE)
        assert row["audio_codes"] == direct_codes(tiny_model, samples)
        assert row["num_samples"] == len(samples)
        assert len(row["audio_codes"]) == -(-len(samples) // tiny_model.config.hop_length)
        assert row["codec_fingerprint"] == tiny_model.fingerprint()
    assert [row["num_samples"] for row in tokens][:2] == [24001, 4801]
    assert len({code for row in tokens for code in row["audio_codes"]}) > 20  # or equality would mean little


def test_workers_agree_with_a_parent_that_ran_the_model(dataset, checkpoint, time_limit, two_threads):
    tokenize = TokenizeAudio(checkpoint)
    expected = tokenize(dataset[:])
    tokens = dataset.map(tokenize, batched=True, batch_size=2, num_proc=2, remove_columns=["audio"])
    assert tokens["audio_codes"][:] == [codes.tolist() for codes in expected["audio_codes"]]
    assert tokens["num_samples"][:] == expected["num_samples"]


def test_workers_use_one_thread_and_load_once(dataset, checkpoint, time_limit, two_threads):
    tokenize = TokenizeAudio(checkpoint)

    def observe(batch: dict) -> dict:
        tokenize(batch)
        return {"threads": [torch.get_num_threads()], "model": [id(tokenize._loaded)], "process": [os.getpid()]}

    seen = dataset.map(observe, batched=True, batch_size=1, num_proc=2, remove_columns=dataset.column_names)
    assert set(seen["threads"]) == {1}
    assert len(set(seen["process"])) == 2
    assert len(set(zip(seen["process"], seen["model"], strict=True))) == 2
    assert id(None) not in seen["model"]


def test_second_run_is_served_from_the_cache(dataset, checkpoint, monkeypatch):
    first = dataset.map(TokenizeAudio(checkpoint), batched=True, remove_columns=["audio"])
    monkeypatch.setattr(Q2D2Model, "encode", None)
    monkeypatch.chdir(Path(checkpoint).parent)
    for same in (checkpoint, Path(checkpoint), "codec"):
        again = dataset.map(TokenizeAudio(same), batched=True, remove_columns=["audio"])
        assert again.cache_files == first.cache_files
    with pytest.raises(TypeError):  # other arguments compute anew, so the patch above is seen
        dataset.map(TokenizeAudio(checkpoint, sampling_rate=1), batched=True, remove_columns=["audio"])


def test_another_process_finds_the_cache(dataset, parquet, checkpoint, tmp_path):
    first = dataset.map(TokenizeAudio(checkpoint), batched=True, remove_columns=["audio"])
    program = f"""
import json
from datasets import Audio, Dataset
from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.corpus.dataset_map import TokenizeAudio
Q2D2Model.encode = None
dataset = Dataset.from_parquet({parquet!r}, cache_dir={str(tmp_path / "cache")!r})
dataset = dataset.cast_column("audio", Audio(decode=False))
tokens = dataset.map(TokenizeAudio({checkpoint!r}), batched=True, remove_columns=["audio"])
print(json.dumps(tokens.cache_files))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == first.cache_files


def test_state_is_small_and_follows_the_weights(checkpoint, tiny_model, speech_like):
    tokenize = TokenizeAudio(checkpoint)
    fresh = Hasher.hash(tokenize)
    tokenize({"audio": [{"array": speech_like(1000), "sampling_rate": RATE}]})
    assert Hasher.hash(tokenize) == fresh == Hasher.hash(TokenizeAudio(checkpoint))
    assert Hasher.hash(pickle.loads(pickle.dumps(tokenize))) == fresh
    assert len(pickle.dumps(tokenize)) < 1000
    with torch.no_grad():
        tiny_model.quantizer.project_in.bias += 0.5
    tiny_model.save_pretrained(checkpoint)
    assert Hasher.hash(TokenizeAudio(checkpoint)) != fresh
    with pytest.raises(ValueError, match="changed while it was in use"):
        pickle.loads(pickle.dumps(tokenize))({"audio": []})


def test_other_kinds_of_columns(checkpoint, tiny_model, speech_like):
    samples = speech_like(2000)
    expected = direct_codes(tiny_model, samples)
    decoded = SimpleNamespace(data=torch.from_numpy(samples)[None], sample_rate=RATE)
    columns = {
        "arrays": [samples],
        "lists": [samples.tolist()],
        "decoded": [{"array": samples, "sampling_rate": RATE, "path": None}],
        "decoders": [SimpleNamespace(get_all_samples=lambda: decoded)],
        "tensors": torch.from_numpy(samples)[None],
        "files": [file_bytes(samples, RATE, "WAV", "FLOAT")],
    }
    for name in columns:
        result = TokenizeAudio(checkpoint, audio_column=name, sampling_rate=RATE)(columns)
        assert [codes.tolist() for codes in result["audio_codes"]] == [expected], name
    mapped = Dataset.from_dict({"wave": columns["lists"], "rows": columns["decoded"]})
    for name in mapped.column_names:
        tokens = mapped.map(TokenizeAudio(checkpoint, name, sampling_rate=RATE), batched=True)
        assert tokens["audio_codes"][0] == expected
    with pytest.raises(ValueError, match="row 0 .*sampling_rate"):
        TokenizeAudio(checkpoint, "arrays")(columns)
    for rate in ({}, {"sampling_rate": "a"}):
        with pytest.raises(ValueError, match="row 0 .*needs its sampling_rate, a number in Hz"):
            TokenizeAudio(checkpoint)({"audio": [{"array": samples} | rate]})


def test_errors_name_the_row_and_the_file(dataset, cells, checkpoint):
    cells[4]["bytes"] = cells[4]["bytes"][:-100]
    with pytest.raises(ValueError, match=r"row 4 of its batch \(speaker/4.audio\).*cut off"):
        TokenizeAudio(checkpoint)({"audio": cells})
    broken = Dataset.from_dict({"audio": cells}).cast_column("audio", Audio(decode=False))
    with pytest.raises(ValueError, match=r"row 4 \(speaker/4.audio\)"):
        broken.map(TokenizeAudio(checkpoint), batched=True, batch_size=3, with_indices=True)
    for samples, message in [([], "empty"), ([0.0, float("nan")], "NaN"), ([[0.0] * 50] * 2, "transpose")]:
        with pytest.raises(ValueError, match=f"row 1.*{message}"):
            TokenizeAudio(checkpoint, sampling_rate=RATE)({"audio": [[0.0, 0.1], samples]})


def test_columns_that_cannot_be_read_are_explained(dataset, checkpoint, monkeypatch):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    with pytest.raises(ImportError, match=r'cast_column\("audio", datasets.Audio\(decode=False\)\)'):
        dataset.cast_column("audio", Audio()).map(TokenizeAudio(checkpoint), batched=True)
    with pytest.raises(ValueError, match=r"no column 'speech'; the data set has \['audio', 'text'\]"):
        dataset.map(TokenizeAudio(checkpoint, "speech"), batched=True)
    with pytest.raises(ValueError, match="batched=True"):
        dataset.map(TokenizeAudio(checkpoint))


def test_empty_batch(checkpoint):
    assert TokenizeAudio(checkpoint)({"audio": []}) == {"audio_codes": [], "num_samples": [], "codec_fingerprint": []}
