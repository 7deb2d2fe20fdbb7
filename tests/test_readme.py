"""The Python blocks of the README run, one after another, with the bundled checkpoint."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.filterwarnings("ignore")
def test_python_blocks_run(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert namespace["codes"].shape[:2] == (1, 1)
    assert namespace["audio_values"].shape[-1] == len(namespace["audio"])
    assert (tmp_path / "reconstruction.wav").stat().st_size > 100_000
    model = namespace["model"]
    assert f": {model.encoder_latency_samples} {model.decoder_latency_samples}" in README.read_text()
    first = namespace["codes"][0, 0].tolist()
    assert namespace["tokens"]["audio_codes"][:] == [first] * 4


def test_shapes_in_the_readme_are_those_that_come_out():
    import q2d2_tokenizer

    audio = q2d2_tokenizer.read_audio(q2d2_tokenizer.sample_recording(), 24000)
    text = README.read_text()
    assert f"({len(audio)},) mono" in text
    assert f"(1, 1, {-(-len(audio) // 320)}) int64" in text
    model = q2d2_tokenizer.Q2D2Model.from_pretrained(q2d2_tokenizer.default_checkpoint())
    assert f"frame: {model.encoder_latency_samples} {model.decoder_latency_samples}" in text


def test_table_of_models_has_the_numbers_of_the_configs():
    from q2d2_tokenizer import Q2D2Config

    for path in (README.parent / "configs").glob("*.json"):
        config = Q2D2Config.from_json_file(str(path))
        row = next(line for line in README.read_text().splitlines() if line.startswith(f"| `{path.name}`"))
        cells = [cell.strip() for cell in row.split("|")]
        numbers = [f"{config.frame_rate:.4g}", f"{config.codebook_size:,}", f"{config.bits_per_code:.2f}"]
        assert cells[3:7] == [*numbers, f"{config.bitrate:,.0f}"]
