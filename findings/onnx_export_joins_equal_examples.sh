#!/usr/bin/env bash
# torch 2.13.0, torch.onnx.export with dynamo=True; onnxscript 0.7.2; onnxruntime 1.32.0, on a CPU.
#
# Behaviour: if one tensor object is the example of two inputs, the exported graph keeps both names but computes with one
# of them only. Nothing is raised or said, and results are right as long as both inputs are equal, as in a first check
# with the examples. It meets caches and masks, whose examples are often one tensor of zeros.
# Seen: first - 2 * second of 1 and 5 is -5, as if both were 5. Expected: -9, as in torch, or an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "numpy<2.5" onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2
"$folder/env/bin/python" - "$folder/model.onnx" <<'PYTHON' 2> /dev/null
import sys
from importlib.metadata import version

import numpy as np
import onnxruntime
import torch


class Difference(torch.nn.Module):
    def forward(self, first, second):
        return first - 2 * second


def exported(examples):
    """The exported model's result for 1 and 5."""
    names = ["first", "second"]
    program = torch.onnx.export(Difference(), examples, input_names=names, dynamo=True, verbose=False)
    program.save(sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1])
    assert [one.name for one in session.get_inputs()] == names
    return session.run(None, {"first": np.float32([1.0]), "second": np.float32([5.0])})[0][0]


example = torch.zeros(1)
print("torch", torch.__version__, *(f"{name} {version(name)}" for name in ("onnxscript", "onnxruntime")))
different, same = exported((example, example.clone())), exported((example, example))
print(f"1 - 2 * 5 = {different:g} exported with two examples, {same:g} exported with one for both")
assert different == -9
assert same == -5, "inputs with one example are kept apart now"
PYTHON
