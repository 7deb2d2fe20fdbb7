"""Metrics on pairs whose value is known, and summaries."""

import math
import sys

import numpy as np
import pytest

from q2d2_tokenizer.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    LogMelDistance,
    Metric,
    PitchAgreement,
    align,
    entropy_bits,
    mean_and_interval,
    pesq_nb,
    pesq_wb,
    ratio_and_interval,
    share_and_interval,
    si_sdr,
    stoi,
    usage,
)

RATE = 24000
SLOW = {"dnsmos"}  # its first call compiles for many seconds


def installed(name: str) -> Metric:
    """The metric, or a skipped test if a package of it is missing."""
    missing = METRICS[name].missing()
    if missing:
        pytest.skip(f"{name} needs {missing}")
    return METRICS[name]


@pytest.fixture
def noise() -> np.ndarray:
    """Three seconds of noise with a slow envelope, as stoi needs."""
    rng = np.random.default_rng(0)
    envelope = 0.1 + np.abs(np.sin(np.arange(3 * RATE) * 4 * np.pi / RATE))
    return (0.1 * envelope * rng.standard_normal(3 * RATE)).astype(np.float32)


def tone(frequency_hz: float, seconds: float = 1.0) -> np.ndarray:
    """Ten harmonics (N,) of a fundamental."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.05 * sum(np.sin(2 * np.pi * k * frequency_hz * time) for k in range(1, 11))).astype(np.float32)


def test_stoi_is_one_for_equal_audio_and_falls_with_noise(noise):
    pytest.importorskip("pystoi")
    rng = np.random.default_rng(1)
    values = [stoi(noise, noise + level * rng.standard_normal(len(noise)), RATE) for level in (0.0, 0.05, 0.5)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values[0] > values[1] > values[2]


@pytest.mark.filterwarnings("ignore:Not enough STFT frames")
def test_stoi_of_too_little_speech_is_nan(noise):
    pytest.importorskip("pystoi")
    for size in (1, 100, 2000, 7000):
        assert math.isnan(stoi(noise[:size], noise[:size], RATE))


@pytest.mark.parametrize("pesq", [pesq_wb, pesq_nb])
def test_pesq_of_silence_is_nan_and_of_equal_audio_the_maximum(noise, pesq):
    pytest.importorskip("pesq")
    assert math.isnan(pesq(np.zeros(RATE, np.float32), np.zeros(RATE, np.float32), RATE))
    assert math.isnan(pesq(noise[:1000], noise[:1000], RATE))
    assert math.isnan(pesq(noise, 0 * noise, RATE))
    assert pesq(noise, noise, RATE) > 4.5


def test_log_mel_distance_of_half_the_amplitude_is_log_two(noise):
    distance = LogMelDistance(RATE)
    assert distance(noise, noise) == 0
    assert distance(noise, 0.5 * noise) == pytest.approx(math.log(2), rel=0.02)


def test_log_mel_distance_does_not_hear_above_8_khz(noise):
    time = np.arange(len(noise)) / RATE
    low, high = (noise.std() * np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (5000, 9500))
    assert LogMelDistance(RATE)(noise, noise + high) < 0.01 < LogMelDistance(RATE)(noise, noise + low)


@pytest.mark.parametrize("ratio_db", [-20.0, 0.0, 7.0])
def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_energies(ratio_db):
    time = np.arange(RATE) / RATE
    signal, error = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 150 * time)  # equal energy, no mean
    mixed = signal + 10 ** (-ratio_db / 20) * error
    for gain, offset in ((1.0, 0.0), (-0.3, 0.1)):
        assert si_sdr(signal, gain * mixed + offset) == pytest.approx(ratio_db, abs=1e-6)


def test_si_sdr_is_finite_for_equal_audio_and_nan_for_silence(noise):
    silence = np.zeros_like(noise)
    assert si_sdr(noise, noise) == pytest.approx(100.0, abs=0.1)
    assert math.isnan(si_sdr(noise, silence)) and math.isnan(si_sdr(silence, noise))


def test_pitch_of_tones(noise):
    pytest.importorskip("librosa")
    agreement = PitchAgreement(RATE)
    first = tone(150.0)
    same = agreement(first, first.copy())
    assert same == {"f0_error_cents": 0.0, "voicing_f1": 1.0}
    higher = agreement(first, tone(150.0 * 2 ** (1 / 12)))  # a semitone
    assert higher["f0_error_cents"] == pytest.approx(100.0, abs=10.0)
    silence = np.zeros_like(first)
    assert agreement(first, silence)["voicing_f1"] == 0 and math.isnan(agreement(first, silence)["f0_error_cents"])
    assert math.isnan(agreement(silence, silence)["voicing_f1"])


def test_half_of_the_voiced_frames_give_an_f1_of_two_thirds():
    pytest.importorskip("librosa")
    whole = tone(120.0, 2.0)
    half = np.where(np.arange(len(whole)) < RATE, whole, 0).astype(np.float32)
    assert PitchAgreement(RATE)(whole, half)["voicing_f1"] == pytest.approx(2 / 3, abs=0.05)


def as_dict(name: str, value: float | dict[str, float]) -> dict[str, float]:
    """Scores by name."""
    return value if isinstance(value, dict) else {name: value}


@pytest.mark.parametrize("name", sorted(set(METRICS) - SLOW - {"f0"}))
def test_noise_makes_every_metric_worse(name, speech_like):
    """Speech-like audio against itself scores better than with noise as loud as it."""
    speech = speech_like(4 * RATE, seed=3)
    noisy = (speech + 0.1 * np.random.default_rng(0).standard_normal(len(speech))).astype(np.float32)
    measure = installed(name).build(RATE)
    clean, worse = (as_dict(name, measure(speech, audio)) for audio in (speech, noisy))
    for score in clean:
        assert (clean[score] < worse[score]) == (score in LOWER_IS_BETTER), score


def test_speaker_similarity_is_one_for_equal_audio_and_nan_for_silence(speech_like):
    similarity = installed("speaker").build(RATE)
    speech = speech_like(3 * RATE)
    assert similarity(speech, speech) == pytest.approx(1.0, abs=1e-4)
    assert math.isnan(similarity(speech, np.zeros_like(speech)))


def test_distillmos_leaves_no_stand_in_behind(capsys):
    installed("distillmos").build(RATE)
    assert "torchaudio" not in sys.modules and capsys.readouterr().out == ""


def test_a_missing_module_is_named():
    assert Metric(LogMelDistance, ("numpy", "no_such_module")).missing() == ["no_such_module"]


@pytest.mark.parametrize("shift", [-300, 0, 517])
def test_align_undoes_a_delay(noise, shift):
    moved = np.roll(noise, shift) + 0.001
    aligned = align(noise, moved.astype(np.float32), 1000)
    assert len(aligned) == len(noise)
    assert np.allclose(aligned[1000:-1000], noise[1000:-1000] + 0.001, atol=1e-6)


def test_the_shortest_recordings_are_measured(noise):
    for size in (1, 2, 100, 500):
        assert LogMelDistance(RATE)(noise[:size], noise[:size]) == 0
        assert np.array_equal(align(noise[:size], noise[:size], 2400), noise[:size].astype(np.float32))


def test_mean_and_interval_leave_out_nan():
    summary = mean_and_interval([1.0, 3.0, math.nan, 2.0])
    assert (summary["n"], summary["mean"]) == (3, 2.0)
    assert summary["interval"] == pytest.approx(1.96 / math.sqrt(3))
    assert math.isnan(mean_and_interval([])["mean"])


def test_entropy_of_a_known_histogram():
    assert entropy_bits(np.array([0, 0, 1, 2])) == pytest.approx(1.5)


def test_usage_of_a_uniform_code():
    used = usage(np.tile(np.arange(12), 5), 48)
    assert used == {
        "size": 48,
        "used": 12,
        "entropy_bits": pytest.approx(math.log2(12)),
        "perplexity": pytest.approx(12),
    }


def test_ratio_counts_every_word_the_same():
    score = ratio_and_interval([1.0, 0.0, math.nan], [10.0, 30.0, math.nan])
    assert score["n"] == 2 and score["mean"] == pytest.approx(1 / 40) and 0 < score["interval"] < 0.2
    assert ratio_and_interval([2.0, 4.0], [10.0, 20.0])["interval"] == pytest.approx(0)
    assert ratio_and_interval([math.nan], [math.nan])["n"] == 0


def test_share_has_an_interval_at_its_ends_too():
    none = share_and_interval([False] * 100)
    assert (none["n"], none["share"], none["low"]) == (100, 0.0, 0.0) and none["high"] == pytest.approx(0.037, abs=1e-3)
    half = share_and_interval([True, False] * 50)
    assert half["share"] == 0.5 and (half["low"], half["high"]) == pytest.approx((0.404, 0.596), abs=1e-3)
