"""Pulses, buzz, grain, phase and level of signals for which they are known."""

import math

import numpy as np
import pytest

from q2d2_tokenizer import read_audio, sample_recording
from q2d2_tokenizer.audio import voice

RATE = 24000
TIME = np.arange(2 * RATE) / RATE


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(len(TIME))


def harmonics(f0_hz: float = 120.0, highest_hz: float = 8000.0) -> np.ndarray:
    """All harmonics in phase: a pulse every period."""
    return 0.01 * sum(np.cos(2 * np.pi * k * f0_hz * TIME) for k in range(1, int(highest_hz / f0_hz)))


SLOW = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * TIME)


def test_pitch_of_a_tone_and_of_noise(noise):
    for f0_hz in (90.0, 120.0, 240.0):
        found, voiced = voice.pitch(harmonics(f0_hz), RATE)
        assert voiced.mean() > 0.9 and np.median(found[voiced]) == pytest.approx(f0_hz, rel=0.01)
    assert voice.pitch(0.1 * noise, RATE)[1].mean() < 0.05
    assert not voice.pitch(np.zeros(RATE), RATE)[1].any()


@pytest.mark.parametrize("band", [(1000, 2000), (2000, 4000), (4000, 8000)])
def test_noise_under_the_same_envelope_has_no_pulses(noise, band):
    recording = SLOW * harmonics()
    low = voice.pitch(recording, RATE)
    same = voice.envelope_at_f0(recording, 3 * recording, RATE, band)
    assert same == pytest.approx(1, abs=1e-6)  # the level does not count
    lost = voice.envelope_at_f0(recording, SLOW * 0.1 * noise, RATE, band, low)
    assert 0 < lost < 0.1


def test_half_of_the_depth_is_a_quarter_of_the_power():
    carrier = np.cos(2 * np.pi * 3000 * TIME)
    deep, flat = ((1 + depth * np.cos(2 * np.pi * 120 * TIME)) * carrier for depth in (0.8, 0.4))
    assert voice.envelope_at_f0(deep + harmonics(120, 1000), flat, RATE) == pytest.approx(0.25, rel=0.02)


def test_pulses_need_voice_and_a_band(noise):
    for value in (voice.envelope_at_f0(noise, noise, RATE), voice.envelope_at_f0(noise, noise, RATE, (8000, 16000))):
        assert math.isnan(value) and value.reason in (
            "no voiced frames",
            "nothing up to 16000 Hz at this sampling rate",
        )


def test_modulation_at_three_times_the_frame_rate_is_a_line(noise):
    assert 0.6 < voice.frame_line(noise, RATE) < 1.6
    buzz = (1 + 0.5 * np.cos(2 * np.pi * 225 * TIME)) * noise
    assert voice.frame_line(buzz, RATE) > 10
    assert voice.frame_line(buzz, RATE, frame_rate=50.0) < 1.6
    assert math.isnan(voice.frame_line(noise[:1000], RATE)) and math.isnan(voice.frame_line(0 * noise, RATE))


def test_half_of_a_logarithmic_modulation_is_a_quarter_of_its_energy():
    whole, half = (np.exp(depth * np.cos(2 * np.pi * 20 * TIME)) * harmonics() for depth in (0.6, 0.3))
    assert voice.modulation_16_32(whole, half, RATE) == pytest.approx(0.25, rel=0.15)
    slow = np.exp(0.6 * np.cos(2 * np.pi * 5 * TIME)) * harmonics()
    assert voice.modulation_16_32(whole, slow, RATE) < 0.02


def test_noise_has_contrast_between_bands_and_a_click_in_every_window_has_none(noise):
    assert voice.fine_contrast(noise, 0.3 * noise, RATE) == pytest.approx(1, rel=1e-3)
    other = np.random.default_rng(1).standard_normal(len(TIME))
    assert voice.fine_contrast(noise, other, RATE) == pytest.approx(1, abs=0.15)
    clicks = np.zeros(len(TIME))
    clicks[::2000] = 1
    assert voice.fine_contrast(noise, clicks + 1e-5 * noise, RATE) < 0.2
    assert voice.fine_contrast(noise, SLOW, RATE) < 0.01


def test_one_template_of_phase_is_concentrated_and_noise_is_not(noise):
    template = np.tile(noise[:320], len(TIME) // 320)
    assert voice.phase_concentration(template, RATE) > 0.95
    assert voice.phase_concentration(noise, RATE) < 0.1
    assert voice.phase_concentration(template, RATE, frame_rate=47.0) < 0.2
    assert math.isnan(voice.phase_concentration(np.zeros(RATE), RATE))


def test_level_and_peak(noise):
    assert voice.level_db(noise, 2 * noise) == pytest.approx(6.02, abs=0.01)
    assert voice.level_db(noise, 0 * noise).reason == "silence"
    loud = np.zeros(1000)
    loud[:10] = -1.5
    scores = voice.Signal(RATE)(None, loud)
    assert scores["peak"] == 1.5 and scores["clipped_share"] == 0.01


def test_the_shortest_recordings_and_silence_are_no_error(noise):
    measure, alone = voice.Voice(RATE), voice.Signal(RATE)
    for size in (1, 2, 100, 1000):
        for pair in ((noise[:size], noise[:size]), (0 * noise[:size], noise[:size]), (noise[:size], 0 * noise[:size])):
            assert set(measure(*pair)) == set(voice.VOICE_SCORES) and set(alone(*pair)) == set(voice.SIGNAL_SCORES)


def test_a_recording_has_neither_buzz_nor_a_template_of_phase():
    traces = voice.Signal(RATE)(None, read_audio(sample_recording(), RATE))
    assert traces["frame_line"] < 3 and traces["phase_concentration"] < 0.05


def test_means_leave_out_what_cannot_be_measured(noise):
    silent = 0 * noise
    found = voice.measure_voice([(noise, 2 * noise), (noise, noise), (silent, silent)], RATE)
    assert found["level_db"] == pytest.approx(3.01, abs=0.01)  # not of silence
    assert found["peak"] == pytest.approx(np.abs(noise).max(), rel=0.01) and not math.isnan(sum(found.values()))
