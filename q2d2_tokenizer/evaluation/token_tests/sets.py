"""Sets of labelled recordings for probes: what is read of which folder, where it comes from, and what it stands in for.

Nothing is fetched: every set is a folder that its user has.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...corpus.inputs import local_files
from ...training.data import spread

_ADULT_AGE = 16


@dataclass(frozen=True)
class Item:
    """A labelled recording; the speaker is empty where the set does not tell."""

    path: Path
    label: str
    speaker: str


@dataclass(frozen=True)
class ProbeSet:
    """A set that probes know.

    Args:
        task: What its labels are.
        stands_for: Set of the ARCH benchmark that it is, or stands in for; empty for none.
        source: Where it comes from.
        licence: Its terms.
        seconds: Length to which clips are cut or padded.
        read: From its folder to its recordings.
    """

    task: str
    stands_for: str
    source: str
    licence: str
    seconds: float
    read: Callable[[Path], Iterator[Item]]


def _named(pattern: str) -> Callable[[Path], Iterator[Item]]:
    """Reader of a folder whose paths hold the groups `label` and, where it is known, `speaker`."""
    compiled = re.compile(pattern)

    def read(folder: Path) -> Iterator[Item]:
        for path in local_files(str(folder), {".wav", ".flac"}):
            if match := compiled.search(path.relative_to(folder).as_posix()):
                yield Item(path, match["label"], match.groupdict().get("speaker", ""))

    return read


def _drinks(folder: Path) -> Iterator[Item]:
    labels = json.loads((folder / "data" / "label" / "label.json").read_text())
    for name, label in sorted(labels.items()):
        path = folder / "data" / "speech" / "clean" / name
        if path.exists() and "coffeeDrink" in label["slots"]:
            yield Item(path, label["slots"]["coffeeDrink"].strip(), "")


def _ages(folder: Path) -> Iterator[Item]:
    for part in ("train", "test"):
        ages = dict(line.split() for line in (folder / part / "spk2age").read_text().splitlines())
        speakers = dict(line.split() for line in (folder / part / "utt2spk").read_text().splitlines())
        for name, speaker in sorted(speakers.items()):
            label = "adult" if int(ages[speaker]) >= _ADULT_AGE else "child"
            yield Item(folder / "WAVE" / f"SPEAKER{speaker}" / f"{name}.WAV", label, speaker)


SETS = {
    "ravdess": ProbeSet(
        "emotion of 24 English actors, 8 classes",
        "RAVDESS",
        "github.com/syildizn/RavdessSounds 155b30b",
        "CC BY-NC-SA 4.0: for evaluation only",
        5.0,
        _named(r"\d\d-\d\d-(?P<label>\d\d)-\d\d-\d\d-\d\d-(?P<speaker>\d\d)\.wav$"),
    ),
    "fsdd": ProbeSet(
        "spoken digit, 6 speakers, 8 kHz",
        "AudioMNIST",
        "github.com/Jakobovski/free-spoken-digit-dataset 26eb9aa",
        "CC BY-SA 4.0",
        5.0,
        _named(r"(?P<label>\d)_(?P<speaker>\w+)_\d+\.wav$"),
    ),
    "coffee": ProbeSet(
        "coffee drink that a spoken order names; more than 50 speakers, not told apart",
        "SLURP",
        "github.com/Picovoice/speech-to-intent-benchmark 47b1ca6",
        "Apache-2.0",
        10.0,
        _drinks,
    ),
    "emodb": ProbeSet(
        "emotion of 10 German actors, 4 classes",
        "",
        "github.com/hkveeranki/speech-emotion-recognition edcf440",
        "not stated for the recordings: for evaluation only",
        5.0,
        _named(r"(?P<label>Angry|Happy|Neutral|Sad)/(?P<speaker>\d\d)\w+\.wav$"),
    ),
    "age": ProbeSet(
        "child or adult (from 16 years on), second-language speakers of English",
        "",
        "github.com/jimbozhang/speechocean762 613968e",
        "free for any use, says its README",
        5.0,
        _ages,
    ),
}


def read_set(name: str, folder: Path, most: int) -> list[Item]:
    """Recordings of a set, evenly spread if there are more than `most`.

    Raises:
        ValueError: If the set is unknown, or the folder does not hold it.
    """
    if name not in SETS:
        raise ValueError(f"a set of probes must be one of {', '.join(SETS)}, got {name!r}")
    try:
        items = list(SETS[name].read(folder))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} does not hold {name}: no {error.filename}; it is {SETS[name].source}") from error
    if len({item.label for item in items}) < 2:
        raise ValueError(f"{folder} holds {len(items)} recordings of {name}, expected those of {SETS[name].source}")
    return [items[i] for i in spread(len(items), most)]
