"""Measure a codec where it was not trained: noise, other languages, music, effects; all in one picture.

    python scripts/evaluate_domains.py --speech speech --output docs/results/domains --clips 40 -- --metrics all

Evaluates every domain of DOMAINS whose files are in the folder of --speech, and noisy speech: the clips of NOISY mixed
with those of NOISE at each of --snr, always the same ones. Writes <domain>/evaluation.json and the other files of
`evaluate_codec.py`, domains.png and domains.md; an interrupted run goes on. What follows -- is for `evaluate_codec.py`.
For noisy speech the reference is the noisy recording: a codec shall give back what it was given.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio.files import replaced_when_complete
from ..evaluation.arguments import clip_count
from ..evaluation.clips import Clip, load_clips
from ..evaluation.plot import plot_scores
from ..evaluation.report import format_score
from ..evaluation.summary import read_result
from ..evaluation.tables import markdown_table
from . import evaluate_codec

DOMAINS = {
    "English, many speakers": "librispeech-validation-*.parquet",
    "English, studio": "kathleen-validation-*.parquet",
    "Dutch": "{nathalie,flemishguy}-train-*.parquet",
    "French": "fleursdumal-train-*.parquet",
    "music": "outofdomain-music-test-*.parquet",
    "environment": "outofdomain-environment-test-*.parquet",
}
NOISY, NOISE = "English, many speakers", "environment"
SAMPLING_RATE = 24000


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech (N,) with noise (M,), repeated or cut, at a ratio of their energies in dB; peaks stay below 1."""
    noise = np.resize(noise, len(speech))
    gain = np.sqrt((speech**2).sum() / max(float((noise**2).sum()), 1e-9) / 10 ** (snr_db / 10))
    mixed = speech + gain * noise
    return (mixed * min(1.0, 0.99 / np.abs(mixed).max())).astype(np.float32)


def find(folder: Path, pattern: str) -> list[str]:
    """Files of a pattern with alternatives in braces."""
    head, _, rest = pattern.partition("{")
    choices, _, tail = rest.partition("}")
    patterns = [head + choice + tail for choice in choices.split(",")] if rest else [pattern]
    return [str(path) for name in patterns for path in sorted(folder.glob(name))]


def write_noisy(speech: list[Clip], noise: list[Clip], snr_db: float, path: Path) -> None:
    """A Parquet file of clips mixed with noise: every clip with another piece, chosen by its number.

    A file that holds them already is left alone, so that its audio is decoded once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for number, clip in enumerate(speech):
        content = io.BytesIO()
        mixed = mix(clip.audio, noise[number % len(noise)].audio, snr_db)
        soundfile.write(content, mixed, clip.sampling_rate, format="FLAC", subtype="PCM_16")
        rows.append({"id": clip.id, "audio": {"bytes": content.getvalue(), "path": None}, "text": clip.text})
    table = pa.Table.from_pylist(rows)
    try:
        is_there = pq.read_table(path).equals(table)
    except (OSError, pa.ArrowInvalid):  # none yet, or broken
        is_there = False
    if not is_there:
        with replaced_when_complete(path) as partial:
            pq.write_table(table, partial)


def collect(args: argparse.Namespace) -> dict[str, list[str]]:
    """Files of every domain that is there, noisy speech included."""
    domains = {name: files for name, pattern in DOMAINS.items() if (files := find(args.speech, pattern))}
    if NOISY in domains and NOISE in domains:
        speech, noise = (load_clips(domains[name], args.cache, SAMPLING_RATE, args.clips) for name in (NOISY, NOISE))
        for snr_db in args.snr:
            path = args.cache / f"noisy-{snr_db:g}dB.parquet"
            write_noisy(speech, noise, snr_db, path)
            domains[f"noisy, {snr_db:g} dB"] = [str(path)]
    return domains


def write_summary(folder: Path, results: dict[str, dict[str, Any]]) -> None:
    """domains.md and domains.png: the codec under test in every domain."""
    ours = {name: next(iter(result["summary"].values())) for name, result in results.items()}
    scores = list(dict.fromkeys(score for summary in ours.values() for score in summary))
    table = [["domain", "clips", *scores, "entropy bit/s"]]
    for name, result in results.items():
        codec = next(iter(result["summary"]))
        cells = [format_score(ours[name].get(score), result["data"]["clips"]) for score in scores]
        table.append([name, str(result["data"]["clips"]), *cells, f"{result['codecs'][codec]['entropy_bps']:.0f}"])
    run = next(iter(results.values()))["run"]
    note = f"Mean ± half-width of the 95 % interval. Written by `{run['command']}` at commit {run['commit']}."
    (folder / "domains.md").write_text(f"{markdown_table(table)}\n\n{note}\n")
    plot_scores(folder / "domains.png", ours)


def main(argv: list[str] | None = None) -> None:
    """Evaluate every domain and write the summary."""
    argv = sys.argv[1:] if argv is None else argv
    own, further = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="folder with the recordings")
    parser.add_argument("--output", type=Path, default=Path("docs/results/domains"), help="folder for the results")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for decoded audio")
    parser.add_argument("--clips", type=clip_count, default=40, help="of each domain at most")
    parser.add_argument("--snr", type=float, nargs="+", default=[20.0, 10.0, 5.0], help="of noisy speech, in dB")
    args = parser.parse_args(own)
    domains = collect(args)
    if not domains:
        parser.error(f"no files of {', '.join(DOMAINS.values())} in {args.speech}")
    results = {}
    for name, files in domains.items():
        output = args.output / "".join(c if c.isalnum() else "-" for c in name.lower())
        data = ["--data", *files, "--output", str(output), "--cache", str(args.cache), "--clips", str(args.clips)]
        evaluate_codec.main([*data, "--title", name, *further])
        results[name] = read_result(output)
    write_summary(args.output, results)
