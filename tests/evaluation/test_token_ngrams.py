"""Entropies of n-grams against streams whose entropy is known."""

import math

import numpy as np
import pytest

from q2d2_tokenizer.evaluation.token_tests.ngrams import factored_stream, flat_stream, ngram_bits


def split(codes: np.ndarray, length: int = 50) -> list[np.ndarray]:
    return list(codes.reshape(-1, length))


def test_uniform_codes_have_all_their_bits_whatever_the_order():
    rng = np.random.default_rng(0)
    train, test = (flat_stream(split(rng.integers(16, size=200_000)), 16) for _ in range(2))
    for row in ngram_bits(train, test, 2):
        assert row.held_out == pytest.approx(4.0, abs=0.02) and row.counted == pytest.approx(4.0, abs=0.002)


def test_markov_chain_has_its_entropy_rate_from_order_one_on():
    """From each of 8 states one of two others with .75 and .25: .811 bits, and 3 bits without memory."""
    rng = np.random.default_rng(1)
    state, codes = 0, []
    for jump in rng.random(40_000) < 0.75:
        state = (state + (1 if jump else 5)) % 8
        codes.append(state)
    train, test = (flat_stream(split(part), 8) for part in np.split(np.array(codes), 2))
    zero, one, two = ngram_bits(train, test, 2)
    rate = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert zero.held_out == pytest.approx(3.0, abs=0.02) and zero.counted == pytest.approx(3.0, abs=0.02)
    # The first code of a recording has nothing before it: 3 bits, held out.
    assert one.held_out == pytest.approx(rate + (3 - rate) / 50, abs=0.04) and one.counted == pytest.approx(
        rate, abs=0.02
    )
    assert two.held_out == pytest.approx(one.held_out, abs=0.03)


def test_recordings_do_not_see_each_other():
    """Recordings of two codes, the second of which follows from the first, while the first follows from nothing."""
    first = np.random.default_rng(2).integers(4, size=4000)
    recordings = list(np.stack([first, first], axis=1))
    stream = flat_stream(recordings, 4)
    bits = ngram_bits(stream, stream, 1)[1]
    assert bits.counted == pytest.approx(0.0, abs=0.01) and bits.held_out == pytest.approx(1.0, abs=0.02)


def test_counts_correct_for_few_samples():
    """300 samples of 64 even codes: the plain entropy is too low by .16 bits, the corrected one by a few hundredths."""
    codes = np.random.default_rng(3).integers(64, size=300)
    row = ngram_bits(flat_stream([codes], 64), flat_stream([codes], 64), 0)[0]
    assert row.counted == pytest.approx(6.0, abs=0.06)


def test_factored_view_pays_as_much_as_its_points():
    """The second point repeats the first: one pair costs the bits of one point."""
    points = np.random.default_rng(4).integers(8, size=40_000)
    codes = split(points + 8 * points)
    flat, factored = flat_stream(codes, 64), factored_stream(codes, (8, 8))
    assert ngram_bits(flat, flat, 0)[0].held_out == pytest.approx(3.0, abs=0.02)
    zero, one = ngram_bits(factored, factored, 1)
    assert 2 * zero.held_out == pytest.approx(6.0, abs=0.02)
    assert 2 * one.held_out == pytest.approx(3.0, abs=0.03) and 2 * one.counted == pytest.approx(3.0, abs=0.04)


def test_unseen_codes_cost_no_more_than_their_share_of_what_is_new():
    train, test = flat_stream([np.zeros(99, int)], 4), flat_stream([np.full(10, 3)], 4)
    assert ngram_bits(train, test, 0)[0].held_out == pytest.approx(-math.log2((1 / 4) / 100))
