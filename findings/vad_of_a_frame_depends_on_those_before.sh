#!/usr/bin/env bash
# webrtcvad-wheels 2.0.14.post1.
#
# Behaviour: `is_speech(frame, rate)` looks like a question about a frame, but a detector learns the levels of noise and
# speech from every frame it is given, and holds on to speech for some frames. So one frame gets other answers at
# another time, and a file other segments if the same detector has heard another file before. There is no call that
# resets it: a new detector per file is needed, and files must not be cut and given in parts to several of them.
# Seen: twelve times the same frame of noise, 3 speech, then 9 not; digital silence is speech for 4 frames after a tone.
# Expected: answers that depend on the frame, or a word in the documentation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check webrtcvad-wheels==2.0.14.post1 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import webrtcvad

rate, size = 16000, 480  # frames of 30 ms
noise = (np.random.default_rng(0).standard_normal(size) * 300).astype(np.int16).tobytes()
tone = (8000 * np.sin(2 * np.pi * 300 * np.arange(size) / rate)).astype(np.int16).tobytes()
silence = bytes(2 * size)


def answers(detector, frame):
    return [int(detector.is_speech(frame, rate)) for _ in range(12)]


print("webrtcvad-wheels", version("webrtcvad-wheels"), "mode 2")
same = answers(webrtcvad.Vad(2), noise)
fresh = answers(webrtcvad.Vad(2), silence)
used = webrtcvad.Vad(2)
answers(used, tone)
after = answers(used, silence)
print("one frame of noise, twelve times", same)
print("silence, new detector           ", fresh)
print("silence, after a tone           ", after)
assert 0 < sum(same) < 12, "one frame has one answer now"
assert not any(fresh) and any(after), "silence is silence after a tone now"
PYTHON
