"""Speech of tasks, generated and measured: one row a task, kept in a file."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from tqdm.auto import tqdm

from lm.generate import ENDED, LOOPED, MAX_LENGTH, Generation, GenerationSettings
from lm.model import LanguageModel

from ...configuration_q2d2 import Q2D2Config
from ...modeling_q2d2 import Q2D2Model
from ...speech import decode_chunks
from .. import asr
from ..clips import Clip
from ..codecs import weights_digest
from ..rows import Row, Rows, audio_file, build_metrics, flat_scores, needs_reference
from ..statistics import mean_and_interval, ratio_and_interval, share_and_interval
from .tasks import CODEC, RECORDING, TTS, VOICE, Task, identify

SILENT = "silent"
_SILENCE_DB, _SILENCE_SECONDS, _BLOCK_SECONDS = -50.0, 2.0, 0.02


class SpeechMeasures:
    """Scores of speech by their names.

    Args:
        metrics: Names in `METRICS`; what they compare with, if they do, is the voice of the task.
        codec: Settings of the codec.
        asr_folder: Folder with a model for `asr.Transcriber`; without it there are no error rates.
    """

    def __init__(self, metrics: list[str], codec: Q2D2Config, asr_folder: str | None):
        self._metrics = build_metrics(metrics, codec.sampling_rate, frame_rate=codec.frame_rate)
        self._rate = codec.sampling_rate
        self._transcriber = asr.Transcriber(asr_folder) if asr_folder else None
        self._errors_name = f"errors {self._transcriber.digest}" if self._transcriber else ""
        self.names = [*metrics, *([self._errors_name] if self._transcriber else [])]

    def __call__(self, task: Task, audio: np.ndarray) -> dict[str, dict[str, float]]:
        voice = Clip(task.id, np.zeros(0, np.float32) if task.voice is None else task.voice, self._rate)
        scores: dict[str, dict[str, Any]] = {
            name: {} if task.voice is None and needs_reference(name) else measure(voice, audio)
            for name, measure in self._metrics.items()
        }
        if self._transcriber:
            scores[self._errors_name] = self._errors(self._transcriber, task, audio) if task.text else {}
        return scores

    def _errors(self, transcriber: asr.Transcriber, task: Task, audio: np.ndarray) -> dict[str, Any]:
        heard = transcriber.transcribe(soxr.resample(audio, self._rate, asr.SAMPLING_RATE))
        word_errors, words = asr.word_errors(task.text, heard)
        letter_errors, letters = asr.letter_errors(task.text, heard)
        counts = {"word_errors": word_errors, "words": words, "letter_errors": letter_errors, "letters": letters}
        return counts | {"heard": heard}


def goes_silent(audio: np.ndarray, sampling_rate: int) -> bool:
    """Whether audio (N,) is silent, or is so for two seconds on end."""
    size = int(_BLOCK_SECONDS * sampling_rate)
    blocks = audio[: len(audio) // size * size].reshape(-1, size)
    loud = np.flatnonzero(np.sqrt((blocks**2).mean(1)) > 10 ** (_SILENCE_DB / 20))
    gaps = np.diff(np.concatenate([[-1], loud, [len(blocks)]])) - 1
    return not len(loud) or bool(gaps.max() * _BLOCK_SECONDS >= _SILENCE_SECONDS)


class Speech:
    """Says tasks and measures what was said, unless the file of rows has it already.

    Args:
        codec: The codec.
        language_model: The model.
        settings: Settings of generation with a text, and without.
        measures: What is measured.
        folder: Folder for `rows.jsonl` and the audio.
    """

    def __init__(
        self,
        codec: Q2D2Model,
        language_model: LanguageModel,
        settings: tuple[GenerationSettings, GenerationSettings],
        measures: SpeechMeasures,
        folder: Path,
    ):
        self._codec, self._language_model = codec, language_model
        self._settings_and_identities = [(one, identify(language_model, one, codec)) for one in settings]
        self._codec_identity = weights_digest(codec)
        self._measures, self._folder = measures, folder
        self._rows = Rows(folder / "rows.jsonl")

    def row(self, task: Task) -> Row:
        """Facts and scores of a task."""
        identity = self._codec_identity if task.prompt is None else self._settings_and_identity(task)[1]
        row = self._rows.find(codec=task.system, identity=identity, clip=task.id, digest=task.digest)
        if row["facts"] and not set(self._measures.names) - row["scores"].keys():
            return self._with_names(row)
        audio, facts = self._say(task)
        rate = self._codec.config.sampling_rate
        soundfile.write(audio_file(self._folder, row), audio, rate)
        facts |= {"seconds": len(audio) / rate, SILENT: goes_silent(audio, rate)}
        if task.system in (TTS, VOICE) and task.codes is not None:
            facts["true_seconds"] = len(task.codes) / self._codec.config.frame_rate
        return self._with_names(self._rows.add(row | {"facts": facts, "scores": self._measures(task, audio)}))

    def _settings_and_identity(self, task: Task) -> tuple[GenerationSettings, str]:
        """Settings of a generated task, and what identifies them with model and codec."""
        return self._settings_and_identities[0] if task.text else self._settings_and_identities[1]

    def _with_names(self, row: Row) -> Row:
        """A row with the scores that are asked for alone: its file may hold others, or those of another ASR."""
        return row | {"scores": {name: row["scores"][name] for name in self._measures.names}}

    def _say(self, task: Task) -> tuple[np.ndarray, dict[str, Any]]:
        if task.system == RECORDING:
            assert task.audio is not None
            return task.audio, {}
        if task.system == CODEC:
            codes = torch.from_numpy(task.codes).view(1, 1, -1)
            return self._codec.decode(codes).audio_values.flatten().numpy(), {}
        assert task.prompt is not None
        start = time.perf_counter()
        settings, _ = self._settings_and_identity(task)
        generation = Generation(self._language_model, [task.prompt], settings, [task.prompt_text])
        audio = np.concatenate(list(decode_chunks(self._codec, (int(code) for (code,) in generation))))
        return audio, {"taken": time.perf_counter() - start, "reason": generation.reasons[0]}


def evaluate_speech(speech: Speech, tasks: list[Task]) -> dict[str, Any]:
    """Summary of every system; tasks that the file of rows has are not measured again."""
    rows: dict[str, list] = {}
    for task in tqdm(tasks, desc="speech", disable=None):
        rows.setdefault(task.system, []).append(speech.row(task))
    return {system: summarize(found) for system, found in rows.items()}


def summarize(rows: list[Row]) -> dict[str, Any]:
    """Scores of one system: means or ratios with their intervals, shares of how it ended, speed."""
    scores = [flat_scores(row) for row in rows]
    facts = [row["facts"] for row in rows]
    summary: dict[str, Any] = {"runs": len(rows)}
    for name, (errors, count) in {"wer": ("word_errors", "words"), "cer": ("letter_errors", "letters")}.items():
        known = [score for score in scores if count in score]
        if known:
            summary[name] = ratio_and_interval([s[errors] for s in known], [s[count] for s in known])
    counts = {"word_errors", "words", "letter_errors", "letters", "heard"}
    for name in dict.fromkeys(name for score in scores for name in score if name not in counts):
        summary[name] = mean_and_interval([score[name] for score in scores if name in score])
    timed = [fact for fact in facts if "true_seconds" in fact]
    if timed:
        summary["duration_ratio"] = mean_and_interval([fact["seconds"] / fact["true_seconds"] for fact in timed])
    if "reason" in facts[0]:
        for reason in (ENDED, MAX_LENGTH, LOOPED):
            summary[reason] = share_and_interval([fact["reason"] == reason for fact in facts])
        summary["speed"] = sum(fact["seconds"] for fact in facts) / sum(fact["taken"] for fact in facts)
    return summary | {SILENT: share_and_interval([fact[SILENT] for fact in facts])}
