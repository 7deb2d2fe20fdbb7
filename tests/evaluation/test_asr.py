"""Transcription by a model given by path, and word error rates."""

import os

import pytest

from q2d2_tokenizer import read_audio, sample_recording
from q2d2_tokenizer.evaluation import asr

MODEL = os.environ.get("Q2D2_ASR", "")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("the cat sat", "The cat sat.", 0),
        ("the cat sat", "the hat sat", 1),
        ("the cat sat", "the sat", 1),
        ("the cat sat", "the big cat sat on", 2),
        ("the cat sat", "", 3),
        ("mister jones paid twenty one dollars", "Mr. Jones paid $21!", 0),
        ("i don't know", "I do not, uh, know.", 0),
        ("the colour", "the color", 1),
    ],
)
def test_word_errors_of_known_pairs(reference, hypothesis, errors):
    count = len(asr.words(reference))
    assert asr.word_errors(reference, hypothesis) == (errors, count)


def test_numbers_and_contractions_are_written_one_way():
    assert asr.words("Mister Jones paid twenty-one dollars; he can't.") == "mister jones paid $21 he can not".split()


def test_letter_errors_of_known_pairs():
    assert asr.letter_errors("the cat sat", "The cat sat!") == (0, 11)
    assert asr.letter_errors("the cat sat", "the catsat") == (1, 11)
    assert asr.letter_errors("cat", "hats") == (2, 3)


def test_pieces_are_read_with_lengths_of_one_and_two_bytes(tmp_path):
    long = b"x" * 300
    content = bytes([1]) + b"a" + bytes([0]) + bytes([300 % 128 + 128, 300 // 128]) + long
    (tmp_path / "tokenizer.bin").write_bytes(content)
    assert asr.read_pieces(tmp_path / "tokenizer.bin") == [b"a", b"", long]


def test_a_folder_without_the_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold encoder_model.onnx or encoder_model.ort"):
        asr.Transcriber(tmp_path)


@pytest.mark.skipif(not MODEL, reason="Q2D2_ASR names no folder with a model")
def test_the_bundled_recording_is_understood():
    audio = read_audio(sample_recording(), asr.SAMPLING_RATE)
    transcriber = asr.Transcriber(MODEL)
    spoken = "He turned sharply and faced Gregson across the table"
    errors, count = asr.word_errors(spoken, transcriber.transcribe(audio))
    assert errors <= 0.2 * count
    assert transcriber.transcribe(audio[:100]) == ""
