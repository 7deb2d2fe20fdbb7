"""What the scripts that let a language model speak share: options, recordings to go on from, audio as codes come."""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

import lm
from lm.generate import Generation, GenerationSettings
from lm.model import LanguageModel

from .audio.reading import read_audio
from .audio.token_file import load_tokens
from .bundled import default_checkpoint
from .modeling_q2d2 import Q2D2Model

_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "guidance_scale",
    "candidates",
    "repetition_penalty",
    "repetition_window",
    "seed",
)
GUIDANCE_SCALE = 2.0  # of the scripts; was best for an earlier bundled model on held-out texts, see docs/LOG.md
CONTINUATION_TEMPERATURE = 1.0  # at .5, which is best for text, 8 of 16 fell silent; docs/LOG.md
_PIECE_CODES = 24


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def add_options(parser: argparse.ArgumentParser, max_seconds: float) -> None:
    """Add the options of models and sampling."""
    parser.add_argument("--language_model", help="folder; the one that comes with the package if left out")
    parser.add_argument("--codec", default=default_checkpoint(), help="folder; the bundled one if left out")
    parser.add_argument("--max_seconds", type=positive, default=max_seconds, help="most speech generated at a time")
    parser.add_argument("--min_seconds", type=float, default=0.0, help="speech before the model may end")
    fields = {field.name: field for field in dataclasses.fields(GenerationSettings)}
    for field in (fields[name] for name in _SAMPLING):
        parser.add_argument(f"--{field.name}", type=field.type, default=field.default, help=field.metadata["help"])
    parser.set_defaults(guidance_scale=GUIDANCE_SCALE)


def make_settings(args: argparse.Namespace, frame_rate: float) -> GenerationSettings:
    """Settings of the options, with seconds as codes."""
    return GenerationSettings(
        **{name: getattr(args, name) for name in _SAMPLING},
        min_codes=max(1, round(args.min_seconds * frame_rate)),
        max_codes=max(1, round(args.max_seconds * frame_rate)),
    )


def load_models(args: argparse.Namespace) -> tuple[Q2D2Model, LanguageModel]:
    """Codec and language model of the options.

    Raises:
        ValueError: If the language model is for another codec.
    """
    codec = Q2D2Model.from_pretrained(args.codec).eval()
    return codec, LanguageModel.load(args.language_model or lm.default_checkpoint(), codec.fingerprint())


def read_codes(path: str | Path, codec: Q2D2Model, language_model: LanguageModel) -> np.ndarray:
    """Codes (T,) of an audio file or of a token file (.q2d2).

    Raises:
        ValueError: If the file cannot be used, or its tokens are of another codec.
    """
    if Path(path).suffix == ".q2d2":
        tokens = load_tokens(path)
        language_model.layout.check_codec(tokens.codec_fingerprint)
        return tokens.audio_codes
    audio = read_audio(path, codec.config.sampling_rate)
    return codec.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes.flatten().numpy()


def decode_pieces(codec: Q2D2Model, codes: Iterable[int]) -> Iterator[np.ndarray]:
    """Audio (n,) of codes, piece by piece as soon as it is determined; together it is that of all codes."""
    waiting: list[int] = []
    cache = None

    def decode(is_last: bool) -> np.ndarray:
        nonlocal cache
        piece = torch.tensor(waiting, dtype=torch.long).view(1, 1, -1)
        output = codec.decode(piece, cache=cache, use_streaming=not is_last)
        cache = output.cache
        waiting.clear()
        return output.audio_values.flatten().numpy()

    for code in codes:
        waiting.append(code)
        if len(waiting) == _PIECE_CODES and codec.decoder_latency_samples is not None:
            audio = decode(is_last=False)
            if audio.size:
                yield audio
    if waiting or cache is not None:
        yield decode(is_last=True)


@dataclass(frozen=True)
class Spoken:
    """What was generated: seconds of speech, seconds it took, seconds until the first audio, and why it ended."""

    seconds: float
    taken: float
    first: float
    reason: str

    def __str__(self) -> str:
        speed = self.seconds / self.taken
        return f"{self.seconds:.1f} s, {speed:.2f} x real time, first audio after {self.first:.2f} s, {self.reason}"


class WavWriter:
    """Writes an audio file piece by piece; what is there already is only replaced once there is audio.

    Args:
        path: Of the file; its ending says the format.
        sampling_rate: In Hz.

    Raises:
        ValueError: If there is no such folder or format.
    """

    def __init__(self, path: Path, sampling_rate: int):
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} for the output; create it or choose another")
        if path.suffix[1:].upper() not in soundfile.available_formats():
            raise ValueError(f"the output must end in .wav, .flac or another format of soundfile, got {path.name!r}")
        self._path, self._rate = path, sampling_rate
        self._file: soundfile.SoundFile | None = None

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()

    def write(self, audio: np.ndarray) -> None:
        """Add audio (n,)."""
        if self._file is None:
            self._file = soundfile.SoundFile(self._path, "w", self._rate, 1)
        self._file.write(audio)


def speak_into(
    write: Callable[[np.ndarray], None], codec: Q2D2Model, generation: Generation, before: Iterable[int] = ()
) -> Spoken:
    """Write speech while it is generated.

    Args:
        write: Takes audio (n,) of the rate of the codec, piece by piece.
        codec: The codec.
        generation: Of one prompt.
        before: Codes of the speech that is continued; their audio is written too.
    """
    start, first, count = time.perf_counter(), None, 0

    def counted() -> Iterator[int]:
        nonlocal count
        for (code,) in generation:
            count += 1
            yield int(code)

    def joined() -> Iterator[int]:
        yield from map(int, before)
        yield from counted()

    for audio in decode_pieces(codec, joined()):
        first = time.perf_counter() - start if first is None else first
        write(audio)
    return Spoken(count / codec.config.frame_rate, time.perf_counter() - start, first, generation.reasons[0])
