"""Which codes are the sound of which piece of text: a hidden Markov model, fitted to the training data.

The pieces of a text are states in a row, each of which gives codes with probabilities of its own, group by group. A
piece is several equal states, so that it has at least about half of its expected codes. The first guess is that all
codes are spread over the text by expected durations; then best path and probabilities take turns ("Viterbi training",
as for the monophones of a speech recognizer).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from .layout import codes_to_indices

ALIGNMENT_FILE = "alignment.safetensors"
_ROUNDS = 6
_PATHS_AT_ONCE = 128
_BAND, _SHARE = 15.0, 0.1  # how far a path may be from the first guess: codes, or share of the recording
_MOST_STATES = 4  # of a piece
_SMOOTHING = 2.0  # counts added to those of a point, spread like the counts of all pieces
_TIMES_SEEN = 20.0  # that often, a piece must be seen to be half of its own duration
_NEVER = -1e9


def expected_durations(codes: list[np.ndarray], pieces: list[np.ndarray], size: int) -> np.ndarray:
    """Codes (size,) that each piece takes: a least-squares fit to recordings as wholes, drawn to the common mean."""
    counts = np.stack([np.bincount(row, minlength=size) for row in pieces]).astype(np.float64)
    totals = np.array([len(row) for row in codes], dtype=np.float64)
    mean = totals.sum() / counts.sum()
    pull = _TIMES_SEEN * np.eye(size)
    fitted = mean + np.linalg.solve(counts.T @ counts + pull, counts.T @ (totals - mean * counts.sum(1)))
    return np.maximum(fitted, 0.0)


def mean_durations(starts: list[np.ndarray], pieces: list[np.ndarray], expected: np.ndarray) -> np.ndarray:
    """Codes (size,) that each piece takes in recordings that are aligned, drawn to what was expected."""
    all_pieces, all_durations = np.concatenate(pieces), np.concatenate([np.diff(row) for row in starts])
    visits = np.bincount(all_pieces, minlength=len(expected))
    return (np.bincount(all_pieces, all_durations, len(expected)) + expected) / (visits + 1)


@dataclass(frozen=True)
class Alignment:
    """What the pieces of text sound like, fitted by `align`; it places the text of any recording by itself.

    Args:
        log_probs: Log probabilities (size, G) of the points of each group.
        stay: Log probabilities (size,) of staying with a piece.
        expected: Codes (size,) that each piece takes on average.
        may_be_silent: Which pieces (size,) may be without a code.
    """

    log_probs: list[np.ndarray]
    stay: np.ndarray
    expected: np.ndarray
    may_be_silent: np.ndarray

    def starts(self, codes: list[np.ndarray], pieces: list[np.ndarray]) -> list[np.ndarray]:
        """First codes (n + 1,) of the pieces of every recording, and the end of the last one.

        Args:
            codes: Codes (T,) of each recording.
            pieces: Pieces (n,) of each text, with 1 <= n; a text longer than its recording is spread evenly.
        """
        groups = [len(table[0]) for table in self.log_probs]
        num_states = np.clip(np.round(self.expected / 2), 1, _MOST_STATES).astype(np.int64)
        num_states[self.may_be_silent] = 1
        starts = [_spread(self.expected[row], len(code)) for row, code in zip(pieces, codes, strict=True)]
        states = [np.repeat(row, num_states[row]) for row in pieces]
        fits = [len(row) < len(code) for row, code in zip(states, codes, strict=True)]
        order = sorted(np.flatnonzero(fits), key=lambda i: len(codes[i]))
        for first in range(0, len(order), _PATHS_AT_ONCE):
            chosen = order[first : first + _PATHS_AT_ONCE]
            found = _best_paths(
                [self._scores(states[i], codes_to_indices(codes[i], groups)) for i in chosen],
                [_spread((self.expected / num_states)[states[i]], len(codes[i])) for i in chosen],
                [self.stay[states[i]] for i in chosen],
                [self.may_be_silent[states[i]] for i in chosen],
            )
            for i, row in zip(chosen, found, strict=True):
                starts[i] = row[np.concatenate([[0], np.cumsum(num_states[pieces[i]])])]
        return starts

    def _scores(self, states: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
        """Log probabilities (N, T) of points (T,) of each group in states (N,)."""
        tables = [table[states][:, point] for table, point in zip(self.log_probs, points, strict=True)]
        return np.sum(tables, axis=0)

    def save(self, folder: str | Path) -> None:
        """Write `alignment.safetensors` into a folder."""
        tables = {f"log_probs.{group}": table for group, table in enumerate(self.log_probs)}
        others = {"stay": self.stay, "expected": self.expected, "may_be_silent": self.may_be_silent}
        tensors = {
            name: np.ascontiguousarray(values, bool if values.dtype == bool else np.float32)
            for name, values in (tables | others).items()
        }
        save_file(tensors, Path(folder) / ALIGNMENT_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> "Alignment | None":
        """Read what `save` wrote; None if there is none."""
        path = Path(folder) / ALIGNMENT_FILE
        if not path.exists():
            return None
        tensors = load_file(path)
        log_probs = [tensors[f"log_probs.{group}"] for group in range(len(tensors) - 3)]
        return cls(log_probs, tensors["stay"], tensors["expected"], tensors["may_be_silent"])


def align(
    codes: list[np.ndarray],
    pieces: list[np.ndarray],
    points_per_group: Sequence[int],
    expected: np.ndarray,
    may_be_silent: np.ndarray,
) -> tuple[Alignment, list[np.ndarray]]:
    """Fit an alignment to recordings; returns it with their starts, see `Alignment.starts`.

    Args:
        codes: Codes (T,) of each recording.
        pieces: Pieces (n,) of each text, with 1 <= n.
        points_per_group: Points of each group of the codec.
        expected: Codes (size,) that each piece takes on average.
        may_be_silent: Which pieces (size,) may be without a code.
    """
    points = [np.stack(codes_to_indices(row, points_per_group)) for row in codes]  # (P, T) each
    starts = [_spread(expected[row], len(code)) for row, code in zip(pieces, codes, strict=True)]
    for _ in tqdm(range(_ROUNDS), desc="align", disable=None):
        log_probs, stay = _fit(points, pieces, starts, points_per_group, len(expected))
        alignment = Alignment(log_probs, stay, expected, may_be_silent)
        starts = alignment.starts(codes, pieces)
    return alignment, starts


def _spread(durations: np.ndarray, total: int) -> np.ndarray:
    """Starts (n + 1,) of pieces of such durations, stretched to a total."""
    ends = np.concatenate([[0.0], np.cumsum(durations + 1e-3)])
    return np.round(ends * total / ends[-1]).astype(np.int64)


def _fit(
    points: list[np.ndarray],
    pieces: list[np.ndarray],
    starts: list[np.ndarray],
    points_per_group: Sequence[int],
    size: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Log probabilities (size, G) of the points of each group, and (size,) of staying with a piece."""
    owners = [np.repeat(row, np.diff(start)) for row, start in zip(pieces, starts, strict=True)]  # (T,) each
    owner = np.concatenate(owners)
    scores = []
    for group, count in enumerate(points_per_group):
        point = np.concatenate([row[group] for row in points])
        table = np.bincount(owner * count + point, minlength=size * count).reshape(size, count).astype(np.float64)
        prior = (table.sum(0) + 1) / (table.sum() + count)
        table += _SMOOTHING * count * prior
        scores.append(np.log(table / table.sum(1, keepdims=True) / prior).astype(np.float32))
    visits = np.bincount(np.concatenate(pieces), minlength=size)
    mean = (np.bincount(owner, minlength=size) + 2.0) / (visits + 1.0)
    return scores, np.log(1 - 1 / np.maximum(mean, 1.2)).astype(np.float32)


def _best_paths(
    scores: list[np.ndarray], guesses: list[np.ndarray], stay: list[np.ndarray], silent: list[np.ndarray]
) -> list[np.ndarray]:
    """Starts (n + 1,) of the best monotonic path through scores (n, T) of each recording."""
    rows, lengths = [len(score) for score in scores], [score.shape[1] for score in scores]
    shape = len(scores), max(lengths), max(rows)
    emission = np.full(shape, _NEVER, np.float32)
    bonus, skips = np.zeros((shape[0], shape[2]), np.float32), np.zeros((shape[0], shape[2]), bool)
    for b, score in enumerate(scores):
        time = np.arange(lengths[b])[:, None]
        width = max(_BAND, _SHARE * lengths[b])
        inside = (time >= guesses[b][:-1] - width) & (time <= guesses[b][1:] + width)
        emission[b, : lengths[b], : rows[b]] = np.where(inside, score.T, _NEVER)
        bonus[b, : rows[b]], skips[b, : rows[b]] = stay[b], silent[b]
    # A path goes on to the next piece, or over one that may be silent.
    skipped = np.where(np.pad(skips, ((0, 0), (1, 0)))[:, :-1], 0.0, _NEVER).astype(np.float32)
    best = np.full((shape[0], shape[2]), _NEVER, np.float32)
    best[:, 0] = emission[:, 0, 0]
    if shape[2] > 1:
        best[:, 1] = np.where(skips[:, 0], emission[:, 0, 1], _NEVER)
    steps = np.zeros(shape, np.int8)
    for t in range(1, shape[1]):
        one = np.pad(best, ((0, 0), (1, 0)), constant_values=_NEVER)[:, :-1]
        two = np.pad(best, ((0, 0), (2, 0)), constant_values=_NEVER)[:, :-2] + skipped
        ways = np.stack([best + bonus, one, two])
        steps[:, t] = ways.argmax(0)
        best = ways.max(0) + emission[:, t]
    return [_trace(steps[b, : lengths[b]], rows[b], silent[b]) for b in range(len(scores))]


def _trace(steps: np.ndarray, rows: int, silent: np.ndarray) -> np.ndarray:
    """Starts (n + 1,) of the path that ends with the last piece, from the steps (T, N) that led to each state."""
    starts = np.full(rows + 1, len(steps), np.int64)
    piece = rows - 1
    for t in range(len(steps) - 1, 0, -1):
        starts[piece] = t
        step = steps[t, piece]
        if step == 2:
            starts[piece - 1] = t  # silent
        piece = max(piece - int(step), 0)
    starts[: piece + 1] = 0
    return np.minimum.accumulate(starts[::-1])[::-1]
