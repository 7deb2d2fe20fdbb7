"""Token files: what is read is what was written, or an error."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from q2d2_tokenizer.audio.token_file import TokenFile, load_tokens, save_tokens

CODES = np.arange(0, 700, 7)


def make_tokens() -> TokenFile:
    return TokenFile(CODES, sampling_rate=24000, num_samples=31999, codec_fingerprint="0123456789abcdef")


def same(a: TokenFile, b: TokenFile) -> bool:
    return np.array_equal(a.audio_codes, b.audio_codes) and all(
        getattr(a, name) == getattr(b, name) for name in ("sampling_rate", "num_samples", "codec_fingerprint")
    )


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint16])
def test_round_trip(tmp_path, dtype):
    tokens = TokenFile(CODES.astype(dtype), 24000, 31999, "0123456789abcdef")
    save_tokens(tmp_path / "a.q2d2", tokens)
    loaded = load_tokens(str(tmp_path / "a.q2d2"))
    assert same(loaded, make_tokens()) and loaded.audio_codes.dtype == np.int32
    assert os.listdir(tmp_path) == ["a.q2d2"]  # no temporary file is left


def test_the_largest_token_survives(tmp_path):
    save_tokens(tmp_path / "a.q2d2", TokenFile(np.array([0, 2**31 - 1]), 24000, 640, ""))
    assert load_tokens(tmp_path / "a.q2d2").audio_codes.tolist() == [0, 2**31 - 1]


@pytest.mark.parametrize(
    "codes", [np.array([-1]), np.array([2**31]), np.zeros(0, int), np.zeros((1, 3), int), np.zeros(3), np.array(["1"])]
)
def test_unusable_tokens_are_refused(codes):
    with pytest.raises(ValueError, match="audio_codes must be"):
        TokenFile(codes, 24000, 320, "0")


@pytest.mark.parametrize("numbers", [(0, 1), (24000, 0), (-1, 1)])
def test_unusable_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="positive"):
        TokenFile(CODES, *numbers, "0")


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "a.q2d2"
    save_tokens(path, make_tokens())
    content = path.read_bytes()
    for cut in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="a.q2d2"):
            load_tokens(path)


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.q2d2"
    save_tokens(path, make_tokens())
    content = path.read_bytes()
    noticed = 0
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            assert same(load_tokens(path), make_tokens()), f"byte {position}"
        except ValueError:
            noticed += 1
    assert noticed > 0.95 * len(content)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.q2d2"
    for content in (b"", b"RIFF....WAVEfmt ", b"plain text\n" * 100, bytes(500)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a token file"):
            load_tokens(path)
    save_file({"audio_codes": CODES.astype(np.int32)}, path)
    with pytest.raises(ValueError, match="not a token file"):
        load_tokens(path)
    save_file({"weight": CODES.astype(np.int32)}, path, {"format": "q2d2-tokens", "format_version": "1"})
    with pytest.raises(ValueError, match="not a token file"):
        load_tokens(path)
    save_file({"audio_codes": CODES}, path, {"format": "q2d2-tokens", "format_version": "2"})
    with pytest.raises(ValueError, match="version '2'"):
        load_tokens(path)


def test_missing_file_and_folder_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokens(tmp_path / "absent.q2d2")
    with pytest.raises(OSError):
        load_tokens(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.q2d2"
    save_tokens(path, make_tokens())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_tokens(path, TokenFile(CODES + 1, 24000, 319999, "other"))
    assert same(load_tokens(path), make_tokens()) and os.listdir(tmp_path) == ["a.q2d2"]
