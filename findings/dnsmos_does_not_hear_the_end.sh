#!/usr/bin/env bash
# speechmos 0.0.1.1, DNSMOS (Python 3.10 or newer, numpy, onnxruntime; no sound file is needed).
#
# Behaviour: clips longer than 9.01 s are scored in windows of 9.01 s with a hop of one second, and the number of
# windows is floor(whole seconds - 9.01) + 1. So a clip of 10.9 s gets one window: its last 1.89 s are never heard. Here
# they are replaced by white noise at full level, and no score changes in any digit. A window more, which would fit, is
# only taken from 11 s on. A mean over clips of 10 to 20 s therefore leaves out up to a sixth of the audio.
# Seen: the four scores of both clips are equal. Expected: noise at the end lowers the background score.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    speechmos==0.0.1.1 onnxruntime==1.20.1 "numpy<2.3" librosa==0.11.0 requests==2.32.3 tqdm==4.67.1
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from speechmos import dnsmos

rate = 16000
rng = np.random.default_rng(0)
time = np.arange(int(10.9 * rate)) / rate
voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20)) * np.sin(2 * np.pi * 2 * time) ** 2
clean = (0.05 * voice).astype(np.float32)
noisy = clean.copy()
noisy[int(9.02 * rate) :] = 0.5 * rng.standard_normal(len(noisy) - int(9.02 * rate)).clip(-2, 2)
heard = noisy.copy()
heard[: int(1.88 * rate)] = 0.5 * rng.standard_normal(int(1.88 * rate)).clip(-2, 2)  # the same at the start is heard
scores = [dnsmos.run(clip, rate) for clip in (clean, noisy, heard)]
names = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
print("speechmos", version("speechmos"))
for label, score in zip(("clean", "noise in the last 1.88 s", "also in the first 1.88 s"), scores):
    print(f"{label:26s}", {name: round(float(score[name]), 4) for name in names})
assert all(scores[0][name] == scores[1][name] for name in names), "the end is heard now"
assert scores[0]["bak_mos"] != scores[2]["bak_mos"]
PYTHON
