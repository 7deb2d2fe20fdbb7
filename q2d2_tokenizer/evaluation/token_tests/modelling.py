"""How easily tokens are modelled, in bits per second of audio."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from lm.data import expand_shards, shard_layout
from lm.model import LanguageModel
from lm.pairs import PairLlamaForCausalLM

from ...configuration_q2d2 import Q2D2Config
from ...speech import TextToSpeech
from ...training.data import spread
from ..language_model.likelihood import measure_likelihood
from .ngrams import OrderBits, factored_stream, flat_stream, ngram_bits

HIGHEST_ORDER = 4


def read_tokens(source: str, language_model: LanguageModel, most: int | None = None) -> pyarrow.Table:
    """Rows of token shards, at most that many, evenly spread.

    Raises:
        ValueError: If there are none, or they are of another codec than those of the language model.
    """
    shards = expand_shards([source])
    for path in shards:
        language_model.layout.check_codec(shard_layout(path).codec_fingerprint)
    table = pyarrow.concat_tables([pyarrow.parquet.read_table(path) for path in shards])
    if not len(table):
        raise ValueError(f"no recordings in {source}")
    return table.take(spread(len(table), most))


def measure_modelling(
    held_out: dict[str, str], counted: str | None, speaker: TextToSpeech, most: int | None = None
) -> dict[str, Any]:
    """Bits of held-out tokens: of a language model, and of n-grams, on the same recordings.

    Args:
        held_out: Token shards by what they are called.
        counted: Token shards in which n-grams are counted; without them there are none.
        speaker: Codec and language model.
        most: Largest number of recordings of each, evenly spread; all if None.
    """
    model, codec = speaker.language_model, speaker.codec.config
    tables = {name: read_tokens(source, model, most) for name, source in held_out.items()}
    result: dict[str, Any] = {
        "frame_rate": codec.frame_rate,
        "vocabulary": codec.codebook_size,
        "nominal_bits_per_second": codec.bitrate,
        "parameters": model.model.num_parameters(),
        "head": "pair tokens" if isinstance(model.model, PairLlamaForCausalLM) else "flat",
        "context": model.model.config.max_position_embeddings,
        "language_model": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            shard = Path(folder) / "shard.parquet"
            pyarrow.parquet.write_table(table, shard)
            result["language_model"][name] = measure_likelihood(model, codec, [str(shard)])
    if counted:
        train = _codes(read_tokens(counted, model))
        found = {name: _ngrams(train, _codes(table), codec) for name, table in tables.items()}
        result["ngrams"] = {"counted": {"source": counted} | _describe(train), "held_out": found}
    return result


def _codes(table: pyarrow.Table) -> list[np.ndarray]:
    return [np.array(row, np.int64) for row in table["codes"].to_pylist()]


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
