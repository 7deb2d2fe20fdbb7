"""Means with 95 % intervals."""

import math
from collections.abc import Sequence

import numpy as np

_T_OF_FEW = {1: 12.7062, 2: 4.3027}


def t_quantile(degrees: int) -> float:
    """Quantile .975 of Student's t, to .2 %.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    terms = (1.959964, 2.372271, 2.822499, 2.555850, 1.589534)
    return _T_OF_FEW.get(degrees) or sum(term / degrees**power for power, term in enumerate(terms))


def ratio_and_interval(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[str] | None = None
) -> dict[str, float]:
    """Number of pairs without NaN, the sum of one over that of the other, and the half-width of its 95 % interval.

    Such as word errors and words of clips: every word counts the same. The interval is that of a ratio estimator, with
    a standard error that is robust to what the values of a cluster have in common, and the quantile of t with one
    degree of freedom less than there are clusters; it is NaN for a single cluster.

    Args:
        numerators: Values (n,).
        denominators: Values (n,).
        clusters: Name of the cluster of each pair, such as the speaker; each is its own if left out.
    """
    names = [str(i) for i in range(len(numerators))] if clusters is None else clusters
    kept = [(a, b, name) for a, b, name in zip(numerators, denominators, names, strict=True) if not math.isnan(a + b)]
    if not sum(b for _, b, _ in kept):
        return {"n": 0, "mean": math.nan, "interval": math.nan}
    pairs = np.array([pair[:2] for pair in kept])
    ratio = float(pairs[:, 0].sum() / pairs[:, 1].sum())
    sums: dict[str, float] = {}
    for a, b, name in kept:
        sums[name] = sums.get(name, 0.0) + a - ratio * b
    interval, count = math.nan, len(sums)
    if count > 1:
        variance = count / (count - 1) * sum(value**2 for value in sums.values())
        interval = t_quantile(count - 1) * math.sqrt(variance) / abs(float(pairs[:, 1].sum()))
    return {"n": len(kept), "mean": ratio, "interval": interval}


def mean_and_interval(values: Sequence[float], clusters: Sequence[str] | None = None) -> dict[str, float]:
    """Number of values that are not NaN, their mean and the half-width of its 95 % interval.

    Args:
        values: Values (n,).
        clusters: See `ratio_and_interval`.
    """
    return ratio_and_interval(values, [1.0] * len(values), clusters)


def share_and_interval(events: list[bool]) -> dict[str, float]:
    """Number of events, the share of those that happened, and the ends of its 95 % interval (Wilson).

    Unlike the normal approximation it is not empty where nothing or everything happened.
    """
    n, z = len(events), 1.96
    share = sum(events) / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return {"n": n, "share": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}
