"""One row for each codec and clip, kept in a file while they are measured, so that a later run goes on from there."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from ..audio.files import replaced_when_complete
from ..audio.voice import FRAME_RATE, NotMeasured
from . import asr
from .alignment import align
from .clips import Clip
from .codecs import Codec, Original
from .metrics import METRICS

Row = dict[str, Any]
Measure = Callable[[Clip, np.ndarray], dict[str, float]]


class Rows:
    """Rows of a JSON lines file; a row is known by codec, what its output depends on, clip and samples."""

    KEY = ("codec", "identity", "clip", "digest")

    def __init__(self, path: Path):
        self._path = path
        self._rows: dict[tuple[str, ...], Row] = {}
        text = path.read_text() if path.exists() else ""
        self._torn = text != "" and not text.endswith("\n")
        for line in text.splitlines():
            try:
                self._keep(json.loads(line))
            except json.JSONDecodeError:  # the line that was being written when a run was interrupted
                continue

    def __len__(self) -> int:
        return len(self._rows)

    def _keep(self, row: Row) -> Row:
        kept = self._rows.setdefault(tuple(row[name] for name in self.KEY), row)
        kept["facts"] |= row["facts"]
        kept["scores"] |= row["scores"]
        kept["reasons"] = kept.get("reasons", {}) | row.get("reasons", {})
        return kept

    def get(self, codec: Codec, clip: Clip) -> Row:
        """The row, without any scores if it is new."""
        key = {"codec": codec.name, "identity": codec.identity(clip), "clip": clip.id, "digest": clip.digest}
        return self.find(**key) | {"seconds": len(clip.audio) / clip.sampling_rate, "speaker": clip.speaker}

    def find(self, **key: str) -> Row:
        """The row of a value for each name of `KEY`, without any scores if it is new."""
        return self._rows.get(tuple(key[name] for name in self.KEY), key | {"facts": {}, "scores": {}})

    def add(self, row: Row) -> Row:
        """Write a row, or more scores of one, to the file; returns all that is known of it."""
        with open(self._path, "a") as file:
            file.write("\n" * self._torn + json.dumps(row) + "\n")
        self._torn = False
        return self._keep(row)


def audio_file(folder: Path, row: Row) -> Path:
    """Where the decoded audio of a row is kept for listening."""
    return folder / (re.sub(r"[^A-Za-z0-9.-]+", "_", f"{row['clip']}-{row['codec']} {row['identity'][:8]}") + ".wav")


def flat_scores(row: Row) -> dict[str, float]:
    """All scores of a row by their names."""
    return {name: value for scores in row["scores"].values() for name, value in scores.items()}


def build_metrics(
    names: list[str], sampling_rate: int, asr: str | None = None, frame_rate: float = FRAME_RATE
) -> dict[str, Measure]:
    """Functions of a clip and a reconstruction (N,) that return scores by name, by name of the metric.

    Args:
        names: Names in `METRICS`.
        sampling_rate: In Hz.
        asr: Folder with a model for `asr.Transcriber`, which adds `wer` with the digest of the model.
        frame_rate: Tokens per second of the codec under test.
    """
    rates = {name: (sampling_rate, frame_rate)[: 1 + METRICS[name].of_frames] for name in names}
    metrics: dict[str, Measure] = {name: _of_clip(name, METRICS[name].build(*rates[name])) for name in names}
    if asr:
        errors = WordErrors(asr)
        metrics[f"wer {errors.digest}"] = errors
    return metrics


def _of_clip(name: str, metric: Callable[..., float | dict[str, float]]) -> Measure:
    def measure(clip: Clip, audio: np.ndarray) -> dict[str, float]:
        score = metric(clip.audio, audio)
        return score if isinstance(score, dict) else {name: score}

    return measure


class WordErrors:
    """Word errors of an ASR model on what was decoded, and words of the text; NaN for clips without text."""

    def __init__(self, folder: str):
        self._transcriber = asr.Transcriber(folder)
        self.digest = self._transcriber.digest

    def __call__(self, clip: Clip, audio: np.ndarray) -> dict[str, float]:
        if not clip.text:
            return {"word_errors": NotMeasured("no English text"), "words": NotMeasured("no English text")}
        heard = self._transcriber.transcribe(soxr.resample(audio, clip.sampling_rate, asr.SAMPLING_RATE))
        errors, words = asr.word_errors(clip.text, heard)
        return {"word_errors": float(errors), "words": float(words)}


def needs_reference(metric: str) -> bool:
    """Whether a metric compares with the recording."""
    return metric in METRICS and METRICS[metric].needs_reference


def measure_clip(codec: Codec, clip: Clip, metrics: dict[str, Measure], rows: Rows, audio: Path | None) -> Row:
    """The row of a codec and a clip; computes what the file does not hold yet.

    Args:
        codec: One of `codecs`.
        clip: The recording.
        metrics: As `build_metrics` makes them.
        rows: What was measured before.
        audio: Folder for the decoded audio, or None if nobody will listen to this clip.
    """
    row = rows.get(codec, clip)
    names = [m for m in metrics if not (isinstance(codec, Original) and needs_reference(m))]
    wanted = [name for name in names if name not in row["scores"]]
    wav = audio and audio_file(audio, row)
    if not wanted and row["scores"] and (wav is None or wav.exists()):
        return row
    decoded = codec(clip)
    if not codec.aligned:
        decoded.audio = align(clip.audio, decoded.audio, clip.sampling_rate // 10)
    if wav:
        with replaced_when_complete(wav) as partial:  # one that is there is not written again
            soundfile.write(partial, decoded.audio, clip.sampling_rate, format="WAV")
    scores = {name: metrics[name](clip, decoded.audio) for name in wanted}
    found = [item for part in scores.values() for item in part.items()]
    reasons = {name: value.reason for name, value in found if isinstance(value, NotMeasured)}
    return rows.add(row | {"facts": decoded.facts, "scores": scores, "reasons": reasons})
