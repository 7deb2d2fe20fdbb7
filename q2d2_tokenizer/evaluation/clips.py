"""Recordings with names, for `evaluate_codec.py`."""

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np

from ..training.data import AudioCache, expand_sources


@dataclass(frozen=True)
class Clip:
    """A recording: its name, samples (N,) float32 and rate in Hz, and the English text spoken, if that is known."""

    id: str
    audio: np.ndarray
    sampling_rate: int
    text: str = ""

    @property
    def digest(self) -> str:
        """Hex digits that identify the samples."""
        return hashlib.sha256(self.audio.tobytes()).hexdigest()[:12]


def clip_ids(sources: list[str]) -> list[str]:
    """Names of all recordings, in the order of `AudioCache`, usable as file names and all different.

    The column `id` of a Parquet file, or its stem and the row; the stem of an audio file.
    """
    names: list[str] = []
    for file in expand_sources(sources):
        if file.suffix.lower() != ".parquet":
            names.append(file.stem)
            continue
        import pyarrow.parquet

        table = pyarrow.parquet.ParquetFile(file)
        if "id" in table.schema_arrow.names:
            names += [str(value) for value in table.read(columns=["id"]).column("id").to_pylist()]
        else:
            names += [f"{file.stem}-{row:05d}" for row in range(table.metadata.num_rows)]
    names = [name.replace("/", "-") for name in names]
    taken, seen = set(names), set()
    for i, name in enumerate(names):
        if name in seen:
            names[i] = next(new for n in itertools.count(2) if (new := f"{name}-{n}") not in taken)
            taken.add(names[i])
        seen.add(name)
    return names


def clip_texts(sources: list[str]) -> list[str]:
    """English text of all recordings, in the order of `AudioCache`, empty where none is known.

    The column `text` of a Parquet file, unless its column `language` says another language; for an audio file, the
    file with the ending .txt beside it.
    """
    texts: list[str] = []
    for file in expand_sources(sources):
        if file.suffix.lower() != ".parquet":
            beside = file.with_suffix(".txt")
            texts.append(beside.read_text().strip() if beside.exists() else "")
            continue
        import pyarrow.parquet

        table = pyarrow.parquet.ParquetFile(file)
        known = [name for name in ("text", "language") if name in table.schema_arrow.names]
        rows = table.read(columns=known).to_pylist() if known else [{}] * table.metadata.num_rows
        texts += [(row.get("text") or "") if (row.get("language") or "en").startswith("en") else "" for row in rows]
    return texts


def load_clip(clips: AudioCache, ids: list[str], texts: list[str], index: int) -> Clip:
    """Clip of that number."""
    return Clip(ids[index], clips[index].astype(np.float32) / 32768, clips.sampling_rate, texts[index])
