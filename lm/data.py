"""Token shards on disk -> token sequences of recordings, with the pieces of their text and where these lie."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from tqdm.auto import tqdm

from q2d2_tokenizer.corpus.inputs import local_files, warn_of_missing_shards

from .alignment import Alignment, align, expected_durations, mean_durations
from .layout import AUDIO, BOS, EOS, Layout
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
    warn_of_missing_shards(files)
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


class TokenCorpus:
    """Token sequences of recordings, and the pieces of their text, in memory.

    Args:
        sources: Parquet shards with the columns `codes`, `num_samples` and, for models with text, `text`, and with
            `codec_fingerprint`, `codebook_size` and `sampling_rate` in the metadata of the schema; see
            `expand_shards`.
        layout: Vocabulary of the language model.
        text: Text tokenizer of a model with text. Recordings with an empty or unreadable text are speech alone.
        speech_sources: Like `sources`; their texts are not shown.
        spelled_share: Share of the words with a pronunciation that are shown in letters.
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
                found = text.encode(sentence, spelled_share, rng) if text and sentence else np.empty(0, np.int64)
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

    def fit_alignment(self, text: TextTokenizer | None) -> tuple[Layout, Alignment]:
        """Find where the text of each recording lies, for `positions`.

        Returns:
            The layout with mean durations; and the alignment, which places the text of other recordings.

        Raises:
            ValueError: If no recording has text, or the layout does not know the groups of codes.
        """
        found, codes, pieces = self._with_text()
        if text is None or not len(found) or not self.layout.points_per_group:
            raise ValueError("to place text takes recordings with text, and shards with points_per_group")
        known = self.layout.codes_per_piece
        expected = np.array(known) if known else expected_durations(codes, pieces, self.layout.text_size)
        alignment, starts = align(codes, pieces, self.layout.points_per_group, expected, text.may_be_silent)
        self._set_places(found, starts)
        durations = mean_durations(starts, pieces, expected)
        # A text begins with a piece that is a space; at the start it is silence.
        before = np.mean([row[1] - durations[piece[0]] for row, piece in zip(starts, pieces, strict=True)])
        layout = replace(
            self.layout,
            codes_per_piece=tuple(durations.round(3).tolist()),
            codes_before_text=round(max(0.0, float(before)), 3),
        )
        return layout, alignment

    def place_text(self, alignment: Alignment) -> None:
        """Place the text of each recording, for `positions`, whatever other recordings there are."""
        found, codes, pieces = self._with_text()
        self._set_places(found, alignment.starts(codes, pieces))

    def _with_text(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Numbers (n,) of the recordings with text, their codes and their pieces."""
        found = np.flatnonzero(self.num_pieces)
        codes = [self._codes[i].astype(np.int64) - self.layout.audio_offset for i in found]
        pieces = [self._pieces[i].astype(np.int64) - self.layout.text_offset for i in found]
        return found, codes, pieces

    def _set_places(self, found: np.ndarray, starts: list[np.ndarray]) -> None:
        self._middles = [_NO_PLACES] * len(self)
        for i, row in zip(found, starts, strict=True):
            self._middles[i] = (row[:-1] + row[1:]) // 2

    def positions(self, index: int, window: Window) -> np.ndarray | None:
        """Positions (S,) int64 of `sequence`, as `Layout.position_ids` with the true places; None without them."""
        if self._middles is None:
            return None
        text = self._middles[index] if window.with_text else _NO_PLACES
        return np.concatenate([[0], text, np.arange(1 + window.num_codes + window.ends)])

    def sequence(self, index: int, window: Window) -> np.ndarray:
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
