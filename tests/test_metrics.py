"""Metrics on pairs whose value is known, and summaries."""

import math

import numpy as np
import pytest

from q2d2_tokenizer.metrics import LogMelDistance, align, entropy_bits, mean_and_interval, pesq_wb, stoi

RATE = 24000


@pytest.fixture
def noise() -> np.ndarray:
    """Three seconds of noise with a slow envelope, as stoi needs."""
    rng = np.random.default_rng(0)
    envelope = 0.1 + np.abs(np.sin(np.arange(3 * RATE) * 4 * np.pi / RATE))
    return (0.1 * envelope * rng.standard_normal(3 * RATE)).astype(np.float32)


def test_stoi_is_one_for_equal_audio_and_falls_with_noise(noise):
    pytest.importorskip("pystoi")
    rng = np.random.default_rng(1)
    values = [stoi(noise, noise + level * rng.standard_normal(len(noise)), RATE) for level in (0.0, 0.05, 0.5)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values[0] > values[1] > values[2]


def test_pesq_of_silence_is_nan_and_of_equal_audio_the_maximum(noise):
    pytest.importorskip("pesq")
    assert math.isnan(pesq_wb(np.zeros(RATE, np.float32), np.zeros(RATE, np.float32), RATE))
    assert pesq_wb(noise, noise, RATE) > 4.5


def test_log_mel_distance_of_half_the_amplitude_is_log_two(noise):
    distance = LogMelDistance(RATE)
    assert distance(noise, noise) == 0
    assert distance(noise, 0.5 * noise) == pytest.approx(math.log(2), rel=0.02)


@pytest.mark.parametrize("shift", [-300, 0, 517])
def test_align_undoes_a_delay(noise, shift):
    moved = np.roll(noise, shift) + 0.001
    aligned = align(noise, moved.astype(np.float32), 1000)
    assert len(aligned) == len(noise)
    assert np.allclose(aligned[1000:-1000], noise[1000:-1000] + 0.001, atol=1e-6)


def test_mean_and_interval_leave_out_nan():
    summary = mean_and_interval([1.0, 3.0, math.nan, 2.0])
    assert (summary["n"], summary["mean"]) == (3, 2.0)
    assert summary["interval"] == pytest.approx(1.96 / math.sqrt(3))
    assert math.isnan(mean_and_interval([])["mean"])


def test_entropy_of_a_known_histogram():
    assert entropy_bits(np.array([0, 0, 1, 2])) == pytest.approx(1.5)
