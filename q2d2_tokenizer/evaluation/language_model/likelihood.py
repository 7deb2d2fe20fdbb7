"""How well a language model predicts held-out codes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from lm.batches import validation_batches
from lm.data import TokenCorpus
from lm.layout import codes_to_indices
from lm.model import IGNORED, LanguageModel
from lm.scoring import Totals, make_scorer

from ...configuration_q2d2 import Q2D2Config
from ...training.statistics import entropy_bits
from ..statistics import ratio_and_interval

_TOKENS_PER_BATCH = 8192


def measure_likelihood(language_model: LanguageModel, codec: Q2D2Config, sources: list[str]) -> dict[str, Any]:
    """Bits of held-out codes, with their text, if the model and some recordings have one, and without.

    Text that the model expects where its sound is lies where the codes of the recording show it, by the alignment that
    is saved with the weights, so the bits with text are then those of codes whose timing is known. Without a saved
    alignment it lies where the mean durations say. No recording depends on the others.

    Args:
        language_model: The model.
        codec: Settings of its codec.
        sources: Token shards; see `TokenCorpus`.
    """
    layout = replace(language_model.layout, points_per_group=tuple(codec.points_per_group))
    corpus = TokenCorpus(sources, layout, language_model.text)
    alignment = language_model.alignment
    if alignment and corpus.num_pieces.any():
        corpus.place_text(alignment)
    scorer = make_scorer(language_model.model, layout).eval()
    context = language_model.model.config.max_position_embeddings
    result = {}
    text_name = "with text and its timing" if alignment else "with text"
    for name, with_text in {text_name: True, "speech alone": False}.items():
        if with_text and not corpus.num_pieces.any():
            continue
        totals, nats, tokens, codes = Totals(len(layout.points_per_group)), [], [], []
        batches = list(validation_batches(corpus, context, _TOKENS_PER_BATCH, with_text))
        for batch in tqdm(batches, desc=name, disable=None):
            score = scorer.score(*batch.inputs())
            totals.add(score, batch.targets)
            counts = (batch.targets != IGNORED).sum(1).tolist()
            nats += [part.sum().item() for part in score.nats.split(counts)]
            tokens += counts
            rows = [row[row >= layout.audio_offset] for row in batch.targets]
            codes += [layout.ids_to_codes(row).numpy() for row in rows]
        seconds = [len(row) / codec.frame_rate for row in codes]
        result[name] = _describe(totals, np.array(nats) / math.log(2), tokens, seconds, codec)
        result[name] |= _zero_order(np.concatenate(codes), layout.points_per_group, codec.frame_rate)
    return result


def _describe(
    totals: Totals, bits: np.ndarray, tokens: list[int], seconds: list[float], codec: Q2D2Config
) -> dict[str, Any]:
    """Means and intervals of the bits of recordings (n,), and what `totals` knows."""
    means = totals.means()
    per_second = ratio_and_interval(bits.tolist(), seconds)
    return {
        "recordings": len(tokens),
        "seconds": sum(seconds),
        "tokens": sum(tokens),
        "bits_per_token": ratio_and_interval(bits.tolist(), tokens),
        "bits_per_second": per_second,
        "nominal_bits_per_token": codec.bits_per_code,
        "nominal_bits_per_second": codec.bitrate,
        "saved_share": 1 - per_second["mean"] / codec.bitrate,
        "right_share": means["right_share"],
        "bits_by_place": means["bits_by_place"],
        "bits_by_group": means["bits_by_group"],
        "nominal_bits_by_group": [math.log2(points) for points in codec.points_per_group],
    }


def _zero_order(codes: np.ndarray, points_per_group: tuple[int, ...], codes_per_second: float) -> dict[str, Any]:
    """Entropy of the counts of codes (N,), of all and of each group."""
    joint = entropy_bits(codes)
    indices = codes_to_indices(torch.from_numpy(codes), points_per_group)
    return {
        "zero_order_bits_per_token": joint,
        "zero_order_bits_per_second": joint * codes_per_second,
        "zero_order_bits_by_group": [entropy_bits(index.numpy()) for index in indices],
    }
