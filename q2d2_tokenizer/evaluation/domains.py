"""A codec where it was not trained: noise, other languages, music, effects."""

import glob
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio.files import replaced_when_complete
from ..corpus.inputs import matching_paths
from .clips import Clip, load_clips
from .metrics import RESAMPLING, imitated_by
from .plot import arrow, plot_scores
from .provenance import written_by
from .report import IMITATED, format_score, interval_note
from .tables import markdown_table

DOMAINS = {
    "English, many speakers": ["librispeech-validation-*.parquet"],
    "English, studio": ["kathleen-validation-*.parquet"],
    "Dutch": ["nathalie-train-*.parquet", "flemishguy-train-*.parquet"],
    "French": ["fleursdumal-train-*.parquet"],
    "music": ["outofdomain-music-test-*.parquet"],
    "environment": ["outofdomain-environment-test-*.parquet"],
}
NOISY, NOISE = "English, many speakers", "environment"
SAMPLING_RATE = 24000  # of noisy speech, in Hz


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech (N,) with noise (M,), repeated or cut, at a ratio of their energies in dB; peaks stay below 1."""
    noise = np.resize(noise, len(speech))
    gain = np.sqrt((speech**2).sum() / max(float((noise**2).sum()), 1e-9) / 10 ** (snr_db / 10))
    mixed = speech + gain * noise
    return (mixed * min(1.0, 0.99 / np.abs(mixed).max())).astype(np.float32)


def write_noisy(speech: list[Clip], noise: list[Clip], snr_db: float, path: Path) -> None:
    """A Parquet file of clips mixed with noise: every clip with another noise, chosen by its number.

    A file that holds them already is left alone, so that its audio is decoded once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for number, clip in enumerate(speech):
        content = io.BytesIO()
        mixed = mix(clip.audio, noise[number % len(noise)].audio, snr_db)
        soundfile.write(content, mixed, clip.sampling_rate, format="FLAC", subtype="PCM_16")
        audio = {"bytes": content.getvalue(), "path": None}
        rows.append({"id": clip.id, "audio": audio, "text": clip.text, "speaker": clip.speaker})
    table = pa.Table.from_pylist(rows)
    try:
        is_there = pq.read_table(path).equals(table)
    except (OSError, pa.ArrowInvalid):  # none yet, or broken
        is_there = False
    if not is_there:
        with replaced_when_complete(path) as partial:
            pq.write_table(table, partial)


def collect(speech: Path, cache: Path, clips: int | None, snr: list[float]) -> dict[str, list[str]]:
    """Files of every domain that is there, noisy speech at each of some ratios in dB included.

    Raises:
        ValueError: If there are none.
    """
    folder = glob.escape(str(speech))
    paths = {
        name: [str(path) for pattern in patterns for path in matching_paths(f"{folder}/{pattern}")]
        for name, patterns in DOMAINS.items()
    }
    domains = {name: files for name, files in paths.items() if files}
    if not domains:
        raise ValueError(f"no files of {', '.join(sum(DOMAINS.values(), []))} in {speech}")
    if NOISY in domains and NOISE in domains:
        clean, noise = (load_clips(domains[name], cache, SAMPLING_RATE, clips) for name in (NOISY, NOISE))
        for snr_db in snr:
            path = cache / f"noisy-{snr_db:g}dB.parquet"
            write_noisy(clean, noise, snr_db, path)
            domains[f"noisy, {snr_db:g} dB"] = [str(path)]
    return domains


def write_summary(folder: Path, results: dict[str, dict[str, Any]]) -> None:
    """domains.md and domains.png: the codec under test in every domain."""
    ours = {name: next(iter(result["summary"].values())) for name, result in results.items()}
    scores = list(dict.fromkeys(score for summary in ours.values() for score in summary))
    table = [["domain", "clips", *map(arrow, scores), "entropy bit/s"]]
    for name, result in results.items():
        codec = next(iter(result["summary"]))
        cells = [format_score(ours[name].get(score), result["data"]["clips"]) for score in scores]
        table.append([name, str(result["data"]["clips"]), *cells, f"{result['codecs'][codec]['entropy_bps']:.0f}"])
    table.append([IMITATED, "–", *map(imitated_by, scores), "–"])
    first = next(iter(results.values()))
    note = f"{interval_note(first)} {RESAMPLING} {written_by(first['run'])}"
    (folder / "domains.md").write_text(f"{markdown_table(table)}\n\n{note}\n")
    plot_scores(folder / "domains.png", ours)
