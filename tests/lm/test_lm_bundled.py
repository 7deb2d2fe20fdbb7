"""The language model that comes with the package: small, for the bundled codec, and it reads a sentence to its end."""

from pathlib import Path

import numpy as np
import torch

import lm
from lm.generate import ENDED, GenerationSettings, generate_codes, make_prompt
from lm.model import LanguageModel
from q2d2_tokenizer import Q2D2Model, default_checkpoint


def test_it_is_small_and_reads_to_the_end():
    folder = Path(lm.default_checkpoint())
    codec = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    language_model = LanguageModel.load(folder, codec.fingerprint())
    assert language_model.model.num_parameters() <= 25e6
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 60e6
    texts = ["The latter was laid before the House.", "Yes."]
    long, short = generate_codes(
        language_model, [make_prompt(language_model, text) for text in texts], GenerationSettings(max_codes=400)
    )
    assert long.reason == short.reason == ENDED
    assert 100 < len(long.codes) < 300 and len(short.codes) < 100
    audio = codec.decode(torch.from_numpy(long.codes).view(1, 1, -1)).audio_values.flatten().numpy()
    assert 0.01 < np.sqrt((audio**2).mean()) < 0.5
    assert (folder / "README.md").exists()  # sources and licences
