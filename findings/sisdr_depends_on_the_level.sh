#!/usr/bin/env bash
# torchmetrics 1.9.0 with torch 2.13.0 on a CPU: scale_invariant_signal_distortion_ratio, and SI-SNR and SNR with it.
#
# Behaviour: to keep from dividing by zero it adds the epsilon of the type, 1.2e-7 in float32, to sums of squares of the
# samples. What that does depends on the level of the clip, so the score does too: with white noise 20 dB below it, a
# clip of one second has 19.97 dB at a level of -27 dBFS, 18.6 dB at -87 and 5.5 dB at -107. Perfect copies have 84 dB
# at -27 dBFS and 24 dB at -87. Silence that was reconstructed as silence has 0 dB, which goes into the mean of a set as if
# it were bad. In float64 the score does not move.
# Seen: the same clip, scaled, has other scores. Expected: one score, as the name says, and NaN for silence.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as si_sdr

time = torch.arange(16000) / 16000
clip = 0.05 * sum(torch.sin(2 * torch.pi * 120 * k * time) / k for k in range(1, 20))
noise = torch.randn(len(clip), generator=torch.Generator().manual_seed(0)) * clip.std() / 10
print("torchmetrics", version("torchmetrics"), "torch", torch.__version__)
scores = {}
for gain in (1.0, 1e-2, 1e-3, 1e-4):
    noisy, quiet = gain * (clip + noise), gain * clip
    level = 20 * quiet.std().log10().item()
    scores[gain] = si_sdr(noisy, quiet).item()
    double, copy = si_sdr(noisy.double(), quiet.double()).item(), si_sdr(quiet, quiet).item()
    print(f"{level:6.1f} dBFS: {scores[gain]:5.2f} dB, in float64 {double:5.2f} dB, of a perfect copy {copy:5.1f} dB")
    assert abs(double - 19.97) < 0.05
silence = si_sdr(torch.zeros(16000), torch.zeros(16000)).item()
print(f"silence as silence: {silence} dB")
assert scores[1.0] - scores[1e-3] > 1 and scores[1.0] - scores[1e-4] > 10, "the score does not depend on the level now"
assert silence == 0.0
PYTHON
