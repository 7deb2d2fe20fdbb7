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
X-codec2 of transformers needs torchaudio: decode the clips elsewhere and give the folder. Any other program, such as
Lyra, runs by --program (see evaluation/programs.py). --asr FOLDER adds the word error rate (see
evaluation/asr.py).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import soundfile
from tqdm.auto import tqdm

from ..evaluation.arguments import parse_arguments
from ..evaluation.clips import Clip, load_clips
from ..evaluation.codecs import DecodedFolder, Original, OurCodec, installed_peers
from ..evaluation.memory import measure_memory
from ..evaluation.plot import plot_scores
from ..evaluation.programs import Program
from ..evaluation.provenance import describe_run
from ..evaluation.report import write_page, write_table
from ..evaluation.rows import Row, Rows, build_metrics, flat_scores, measure_clip, needs_reference
from ..evaluation.summary import describe_codec, describe_ours, summarize, without_nan
from ..evaluation.transformers_codecs import TransformersCodec

ALIGNMENT = (
    "Q2D2 is aligned by construction; others are shifted by the lag of largest cross-correlation, within 100 ms."
)


def evaluate(codecs: list, clips: list[Clip], args: argparse.Namespace) -> dict[str, list[Row]]:
    """Rows of every clip by name of the codec; those that rows.jsonl holds are not measured again."""
    details = args.output / "details"
    rows = Rows(details / "rows.jsonl")
    metrics = build_metrics(args.metrics, clips[0].sampling_rate, args.asr)
    listen = {i * len(clips) // args.listen for i in range(args.listen)}
    measured: dict[str, list[Row]] = {codec.name: [] for codec in codecs}
    with tqdm(total=len(clips) * len(codecs), desc="clips x codecs", disable=None) as bar:
        for index, clip in enumerate(clips):
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
    plot_scores(folder / "evaluation.png", result["summary"])
    listen = [list(rows) for rows in zip(*measured.values(), strict=True) if rows[0]["listen"]]
    details = folder / "details"
    write_page(details / "index.html", result, folder / "evaluation.png", details / "audio", listen)


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, measure and write the results."""
    args = parse_arguments(argv, __doc__)
    ours = OurCodec(args.checkpoint)
    options = (args.clips, args.audio_column, args.id_column, args.text_column, str(args.output))
    clips = load_clips(args.data, args.cache, ours.model.config.sampling_rate, *options)
    if args.write_clips:
        args.write_clips.mkdir(parents=True, exist_ok=True)
        for clip in clips:
            soundfile.write(args.write_clips / f"{clip.id}.wav", clip.audio, clip.sampling_rate)
        return
    codecs = [ours, *([] if args.no_peers else installed_peers())]
    codecs += [DecodedFolder(name, folder, [clip.id for clip in clips]) for name, folder in args.decoded.items()]
    codecs += [TransformersCodec(name, spec) for name, spec in args.transformers.items()]
    codecs += [Program(name, spec) for name, spec in args.program.items()]
    if len({codec.name for codec in codecs}) < len(codecs):
        raise ValueError(f"codecs must have different names, got {[codec.name for codec in codecs]}")
    if args.asr or any(not needs_reference(name) for name in args.metrics):
        codecs.append(Original())
    prepare_output(args.output, args.restart)
    measured = evaluate(codecs, clips, args)
    own = describe_ours(ours, measured[ours.name], measure_memory(args.checkpoint, seconds=10.0))
    described = {codec.name: describe_codec(measured[codec.name], codec.bitrate) for codec in codecs}
    described[ours.name]["entropy_bps"] = own["usage"]["entropy_bits"] * ours.model.config.frame_rate
    result = {
        "run": describe_run(),
        "alignment": ALIGNMENT,
        "data": {
            "title": args.title,
            "sources": args.data,
            "clips": len(clips),
            "seconds": sum(len(clip.audio) / clip.sampling_rate for clip in clips),
        },
        "ours": own,
        "codecs": described,
        "summary": {name: summarize(rows) for name, rows in measured.items()},
        "clips": {name: [{"clip": row["clip"], **flat_scores(row)} for row in rows] for name, rows in measured.items()},
    }
    write_results(args.output, result, measured)
    print((args.output / "evaluation.md").read_text())
