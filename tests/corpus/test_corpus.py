"""`Corpus`: every kind of input becomes the same numbered rows, and what cannot be read is a row too."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import file_bytes, write_tar

from q2d2_tokenizer import Q2D2Config, Q2D2Model
from q2d2_tokenizer.audio.errors import AudioError
from q2d2_tokenizer.commands.convert import plan_jobs
from q2d2_tokenizer.corpus.cells import read_cell
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


def test_folders_behind_links_are_searched_and_every_file_counts_once(tmp_path, wav):
    for name in ("disk/b.wav", "disk/deep/c.wav", "speech/a.wav", "speech/z/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(wav(0))
    (tmp_path / "disk/metadata.csv").write_text("file_name,text\nb.wav,hello\n")
    speech = tmp_path / "speech"
    links = {"more": tmp_path / "disk", "loop": speech, "z/up": tmp_path / "speech", "a_to_z": speech / "z"}
    for name, target in links.items():
        (speech / name).symlink_to(target)
    (speech / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (speech / "same.wav").symlink_to(speech / "a.wav")
    names = ["a.wav", "gone.wav", "more/b.wav", "more/deep/c.wav", "same.wav", "z/d.wav"]
    entries = list_entries([str(speech)])
    assert [str(Path(entry.path).relative_to(speech)) for entry in entries] == names
    assert entries[2].columns == {"text": "hello"}
    for pattern in ("**/*.wav", "**"):
        paths = [path for _, path, _ in list_entries([str(speech / pattern)])]
        real = [Path(os.path.realpath(Path(path).parent), Path(path).name) for path in paths]
        assert sorted(real) == sorted(
            Path(os.path.realpath(Path(entry.path).parent), Path(entry.path).name) for entry in entries
        )
    jobs = plan_jobs([str(speech)], str(tmp_path / "out"), {".wav"}, ".q2d2")
    assert sorted(str(job.source.relative_to(speech)) for job in jobs) == names
    with pytest.raises(AudioError, match="no such audio file"):
        list(read_cell(entries[1].path, 24000))


def test_a_folder_that_cannot_be_listed_stops(tmp_path, wav, monkeypatch):
    (tmp_path / "a.wav").write_bytes(wav(0))
    (tmp_path / "x").mkdir()
    listing = os.scandir

    def scandir(path):
        if str(path).endswith("x"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="cannot list .*x: Permission denied"):
        list_entries([str(tmp_path)])


LEFT_OUT = ["a.m4a", "b.M4A", "c.webm", "x/d.aac", "e.aiff", "f.oga", "g.wma", "h.xyz"]


def test_what_is_left_out_is_counted_and_named_with_the_command(tmp_path, wav, tiny_model, caplog):
    folder = tmp_path / "my speech"
    for name in ("good.wav", "good.txt", "README", *LEFT_OUT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wav(0))
    counts = {".m4a": 2, ".webm": 1, ".aac": 1, ".aiff": 1, ".oga": 1, ".wma": 1, ".xyz": 1, ".txt": 1, "": 1}
    for item in (folder, folder / "**"):
        caplog.clear()
        corpus = Corpus([str(item)], output=str(tmp_path / "out"))
        assert corpus.num_rows == 1 and corpus.left_out == counts
        (record,) = caplog.records
        assert all(f"1 {suffix}" in record.message for suffix in (".webm", ".aac", ".aiff", ".oga", ".wma", ".xyz"))
        assert "2 .m4a" in record.message and "convert them: find -L" in record.message and ".txt" not in record.message
    command = record.message.partition("convert them: ")[2].replace("ffmpeg -i", "echo")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    pairs = sorted(f"{folder / name} {(folder / name).with_suffix('.flac')}" for name in LEFT_OUT)
    assert sorted(done.stdout.splitlines()) == pairs
    caplog.clear()
    list_entries([str(folder)])  # as tokenizing, training and evaluation do
    plan_jobs([str(folder)], str(tmp_path / "out"), {".wav"}, ".q2d2")
    assert len(caplog.records) <= 1  # tokenizing, training and evaluation say the same once
    tokenizer = CorpusTokenizer(corpus, tiny_model, tmp_path / "out", CorpusOptions())
    tokenizer.prepare()
    tokenizer.run()
    assert tokenizer.finish("x", "a test")["left_out"] == counts
    assert "| files left out | 2 .m4a, 1 " in (tmp_path / "out/README.md").read_text()


def test_inputs_of_nothing_but_files_that_are_not_read_name_the_command(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"m")
    (tmp_path / "b.tar.gz").write_bytes(b"z")
    for name, way_out in {"a.m4a": r"-iname '\*\.m4a'", "b.tar.gz": "unpack them", "*.m4a": "ffmpeg"}.items():
        with pytest.raises(ValueError, match=f"no Parquet, tar or audio files at .*there are 1 .*{way_out}"):
            list_entries([str(tmp_path / name)])


def test_members_of_tars_that_are_left_out_are_counted(tmp_path, wav, caplog):
    path = write_tar(tmp_path / "a.tar", {"1.wav": wav(1), "1.txt": b"one", "1.opus2": b"x", "1.npy": b"y"})
    assert Corpus([str(path)]).left_out == {".opus2": 1, ".npy": 1}
    assert "1 .opus2" in caplog.text and ".npy" not in caplog.text


def test_texts_of_tars_whose_names_have_dots(tmp_path, wav):
    members = {
        "talk v1.0.wav": wav(1),
        "talk v1.0.txt": b"\xef\xbb\xbfhello",
        "plain.wav": wav(2),
        "plain.txt": b"bye",
        "plain.normalized.txt": b"Bye.",
        "odd.audio.wav": wav(3),
        "odd.txt": b"short",
        "odd.audio.json": b"{}",
        "both.a.wav": wav(4),
        "both.a.txt": b"its own",
        "both.txt": b"other",
    }
    rows = rows_of(Corpus([str(write_tar(tmp_path / "a.tar", members))]))
    assert [row[1] for row in rows] == [wav(1), wav(2), wav(3), wav(4)]
    found = [{name: value for name, value in row[2].items() if value is not None} for row in rows]
    assert found == [
        {"text": "hello"},
        {"text": "bye", "normalized.txt": "Bye."},
        {"text": "short", "json": "{}"},
        {"text": "its own", "txt": "other"},
    ]


LONG = "word " * 40_000
METADATA = {
    "U+2028 in a text": ("metadata.jsonl", '{"file_name": "a.wav", "text": "one\u2028two\x85"}\n', "one\u2028two\x85"),
    "a byte order mark": ("metadata.jsonl", '\ufeff{"file_name": "a.wav", "text": "one"}\r\n\r\n', "one"),
    "a mark and csv": ("metadata.csv", "\ufefffile_name,text\r\na.wav,one\r\n", "one"),
    "U+2028 in csv": ("metadata.csv", "file_name,text\na.wav,one\u2028two\n", "one\u2028two"),
    "lines in quotes": ("metadata.csv", 'file_name,text\na.wav,"one,\ntwo"\n', "one,\ntwo"),
    "semicolons": ("metadata.csv", '"file_name";"text"\na.wav;one, two\n', "one, two"),
    "tabs": ("metadata.csv", "file_name\ttext\na.wav\tone, two\n", "one, two"),
    "spaces": ("metadata.csv", 'file_name, text\na.wav, "one, two"\n', "one, two"),
    "long text": ("metadata.csv", f"file_name,text\na.wav,{LONG}\n", LONG),
    "LJSpeech": ("metadata.csv", 'a|Mr. "One|Mister "One\n', 'Mr. "One'),
    "LJSpeech with names": ("metadata.csv", "a.wav|one, two\n", "one, two"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("kind", METADATA)
def test_metadata_of_other_tools(kind, encoding, tmp_path, wav):
    name, content, text = METADATA[kind]
    folder = tmp_path / "wavs" if kind == "LJSpeech" else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "a.wav").write_bytes(wav(0))
    (tmp_path / name).write_bytes(content.removeprefix("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    ((path, columns),) = [(path, columns) for _, path, columns in list_entries([str(tmp_path)])]
    assert path == str(folder / "a.wav") and columns["text"] == text
    assert kind != "LJSpeech" or columns["normalized_text"] == 'Mister "One'


BAD_METADATA = {
    "more fields": ("metadata.csv", "file_name,text\na.wav,one\na.wav,one, two\n", 3),
    "no JSON": ("metadata.jsonl", '\n{"file_name": "a.wav"\n', 2),
    "must be an object": ("metadata.jsonl", '"a.wav"\n', 1),
    "names no file": ("metadata.jsonl", '{"file_name": null}\n', 1),
    "names no file in 'file_name'": ("metadata.csv", "file_name,text\n,one\n", 2),
    "2 or 3 fields": ("metadata.csv", "a|one\na|b|c|d\n", 2),
}


@pytest.mark.parametrize("message", BAD_METADATA)
def test_metadata_that_cannot_be_used_is_refused_with_its_line(message, tmp_path, wav):
    name, content, line = BAD_METADATA[message]
    (tmp_path / "a.wav").write_bytes(wav(0))
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"line {line} of .*{name} .*{message}"):
        list_entries([str(tmp_path)])


def test_lists_of_other_tools(tmp_path, wav):
    names = ["a.wav", "b c.wav", "d\x85e.wav"]
    for name in names:
        (tmp_path / name).write_bytes(wav(0))
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "list.txt").write_bytes("\r\n".join(names).encode(encoding))
        assert [name for name, *_ in list_entries([str(tmp_path / "list.txt")])] == names
