"""The Python blocks of docs/language_model.md run, one after another, on tiny models."""

import re
from pathlib import Path

import numpy as np
from language_models import make_llama, make_tokenizer

PAGE = Path(__file__).parent.parent / "docs" / "language_model.md"


def test_python_blocks_run(tmp_path, monkeypatch, tiny_model, language_model):
    monkeypatch.chdir(tmp_path)
    language_model.save("runs/lm/weights")
    tiny_model.save_pretrained("codec")
    for part in (make_llama(), make_tokenizer()):
        part.save_pretrained("text_model")
    text = "hello there"
    names = {"text": text, "folder": "text_model", "codes": np.arange(5)}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        block = block.replace("max_new_tokens=300", "max_new_tokens=20").replace("default_checkpoint()", "'codec'")
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["speech"].shape[-1] == 320 * len(names["first"].codes)
    assert names["first"].reason in ("ended", "max_length") and len(names["second"].codes)
    assert names["audio_values"].shape[-1] == 320 * len(names["codes"]) > 0
