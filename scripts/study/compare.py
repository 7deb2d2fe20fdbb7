"""What the runs say: means, differences with intervals over seeds and clips, and a paired test."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from plan import Plan
from records import Record
from scipy.stats import t as student

from q2d2_tokenizer.evaluation.statistics import mean_and_interval, t_quantile

LM_BITS = "lm_bits"  # bits per second after the better language model of a run
LEVEL = 0.05
_NONE = (math.nan, math.nan)


@dataclass(frozen=True)
class Difference:
    """Mean of one arm less that of another, as a share of the other.

    Args:
        mean: The difference.
        interval: Half-width of its 95 % interval over seeds and clips; NaN where no arm has two seeds yet.
        p: Of the paired test that there is none.
        seeds: Seeds of the arm and of the other.
    """

    mean: float
    interval: float
    p: float
    seeds: tuple[int, int]

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.interval

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval is on one side of zero."""
        return abs(self.mean) > self.interval


class Study:
    """The records of runs that are done, by arm and rate.

    Args:
        plan: The runs there are to be.
        records: All records, those of failed runs too.
    """

    def __init__(self, plan: Plan, records: list[Record]):
        self.plan = plan
        self.runs: dict[tuple[str, str], dict[int, Record]] = {}
        self.others = [record for record in records if record["status"] != "done"]
        for record in records:
            if record["status"] == "done":
                config = record["config"]
                self.runs.setdefault((config["arm"], config["rate"]), {})[config["seed"]] = record

    def of(self, arm: str, rate: str) -> list[Record]:
        """Records of an arm at a rate, by seed."""
        found = self.runs.get((arm, rate), {})
        return [found[seed] for seed in sorted(found)]

    def table(self, arm: str, rate: str, score: str) -> np.ndarray:
        """Values (S, C) of every seed and clip; C is 1 for what is measured once a run; (0, 1) if there is none."""
        rows = [row for record in self.of(arm, rate) if (row := values_of(record, score))]
        return np.array(rows, dtype=float) if rows else np.zeros((0, 1))

    def mean(self, arm: str, rate: str, score: str) -> float:
        """Mean over seeds and clips; NaN if there is none."""
        table = self.table(arm, rate, score)
        return float(np.nanmean(table)) if table.size else math.nan

    def seed_noise(self, score: str) -> tuple[float, int]:
        """Standard deviation of means of seeds as a share of their mean, and its degrees of freedom.

        Arms have few seeds each, so it is that of all arms and rates with at least two.
        """
        total, degrees = 0.0, 0
        for arm, rate in self.runs:
            means = np.nanmean(table, axis=1) if (table := self.table(arm, rate, score)).size else np.zeros(0)
            if len(means) > 1:
                total += float(((means / means.mean() - 1) ** 2).sum())
                degrees += len(means) - 1
        return (math.sqrt(total / degrees), degrees) if degrees else (math.nan, 0)

    def difference(self, arm: str, against: str, rate: str, score: str) -> Difference | None:
        """Difference of two arms on the same clips; None if one of them has no run.

        Clips and seeds are crossed: the variance of the mean is that of the paired differences of clips, with what
        clips of a speaker have in common, plus that of the seeds of both arms. Degrees of freedom after Satterthwaite.
        """
        ours, theirs = (self.table(name, rate, score) for name in (arm, against))
        if not (ours.size and theirs.size):
            return None
        base = float(np.nanmean(theirs))
        per_clip = (np.nanmean(ours, axis=0) - np.nanmean(theirs, axis=0)) / base  # (C,)
        seeds = len(ours), len(theirs)
        parts = [self._of_clips(per_clip, self.of(arm, rate)[0]["speakers"])] if len(per_clip) > 1 else []
        noise, degrees = self.seed_noise(score)
        parts.append((noise**2 * sum(1 / count for count in seeds), degrees))
        return Difference(float(np.nanmean(per_clip)), *interval_and_p(float(np.nanmean(per_clip)), parts), seeds)

    @staticmethod
    def _of_clips(values: np.ndarray, speakers: list[str]) -> tuple[float, int]:
        """Variance of the mean of differences of clips, and its degrees of freedom."""
        degrees = len(set(speakers)) - 1
        if degrees < 1:
            return _NONE[0], 0
        return (mean_and_interval(values.tolist(), speakers)["interval"] / t_quantile(degrees)) ** 2, degrees


def interval_and_p(mean: float, parts: list[tuple[float, int]]) -> tuple[float, float]:
    """Half-width of the 95 % interval of a mean and p of the test that it is zero.

    Args:
        mean: The mean.
        parts: Independent parts of its variance, with their degrees of freedom.
    """
    variance = sum(part for part, _ in parts)
    if not variance > 0:  # none, or not known
        return _NONE
    degrees = variance**2 / sum(part**2 / count for part, count in parts if part)
    error = math.sqrt(variance)
    return float(student.ppf(1 - LEVEL / 2, degrees) * error), float(2 * student.sf(abs(mean) / error, degrees))


def values_of(record: Record, score: str) -> list[float]:
    """Values of a score by clip, or its one value, of a record; none if it was not measured."""
    if score == LM_BITS:
        models = record.get("language_models", {})
        return [min(model["bits_per_second"] for model in models.values())] if models else []
    return [math.nan if value is None else value for value in record["scores"].get(score, [])]


def holm(values: dict[str, float]) -> dict[str, float]:
    """P values of a family of tests, after Holm: the chance of a single false one among all stays below the level."""
    known = sorted((p, name) for name, p in values.items() if not math.isnan(p))
    scaled = [min(1.0, (len(known) - number) * p) for number, (p, _) in enumerate(known)]
    grown = itertools.accumulate(scaled, max)
    return {name: p for (_, name), p in zip(known, grown, strict=True)}


def outcome(prediction: dict[str, Any], difference: Difference | None) -> str:
    """Whether a prediction came: yes, no, open (the interval holds both), or not measured."""
    if difference is None or math.isnan(difference.interval):
        return "not measured"
    if prediction["expect"] == "same":
        margin = prediction["margin"]
        inside = -margin < difference.low and difference.high < margin
        outside = difference.low > margin or difference.high < -margin
        return "yes" if inside else "no" if outside else "open"
    sign = 1 if prediction["expect"] == "more" else -1
    if not difference.is_clear:
        return "open"
    return "yes" if sign * difference.mean > 0 else "no"
