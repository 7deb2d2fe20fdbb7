"""Word times against a synthesiser that tells its own; it is a library that may be missing."""

import ctypes.util
import dataclasses

import numpy as np
import pytest

from lm.bundled import default_checkpoint
from lm.model import LanguageModel
from q2d2_tokenizer.bundled import load_codec
from q2d2_tokenizer.evaluation.token_tests import word_times
from q2d2_tokenizer.evaluation.token_tests.synthesis import Spoken, Synthesiser
from q2d2_tokenizer.speech import TextToSpeech

needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="no library espeak-ng")


@pytest.fixture
def speaker() -> TextToSpeech:
    codec = load_codec()
    return TextToSpeech(codec, LanguageModel.load(default_checkpoint(), codec.fingerprint()))


@needs_espeak
def test_synthesiser_tells_where_words_begin():
    synthesise, text = Synthesiser(), "one two three."
    for _ in range(3):
        spoken = synthesise(text)
        assert len(spoken.audio) > 0.6 * spoken.sampling_rate and np.abs(spoken.audio).max() > 0.05
        assert sorted(spoken.starts) == [0, 4, 8] and spoken.starts[0] < spoken.starts[4] < spoken.starts[8]


@needs_espeak
def test_alignment_beats_even_letters(speaker):
    sentences = ["He turned sharply, and faced the house across the road.", "", "42 men left!"]
    found = word_times.measure_word_times(sentences, speaker, 5)
    assert found["sentences"] == 2 and found["words"] >= 12
    means = [found[kind]["mean"]["mean"] for kind in ("alignment", "even letters")]
    assert means[0] < 0.06 and means[0] < means[1]


def test_errors_are_those_of_known_times(speaker, monkeypatch):
    """The truth is what the alignment found, but half a second later: the bias is half a second, the error too."""
    rate, text = speaker.sampling_rate, "hello there you"
    audio = np.random.default_rng(0).normal(0, 0.05, 2 * rate).astype(np.float32)
    times = speaker.word_times(audio, text)
    starts = {place: time.start + 0.5 for place, time in zip((0, 6, 12), times, strict=True)}
    monkeypatch.setattr(word_times, "Synthesiser", lambda: lambda said: Spoken(audio, rate, starts))
    found = word_times.measure_word_times([text], speaker, 5)["alignment"]
    assert found["bias"]["mean"] == pytest.approx(-0.5) and found["median"] == pytest.approx(0.5)
    assert found["within"]["0.1"]["mean"] == 0.0


def test_speech_comes_with_the_times_of_its_words(speaker):
    audio, times = speaker.speak_with_times("Hello there. And you?", max_seconds=1.0)
    assert [one.word for one in times] == ["hello", "there", "and", "you"]
    edges = [edge for one in times for edge in (one.start, one.end)]
    assert edges == sorted(edges) and edges[-1] <= len(audio) / speaker.sampling_rate


def test_models_without_text_are_refused(speaker, tmp_path, monkeypatch):
    monkeypatch.setattr(word_times, "Synthesiser", lambda: None)
    bare = TextToSpeech(speaker.codec, speaker.language_model)
    bare.language_model = dataclasses.replace(speaker.language_model, alignment=None)
    with pytest.raises(ValueError, match="no alignment"):
        bare.word_times(np.zeros(9000, np.float32) + 0.1, "hello")
