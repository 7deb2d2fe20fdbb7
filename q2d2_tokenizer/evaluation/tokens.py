"""How the tokens of a data set are used: histogram of every group, tokens per second, entropies."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from ..audio.files import make_folder, write_json
from ..audio.token_file import check_in_codebook
from ..corpus.shards import list_shards, read_metadata
from ..training.statistics import entropy_of_counts
from .plot import panels
from .provenance import describe_run, require_commit, written_by
from .tables import format_cell, markdown_table, rows_table


def read_counts(folder: Path, codec_fingerprint: str | None) -> dict[str, Any]:
    """Counts of all tokens and lengths of all recordings of a data set.

    Raises:
        ValueError: If shards are damaged, of another codec or of several, or hold no tokens.
        FileNotFoundError: If there are none.
    """
    shards = list_shards(folder, codec_fingerprint)
    codec = read_metadata(shards[0])
    list_shards(folder, codec["codec_fingerprint"])  # all of one codec
    counts, samples = np.zeros(int(codec["codebook_size"]), np.int64), []
    for path in tqdm(shards, desc="shards", disable=None):
        table = pq.read_table(path, columns=["codes", "num_samples"])
        codes = table["codes"].combine_chunks().flatten().to_numpy()
        check_in_codebook(codes, len(counts), str(path))
        counts += np.bincount(codes, minlength=len(counts))
        samples.append(table["num_samples"].to_numpy())
    if not counts.any():
        raise ValueError(f"{folder} holds no tokens")
    return {"codec": codec, "counts": counts, "seconds": np.concatenate(samples) / int(codec["sampling_rate"])}


def group_counts(counts: np.ndarray, points_per_group: list[int]) -> list[np.ndarray]:
    """Counts of the points of every group; the first group is the least significant digit of a token."""
    joint = counts.reshape(points_per_group[::-1])  # the last axis is the first group
    axes = range(joint.ndim)
    return [joint.sum(tuple(axis for axis in axes if axis != joint.ndim - 1 - j)) for j in axes]


def describe(name: str, counts: np.ndarray) -> dict[str, Any]:
    """Use of a group or of the whole codebook."""
    entropy = entropy_of_counts(counts)
    row = {"codebook": name, "codes": counts.size, "used": int((counts > 0).sum()), "entropy_bits": entropy}
    return row | {"at_most_bits": math.log2(counts.size), "perplexity": 2**entropy}


def summarize(found: dict[str, Any], groups: list[np.ndarray]) -> dict[str, Any]:
    """What tokens.json holds."""
    codec, counts, seconds = found["codec"], found["counts"], float(found["seconds"].sum())
    usage = [describe("joint", counts), *(describe(f"group {j}", one) for j, one in enumerate(groups, 1))]
    joint, nominal_rate = usage[0], int(codec["sampling_rate"]) / int(codec["hop_length"])
    rate = counts.sum() / seconds
    return {
        "run": describe_run(),
        "codec": codec,
        "rates": {
            "recordings": len(found["seconds"]),
            "hours": seconds / 3600,
            "tokens": int(counts.sum()),
            "tokens_per_second": float(rate),
            "nominal_tokens_per_second": nominal_rate,
            "nominal_bits_per_second": nominal_rate * joint["at_most_bits"],
            "entropy_bits_per_second": float(rate * joint["entropy_bits"]),
            "sum_of_grid_entropies_bits": sum(row["entropy_bits"] for row in usage[1:]),
        },
        "usage": usage,
        "counts_per_grid": [group.tolist() for group in groups],
    }


def write_plot(path: Path, found: dict[str, Any], groups: list[np.ndarray], summary: dict[str, Any]) -> None:
    """Histogram of every group, counts of all tokens by rank, and lengths of the recordings."""
    joint, *usage = summary["usage"]
    rates = summary["rates"]
    with panels(path, len(groups) + 2, 1, (9, 2)) as (*histograms, ranks, lengths):
        for axis, counts, row in zip(histograms, groups, usage, strict=True):
            axis.bar(np.arange(len(counts)), counts / counts.sum(), width=1.0)
            axis.axhline(1 / len(counts), color="C7", linewidth=0.8)
            bits = f"{row['entropy_bits']:.2f} of {row['at_most_bits']:.2f} bits"
            axis.set(title=f"{row['codebook']}: {row['used']} of {row['codes']} points, {bits}", ylabel="share")
        ranks.loglog(np.arange(1, joint["used"] + 1), np.sort(found["counts"][found["counts"] > 0])[::-1])
        bits = f"{rates['entropy_bits_per_second']:.0f} of {rates['nominal_bits_per_second']:.0f} bit/s"
        ranks.set(title=f"tokens by rank: {joint['used']} of {joint['codes']}, {bits}", ylabel="count")
        lengths.hist(found["seconds"], bins=40)
        title = f"{rates['tokens_per_second']:.2f} tokens/s, {rates['hours']:.2f} h"
        lengths.set(title=title, xlabel="seconds", ylabel="recordings")


def write_results(folder: Path, found: dict[str, Any]) -> str:
    """Write tokens.json, tokens.md and tokens.png; returns the tables.

    Args:
        folder: Folder to write; made if absent.
        found: What `read_counts` found.
    """
    require_commit(folder)
    groups = group_counts(found["counts"], json.loads(found["codec"]["points_per_group"]))
    summary = summarize(found, groups)
    make_folder(folder)
    write_json(folder / "tokens.json", summary)
    rates = [["", "value"], *([name.replace("_", " "), format_cell(value)] for name, value in summary["rates"].items())]
    source = f"Codec {found['codec']['codec_fingerprint']}. {written_by(summary['run'])}"
    text = "\n\n".join([markdown_table(rates), rows_table(summary["usage"]), source])
    (folder / "tokens.md").write_text(text + "\n")
    write_plot(folder / "tokens.png", found, groups, summary)
    return text
