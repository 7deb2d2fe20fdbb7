#!/usr/bin/env bash
# torch 2.13.0, torch.onnx.export with dynamo=True; onnxscript 0.7.2; onnxruntime 1.32.0, on a CPU.
#
# Behaviour: the optimization that the export runs by default takes any constant within 1e-8 of 0 for 0 and drops its
# addition. 1e-9 and 1e-10 are usual under the logarithm of an energy or in a division by a level, so a feature
# extractor, a loudness or a normalization that is right in torch is minus infinity or not a number in ONNX, for digital
# silence only; near silence it is off by little. Nothing is said. `optimize=False` keeps the constants.
# Seen: log(x + 1e-9) of 0 is -inf in the optimized file and -20.72 in the other. Expected: -20.72 in both, as in torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "numpy<2.5" onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2
"$folder/env/bin/python" - "$folder/model.onnx" <<'PYTHON' 2> /dev/null
import math
import sys
from importlib.metadata import version

import numpy as np
import onnxruntime
import torch


class LogEnergy(torch.nn.Module):
    def __init__(self, floor):
        super().__init__()
        self.floor = floor

    def forward(self, energy):
        return torch.log(energy + self.floor)


def of_silence(floor, optimize):
    program = torch.onnx.export(LogEnergy(floor), (torch.ones(1),), dynamo=True, verbose=False, optimize=optimize)
    program.save(sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1])
    return session.run(None, {session.get_inputs()[0].name: np.zeros(1, np.float32)})[0][0]


print("torch", torch.__version__, *(f"{name} {version(name)}" for name in ("onnxscript", "onnxruntime")))
for floor in (1e-7, 1e-9):
    plain, optimized = of_silence(floor, False), of_silence(floor, True)
    print(f"log(0 + {floor:g}) = {plain:.2f} exported without optimization, {optimized:.2f} with it")
    assert math.isclose(plain, math.log(floor), rel_tol=1e-5)
    if floor == 1e-7:
        assert math.isclose(optimized, plain, rel_tol=1e-5)
    else:
        assert optimized == -math.inf, "small constants are kept now"
PYTHON
