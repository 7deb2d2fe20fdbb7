#!/usr/bin/env bash
# soundfile 0.14.0 with its libsndfile 1.2.2 and libopus, Ogg Opus files of recordings of 16 kHz.
#
# Behaviour: packets of such a file hold the band up to 8 kHz ("wideband"). Decoded at 48 kHz, which RFC 7845 (5.1)
# suggests for players, the audio has sound above 8 kHz that was in no recording: the filter that raises the rate
# falls slowly, and what it leaves of 8 to 9 kHz is a mirror of the band below. Decoded at 16 kHz, and raised by a
# steeper resampler, there is none. A codec whose features are logarithms of bands hears the difference well.
# Seen: 8 to 8.5 kHz only about 9 dB, and 8.5 to 9 kHz about 24 dB below the level of 1 to 7 kHz. Expected: below -60 dB.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 soxr==1.1.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
import io
import struct

import numpy as np
import soundfile
import soxr


def page_checksum(page):
    """The checksum of a page of Ogg whose own is zero: polynomial 0x04C11DB7, highest bit first."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def level_db(audio, rate, low):
    """Level of the 500 Hz from `low` on, against 1 to 7 kHz."""
    power, hertz = np.abs(np.fft.rfft(audio)) ** 2, np.fft.rfftfreq(len(audio), 1 / rate)
    band, speech = (hertz >= low) & (hertz < low + 500), (hertz >= 1000) & (hertz < 7000)
    return 10 * np.log10(power[band].mean() / power[speech].mean())


noise = 0.05 * np.random.default_rng(0).standard_normal(4 * 16000).astype(np.float32)
file = io.BytesIO()
soundfile.write(file, noise, 16000, format="OGG", subtype="OPUS")
content = bytearray(file.getvalue())
size = 27 + content[26] + sum(content[27 : 27 + content[26]])  # of the first page, which is the header
place = content.index(b"OpusHead") + 12
low_audio, low_rate = soundfile.read(io.BytesIO(bytes(content)))
struct.pack_into("<I", content, place, 48000)  # libsndfile decodes at the rate that this field remarks
content[22:26] = bytes(4)
struct.pack_into("<I", content, 22, page_checksum(content[:size]))
audio, rate = soundfile.read(io.BytesIO(bytes(content)))
raised = soxr.resample(low_audio, low_rate, 48000, "HQ")
levels = {low: (level_db(audio, rate, low), level_db(raised, 48000, low)) for low in (8000, 8500, 9000)}
print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__, "rates", low_rate, rate)
for low, (at_48, from_16) in levels.items():
    print(f"{low} to {low + 500} Hz: {at_48:.0f} dB decoded at 48 kHz, {from_16:.0f} dB decoded at 16 kHz and raised")
assert (low_rate, rate) == (16000, 48000)
assert levels[8000][0] > -15 and levels[8500][0] > -35, "nothing is left above the band now"
assert levels[8500][1] < -50
PYTHON
