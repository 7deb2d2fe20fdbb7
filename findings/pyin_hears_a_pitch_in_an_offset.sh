#!/usr/bin/env bash
# librosa 0.11.0, pyin, fmin 65 Hz and fmax 500 Hz.
#
# Behaviour: digital silence with an offset is voiced: every frame of samples that are all equal and not zero gets the
# flag and a pitch at the upper end of the range, 499.4 Hz. The offset may be as small as three steps of 16 bits. Zeros
# have no pitch. The probability that comes along is 0.01, so flag and probability contradict each other. A
# recording with such pauses then has its voice in the middle and a steady tone at fmax around it, and whatever compares
# pitch or voicing compares that tone.
# Seen: all frames of the silent half are voiced at 499.4 Hz. Expected: none, as for samples of zero.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check librosa==0.11.0 "numpy<2.4"
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import librosa
import numpy as np

RATE, HOP = 16000, 512
time = np.arange(RATE) / RATE
voice = 0.2 * sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 15))
recording = np.round(32768 * np.concatenate([np.zeros(RATE), voice])) / 32768  # 16 bits: silence, then a voice
print("librosa", version("librosa"), "numpy", np.__version__)
share = {}
for offset in (0, 3):  # in steps of 16 bits
    pitch, is_voiced, probability = librosa.pyin(recording + offset / 32768, fmin=65, fmax=500, sr=RATE, hop_length=HOP)
    silent, spoken = slice(0, RATE // HOP - 4), slice(RATE // HOP + 4, None)
    share[offset] = is_voiced[silent].mean()
    found = f"at {np.median(pitch[silent]):.1f} Hz" if share[offset] else ""
    print(f"offset {offset}: {share[offset]:.0%} of the silence is voiced {found} with a probability of "
          f"{probability[silent].mean():.2f}; the voice is at {np.nanmedian(pitch[spoken]):.1f} Hz")
    assert is_voiced[spoken].mean() > 0.9 and abs(np.nanmedian(pitch[spoken]) - 120) < 1
assert share[0] == 0 and share[3] == 1, "silence with an offset is silent now"
PYTHON
