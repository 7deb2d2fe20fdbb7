"""One lister and one reader: tokenizing, training and evaluation take the same inputs and see the same recordings."""

import errno
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import tokenize
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry
from recordings import file_bytes, write_tar

from q2d2_tokenizer.audio.errors import AudioError, EmptyAudioError, NotFiniteAudioError, UnreadableAudioError
from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.corpus.cells import announced_seconds, read_cell
from q2d2_tokenizer.corpus.inputs import list_entries
from q2d2_tokenizer.corpus.sources import Corpus
from q2d2_tokenizer.evaluation.clips import load_clips
from q2d2_tokenizer.training.augmentation import Augmentation
from q2d2_tokenizer.training.codec import CodecTrainer, TrainConfig
from q2d2_tokenizer.training.data import AudioCache
from q2d2_tokenizer.training.stream import AudioStream

RATE = 24000
TEXTS = ["zero", "one", "two"]


def recording(number: int) -> bytes:
    """Content of a short file; recording i is the constant (i + 1) / 10."""
    return file_bytes(np.full(1000 + 100 * number, (number + 1) / 10), RATE, "FLAC", "PCM_16")


def write_files(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(recording(number))


def write_parquet(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def tar_members() -> dict[str, bytes]:
    return {
        f"s/{i}.{suffix}": content
        for i, text in enumerate(TEXTS)
        for suffix, content in (("flac", recording(i)), ("txt", f"{text}\n".encode()))
    }


def cells() -> list[dict]:
    return [{"bytes": recording(i), "path": None} for i in range(3)]


def make_files(folder):
    write_files(folder, "0.flac", "1.flac", "2.flac")
    return [str(folder / f"{i}.flac") for i in range(3)]


def make_folder(folder):
    write_files(folder, "a/0.flac", "a/1.flac", "b/2.flac")
    for path, text in zip(sorted(folder.rglob("*.flac")), TEXTS, strict=True):
        path.with_suffix(".txt").write_text(text)
    return [str(folder)]


def make_pattern(folder):
    write_files(folder, "a/0.flac", "a/1.flac", "b/2.flac")
    return [f"{folder}/**/*.flac"]


def make_brackets(folder):
    write_files(folder, "take [1].flac", "take [2].flac", "take [3].flac", "take 1.flac")
    return [str(folder / f"take [{i}].flac") for i in (1, 2, 3)]


def make_list(folder):
    write_files(folder, "x/0.flac", "x/1.flac", "x/2.flac", "x/3.flac")
    (folder / "list.txt").write_text("x/0.flac\n\nx/1.flac\nx/2.flac\n")
    return [str(folder / "list.txt")]


def make_metadata(folder):
    write_files(folder, "in/0.flac", "in/1.flac", "outside.flac")
    rows = zip(["0.flac", "1.flac", "../outside.flac"], TEXTS, strict=True)
    (folder / "in/metadata.csv").write_text("file_name,text\n" + "".join(f"{name},{text}\n" for name, text in rows))
    return [str(folder / "in")]


def make_jsonl(folder):
    write_files(folder, "0.flac", "1.flac", "2.flac")
    rows = [{"file_name": f"{i}.flac", "text": text} for i, text in enumerate(TEXTS)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [str(folder)]


def make_parquet(folder):
    return [str(write_parquet(folder / "part[1].parquet", audio=cells(), text=TEXTS))]


def make_bytes(folder):
    return [str(write_parquet(folder / "a.parquet", audio=[recording(i) for i in range(3)], text=TEXTS))]


def make_paths(folder):
    write_files(folder, "x/0.flac", "x/1.flac", "x/2.flac")
    return [str(write_parquet(folder / "a.parquet", audio=[f"x/{i}.flac" for i in range(3)], text=TEXTS))]


def make_speech(folder):
    return [str(write_parquet(folder / "a.parquet", speech=cells(), audio=["no"] * 3, text=TEXTS))]


def make_tar(folder):
    return [str(write_tar(folder / "a.tar", tar_members()))]


def make_url(folder):
    make_parquet(folder)
    (folder / "sample.flac").write_bytes(recording(5))  # shows what the Parquet files hold
    return [f"folder://{folder.name}"]


def make_url_of_a_tar(folder):
    make_tar(folder)
    return [f"folder://{folder.name}/*.tar"]


def make_urls_of_files(folder):
    make_files(folder)
    return [f"folder://{folder.name}/*.flac"]


def make_hub(folder):
    (folder.parent / "datasets/owner").mkdir(parents=True)
    make_parquet(folder)
    folder.rename(folder.parent / "datasets/owner/name")
    return ["owner/name"]


KINDS = [make_files, make_folder, make_pattern, make_brackets, make_list, make_metadata, make_jsonl, make_parquet]
KINDS += [make_bytes, make_paths, make_speech, make_tar, make_url, make_url_of_a_tar, make_urls_of_files, make_hub]
WITH_TEXT = {make_folder, make_metadata, make_jsonl, make_parquet, make_bytes, make_paths, make_speech, make_tar}
WITH_TEXT |= {make_url, make_url_of_a_tar, make_hub}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder for inputs; the file systems `folder` and that of the Hub show the one around it."""

    class Folder(DirFileSystem):
        protocol = "folder"

        def __init__(self, **kwargs):
            super().__init__(str(tmp_path), LocalFileSystem(), **kwargs)

    hub = type("Hub", (Folder,), {"protocol": "hf"})
    monkeypatch.setitem(_registry, "folder", Folder)
    monkeypatch.setitem(_registry, "hf", hub)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def column_of(make) -> str:
    return "speech" if make is make_speech else "audio"


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__.removeprefix("make_"))
def test_every_command_sees_the_same_recordings_in_the_same_order(make, folder, tmp_path):
    inputs, column = make(folder), column_of(make)
    corpus = Corpus(inputs, column)
    batches = [batch for shard in corpus.split(2) for batch in corpus.read(shard)]
    tokenized = [np.concatenate(list(read_cell(cell, RATE))) for batch in batches for cell in batch.cells]
    cache = AudioCache(inputs, tmp_path / "cache", RATE, column)
    stream = AudioStream(inputs, RATE, ahead=1, audio_column=column)
    streamed = [cell for file in stream._files for _, cell in stream._read_file(file)]
    clips = load_clips(inputs, tmp_path / "cache", RATE, audio_column=column)
    for number in range(3):
        expected = np.full(1000 + 100 * number, (number + 1) / 10)
        decoded = np.concatenate(list(read_cell(streamed[number], RATE)))
        for audio in (tokenized[number], cache[number] / 32768, decoded, clips[number].audio):
            np.testing.assert_allclose(audio, expected, atol=1e-4)
    assert len(tokenized) == len(cache) == len(streamed) == len(clips) == 3
    assert [clip.text for clip in clips] == (TEXTS if make in WITH_TEXT else [""] * 3)
    assert stream.batch(0, range(30), 500, Augmentation()).amax(dim=(1, 2)).mul(10).round().int().unique().numel() == 3


@pytest.mark.parametrize(
    ("make", "names"),
    [(make_tar, ["s-0", "s-1", "s-2"]), (make_list, ["0", "1", "2"]), (make_metadata, ["0", "1", "outside"])],
)
def test_clips_are_named_after_files_and_keys(make, names, folder, tmp_path):
    assert [clip.id for clip in load_clips(make(folder), tmp_path / "cache", RATE)] == names


def test_columns_of_names_and_texts_can_be_chosen(folder, tmp_path):
    path = write_parquet(folder / "a.parquet", audio=cells(), name=["p", "q", "r"], sentence=TEXTS, id=[1, 2, 3])
    clips = load_clips([str(path)], tmp_path / "cache", RATE, id_column="name", text_column="sentence")
    assert [(clip.id, clip.text) for clip in clips] == list(zip("pqr", TEXTS, strict=True))
    clips = load_clips([str(path)], tmp_path / "cache", RATE)
    assert [(clip.id, clip.text) for clip in clips] == [("1", ""), ("2", ""), ("3", "")]


def test_the_order_of_inputs_is_kept_for_training_and_lists_count_twice(folder):
    make_list(folder)
    (folder / "list.txt").write_text("x/2.flac\nx/0.flac\nx/2.flac\n")
    inputs = [str(folder / "list.txt"), str(folder / "x/1.flac")]
    kept, by_name = (list_entries(inputs, keep_order=keep) for keep in (True, False))
    assert [Path(path).stem for _, path, _ in kept] == ["2", "0", "2", "1"]
    assert [Path(path).stem for _, path, _ in by_name] == ["0", "1", "2", "2"]


def test_another_audio_column_has_its_own_cache(folder, tmp_path):
    path = write_parquet(folder / "a.parquet", audio=cells(), speech=cells()[::-1])
    lengths = [len(AudioCache([str(path)], tmp_path, RATE, column)[0]) for column in ("audio", "speech")]
    assert lengths == [1000, 1200]


def test_results_below_an_input_are_no_input(folder, tmp_path):
    write_files(folder, "0.flac", "run/validation/1.flac", "2.flac")
    for item in (folder, f"{folder}/*"):
        cache = AudioCache([str(item)], tmp_path / "cache", RATE, output=str(folder / "run"))
        clips = load_clips([str(item)], tmp_path / "cache", RATE, output=str(folder / "run"))
        stream = AudioStream([str(item)], RATE, 1, output=str(folder / "run"))
        assert len(cache) == len(clips) == len(stream._files) == 2


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("make", [make_tar, make_list, make_metadata, make_speech])
def test_the_codec_is_trained_on_every_input(make, streaming, folder, tiny_config, tmp_path):
    tiny_config.to_json_file(tmp_path / "codec.json")
    inputs = {"data": make(folder), "audio_column": column_of(make), "streaming": streaming}
    small = json.dumps({"band": {"sizes": [512], "dim": 8}, "period": {"sizes": [3], "channels": [4]}})
    settings = {"codec": str(tmp_path / "codec.json"), "batch_size": 1, "segment_frames": 4, "steps": 1}
    config = TrainConfig(**inputs, **settings, discriminator_kwargs=small, output=str(tmp_path / "run"))
    assert np.isfinite(CodecTrainer(config).train_step()["mel"].item())


@pytest.mark.parametrize("make", [make_tar, make_list, make_metadata, make_speech])
def test_the_codec_is_evaluated_on_every_input(make, folder, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "codec")
    arguments = ["--codec", str(tmp_path / "codec"), "--data", *make(folder), "--audio_column", column_of(make)]
    places = ["--cache", str(tmp_path / "cache"), "--write_clips", str(tmp_path / "clips")]
    assert main(["evaluate", *arguments, *places]) == 0
    assert len(list((tmp_path / "clips").iterdir())) == 3


def break_parquet(folder):
    content = [recording(0), recording(1)[:-20]]
    return write_parquet(folder / "a.parquet", audio=content), r"row 1 of .*a\.parquet: "


def break_tar(folder):
    return write_tar(folder / "a.tar", {"x.flac": recording(0), "y.txt": b"y"}), r"y of .*a\.tar: no audio among"


def break_end_of_tar(folder):
    path = write_tar(folder / "a.tar", {f"{i}.flac": recording(i) for i in range(3)})
    with tarfile.open(path) as archive:
        end = archive.getmembers()[2].offset_data + 10
    path.write_bytes(path.read_bytes()[:end])
    return path, r"2 of .*a\.tar: a\.tar is cut off within 2\.flac"


def break_list(folder):
    write_files(folder, "0.flac")
    (folder / "list.txt").write_text("0.flac\ngone.flac\n")
    return folder / "list.txt", r"no such audio file: .*gone\.flac"


def break_metadata(folder):
    write_files(folder, "0.flac")
    (folder / "metadata.csv").write_text("file_name\n0.flac\nnotes.md\n")
    (folder / "notes.md").write_text("no audio")
    return folder, r"notes\.md: cannot read .* as audio"


@pytest.mark.parametrize("damage", [break_parquet, break_tar, break_end_of_tar, break_list, break_metadata])
def test_rows_that_cannot_be_read_stop_training_and_are_rejected_by_tokenizing(damage, folder, tiny_model, tmp_path):
    path, message = damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        AudioCache([str(path)], tmp_path / "cache", RATE)
    with pytest.raises(ValueError, match=message):
        AudioStream([str(path)], RATE, ahead=4).batch(0, range(40), 500, Augmentation())
    summary = tokenize(path, tiny_model, tmp_path / "out")
    assert set(summary["rejects"]) == {"unreadable"} and summary["token_rows"] >= 1


@pytest.mark.parametrize("kind", [EmptyAudioError, NotFiniteAudioError, UnreadableAudioError])
def test_the_reason_of_a_reject_is_that_of_its_class(kind, folder, tiny_model, tmp_path, monkeypatch):
    def failing(*_):
        raise kind("other words")
        yield

    monkeypatch.setattr("q2d2_tokenizer.corpus.cells.stream_from_column", failing)
    make_files(folder)
    assert tokenize(folder, tiny_model, tmp_path / "out")["rejects"] == {kind.reason: 3}


def test_the_name_of_a_file_is_no_reason(folder, tiny_model, tmp_path):
    (folder / "this one is empty, NaN or infinite.wav").write_bytes(b"no audio")
    assert tokenize(folder, tiny_model, tmp_path / "out")["rejects"] == {"unreadable": 1}


def test_cells_say_how_long_they_are():
    assert announced_seconds(recording(0)) == announced_seconds({"bytes": recording(0)}) == 1000 / RATE
    assert announced_seconds({"array": [0.0] * 500, "sampling_rate": 1000}) == 0.5
    unknown = [None, b"", b"no audio", 5, {"path": 5}, {"array": [0.0]}, "nowhere.wav", AudioError("no audio")]
    assert [announced_seconds(cell) for cell in unknown] == [None] * len(unknown)


def test_a_url_that_fails_stops_and_is_named(folder, monkeypatch):
    (url,) = make_urls_of_files(folder)

    def failing(path):
        raise OSError(errno.EIO, "Input/output error")

    corpus = Corpus([url])
    monkeypatch.setattr("q2d2_tokenizer.corpus.sources.open_input", failing)
    with pytest.raises(OSError, match=r"cannot read folder://data/0\.flac"):
        list(corpus.read(corpus.split(10)[0]))
