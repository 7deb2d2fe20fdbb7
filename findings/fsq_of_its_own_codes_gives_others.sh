#!/usr/bin/env bash
# vector-quantize-pytorch 1.32.0, FSQ; torch 2.13.0, on a CPU.
#
# Behaviour: FSQ squeezes its input with tanh before it rounds, and gives codes between -1 and 1. What it gives is no
# fixed point: quantized again, the outer levels come out as inner ones. With vector quantization the codes are the
# nearest to themselves, so code that is right there (quantize what was quantized before, compare tokens after a round
# trip through `indices_to_codes`, distil into quantized targets) changes tokens here, without a word.
# With bound_hard_clamp=True, an option for residual FSQ that is off by default, all codes are kept.
# Seen: levels 8, 5, 5, 5: 500 of 1000 codes keep their index; VectorQuantize: all. Expected: all, or a warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 vector-quantize-pytorch==1.32.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from vector_quantize_pytorch import FSQ, VectorQuantize

torch.manual_seed(0)
print("vector-quantize-pytorch", version("vector-quantize-pytorch"), "torch", torch.__version__)
kept = {}
for name, quantizer, size in (
    ("FSQ 8 5 5 5", FSQ([8, 5, 5, 5]), 1000),
    ("FSQ 4 4", FSQ([4, 4]), 16),
    ("FSQ 8 5 5 5, clamped", FSQ([8, 5, 5, 5], bound_hard_clamp=True), 1000),
    ("VectorQuantize", VectorQuantize(dim=8, codebook_size=64), 64),
):
    indices = torch.arange(size)
    with torch.no_grad():
        codes = quantizer.eval().indices_to_codes(indices) if "FSQ" in name else quantizer.eval().codebook
        again = quantizer(codes[None])[1][0]
    kept[name] = int((again == indices).sum())
    print(f"{name}: {kept[name]} of {size} codes are quantized to themselves")
assert kept["VectorQuantize"] == 64 and kept["FSQ 8 5 5 5, clamped"] == 1000
assert kept["FSQ 8 5 5 5"] == 500 and kept["FSQ 4 4"] < 16, "other codes are kept now"
PYTHON
