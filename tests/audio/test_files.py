"""Files and folders that cannot be written, and files of ours that are damaged."""

import pytest

from q2d2_tokenizer.audio.files import make_folder, read_json, write_atomically


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path / "file", tmp_path / "file/a/b"):
        with pytest.raises(OSError, match=f"cannot write to {folder}: {tmp_path}/file is a file; choose another"):
            make_folder(folder)
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    assert (tmp_path / "file").read_text() == "precious" and (tmp_path / "a/b").is_dir()


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(OSError, match="a.wav: it is a folder; name a file"):
        write_atomically(tmp_path / "a.wav", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": 1, "b": [', "is no JSON"),
        (b"", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[1]", "is no dict"),
        (b'{"a": 1}', "lacks b, c"),
    ],
)
def test_damaged_json_is_named(content, problem, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.json is damaged, .*{problem}.*; call the author"):
        read_json(tmp_path / "x.json", ["a", "b", "c"], advice="call the author")
    (tmp_path / "x.json").write_bytes(b"[1]")
    assert read_json(tmp_path / "x.json", kind=list) == [1]
