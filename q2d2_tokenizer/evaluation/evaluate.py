"""Measuring a codec on recordings, next to Opus, Codec2 and others."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import soundfile
from tqdm.auto import tqdm

from ..audio.files import make_folder, write_json
from ..bundled import codec_source
from .clips import Clip, load_clips
from .codecs import Codec, DecodedFolder, Original, OurCodec
from .memory import measure_memory
from .metrics import METRICS
from .options import EvaluationOptions
from .plot import plot_scores
from .programs import Program, installed_peers
from .provenance import describe_run, require_commit
from .report import as_markdown, write_page
from .rows import Row, Rows, build_metrics, measure_clip, needs_reference
from .summary import describe_clip, describe_codec, describe_ours, summarize
from .transformers_codecs import TransformersCodec

ALIGNMENT = (
    "Q2D2 is aligned by construction; others are shifted by the lag of largest cross-correlation, within 100 ms."
)


def evaluate_codec(data: list[str] | str, **options: Any) -> dict[str, Any]:
    """Measure a codec on recordings, next to others; the command `q2d2 evaluate` as a call.

    Args:
        data: Parquet, tar or audio files, folders, globs, lists or URLs (see docs/inputs.md).
        **options: Fields of `EvaluationOptions`: codec, output, metrics and others.

    Returns:
        What evaluation.json holds.

    Raises:
        ValueError: If there are no such recordings, a metric is unknown or not installed, or codecs have the same name.
    """
    chosen = EvaluationOptions(**options)
    output, cache, data = Path(chosen.output), chosen.cache, [data] if isinstance(data, str) else data
    metrics = list(METRICS) if "all" in chosen.metrics else chosen.metrics
    check_metrics(metrics, METRICS)
    require_commit(output)
    make_folder(output)
    for name, folder in chosen.decoded.items():
        if not folder or not Path(folder).is_dir():
            raise ValueError(f"decoded takes NAME=FOLDER, and {folder!r} of {name!r} is not a folder")
    source = codec_source(chosen.codec)
    ours = OurCodec(source)
    rate = ours.model.config.sampling_rate
    found = load_clips(data, cache, rate, chosen.clips, **chosen.columns, output=str(output))
    codecs: list[Codec] = [ours, *(installed_peers(rate) if chosen.peers else [])]
    codecs += [DecodedFolder(name, folder, [clip.id for clip in found]) for name, folder in chosen.decoded.items()]
    codecs += [TransformersCodec(name, spec) for name, spec in chosen.transformers.items()]
    codecs += [Program(name, spec) for name, spec in chosen.program.items()]
    if len({codec.name for codec in codecs}) < len(codecs):
        raise ValueError(f"codecs must have different names, got {[codec.name for codec in codecs]}")
    if chosen.asr or any(not needs_reference(name) for name in metrics):
        codecs.append(Original())
    details = prepare_output(output, chosen.restart)
    measures = build_metrics(metrics, rate, chosen.asr, ours.model.config.frame_rate)
    measured = _measure(codecs, found, details, measures, chosen.listen)
    own = describe_ours(ours, measured[ours.name], measure_memory(source, seconds=10.0))
    described = {codec.name: describe_codec(measured[codec.name], codec.bitrate) for codec in codecs}
    described[ours.name]["entropy_bps"] = own["usage"]["entropy_bits"] * ours.model.config.frame_rate
    result = {
        "run": describe_run(),
        "alignment": ALIGNMENT,
        "data": {
            "title": chosen.title,
            "sources": data,
            "clips": len(found),
            "speakers": len({clip.speaker for clip in found}),
            "seconds": sum(len(clip.audio) / clip.sampling_rate for clip in found),
        },
        "ours": own,
        "codecs": described,
        "summary": {name: summarize(rows) for name, rows in measured.items()},
        "clips": {name: [describe_clip(row) for row in rows] for name, rows in measured.items()},
    }
    write_results(output, result, measured)
    return result


def check_metrics(names: list[str], known: Iterable[str]) -> None:
    """Refuse metrics that are unknown or cannot be computed here.

    Raises:
        ValueError: If there is one; names what to install.
    """
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"metrics must be of {', '.join(known)}, got {', '.join(unknown)}")
    for name in names:
        if METRICS[name].missing():
            modules, install = ", ".join(METRICS[name].missing()), METRICS[name].install
            raise ValueError(f"the metric {name} needs {modules}, which is not installed: pip install {install}")


def write_clips(clips: list[Clip], folder: Path) -> None:
    """Write clips as <name of the clip>.wav, for other codecs to decode."""
    make_folder(folder)
    for clip in clips:
        soundfile.write(folder / f"{clip.id}.wav", clip.audio, clip.sampling_rate)


def _measure(
    codecs: list[Codec], clips: list[Clip], details: Path, metrics: dict[str, Any], listen: int
) -> dict[str, list[Row]]:
    """Rows of every clip by name of the codec; those that rows.jsonl holds are not measured again."""
    rows = Rows(details / "rows.jsonl")
    heard = {i * len(clips) // listen for i in range(listen)}
    measured: dict[str, list[Row]] = {codec.name: [] for codec in codecs}
    with tqdm(total=len(clips) * len(codecs), desc="clips x codecs", disable=None) as bar:
        for index, clip in enumerate(clips):
            for codec in codecs:
                row = measure_clip(codec, clip, metrics, rows, details / "audio" if index in heard else None)
                chosen = {name: row["scores"][name] for name in metrics if name in row["scores"]}
                measured[codec.name].append(row | {"scores": chosen, "listen": index in heard})
                bar.update()
    return measured


def prepare_output(folder: Path, restart: bool) -> Path:
    """Make the folder of the results, and in it the one that git ignores, which is returned."""
    make_folder(folder / "details" / "audio")
    (folder / "details" / ".gitignore").write_text("*\n")
    if restart:
        (folder / "details" / "rows.jsonl").unlink(missing_ok=True)
    return folder / "details"


def write_results(folder: Path, result: dict[str, Any], measured: dict[str, list[Row]]) -> None:
    """All files of the results."""
    write_json(folder / "evaluation.json", result)
    (folder / "evaluation.md").write_text(as_markdown(result) + "\n")
    plot_scores(folder / "evaluation.png", result["summary"])
    listen = [list(rows) for rows in zip(*measured.values(), strict=True) if rows[0]["listen"]]
    details = folder / "details"
    write_page(details / "index.html", result, folder / "evaluation.png", details / "audio", listen)
