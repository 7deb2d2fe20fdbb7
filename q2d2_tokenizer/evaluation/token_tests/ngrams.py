"""Entropies of n-grams of tokens, with a correction for finite samples: no network, so anyone can compute them again.

Two estimates of the bits of a token after the `order` tokens before it:

- held out: what a model of counts in training recordings pays for other recordings, an upper bound of the entropy rate.
  Orders are interpolated after Witten and Bell: p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)), where t(h) is the
  number of different tokens seen after h and h' is h without its oldest token; below order 0 all tokens are as likely.
- counted: the entropy of the n-grams of order + 1 tokens in the training recordings less that of their first `order`
  tokens, each with the correction of Miller and Madow, (different n-grams - 1) / (2 n ln 2). It is far too low where
  most n-grams occur once, so the share of these is given with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...training.statistics import corrected_entropy_of_counts

_UNKNOWN = -1


@dataclass(frozen=True)
class Stream:
    """Symbols of all recordings, one after another.

    Args:
        symbols: (N,) integers below `num_symbols`.
        starts: Whether a recording begins with the symbol (N,): nothing before it counts.
        kinds: What the symbol must be one of (N,), such as the group of its point; 0 if there is one kind.
        sizes: Number of symbols of each kind.
        num_symbols: Number of all symbols.
    """

    symbols: np.ndarray
    starts: np.ndarray
    kinds: np.ndarray
    sizes: tuple[int, ...]
    num_symbols: int


def flat_stream(recordings: Sequence[np.ndarray], codebook_size: int) -> Stream:
    """Every token (T,) of recordings is a symbol."""
    codes = np.concatenate(recordings).astype(np.int64)
    return Stream(codes, _first_of(recordings, 1), np.zeros(len(codes), np.int64), (codebook_size,), codebook_size)


def factored_stream(recordings: Sequence[np.ndarray], points_per_group: Sequence[int]) -> Stream:
    """Every point of a token (T,) is a symbol, group by group; each group has symbols of its own."""
    rest = np.concatenate(recordings).astype(np.int64)
    columns, offset = [], 0
    for size in points_per_group:
        columns.append(rest % size + offset)
        rest, offset = rest // size, offset + size
    symbols = np.stack(columns, axis=1).flatten()
    groups = len(points_per_group)
    kinds = np.tile(np.arange(groups), len(symbols) // groups)
    return Stream(symbols, _first_of(recordings, groups), kinds, tuple(points_per_group), offset)


def _first_of(recordings: Sequence[np.ndarray], symbols_per_token: int) -> np.ndarray:
    lengths = np.array([len(row) for row in recordings]) * symbols_per_token
    starts = np.zeros(lengths.sum(), bool)
    starts[np.concatenate([[0], np.cumsum(lengths)[:-1]])] = True
    return starts


@dataclass(frozen=True)
class _Table:
    """N-grams of one length: keys of prefix and last symbol, and how often each occurs."""

    keys: np.ndarray
    counts: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Numbers (N,) of n-grams by their keys (N,), `_UNKNOWN` for those that are not here."""
        places = np.searchsorted(self.keys, keys).clip(0, len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, _UNKNOWN)


def _keys(stream: Stream, prefixes: np.ndarray) -> np.ndarray:
    """Keys (N,) of n-grams that end with each symbol, from the numbers (N,) of what comes before."""
    return np.where(prefixes == _UNKNOWN, _UNKNOWN, prefixes * stream.num_symbols + stream.symbols)


def _next_prefixes(stream: Stream, found: np.ndarray) -> np.ndarray:
    """What comes before each symbol (N,), if it is the n-gram (N,) that ends with the symbol before."""
    prefixes = np.concatenate([[_UNKNOWN], found[:-1]])
    prefixes[stream.starts] = _UNKNOWN
    return prefixes


@dataclass(frozen=True)
class OrderBits:
    """Bits of a symbol after `order` symbols: held out and counted, and the share of n-grams that occur once."""

    order: int
    held_out: float
    counted: float
    once: float


def ngram_bits(train: Stream, test: Stream, highest: int) -> list[OrderBits]:
    """Bits per symbol of test recordings by order, from the counts of training recordings.

    Args:
        train: Recordings that are counted.
        test: Others, of the same kinds.
        highest: Highest order.
    """
    prefixes, test_prefixes = train.kinds, test.kinds  # of order 0: the kind alone
    probability = 1.0 / np.array(test.sizes, float)[test.kinds]
    found: list[OrderBits] = []
    for order in range(highest + 1):
        keys = _keys(train, prefixes)
        table = _Table(*np.unique(keys[keys != _UNKNOWN], return_counts=True))
        probability = _interpolate(train, table, prefixes, test, test_prefixes, probability)
        before = np.bincount(prefixes[prefixes != _UNKNOWN])
        counted = corrected_entropy_of_counts(table.counts) - corrected_entropy_of_counts(before)
        held_out = -float(np.log2(probability).mean())
        found.append(OrderBits(order, held_out, counted, float((table.counts == 1).mean())))
        prefixes = _next_prefixes(train, table.find(keys))
        test_prefixes = _next_prefixes(test, table.find(_keys(test, test_prefixes)))
    return found


def _interpolate(
    train: Stream,
    table: _Table,
    prefixes: np.ndarray,
    test: Stream,
    test_prefixes: np.ndarray,
    lower: np.ndarray,
) -> np.ndarray:
    """Probabilities (N,) of test symbols, from those (N,) of the order below."""
    size = max(int(prefixes.max()), int(test_prefixes.max())) + 1
    seen = np.bincount(prefixes[prefixes != _UNKNOWN], minlength=size)
    different = np.bincount(table.keys // train.num_symbols, minlength=size)
    number = table.find(_keys(test, test_prefixes))
    count = np.where(number == _UNKNOWN, 0, table.counts[number])
    context = np.maximum(test_prefixes, 0)
    new, total = different[context], different[context] + seen[context]
    known = (test_prefixes != _UNKNOWN) & (total > 0)
    return np.where(known, (count + new * lower) / np.maximum(total, 1), lower)
