"""Which id means what: specials, text pieces, then audio codes, saved next to the weights as JSON.

| ids | meaning |
|---|---|
| 0 .. 3 | `<pad>`, `<bos>`, `<eos>`, `<audio>` |
| 4 .. 4 + text_size - 1 | pieces of the text tokenizer |
| 4 + text_size .. vocab_size - 1 | codes of the codec |

A sequence is `<bos> text <audio> codes <eos>`, or `<bos> <audio> codes <eos>` for speech without text.

A code is a number of mixed radix: `i_0 + i_1 G_0 + i_2 G_0 G_1 + ...`, with `i_j` the point of group `j` of the codec's
lattice and `G_j` the points of that group.

Positions may follow the sound: with `codes_per_piece`, each piece of text lies in the middle of where its sound is
expected and the codes count from one, so a code finds its piece of text at a distance near zero. Source: PM-RoPE of
VoiceStar, arXiv 2505.19462. Differs: one decoder, and durations of pieces instead of one of the whole text.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

SPECIALS = ("<pad>", "<bos>", "<eos>", "<audio>")
PAD, BOS, EOS, AUDIO = range(len(SPECIALS))
LAYOUT_FILE = "layout.json"
_FORMAT = "q2d2-lm-layout"
_VERSION = 1

Ids = TypeVar("Ids", np.ndarray, Tensor)
Codes = TypeVar("Codes", np.ndarray, Tensor, int)


@dataclass(frozen=True)
class Layout:
    """Vocabulary of a language model on the tokens of one codec.

    Args:
        codebook_size: Number of codes of the codec.
        sampling_rate: Sampling rate of the codec, in Hz.
        codec_fingerprint: Fingerprint of the codec; tokens of another one are refused.
        text_size: Pieces of the text tokenizer; zero for a model of speech alone.
        text_fingerprint: Fingerprint of the text tokenizer; empty for a model of speech alone.
        points_per_group: Points of each group of the codec, for pair tokens; empty if the data set lacks them.
        codes_per_piece: Expected codes of every text piece, from which positions follow; empty for 0, 1, 2, ...
        codes_before_text: Expected codes of silence at the start, for those positions.

    Raises:
        ValueError: If a size is out of range, a fingerprint is missing, or the groups do not make the codebook.
    """

    codebook_size: int
    sampling_rate: int
    codec_fingerprint: str
    text_size: int = 0
    text_fingerprint: str = ""
    points_per_group: tuple[int, ...] = field(default=(), compare=False)  # the fingerprint says as much
    codes_per_piece: tuple[float, ...] = field(default=(), compare=False)  # fitted to the data
    codes_before_text: float = field(default=0.0, compare=False)

    def __post_init__(self):
        if self.codebook_size < 1 or self.sampling_rate < 1 or self.text_size < 0:
            raise ValueError(
                "codebook_size and sampling_rate must be at least 1 and text_size at least 0, got "
                f"{self.codebook_size}, {self.sampling_rate} and {self.text_size}"
            )
        if not self.codec_fingerprint:
            raise ValueError("codec_fingerprint is empty; take it from the token data set")
        if bool(self.text_size) != bool(self.text_fingerprint):
            raise ValueError("text_size and text_fingerprint must be given together")
        if self.points_per_group and math.prod(self.points_per_group) != self.codebook_size:
            raise ValueError(
                f"groups of {self.points_per_group} points make {math.prod(self.points_per_group)} codes, "
                f"expected codebook_size, {self.codebook_size}"
            )
        if self.codes_per_piece and (len(self.codes_per_piece) != self.text_size or min(self.codes_per_piece) < 0):
            raise ValueError(f"codes_per_piece must be {self.text_size} values of at least 0, one for each text piece")

    @property
    def text_offset(self) -> int:
        """Id of the first text piece."""
        return len(SPECIALS)

    @property
    def audio_offset(self) -> int:
        """Id of the first audio code."""
        return self.text_offset + self.text_size

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.audio_offset + self.codebook_size

    def codes_to_ids(self, codes: Ids) -> Ids:
        """Ids (...) int64 of codes (...) of the codec.

        Raises:
            ValueError: If they are no integers within 0 and `codebook_size - 1`.
        """
        return checked_ids(codes, 0, self.codebook_size, "audio codes") + self.audio_offset

    def ids_to_codes(self, ids: Ids) -> Ids:
        """Codes (...) int64 of ids (...) of audio codes.

        Raises:
            ValueError: If one is a special, a text piece, or no id of this vocabulary.
        """
        return checked_ids(ids, self.audio_offset, self.vocab_size, "ids of audio codes") - self.audio_offset

    def pieces_to_ids(self, pieces: Ids) -> Ids:
        """Ids (...) int64 of text pieces (...).

        Raises:
            ValueError: If they are no integers within 0 and `text_size - 1`.
        """
        return checked_ids(pieces, 0, self.text_size, "text pieces") + self.text_offset

    def ids_to_pieces(self, ids: Ids) -> Ids:
        """Text pieces (...) int64 of ids (...) of text.

        Raises:
            ValueError: If one is a special, an audio code, or no id of this vocabulary.
        """
        return checked_ids(ids, self.text_offset, self.audio_offset, "ids of text pieces") - self.text_offset

    def prompt(self, pieces: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Ids (S,) int64 of `<bos> text <audio> codes`, all that comes before the end.

        Args:
            pieces: Text pieces (n,); none for speech without text.
            codes: Audio codes (T,); none for speech from its beginning.
        """
        return np.concatenate([[BOS], self.pieces_to_ids(pieces), [AUDIO], self.codes_to_ids(codes)])

    def position_ids(self, ids: Tensor, num_spoken: Tensor | None = None) -> Tensor | None:
        """Positions (B, S) int64 of ids (B, S); None for the usual ones.

        Padding at the start and `<bos>` are at 0, text pieces in the middle of where their sound is expected, `<audio>`
        and what follows it at 0, 1, 2, ... Pass them to a model together with an attention mask: without one,
        transformers takes positions that start again for packed sequences, and the audio does not see the text.

        Args:
            ids: `<bos> text <audio> codes`, as far as they go, after any padding.
            num_spoken: How many pieces (B,) at the start of each text are what the codes say: these are stretched over
                the codes, and the rest follows.
        """
        if not self.codes_per_piece:
            return None
        is_text = (ids >= self.text_offset) & (ids < self.audio_offset)
        pieces = (ids - self.text_offset).clamp(0, self.text_size - 1)
        codes = torch.tensor(self.codes_per_piece, device=ids.device)[pieces] * is_text
        in_audio = (ids == AUDIO).cumsum(-1)
        middles = codes.cumsum(-1) - codes / 2 + self.codes_before_text * is_text
        if num_spoken is not None:
            is_spoken = is_text & (is_text.cumsum(-1) <= num_spoken.unsqueeze(-1))
            there = (ids >= self.audio_offset).sum(-1, keepdim=True)
            expected = (codes * is_spoken).sum(-1, keepdim=True) + self.codes_before_text
            placed = torch.where(is_spoken, middles * there / expected, middles - expected + there)
            middles = torch.where(is_text & is_spoken.any(-1, keepdim=True), placed, middles)
        return torch.where(in_audio > 0, in_audio.cumsum(-1) - 1, middles.round().long())

    def check_codec(self, fingerprint: str) -> None:
        """Refuse the tokens of another codec.

        Raises:
            ValueError: If the fingerprint is another one; names both.
        """
        if fingerprint != self.codec_fingerprint:
            raise ValueError(
                f"these tokens are of codec {fingerprint!r}, the language model is for codec "
                f"{self.codec_fingerprint!r}; encode the audio with that codec"
            )

    def check_text(self, fingerprint: str) -> None:
        """Refuse another text tokenizer.

        Raises:
            ValueError: If the fingerprint is another one; names both.
        """
        if fingerprint != self.text_fingerprint:
            raise ValueError(
                f"this text tokenizer is {fingerprint!r}, the language model is for {self.text_fingerprint!r}; "
                "use the one saved with the model"
            )

    def save(self, folder: str | Path) -> None:
        """Write `layout.json` into a folder."""
        content = {"format": _FORMAT, "format_version": _VERSION, "specials": SPECIALS, **asdict(self)}
        (Path(folder) / LAYOUT_FILE).write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, codec_fingerprint: str | None = None) -> "Layout":
        """Read `layout.json` of a folder.

        Args:
            folder: Folder of a saved language model.
            codec_fingerprint: Fingerprint of the codec it is to be used with; not checked if it is None.

        Raises:
            ValueError: If the file is no layout, of another version, or for another codec.
        """
        path = Path(folder) / LAYOUT_FILE
        try:
            content = json.loads(path.read_text())
            found = content.pop("format"), content.pop("format_version"), tuple(content.pop("specials"))
            if found != (_FORMAT, _VERSION, SPECIALS):
                raise ValueError(f"expected {(_FORMAT, _VERSION, SPECIALS)}, got {found}")
            lists = {name: tuple(content.get(name, ())) for name in ("points_per_group", "codes_per_piece")}
            layout = cls(**content | lists)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is not a layout this program reads: {error}") from error
        if codec_fingerprint is not None:
            layout.check_codec(codec_fingerprint)
        return layout


def codes_to_indices(codes: Codes, points_per_group: Sequence[int]) -> list[Codes]:
    """Points (...) of each group, first group first, of codes (...)."""
    indices = []
    for size in points_per_group:
        indices.append(codes % size)
        codes = codes // size
    return indices


def indices_to_codes(indices: Sequence[Ids], points_per_group: Sequence[int]) -> Ids:
    """Codes (...) of the points (...) of each group, first group first."""
    places = [math.prod(points_per_group[:group]) for group in range(len(points_per_group))]
    codes = indices[0]  # the first place is 1
    for index, place in zip(indices[1:], places[1:], strict=True):
        codes = codes + index * place
    return codes


def checked_ids(values: Ids, first: int, stop: int, name: str) -> Ids:
    """The values as int64, if all are integers within `first` and `stop - 1`."""
    if isinstance(values, Tensor):
        integral = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
        wide = values.long()
    else:
        integral = np.issubdtype(values.dtype, np.integer) or not values.size  # an empty list makes a float array
        wide = values.astype(np.int64)
    if not integral:
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    wrong = wide[(wide < first) | (wide >= stop)]
    if len(wrong):
        raise ValueError(f"{name} must be within {first} and {stop - 1}, got {int(wrong[0])}")
    return wide
