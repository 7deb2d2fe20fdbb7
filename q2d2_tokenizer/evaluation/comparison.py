"""A codec before and after fine-tuning, on the same recordings."""

from typing import Any

from tqdm.auto import tqdm

from ..feature_extraction_q2d2 import to_float32
from ..training.data import AudioCache
from .clips import Clip
from .codecs import OurCodec
from .metrics import imitated_by
from .plot import arrow
from .provenance import written_by
from .rows import build_metrics
from .statistics import mean_and_interval
from .tables import markdown_table

Scores = dict[str, list[float]]


def measure(source: str, recordings: AudioCache, indices: list[int], names: list[str]) -> Scores:
    """Every score of every recording."""
    codec = OurCodec(source)
    metrics = build_metrics(names, recordings.sampling_rate)
    scores: Scores = {name: [] for name in names}
    for index in tqdm(indices, desc="clips", disable=None):
        clip = Clip(str(index), to_float32(recordings[index]), recordings.sampling_rate)
        decoded = codec(clip)
        for name, metric in metrics.items():
            scores[name].append(metric(clip, decoded.audio)[name])
    return scores


def compare(before: Scores, after: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and interval of every score before and after, and of the differences of the same recordings."""
    return {
        name: {
            "before": mean_and_interval(before[name]),
            "after": mean_and_interval(after[name]),
            "difference": mean_and_interval([b - a for a, b in zip(before[name], after[name], strict=True)]),
        }
        for name in before
    }


def table(result: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    rows = [["recordings", "n", "score", "before", "after", "difference", "imitated by"]]
    for place, scores in result["scores"].items():
        for name, score in scores.items():
            before, after, change = (score[key] for key in ("before", "after", "difference"))
            means = f"{before['mean']:.3f}", f"{after['mean']:.3f}", f"{change['mean']:+.3f} ± {change['interval']:.3f}"
            rows.append([place, str(change["n"]), arrow(name), *means, imitated_by(name)])
    run = result["run"]
    notes = (
        f"{result['training_recordings']} recordings, {result['training_seconds'] / 60:.0f} minutes, to train on; "
        f"{result['steps']} steps in {result['minutes']:.1f} minutes with {run['threads']} threads. Differences are of "
        "the same recordings, ± half-width of the 95 % interval; an arrow shows which way is better."
    )
    return "\n\n".join([markdown_table(rows), notes, written_by(run)]) + "\n"
