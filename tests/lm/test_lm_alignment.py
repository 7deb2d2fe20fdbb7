"""Alignment of text and codes: true boundaries are found, silent pieces may be skipped, all codes are given away."""

import numpy as np
import pytest

from lm.alignment import Alignment, align, expected_durations, mean_durations

SIZE, GROUPS, SILENT = 12, (6, 7), 11


def recordings(count: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Codes, pieces and true durations; every piece prefers some points, and the last one has often no sound."""
    rng = np.random.default_rng(0)
    likely = [rng.dirichlet(np.full(points, 0.15), SIZE) for points in GROUPS]
    codes, pieces, durations = [], [], []
    for _ in range(count):
        row = rng.integers(0, SIZE, 25)
        row[0] = 0
        taken = rng.poisson(2 + row % 5) + 2
        taken[row == SILENT] *= rng.random((row == SILENT).sum()) < 0.3
        owner = np.repeat(row, taken)
        points = [np.array([rng.choice(len(table[0]), p=table[piece]) for piece in owner]) for table in likely]
        codes.append(points[0] + GROUPS[0] * points[1])
        pieces.append(row)
        durations.append(taken)
    return codes, pieces, durations


def test_true_boundaries_are_found():
    codes, pieces, durations = recordings(60)
    expected = expected_durations(codes, pieces, SIZE)
    _, starts = align(codes, pieces, GROUPS, expected, np.arange(SIZE) == SILENT)
    for row, piece, code in zip(starts, pieces, codes, strict=True):
        assert row[0] == 0 and row[-1] == len(code) and len(row) == len(piece) + 1
        assert (np.diff(row)[piece != SILENT] >= 1).all()
    true = np.concatenate([np.concatenate([[0], np.cumsum(row)]) for row in durations])
    errors = np.abs(np.concatenate(starts) - true)
    guessed = np.concatenate([np.concatenate([[0], np.cumsum(expected[row])]) for row in pieces])
    assert errors.mean() < 1.0 and (errors <= 2).mean() > 0.9
    assert np.abs(guessed - true).mean() > 3 * errors.mean()  # which is what there was before
    found = mean_durations(starts, pieces, expected)
    true_means = [np.mean(np.concatenate(durations)[np.concatenate(pieces) == piece]) for piece in range(SIZE)]
    assert found == pytest.approx(true_means, abs=1.0)


def test_texts_longer_than_their_recordings_are_spread():
    codes, pieces, _ = recordings(8)
    codes[0], pieces[1], pieces[2] = codes[0][:9], np.array([3]), np.array([SILENT])
    _, starts = align(codes, pieces, GROUPS, np.full(SIZE, 5.0), np.arange(SIZE) == SILENT)
    assert starts[0][-1] == 9 and (np.diff(starts[0]) >= 0).all()
    assert starts[1].tolist() == [0, len(codes[1])] and starts[2].tolist() == [0, len(codes[2])]


def test_a_saved_alignment_places_each_recording_by_itself(tmp_path):
    codes, pieces, durations = recordings(60)
    alignment, starts = align(codes, pieces, GROUPS, expected_durations(codes, pieces, SIZE), np.arange(SIZE) == SILENT)
    assert Alignment.load(tmp_path) is None
    alignment.save(tmp_path)
    loaded = Alignment.load(tmp_path)
    for number in range(10):
        (alone,) = loaded.starts(codes[number : number + 1], pieces[number : number + 1])
        assert alone.tolist() == starts[number].tolist()
