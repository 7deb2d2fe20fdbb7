"""Text for a language model: normalisation to a small alphabet, phones where a dictionary has them, sentencepiece."""

import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Container, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from . import english
from .pronunciations import PRONUNCIATIONS_FILE, Pronunciations

_SPACE, _PUNCTUATION = "▁", ".,?!"  # the first is sentencepiece's
ALPHABET = "abcdefghijklmnopqrstuvwxyz' .,?!"
TEXT_FILE = "text.model"
# What Unicode does not decompose, or not as it is read. Casefold has made ss of the sharp s.
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"})
_LOOKALIKES = str.maketrans(
    dict.fromkeys("’‘ʼʹ′´`＇‛ʻꞌ", "'")
    | dict.fromkeys("“”„‟″«»＂", '"')
    | dict.fromkeys("‐‑−⁃", "-")
    | dict.fromkeys("—―", "—")
    | {"⁄": "/", "º": "°", "№": "No. ", "™": "", "®": "", "℠": "", "…": "...", "µ": "μ"}
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_APART = ("<fraction>", "<sub>", "<circle>", "<square>")  # forms that stand apart from their neighbours
_SILENT = frozenset("\"()[]{}<>/|*_~^•·¿¡-–—:;'") | frozenset(ALPHABET)
_LAST_RULES = (
    (re.compile(r"\s-+\s|--+|[–—;:]"), ", "),
    (re.compile(r"(?<![a-z])'|'(?![a-z])"), " "),  # quotation marks
    (re.compile(f"[^{re.escape(ALPHABET)}]"), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(r" (?=[.,?!])"), ""),
    (re.compile(r"([.,?!])[.,?!]+"), r"\1"),
    (re.compile(r"([.,?!])(?=[a-z])"), r"\1 "),
    (re.compile(r"^[ .,?!]+"), ""),
)


def normalize_text(text: str, known: Container[str] = ()) -> str:
    """Text as it is read aloud, in the letters a to z, apostrophe, space and `.,?!`.

    In this order:

    1. characters that only look different become plain ones, invisible ones go; superscripts, fractions and the like
       stay apart from their neighbours;
    2. the rules of English write numbers, amounts, dates, abbreviations, addresses and symbols as words;
    3. lower case, accents dropped ("Café" -> "cafe");
    4. dashes, colons and semicolons become commas; hyphens, quotation marks, brackets and slashes become spaces;
    5. whatever else is not in the alphabet becomes a space, and one warning names it: other scripts and emoji;
    6. repeated spaces and punctuation marks become one.

    Args:
        text: Any text.
        known: Words with a pronunciation; other words in capitals are spelled.

    Returns:
        The text; empty if nothing of it can be read.

    Raises:
        ValueError: If it is no string.
        ImportError: If there are numbers in it and num2words is missing.
    """
    if not isinstance(text, str):
        raise ValueError(f"a text must be a string, got {type(text).__name__}")
    text = english.to_words(_plain(text), known)
    text = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS)).translate(_LETTERS)
    text = "".join(character for character in text if not unicodedata.combining(character))
    unread = sorted({character for character in text if character not in _SILENT and not character.isspace()})
    if unread:
        warnings.warn(f"not read, since no rule knows them: {' '.join(unread[:20])}", stacklevel=2)
    for pattern, replacement in _LAST_RULES:
        text = pattern.sub(replacement, text)
    return text.strip()


def _plain(text: str) -> str:
    """Text without invisible characters, with plain quotation marks, spaces, digits and letters."""
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda match: f"^{match[0].translate(_SUPERSCRIPTS)}", text)
    text = re.sub(
        r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))|(?<=\d)(?: (?=000)|'(?=\d{3}))(?=\d{3}(?!\d))",
        "",
        text.translate(_LOOKALIKES),
    )
    return "".join(map(_plain_character, text))


@cache
def _plain_character(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Cc", "Mn") and not character.isspace():
        return character if unicodedata.combining(character) else ""
    if unicodedata.category(character) == "Zs":
        return " "
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    kind = unicodedata.decomposition(character).partition(" ")[0]
    if not kind.startswith("<"):
        return character
    plain = unicodedata.normalize("NFKC", character).translate(_LOOKALIKES)
    return f" {plain} " if kind in _APART else plain


def split_text(text: str, longest: int, known: Container[str] = ()) -> list[str]:
    """Normalised text in parts to be spoken one after another: whole sentences, as many as fit.

    A sentence that is too long is cut behind commas, then between words, and a word that is too long anywhere.

    Args:
        text: Any text.
        longest: Most characters of a part.
        known: See `normalize_text`.

    Raises:
        ValueError: If `longest` is less than 1.
    """
    if longest < 1:
        raise ValueError(f"a part of a text must be at least 1 character long, got {longest}")
    parts: list[str] = []
    for pattern in (r"(?<=[.?!]) ", r"(?<=,) ", " "):
        units = parts or [normalize_text(text, known)]
        parts = []
        for unit in units:
            parts += [unit] if len(unit) <= longest else _joined(re.split(pattern, unit), longest)
    return [part[i : i + longest] for part in parts for i in range(0, len(part), longest)]


def _joined(units: list[str], longest: int) -> list[str]:
    """Neighbours joined by spaces as long as that is not too long."""
    joined = units[:1]
    for unit in units[1:]:
        if len(joined[-1]) + 1 + len(unit) <= longest:
            joined[-1] += f" {unit}"
        else:
            joined.append(unit)
    return joined


class TextTokenizer:
    """Normalised text to pieces and back, by sentencepiece.

    Args:
        model: Content of a sentencepiece model file, as `train_text_tokenizer` makes it.
        pronunciations: Those it was trained with, if any: words in them become phones first.

    Raises:
        ImportError: If sentencepiece is missing.
        ValueError: If this is no sentencepiece model.
    """

    def __init__(self, model: bytes, pronunciations: Pronunciations | None = None):
        self.model = model
        self.pronunciations = pronunciations
        try:
            self._processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"not a sentencepiece model: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "TextTokenizer":
        """Read `text.model` of a folder, with `pronunciations.txt` if that is there, or a model file alone."""
        path = Path(path)
        if not path.is_dir():
            return cls(path.read_bytes())
        has_pronunciations = (path / PRONUNCIATIONS_FILE).exists()
        return cls((path / TEXT_FILE).read_bytes(), Pronunciations.load(path) if has_pronunciations else None)

    def save(self, folder: str | Path) -> None:
        """Write `text.model` and, if there are pronunciations, `pronunciations.txt`; what else was there is deleted."""
        (Path(folder) / TEXT_FILE).write_bytes(self.model)
        (Path(folder) / PRONUNCIATIONS_FILE).unlink(missing_ok=True)
        if self.pronunciations:
            self.pronunciations.save(folder)

    @property
    def size(self) -> int:
        """Number of pieces."""
        return self._processor.get_piece_size()

    @property
    def fingerprint(self) -> str:
        """Identifies the model file and the pronunciations."""
        content = self.model + (self.pronunciations.fingerprint.encode() if self.pronunciations else b"")
        return hashlib.sha256(content).hexdigest()[:16]

    def pieces_with_scores(self) -> list[tuple[str, float]]:
        """Every piece with its log probability, in the order of their numbers, for other readers of text."""
        return [(self._processor.id_to_piece(i), self._processor.get_score(i)) for i in range(self.size)]

    @property
    def may_be_silent(self) -> np.ndarray:
        """Which pieces (size,) may have no sound: all but those with a phone."""
        phones = set(self.pronunciations.alphabet if self.pronunciations else "")
        pieces = [self._processor.id_to_piece(number) for number in range(self.size)]
        return np.array([not phones.intersection(piece) for piece in pieces])

    @property
    def known(self) -> Container[str]:
        """Words with a pronunciation, for `normalize_text`."""
        return self.pronunciations or ()

    def encode(self, text: str, spelled_share: float = 0.0, rng: np.random.Generator | None = None) -> np.ndarray:
        """Pieces (n,) int64 of a text of any kind; none if nothing is left after normalisation.

        Args:
            text: What is to be read.
            spelled_share: Share of the words with a pronunciation that are given in letters, for training.
            rng: Chooses them.
        """
        text = normalize_text(text, self.known)
        if self.pronunciations:
            text = self.pronunciations.to_phones(text, spelled_share, rng)
        return np.array(self._processor.encode(text), dtype=np.int64)

    def words(self, text: str) -> list[str]:
        """Words of a text as they are read, without punctuation."""
        return [word for part in normalize_text(text, self.known).split() if (word := part.strip(_PUNCTUATION))]

    def words_of(self, pieces: np.ndarray) -> np.ndarray:
        """Which word of `words` each piece (n,) belongs to; -1 for spaces and punctuation alone."""
        names = [self._processor.id_to_piece(int(piece)) for piece in pieces]
        word, begins, owners = -1, True, []
        for name in names:
            begins = begins or name.startswith(_SPACE)
            sounds = bool(name.strip(_SPACE + _PUNCTUATION))
            word += begins and sounds
            begins = begins and not sounds
            owners.append(word if sounds else -1)
        return np.array(owners, dtype=np.int64)

    def decode(self, pieces: np.ndarray) -> str:
        """Normalised text of pieces (n,), with words that were read as phones in slashes."""
        text = self._processor.decode([int(piece) for piece in pieces])
        return self.pronunciations.to_readable(text) if self.pronunciations else text


def train_text_tokenizer(
    texts: Iterable[str], size: int, pronunciations: Pronunciations | None = None
) -> TextTokenizer:
    """Fit a text tokenizer to texts; every letter of the alphabet gets a piece, so that no text is unknown to it.

    Args:
        texts: Any texts; they are normalised.
        size: Number of pieces, at most; less if the texts do not give that many.
        pronunciations: Words to be read as phones; every phone gets a piece too.

    Raises:
        ImportError: If sentencepiece is missing.
        ValueError: If no text is left after normalisation, or `size` does not hold the alphabet.
    """
    sentences = [sentence for text in texts if (sentence := normalize_text(text, pronunciations or ()))]
    if not sentences:
        raise ValueError("no text to train on: nothing is left after normalisation")
    alphabet = ALPHABET
    if pronunciations:
        sentences = [pronunciations.to_phones(sentence) for sentence in sentences]
        alphabet += pronunciations.alphabet
    if size < len(alphabet) + 1:
        raise ValueError(
            f"size must be at least {len(alphabet) + 1}, one piece per letter and phone and 'unknown', got {size}"
        )
    out = io.BytesIO()
    _sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=out,
        vocab_size=size,
        hard_vocab_limit=False,
        required_chars=alphabet.replace(" ", ""),
        character_coverage=1.0,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=-1,  # the layout of the language model has its own specials
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return TextTokenizer(out.getvalue(), pronunciations)


def _sentencepiece():
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError("text needs sentencepiece: pip install q2d2-tokenizer[train]") from error
    return sentencepiece
