"""How easily tokens are modelled, in bits per second of audio."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.parquet

from lm.data import expand_shards, shard_layout
from lm.model import LanguageModel

from ...configuration_q2d2 import Q2D2Config
from ..language_model.likelihood import measure_likelihood
from .ngrams import OrderBits, factored_stream, flat_stream, ngram_bits

HIGHEST_ORDER = 4


def read_tokens(source: str, language_model: LanguageModel) -> list[np.ndarray]:
    """Codes (T,) of every recording of token shards.

    Raises:
        ValueError: If there are none, or they are of another codec than those of the language model.
    """
    recordings = []
    for path in expand_shards([source]):
        language_model.layout.check_codec(shard_layout(path).codec_fingerprint)
        rows = pyarrow.parquet.read_table(path, columns=["codes"])["codes"].to_pylist()
        recordings += [np.array(row, np.int64) for row in rows]
    if not recordings:
        raise ValueError(f"no recordings in {source}")
    return recordings


def measure_modelling(
    held_out: dict[str, str], counted: str | None, language_model: LanguageModel, codec: Q2D2Config
) -> dict[str, Any]:
    """Bits of held-out tokens: of a language model, and of n-grams.

    Args:
        held_out: Token shards by what they are called.
        counted: Token shards in which n-grams are counted; without them there are none.
        language_model: The model.
        codec: Settings of its codec.
    """
    result: dict[str, Any] = {
        "frame_rate": codec.frame_rate,
        "vocabulary": codec.codebook_size,
        "nominal_bits_per_second": codec.bitrate,
        "parameters": language_model.model.num_parameters(),
        "context": language_model.model.config.max_position_embeddings,
        "language_model": {name: measure_likelihood(language_model, codec, [path]) for name, path in held_out.items()},
    }
    if counted:
        train = read_tokens(counted, language_model)
        result["ngrams"] = {
            "counted": {"source": counted} | _describe(train),
            "held_out": {
                name: _ngrams(train, read_tokens(path, language_model), codec) for name, path in held_out.items()
            },
        }
    return result


def _describe(recordings: list[np.ndarray]) -> dict[str, int]:
    return {"recordings": len(recordings), "tokens": sum(map(len, recordings))}


def _ngrams(train: list[np.ndarray], test: list[np.ndarray], codec: Q2D2Config) -> dict[str, Any]:
    """Bits per second by order: of codes, and of the points of codes, with as much to look back at."""
    groups, size = len(codec.points_per_group), codec.codebook_size
    flat = ngram_bits(flat_stream(train, size), flat_stream(test, size), HIGHEST_ORDER)
    points = [factored_stream(part, codec.points_per_group) for part in (train, test)]
    factored = ngram_bits(points[0], points[1], (HIGHEST_ORDER + 1) * groups - 1)
    views = {"flat": (flat, codec.frame_rate), "factored": (factored, groups * codec.frame_rate)}
    return _describe(test) | {name: [_per_second(row, rate) for row in rows] for name, (rows, rate) in views.items()}


def _per_second(row: OrderBits, rate: float) -> dict[str, float]:
    return asdict(row) | {"held_out": row.held_out * rate, "counted": row.counted * rate}
