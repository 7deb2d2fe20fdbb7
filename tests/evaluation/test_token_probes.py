"""Probes on data of known answer: what is linear is found, what is not there is not, speakers are on one side."""

import numpy as np
import pytest
import soundfile
import torch

from q2d2_tokenizer.evaluation.token_tests import probes
from q2d2_tokenizer.evaluation.token_tests.probes import DISJOINT, RANDOM
from q2d2_tokenizer.evaluation.token_tests.sets import Item, read_set


@pytest.fixture
def short(monkeypatch) -> None:
    """Fewer and larger steps, for data this small."""
    monkeypatch.setattr(probes, "RATE", 0.03)
    monkeypatch.setattr(probes, "EPOCHS", 40)


def blobs(rng: np.random.Generator, size: int = 200) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features (size, 8) around the corners of three classes, classes, and five speakers who say all of them."""
    labels = np.arange(size) % 3
    features = rng.normal(0, 0.3, (size, 8)) + 3 * np.eye(8)[labels]
    return features, labels, [f"s{i % 5}" for i in range(size)]


def test_probe_finds_what_is_linear_and_nothing_in_noise(short):
    rng = np.random.default_rng(1)
    features, labels, speakers = blobs(rng)
    scores = probes.probe(features, labels, speakers)
    assert min(score["accuracy"]["mean"] for score in scores.values()) > 0.97
    noise = probes.probe(rng.normal(size=features.shape), labels, speakers)
    assert noise[f"{DISJOINT}, as it is"]["accuracy"]["mean"] < 0.5


def test_random_split_shows_speakers_that_leak(short):
    """Every speaker has one class and a place of its own: a probe that knows the speakers gets all right."""
    rng = np.random.default_rng(2)
    number = np.repeat(np.arange(12), 20)
    features = rng.normal(size=(12, 16))[number] * 3 + rng.normal(0, 0.1, (240, 16))
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0])[number]
    scores = probes.probe(features, labels, [f"{i:02d}" for i in number])
    assert scores[f"{RANDOM}, scaled"]["accuracy"]["mean"] > 0.95
    assert scores[f"{DISJOINT}, scaled"]["accuracy"]["mean"] < 0.85


def test_scaling_rescues_features_of_tiny_range(short):
    features, labels, speakers = blobs(np.random.default_rng(3))
    scores = probes.probe(features * 1e-6, labels, speakers)
    assert (
        scores[f"{DISJOINT}, scaled"]["accuracy"]["mean"] > 0.97 > scores[f"{DISJOINT}, as it is"]["accuracy"]["mean"]
    )


def test_folds_part_speakers_and_test_every_clip_once():
    speakers = [f"s{i % 7}" for i in range(50)]
    folds = probes.speaker_folds(speakers)
    assert len(folds) == probes.FOLDS
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(50))
    for train, test in folds:
        assert not {speakers[i] for i in train} & {speakers[i] for i in test} and len(train) + len(test) == 50


def test_sets_without_speakers_have_no_disjoint_split(short):
    features, labels, speakers = blobs(np.random.default_rng(4))
    assert {name.split(",")[0] for name in probes.probe(features, labels, [""] * len(speakers))} == {RANDOM}


def test_macro_f1_by_hand():
    # Class 0: 2 hits, 2 + 3; class 1: 1 hit, 2 + 1; class 2: never found.
    found = probes.macro_f1(np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 0, 1 - 1]))
    assert found == pytest.approx((2 * 2 / (2 + 4) + 2 * 1 / (2 + 1) + 0) / 3)


def test_histogram_counts_the_points_of_every_group():
    indices = torch.tensor([[0, 2], [0, 1], [1, 2], [1, 2]])
    assert probes.histogram(indices, [2, 3]).tolist() == [0.5, 0.5, 0.0, 0.25, 0.75]


def test_set_of_a_folder(tiny_model, speech_like, tmp_path, monkeypatch, short):
    """Digits 0 are low, digits 1 high: the log-mel of a probe tells them apart; names of files give the speakers."""
    monkeypatch.setitem(
        probes.SETS, "fsdd", probes.SETS["fsdd"].__class__(**vars(probes.SETS["fsdd"]) | {"seconds": 0.5})
    )
    time = np.arange(4000) / 8000
    for number in range(40):
        tone = 0.3 * np.sin(2 * np.pi * (300 + 1500 * (number % 2)) * time)
        soundfile.write(tmp_path / f"{number % 2}_anna{number % 4}_{number}.wav", tone, 8000)
    found = probes.measure_set("fsdd", tmp_path, tiny_model, most=30)
    assert (found["clips"], found["speakers"], found["classes"]) == (30, 4, {"0": 15, "1": 15})
    scores = found["probes"]["log-mel"]["splits"]
    assert scores[f"{RANDOM}, scaled"]["accuracy"]["mean"] == 1.0
    assert found["probes"]["lattice points"]["dimensions"] == 4


def test_clips_are_cut_or_padded(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(3000, 0.5), 24000)
    item = Item(tmp_path / "a.wav", "x", "")
    assert probes.load_clip(item, 24000, 0.1).shape == (2400,)
    padded = probes.load_clip(item, 24000, 0.2)
    assert padded.shape == (4800,) and not padded[3000:].any() and padded[:3000].all()


def test_wrong_folders_and_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be one of ravdess"):
        read_set("iemocap", tmp_path, 10)
    for name in ("ravdess", "coffee", "age"):
        with pytest.raises(ValueError, match="github.com"):
            read_set(name, tmp_path, 10)
