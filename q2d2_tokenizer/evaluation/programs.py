"""Any codec that is an installed program: Opus, Codec2, Lyra, an own one.

    --program 'Codec2 700C=8000 c2enc 700C in.raw bits && c2dec 700C bits out.raw' 'Lyra 3.2=16000 sh /opt/lyra.sh'

where /opt/lyra.sh is

    encoder_main --input_path=in.wav --output_dir=. --bitrate=3200 && mv in.lyra bits.lyra
    decoder_main --encoded_path=bits.lyra --output_dir=. --bitrate=3200 && mv bits_decoded.wav out.wav
    mv bits.lyra bits

The command runs in a shell in an empty folder, where it finds in.wav and in.raw, mono, 16 bit, at the rate before it;
it must leave out.wav or out.raw, and may leave the coded file as `bits`, by whose size its bitrate is known.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..audio.reading import read_audio, to_int16
from .clips import Clip
from .codecs import Codec, Decoded


class Program(Codec):
    """A command line that codes and decodes one file.

    Args:
        name: What the results call it.
        spec: The rate of in.wav in Hz, a space, and the command.
        bitrate: Nominal bit/s, if it is known.
    """

    def __init__(self, name: str, spec: str, bitrate: float | None = None):
        rate, _, self._command = spec.partition(" ")
        if not rate.isdecimal() or not self._command:
            raise ValueError(f"--program takes NAME=RATE COMMAND, got {spec!r} for {name!r}")
        self.name, self._rate, self.bitrate = name, int(rate), bitrate

    def identity(self, clip: Clip) -> str:
        return f"{self._rate} {self._command}"

    def __call__(self, clip: Clip) -> Decoded:
        with tempfile.TemporaryDirectory() as folder:
            audio = soxr.resample(clip.audio, clip.sampling_rate, self._rate).clip(-1, 1)
            soundfile.write(f"{folder}/in.wav", audio, self._rate, "PCM_16")
            to_int16(audio).astype("<i2").tofile(f"{folder}/in.raw")
            done = subprocess.run(self._command, shell=True, cwd=folder, capture_output=True, text=True)
            wav, raw = Path(folder, "out.wav"), Path(folder, "out.raw")
            if done.returncode or not (wav.exists() or raw.exists()):
                raise RuntimeError(f"{self.name} left no out.wav (exit code {done.returncode}): {done.stderr.strip()}")
            if not wav.exists():
                soundfile.write(wav, np.fromfile(raw, "<i2"), self._rate)
            bits = Path(folder, "bits")
            facts: dict[str, float | list[int]] = {"file_bits": 8 * bits.stat().st_size} if bits.exists() else {}
            return Decoded(read_audio(wav, clip.sampling_rate), facts)


def installed_peers(sampling_rate: int) -> list[Program]:
    """Opus at its lowest rate and Codec2, if their programs are there.

    Args:
        sampling_rate: Rate of the clips, in Hz.
    """
    opus = f"opusenc --quiet --bitrate 6 --speech in.wav bits && opusdec --quiet --rate {sampling_rate} bits out.wav"
    codec2 = "c2enc 1200 in.raw bits && c2dec 1200 bits out.raw"
    peers = {
        ("opusenc", "opusdec"): Program("Opus 6 kbit/s", f"{sampling_rate} {opus}", 6000.0),
        ("c2enc", "c2dec"): Program("Codec2 1.2 kbit/s", f"8000 {codec2}", 1200.0),
    }
    return [peer for programs, peer in peers.items() if all(map(shutil.which, programs))]
