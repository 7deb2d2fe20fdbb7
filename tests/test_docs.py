"""The Python blocks of README and docs run, page by page; links lead somewhere and numbers are those of the code.

A block after the comment `<!-- test: slow -->` runs in the slow tests only.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import tokenize
from language_models import make_llama, make_tokenizer

from q2d2_tokenizer import Q2D2Config, Q2D2Model, default_checkpoint, read_audio, sample_recording

ROOT = Path(__file__).parent.parent
GENERATED = {"RESULTS.md", "STUDY.md"}
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED)]
BLOCK = re.compile(r"(<!-- test: slow -->\n)?```python\n(.*?)```", re.DOTALL)

Names = dict[str, Any]


def blocks_of(page: Path, slow: bool) -> list[str]:
    """Python blocks of a page, with the slow ones or without."""
    return [code for mark, code in BLOCK.findall(page.read_text(encoding="utf-8")) if slow or not mark]


def parameters() -> list:
    """Every page with Python blocks, and a slow case for those with slow ones."""
    fast = [pytest.param(page, False, id=page.name) for page in PAGES if blocks_of(page, slow=False)]
    slow = [page for page in PAGES if len(blocks_of(page, slow=True)) > len(blocks_of(page, slow=False))]
    return fast + [pytest.param(page, True, id=f"{page.name}-slow", marks=pytest.mark.slow) for page in slow]


@pytest.fixture
def prepare(tiny_model, language_model, corpus_file) -> Callable[[str], Names]:
    """Function that makes, in the working directory, what a page takes for granted, and returns its names."""

    def language_models() -> Names:
        language_model.save("runs/lm/weights")
        tiny_model.save_pretrained("codec")
        for part in (make_llama(), make_tokenizer()):
            part.save_pretrained("text_model")
        return {"text": "hello there", "folder": "text_model", "codes": np.arange(5)}

    def corpora() -> Names:
        tokenize(corpus_file, tiny_model, Path("tokens"))
        return {"model": tiny_model}

    pages = {"language_model.md": language_models, "corpora.md": corpora}
    return lambda page: pages.get(page, dict)()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("page", "slow"), parameters())
def test_python_blocks_run(page, slow, prepare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = prepare(page.name)
    for block in blocks_of(page, slow):
        if page.name == "language_model.md":  # tiny models instead of a long run of the bundled ones
            small = {"max_new_tokens=300": "max_new_tokens=20", "max_steps=1000": "max_steps=2, use_cpu=True"}
            for written, tested in (small | {"(default_checkpoint())": "('codec')"}).items():
                block = block.replace(written, tested)
        exec(compile(block, str(page), "exec"), names)
    CHECKS.get(page.name, lambda names: None)(names)


def check_readme(names: Names) -> None:
    assert names["audio_values"].shape[-1] == len(names["audio"])
    assert Path("reconstruction.wav").stat().st_size > 100_000
    assert names["tokens"]["audio_codes"][:] == [names["codes"][0, 0].tolist()] * 4


def check_language_model(names: Names) -> None:
    assert names["speech"].shape[-1] == 320 * len(names["first"].codes)
    assert names["first"].reason in ("ended", "max_length") and len(names["second"].codes)
    assert names["audio_values"].shape[-1] == 320 * len(names["codes"]) > 0


CHECKS: dict[str, Callable[[Names], None]] = {
    "README.md": check_readme,
    "language_model.md": check_language_model,
}


def test_shapes_in_the_readme_are_those_that_come_out():
    audio = read_audio(sample_recording(), 24000)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({len(audio)},) mono" in text
    assert f"(1, 1, {-(-len(audio) // 320)}) int64" in text


def test_latencies_are_those_of_the_bundled_codec():
    model = Q2D2Model.from_pretrained(default_checkpoint())
    encoder, decoder = model.encoder_latency_samples / 24, model.decoder_latency_samples / 24
    for name in ("codec.md", "coming_from.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert f"{encoder:.0f} ms" in text or f"{encoder:.0f} and {decoder:.0f} ms" in text
    assert f"{320 / 24 + encoder + decoder:.0f} ms: a frame, {encoder:.0f} ms and {decoder:.0f} ms" in text


def test_table_of_models_has_the_numbers_of_the_configs():
    text = (ROOT / "docs" / "codec.md").read_text(encoding="utf-8")
    for path in (ROOT / "configs").glob("*.json"):
        config = Q2D2Config.from_json_file(str(path))
        row = next(line for line in text.splitlines() if line.startswith(f"| `{path.name}`"))
        cells = [cell.strip() for cell in row.split("|")]
        numbers = [f"{config.frame_rate:.4g}", f"{config.codebook_size:,}", f"{config.bits_per_code:.2f}"]
        assert cells[3:7] == [*numbers, f"{config.bitrate:,.0f}"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [name for name in targets if "://" not in name and not (page.parent / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_lines_have_at_most_120_characters(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]
