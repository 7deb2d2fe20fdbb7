"""Stability of tokens: where a token moved to, what of a slice is equal by design, and changes of known size."""

import numpy as np
import pytest
import torch

from q2d2_tokenizer.evaluation.clips import Clip
from q2d2_tokenizer.evaluation.token_tests import changes, stability
from q2d2_tokenizer.evaluation.token_tests.stability import ELSEWHERE, EQUAL, NEAR, Comparison

RATE = 24000


@pytest.fixture
def clips(speech_like) -> list[Clip]:
    return [Clip(f"{i}", speech_like(RATE + 100, seed=i), RATE, speaker=f"s{i % 2}") for i in range(3)]


def test_moves_of_tokens_are_told_apart(tiny_model):
    lattices, compare = tiny_model.quantizer.lattices, Comparison(tiny_model)
    start = torch.zeros(1, 4)
    moves = {EQUAL: [0, 0, 0, 0], NEAR: [0.5, 0.5, 0, 0], ELSEWHERE: [0, 0, 2, 0]}  # rhombic: neighbours are diagonal
    for name, move in moves.items():
        points = torch.cat([start, start + torch.tensor([move])])
        codes = lattices.indices_to_codes(lattices.nearest(points)[1]).numpy()
        assert torch.equal(lattices.nearest(points)[0], points)
        found = compare(codes[:1], codes[1:])
        assert found[name] == 1.0 and sum(found[key] for key in (EQUAL, NEAR, ELSEWHERE)) == 1.0
        assert [group["distance"] for group in found["groups"]] == pytest.approx(
            [np.hypot(*move[:2]), np.hypot(*move[2:])]
        )


def test_edits_count_what_a_shift_by_one_frame_does_not(tiny_model):
    codes = np.arange(100, 120)
    found = Comparison(tiny_model)(codes, np.roll(codes, 1))
    assert found[EQUAL] == 0.0 and found["edits"] == pytest.approx(2 / 20)


def test_slices_with_the_context_of_the_encoder_are_exact(tiny_model, clips, monkeypatch):
    monkeypatch.setattr(stability, "SLICE_SECONDS", (0.3,))
    found = stability.Stability(tiny_model, clips).slices()
    names = list(found)
    assert found[names[0]][EQUAL]["mean"] < 1.0  # its edges hear silence instead of the recording
    for name in names[1:]:
        assert found[name][EQUAL]["mean"] == 1.0


def test_shifts_change_most_by_half_a_frame(tiny_model, clips):
    shifts = stability.Stability(tiny_model, clips, phase_step=156).shifts()
    assert list(shifts) == ["0", "48", "156", "312"]
    equal = {int(samples): found[EQUAL]["mean"] for samples, found in shifts.items()}
    assert equal[0] == 1.0 > equal[312] > equal[48] >= equal[156]  # 8 samples short of a whole frame


def test_result_has_every_part_and_only_babble_needs_others(tiny_model, clips, monkeypatch):
    monkeypatch.setattr(stability, "ROUNDS", 2)
    found = stability.measure_stability(tiny_model, clips, phase_step=300)
    assert (found["clips"], found["speakers"]) == (3, 2)
    none, noisy = found["changes"]["none"], found["changes"]["white noise, 5 dB"]
    assert none[EQUAL]["mean"] == 1.0 > noisy[EQUAL]["mean"]
    assert none["edits"]["mean"] == 0.0 < noisy["edits"]["mean"]
    first, second = found["rounds"]
    assert first["against the first"] == first["against the round before"] != second["against the round before"]
    with pytest.raises(ValueError, match="two speakers"):
        stability.Stability(tiny_model, clips[:1]).changes()


def test_a_codec_without_lattice_is_refused(tiny_model):
    tiny_model.quantizer = torch.nn.Identity()
    with pytest.raises(ValueError, match="lattices"):
        Comparison(tiny_model)


@pytest.mark.parametrize("name", ["Opus 32 kbit/s", "mp3 32 kbit/s"])
def test_lossy_files_have_about_their_rate_and_stay_in_step(name, speech_like):
    audio = speech_like(3 * RATE)
    found = changes.compress(audio, RATE, name)
    assert found.bits_per_second == pytest.approx(32000, rel=0.25)
    assert found.audio.shape == audio.shape and not np.array_equal(found.audio, audio)
    lags = [np.dot(audio[100:-100], np.roll(found.audio, -lag)[100:-100]) for lag in range(-50, 51)]
    assert abs(int(np.argmax(lags)) - 50) <= 1


def test_noise_has_its_level(speech_like):
    audio, rng = speech_like(RATE), np.random.default_rng(0)
    noisy = changes.all_changes(RATE)["white noise, 10 dB"](audio, [], rng).audio
    factor = np.dot(noisy, audio) / np.dot(audio, audio)
    ratio = 10 * np.log10((audio**2).sum() / ((noisy / factor - audio) ** 2).sum())
    assert ratio == pytest.approx(10.0, abs=0.2)


def test_a_room_follows_the_sound():
    click = np.zeros(RATE, np.float32)
    click[1000] = 0.5
    heard = changes.reverberate(click, RATE, 10.0, np.random.default_rng(0))
    assert (
        np.abs(heard[:990]).max() < 1e-6
        and heard[1000] == pytest.approx(0.5, abs=0.01)
        and np.abs(heard[1100:9000]).max() > 1e-3
    )


def test_gain_and_resampling_keep_their_length(speech_like):
    audio = speech_like(RATE + 7)
    assert np.abs(changes.scale(audio * 4, 6.0)).max() <= 1.0
    back = changes.resample_there_and_back(audio, RATE)
    assert back.shape == audio.shape and np.abs(back - audio).mean() < 0.01
