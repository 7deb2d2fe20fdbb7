"""Contrasts with judges whose answer is known: one that hears no beginning is right in exactly half of the pairs."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from q2d2_tokenizer.evaluation.clips import Clip
from q2d2_tokenizer.evaluation.token_tests import contrasts
from q2d2_tokenizer.evaluation.token_tests.contrasts import acted_crosses, exchanged, judge_pairs, recording_crosses

RATE = 24000


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    monkeypatch.setattr(contrasts, "PAIRS", 12)


@pytest.fixture
def clips(speech_like) -> list[Clip]:
    return [Clip(f"{i}", speech_like(4 * RATE, seed=i), RATE, speaker=f"s{i % 3}") for i in range(6)]


def test_a_judge_that_hears_no_beginning_is_right_half_the_time(clips):
    half = round(1.5 * RATE)
    for name, crosses in recording_crosses(clips, seed=0).items():
        found = judge_pairs(lambda audio: float(np.abs(audio[half:]).sum()), crosses, name)
        assert (found["n"], found["share"]) == (12, 0.5), name


def test_a_judge_that_knows_who_spoke_is_always_right(clips):
    owner = {}
    for clip in clips:
        samples = contrasts.trimmed(clip.audio)
        owner[samples[: round(1.5 * RATE)].tobytes()] = owner[samples[-round(1.5 * RATE) :].tobytes()] = clip.speaker

    def judge(audio: np.ndarray) -> float:
        first, second = np.split(audio, 2)
        return float(owner[first.tobytes()] != owner[second.tobytes()])

    assert judge_pairs(judge, recording_crosses(clips, seed=0)["speaker"], "speaker")["share"] == 1.0


def test_background_and_room_change_one_half_alone(clips):
    for name in ("background", "room"):
        (start, end), (noisy_start, noisy_end) = next(recording_crosses(clips, seed=0)[name])
        assert len(start) == len(end) == len(noisy_start) == len(noisy_end) == round(1.5 * RATE)
        assert not np.allclose(end, noisy_end) and not np.allclose(start, noisy_start)


def test_recordings_of_one_speaker_are_refused(clips):
    with pytest.raises(ValueError, match="each of two speakers"):
        recording_crosses(clips[::3], seed=0)


def test_acted_pairs_differ_in_what_they_are_named_after(tmp_path):
    """Every file of a small RAVDESS is a tone that tells emotion, sentence and actor."""
    for emotion in range(1, 9):
        for statement in (1, 2):
            for actor in range(1, 7):
                code = np.full(RATE // 10, (emotion * 100 + statement * 10 + actor) / 1000)
                path = tmp_path / f"03-01-{emotion:02d}-01-{statement:02d}-01-{actor:02d}.wav"
                soundfile.write(path, code, RATE, subtype="FLOAT")
    for name, crosses in acted_crosses(tmp_path, RATE, seed=1).items():
        for cross in crosses:
            digits = [[[int(d) for d in f"{round(1000 * part[0]):03d}"] for part in pair] for pair in cross]
            (start, end), (other_start, other_end) = digits
            assert start[1] == other_start[1] == 1 and end[1] == other_end[1] == 2  # another sentence
            assert (start[0], start[2]) == (end[0], end[2]) and (other_start[0], other_start[2]) == (
                other_end[0],
                other_end[2],
            )
            changed = {"emotion": start[0] != other_start[0], "actor": start[2] != other_start[2]}
            kind = name.removesuffix(" (acted)")
            assert changed == {"emotion": kind == "emotion", "actor": kind != "emotion"}
            if kind != "emotion":
                assert (start[2] % 2 != other_start[2] % 2) == (kind == "gender")
    with pytest.raises(ValueError, match="RAVDESS"):
        acted_crosses(tmp_path / "nothing", RATE, seed=1)


def test_exchanged_words_are_made_of_the_same_letters():
    assert exchanged("table", "shouse") == ("shable", "touse")
    assert exchanged("table", "toast") is None and exchanged("apple", "table") is None
    made = exchanged("street", "ground")
    assert Counter("".join(made)) == Counter("streetground")


def test_judge_pays_less_for_tokens_that_the_model_expects(tiny_model, language_model, speech_like):
    judge = contrasts.Judge(tiny_model, language_model)
    nats = judge(speech_like(RATE))
    assert nats == judge(speech_like(RATE)) > 0
