"""Token shards on disk -> sequences -> batches that depend on seed and step alone.

Batches are padded, not packed: sequences of about the same length go together, so there is little padding, no
sequence can see another one, and the plain causal attention of every runtime is right. Packing several sequences into
a row needs a block mask, which takes attention off its fast causal path:
`scripts/benchmarks/benchmark_packing.py` measures both.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from q2d2_tokenizer.corpus.inputs import local_files

from .alignment import align, expected_durations, mean_durations
from .layout import AUDIO, BOS, EOS, PAD, Layout
from .model import IGNORED
from .text import TextTokenizer

_CODEC_KEYS = ("codec_fingerprint", "codebook_size", "sampling_rate")
_COLUMNS = ["codes", "num_samples"]
_NO_PLACES = np.empty(0, np.int64)


def expand_shards(sources: list[str]) -> list[Path]:
    """Parquet files of paths, folders and glob patterns, in order, see `local_files`; one named twice counts twice.

    Raises:
        ValueError: If a source names no Parquet file.
    """
    files: list[Path] = []
    for source in sources:
        found = local_files(source, {".parquet"})
        if not found:
            raise ValueError(f"no Parquet files at {source!r}")
        files += found
    return files


def shard_layout(path: Path, text: TextTokenizer | None = None) -> Layout:
    """Vocabulary for the codec that made the tokens of a shard, as the metadata of its schema name it.

    Raises:
        ValueError: If they do not.
    """
    metadata = pyarrow.parquet.read_schema(path).metadata or {}
    missing = [key for key in _CODEC_KEYS if key.encode() not in metadata]
    if missing:
        raise ValueError(f"{path} is no token shard: its schema's metadata lack {missing[0]!r}")
    fingerprint, codebook_size, sampling_rate = (metadata[key.encode()].decode() for key in _CODEC_KEYS)
    size, text_fingerprint = (text.size, text.fingerprint) if text else (0, "")
    points = tuple(json.loads(metadata.get(b"points_per_group", b"[]")))
    return Layout(int(codebook_size), int(sampling_rate), fingerprint, size, text_fingerprint, points)


def shard_neighbours(path: Path) -> list[list[list[int]]] | None:
    """Neighbours of every point of every group of the codec that made the tokens of a shard; None in older shards."""
    found = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"neighbours_per_group")
    return None if found is None else json.loads(found)


def _read_shard(path: Path, columns: list[str]) -> pyarrow.Table:
    names = pyarrow.parquet.read_schema(path).names
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {names}")
    return pyarrow.parquet.read_table(path, columns=columns)


class TokenCorpus:
    """Token sequences of recordings, and the pieces of their text, in memory.

    Args:
        sources: Parquet shards with the columns `codes`, `num_samples` and, for models with text, `text`, and with
            `codec_fingerprint`, `codebook_size` and `sampling_rate` in the metadata of the schema; see
            `expand_shards`.
        layout: Vocabulary of the language model.
        text: Text tokenizer of a model with text. Recordings with an empty or unreadable text are speech alone.
        speech_sources: Like `sources`; their texts are not shown.
        spelled_share: Of the words with a pronunciation that are shown in letters.
        seed: Chooses those words.

    Raises:
        ValueError: If a shard is of another codec or lacks a column, a code is out of range, or a recording has no
            codes, or there are no recordings.
    """

    def __init__(
        self,
        sources: list[str],
        layout: Layout,
        text: TextTokenizer | None = None,
        speech_sources: list[str] | tuple[str, ...] = (),
        spelled_share: float = 0.0,
        seed: int = 0,
    ):
        layout.check_text(text.fingerprint if text else "")
        self.layout = layout
        codes, pieces, self.seconds = [], [], 0.0
        rng = np.random.default_rng(seed)
        shards = [(path, bool(text)) for path in expand_shards(sources)]
        shards += [(path, False) for path in expand_shards(list(speech_sources))]
        for path, has_text in tqdm(shards, desc="tokens", disable=None):
            fingerprint = shard_layout(path).codec_fingerprint
            table = _read_shard(path, [*_COLUMNS, "text"] if has_text else _COLUMNS)
            try:
                layout.check_codec(fingerprint)
                codes += [layout.codes_to_ids(row).astype(np.int32) for row in _rows(table["codes"])]
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            self.seconds += (pyarrow.compute.sum(table["num_samples"]).as_py() or 0) / layout.sampling_rate
            for sentence in table["text"].to_pylist() if has_text else [""] * len(table):
                found = text.encode(sentence, spelled_share, rng) if sentence else np.empty(0, np.int64)
                pieces.append(layout.pieces_to_ids(found).astype(np.int32))
        self._codes, self.num_codes = codes, np.array([len(row) for row in codes])
        self._pieces, self.num_pieces = pieces, np.array([len(row) for row in pieces])
        self._middles: list[np.ndarray] | None = None
        if not codes:
            raise ValueError(f"no recordings in {sources}")

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def codes_per_second(self) -> float:
        """Measured rate of the codes."""
        return float(self.num_codes.sum()) / self.seconds

    def place_text(self, text: TextTokenizer | None) -> Layout:
        """Find where the text of each recording lies, for `positions`; returns the layout with mean durations.

        Raises:
            ValueError: If no recording has text, or the layout does not know the groups of codes.
        """
        found = np.flatnonzero(self.num_pieces)
        if text is None or not len(found) or not self.layout.points_per_group:
            raise ValueError("to place text takes recordings with text, and shards with points_per_group")
        codes = [self._codes[i].astype(np.int64) - self.layout.audio_offset for i in found]
        pieces = [self._pieces[i].astype(np.int64) - self.layout.text_offset for i in found]
        known = self.layout.codes_per_piece
        expected = np.array(known) if known else expected_durations(codes, pieces, self.layout.text_size)
        starts = align(codes, pieces, self.layout.points_per_group, expected, text.may_be_silent)
        self._middles = [_NO_PLACES] * len(self)
        for i, row in zip(found, starts, strict=True):
            self._middles[i] = (row[:-1] + row[1:]) // 2
        durations = mean_durations(starts, pieces, expected)
        # A text begins with a piece that is a space; at the start it is silence.
        before = np.mean([row[1] - durations[piece[0]] for row, piece in zip(starts, pieces, strict=True)])
        return replace(
            self.layout,
            codes_per_piece=tuple(durations.round(3).tolist()),
            codes_before_text=round(max(0.0, float(before)), 3),
        )

    def positions(self, index: int, window: "Window") -> np.ndarray | None:
        """Positions (S,) int64 of `sequence`, as `Layout.position_ids` with the true places; None without them."""
        if self._middles is None:
            return None
        text = self._middles[index] if window.with_text else _NO_PLACES
        return np.concatenate([[0], text, np.arange(1 + window.num_codes + window.ends)])

    def sequence(self, index: int, window: "Window") -> np.ndarray:
        """Ids (S,) int64 of one recording as a window shows it."""
        ids = [[BOS], self._pieces[index] if window.with_text else [], [AUDIO]]
        ids += [self._codes[index][window.start : window.start + window.num_codes], [EOS] if window.ends else []]
        return np.concatenate(ids).astype(np.int64)


def _rows(column: pyarrow.ChunkedArray) -> list[np.ndarray]:
    """Codes of each row of a column of lists."""
    rows: list[np.ndarray] = []
    for chunk in column.chunks:
        if not len(chunk):  # a shard whose recordings were all rejected
            continue
        lengths = pyarrow.compute.list_value_length(chunk)
        if lengths.null_count or not pyarrow.compute.all(pyarrow.compute.greater(lengths, 0)).as_py():
            raise ValueError("a recording has no codes")
        if chunk.flatten().null_count:
            raise ValueError("a code is missing")
        rows += np.split(chunk.flatten().to_numpy(), np.cumsum(lengths.to_numpy())[:-1])
    return rows


@dataclass(frozen=True)
class Window:
    """What a sequence shows of a recording.

    Args:
        with_text: Whether its text comes first.
        start: First code shown.
        num_codes: Codes shown.
        ends: Whether the last code of the recording is among them, so that `<eos>` follows.
    """

    with_text: bool
    start: int
    num_codes: int
    ends: bool


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
        return Window(
            bool(self.with_text[index]), int(self.start[index]), int(self.num_codes[index]), bool(self.ends[index])
        )

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
        speech_only_share: Of the recordings with text that are shown without it.
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

    def inputs(self, device: torch.device | str = "cpu") -> tuple[Tensor | None, ...]:
        """What a `Scorer` takes: ids, targets and positions, on a device."""
        parts = (self.input_ids, self.targets, self.position_ids)
        return tuple(None if part is None else part.to(device) for part in parts)


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
        speech_only_share: Of the recordings with text that are shown without it.
        seed: Of the whole run.

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
        self._windows: Windows | None = None
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
        epoch = self.epoch(step)
        return make_batch(
            self.corpus, self._windows, self._batches[step - self._first_steps[epoch]], process, processes
        )


def make_batch(corpus: TokenCorpus, windows: Windows, indices: np.ndarray, process: int, processes: int) -> Batch:
    """The part of one process in a batch of recordings; every `processes`-th of them."""
    own = indices[process::processes]
    # A process without a share computes something that is not scored: all processes must take part in the step.
    shown = own if len(own) else indices[:1]
    input_ids, targets = collate([corpus.sequence(i, windows[i]) for i in shown])
    if not len(own):
        targets.fill_(IGNORED)
    positions = [corpus.positions(i, windows[i]) for i in shown]
    if positions[0] is None:
        placed = None
    else:
        placed = pad_sequence([torch.from_numpy(row[:-1]) for row in positions], batch_first=True)
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
