"""`Corpus`: every kind of input becomes the same numbered rows, and what cannot be read is a row too."""

import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import file_bytes

from q2d2_tokenizer import Q2D2Config, Q2D2Model
from q2d2_tokenizer.corpus.inputs import list_entries
from q2d2_tokenizer.corpus.sources import Corpus
from q2d2_tokenizer.corpus.tokenize import CorpusOptions, CorpusTokenizer


@pytest.fixture
def wav(speech_like):
    """Function `(seed)` -> content of a short wav file."""
    return lambda seed: file_bytes(speech_like(500, seed), 24000, "WAV", "PCM_16")


def rows_of(corpus: Corpus, rows_per_shard: int = 3) -> list[tuple]:
    """(id, cell, other columns) of all rows."""
    found = []
    for shard in corpus.split(rows_per_shard):
        for batch in corpus.read(shard):
            columns = batch.columns.to_pylist() or [{} for _ in batch.ids]  # a table without columns has no rows
            found += zip(batch.ids, batch.cells, columns, strict=True)
    assert len(found) == corpus.num_rows
    return found


def write_parquet(path: Path, cells: list, row_group_size: int = 7, **columns: list) -> Path:
    pq.write_table(pa.table({"audio": cells, **columns}), path, row_group_size=row_group_size)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("rows_per_shard", [1, 5, 7, 16, 100])
def test_parquet_rows_come_once_whatever_the_shards(tmp_path, rows_per_shard):
    cells = [{"bytes": bytes([i]), "path": f"{i}.wav"} for i in range(40)]
    path = write_parquet(tmp_path / "a.parquet", cells, 17, text=[f"text {i}" for i in range(40)], number=range(40))
    rows = rows_of(Corpus([str(path)]), rows_per_shard)
    assert [cell for _, cell, _ in rows] == cells
    assert [row_id for row_id, _, _ in rows] == [f"a.parquet/{i}" for i in range(40)]
    assert [columns for _, _, columns in rows] == [{"text": f"text {i}", "number": i} for i in range(40)]


def test_ids_of_a_column(tmp_path):
    path = str(write_parquet(tmp_path / "a.parquet", ["x", "y", "z"], id=[3, None, 5], name=["p", "q", "r"]))
    assert [row[0] for row in rows_of(Corpus([path]))] == ["3", "a.parquet/1", "5"]
    assert [row[0] for row in rows_of(Corpus([path], id_column="name"))] == ["p", "q", "r"]
    assert [row[2] for row in rows_of(Corpus([path], drop_columns=["id"]))][0] == {"name": "p"}


def test_paths_in_parquet_are_relative_to_it(tmp_path, wav):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.wav").write_bytes(wav(0))
    path = write_parquet(tmp_path / "a.parquet", ["clips/a.wav", "clips/missing.wav"])
    rows = rows_of(Corpus([str(path)]))
    assert [row[1] for row in rows] == [str(tmp_path / "clips/a.wav"), "clips/missing.wav"]


def test_folder_with_metadata_and_list_of_paths(tmp_path, wav, monkeypatch):
    for name in ("b.wav", "speaker/a.flac", "speaker/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(wav(0))
    (tmp_path / "metadata.csv").write_text("file_name,text\nspeaker/a.flac,hello\n")
    rows = rows_of(Corpus([str(tmp_path)]))
    assert [row[0] for row in rows] == ["b.wav", "speaker/a.flac"]
    assert [row[2] for row in rows] == [{"text": None}, {"text": "hello"}]
    (tmp_path / "speaker/c.txt").write_text(f"a.flac\n\n{tmp_path}/b.wav\nmissing.wav\n")
    listed = Corpus([str(tmp_path / "speaker/c.txt")])
    assert [row[0] for row in rows_of(listed)] == ["b.wav", "speaker/a.flac", "speaker/missing.wav"]
    monkeypatch.chdir(tmp_path)
    assert Corpus(["speaker/c.txt"]).digest() == listed.digest()
    monkeypatch.chdir(tmp_path / "speaker")
    assert rows_of(Corpus([".."])) == rows
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metadata.csv").write_text("file,text\na,b\n")
    with pytest.raises(ValueError, match="no column 'file_name'"):
        Corpus([str(tmp_path)])


def test_a_path_that_exists_is_no_pattern(tmp_path, wav):
    (tmp_path / "take [1].wav").write_bytes(wav(0))
    (tmp_path / "take 1.wav").write_bytes(wav(0))  # what the brackets would match
    name = str(tmp_path / "take [1].wav")
    assert [path for _, path, _ in list_entries([name])] == [name]


def test_two_stars_match_folders_of_any_depth(tmp_path, wav):
    for name in ("a.wav", "x/b.wav", "x/y/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(wav(0))
    pattern = f"{tmp_path}/**/*.wav"
    assert [name for name, *_ in list_entries([pattern])] == ["a.wav", "x/b.wav", "x/y/c.wav"]


def test_a_codebook_too_large_for_int32_is_refused(tmp_path, wav, tiny_config):
    (tmp_path / "a.wav").write_bytes(wav(0))
    model = Q2D2Model(Q2D2Config(**tiny_config.to_dict() | {"levels": [7] * 10}))
    with pytest.raises(ValueError, match="int32; a codebook of 4437053125 codes is too large"):
        CorpusTokenizer(Corpus([str(tmp_path)]), model, tmp_path / "out", CorpusOptions())


def test_tar_samples(tmp_path, wav):
    members = {"d/1.wav": wav(1), "d/1.txt": b"one", "d/1.json": b'{"speaker": 5}', "d/2.txt": b"two", "x.y.flac": b"f"}
    rows = rows_of(Corpus([str(write_tar(tmp_path / "a.tar", members))]), 2)
    assert [row[0] for row in rows] == ["a.tar/d/1", "a.tar/d/2", "a.tar/x"]
    assert rows[0][1:] == (wav(1), {"text": "one", "json": '{"speaker": 5}'})
    assert isinstance(rows[1][1], ValueError) and rows[1][2]["text"] == "two"
    assert rows[2][1] == b"f"


def test_tar_that_is_cut_off_keeps_what_is_there(tmp_path, wav):
    path = write_tar(tmp_path / "a.tar", {f"{i}.wav": wav(i) for i in range(4)})
    path.write_bytes(path.read_bytes()[:4000])
    rows = rows_of(Corpus([str(path)]))
    good = [row for row in rows if not isinstance(row[1], ValueError)]
    assert good and [row[1] for row in good] == [wav(i) for i in range(len(good))]
    assert rows[-1][0] == "a.tar" and "cut off" in str(rows[-1][1])


def test_damaged_parquet(tmp_path):
    cells = [{"bytes": os.urandom(300), "path": None} for _ in range(30)]
    path = write_parquet(tmp_path / "a.parquet", cells, 10, id=[f"row{i}" for i in range(30)])
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    rows = rows_of(Corpus([str(path)]), 6)
    assert [row[0] for row in rows] == [f"row{i}" for i in range(30)]
    assert [isinstance(row[1], ValueError) for row in rows] == [False] * 10 + [True] * 10 + [False] * 10
    path.write_bytes(content[:-100])  # without its footer nothing is known
    (row,) = rows_of(Corpus([str(path)]))
    assert row[0] == "a.parquet" and "cannot read the Parquet file" in str(row[1])


def test_files_that_do_not_fit(tmp_path):
    good = write_parquet(tmp_path / "a.parquet", ["x"], text=["t"])
    with pytest.raises(ValueError, match=r"a.parquet has no column 'speech', it has \['audio', 'text'\]"):
        Corpus([str(good)], audio_column="speech")
    with pytest.raises(ValueError, match="has no column 'name'"):
        Corpus([str(good)], id_column="name")
    other = write_parquet(tmp_path / "b.parquet", ["x"], text=[[1, 2]])
    with pytest.raises(ValueError, match="b.parquet does not fit"):
        Corpus([str(good), str(other)]).schema  # noqa: B018
    more = write_parquet(tmp_path / "c.parquet", ["x"], speaker=[5])
    assert Corpus([str(good), str(more)]).schema.names == ["text", "speaker"]


def test_no_rows(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [])
    with pytest.raises(ValueError, match="no rows in .*a.parquet"):
        Corpus([str(path)])
    for name in ("nothing", "*.wav"):
        with pytest.raises(ValueError, match="no Parquet, tar or audio files"):
            Corpus([str(tmp_path / name)])
    with pytest.raises(OSError, match="a local input must exist"):
        Corpus(["no/dataset"])  # tests are offline


def test_repeated_ids(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ["x", "y", "z"], id=["p", "q", "p"])
    with pytest.raises(ValueError, match=r"1 ids occur more than once, such as \['p'\]"):
        Corpus([str(path)]).check_ids()
    Corpus([str(path)], drop_columns=["id"]).check_ids()
    with pytest.raises(ValueError, match="3 ids occur more than once"):
        Corpus([str(path), str(path)], drop_columns=["id"]).check_ids()


def test_digest_follows_the_input_not_its_place(tmp_path):
    (tmp_path / "one").mkdir()
    for name in ("a", "b"):
        write_parquet(tmp_path / f"one/{name}.parquet", ["x"], text=[name])
    digest = Corpus([str(tmp_path / "one")]).digest()
    assert Corpus([str(tmp_path / f"one/{name}.parquet") for name in "ba"]).digest() == digest
    (tmp_path / "one").rename(tmp_path / "two")
    assert Corpus([str(tmp_path / "two/*.parquet")]).digest() == digest
    write_parquet(tmp_path / "two/b.parquet", ["x", "y"], text=["b", "c"])
    assert Corpus([str(tmp_path / "two")]).digest() != digest


def test_urls(tmp_path, wav):
    write_parquet(tmp_path / "a.parquet", [wav(0), wav(1)], text=["p", "q"])
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/corpus/train/a.parquet", (tmp_path / "a.parquet").read_bytes())
    filesystem.pipe("/corpus/notes.md", b"")
    for url in ("memory://corpus", "memory://corpus/**/*.parquet"):
        rows = rows_of(Corpus([url]))
        assert [row[1] for row in rows] == [wav(0), wav(1)]
        assert json.dumps([row[2] for row in rows]) == '[{"text": "p"}, {"text": "q"}]'


def test_arrays_are_kept_as_they_are(tmp_path):
    vectors = pa.array([np.arange(3).tolist(), None], pa.list_(pa.float16()))
    table = pa.table({"audio": ["x", "y"], "vector": vectors, "kind": pa.array(["a", "b"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    corpus = Corpus([str(tmp_path / "a.parquet")])
    (batch,) = corpus.read(corpus.split(10)[0])
    assert batch.columns == table.drop_columns("audio")


def test_samples_of_a_tar_that_are_ambiguous_are_counted(tmp_path, wav):
    path = write_tar(tmp_path / "a.tar", {"x.mic1.wav": wav(1), "x.mic2.wav": wav(2), "y.wav": wav(3), "z.txt": b"z"})
    with tarfile.open(path, "a") as archive:
        for name in ("z.txt", "z.wav"):
            archive.addfile(tarfile.TarInfo(name))
    rows = rows_of(Corpus([str(path)]))
    assert [row[0] for row in rows] == ["a.tar/x", "a.tar/y", "a.tar/z"]
    assert rows[1][1] == wav(3)
    for row, names in ((rows[0], ["x.mic1.wav", "x.mic2.wav"]), (rows[2], ["z.txt", "z.txt", "z.wav"])):
        assert isinstance(row[1], ValueError) and f"with the same key, the name up to the first dot: {names}" in str(
            row[1]
        )


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars_are_refused(tmp_path, wav, kind):
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as archive:
        archive.addfile(tarfile.TarInfo("a.wav"))
    with pytest.raises(ValueError, match="a.tar is compressed with .*; decompress it first"):
        Corpus([str(tmp_path / "a.tar")])


def test_columns_of_tars_can_be_dropped(tmp_path, wav):
    path = write_tar(tmp_path / "a.tar", {"1.wav": wav(1), "1.txt": b"one", "1.json": b"{}"})
    assert rows_of(Corpus([str(path)], drop_columns=["json"]))[0] == ("a.tar/1", wav(1), {"text": "one"})


def test_results_below_the_input_are_no_input(tmp_path, wav):
    (tmp_path / "a.wav").write_bytes(wav(0))
    before = Corpus([str(tmp_path)], output=str(tmp_path / "out")).digest()
    (tmp_path / "out/data").mkdir(parents=True)
    write_parquet(tmp_path / "out/data/b.parquet", ["x"])
    for item in (tmp_path, tmp_path / "**/*", tmp_path / "*"):
        assert Corpus([str(item)], output=str(tmp_path / "out")).digest() == before
    assert Corpus([str(tmp_path)], output=str(tmp_path / "other")).num_rows == 2
    inside = str(tmp_path / "out/data/b.parquet")
    assert Corpus([inside], output=str(tmp_path / "out")).num_rows == 1  # named, not found


def test_patterns_that_match_folders_and_lists(tmp_path, wav):
    (tmp_path / "d.parquet").mkdir()
    (tmp_path / "s/t").mkdir(parents=True)
    write_parquet(tmp_path / "d.parquet/part-0.parquet", ["x"])
    for name in ("s/a.wav", "s/t/b.wav", "s/t/b.txt"):
        (tmp_path / name).write_bytes(wav(0))
    (tmp_path / "s/metadata.jsonl").write_text('{"file_name": "a.wav", "text": "hello"}\n')
    assert [name for name, *_ in list_entries([f"{tmp_path}/*.parquet"])] == ["part-0.parquet"]
    assert [(name, more) for name, _, more in list_entries([f"{tmp_path}/*"])] == [
        ("d.parquet/part-0.parquet", {}),
        ("s/a.wav", {"text": "hello"}),
        ("s/t/b.wav", {}),
    ]
    assert len(list_entries([f"{tmp_path}/**"])) == 3
    for number in range(2):
        (tmp_path / f"list{number}.txt").write_text(f"{number}.wav\n")
    assert [name for name, *_ in list_entries([f"{tmp_path}/list*.txt"])] == ["0.wav", "1.wav"]


def test_files_that_metadata_name_but_are_not_there_count(tmp_path, wav):
    (tmp_path / "a.wav").write_bytes(wav(0))
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,here\nb.wav,gone\n")
    rows = rows_of(Corpus([str(tmp_path)]))
    assert [(row[0], row[2]["text"]) for row in rows] == [("a.wav", "here"), ("b.wav", "gone")]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "list.txt"])
def test_text_that_is_not_utf8_is_refused(tmp_path, wav, name):
    (tmp_path / "a.wav").write_bytes(wav(0))
    (tmp_path / name).write_bytes("file_name\nMünchen.wav\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{name} is not UTF-8"):
        Corpus([str(tmp_path / name if name == "list.txt" else tmp_path)])


def test_a_column_of_ids_that_holds_lists_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ["x"], id=[[1, 2]])
    with pytest.raises(ValueError, match="a.parquet: the column 'id' holds list<.*>, which cannot be ids"):
        Corpus([str(path)])
    Corpus([str(path)], drop_columns=["id"]).check_ids()


def test_rows_behind_a_shard_are_not_decoded(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", [b"x"] * 400, row_group_size=400)
    corpus, decoded, decode = Corpus([str(path)]), [], pq.ParquetFile.iter_batches

    def counting(*args, **settings):
        for batch in decode(*args, **settings):
            decoded.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counting)
    shards = corpus.split(20)
    assert sum(len(batch.ids) for batch in corpus.read(shards[0])) == 20
    assert sum(decoded) < 40
    assert [row_id for batch in corpus.read(shards[19]) for row_id in batch.ids][-1] == "a.parquet/399"
