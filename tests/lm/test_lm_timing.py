"""Word times: every word gets the codes of its own pieces, pauses belong to none."""

import dataclasses

import numpy as np
import pytest

from lm.alignment import Alignment
from lm.bundled import default_checkpoint
from lm.text import TextTokenizer, train_text_tokenizer
from lm.timing import WordTime, word_times

TEXTS = ["hello there, general", "you are a bold one"] * 10


def oracle(text: TextTokenizer, groups: tuple[int, ...]) -> Alignment:
    """An alignment in which piece k sounds like point k of the first group, and nothing else."""
    tables = [np.full((text.size, size), -9.0, np.float32) for size in groups]
    tables[0][np.arange(text.size), np.arange(text.size)] = 0.0
    return Alignment(tables, np.full(text.size, -0.1, np.float32), np.full(text.size, 3.0), text.may_be_silent)


@pytest.mark.parametrize("size", [33, 40, 60])
def test_words_lie_where_their_pieces_sound(language_model, size):
    """Pieces of known durations, so the answer is known: with single letters, and with pieces of several."""
    text = train_text_tokenizer(TEXTS, size)
    layout = dataclasses.replace(language_model.layout, points_per_group=(145, 145))
    model = dataclasses.replace(language_model, alignment=oracle(text, (145, 145)))
    object.__setattr__(model, "text", text)
    object.__setattr__(model, "layout", layout)
    pieces = text.encode("Hello, general!")
    durations = 2 + np.arange(len(pieces)) % 3
    codes = np.repeat(pieces, durations)
    edges = np.concatenate([[0], np.cumsum(durations)]) / 75
    owners = text.words_of(pieces)
    hello, general = word_times(model, "Hello, general!", codes, 75.0, offset=1.0)
    for found, word, number in ((hello, "hello", 0), (general, "general", 1)):
        own = np.flatnonzero(owners == number)
        assert found.word == word
        assert (found.start, found.end) == pytest.approx((1 + edges[own[0]], 1 + edges[own[-1] + 1]))
    assert hello.end <= general.start


def test_words_are_those_that_are_read_and_own_all_pieces_but_pauses():
    text = TextTokenizer.load(default_checkpoint())
    said = "Dr. Smith's 3 cats - all of them - ate, didn't they?"
    words = text.words(said)
    assert words == ["doctor", "smith's", "three", "cats", "all", "of", "them", "ate", "didn't", "they"]
    pieces = text.encode(said)
    owners = text.words_of(pieces)
    assert sorted(set(owners)) == [-1, *range(len(words))]
    assert (np.diff(owners[owners >= 0]) >= 0).all()
    for number, word in enumerate(words):
        assert np.array_equal(pieces[owners == number], text.encode(word)[text.words_of(text.encode(word)) >= 0])


def test_what_cannot_be_aligned_is_refused(language_model):
    with pytest.raises(ValueError, match="no alignment"):
        word_times(language_model, "hello", np.arange(9), 75.0)
    model = dataclasses.replace(language_model, alignment=oracle(language_model.text, (145, 145)))
    for text, codes in (("?", np.arange(9)), ("hello", np.arange(0))):
        with pytest.raises(ValueError, match="nothing to align"):
            word_times(model, text, codes, 75.0)


def test_a_word_is_a_line_of_a_label_track():
    assert str(WordTime("one", 0.5, 0.75)) == "0.500\t0.750\tone"
