"""Means, intervals and entropies of numbers whose values are known."""

import json
import math

import numpy as np
import pytest

from q2d2_tokenizer.audio.voice import NotMeasured
from q2d2_tokenizer.evaluation.statistics import (
    mean_and_interval,
    ratio_and_interval,
    share_and_interval,
    t_quantile,
)
from q2d2_tokenizer.training.statistics import entropy_bits, usage


def test_mean_and_interval_leave_out_nan():
    summary = mean_and_interval([1.0, 3.0, math.nan, 2.0])
    assert (summary["n"], summary["mean"]) == (3, 2.0)
    assert summary["interval"] == pytest.approx(4.3027 / math.sqrt(3))
    assert math.isnan(mean_and_interval([])["mean"]) and math.isnan(mean_and_interval([1.0])["interval"])


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (59, 2.001)]
)
def test_quantiles_of_t(degrees, value):
    assert t_quantile(degrees) == pytest.approx(value, rel=2e-3)


def test_clips_of_one_speaker_count_as_one():
    values, speakers = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0], list("aabbcc")
    clustered = mean_and_interval(values, speakers)
    assert clustered["n"] == 6 and clustered["interval"] == pytest.approx(
        mean_and_interval([1.0, 2.0, 3.0])["interval"]
    )
    assert clustered["interval"] > mean_and_interval(values)["interval"]
    assert math.isnan(mean_and_interval(values, ["a"] * 6)["interval"])
    one_missing = mean_and_interval([*values, math.nan], [*speakers, "d"])
    assert one_missing == clustered
    words = ratio_and_interval([2.0, 4.0, 6.0], [10.0] * 3, list("abc"))
    assert words["interval"] == pytest.approx(clustered["interval"] / 5)


def test_not_measured_is_a_nan_with_a_reason():
    value = NotMeasured("silence")
    assert math.isnan(value) and value.reason == "silence" and json.dumps([value]) == "[NaN]"


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
    assert score["n"] == 2 and score["mean"] == pytest.approx(1 / 40) and 0 < score["interval"] < 0.5
    assert ratio_and_interval([2.0, 4.0], [10.0, 20.0])["interval"] == pytest.approx(0)
    assert ratio_and_interval([math.nan], [math.nan])["n"] == 0


def test_share_has_an_interval_at_its_ends_too():
    none = share_and_interval([False] * 100)
    assert (none["n"], none["share"], none["low"]) == (100, 0.0, 0.0) and none["high"] == pytest.approx(0.037, abs=1e-3)
    half = share_and_interval([True, False] * 50)
    assert half["share"] == 0.5 and (half["low"], half["high"]) == pytest.approx((0.404, 0.596), abs=1e-3)
