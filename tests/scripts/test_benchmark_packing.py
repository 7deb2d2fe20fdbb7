"""Packing for the benchmark: the same tokens are scored, and no sequence sees another one."""

import benchmark_packing
import numpy as np
import pytest
import torch
from language_models import CODES, write_shard

from lm.data import TokenCorpus, validation_batches
from lm.layout import Layout
from lm.model import IGNORED, ModelSettings, make_language_model


@torch.no_grad()
def test_packed_rows_score_what_padded_ones_do(tmp_path):
    rng, layout = np.random.default_rng(0), Layout(CODES, 24000, "codec-a")
    codes = [rng.integers(0, CODES, rng.integers(5, 40)).tolist() for _ in range(20)]
    corpus = TokenCorpus([str(write_shard(tmp_path / "a.parquet", codes))], layout)
    model = make_language_model(ModelSettings(32, 2, 2, 64, 64), layout).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)

    def losses(batches) -> np.ndarray:
        found = []
        for input_ids, targets, positions in batches:
            logits = model(input_ids=input_ids, position_ids=positions, use_cache=False).logits
            nats = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
            )
            found += nats[targets.flatten() != IGNORED].tolist()
        return np.sort(found)

    packed = benchmark_packing.pack(corpus, 64, 256)
    padded = [(batch.input_ids, batch.targets, None) for batch in validation_batches(corpus, 64, 256, False)]
    assert sum(ids.numel() for ids, _, _ in packed) < 1.2 * (corpus.num_codes.sum() + 2 * len(corpus))
    assert max(len(ids) for ids, _, _ in packed) == 4
    assert losses(packed) == pytest.approx(losses(padded), abs=1e-4)
    without_blocks = [(ids, targets, None) for ids, targets, _ in packed]
    assert np.abs(losses(without_blocks) - losses(padded)).max() > 0.1
