"""Codecs that are measured: the one under test, and folders of decoded audio."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..audio.reading import AUDIO_SUFFIXES, read_audio
from ..corpus.inputs import local_files
from ..modeling_q2d2 import Q2D2Model
from .clips import Clip


@dataclass
class Decoded:
    """Audio (N,) that a codec gave back, and what else is known of it: seconds taken, tokens, size."""

    audio: np.ndarray
    facts: dict[str, float | list[int]] = field(default_factory=dict)


def weights_digest(codec: Q2D2Model) -> str:
    """Hex digits that identify tokens and audio of a codec; its fingerprint says nothing of the decoder."""
    digest = hashlib.sha256(codec.fingerprint().encode())
    for weight in codec.state_dict().values():
        digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()


class Codec:
    """What is measured: it gives a clip back as it decodes it."""

    name: str
    bitrate: float | None = None  # nominal, in bit/s
    aligned = False  # whether the output has no delay by construction

    def identity(self, clip: Clip) -> str:
        """What the output depends on besides the clip."""
        return self.name

    def __call__(self, clip: Clip) -> Decoded:
        raise NotImplementedError


class OurCodec(Codec):
    """The codec under test.

    Args:
        source: Its folder, or its name on the Hub.
    """

    aligned = True

    def __init__(self, source: str):
        self.source = source
        self.model = Q2D2Model.from_pretrained(source).eval()
        self.weights = weights_digest(self.model)
        self.name = f"Q2D2 {self.model.config.bitrate / 1000:.2f} kbit/s"
        self.bitrate = self.model.config.bitrate
        self._warm = False

    def identity(self, clip: Clip) -> str:
        return self.weights

    def __call__(self, clip: Clip) -> Decoded:
        audio = torch.from_numpy(clip.audio).view(1, 1, -1)
        if not self._warm:
            self.model(audio)
            self._warm = True
        start = time.perf_counter()
        codes = self.model.encode(audio).audio_codes
        middle = time.perf_counter()
        decoded = self.model.decode(codes, num_samples=audio.shape[-1]).audio_values
        seconds = {"encode_seconds": middle - start, "decode_seconds": time.perf_counter() - middle}
        return Decoded(decoded.flatten().numpy(), seconds | {"codes": codes.flatten().tolist()})


class DecodedFolder(Codec):
    """Another codec by its output: audio files named after the clips, of any rate."""

    def __init__(self, name: str, folder: str | Path, ids: list[str]):
        self.name = name
        self._files = {path.stem: path for path in local_files(str(folder), AUDIO_SUFFIXES)}
        missing = [clip for clip in ids if clip not in self._files]
        if missing:
            raise ValueError(
                f"{folder} must hold one audio file for each of {len(ids)} clips, got none for {len(missing)}, such as "
                f"{missing[0]}.wav; --write_clips writes the clips under the names they need"
            )

    def identity(self, clip: Clip) -> str:
        return hashlib.sha256(self._files[clip.id].read_bytes()).hexdigest()[:16]

    def __call__(self, clip: Clip) -> Decoded:
        return Decoded(read_audio(self._files[clip.id], clip.sampling_rate))


class Original(Codec):
    """The recording itself, for metrics that need no reference."""

    name = "Original"
    aligned = True

    def __call__(self, clip: Clip) -> Decoded:
        return Decoded(clip.audio)
