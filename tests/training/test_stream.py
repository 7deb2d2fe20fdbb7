"""Training data that is read in order and decoded on the way."""

import numpy as np
import pytest
import soundfile
import torch
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry
from recordings import file_bytes

from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.corpus.inputs import list_entries
from q2d2_tokenizer.training import data
from q2d2_tokenizer.training import stream as data_stream
from q2d2_tokenizer.training.augmentation import Augmentation
from q2d2_tokenizer.training.codec import CodecTrainer, TrainConfig
from q2d2_tokenizer.training.data import AudioCache
from q2d2_tokenizer.training.stream import AudioStream

RATE = 24000


@pytest.fixture
def folder(tmp_path):
    """Two Parquet files of three recordings each; recording i is the constant (i + 1) / 10, i + 1 tenths long."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "data").mkdir()
    for number in range(2):
        cells = [
            {"bytes": file_bytes(np.full(2400 * (i + 1), (i + 1) / 10), RATE, "WAV", "FLOAT"), "path": None}
            for i in range(3 * number, 3 * number + 3)
        ]
        pq.write_table(pa.table({"audio": cells}), tmp_path / "data" / f"{number}.parquet")
    return tmp_path / "data"


def heard(batch: torch.Tensor) -> list[int]:
    """Which recording each segment is of."""
    return [round(float(segment.max()) * 10) for segment in batch]


def test_segments_depend_on_seed_and_number_alone(folder):
    def stream(**arguments):
        return AudioStream([str(folder)], RATE, ahead=4, window=4, draws=3, **arguments)

    whole = stream().batch(1, range(40), 1000, Augmentation())
    later = stream()
    assert torch.equal(later.batch(1, range(30, 40), 1000, Augmentation()), whole[30:])  # as a resumed run
    assert torch.equal(later.batch(1, range(4), 1000, Augmentation()), whole[:4])
    assert not torch.equal(later.batch(2, range(40), 1000, Augmentation()), whole)


def test_windows_follow_one_another_and_long_recordings_are_drawn_more_often(folder):
    stream = AudioStream([str(folder)], RATE, ahead=1, window=3, draws=2, interleave=1)
    first, second = (set(heard(stream.batch(0, range(6 * w, 6 * w + 6), 100, Augmentation()))) for w in range(2))
    assert {frozenset(first) <= {1, 2, 3}, frozenset(second) <= {1, 2, 3}} == {True, False}  # one file, then the other
    assert first | second <= {1, 2, 3, 4, 5, 6}
    stream = AudioStream([str(folder)], RATE, 1, window=6, draws=100)
    counts = np.bincount(heard(stream.batch(0, range(600), 100, Augmentation())))
    assert counts[6] > 3 * counts[1]


def test_a_late_start_reads_one_epoch_of_those_it_skips(folder, monkeypatch):
    read = []
    open_source = data_stream.open_source
    monkeypatch.setattr(data_stream, "open_source", lambda *file: read.append(file) or open_source(*file))
    stream = AudioStream([str(folder)], RATE, ahead=1, window=4, draws=3)
    late = range(12 * 40, 12 * 40 + 4)  # segments of window 40, which begins with recording 160 of epochs of six
    batch = stream.batch(1, late, 1000, Augmentation())
    assert len(read) <= 2 * 5
    whole = AudioStream([str(folder)], RATE, ahead=1, window=4, draws=3)
    for start in range(0, late.start, 12):
        whole.batch(1, range(start, start + 4), 1000, Augmentation())  # window after window
    assert torch.equal(whole.batch(1, late, 1000, Augmentation()), batch)


def test_only_what_is_drawn_is_decoded(folder):
    stream = AudioStream([str(folder)], RATE, ahead=0, window=6, draws=50)
    for _ in range(3):
        stream.batch(0, range(2), 100, Augmentation())
    (decoded,) = [window.result()._decoded for window in stream._windows.values() if window.result()._decoded]
    assert 1 <= len(decoded) <= 2


def test_a_row_without_audio_is_refused_and_hides_no_other(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cell = {"bytes": file_bytes(np.ones(2400), RATE, "WAV", "FLOAT"), "path": None}
    for nothing in (None, {"bytes": None, "path": None}):
        pq.write_table(pa.table({"audio": [cell, nothing, cell]}), folder / "2.parquet")
        with pytest.raises(ValueError, match=r"row 1 of .*2\.parquet: the row holds no audio"):
            AudioStream([str(folder / "2.parquet")], RATE, ahead=4).batch(0, range(4), 1000, Augmentation())


def test_what_cannot_be_read_is_named(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    whole = file_bytes(np.ones(2400), RATE, "WAV", "FLOAT")
    cells = [{"bytes": content, "path": None} for content in (whole, whole[:-2000], whole)]
    pq.write_table(pa.table({"audio": cells}), folder / "cut.parquet")
    pq.write_table(pa.table({"audio": [{"bytes": b"no audio", "path": None}]}), folder / "text.parquet")
    pq.write_table(pa.table({"sound": [1]}), folder / "column.parquet")
    (folder / "torn.parquet").write_bytes((folder / "cut.parquet").read_bytes()[:-100])
    pq.write_table(pa.table({"audio": cells}).slice(0, 0), folder / "none.parquet")
    messages = {
        "cut": r"row 1 of .*cut\.parquet",
        "text": r"row 0 of .*text\.parquet",
        "column": r"column\.parquet has no column 'audio', it has \['sound'\]",
        "torn": r"torn\.parquet: cannot read the Parquet file",
        "none": "no recordings",
    }
    for name, message in messages.items():
        source = [str(folder / f"{name}.parquet")]
        with pytest.raises(ValueError, match=message):
            AudioStream(source, RATE, ahead=4).batch(0, range(40), 1000, Augmentation())
        with pytest.raises(ValueError, match=message):
            AudioCache(source, folder / "cache", RATE)


def test_a_cache_that_was_being_written_is_written_again(folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    source = [str(folder / "0.parquet")]
    whole = AudioCache(source, folder / "other", RATE)
    for name in ("write_atomically", "_read_recordings"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(data, name, killed)
            AudioCache(source, folder / "cache", RATE)
        assert not list((folder / "cache").glob("*.json"))
    again = AudioCache(source, folder / "cache", RATE)
    assert again.digests == whole.digests and len(set(again.digests)) == 3


def test_urls_are_read_through_fsspec(folder, monkeypatch):
    class Hub(DirFileSystem):
        """A stand-in for the Hub: a local folder."""

        protocol = "hf"

        def __init__(self, **kwargs):
            super().__init__(str(folder.parent), LocalFileSystem(), **kwargs)

    monkeypatch.setitem(_registry, "hf", Hub)
    (folder / "notes.txt").write_text("no audio")
    url = f"hf://{folder.name}/*"
    assert [name.rsplit("/")[-1] for name, *_ in list_entries([url])] == ["0.parquet", "1.parquet"]
    near = AudioStream([str(folder)], RATE, 1).batch(0, range(5), 500, Augmentation(3.0))
    assert torch.equal(AudioStream([url], RATE, 1).batch(0, range(5), 500, Augmentation(3.0)), near)
    with pytest.raises(ValueError, match="no Parquet, tar or audio files"):
        list_entries([f"hf://{folder.name}/*.flac"])


def test_training_from_a_stream_resumes_exactly_and_writes_no_cache(folder, tiny_config, tmp_path):
    for number in range(3):  # audio files beside the Parquet files
        soundfile.write(folder / f"{number}.flac", 0.1 * np.sin(np.arange(RATE) * (0.03 + 0.01 * number)), RATE)
    tiny_config.to_json_file(tmp_path / "codec.json")
    small = {"band": {"sizes": [512], "dim": 8}, "period": {"sizes": [3], "channels": [4]}}
    settings = {"data": [str(folder)], "codec": str(tmp_path / "codec.json"), "streaming": True, "steps": 4}
    settings |= {"batch_size": 2, "segment_frames": 16, "discriminator_kwargs": small, "save_every": 2}
    CodecTrainer(TrainConfig(**settings, output=str(tmp_path / "whole"))).run()
    interrupted = CodecTrainer(TrainConfig(**settings, output=str(tmp_path / "parts")))
    for _ in range(2):
        interrupted.train_step()
    interrupted.save()
    CodecTrainer(TrainConfig(**settings, output=str(tmp_path / "parts"))).run()
    whole, parts = (Q2D2Model.from_pretrained(tmp_path / name / "weights") for name in ("whole", "parts"))
    assert whole.fingerprint() == parts.fingerprint()
    assert not (tmp_path / "whole" / "cache").exists()
