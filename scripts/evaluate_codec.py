"""Measure a codec on recordings, next to Opus, Codec2 and folders of audio that other codecs decoded.

    python scripts/evaluate_codec.py --data 'speech/librispeech-validation-*.parquet' --output docs/results
    python scripts/evaluate_codec.py --data speech --clips 100 --metrics all --decoded Mimi=decoded/mimi

Writes evaluation.json (every clip and the summary, with command, commit and versions), evaluation.md (tables) and
evaluation.png, and in the folder details, which git ignores: index.html with players, the audio, and rows.jsonl, from
which an interrupted evaluation goes on, also with more metrics or codecs. Rows are known by checkpoint and samples but
not by the code of the metrics: --restart measures all again.
Opus needs `opusenc` and `opusdec`, Codec2 `c2enc` and `c2dec` (Debian: opus-tools, codec2). A folder of decoded audio
holds one file for each clip, <name of the clip>.wav; --write-clips FOLDER writes the clips under those names.
EnCodec, DAC and Mimi run from folders with their weights: --transformers Mimi=models/mimi,num_quantizers=8
"""

import argparse
import json
from pathlib import Path
from typing import Any

import soundfile
from eval_clips import clip_ids, load_clip
from eval_codecs import DecodedFolder, Original, OurCodec, installed_peers
from eval_memory import measure_memory
from eval_report import write_page, write_plot, write_table
from eval_rows import Row, Rows, build_metrics, flat_scores, measure_clip
from eval_summary import describe_codec, describe_ours, summarize, without_nan
from eval_transformers import TransformersCodec
from provenance import describe_run
from tqdm.auto import tqdm

from q2d2_tokenizer import default_checkpoint
from q2d2_tokenizer.data import AudioCache
from q2d2_tokenizer.metrics import METRICS

ALIGNMENT = (
    "Q2D2 is aligned by construction; others are shifted by the lag of largest cross-correlation, within 100 ms."
)
DEFAULT_METRICS = ["pesq_wb", "pesq_nb", "stoi", "log_mel", "si_sdr"]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The arguments, checked as far as that needs no audio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=default_checkpoint(), help="folder; the bundled one if left out")
    parser.add_argument("--data", nargs="+", required=True, help="Parquet or audio files, folders or globs")
    parser.add_argument("--output", type=Path, default=Path("runs/evaluation"), help="folder for the results")
    parser.add_argument("--cache", default="runs/cache", help="folder for decoded audio")
    parser.add_argument("--clips", type=int, help="at most that many, evenly spread; all if left out")
    parser.add_argument("--no-peers", action="store_true", help="leave out Opus and Codec2")
    parser.add_argument("--decoded", nargs="+", default=[], metavar="NAME=FOLDER", help="output of other codecs")
    parser.add_argument("--transformers", nargs="+", default=[], metavar="NAME=FOLDER", help="EnCodec, DAC or Mimi")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=DEFAULT_METRICS,
        choices=[*METRICS, "all"],
        metavar="METRIC",
        help=f"of {', '.join(METRICS)}, or all; {' '.join(DEFAULT_METRICS)} if left out",
    )
    parser.add_argument("--listen", type=int, default=3, help="clips on the page with players")
    parser.add_argument("--write-clips", type=Path, metavar="FOLDER", help="write the clips as wav files and stop")
    parser.add_argument("--restart", action="store_true", help="forget the rows of earlier runs")
    args = parser.parse_args(argv)
    if "all" in args.metrics:
        args.metrics = list(METRICS)
    args.decoded = dict(item.partition("=")[::2] for item in args.decoded)
    args.transformers = dict(item.partition("=")[::2] for item in args.transformers)
    for name in () if args.write_clips else args.metrics:
        if METRICS[name].missing():
            modules, install = ", ".join(METRICS[name].missing()), METRICS[name].install
            parser.error(f"the metric {name} needs {modules}, which is not installed: pip install {install}")
    for name, folder in args.decoded.items():
        if not Path(folder or "?").is_dir():
            parser.error(f"--decoded takes NAME=FOLDER, and {folder!r} of {name!r} is not a folder")
    return args


def evaluate(codecs: list, clips: AudioCache, ids: list[str], indices: list[int], args: argparse.Namespace) -> dict:
    """Rows of every clip by name of the codec; those that rows.jsonl holds are not measured again."""
    details = args.output / "details"
    rows = Rows(details / "rows.jsonl")
    metrics = build_metrics(args.metrics, clips.sampling_rate)
    listen = {indices[i * len(indices) // args.listen] for i in range(args.listen)} if args.listen else set()
    measured: dict[str, list[Row]] = {codec.name: [] for codec in codecs}
    with tqdm(total=len(indices) * len(codecs), desc="clips x codecs", disable=None) as bar:
        for index in indices:
            clip = load_clip(clips, ids, index)
            for codec in codecs:
                audio = details / "audio" if index in listen else None
                row = measure_clip(codec, clip, metrics, rows, audio)
                chosen = {name: row["scores"][name] for name in metrics if name in row["scores"]}
                measured[codec.name].append(row | {"scores": chosen, "listen": index in listen})
                bar.update()
    return measured


def prepare_output(folder: Path, restart: bool) -> None:
    """The folder of the results, and in it the one that git ignores."""
    (folder / "details" / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "details" / ".gitignore").write_text("*\n")
    if restart:
        (folder / "details" / "rows.jsonl").unlink(missing_ok=True)


def write_results(folder: Path, result: dict[str, Any], measured: dict[str, list[Row]]) -> None:
    """All files of the results."""
    (folder / "evaluation.json").write_text(json.dumps(without_nan(result), indent=1) + "\n")
    write_table(folder / "evaluation.md", result)
    write_plot(folder / "evaluation.png", result)
    listen = [list(rows) for rows in zip(*measured.values(), strict=True) if rows[0]["listen"]]
    details = folder / "details"
    write_page(details / "index.html", result, folder / "evaluation.png", details / "audio", listen)


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, measure and write the results."""
    args = parse_arguments(argv)
    ours = OurCodec(args.checkpoint)
    clips = AudioCache(args.data, args.cache, ours.model.config.sampling_rate)
    ids, indices = clip_ids(args.data), clips.spread(args.clips)
    if args.write_clips:
        args.write_clips.mkdir(parents=True, exist_ok=True)
        for clip in (load_clip(clips, ids, index) for index in indices):
            soundfile.write(args.write_clips / f"{clip.id}.wav", clip.audio, clip.sampling_rate)
        return
    codecs = [ours, *([] if args.no_peers else installed_peers())]
    codecs += [DecodedFolder(name, folder, [ids[i] for i in indices]) for name, folder in args.decoded.items()]
    codecs += [TransformersCodec(name, spec) for name, spec in args.transformers.items()]
    if len({codec.name for codec in codecs}) < len(codecs):
        raise ValueError(f"codecs must have different names, got {[codec.name for codec in codecs]}")
    if any(not METRICS[name].needs_reference for name in args.metrics):
        codecs.append(Original())
    prepare_output(args.output, args.restart)
    measured = evaluate(codecs, clips, ids, indices, args)
    own = describe_ours(ours, measured[ours.name], measure_memory(args.checkpoint, seconds=10.0))
    described = {codec.name: describe_codec(measured[codec.name], codec.bitrate) for codec in codecs}
    described[ours.name]["entropy_bps"] = own["usage"]["entropy_bits"] * ours.model.config.frame_rate
    result = {
        "run": describe_run(),
        "alignment": ALIGNMENT,
        "data": {
            "sources": args.data,
            "clips": len(indices),
            "seconds": sum(len(clips[i]) for i in indices) / clips.sampling_rate,
        },
        "ours": own,
        "codecs": described,
        "summary": {name: summarize(rows) for name, rows in measured.items()},
        "clips": {name: [{"clip": row["clip"], **flat_scores(row)} for row in rows] for name, rows in measured.items()},
    }
    write_results(args.output, result, measured)
    print((args.output / "evaluation.md").read_text())


if __name__ == "__main__":
    main()
