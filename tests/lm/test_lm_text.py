"""Text normalisation, numbers, and the text tokenizer with its script."""

import string
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from lm.english import cardinal, ordinal, year
from lm.pronunciations import Pronunciations
from lm.text import ALPHABET, TextTokenizer, normalize_text, split_text, train_text_tokenizer
from q2d2_tokenizer.commands.main import main

SENTENCES = [
    "The print could have been placed on the carton at any time within this period.",
    "It was the best of times, it was the worst of times!",
    "How are you, my friend? I am well.",
] * 5
DICTIONARY = """# words
the DH AH0
the(2) DH IY0
worst W ER1 S T  # an adjective
it's IH1 T S
"""


READINGS = [line.split("\t") for line in (Path(__file__).parent / "readings.tsv").read_text("utf-8").splitlines()]
READINGS = [row for row in READINGS if not row[0].startswith("# ") or len(row) == 2]
KNOWN = {"nasa", "fbi", "world", "hello", "ram"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("text", "expected"), READINGS, ids=[text for text, _ in READINGS])
def test_readings(text, expected):
    assert normalize_text(text, KNOWN) == expected
    assert normalize_text(expected, KNOWN) == expected  # parts of a split text are normalised again


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, WORLD!", "hello, world!"),
        ("Café naïve Straße Æsop", "cafe naive strasse aesop"),
        ("'tis \"quoted\" (dogs') it's", "tis quoted dogs it's"),
        ("well-known -- or not — yes; so: go", "well known, or not, yes, so, go"),
        ("wait...  what?!", "wait. what?"),
        ("", ""),
        ("in 1963, the 1960s and 1905", "in nineteen sixty three, the nineteen sixties and nineteen oh five"),
        ("1,963 and 2005", "one thousand nine hundred sixty three and two thousand five"),
        ("\U0001d407\U0001d41e\U0001d425\U0001d425\U0001d428", "hello"),  # mathematical bold
        ("$1000000000000000.5", f"one{' zero' * 15} point five dollars"),
        ("$3.50, $1 and £2.5 million", "three dollars and fifty cents, one dollar and two point five million pounds"),
        ("-5 and 3.14 at 20%", "minus five and three point one four at twenty percent"),
        ("007 mp3 3½", "zero zero seven mp three three and one half"),
    ],
)
def test_normalisation(text, expected):
    assert normalize_text(text) == expected


def test_what_cannot_be_read_is_named():
    with pytest.warns(UserWarning, match="not read, since no rule knows them: 你 好 🙂") as caught:
        assert normalize_text("hi 🙂 there 你好, 🙂", KNOWN) == "hi there,"
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:not read")
def test_what_is_glued_to_a_number_does_not_change_it():
    glue = ["", "abc", "_", "*", "™", "®", "é", "ж", "²x", "zz", "/x", "(", "«", "‰", "\u200b", "№", "🙂"]
    rng = np.random.default_rng(0)
    for number in (0, 7, 12, 105, 1066, 2500, 70_013, 1_000_001):
        for before, after in rng.choice(glue, (40, 2)):
            text = f"a {before}{number}{after} b"
            assert cardinal(number) in normalize_text(text), text


@pytest.mark.filterwarnings("ignore:not read")
def test_any_text_ends_in_the_alphabet():
    rng = np.random.default_rng(0)
    letters = string.printable + "ÄßΩж你½²٣🙂–’“№\u0301\x00"
    for _ in range(300):
        text = "".join(rng.choice(list(letters), 60))
        assert set(normalize_text(text)) <= set(ALPHABET)
    letters = "0123456789.,/-–:$€£%^kmMsthebBTxeE ½²°CF+±()'\"¢#"
    for _ in range(3000):
        text = "".join(rng.choice(list(letters), 20))
        assert set(normalize_text(text)) <= set(ALPHABET), text
    nines = "9" * 5000  # more than int() takes
    for text in (nines, f"1/{nines}", f"{nines}th", f"${nines}.{nines}", f"2^{nines}", f"1-{nines}s", f"1 {nines}/9 m"):
        assert set(normalize_text(text)) <= set(ALPHABET)


def test_a_saved_tokenizer_leaves_nothing_of_the_one_before(tmp_path):
    texts = ["it was the best of times", "it was the worst of times"]
    for pronunciations in (Pronunciations("times T AY1 M Z"), None):
        tokenizer = train_text_tokenizer(texts * 5, 40, pronunciations)
        tokenizer.save(tmp_path)
        assert TextTokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint


def test_numbers():
    assert cardinal(0) == "zero"
    assert cardinal(1_002_315) == "one million two thousand three hundred fifteen"
    assert [ordinal(n) for n in (1, 12, 40, 103)] == ["first", "twelfth", "fortieth", "one hundred third"]
    assert [year(n) for n in (1900, 2000, 2010)] == ["nineteen hundred", "two thousand", "twenty ten"]
    assert cardinal(10**15) == f"one{' zero' * 15}"


def test_every_letter_is_known_and_normal_text_comes_back():
    tokenizer = train_text_tokenizer(SENTENCES, 60)
    pieces = tokenizer.encode("Jazz, quiz & xylophone's 7?")
    assert pieces.dtype == np.int64 and 0 < pieces.min() and pieces.max() < tokenizer.size  # 0 is unknown
    assert tokenizer.decode(pieces) == "jazz, quiz and xylophone's seven?"
    for letter in ALPHABET.replace(" ", "").replace("'", ""):
        assert 0 not in tokenizer.encode(f"a{letter}")
    assert tokenizer.encode("🙂").size == 0


def test_bad_training_data_and_files():
    with pytest.raises(ValueError, match="no text to train on"):
        train_text_tokenizer(["", "🙂"], 60)
    with pytest.raises(ValueError, match="size must be at least"):
        train_text_tokenizer(SENTENCES, 5)
    with pytest.raises(ValueError, match="not a sentencepiece model"):
        TextTokenizer(b"nonsense")


def test_script_writes_the_same_model_every_time(tmp_path, capsys):
    pyarrow.parquet.write_table(pyarrow.table({"text": [*SENTENCES, "", None]}), tmp_path / "a.parquet")
    (tmp_path / "dictionary").write_text(DICTIONARY)
    options = ["--data", str(tmp_path), "--size", "60", "--pronunciations", str(tmp_path / "dictionary")]
    for name in ("one", "two"):
        assert main(["train-text-tokenizer", *options, "--output", str(tmp_path / "out" / name)]) == 0
    one, two = (TextTokenizer.load(tmp_path / "out" / name) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint and one.fingerprint in capsys.readouterr().out
    one.save(tmp_path)
    again = TextTokenizer.load(tmp_path)
    assert again.fingerprint == one.fingerprint != TextTokenizer.load(tmp_path / "text.model").fingerprint
    assert again.encode("the worst dog").tolist() == one.encode("the worst dog").tolist()


def test_pieces_come_with_scores_in_the_order_of_their_numbers():
    tokenizer = train_text_tokenizer(SENTENCES, 60)
    pieces = tokenizer.pieces_with_scores()
    assert len(pieces) == tokenizer.size
    for number in tokenizer.encode("the print"):
        assert tokenizer.decode([number]) == pieces[number][0].replace("▁", "") and pieces[number][1] < 0


def test_known_words_are_read_as_phones_and_others_in_letters():
    pronunciations = Pronunciations(DICTIONARY)
    assert pronunciations.phones == ["AH0", "DH", "ER1", "IH1", "S", "T", "W"] and len(pronunciations) == 3
    tokenizer = train_text_tokenizer(SENTENCES, 60, pronunciations)
    pieces = tokenizer.encode("The worst dog, isn't it's?")
    assert tokenizer.decode(pieces) == "/DH AH0/ /W ER1 S T/ dog, isn't /IH1 T S/?"
    assert 0 not in tokenizer.encode("the worst zebra's quiz.")  # nothing is unknown
    text = "the worst " * 200
    spelled = tokenizer.decode(tokenizer.encode(text, 0.3, np.random.default_rng(0)))
    assert 80 < spelled.count("the") + spelled.count("worst") < 160


def test_every_word_of_a_dictionary_is_found_and_no_other():
    words = ["it", "it's", "its", "i", "zoo", "a", "été"]
    pronunciations = Pronunciations("".join(f"{word.upper()} P{number}\n" for number, word in enumerate(words)) + "i Q")
    assert pronunciations.phones == [f"P{number}" for number in range(len(words))]  # not Q, of a second entry
    for number, word in enumerate(words):
        assert pronunciations.to_readable(pronunciations.to_phones(word)) == (f"/P{number}/" if number < 6 else word)
        assert word in pronunciations
    for other in ("", "itt", "it'", "zo", "zooo", "zz", "A", "i P3", 3):
        assert other not in pronunciations


@pytest.mark.parametrize("content", ["", "# nothing", "hello"])
def test_dictionaries_that_hold_nothing_are_refused(content):
    with pytest.raises(ValueError, match="no word|no phones"):
        Pronunciations(content)
    with pytest.raises(ValueError, match="size must be at least 40"):
        train_text_tokenizer(SENTENCES, 39, Pronunciations(DICTIONARY))


def test_long_texts_are_split_at_sentences_then_commas_then_words():
    text = "Dr. Jones came. He saw 3.5 dogs! Then, as far as I know, he went home; it was late."
    assert split_text(text, 200) == [normalize_text(text)]
    assert split_text(text, 60) == [
        "doctor jones came. he saw three point five dogs!",
        "then, as far as i know, he went home, it was late.",
    ]
    assert split_text(text, 30)[2:] == ["then, as far as i know,", "he went home, it was late."]
    assert split_text(text, 8)[:4] == ["doctor", "jones", "came.", "he saw"]
    assert split_text("a" * 10, 4) == ["aaaa", "aaaa", "aa"]
    assert split_text("🙂", 10) == split_text("", 10) == []


def test_parts_of_a_text_lose_nothing_and_are_short():
    text = " ".join(SENTENCES * 20)  # about 5,000 characters and more
    for longest in (5, 17, 100, 300):
        parts = split_text(text, longest)
        assert max(map(len, parts)) <= longest
        assert "".join(parts).replace(" ", "") == normalize_text(text).replace(" ", "")
        assert [normalize_text(part) for part in parts if part[0].isalpha()] == [p for p in parts if p[0].isalpha()]
    assert len(split_text(text, 300)) < len(text) / 150
