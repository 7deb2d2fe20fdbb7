"""Vocabulary layout: ids and codes, refusals, the file; and the shape of the code of `lm`."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lm
from lm.layout import AUDIO, BOS, LAYOUT_FILE, PAD, SPECIALS, Layout, codes_to_indices, indices_to_codes
from q2d2_tokenizer.quantizers import Lattices

FILES = sorted(Path(lm.__file__).parent.glob("*.py"))


@pytest.fixture
def layout() -> Layout:
    """Ten codes after four specials and seven text pieces."""
    return Layout(codebook_size=10, sampling_rate=24000, codec_fingerprint="codec-a", text_size=7, text_fingerprint="t")


def test_every_id_means_one_thing(layout):
    codes = layout.codes_to_ids(np.arange(10, dtype=np.uint8))
    pieces = layout.pieces_to_ids(np.arange(7))
    assert sorted([*range(len(SPECIALS)), *pieces, *codes]) == list(range(layout.vocab_size))


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_codes_and_pieces_come_back(layout, make):
    codes = make([[0, 9], [3, 4]])
    assert (layout.ids_to_codes(layout.codes_to_ids(codes)) == codes).all()
    assert (layout.ids_to_pieces(layout.pieces_to_ids(make([0, 6]))) == make([0, 6])).all()


def test_small_integers_do_not_overflow():
    wide = Layout(codebook_size=256, sampling_rate=24000, codec_fingerprint="a")
    assert wide.codes_to_ids(np.array([255], dtype=np.uint8))[0] == 259
    assert wide.codes_to_ids(torch.tensor([255], dtype=torch.uint8))[0] == 259


@pytest.mark.parametrize("values", [np.array([10]), np.array([-1]), np.array([0.0]), torch.tensor([10])])
def test_codes_out_of_range_are_refused(layout, values):
    with pytest.raises(ValueError, match="audio codes must be"):
        layout.codes_to_ids(values)


@pytest.mark.parametrize("wrong", [AUDIO, 4, 10, 21])  # special, first and last text piece, beyond the end
def test_only_ids_of_audio_codes_become_codes(layout, wrong):
    with pytest.raises(ValueError, match=f"within 11 and 20, got {wrong}"):
        layout.ids_to_codes(torch.tensor([11, wrong]))


def test_prompt(layout):
    assert layout.prompt(np.array([1]), np.array([0, 2])).tolist() == [BOS, 5, AUDIO, 11, 13]
    assert layout.prompt(np.array([]), np.array([])).tolist() == [BOS, AUDIO]


def test_file_round_trip_and_another_codec(layout, tmp_path):
    layout.save(tmp_path)
    assert Layout.load(tmp_path, "codec-a") == layout
    with pytest.raises(ValueError, match="'codec-b'.*'codec-a'"):
        Layout.load(tmp_path, "codec-b")


@pytest.mark.parametrize(
    "change", [{"format": "x"}, {"format_version": 2}, {"specials": ["<pad>"]}, {"more": 1}, {"codebook_size": 0}]
)
def test_files_of_another_kind_are_refused(layout, tmp_path, change):
    layout.save(tmp_path)
    path = tmp_path / LAYOUT_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="not a layout this program reads"):
        Layout.load(tmp_path)


def test_groups_are_kept_but_not_compared(layout, tmp_path):
    grouped = replace(layout, points_per_group=(2, 5))
    grouped.save(tmp_path)
    assert Layout.load(tmp_path).points_per_group == (2, 5)
    assert Layout.load(tmp_path) == layout  # runs that were begun before layouts knew groups go on
    content = json.loads((tmp_path / LAYOUT_FILE).read_text())
    del content["points_per_group"]
    (tmp_path / LAYOUT_FILE).write_text(json.dumps(content))
    assert Layout.load(tmp_path).points_per_group == ()
    with pytest.raises(ValueError, match="make 12 codes, expected codebook_size, 10"):
        replace(layout, points_per_group=(2, 6))


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_codes_are_numbers_of_mixed_radix_as_those_of_the_quantizer(make):
    lattices = Lattices("rhombic", [3, 3, 2, 2, 2, 3], 2)
    groups = lattices.points_per_group
    codes = make(range(13 * 5 * 8))
    indices = codes_to_indices(codes, groups)
    assert (indices_to_codes(indices, groups) == codes).all()
    expected = lattices.codes_to_indices(torch.as_tensor(codes))
    assert torch.equal(torch.stack([torch.as_tensor(index) for index in indices], -1), expected)


def test_text_lies_where_its_sound_is_expected(layout, tmp_path):
    spread = replace(layout, codes_per_piece=(0.0, 2.5, 4.0, 1.0, 1.0, 1.0, 1.0))
    assert layout.position_ids(torch.tensor([[BOS, AUDIO]])) is None
    first, stop = spread.text_offset, spread.audio_offset
    ids = [PAD, PAD, BOS, first + 1, first + 2, first + 1, AUDIO, stop, stop + 3, stop]
    positions = spread.position_ids(torch.tensor([ids, [PAD] * 6 + [BOS, AUDIO, stop, stop]]))
    assert positions.tolist() == [[0, 0, 0, 1, 4, 8, 0, 1, 2, 3], [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]]
    later = replace(spread, codes_before_text=3.2)
    assert later.position_ids(torch.tensor([ids])).tolist() == [[0, 0, 0, 4, 8, 11, 0, 1, 2, 3]]
    spread.save(tmp_path)
    assert Layout.load(tmp_path).codes_per_piece == spread.codes_per_piece
    for wrong in ((1.0,), (-1.0,) * 7):
        with pytest.raises(ValueError, match="codes_per_piece must be 7 values of at least 0"):
            replace(layout, codes_per_piece=wrong)


def test_spoken_text_lies_on_the_codes_that_are_there(layout):
    spread = replace(layout, codes_per_piece=(0.0, 2.5, 4.0, 1.0, 1.0, 1.0, 1.0))
    text = [spread.text_offset + piece for piece in (1, 2, 1, 2)]
    ids = torch.tensor([[BOS, *text, AUDIO, *[spread.audio_offset] * 15]]).expand(2, -1)
    spoken, unspoken = spread.position_ids(ids, torch.tensor([2, 0]))
    assert spoken.tolist() == [0, 3, 10, 16, 20, *range(16)]  # 6.5 codes are expected where there are 15
    assert unspoken.tolist() == spread.position_ids(ids)[0].tolist() == [0, 1, 4, 8, 11, *range(16)]


def test_text_size_and_fingerprint_go_together():
    with pytest.raises(ValueError, match="together"):
        Layout(codebook_size=10, sampling_rate=24000, codec_fingerprint="a", text_size=7)
    with pytest.raises(ValueError, match="codec_fingerprint is empty"):
        Layout(codebook_size=10, sampling_rate=24000, codec_fingerprint="")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert node.name.startswith("_") or ast.get_docstring(node), f"{node.name} has no docstring"
