"""English as it is read aloud: addresses, abbreviations, names, dates, times, amounts, numbers and symbols in words.

Every rule takes a whole expression (a number with its sign, currency, fraction, suffix and unit is one), so that no
rule sees a part of what another one should read. The readings are those of American English; number words come from
num2words, without "and" and hyphens: 105 is "one hundred five".
"""

import re
import unicodedata
from collections.abc import Callable, Container
from datetime import date


def _table(entries: str) -> dict[str, str]:
    """What is written and how it is read, from "mr mister; mrs missus"."""
    return {key: words for key, words in (entry.split(maxsplit=1) for entry in entries.strip().split("; "))}


_DIGIT_WORDS = "zero one two three four five six seven eight nine".split()
_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = rf"({'|'.join(rf'{name}|{name[:3]}' for name in _MONTHS if name != 'May')}|Sept|May)"

# Abbreviations with a full stop. Titles stand before a name, so that a sentence never ends there.
_TITLES = _table(
    """
    mr mister; mrs missus; ms miz; dr doctor; st saint; prof professor; capt captain; col colonel; gen general;
    maj major; lieut lieutenant; lt lieutenant; sgt sergeant; rev reverend; hon honorable; gov governor; messrs
    messieurs; drs doctors; vs versus; approx approximately; e.g for example; i.e that is
    """
)
_CLOSING = _table(
    """
    jr junior; sr senior; etc et cetera; inc incorporated; ltd limited; corp corporation; dept department; ave
    avenue; blvd boulevard; ph.d p h d; ll.d l l d
    """
)
_BEFORE_NUMBERS = _table("no number; nos numbers; vol volume; p page; pp pages; fig figure; ca circa")
# A capital behind an abbreviation begins a sentence if the word is one of these, and a name if not: "the U.S. Army".
_STARTERS = frozenset(
    """a after all also although an and another are as at because before both but by did do does during each every
    few for from had has have he her here his how however i if in is it its later many meanwhile more most my never
    next no nobody nothing now of on once one only or our perhaps she since so some soon such that the their then
    there these they this those though to today tomorrow under until we were what when where which while who why will
    with would yes yesterday yet you your""".split()
)
_ALWAYS_SPELLED = {"US", "UN", "AI", "ID", "AD"}  # in dictionaries as other words
_NEVER_SPELLED = {"COVID"}  # in no dictionary yet
_OFTEN_SPELLED = {"IV", "FBI", "CIA", "USA", "UK", "EU", "IBM", "UFO", "USB", "API", "CEO", "BCE", "CE"}
_NUMBERED = """chapter part volume book act scene section article appendix war phase type class figure table title level
    stage grade bowl unit lesson mark""".split()
_RULERS = """henry louis charles george edward james william richard elizabeth philip napoleon nicholas alexander
    frederick catherine mary otto ivan peter paul pius benedict leo gregory innocent clement urban ferdinand francis
    leopold wilhelm ramses ptolemy ludwig xavier harald gustav""".split()

_SYMBOLS = _table(
    """
    & and; % percent; + plus; = equals; @ at; ° degrees; § section; © copyright; × times; ÷ divided by; < less
    than; > greater than; ≤ at most; ≥ at least; ≈ about; $ dollars; £ pounds; € euros; ¥ yen; ₹ rupees; ¢ cents; #
    hash; \\ backslash
    """
)
_IN_ADDRESSES = _table(". dot; / slash; @ at; - dash; _ underscore; : colon; ? question mark")
_DOLLAR, _POUND, _EURO = ("dollar", "dollars", "cent"), ("pound", "pounds", "penny"), ("euro", "euros", "cent")
_YEN, _RUPEE = ("yen", "yen", ""), ("rupee", "rupees", "paisa")
_CURRENCIES = {"$": _DOLLAR, "£": _POUND, "€": _EURO, "¥": _YEN, "₹": _RUPEE}
_CURRENCIES |= {"US$": ("u s dollar", "u s dollars", "cent"), "C$": ("canadian dollar", "canadian dollars", "cent")}
_CURRENCIES |= {"A$": ("australian dollar", "australian dollars", "cent"), "¢": ("cent", "cents", "")}
_CURRENCIES |= {"USD": _DOLLAR, "EUR": _EURO, "GBP": _POUND, "JPY": _YEN}
_SCALES = _table("k thousand; m million; mn million; b billion; bn billion; t trillion; tn trillion")
_SCALE_WORDS = "hundred|thousand|million|billion|trillion"
_PREFIXES = _table(
    "k kilo; c centi; m milli; M mega; G giga; T tera; n nano; d deci; µ micro; μ micro; h hecto; K kilo"
)
_UNITS = _table(
    """
    m meter; g gram; l liter; L liter; s second; h hour; V volt; W watt; Wh watt hour; J joule; Hz hertz; hr
    hour; hrs hour; min minute; mins minute; sec second; secs second; ft foot; lb pound; lbs pound; oz ounce; mi
    mile; yd yard; mph mile per hour; kph kilometer per hour; ha hectare; dB decibel; °C degree celsius; °F
    degree fahrenheit; ° degree; % percent
    """
)
# What takes a prefix, the last of these only with one.
_PREFIXED = {"m", "g", "l", "L", "s", "V", "W", "Wh", "J", "Hz", "B", "Pa", "cal", "A", "bps"}
_WITH_PREFIX = {"B": "byte", "Pa": "pascal", "cal": "calorie", "A": "ampere", "bps": "bit per second"}
_PREFIXED_UNITS = {
    prefix + unit: prefix_word + (_UNITS | _WITH_PREFIX)[unit]
    for prefix, prefix_word in _PREFIXES.items()
    for unit in _PREFIXED
    if prefix + unit not in _UNITS
}
_ALL_UNITS = _UNITS | _PREFIXED_UNITS | {"KM": "kilometer", "Km": "kilometer", "KG": "kilogram", "Kg": "kilogram"}

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!,?\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!,?\d)|\d+)"
_AMOUNT = rf"(?:{_WHOLE}(?:\.\d+)?|\.\d+)"
_UNIT = "|".join(map(re.escape, sorted(_ALL_UNITS, key=len, reverse=True)))
_CODES = "USD|EUR|GBP|JPY"
_NUMBER = re.compile(
    rf"""(?P<sign>(?<![\w)\]])[-+±])?
    (?P<currency>(?:\b(?:US|A|C))?\$|[£€¥₹]|\b(?:{_CODES})(?=\s))?\s?
    (?P<minus>(?<=[$£€¥₹])-)?
    (?P<number>(?<![\w.])\.\d+|{_WHOLE}(?:\.\d+)?)
    (?:[eE](?P<power_of_ten>[-+]?\d+)(?!\w))?
    (?:\^(?P<power>[-+]?\d+))?
    (?:/(?P<divisor>\d+)(?![\d/])|[ ](?P<over>\d+)/(?P<under>\d+)(?![\d/]))?
    (?:\s?[-–](?P<upto>{_AMOUNT})(?![-–/]?\d))?
    (?:(?P<rank>(?:st|nd|rd|th|ST|ND|RD|TH)\b)
      |(?P<decade>'?s\b)
      |(?P<scale>[\s-](?:{_SCALE_WORDS})\b|\s?(?:[mb]n|tn)\b|[kM]\b(?!\^|/)|(?<=\d)(?(currency)[mbBKT]|[BKT])\b)?
       (?:\s?(?P<behind>[$€£¥₹¢]|(?:{_CODES})\b)
         |(?P<hyphen>[\s-]?)(?P<unit>{_UNIT})(?P<square>\^?[23])?(?:/(?P<per>{_UNIT}))?(?![\w%°])(?:\.(?=\s[a-z]))?)?
    )""",
    re.VERBOSE,
)


def cardinal(number: int) -> str:
    """Words of a number: 105 -> "one hundred five"; of more than 15 digits one digit after the other."""
    return digit_by_digit(str(number)) if number >= 10**15 else _words(number, "cardinal")


def ordinal(number: int) -> str:
    """Words of a rank: 21 -> "twenty first"."""
    return _words(number, "ordinal")


def year(number: int) -> str:
    """Words of a year: 1905 -> "nineteen oh five", 2005 -> "two thousand five"."""
    return _words(number, "year")


def digit_by_digit(digits: str) -> str:
    """Words of single digits: "007" -> "zero zero seven"; anything else between them is left out."""
    return " ".join(_DIGIT_WORDS[int(digit)] for digit in digits if digit.isdigit())


def _words(number: int, kind: str) -> str:
    try:
        from num2words import num2words
    except ImportError as error:
        raise ImportError("numbers in text need num2words: pip install q2d2-tokenizer[train]") from error
    return re.sub(r",| and\b", "", num2words(number, to=kind)).replace("-", " ")


def _amount(number: str, may_be_year: bool = False) -> str:
    """Words of digits with commas and a decimal point."""
    whole, point, decimals = number.partition(".")
    digits = whole.replace(",", "")
    if len(digits) > 1 and digits[0] == "0":
        words = digit_by_digit(digits)
    elif may_be_year and len(whole) == 4 and not point and (1100 <= int(digits) < 2000 or 2010 <= int(digits) < 2100):
        words = year(int(digits))
    else:
        words = cardinal(int(digits)) if digits and len(digits) <= 15 else digit_by_digit(digits)
    return f"{words} point {digit_by_digit(decimals)}".strip() if point else words


def _fraction(over: str, under: str) -> str:
    """Words of a fraction, read as one if it looks like one: 5/8 -> "five eighths", 22/7 -> "twenty two over seven"."""
    if over == under or (over, under) in (("24", "7"), ("9", "11")):
        return f"{_amount(over)} {_amount(under)}"
    is_common = under in "2 3 4 5 6 7 8 9 10 12 16 20 32 64 100".split() and len(over) < 3
    if not (is_common and 0 < int(over) < int(under)):
        return f"{_amount(over)} over {_amount(under)}"
    name = {2: "half", 4: "quarter"}.get(int(under)) or ordinal(int(under))
    return f"{_amount(over)} {name if int(over) == 1 else _plural(name)}"


def _plural(words: str) -> str:
    first, per, rest = words.partition(" per ")
    irregular = {"half": "halves", "foot": "feet", "penny": "pence", "yen": "yen", "paisa": "paisa"}
    if first.endswith(("percent", "hertz")):
        plural = first
    elif first.startswith("degree "):
        plural = first.replace("degree", "degrees")
    elif first.endswith("ty"):
        plural = f"{first[:-1]}ies"
    else:
        *before, last = first.split()
        plural = " ".join([*before, irregular.get(last) or f"{last}{'es' if last == 'six' else 's'}"])
    return plural + per + rest


def _money(number: str, currency: str, scale: str) -> str:
    """Words of an amount: 3.50 -> "three dollars and fifty cents"; an amount is never a year."""
    one, many, small = _CURRENCIES[currency]
    whole, _, decimals = number.partition(".")
    whole = whole.replace(",", "") or "0"
    if scale or len(decimals) not in (0, 2) or not small and decimals:
        plain = not scale and not decimals.strip("0") and whole == "1"
        return f"{_amount(number)} {scale} {one if plain else many}"
    units = f"{_amount(whole)} {one if whole == '1' else many}"
    if not int(decimals or 0):
        return units
    smaller = f"{cardinal(int(decimals))} {small if int(decimals) == 1 else _plural(small)}"
    return smaller if whole == "0" else f"{units} and {smaller}"


def _number(match: re.Match) -> str:
    """Words of a number with all that belongs to it."""
    part = {name: value or "" for name, value in match.groupdict().items()}
    sign = {"-": "minus ", "+": "plus ", "±": "plus or minus ", "": ""}[part["sign"] or part["minus"]]
    return f" {sign}{_with_suffix(part)} "


def _with_suffix(part: dict[str, str]) -> str:
    number, digits = part["number"], part["number"].replace(",", "")
    if part["rank"] and digits.isdigit() and len(digits) <= 15 and not (part["upto"] or part["divisor"]):
        return ordinal(int(digits))
    if part["decade"]:
        words = _amount(number, may_be_year=True)
        return _plural(words) if digits[-1] == "0" else f"{words}{part['decade']}"
    scale = _scale(part)
    currency = part["currency"] or part["behind"]
    if currency and not (part["divisor"] or part["over"] or part["power"] or part["power_of_ten"]):
        last = part["upto"] or number
        first = f"{_amount(number)} to " if part["upto"] else ""
        return first + _money(last, currency, scale) + _of_unit(part, last)
    is_bare = not (scale or part["unit"] or currency or part["sign"] or "," in number)
    words = _value(part, is_bare)
    if scale:
        words += f" {scale}"
    if currency:
        words += f" {_CURRENCIES[currency][1]}"
    return words + _of_unit(part, part["upto"] or number)


def _value(part: dict[str, str], may_be_year: bool) -> str:
    """Words of the number alone, with its fraction, power or the other end of its range."""
    if part["divisor"] and part["number"].isdigit():
        return _fraction(part["number"], part["divisor"])
    if part["divisor"]:
        return f"{_amount(part['number'])} over {_amount(part['divisor'])}"
    words = _amount(part["number"], may_be_year)
    if part["power_of_ten"]:
        words += f" times ten {_power(part['power_of_ten'])}"
    if part["power"]:
        words += f" {_power(part['power'])}"
    if part["over"]:
        words += f" and {_fraction(part['over'], part['under'])}"
    if part["upto"]:
        words += f" to {_amount(part['upto'], may_be_year)}"
    return words


def _power(exponent: str) -> str:
    if exponent in ("2", "3"):
        return "squared" if exponent == "2" else "cubed"
    return f"to the {'minus ' if exponent[0] == '-' else ''}{ordinal(int(exponent.lstrip('+-')[:15]))}"


def _scale(part: dict[str, str]) -> str:
    """Word of the scale behind a number; letters say it too: "$2.5M", "10k"; "4K" and "2B" are names."""
    scale = part["scale"].strip(" -")
    if len(scale) != 1:
        return _SCALES.get(scale, scale)
    if part["currency"] or scale in ("", "k", "M") or (scale == "B" and "." in part["number"]):
        return _SCALES.get(scale.lower(), "")
    return scale


def _of_unit(part: dict[str, str], number: str) -> str:
    """Unit behind a number, in the singular for one and for a compound such as "a 5-km run"."""
    if not part["unit"]:
        return ""
    unit = {"2": "square ", "3": "cubic ", "": ""}[part["square"].strip("^")] + _ALL_UNITS[part["unit"]]
    is_one = number == "1" and not (part["over"] or part["upto"]) or part["divisor"] or part["hyphen"] == "-"
    return f" {unit if is_one else _plural(unit)}" + (f" per {_ALL_UNITS[part['per']]}" if part["per"] else "")


def _time(match: re.Match) -> str:
    hours, minutes, seconds, half = int(match[1]), int(match[2]), match[3], match[4]
    if hours > 24 or minutes > 59:
        return f" {_amount(match[1])} to {_amount(match[2])} " if not seconds else match[0].replace(":", " ")
    words = cardinal(hours)
    if minutes:
        words += f" {'oh ' if minutes < 10 else ''}{cardinal(minutes)}"
    elif not half and not seconds:
        words += " hundred" if hours > 12 else " o'clock"
    if seconds:
        words += f" and {cardinal(int(seconds))} seconds"
    return f" {words} {f'{half.lower()} m' if half else ''} "


def _date(year_digits: str, month: int, day: int, otherwise: str) -> str:
    """Words of a date, or else what is read of digits that are none, such as those of February 30."""
    try:
        date(int(year_digits), month, day)
    except ValueError:
        return otherwise
    return f" {_MONTHS[month - 1]} {ordinal(day)}, {_amount(year_digits, True)} "


def _slashed_date(match: re.Match) -> str:
    first, second = int(match[1]), int(match[2])
    month, day = (second, first) if first > 12 else (first, second)  # the American order where both are possible
    century = "" if len(match[3]) == 4 else "20" if match[3] < "50" else "19"
    return _date(century + match[3], month, day, match[0].replace("/", " "))


def _groups_of_digits(match: re.Match) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return f" {plus}{', '.join(map(digit_by_digit, re.findall('[0-9]+', match[0])))} "


def _address(match: re.Match) -> str:
    body = match[0].rstrip(".,;:!?)]'\"")
    rest = match[0][len(body) :]
    body = re.sub(r"^\w+://|/$", "", body)
    body = re.sub(r"^www(?=\.)", "w w w", body)
    words = re.sub(r"[./@:?_-]", lambda found: f" {_IN_ADDRESSES[found[0]]} ", body)
    return f" {words.lower()}{rest} "


def _ends_sentence(text: str, end: int, before_any_name: bool = False) -> bool:
    """Whether the full stop of an abbreviation that stops at `end` also ends a sentence."""
    rest = re.sub(r"^[\"')\]”’]+", "", text[end:])
    if not rest.strip():
        return True
    following = re.match(r"\s+[\"'(\[“‘]*([A-Z][A-Za-z]*)\b(?!\.[A-Z\s])", rest)
    return following is not None and (before_any_name or following[1].lower() in _STARTERS)


def _abbreviation(match: re.Match) -> str:
    word, text = match[1].lower(), match.string
    if word == "st" and re.search(r"[A-Z][a-z]+ $", text[: match.start()]):
        if not re.match(r"\s[A-Z]", text[match.end() :]) or _ends_sentence(text, match.end()):
            return "street" + ("." if _ends_sentence(text, match.end()) else "")
    if word in _TITLES:
        return _TITLES[word]
    return _CLOSING[word] + ("." if _ends_sentence(text, match.end(), word == "etc") else "")


def _initials(match: re.Match) -> str:
    """Letters with full stops: "the U.S. Army", "L.J. Lewis", "at 5 p.m. The dog barked."."""
    return " ".join(match[1].replace(".", "")) + ("." if _ends_sentence(match.string, match.end()) else "")


def _capitals(match: re.Match, known: Container[str], is_mixed: bool) -> str:
    """A word in capitals: letter by letter if it is no word that the dictionary knows."""
    word = match[1]
    is_spelled = not re.search("[AEIOUY]", word) or (is_mixed if known else word in _OFTEN_SPELLED)
    is_word = word.lower() in known or word in _NEVER_SPELLED
    if not (is_mixed and word in _ALWAYS_SPELLED) and (is_word or not is_spelled):
        return match[0]
    return f" {' '.join(word)}{chr(39) + 's' if match[2] else ''} "


def _roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[letter] for letter in numeral]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def _numbered(match: re.Match) -> str:
    """A name with a Roman numeral: "Chapter IV" -> "Chapter four", "Henry VIII" -> "Henry the eighth"."""
    number = _roman(match[2])
    if match[1].lower() in _RULERS:
        return f"{match[1]} the {ordinal(number)}"
    return f"{match[1]} {cardinal(number)}"


_ROMAN = r"((?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))"
_RULER, _THING = ("|".join(map(str.capitalize, names)) for names in (_RULERS, _NUMBERED))
_Replacement = str | Callable[[re.Match], str]
_RULES: tuple[tuple[re.Pattern, _Replacement], ...] = (
    (re.compile(r"(?:\bhttps?://|\bwww\.)[^\s<>\"]+|\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE), _address),
    (re.compile(r"\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|edu|gov|io|info|co\.uk|ac\.uk|de|dev)\b(?:/[\w./-]*)?"),
     _address),
    (re.compile(r"^\s*#+\s+(?=[^\W\d])", re.MULTILINE), ""),  # a heading of Markdown
    (re.compile(r"(?<![\w#])#(?=[^\W\d])"), " hashtag "),
    # abbreviations
    (re.compile(rf"(?<![\w.])({'|'.join(_BEFORE_NUMBERS)})\.\s*(?=\d)", re.IGNORECASE),
     lambda match: f"{_BEFORE_NUMBERS[match[1].lower()]} "),
    (re.compile(r"#\s?(?=\d)"), " number "),
    (re.compile(rf"\b{_MONTH}\.?(?= \d)"), 
     lambda match: next(month for month in _MONTHS if month.startswith(match[1][:3]))),
    (re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, _TITLES | _CLOSING))})\.", re.IGNORECASE), _abbreviation),
    (re.compile(r"\b(Mr|Mrs|Ms|Dr|St)(?= [A-Z])"), lambda match: _TITLES[match[1].lower()]),
    (re.compile(r"(?<![A-Za-z.])((?:[A-Za-z]\.){2,})(?![a-z])"), _initials),
    (re.compile(r"(?<![\w.'])([A-HJ-Z])\.(?= [A-Z])"),
     lambda match: match[0] if _ends_sentence(match.string, match.end()) else match[1]),
    # names
    (re.compile(rf"\b({_RULER}|{_THING}) {_ROMAN}\b(?!\w|'(?!s\b))(?<! I)"), _numbered),
    (re.compile(rf"\b({_THING}) (I)\b(?!['’]\w)"), _numbered),
    (re.compile(rf"\b({_RULER}) (I)\b(?=[,.;:)]|'s| of\b|$)"), _numbered),
    (re.compile(r"\b([A-Z][a-z]+) (IV)\b(?!['-]\w)"),  # not in "An IV drip"
     lambda match: match[0] if match[1].lower() in _STARTERS else _numbered(match)),
    (re.compile(rf"(?<![\w.'-])(?=[IVX]{{2,}}\b)(?!IV\b|XXX?\b){_ROMAN}\b(?!['-]\w)"),
     lambda match: cardinal(_roman(match[1]))),
    # dates, times, numbers that are read digit by digit
    (re.compile(r"(?<!\w)0([xXbB])([0-9A-Fa-f]+)\b"),
     lambda match: f" zero {match[1]} {' '.join(_DIGIT_WORDS[int(c)] if c.isdigit() else c for c in match[2])} "),
    (re.compile(r"(?<![\w-])(\d{4})-(\d\d)-(\d\d)(?![\w-])"),
     lambda match: _date(match[1], int(match[2]), int(match[3]), _groups_of_digits(match))),
    (re.compile(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![\w/])"), _slashed_date),
    (re.compile(rf"\b({'|'.join(_MONTHS)}) (\d{{1,2}})(?:st|nd|rd|th)?\b(?![:/.,]?\d|\s?%|[-–]\d)"),
     lambda match: f"{match[1]} {ordinal(int(match[2]))}"),
    (re.compile(rf"\b([Tt]he )?(\d{{1,2}})(?:st|nd|rd|th)? ({'|'.join(_MONTHS)})\b"),
     lambda match: f"{match[1] or 'the '}{ordinal(int(match[2]))} of {match[3]}"),
    (re.compile(r"(?<![\w.])\+\d{1,3}(?:[\s.-]?\(?\d{1,4}\)?){3,5}(?![\w-])"), _groups_of_digits),
    (re.compile(r"(?<![\w.-])(?:1[\s.-])?(?:\(\d{3}\)\s?|\d{3}[\s.-])\d{3}[.-]\d{4}(?![\w-])"), _groups_of_digits),
    (re.compile(r"(?<![\w.$£€-])(?:\d{3}-\d{4}|\d+(?:-\d+){2,})(?![\w-])"), _groups_of_digits),
    (re.compile(r"(?<=:\d\d)\s?[-–]\s?(?=\d)|(?<=\d[A-Za-z])–(?=[$£€]?\d)|(?<=st|nd|rd|th)[-–](?=\d)"), " to "),
    (re.compile(r"(?<![\d:.])(\d{1,2}):(\d\d)(?::(\d\d))?(?:\s?([apAP])\s?[mM]\b)?(?![\d:])"), _time),
    (re.compile(r"(?<![\d:.])(\d{1,2})\.(\d\d)()\s?([apAP])\s?[mM]\b"), _time),
    (re.compile(r"(?<![\d.])(\d{1,2})()()\s?([apAP])\s?[mM]\b"),
     lambda match: f" {cardinal(int(match[1]))} {match[4].lower()} m "),
    (re.compile(r"(?<=\d):(?=\d)"), " to "),
    (re.compile(r"(?<=[a-z]):(?=[a-z])"), " "),  # a time in words: "twelve:thirty"
    (re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}(?![\w])"),  # also behind letters: "v2.0.1"
     lambda match: f" {(' dot ' if match[0].count('.') == 3 else ' point ').join(map(_amount, match[0].split('.')))} "),
    (re.compile(r"(?<!\w)(\d{1,2})'\s?(\d{1,2})(?:\"|'')"), lambda match: f" {match[1]} ft {match[2]} inches "),
    # numbers
    (re.compile(r"(?<=\d)\s?[×x]\s?(?=10\^)|(?<=\d)\s?×\s?"), " times "),
    (re.compile(r"(?<=\d)\s?x\s?(?=\d)"), " by "),
    (re.compile(r"[~≈](?=\s?[$£€]?\d)"), " about "),
    (re.compile(r"(?<!\w)'(?=\d0s\b)"), ""),
    (re.compile(r"(?<!\d)(?<!\d )\b([A-Za-z]{1,2})\^(-?\d+)"), lambda match: f"{match[1]} {_power(match[2])} "),
    (_NUMBER, _number),
    # symbols
    (re.compile(r"(?<![^\W\d_])[Α-Ωα-ω](?![^\W\d_])"),
     lambda match: f" {unicodedata.name(match[0]).split()[-1].lower()} "),
    (re.compile(r"\b([CF])#"), lambda match: f"{match[1]} sharp "),
    (re.compile(r"(?<=[A-Za-z0-9])\.(?=[a-z])"), " dot "),
    (re.compile(r"(?<=(?:euros|ounds|llars|rcent) )/(?=[a-z])"), "per "),
    (re.compile(f"[{re.escape(''.join(_SYMBOLS))}]"), lambda match: f" {_SYMBOLS[match[0]]} "),
)  # fmt: skip


def to_words(text: str, known: Container[str] = ()) -> str:
    """English as it is read: what is no word becomes words; letters keep their case, other characters stay.

    Args:
        text: With plain apostrophes, quotation marks and digits, and `^` before superscripts.
        known: Words with a pronunciation: capitals among them are words (NASA), and the others are spelled (BBC).
    """
    is_mixed = any(character.islower() for character in text)
    capitals = re.compile(r"(?<![A-Za-z'])([A-Z]{2,5})('s|s)?(?![A-Za-z'])")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return capitals.sub(lambda match: _capitals(match, known, is_mixed), text)
