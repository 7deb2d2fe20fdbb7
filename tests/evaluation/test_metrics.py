"""Metrics on pairs whose value is known, and summaries."""

import itertools
import math
import os
import sys

import numpy as np
import pytest
import soxr
from pesq import pesq as pesq_of
from speechmos import dnsmos

from q2d2_tokenizer import read_audio, sample_recording
from q2d2_tokenizer.evaluation import isolated, metrics
from q2d2_tokenizer.evaluation.alignment import align
from q2d2_tokenizer.evaluation.metrics import (
    BEST_AT,
    LOWER_IS_BETTER,
    METRICS,
    LogMelDistance,
    Metric,
    PitchAgreement,
    pesq_nb,
    pesq_wb,
    si_sdr,
    stoi,
)

RATE = 24000
UNMOVED = {"clipped_share", "frame_line", "peak", "phase_concentration"}  # noise alone changes these little


def installed(name: str) -> Metric:
    """The metric, or a skipped test if a package is missing that no extra brings, or the weights of NISQA are."""
    by_hand = METRICS[name].install != Metric.install or name == "nisqa"
    missing = METRICS[name].missing() if by_hand else []
    if name == "nisqa" and not metrics._NISQA_WEIGHTS.expanduser().is_file():
        missing.append(str(metrics._NISQA_WEIGHTS))
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
    rng = np.random.default_rng(1)
    values = [stoi(noise, noise + level * rng.standard_normal(len(noise)), RATE) for level in (0.0, 0.05, 0.5)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values[0] > values[1] > values[2]


@pytest.mark.filterwarnings("ignore:Not enough STFT frames")
def test_stoi_of_too_little_speech_is_nan(noise):
    for size in (1, 100, 2000, 7000):
        assert stoi(noise[:size], noise[:size], RATE).reason == "too short"
    assert stoi(noise[:7300], noise[:7300], RATE).reason == "too little speech"


def test_stoi_of_silence_is_nan(noise):
    assert stoi(noise, 0 * noise, RATE).reason == "the reconstruction is silent"
    assert stoi(0 * noise, noise, RATE).reason == "the recording is silent"


@pytest.mark.parametrize("pesq", [pesq_wb, pesq_nb])
def test_pesq_of_silence_is_nan_and_of_equal_audio_the_maximum(noise, pesq):
    silence = 0 * noise
    assert pesq(silence, noise, RATE).reason == "the recording is silent"
    assert pesq(noise, silence, RATE).reason == "the reconstruction is silent"
    for size in (1, 1000):
        assert pesq(noise[:size], noise[:size], RATE).reason == "too short"
    assert pesq(noise, noise, RATE) > 4.5


def bursts(seconds: int) -> np.ndarray:
    """Noise of a quarter of a second, a pause, and so on: two utterances a second."""
    noise = np.random.default_rng(0).standard_normal(seconds * RATE).astype(np.float32)
    return np.where(np.arange(len(noise)) % (RATE // 2) < RATE // 4, 0.1 * noise, 0)


@pytest.mark.parametrize(("pesq", "mode", "rate"), [(pesq_wb, "wb", 16000), (pesq_nb, "nb", 8000)])
def test_pesq_of_a_long_recording_is_the_mean_of_its_parts(noise, pesq, mode, rate):
    reference = bursts(30)  # as a whole, more utterances than the tables of its C code hold
    noisy = (reference + np.linspace(0, 0.02, len(reference)) * np.resize(noise, len(reference))).astype(np.float32)
    pair = [soxr.resample(audio, RATE, rate) for audio in (reference, noisy)]
    parts = [slice(*pair) for pair in itertools.pairwise(round(i * len(pair[0]) / 2) for i in range(3))]
    scores = [pesq_of(rate, *(audio[part] for audio in pair), mode) for part in parts]
    assert pesq(reference, noisy, RATE) == pytest.approx(np.mean(scores), abs=1e-3)
    short = slice(0, 20 * RATE)  # in one piece
    pair = [soxr.resample(audio[short], RATE, rate) for audio in (reference, noisy)]
    assert pesq(reference[short], noisy[short], RATE) == pytest.approx(pesq_of(rate, *pair, mode))


def test_a_crash_costs_one_score(noise, monkeypatch):
    class Fragile(isolated.Isolated):
        def __call__(self, function, rate, reference, *others):
            crashes = len(reference) < 2 * rate
            return super().__call__(os._exit, 1) if crashes else super().__call__(function, rate, reference, *others)

    monkeypatch.setattr(metrics, "_isolated", Fragile())
    assert pesq_wb(noise[:RATE], noise[:RATE], RATE).reason == "its program crashed"
    assert pesq_wb(noise, noise, RATE) > 4.5


def test_a_process_of_its_own_answers_raises_and_ends():
    run = isolated.Isolated()
    assert run(math.sqrt, 4.0) == 2
    with pytest.raises(ValueError, match="math domain error|nonnegative"):
        run(math.sqrt, -1.0)
    with pytest.raises(isolated.ProcessEnded, match="_exit ended its process with status 3"):
        run(os._exit, 3)
    assert run(math.sqrt, 9.0) == 3


def test_windows_are_equal_and_hold_everything():
    assert metrics.windows(20, 20.0) == [slice(0, 20)]
    assert metrics.windows(50, 20.0) == [slice(0, 17), slice(17, 33), slice(33, 50)]
    assert metrics.windows(0, 20.0) == [slice(0, 0)]


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
    agreement = PitchAgreement(RATE)
    first = tone(150.0)
    same = agreement(first, first.copy())
    assert same == {"f0_error_cents": 0.0, "voicing_f1": 1.0, "voiced_lost": 0.0}
    higher = agreement(first, tone(150.0 * 2 ** (1 / 12)))  # a semitone
    assert higher["f0_error_cents"] == pytest.approx(100.0, abs=10.0)
    silence = np.zeros_like(first)
    assert agreement(first, silence)["voicing_f1"] == 0 and math.isnan(agreement(first, silence)["f0_error_cents"])
    assert math.isnan(agreement(silence, silence)["voicing_f1"])


def test_silence_with_an_offset_has_no_pitch(speech_like):
    voice = speech_like(RATE, sampling_rate=RATE)
    recording = np.concatenate([np.zeros(RATE, np.float32), voice])
    for offset in (3 / 32768, 0.01):
        shifted = (recording + offset).astype(np.float32)
        scores = PitchAgreement(RATE)(recording, shifted)
        assert scores["voicing_f1"] > 0.95 and scores["f0_error_cents"] < 10


def test_half_of_the_voiced_frames_give_an_f1_of_two_thirds():
    whole = tone(120.0, 2.0)
    half = np.where(np.arange(len(whole)) < RATE, whole, 0).astype(np.float32)
    scores = PitchAgreement(RATE)(whole, half)
    assert scores["voicing_f1"] == pytest.approx(2 / 3, abs=0.05)
    assert scores["voiced_lost"] == pytest.approx(1 / 2, abs=0.05)
    assert PitchAgreement(RATE)(half, whole)["voiced_lost"] == pytest.approx(0, abs=0.05)


def as_dict(name: str, value: float | dict[str, float]) -> dict[str, float]:
    """Scores by name."""
    return value if isinstance(value, dict) else {name: value}


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"f0"}))
def test_noise_makes_every_metric_worse(name, speech_like):
    """Speech-like audio against itself scores better than with noise as loud as it."""
    speech = speech_like(4 * RATE, seed=3)
    if name == "dnsmos":  # it takes synthetic audio for noise
        speech = read_audio(sample_recording(), RATE)
    noisy = (speech + 0.1 * np.random.default_rng(0).standard_normal(len(speech))).astype(np.float32)
    measure = installed(name).build(RATE)
    clean, worse = (as_dict(name, measure(speech, audio)) for audio in (speech, noisy))
    assert set(clean) == set(METRICS[name].scores or [name])
    for score in set(clean) - UNMOVED:
        if score in BEST_AT:
            assert abs(clean[score] - BEST_AT[score]) < abs(worse[score] - BEST_AT[score]), score
        else:
            assert (clean[score] < worse[score]) == (score in LOWER_IS_BETTER), score


def test_speaker_similarity_is_one_for_equal_audio_and_nan_for_silence(speech_like):
    similarity = installed("speaker").build(RATE)
    speech = speech_like(3 * RATE)
    assert similarity(speech, speech) == pytest.approx(1.0, abs=1e-4)
    assert math.isnan(similarity(speech, np.zeros_like(speech)))


def test_dnsmos_hears_the_end(monkeypatch):
    heard = []
    score = dict.fromkeys(metrics.DNSMOS.NAMES, 1.0)
    monkeypatch.setattr(dnsmos, "run", lambda audio, rate: heard.append(audio) or score)
    measure = METRICS["dnsmos"].build(16000)
    clip = np.linspace(0, 1, round(11.9 * 16000), dtype=np.float32)
    assert measure(None, clip) == dict.fromkeys(METRICS["dnsmos"].scores, 1.0)
    assert {len(part) for part in heard} == {144160}  # 9.01 s
    starts = [int(np.searchsorted(clip, part[0])) for part in heard]
    assert starts == [0, 16000, 32000, len(clip) - 144160]
    for size in (1000, 144160):  # it repeats short audio itself
        heard.clear()
        measure(None, clip[:size])
        assert [len(part) for part in heard] == [size]
    assert measure(None, clip[:0])["dnsmos"].reason == "too short"


def test_nisqa_without_its_weights_says_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(metrics, "_NISQA_WEIGHTS", tmp_path / "nisqa.tar")
    with pytest.raises(FileNotFoundError, match="nisqa.tar, got no such file: put weights/nisqa.tar of the repository"):
        METRICS["nisqa"].build(RATE)


def test_nisqa_of_any_length(speech_like):
    measure = installed("nisqa").build(RATE)
    assert measure(None, speech_like(1000))["nisqa"].reason == "too short"
    assert 0 < measure(None, speech_like(60 * RATE))["nisqa"] < 5


def test_every_score_is_known_as_imitated_or_not():
    assert metrics.imitated_by("pesq_wb") == "loudness loss"
    assert metrics.imitated_by("dnsmos_p808") == metrics.imitated_by("wer") == "–"
    assert metrics.imitated_by("distillmos") == "projected discriminators"


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
