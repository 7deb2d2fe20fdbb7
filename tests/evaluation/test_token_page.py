"""The page about tokens says what its JSON files say."""

import math
from pathlib import Path

import pytest

from q2d2_tokenizer.evaluation.report import PAGES, fill_tables
from q2d2_tokenizer.evaluation.token_tests import page, published

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results" / "tokens"


@pytest.mark.parametrize("path", ["docs/TOKENS.md", *PAGES])
def test_tables_are_those_of_the_results(path):
    text = (ROOT / path).read_text()
    assert "<!-- tokens: " in text
    filled = fill_tables(text, page.all_tables(page.read_results(FOLDER)), "tokens")
    assert filled == text, f"{path} is not what {FOLDER} says: run q2d2 evaluate-tokens --page docs/TOKENS.md"


def test_there_is_one_page_about_tokens_also_where_case_does_not_count():
    names = [path.name.lower() for path in (ROOT / "docs").iterdir()]
    assert len(names) == len(set(names))


def test_every_table_is_on_the_page_and_has_whole_rows():
    text = (ROOT / "docs" / "TOKENS.md").read_text()
    for name, table in page.all_tables(page.read_results(FOLDER)).items():
        assert name == "summary" or f"<!-- tokens: {name} -->" in text
        assert len({len(row) for row in table}) == 1, name


def test_every_number_says_what_it_is_measured_on():
    for name, found in page.read_results(FOLDER).items():
        assert {"command", "commit"} <= found["run"].keys() and found["codec_fingerprint"], name
        assert not found["run"]["commit"].endswith("-dirty"), name


def test_what_was_not_measured_says_so():
    tables = page.all_tables({})
    assert tables["stability"][0] == ["not measured yet"] and len(tables["probes"]) == 1


def test_perplexities_become_bits_only_where_rate_and_vocabulary_are_known():
    rows = {(one.codec, one.source): one for one in published.PERPLEXITIES}
    known = [one for one in rows.values() if one.bits_per_second is not None]
    assert [one.codec for one in known] == ["WavTokenizer-40"]
    assert known[0].bits_per_second == pytest.approx(40 * math.log2(317)) and known[0].nominal_bits_per_second == 480
    assert all(one.problem for one in rows.values() if one not in known)


def test_a_page_stays_as_it_is_without_results_and_must_be_there(tmp_path):
    one = tmp_path / "docs" / "PAGE.md"
    one.parent.mkdir()
    one.write_text("<!-- tokens: summary -->\n| precious |\n<!-- end -->\n")
    with pytest.raises(ValueError, match="no results in"):
        page.write_page(one, tmp_path / "none")
    with pytest.raises(ValueError, match="no page"):
        page.write_page(tmp_path / "docs" / "NONE.md", FOLDER)
    assert "precious" in one.read_text()
