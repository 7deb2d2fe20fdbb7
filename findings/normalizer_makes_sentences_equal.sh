#!/usr/bin/env bash
# transformers 5.24.0, EnglishTextNormalizer of Whisper, through which published English word error rates go.
#
# Behaviour: numbers that follow each other are written together, across words, hyphens, commas and even full stops, so
# sentences with different words become equal and count as no error: "one nine" is "nineteen", and the three of "I ate
# three. Five were left" joins the five. "oh" and "o" are a zero before anything, so "two o'clock" is "20 clock" and
# "O'Neil" is "0 neil". Sums of money come out broken: "$1.50" and "one dollar fifty cents" become " one.50", with no
# dollar, and "1.000" becomes "one".
# Seen: equal texts for sentences of different words. Expected: that they differ, as a count of word errors needs it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

normalize = EnglishTextNormalizer({})
print("transformers", version("transformers"))
pairs = (
    ("He scored one, nine times.", "He scored nineteen times."),
    ("I ate three. Five were left.", "I ate thirty-five were left."),
    ("They are three seven-year-olds.", "They are thirty-seven year olds."),
    ("Meet me at two o'clock.", "Meet me at twenty clock."),
)
for one, two in pairs:
    print(f"{one!r} and {two!r} are {normalize(one)!r} and {normalize(two)!r}")
    assert normalize(one) == normalize(two), "they differ now"
for text in ("O'Neil", "oh dear", "$1.50", "$2.50", "1.000"):
    print(f"{text!r} is {normalize(text)!r}")
assert normalize("O'Neil") == "0 neil"
assert "$" not in normalize("$1.50") and "$" in normalize("$2.50"), "one dollar keeps its sign now"
PYTHON
