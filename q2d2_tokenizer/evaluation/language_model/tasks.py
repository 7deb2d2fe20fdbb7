"""What a language model is asked to say, and the recordings it is compared with."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch

from lm.data import expand_shards
from lm.generate import GenerationSettings, make_prompt
from lm.model import LanguageModel

from ...audio.reading import read_audio
from ...corpus.inputs import read_text
from ...modeling_q2d2 import Q2D2Model
from ...training.data import spread
from ..codecs import weights_digest

PROMPT_SECONDS = 3.0
LONGEST_VOICE_SECONDS = 4.0  # prompt and text together should be no longer than recordings of training
RECORDING, CODEC = "recording", "codec"
TTS, VOICE, CONTINUATION, SENTENCES = "text to speech", "in the voice of a prompt", "continuation", "sentences"


@dataclass(frozen=True)
class Recording:
    """A recording of a speaker: audio (N,), codes (T,) and what is said."""

    id: str
    text: str
    speaker: str
    audio: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Task:
    """Something to be said, or already said.

    Args:
        system: Row of the table it counts for.
        id: Unique within the system.
        text: What is said; empty if that is open.
        prompt: Ids (S,) of the prompt; None if there is nothing to generate.
        prompt_text: What the codes of the prompt say.
        codes: Codes (T,) of the recording; None for sentences without one.
        audio: The recording (N,), for systems that are not generated.
        voice: Audio (N,) of the voice it should have; None if any will do.
    """

    system: str
    id: str
    text: str
    prompt: np.ndarray | None = None
    prompt_text: str = ""
    codes: np.ndarray | None = None
    audio: np.ndarray | None = None
    voice: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """Hex digits that identify what is asked for."""
        parts = (self.prompt, self.codes, self.audio, self.voice)
        content = b"|".join(b"" if part is None else part.tobytes() for part in parts)
        return hashlib.sha256(self.text.encode() + content).hexdigest()[:16]


def identify(language_model: LanguageModel, settings: GenerationSettings, codec: Q2D2Model) -> str:
    """Hex digits that identify weights, vocabulary, codec and settings of generation."""
    facts = [asdict(settings), asdict(language_model.layout), weights_digest(codec)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, weight in sorted(language_model.model.state_dict().items()):
        digest.update(name.encode() + weight.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_recordings(sources: list[str], codec: Q2D2Model, most: int) -> list[Recording]:
    """At most that many recordings, evenly spread, of Parquet files with `id`, `audio`, `text` and `speaker`."""
    columns = ["id", "audio", "text", "speaker"]
    rows = [
        row for path in expand_shards(sources) for row in pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    ]
    recordings = []
    for row in (rows[i] for i in spread(len(rows), most)):
        audio = read_audio(row["audio"]["bytes"], codec.config.sampling_rate)
        codes = codec.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes.flatten().numpy()
        recordings.append(Recording(row["id"], row["text"] or "", row["speaker"], audio, codes))
    return recordings


def recording_tasks(recordings: list[Recording], language_model: LanguageModel, codec: Q2D2Model) -> list[Task]:
    """Every recording as it is, through the codec, read by the model with and without a prompt, and continued.

    The voice is that of the speaker's next short recording, which is also the prompt; without one there is no voice.
    """
    longest = LONGEST_VOICE_SECONDS * codec.config.frame_rate
    tasks: list[Task] = []
    for number, one in enumerate(recordings):
        others = recordings[number + 1 :] + recordings[:number]
        others = [other for other in others if other.speaker == one.speaker and len(other.codes) <= longest]
        other = others[0] if others else None
        voice = other.audio if other else None
        tasks.append(Task(RECORDING, one.id, one.text, codes=one.codes, audio=one.audio, voice=voice))
        tasks.append(Task(CODEC, one.id, one.text, codes=one.codes, voice=voice))
        if _can_read(language_model, one.text):
            prompt = make_prompt(language_model, one.text)
            tasks.append(Task(TTS, one.id, one.text, prompt, codes=one.codes, voice=voice))
            if other and _can_read(language_model, other.text):
                prompt = make_prompt(language_model, one.text, other.codes, other.text)
                tasks.append(Task(VOICE, one.id, one.text, prompt, other.text, one.codes, voice=voice))
        start = one.codes[: int(PROMPT_SECONDS * codec.config.frame_rate)]
        heard = one.audio[: len(start) * codec.config.hop_length]
        tasks.append(Task(CONTINUATION, one.id, "", make_prompt(language_model, codes=start), voice=heard))
    return tasks


def _can_read(language_model: LanguageModel, text: str) -> bool:
    return language_model.text is not None and len(language_model.text.encode(text)) > 0


def sentence_tasks(path: Path, language_model: LanguageModel) -> list[Task]:
    """The lines of a file, each read by the model.

    Raises:
        ValueError: If nothing of a line can be read.
    """
    tasks: list[Task] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        if not _can_read(language_model, line):
            raise ValueError(f"line {number} of {path} holds nothing that the model can read: {line!r}; remove it")
        task_id = f"{len(tasks) + 1:03d}"
        tasks.append(Task(SENTENCES, task_id, line.strip(), make_prompt(language_model, line.strip())))
    return tasks
