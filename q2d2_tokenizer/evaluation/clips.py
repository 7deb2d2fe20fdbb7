"""Recordings with names."""

import hashlib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from ..corpus.inputs import ROW_SUFFIXES, Entry, list_entries, read_text
from ..corpus.rows import Columns
from ..corpus.sources import open_source
from ..feature_extraction_q2d2 import to_float32
from ..training.data import AudioCache


@dataclass(frozen=True)
class Clip:
    """A recording: its name, samples (N,) float32, rate in Hz, the English text spoken, if known, and its speaker."""

    id: str
    audio: np.ndarray
    sampling_rate: int
    text: str = ""
    speaker: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaker", self.speaker or speaker_of(self.id))

    @property
    def digest(self) -> str:
        """Hex digits that identify the samples."""
        return hashlib.sha256(self.audio.tobytes()).hexdigest()[:12]


def speaker_of(clip_id: str) -> str:
    """The speaker that an id of LibriSpeech names (1272-128104-0000); of others the clip itself stands for one."""
    return clip_id.split("-")[0] if re.fullmatch(r"\d+-\d+-\d+", clip_id) else clip_id


def load_clips(
    data: list[str],
    cache: str | Path,
    sampling_rate: int,
    count: int | None = None,
    audio_column: str = "audio",
    id_column: str | None = None,
    text_column: str = "text",
    output: str | None = None,
) -> list[Clip]:
    """The recordings of inputs, in the order in which they are named.

    Args:
        data: See `list_entries`.
        cache: Folder for decoded audio.
        sampling_rate: In Hz.
        count: At most that many, evenly spread; all if None.
        audio_column: Column of Parquet files that holds the audio.
        id_column: Column of Parquet files that holds the names; `id`, where there is one, if None.
        text_column: Column of Parquet files and metadata that holds the text.
        output: Folder of the evaluation; files in it are no clips, see `list_entries`.

    Raises:
        ValueError: If a recording cannot be read, or there are none.
        OSError: If an input cannot be listed or read.
    """
    recordings = AudioCache(data, cache, sampling_rate, audio_column, output)
    entries = list_entries(data, output, keep_order=True)
    rows = [row for entry in entries for row in names_and_texts(entry, id_column, text_column)]
    names = different_names([name for name, _, _ in rows])
    return [
        Clip(names[index], to_float32(recordings[index]), sampling_rate, *rows[index][1:])
        for index in recordings.spread(count)
    ]


def different_names(names: list[str]) -> list[str]:
    """Names that can be those of files and are all different, the same in every run."""
    names = [name.replace("/", "-") for name in names]
    taken, seen = set(names), set()
    for i, name in enumerate(names):
        if name in seen:
            names[i] = next(new for n in itertools.count(2) if (new := f"{name}-{n}") not in taken)
            taken.add(names[i])
        seen.add(name)
    return names


def names_and_texts(
    entry: Entry, id_column: str | None = None, text_column: str = "text"
) -> list[tuple[str, str, str]]:
    """Own name of every recording of a file, its English text, and its speaker; empty if none is known.

    The name is the id of a row of a Parquet file, or the stem of the file and the row; the key of a sample of a tar;
    the stem of an audio file. The text is a column, unless the column `language` says another language, or for an
    audio file what the file with the ending .txt beside it holds. The speaker is the column `speaker`.
    """
    source = open_source(entry, Columns(None, id_column, only=("id", text_column, "language", "speaker")))
    found: list[tuple[str, str, str]] = []
    for batch in source.read(0, source.num_rows):
        for row_id, values in zip(batch.ids, batch.columns.to_pylist() or [{}] * len(batch.ids), strict=True):
            text = values.get(text_column) or _text_beside(entry.path)
            is_english = (values.get("language") or "en").startswith("en")
            speaker = str(values.get("speaker") or "")
            found.append((_own_name(entry, len(found), row_id), text.strip() if is_english else "", speaker))
    return found


def _own_name(entry: Entry, row: int, row_id: str) -> str:
    path = PurePath(entry.path)
    if path.suffix.lower() == ".tar":
        return row_id.removeprefix(f"{entry.name}/")
    if path.suffix.lower() == ".parquet":
        return f"{path.stem}-{row:05d}" if row_id == f"{entry.name}/{row}" else row_id  # the file may name no ids
    return path.stem


def _text_beside(path: str) -> str:
    beside = Path(path).with_suffix(".txt")
    is_audio = not path.lower().endswith(ROW_SUFFIXES)
    return read_text(beside) if is_audio and beside.exists() else ""
