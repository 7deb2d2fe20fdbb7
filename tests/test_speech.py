"""Python calls that speak, tokenize and evaluate, on tiny models."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from corpora import OPTIONS
from language_models import TINY

import q2d2_tokenizer
from lm.generate import GenerationSettings
from lm.layout import Layout
from lm.model import LanguageModel, ModelSettings, make_language_model
from q2d2_tokenizer import TextToSpeech, speech
from q2d2_tokenizer.audio.token_file import TokenFile, save_tokens
from q2d2_tokenizer.speech import SpeechOptions

HOP = 320
HALF = {"max_seconds": 0.5, "min_seconds": 0.5}  # 38 tokens


@pytest.fixture
def speaker(tiny_model, language_model) -> TextToSpeech:
    return TextToSpeech(tiny_model, language_model)


def test_streams_are_the_whole_and_seeds_are_followed(speaker):
    whole = speaker.speak("hello there", **HALF)
    assert whole.dtype == np.float32 and whole.shape == (38 * HOP,) and speaker.sampling_rate == 24000
    chunks = list(speaker.stream("hello there", **HALF))
    assert len(chunks) > 1 and np.array_equal(np.concatenate(chunks), whole)
    assert not np.array_equal(speaker.speak("hello there", seed=1, **HALF), whole)


def test_voices_and_continuations_take_files_audio_and_tokens(speaker, tiny_model, speech_like, tmp_path):
    audio = speech_like(12000)
    soundfile.write(tmp_path / "voice.wav", audio, 24000, subtype="FLOAT")
    codes, num_samples = q2d2_tokenizer.encode_file(tiny_model, tmp_path / "voice.wav")
    save_tokens(tmp_path / "voice.q2d2", TokenFile(codes, 24000, num_samples, tiny_model.fingerprint()))
    given = [tmp_path / "voice.wav", str(tmp_path / "voice.q2d2"), audio, codes]
    continued = [speaker.continue_speech(one, **HALF) for one in given]
    spoken = [speaker.speak("hello", one, "a bold one", **HALF) for one in given]
    for results in (continued, spoken):
        assert all(np.array_equal(one, results[0]) for one in results)
    assert len(continued[0]) == (len(codes) + 38) * HOP and len(spoken[0]) == 38 * HOP
    assert not np.array_equal(spoken[0], speaker.speak("hello", **HALF))


def test_what_cannot_be_spoken_is_refused(speaker, tiny_model, language_model):
    for text in ("", "🙂 你好"):
        with pytest.raises(ValueError, match="nothing to read"):
            speaker.stream(text)  # at once, not with the first chunk
    with pytest.raises(ValueError, match="takes both"):
        speaker.speak("hello", voice=np.arange(5))
    with pytest.raises(ValueError, match="got the shape"):
        speaker.continue_speech(np.zeros((1, 100), np.float32))
    with pytest.raises(ValueError, match="max_seconds must be a number above 0"):
        speaker.speak("hello", max_seconds=0)
    with pytest.raises(TypeError, match="loudness"):
        speaker.speak("hello", loudness=3)
    layout = Layout(language_model.layout.codebook_size, 24000, "another")
    other = LanguageModel(make_language_model(ModelSettings(**TINY), layout), layout)
    with pytest.raises(ValueError, match="for codec 'another'"):
        TextToSpeech(tiny_model, other)


def test_texts_and_recordings_of_other_types_are_refused(speaker):
    for wrong in (None, 5, b"hello", ["hello"]):
        with pytest.raises(ValueError, match=f"a text must be a string, got {type(wrong).__name__}"):
            speaker.stream(wrong)
    with pytest.raises(ValueError, match="a text must be a string, got NoneType"):
        speaker.speak("hello", np.arange(9), None)
    for wrong in (None, 5, [0.5, 0.5], b"RIFF"):
        with pytest.raises(ValueError, match=f"the path of a file, or audio .*, got {type(wrong).__name__}"):
            speaker.continue_speech(wrong)
    with pytest.raises(ValueError, match="a recording of integers holds tokens: .* got -3; pass audio as floats"):
        speaker.continue_speech(np.full(9, -3, np.int16))
    with pytest.raises(ValueError, match="audio must be floats and tokens integers, got bool"):
        speaker.continue_speech(np.zeros(9, bool))


def test_options_become_settings_with_seconds_as_codes():
    settings = SpeechOptions(temperature=0.7, max_seconds=2.0, min_seconds=0.4).settings(75.0)
    assert settings == GenerationSettings(temperature=0.7, guidance_scale=2.0, min_codes=30, max_codes=150)
    assert {one.name for one in dataclasses.fields(SpeechOptions) if not one.init} == {"min_codes", "max_codes"}


def test_the_functions_keep_their_models(tiny_model, language_model, tmp_path, monkeypatch):
    tiny_model.save_pretrained(tmp_path / "codec")
    language_model.save(tmp_path / "lm")
    loaded = []
    from_pretrained = TextToSpeech.from_pretrained

    def load() -> TextToSpeech:
        loaded.append(from_pretrained(str(tmp_path / "codec"), str(tmp_path / "lm")))
        return loaded[-1]

    monkeypatch.setattr(TextToSpeech, "from_pretrained", load)
    speech._speaker.cache_clear()
    try:
        audio = q2d2_tokenizer.speak("hello there", **HALF)
        chunks = list(q2d2_tokenizer.stream_speech("hello there", **HALF))
    finally:
        speech._speaker.cache_clear()
    assert len(loaded) == 1 and np.array_equal(np.concatenate(chunks), audio)


def test_a_corpus_is_tokenized_by_one_call(corpus_file, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "codec")
    arguments = {"codec": str(tmp_path / "codec"), "options": OPTIONS, "drop_columns": ["text"]}
    summary = q2d2_tokenizer.tokenize_corpus(str(corpus_file), tmp_path / "out", "cc0-1.0", **arguments)
    assert (summary["input_rows"], summary["token_rows"], summary["shards"]) == (20, 12, 7)
    rows = pq.read_table(tmp_path / "out" / "data")
    assert rows.num_rows == 12 and "text" not in rows.column_names
    assert str(corpus_file) in (tmp_path / "out" / "README.md").read_text()


def test_a_codec_is_evaluated_by_one_call(tiny_model, speech_like, tmp_path, monkeypatch):
    monkeypatch.setattr("q2d2_tokenizer.evaluation.evaluate.measure_memory", lambda *_, **__: None)
    tiny_model.save_pretrained(tmp_path / "codec")
    soundfile.write(tmp_path / "a.wav", speech_like(12000), 24000)
    arguments = {"output": tmp_path / "out", "cache": tmp_path / "cache", "metrics": ["log_mel"], "peers": False}
    result = q2d2_tokenizer.evaluate_codec(str(tmp_path / "a.wav"), codec=str(tmp_path / "codec"), **arguments)
    (summary,) = result["summary"].values()
    assert summary["log_mel"]["n"] == 1 and (tmp_path / "out" / "evaluation.md").is_file()
    with pytest.raises(ValueError, match="metrics must be of pesq_wb.*, got loudness"):
        q2d2_tokenizer.evaluate_codec(["a.wav"], **arguments | {"metrics": ["loudness"]})


def test_public_names_are_there_and_no_others():
    assert set(q2d2_tokenizer.__all__) <= set(dir(q2d2_tokenizer))
    for name in q2d2_tokenizer.__all__:
        assert getattr(q2d2_tokenizer, name).__doc__
    with pytest.raises(AttributeError, match="nothing"):
        _ = q2d2_tokenizer.nothing
