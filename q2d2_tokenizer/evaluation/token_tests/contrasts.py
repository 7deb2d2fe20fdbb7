"""Does a language model of tokens find the original likelier than what was changed half-way?

Pairs go crosswise: of two beginnings A, B and two ends a, b, `Aa` is compared with `Ab`, and `Bb` with `Ba`. Each end
is the right one once and the wrong one once, so a model that does not look at the beginning is right in half of them.

Source: SALMon, arXiv 2409.07437. Differs: pairs go crosswise, and the beginning and the end are different recordings
(for background and room two halves of one), so that both versions have the same seam.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from tqdm.auto import tqdm

from lm.batches import collate
from lm.model import LanguageModel
from lm.scoring import make_scorer

from ...audio.reading import read_audio
from ...corpus.inputs import local_files
from ...modeling_q2d2 import Q2D2Model
from ..clips import Clip
from ..domains import mix
from ..statistics import share_and_interval
from .changes import babble, reverberate
from .stability import encode
from .synthesis import Synthesiser

PAIRS = 200
_SECONDS = 1.5  # of a beginning and of an end
_SILENCE = 0.01  # of the peak: what is below it at the edges of a recording is cut off
_RATIO_DB = 5.0
_ACTED = re.compile(r"\d\d-\d\d-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)\.wav$")  # emotion, intensity, statement, take, actor
_ONSET = re.compile(r"([b-df-hj-np-tv-z]+)(\w{3,})")

Cross = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # (beginning, its own end), twice


class Judge:
    """Mean nats per token of audio.

    Args:
        codec: The codec.
        language_model: A model of its tokens.
    """

    def __init__(self, codec: Q2D2Model, language_model: LanguageModel):
        self.rate = codec.config.sampling_rate
        self._codec, self._layout = codec, language_model.layout
        self._scorer = make_scorer(language_model.model, language_model.layout).eval()

    @torch.inference_mode()
    def __call__(self, audio: np.ndarray) -> float:
        ids = self._layout.prompt(np.empty(0, np.int64), encode(self._codec, audio))
        return float(self._scorer(*collate([ids])).mean())


def judge_pairs(judge: Judge, crosses: Iterator[Cross], name: str) -> dict[str, Any]:
    """Share of pairs in which the original is likelier."""
    right = []
    for first, second in tqdm(crosses, desc=name, total=PAIRS // 2, disable=None):
        for (beginning, end), (_, other) in ((first, second), (second, first)):
            original, changed = (judge(np.concatenate([beginning, part])) for part in (end, other))
            right.append(original < changed)
    return share_and_interval(right)


def trimmed(audio: np.ndarray) -> np.ndarray:
    """Audio (N,) without silence at its edges."""
    loud = np.flatnonzero(np.abs(audio) > _SILENCE * np.abs(audio).max())
    return audio[loud[0] : loud[-1] + 1] if len(loud) else audio


def _beginning(audio: np.ndarray, rate: int) -> np.ndarray:
    return audio[-round(_SECONDS * rate) :]


def _ends(pair: list[np.ndarray], rate: int) -> list[np.ndarray]:
    """Two ends of the same length."""
    size = min(round(_SECONDS * rate), *map(len, pair))
    return [audio[:size] for audio in pair]


def recording_crosses(clips: list[Clip], seed: int) -> dict[str, Iterator[Cross]]:
    """A change of speaker, of background and of room in recordings of several speakers."""
    rate = clips[0].sampling_rate
    audio: dict[str, list[np.ndarray]] = defaultdict(list)
    for clip in clips:
        if len(samples := trimmed(clip.audio)) >= 2 * _SECONDS * rate:
            audio[clip.speaker].append(samples)
    audio = {speaker: found for speaker, found in audio.items() if len(found) > 1}
    if len(audio) < 2:
        raise ValueError(
            f"contrasts take two recordings of {2 * _SECONDS:g} s of each of two speakers; give more clips, in Parquet "
            "files with a column speaker"
        )

    def speakers() -> Iterator[Cross]:
        rng = np.random.default_rng(seed)
        for _ in range(PAIRS // 2):
            pair = [_two(audio[name], rng) for name in rng.choice(sorted(audio), 2, replace=False)]
            ends = _ends([end for _, end in pair], rate)
            first, second = ((_beginning(start, rate), end) for (start, _), end in zip(pair, ends, strict=True))
            yield first, second

    def halves(kind: str) -> Iterator[Cross]:
        rng, size = np.random.default_rng(seed), round(_SECONDS * rate)
        for _ in range(PAIRS // 2):
            name = rng.choice(sorted(audio))
            plain = _two(audio[name], rng)[0][: 2 * size]
            others = [one for other, found in audio.items() if other != name for one in found]
            if kind == "room":
                changed = reverberate(plain, rate, _RATIO_DB, rng)
            else:
                changed = mix(plain, babble(others, len(plain), rng), _RATIO_DB)
            yield (plain[:size], plain[size:]), (changed[:size], changed[size:])

    return {"speaker": speakers(), "background": halves("background"), "room": halves("room")}


def _two(found: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    first, second = rng.choice(len(found), 2, replace=False)
    return found[first], found[second]


def acted_crosses(folder: Path, rate: int, seed: int) -> dict[str, Iterator[Cross]]:
    """A change of speaker, gender and emotion in RAVDESS; the beginning is the one sentence, the end the other.

    Raises:
        ValueError: If the folder does not hold it.
    """
    files = {match.groups(): path for path in local_files(str(folder), {".wav"}) if (match := _ACTED.search(path.name))}
    actors = sorted({key[4] for key in files})
    if len(actors) < 4:
        raise ValueError(f"{folder} holds {len(files)} recordings of {len(actors)} actors, expected those of RAVDESS")

    def load(emotion: str, statement: str, actor: str) -> np.ndarray:
        return trimmed(read_audio(files[emotion, "01", statement, "01", actor], rate))

    def crosses(kind: str) -> Iterator[Cross]:
        rng = np.random.default_rng(seed)
        for _ in range(PAIRS // 2):
            actor = str(rng.choice(actors))
            same = [name for name in actors if name != actor and (int(name) - int(actor)) % 2 == 0]  # odd ones are men
            others = {"speaker": same, "gender": sorted({*actors} - {*same, actor}), "emotion": [actor]}[kind]
            two = rng.choice([f"{number:02d}" for number in range(1, 9)], 2, replace=False)
            pairs = [(str(two[0]), actor), (str(two[int(kind == "emotion")]), str(rng.choice(others)))]
            ends = _ends([load(emotion, "02", name) for emotion, name in pairs], rate)
            first, second = (
                (_beginning(load(emotion, "01", name), rate), end)
                for (emotion, name), end in zip(pairs, ends, strict=True)
            )
            yield first, second

    return {f"{kind} (acted)": crosses(kind) for kind in ("speaker", "gender", "emotion")}


def exchanged(first: str, second: str) -> tuple[str, str] | None:
    """Two words with their first consonants exchanged; None if one begins with a vowel or both alike."""
    parts = [match.groups() for word in (first, second) if (match := _ONSET.fullmatch(word))]
    if len(parts) < 2 or parts[0][0] == parts[1][0]:
        return None
    return parts[1][0] + parts[0][1], parts[0][0] + parts[1][1]


def measure_words(judge: Judge, language_model: LanguageModel, text: str, seed: int) -> dict[str, Any]:
    """Share of pairs in which a synthesised word is likelier than one that the dictionary lacks.

    Both words of a pair exchange their first consonants, so words and others are made of the same pieces.
    """
    if language_model.text is None:
        raise ValueError("words and non-words are told apart by the dictionary of a language model that reads text")
    known, synthesise = language_model.text.known, Synthesiser()
    rng = np.random.default_rng(seed)
    right: list[bool] = []
    choice = sorted({word for word in language_model.text.words(text) if word in known})
    for _ in range(100 * PAIRS):
        if len(right) >= PAIRS:
            break
        pair = [str(word) for word in rng.choice(choice, 2, replace=False)]
        made = exchanged(*pair)
        if made is None or any(word in known for word in made):
            continue
        for word, other in zip(pair, made, strict=True):
            spoken = [synthesise(one) for one in (word, other)]
            nats = [judge(soxr.resample(one.audio, one.sampling_rate, judge.rate)) for one in spoken]
            right.append(nats[0] < nats[1])
    return share_and_interval(right)


def measure_contrasts(
    clips: list[Clip], acted: Path | None, text: str, codec: Q2D2Model, language_model: LanguageModel, seed: int
) -> dict[str, Any]:
    """Shares of all tasks for which there are recordings.

    Args:
        clips: Recordings of several speakers; none for no task of theirs.
        acted: Folder of RAVDESS; None for no task of it.
        text: English text whose words are synthesised; empty for no such task.
        codec: The codec.
        language_model: The model that is asked, without text.
        seed: Chooses what is paired.
    """
    judge = Judge(codec, language_model)
    tasks = recording_crosses(clips, seed) if clips else {}
    tasks |= acted_crosses(acted, judge.rate, seed) if acted else {}
    result = {name: judge_pairs(judge, crosses, name) for name, crosses in tasks.items()}
    if text:
        result["words and non-words (synthetic)"] = measure_words(judge, language_model, text, seed)
    return {"parameters": language_model.model.num_parameters(), "seconds": 2 * _SECONDS, "tasks": result}
