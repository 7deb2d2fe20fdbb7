#!/usr/bin/env bash
# distillmos 0.9.1 with torch 2.13.0 on a CPU (its import of torchaudio is only for the command line).
#
# Behaviour: the model is a plain differentiable network, but as soon as one of its windows (20 ms) holds nothing but
# zeros, the gradient with respect to the samples of that window is NaN. Its spectrogram takes the magnitude as
# (re^2 + im^2) ** 0.5, whose derivative at zero is infinite; the clip that follows comes too late. Clips shorter than
# 7.68 s are padded with zeros inside, so an ordinary clip without any silence of its own has it too: its last sample
# lies in a window that is otherwise padding, where the Hann window is zero. One NaN is enough to make every weight of a
# network in front of it NaN. With 1e-7 added under the root the gradient is finite and the score hardly moves.
# Seen: a finite score, a gradient with NaN in 1 of 48000 samples. Expected: a finite gradient.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 "numpy<2.3"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0
"$folder/env/bin/python" - <<'PYTHON'
import sys
import types
from importlib.metadata import version

import torch

sys.modules["torchaudio"] = types.ModuleType("torchaudio")
from distillmos import ConvTransformerSQAModel

model = ConvTransformerSQAModel().eval()
time = torch.arange(3 * 16000) / 16000
voice = sum(torch.sin(2 * torch.pi * 120 * k * time) / k for k in range(1, 20)) * torch.sin(2 * torch.pi * 2 * time)
noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
audio = (0.05 * voice + 1e-4 * noise).unsqueeze(0).requires_grad_()
score = model(audio)
score.sum().backward()
print("distillmos", version("distillmos"), "torch", torch.__version__)
print(f"score {score.item():.3f}, samples with a NaN gradient: {audio.grad.isnan().sum().item()} of {audio.numel()}")
assert torch.isfinite(score).all()
assert audio.grad.isnan().any(), "the gradient is finite now"
PYTHON
