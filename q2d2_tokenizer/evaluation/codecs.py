"""What `evaluate_codec.py` measures: our codec, installed programs and folders of decoded audio."""

import hashlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from ..audio.reading import AUDIO_SUFFIXES, read_audio, to_int16
from ..feature_extraction_q2d2 import to_float32
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


class OurCodec:
    """The codec under test; its output is aligned by construction."""

    aligned = True

    def __init__(self, checkpoint: str):
        self.checkpoint = checkpoint
        self.model = Q2D2Model.from_pretrained(checkpoint).eval()
        self.fingerprint = self.model.fingerprint()
        self.weights = weights_digest(self.model)
        self.name = f"Q2D2 {self.model.config.bitrate / 1000:.2f} kbit/s"
        self.bitrate = self.model.config.bitrate
        self._warm = False

    def identity(self, clip: Clip) -> str:
        """What the output depends on besides the clip."""
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


class Opus:
    """Opus at its lowest rate, 6 kbit/s."""

    name = "Opus 6 kbit/s"
    bitrate = 6000.0
    programs = ("opusenc", "opusdec")
    aligned = False

    def identity(self, clip: Clip) -> str:
        """What the output depends on besides the clip."""
        return self.name

    def __call__(self, clip: Clip) -> Decoded:
        with tempfile.TemporaryDirectory() as folder:
            wav, opus, out = (f"{folder}/{name}" for name in ("in.wav", "a.opus", "out.wav"))
            soundfile.write(wav, clip.audio, clip.sampling_rate)
            _call("opusenc", "--quiet", "--bitrate", "6", "--speech", wav, opus)
            _call("opusdec", "--quiet", "--rate", str(clip.sampling_rate), opus, out)
            return Decoded(soundfile.read(out, dtype="float32")[0], {"file_bits": 8 * Path(opus).stat().st_size})


class Codec2:
    """Codec2 at 1.2 kbit/s; 8 kHz."""

    name = "Codec2 1.2 kbit/s"
    bitrate = 1200.0
    programs = ("c2enc", "c2dec")
    aligned = False

    def identity(self, clip: Clip) -> str:
        """What the output depends on besides the clip."""
        return self.name

    def __call__(self, clip: Clip) -> Decoded:
        with tempfile.TemporaryDirectory() as folder:
            raw, bits, out = (f"{folder}/{name}" for name in ("in.raw", "a.bit", "out.raw"))
            to_int16(soxr.resample(clip.audio, clip.sampling_rate, 8000)).astype("<i2").tofile(raw)
            _call("c2enc", "1200", raw, bits)
            _call("c2dec", "1200", bits, out)
            audio = soxr.resample(to_float32(np.fromfile(out, "<i2")), 8000, clip.sampling_rate)
            return Decoded(audio, {"file_bits": 8 * Path(bits).stat().st_size})


class DecodedFolder:
    """Another codec by its output: audio files named after the clips, of any rate."""

    bitrate = None
    aligned = False

    def __init__(self, name: str, folder: str | Path, ids: list[str]):
        self.name = name
        self._files = {path.stem: path for path in Path(folder).iterdir() if path.suffix.lower() in AUDIO_SUFFIXES}
        missing = [clip for clip in ids if clip not in self._files]
        if missing:
            raise ValueError(
                f"{folder} must hold one audio file for each of {len(ids)} clips, got none for {len(missing)}, such as "
                f"{missing[0]}.wav; --write_clips writes the clips under the names they need"
            )

    def identity(self, clip: Clip) -> str:
        """What the output depends on besides the clip."""
        return hashlib.sha256(self._files[clip.id].read_bytes()).hexdigest()[:16]

    def __call__(self, clip: Clip) -> Decoded:
        return Decoded(read_audio(self._files[clip.id], clip.sampling_rate))


class Original:
    """The recording itself, for metrics that need no reference."""

    name = "Original"
    bitrate = None
    aligned = True

    def identity(self, clip: Clip) -> str:
        """What the output depends on besides the clip."""
        return self.name

    def __call__(self, clip: Clip) -> Decoded:
        return Decoded(clip.audio)


def installed_peers() -> list[Opus | Codec2]:
    """Opus and Codec2 if their programs are there."""
    return [peer() for peer in (Opus, Codec2) if all(map(shutil.which, peer.programs))]


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
