#!/usr/bin/env bash
# soundfile 0.14.0 with its libsndfile 1.2.2, Ogg Opus files.
#
# Behaviour: the header of an Opus file has a field "input sample rate", the rate of what went into the encoder. RFC
# 7845 (5.1) calls it metadata: it is not the rate to play at, and 0 means that it is not known. libsndfile takes it as
# the rate to decode at, the next of 8, 12, 16, 24 and 48 kHz, and 0 as the lowest of them. So a file that holds
# frequencies up to 20 kHz is read at 8 kHz, without a word, and everything above 4 kHz is gone: no later resampling
# brings it back. Only four bytes of the header, and the checksum of its page, differ between the files here.
# Seen: 8000 Hz for the field 0, and no trace of a tone of 6 kHz. Expected: 48000 Hz, or another rate that keeps it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
import io
import struct

import numpy as np
import soundfile


def checksum(page: bytes) -> int:
    """Checksum of an Ogg page whose own checksum is zero."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = ((register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register


def with_rate(file: bytes, rate: int) -> bytes:
    """The Opus file with another input sample rate in its header, which fills the first page."""
    page_size = 27 + file[26] + sum(file[27 : 27 + file[26]])
    page = bytearray(file[:page_size])
    place = page.index(b"OpusHead") + 12
    page[place : place + 4] = struct.pack("<I", rate)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", checksum(page))
    return bytes(page) + file[page_size:]


def level(samples: np.ndarray, rate: int, frequency: float) -> float:
    """Amplitude of a tone; zero above half of the rate."""
    if frequency >= rate / 2:
        return 0.0
    time = np.arange(len(samples)) / rate
    return float(2 * abs(np.mean(samples * np.exp(-2j * np.pi * frequency * time))))


time = np.arange(2 * 48000) / 48000
audio = 0.3 * np.sin(2 * np.pi * 1000 * time) + 0.3 * np.sin(2 * np.pi * 6000 * time)
buffer = io.BytesIO()
soundfile.write(buffer, audio, 48000, format="OGG", subtype="OPUS")
original = buffer.getvalue()
assert with_rate(original, 48000) == original
print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
found = {}
for field in (48000, 44100, 22050, 8000, 0):
    samples, rate = soundfile.read(io.BytesIO(with_rate(original, field)))
    found[field] = (rate, round(level(samples, rate, 1000), 2), round(level(samples, rate, 6000), 2))
    print(f"field {field:5d}: read at {rate:5d} Hz, tone of 1 kHz {found[field][1]}, of 6 kHz {found[field][2]}")
assert found[48000] == (48000, 0.3, 0.3)
assert found[0] == (8000, 0.3, 0.0), "a rate that is not known is no longer read as 8 kHz"
PYTHON
