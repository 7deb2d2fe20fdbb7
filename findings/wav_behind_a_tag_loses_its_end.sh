#!/usr/bin/env bash
# soundfile 0.14.0 with its libsndfile 1.2.2, WAV files behind an ID3v2 tag.
#
# Behaviour: some tools put an ID3v2 tag in front of a WAV. libsndfile skips it and finds the format, but goes on to count
# the data from the start of the file, so as many bytes as the tag has are missing at the end. Nothing is raised.
# Seen: a tag of 138 bytes takes the last 69 samples of 16 bits. Expected: all samples, or an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
import io

import numpy as np
import soundfile

rate = 24000
samples = (np.sin(np.arange(3 * rate) * 0.1) * 8000).astype(np.int16)
file = io.BytesIO()
soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
frame = b"TIT2" + (118).to_bytes(4, "big") + bytes(2) + b"\0" + b"a" * 117  # the title
size = len(frame)
tag = b"ID3\3\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + frame
found, found_rate = soundfile.read(io.BytesIO(tag + file.getvalue()), dtype="int16")
print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
print(f"tag of {len(tag)} bytes: {len(found)} of {len(samples)} samples")
assert found_rate == rate and np.array_equal(found, samples[: len(found)])
assert len(samples) - len(found) == len(tag) // 2, "other samples are lost now"
PYTHON
