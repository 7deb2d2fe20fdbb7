"""When each word of a text is spoken in a recording, by the alignment that is saved with a language model."""

import warnings
from dataclasses import dataclass

import numpy as np

from .alignment import Alignment
from .model import LanguageModel
from .text import TextTokenizer

_FASTEST = 2.0  # times the usual pace; nobody speaks faster than that for long


@dataclass(frozen=True)
class WordTime:
    """A word as it is read aloud, and where its sound begins and ends, in seconds."""

    word: str
    start: float
    end: float

    def __str__(self) -> str:
        """A line of a label track, as Audacity reads it."""
        return f"{self.start:.3f}\t{self.end:.3f}\t{self.word}"


def require_alignment(language_model: LanguageModel) -> tuple[TextTokenizer, Alignment]:
    """The tokenizer and the alignment of a language model.

    Raises:
        ValueError: If it has none.
    """
    tokenizer, alignment = language_model.text, language_model.alignment
    if tokenizer is None or alignment is None:
        raise ValueError("this language model has no alignment; train one with --text_positions durations")
    return tokenizer, alignment


def word_times(
    language_model: LanguageModel, text: str, codes: np.ndarray, frame_rate: float, offset: float = 0.0
) -> list[WordTime]:
    """When each word of a text is spoken, to one frame.

    Pauses between words belong to none. The words are those that are read: numbers and abbreviations as words. A text
    that is too long for its recording gives a warning, and times that mean nothing.

    Args:
        language_model: A model with an alignment.
        text: What is said.
        codes: Codes (T,) of the recording.
        frame_rate: Codes per second.
        offset: Seconds before the recording begins.

    Raises:
        ValueError: If the model has no alignment, or there is nothing to read in the text.
    """
    tokenizer, alignment = require_alignment(language_model)
    pieces = tokenizer.encode(text)
    if not len(pieces) or not len(codes):
        raise ValueError(
            f"there is nothing to align: {len(pieces)} pieces of the text {text[:40]!r}, {len(codes)} codes"
        )
    starts = alignment.starts([np.asarray(codes)], [pieces])[0]
    owners, found = tokenizer.words_of(pieces), []
    for number, word in enumerate(tokenizer.words(text)):
        own = np.flatnonzero(owners == number)
        first, end = starts[own[0]], starts[own[-1] + 1]
        found.append(WordTime(word, offset + float(first / frame_rate), offset + float(end / frame_rate)))
    usual = float(alignment.expected[pieces].sum())
    if usual > _FASTEST * len(codes) or any(word.start == word.end for word in found):
        warnings.warn(
            f"the text is too long for its recording, so its times mean nothing: it takes about "
            f"{usual / frame_rate:.1f} s, the recording has {len(codes) / frame_rate:.1f} s; is it what is said there?",
            stacklevel=2,
        )
    return found
