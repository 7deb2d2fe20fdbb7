"""Pronunciations of words: a text tokenizer that has them reads phones where it knows a word, and letters where not.

The format is that of the CMU Pronouncing Dictionary: a line per word, `word PHONE PHONE ...`, `#` before comments,
`word(2)` for further pronunciations, which are left out. Any set of phones will do.
"""

import hashlib
import re
from bisect import bisect_left
from functools import cached_property
from pathlib import Path

import numpy as np

PRONUNCIATIONS_FILE = "pronunciations.txt"
_WORD = re.compile(r"[a-z][a-z']*")
_FIRST = 0xE000  # the private use area of Unicode: one character per phone, which no text has


class Pronunciations:
    """Phones of words.

    Args:
        content: Text of a dictionary file.

    Raises:
        ValueError: If it holds no word, or a word without phones.
    """

    def __init__(self, content: str):
        lines: dict[str, str] = {}
        for number, line in enumerate(content.split("\n"), start=1):
            word, *phones = line.split("#", 1)[0].split() or [""]
            if not word:
                continue
            if not phones:
                raise ValueError(f"line {number} of the pronunciations has no phones: {line[:40]!r}")
            if not word.endswith(")"):
                lines.setdefault(word.lower(), " ".join([word.lower(), *phones]))
        if not lines:
            raise ValueError("the pronunciations hold no word; expected lines like 'hello HH AH0 L OW1'")
        self._lines = sorted(lines.values())  # dictionaries of words and phones take five times the memory
        self.phones = sorted({phone for line in self._lines for phone in line.split(" ")[1:]})
        self._symbols = {phone: chr(_FIRST + number) for number, phone in enumerate(self.phones)}
        self.alphabet = "".join(self._symbols.values())

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and bool(self._phones_of(word))

    def _phones_of(self, word: str) -> list[str]:
        """Phones of a word in lower case; none if it is not known."""
        place = bisect_left(self._lines, f"{word} ")
        known, *phones = self._lines[place].split(" ") if place < len(self._lines) else [""]
        return phones if known == word else []

    @classmethod
    def load(cls, path: str | Path) -> "Pronunciations":
        """Read a dictionary file, or `pronunciations.txt` of a folder."""
        path = Path(path)
        return cls((path / PRONUNCIATIONS_FILE if path.is_dir() else path).read_text("utf-8-sig"))

    def save(self, folder: str | Path) -> None:
        """Write `pronunciations.txt` into a folder."""
        (Path(folder) / PRONUNCIATIONS_FILE).write_text(self._content(), "utf-8")

    def _content(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies words and phones."""
        return hashlib.sha256(self._content().encode()).hexdigest()[:16]

    def to_phones(self, text: str, spelled_share: float = 0.0, rng: np.random.Generator | None = None) -> str:
        """Normalised text with one private character per phone in the place of the words that are known.

        Args:
            text: As `normalize_text` gives it.
            spelled_share: Share of the known words that stay in letters, so that a model learns to read those too.
            rng: Chooses them.
        """

        def spelling(match: re.Match) -> str:
            """Spelling of one word."""
            if rng is not None and spelled_share and rng.random() < spelled_share:
                return match[0]
            return "".join(self._symbols[phone] for phone in self._phones_of(match[0])) or match[0]

        return _WORD.sub(spelling, text)

    def to_readable(self, text: str) -> str:
        """Text with the private characters of `to_phones` as phones between slashes."""
        names = {character: phone for character, phone in zip(self.alphabet, self.phones, strict=True)}
        run = re.compile(f"[{self.alphabet[0]}-{self.alphabet[-1]}]+")
        return run.sub(lambda match: f"/{' '.join(names[character] for character in match[0])}/", text)
