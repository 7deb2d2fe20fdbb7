"""Word times of the alignment against those that a synthesiser tells of its own speech."""

from typing import Any

import numpy as np
import soxr
from tqdm.auto import tqdm

from lm.timing import word_times

from ...speech import TextToSpeech
from ...training.data import spread
from ..statistics import mean_and_interval
from .synthesis import Synthesiser

WITHIN_SECONDS = (0.025, 0.05, 0.1)


def measure_word_times(sentences: list[str], speaker: TextToSpeech, most: int) -> dict[str, Any]:
    """Errors of where words begin, next to those of a guess that gives every letter the same time.

    The words of eSpeak NG that it joins to the one before, such as "of the", are left out.

    Args:
        sentences: What is spoken.
        speaker: Codec and language model with an alignment.
        most: Largest number of sentences, evenly spread.

    Raises:
        ValueError: If there are no sentences that can be read.
        OSError: If the library espeak-ng is not installed.
    """
    synthesise, tokenizer = Synthesiser(), speaker.language_model.text
    if tokenizer is None:
        raise ValueError("word times take a language model that reads text")
    lines = [line for line in sentences if tokenizer.words(line)]
    if not lines:
        raise ValueError(f"none of the {len(sentences)} sentences can be read")
    chosen = spread(len(lines), most)
    rows: list[tuple[int, float, float]] = []  # sentence, error of the alignment, error of the guess
    for number in tqdm(chosen, desc="word times", disable=None):
        words = tokenizer.words(lines[number])
        text = " ".join(words)
        spoken, rate = synthesise(text), speaker.sampling_rate
        codes = speaker.read_codes(soxr.resample(spoken.audio, spoken.sampling_rate, rate))
        found = word_times(speaker.language_model, text, codes, speaker.codec.config.frame_rate)
        places = np.cumsum([0, *(len(word) + 1 for word in words)])
        seconds = len(spoken.audio) / spoken.sampling_rate
        for place, time in zip(places, found, strict=False):
            if place in spoken.starts:
                true = spoken.starts[place]
                rows.append((number, time.start - true, seconds * place / len(text) - true))
    owners = [str(number) for number, _, _ in rows]
    return {
        "sentences": len(chosen),
        "words": len(rows),
        "alignment": _errors([error for _, error, _ in rows], owners),
        "even letters": _errors([error for _, _, error in rows], owners),
    }


def _errors(errors: list[float], owners: list[str]) -> dict[str, Any]:
    """Size and bias of errors in seconds, and how many are small; intervals are of sentences."""
    sizes = np.abs(errors)
    return {
        "mean": mean_and_interval(sizes.tolist(), owners),
        "median": float(np.median(sizes)),
        "bias": mean_and_interval(errors, owners),
        "within": {str(limit): mean_and_interval((sizes <= limit).tolist(), owners) for limit in WITHIN_SECONDS},
    }
