"""English words for numbers written in digits."""

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ["", "thousand", "million", "billion", "trillion"]
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_MONEY = {"$": ("dollar", "dollars", "cents"), "£": ("pound", "pounds", "pence"), "€": ("euro", "euros", "cents")}
_DIGITS = r"\d{1,3}(?:,\d{3})+|\d+"


def cardinal(number: int) -> str:
    """Words of a number from 0 to 10**15 - 1: 105 -> "one hundred five".

    Raises:
        ValueError: If the number is out of range.
    """
    if not 0 <= number < 1000 ** len(_SCALES):
        raise ValueError(f"number must be within 0 and {1000 ** len(_SCALES) - 1}, got {number}")
    groups = []
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(f"{_below_thousand(group)} {scale}".strip())
    return " ".join(reversed(groups)) or "zero"


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [_ONES[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS[rest // 10])
        rest %= 10
    if rest:
        words.append(_ONES[rest])
    return " ".join(words)


def digit_by_digit(digits: str) -> str:
    """Words of single digits: "007" -> "zero zero seven"."""
    return " ".join(_ONES[int(digit)] for digit in digits)


def ordinal(number: int) -> str:
    """Words of a rank: 21 -> "twenty first"."""
    *head, last = cardinal(number).split()
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return " ".join([*head, last])


def year(number: int) -> str:
    """Words of a four-digit year: 1905 -> "nineteen oh five", 2005 -> "two thousand five"."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def _whole(digits: str) -> str:
    plain = digits.replace(",", "")
    if len(plain) > 15 or (len(plain) > 1 and plain[0] == "0"):
        return digit_by_digit(plain)
    if len(digits) == 4 and (1100 <= int(plain) < 2000 or 2010 <= int(plain) < 2100):
        return year(int(plain))
    return cardinal(int(plain))


def _plural(words: str) -> str:
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}es" if words.endswith("x") else f"{words}s"


def _money(match: re.Match) -> str:
    symbol, whole, cents, scale = match.groups()
    one, many, small = _MONEY[symbol]
    if scale:
        return f" {_whole(whole)}{f' point {digit_by_digit(cents)}' if cents else ''} {scale} {many} "
    # Read as an amount: $1999 is no year.
    amount = whole.replace(",", "")
    number = cardinal(int(amount)) if len(amount) <= 15 else digit_by_digit(amount)
    words = f"{number} {one if amount == '1' else many}"
    if cents and len(cents) == 2 and int(cents):
        words += f" and {cardinal(int(cents))} {small}"
    elif cents and int(cents):
        words = f"{number} point {digit_by_digit(cents)} {many}"
    return f" {words} "


def _time(match: re.Match) -> str:
    hours, minutes = int(match[1]), int(match[2])
    if minutes == 0:
        return f" {cardinal(hours)} o'clock "
    return f" {cardinal(hours)} {'oh ' if minutes < 10 else ''}{cardinal(minutes)} "


_RULES = (
    (re.compile(rf"([$£€])\s?({_DIGITS})(?:\.(\d+))?(?: (hundred|thousand|million|billion|trillion)\b)?"), _money),
    (re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b"), _time),
    (re.compile(r"\b(\d{4}|\d0)'?s\b"), lambda match: f" {_plural(_whole(match[1]))} "),
    (re.compile(r"\b(\d{1,15})(?:st|nd|rd|th)\b"), lambda match: f" {ordinal(int(match[1]))} "),
    (re.compile(r"(?<!\w)-(?=\d)"), lambda match: " minus "),
    (re.compile(rf"({_DIGITS})\.(\d+)"), lambda match: f" {_whole(match[1])} point {digit_by_digit(match[2])} "),
    (re.compile(_DIGITS), lambda match: f" {_whole(match[0])} "),
)


def numbers_to_words(text: str) -> str:
    """Replace the numbers in a lower-case text by English words.

    Amounts of $, £ and €; times like 10:30; decades like 1960s; ranks like 21st; negative and decimal numbers; and
    whole numbers. Four digits from 1100 to 1999 and from 2010 to 2099 are years: "nineteen sixty three". Numbers of
    more than 15 digits or with a leading zero are read digit by digit.
    """
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return text
