"""What the pages say is what the evaluations measured."""

import json
from pathlib import Path

import pytest

from q2d2_tokenizer.evaluation.report import PAGES, fill_pages, fill_tables, quality_table, short_table
from q2d2_tokenizer.evaluation.summary import read_result
from q2d2_tokenizer.evaluation.tables import markdown_table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("page", PAGES)
def test_tables_of_a_page_are_those_of_the_evaluation(page):
    text = (ROOT / page).read_text()
    assert "<!-- results: quality -->" in text
    filled = fill_tables(text, {"quality": short_table(read_result(RESULTS))})
    assert filled == text, f"{page} is not what docs/results says: run q2d2 results"


def test_the_page_of_results_has_every_evaluation():
    page = (ROOT / "docs" / "RESULTS.md").read_text()
    for path in RESULTS.rglob("evaluation.json"):
        assert markdown_table(quality_table(read_result(path.parent))) in page, f"{path}: run q2d2 results"


def test_the_row_beside_other_codecs_is_that_of_the_evaluation():
    scores = next(iter(read_result(RESULTS)["summary"].values()))
    row = " | ".join(f"{scores[name]['mean']:.2f}" for name in ("pesq_wb", "pesq_nb", "stoi"))
    assert f"| Q2D2, bundled | 1,077 | 75 | {row} |" in (ROOT / "docs" / "coming_from.md").read_text()


def test_the_card_of_the_language_model_has_what_was_measured():
    card = (ROOT / "lm" / "checkpoint" / "README.md").read_text()
    folders = {
        "lm": ["sentences"],
        "lm_recordings": ["text to speech", "in the voice of a prompt", "codec", "recording"],
    }
    for folder, kinds in folders.items():
        found = json.loads((RESULTS / folder / "lm.json").read_text())
        assert f"(fingerprint `{found['codec_fingerprint']}`)" in card
        for kind in kinds:
            row = found["speech"][kind]
            (words, off), (score, around) = ((row[name]["mean"], row[name]["interval"]) for name in ("wer", "dnsmos"))
            expected = f"| {row['runs']} | {100 * words:.1f} ± {100 * off:.1f} % | {score:.2f} ± {around:.2f} |"
            assert expected in card, f"{folder}: {kind}"
    alone, with_text = (
        found["likelihood"][kind]["bits_per_second"]["mean"] for kind in ("speech alone", "with text and its timing")
    )
    assert f"take {alone:.0f} bit/s where 1,077 are nominal, and {with_text:.0f} if" in card


def test_marks_are_filled_and_the_text_around_them_stays(tmp_path):
    tables = {"quality": [["a", "b"], ["1", "2"]]}
    text = "before\n<!-- results: quality -->\n| old |\n<!-- end -->\nafter <!-- a comment --> \n"
    filled = fill_tables(text, tables)
    expected = "before\n<!-- results: quality -->\n| a | b |\n|---|---|\n| 1 | 2 |\n<!-- end -->"
    assert filled == expected + "\nafter <!-- a comment --> \n"
    assert fill_tables(filled, tables) == filled and fill_tables("nothing", tables) == "nothing"
    with pytest.raises(ValueError, match="one of results: quality; got speed, which is none"):
        fill_tables(text.replace("quality", "speed"), tables)
    with pytest.raises(ValueError, match="got quality, which is not closed"):
        fill_tables("<!-- results: quality -->\n| old |\n", tables)


def test_readme_and_card_beside_a_page_are_filled(tmp_path):
    mark = "<!-- results: quality -->\n<!-- end -->\n"
    for page in PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(mark)
    fill_pages(tmp_path / "docs" / "RESULTS.md", read_result(RESULTS))
    filled = {(tmp_path / page).read_text() for page in PAGES}
    assert len(filled) == 1 and mark not in filled
