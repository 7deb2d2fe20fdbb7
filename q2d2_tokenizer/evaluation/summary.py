"""From the rows of `evaluate_codec.py` to what it reports: means, bitrates, speed and use of the codebook."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .codecs import OurCodec
from .metrics import mean_and_interval, ratio_and_interval, usage
from .rows import Row, flat_scores


def summarize(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Mean, interval and n of every score of one codec."""
    scores = [flat_scores(row) for row in rows]
    columns = {name: [values[name] for values in scores] for name in scores[0]}
    errors, words = (columns.pop(name, None) for name in ("word_errors", "words"))
    summary = {name: mean_and_interval(values) for name, values in columns.items()}
    return summary if words is None else summary | {"wer": ratio_and_interval(errors, words)}


def describe_codec(rows: list[Row], nominal_bps: float | None) -> dict[str, float]:
    """Bitrate and speed of one codec, as far as its rows tell."""
    seconds = sum(row["seconds"] for row in rows)
    facts = {} if nominal_bps is None else {"nominal_bps": nominal_bps}
    for fact, name in {"code_bits": "nominal_bps", "file_bits": "file_bps"}.items():
        if all(fact in row["facts"] for row in rows):
            facts[name] = sum(row["facts"][fact] for row in rows) / seconds
    for part in ("encode", "decode"):
        if all(f"{part}_seconds" in row["facts"] for row in rows):
            facts[f"{part}_speed"] = seconds / sum(row["facts"][f"{part}_seconds"] for row in rows)
    return facts


def _as_given_here(checkpoint: str) -> str:
    """A folder as seen from the current one, so that results name no machine; a name on the Hub stays."""
    return os.path.relpath(checkpoint) if os.path.isabs(checkpoint) else checkpoint


def describe_ours(codec: OurCodec, rows: list[Row], memory: dict[str, float] | None) -> dict[str, Any]:
    """What is known of the codec under test alone: use of the joint codebook and of every grid, memory."""
    codes = np.concatenate([row["facts"]["codes"] for row in rows])
    lattices = getattr(codec.model.quantizer, "lattices", None)
    grids = lattices.codes_to_indices(torch.from_numpy(codes)).T.numpy() if lattices else []
    return {
        "checkpoint": _as_given_here(codec.checkpoint),
        "fingerprint": codec.fingerprint,
        "tokens": len(codes),
        "usage": usage(codes, codec.model.config.codebook_size),
        "usage_per_grid": [
            usage(g, n) for g, n in zip(grids, lattices.points_per_group if lattices else [], strict=True)
        ],
        "memory": memory,
    }


def without_nan(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_result(folder: Path) -> dict[str, Any]:
    """The content of evaluation.json, with NaN in its summary for what JSON does not know."""
    result = json.loads((folder / "evaluation.json").read_text())
    for summary in result["summary"].values():
        for score in summary.values():
            score.update({key: math.nan for key, value in score.items() if value is None})
    return result
