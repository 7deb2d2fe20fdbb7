"""From rows of clips to what is reported: means, bitrates, speed and use of the codebook."""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.files import read_json
from ..training.statistics import usage
from .codecs import OurCodec
from .rows import Row, flat_scores
from .statistics import mean_and_interval, ratio_and_interval


def summarize(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Mean, interval and n of every score of one codec, and why clips were left out, if any were."""
    scores, speakers = [flat_scores(row) for row in rows], [row["speaker"] for row in rows]
    columns = {name: [values[name] for values in scores] for name in scores[0]}
    errors, words = (columns.pop(name, None) for name in ("word_errors", "words"))
    summary: dict[str, Any] = {name: mean_and_interval(values, speakers) for name, values in columns.items()}
    for name, score in summary.items():
        if reasons := Counter(row["reasons"][name] for row in rows if name in row.get("reasons", {})):
            score["left_out"] = dict(reasons)
    if errors is None or words is None:
        return summary
    return summary | {"wer": ratio_and_interval(errors, words, speakers)}


def describe_clip(row: Row) -> dict[str, Any]:
    """What evaluation.json holds of a clip: its scores, and why some are missing, if they are."""
    kept = {name: reason for name, reason in row.get("reasons", {}).items() if name in flat_scores(row)}
    return {"clip": row["clip"], "speaker": row["speaker"], **flat_scores(row)} | ({"reasons": kept} if kept else {})


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


def _as_given_here(source: str) -> str:
    """A folder as seen from the current one, so that results name no machine; a name on the Hub stays."""
    return os.path.relpath(source) if os.path.isabs(source) else source


def describe_ours(codec: OurCodec, rows: list[Row], memory: dict[str, float] | None) -> dict[str, Any]:
    """What is known of the codec under test alone: use of the joint codebook and of every group, memory."""
    codes = np.concatenate([row["facts"]["codes"] for row in rows])
    indices = codec.model.quantizer.codes_to_indices(torch.from_numpy(codes)).T.numpy()
    points = codec.model.config.points_per_group
    return {
        "checkpoint": _as_given_here(codec.source),
        "fingerprint": codec.model.fingerprint(),
        "tokens": len(codes),
        "usage": usage(codes, codec.model.config.codebook_size),
        "usage_per_grid": [usage(*group) for group in zip(indices, points, strict=True)],
        "memory": memory,
    }


def read_result(folder: Path) -> dict[str, Any]:
    """The content of evaluation.json, with NaN in its summary for what JSON does not know."""
    result = read_json(folder / "evaluation.json", ["data", "codecs", "summary"])
    for summary in result["summary"].values():
        for score in summary.values():
            score |= {key: math.nan for key, value in score.items() if value is None}
    return result
