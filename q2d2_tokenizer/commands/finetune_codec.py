"""Fine-tune the bundled codec on your own recordings and measure what that gained on some that were held out.

    python scripts/finetune_codec.py --data my_recordings --output runs/my_voice
    python scripts/finetune_codec.py --data my_recordings --output runs/my_voice --freeze encoder quantizer

Trains with configs/finetune.yaml; every setting of train_codec.py can be given, also in a --config of your own, --check
examines data and settings first, and an interrupted run goes on. Then the codec before and after codes the held-out
recordings, and with --elsewhere also recordings of other data, to see what was lost there. Writes weights/ (a
checkpoint like any other), comparison.md and comparison.json into the output folder. See docs/finetuning.md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..bundled import default_checkpoint
from ..evaluation.clips import Clip
from ..evaluation.codecs import OurCodec
from ..evaluation.metrics import LOWER_IS_BETTER, METRICS, mean_and_interval
from ..evaluation.provenance import describe_run
from ..evaluation.rows import build_metrics
from ..evaluation.summary import without_nan
from ..feature_extraction_q2d2 import to_float32
from ..training.codec import CodecTrainer
from ..training.data import AudioCache
from .train_codec import check_and_exit, parse

SETTINGS = Path(__file__).parents[2] / "configs" / "finetune.yaml"
SCORES = ["pesq_wb", "stoi", "log_mel", "distillmos", "speaker"]

Scores = dict[str, list[float]]


def measure(checkpoint: str, recordings: AudioCache, indices: list[int], names: list[str]) -> Scores:
    """Every score of every recording."""
    codec = OurCodec(checkpoint)
    metrics = build_metrics(names, recordings.sampling_rate)
    scores: Scores = {name: [] for name in names}
    for index in tqdm(indices, desc="clips", disable=None):
        clip = Clip(str(index), to_float32(recordings[index]), recordings.sampling_rate)
        decoded = codec(clip)
        for name, metric in metrics.items():
            scores[name].append(metric(clip, decoded.audio))
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
    lines = ["| recordings | n | score | before | after | difference |", "|---|---|---|---|---|---|"]
    for place, scores in result["scores"].items():
        for name, score in scores.items():
            arrow = "↓" if name in LOWER_IS_BETTER else "↑"
            before, after, change = (score[key] for key in ("before", "after", "difference"))
            lines.append(
                f"| {place} | {change['n']} | {name} {arrow} | {before['mean']:.3f} | {after['mean']:.3f} "
                f"| {change['mean']:+.3f} ± {change['interval']:.3f} |"
            )
    run = result["run"]
    notes = (
        f"{result['training_recordings']} recordings, {result['training_seconds'] / 60:.0f} minutes, to train on; "
        f"{result['steps']} steps in {result['minutes']:.1f} minutes with {run['threads']} threads. Differences are of "
        "the same recordings, ± half-width of the 95 % interval; an arrow shows which way is better."
    )
    return "\n".join([*lines, "", notes, "", f"Written by `{run['command']}` at commit {run['commit']}."]) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Train, measure and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elsewhere", nargs="+", default=[], help="other recordings to measure on, not trained on")
    parser.add_argument("--clips", type=int, default=24, help="at most that many of them")
    args, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    config, check = parse(["--config", str(SETTINGS), *rest])
    if config.validation_data or not config.hold_out:
        parser.error("recordings are held out of --data: give --hold_out, not --validation_data")
    if not config.codec or config.codec.endswith(".json"):
        parser.error(f"fine-tuning begins with weights: --codec must be 'bundled' or a folder, got {config.codec!r}")
    if check:
        check_and_exit(config)
    trainer = CodecTrainer(config)
    trainer.run()
    if not trainer.accelerator.is_main_process:
        return
    places = {"held out": trainer.validation}
    if args.elsewhere:
        cache = config.cache or f"{config.output}/cache"
        places["elsewhere"] = AudioCache(args.elsewhere, cache, trainer.data.sampling_rate, config.audio_column)
    before = default_checkpoint() if config.codec == "bundled" else config.codec
    names = [name for name in SCORES if not METRICS[name].missing()]
    scores = {}
    for place, recordings in places.items():
        indices = recordings.spread(config.hold_out if place == "held out" else args.clips)
        pair = (measure(source, recordings, indices, names) for source in (before, f"{config.output}/weights"))
        scores[place] = compare(*pair)
    result = {
        "run": describe_run(),
        "training_recordings": len(trainer.data),
        "training_seconds": trainer.data.seconds,
        "steps": trainer.progress.step,
        "minutes": trainer.progress.minutes,
        "scores": scores,
    }
    output = Path(config.output)
    (output / "comparison.json").write_text(json.dumps(without_nan(result), indent=1) + "\n")
    (output / "comparison.md").write_text(table(result))
    print(table(result))
