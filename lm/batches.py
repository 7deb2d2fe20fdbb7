"""Batches of token sequences that depend on seed and step alone.

Batches are padded, not packed: sequences of about the same length go together, so there is little padding, no
sequence can see another one, and the plain causal attention of every runtime is right. Packing several sequences into
a row needs a block mask, which takes attention off its fast causal path and was measured to gain nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .data import TokenCorpus, Window
from .layout import AUDIO, PAD
from .model import IGNORED


@dataclass(frozen=True)
class Windows:
    """Windows on all recordings of a corpus, as columns (n,)."""

    with_text: np.ndarray
    start: np.ndarray
    num_codes: np.ndarray
    ends: np.ndarray
    length: np.ndarray

    def __getitem__(self, index: int) -> Window:
        """Window on one recording."""
        columns = self.with_text, self.start, self.num_codes, self.ends
        return Window(*(column[index].item() for column in columns))

    @property
    def num_scored(self) -> np.ndarray:
        """Tokens (n,) that are predicted: the codes and `<eos>`."""
        return self.num_codes + self.ends


def make_windows(
    corpus: TokenCorpus, context: int, speech_only_share: float, rng: np.random.Generator | None
) -> Windows:
    """Choose what to show of each recording, so that no sequence is longer than the context.

    A recording that does not fit is cut: at the end, without `<eos>`, if its text is shown, and else to a piece from
    anywhere in it. A text that leaves no room for audio is not shown.

    Args:
        corpus: The recordings.
        context: Longest sequence, in tokens.
        speech_only_share: Share of the recordings with text that are shown without it.
        rng: For these choices; without it, the share must be 0 or 1 and long recordings are shown from their start.
    """
    n = len(corpus)
    dropped = (rng.random(n) if rng else np.zeros(n)) < speech_only_share
    with_text = (corpus.num_pieces > 0) & ~dropped & (corpus.num_pieces + 3 <= context)
    room = context - 2 - corpus.num_pieces * with_text
    num_codes = np.minimum(corpus.num_codes, room)
    spare = np.where(with_text, 0, corpus.num_codes - num_codes)
    start = np.floor((rng.random(n) if rng else np.zeros(n)) * (spare + 1)).astype(np.int64)
    # Codes that fill the context leave no place for <eos>.
    ends = (start + num_codes == corpus.num_codes) & (num_codes < room)
    length = 2 + corpus.num_pieces * with_text + num_codes + ends
    return Windows(with_text, start, num_codes, ends, length)


@dataclass(frozen=True)
class Batch:
    """Sequences of one process for one step.

    Args:
        input_ids: (B, S) int64, padded at the end.
        targets: (B, S) int64, the next token where it is a code or `<eos>`, else `IGNORED`.
        num_scored: Targets of the step over all processes.
        num_codes: Audio codes of the step over all processes.
        position_ids: (B, S) int64; None for those of the layout.
    """

    input_ids: Tensor
    targets: Tensor
    num_scored: int
    num_codes: int
    position_ids: Tensor | None = None

    def inputs(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor | None]:
        """What a `Scorer` takes: ids, targets and positions, on a device."""
        position_ids = None if self.position_ids is None else self.position_ids.to(device)
        return self.input_ids.to(device), self.targets.to(device), position_ids


def collate(sequences: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Inputs (B, S) and targets (B, S) of sequences (S_i,) with S the longest less one.

    Text is not predicted, and neither is what is before `<audio>`; padding is never scored.
    """
    size = max(len(row) for row in sequences) - 1
    input_ids = np.full((len(sequences), size), PAD, np.int64)
    targets = np.full((len(sequences), size), IGNORED, np.int64)
    for number, row in enumerate(sequences):
        audio = int(np.argmax(row == AUDIO))
        input_ids[number, : len(row) - 1] = row[:-1]
        targets[number, audio : len(row) - 1] = row[audio + 1 :]
    return torch.from_numpy(input_ids), torch.from_numpy(targets)


def split_by_length(order: np.ndarray, length: np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Cut an order of recordings into batches of at most `tokens_per_batch` tokens with their padding."""
    batches, first, longest = [], 0, 0
    for position, index in enumerate(order):
        longest = max(longest, int(length[index]))
        if longest * (position + 1 - first) > tokens_per_batch and position > first:
            batches.append(order[first:position])
            first, longest = position, int(length[index])
    return [*batches, order[first:]]


class TrainingBatches:
    """Batches of a corpus, epoch after epoch, each a function of the seed and the step.

    Args:
        corpus: The recordings.
        context: Longest sequence, in tokens.
        tokens_per_batch: Largest batch over all processes, in tokens with their padding.
        speech_only_share: Share of the recordings with text that are shown without it.
        seed: Seed of the whole run.

    Raises:
        ValueError: If a batch would not hold the longest sequence.
    """

    bucket = 16  # sequences whose lengths differ by less are shuffled among each other

    def __init__(self, corpus: TokenCorpus, context: int, tokens_per_batch: int, speech_only_share: float, seed: int):
        if tokens_per_batch < context:
            raise ValueError(f"tokens_per_batch must be at least the context, {context}, got {tokens_per_batch}")
        self.corpus = corpus
        self.context = context
        self.tokens_per_batch = tokens_per_batch
        self.speech_only_share = speech_only_share
        self.seed = seed
        self._first_steps = [0]  # of the epochs met so far
        self._epoch = -1
        self._windows: Windows
        self._batches: list[np.ndarray] = []

    def _open(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        rng = np.random.default_rng([self.seed, epoch])
        self._windows = make_windows(self.corpus, self.context, self.speech_only_share, rng)
        order = np.lexsort((rng.random(len(self.corpus)), self._windows.length // self.bucket))
        batches = split_by_length(order, self._windows.length, self.tokens_per_batch)
        self._batches = [batches[i] for i in rng.permutation(len(batches))]
        self._epoch = epoch
        if len(self._first_steps) == epoch + 1:
            self._first_steps.append(self._first_steps[epoch] + len(batches))

    def epoch(self, step: int) -> int:
        """Epoch of a step. Its batches are laid out, and those of earlier epochs if that was not done yet."""
        while self._first_steps[-1] <= step:
            self._open(len(self._first_steps) - 1)
        epoch = int(np.searchsorted(self._first_steps, step, side="right")) - 1
        self._open(epoch)
        return epoch

    def batch(self, step: int, process: int = 0, processes: int = 1) -> Batch:
        """The part of one process in the batch of a step."""
        first = self._first_steps[self.epoch(step)]
        return make_batch(self.corpus, self._windows, self._batches[step - first], process, processes)


def make_batch(corpus: TokenCorpus, windows: Windows, indices: np.ndarray, process: int, processes: int) -> Batch:
    """The part of one process in a batch of recordings; every `processes`-th of them."""
    own = indices[process::processes]
    # A process without a share computes something that is not scored: all processes must take part in the step.
    shown = own if len(own) else indices[:1]
    input_ids, targets = collate([corpus.sequence(i, windows[i]) for i in shown])
    if not len(own):
        targets.fill_(IGNORED)
    found = (corpus.positions(i, windows[i]) for i in shown)
    positions = [torch.from_numpy(row[:-1]) for row in found if row is not None]  # of all of them, or of none
    placed = pad_sequence(positions, batch_first=True) if positions else None
    num_scored, num_codes = (int(counts[indices].sum()) for counts in (windows.num_scored, windows.num_codes))
    return Batch(input_ids, targets, num_scored, num_codes, placed)


def validation_batches(
    corpus: TokenCorpus, context: int, tokens_per_batch: int, with_text: bool, process: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """The part of one process in batches that show every recording once, from its start.

    Args:
        corpus: The recordings.
        context: Longest sequence, in tokens; longer recordings are cut at their end.
        tokens_per_batch: Largest batch over all processes, in tokens with their padding.
        with_text: Whether texts are shown.
        process: Number of this process.
        processes: How many there are.
    """
    windows = make_windows(corpus, context, 0.0 if with_text else 1.0, None)
    order = np.argsort(windows.length, kind="stable")
    for indices in split_by_length(order, windows.length, tokens_per_batch):
        yield make_batch(corpus, windows, indices, process, processes)
