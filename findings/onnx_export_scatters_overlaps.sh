#!/usr/bin/env bash
# torch 2.13.0, torch.onnx.export with dynamo=True; onnxscript 0.7.2; onnxruntime 1.32.0, on a CPU.
#
# Behaviour: frames of an inverse STFT can be summed in place, `total[:, i : i + T] += frames[:, i]`, which is the
# fastest way in torch. If the number of frames is dynamic, the export makes of each such line two ScatterND of single
# rows with the indices of all of them, computed at run time. The audio is right, but what was faster in torch is slower
# in onnxruntime. Padded copies that are added cost nothing of the kind.
# Seen: 4 overlapping hops give 8 ScatterND among 104 nodes in place, 0 among 12 padded; 3,000 frames took 23 and 6 ms of
# one core in onnxruntime, and 2.4 and 8.9 ms in torch. Expected: slices and additions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "numpy<2.5" onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2
OMP_NUM_THREADS=1 "$folder/env/bin/python" - "$folder/model.onnx" <<'PYTHON' 2> /dev/null
import collections
import statistics
import sys
import time
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import torch

HOPS = 4


class InPlace(torch.nn.Module):
    def forward(self, frames):
        hops, size = frames.unflatten(2, (HOPS, -1)), frames.shape[1]
        total = frames.new_zeros(frames.shape[0], size + HOPS - 1, hops.shape[3])
        for i in range(HOPS):
            total[:, i : i + size] += hops[:, :, i]
        return total


class Padded(torch.nn.Module):
    def forward(self, frames):
        hops = frames.unflatten(2, (HOPS, -1))
        return sum(torch.nn.functional.pad(hops[:, :, i], (0, 0, i, HOPS - 1 - i)) for i in range(HOPS))


def milliseconds(call):
    times = []
    for _ in range(9):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


print("torch", torch.__version__, *(f"{name} {version(name)}" for name in ("onnxscript", "onnxruntime")))
frames = torch.randn(1, 3000, 1280, generator=torch.Generator().manual_seed(0))
scatters = {}
for model in (Padded(), InPlace()):
    name, shapes = type(model).__name__, ({1: torch.export.Dim("frames", min=8)},)
    program = torch.onnx.export(model, (frames[:, :50],), dynamo=True, verbose=False, dynamic_shapes=shapes)
    program.save(sys.argv[1])
    kinds = collections.Counter(node.op_type for node in onnx.load(sys.argv[1]).graph.node)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options)
    inputs = {session.get_inputs()[0].name: frames.numpy()}
    assert np.allclose(session.run(None, inputs)[0], model(frames).numpy(), atol=1e-5)
    scatters[name] = kinds["ScatterND"]
    times = milliseconds(lambda: session.run(None, inputs)), milliseconds(lambda: model(frames))
    print(f"{name}: {scatters[name]} ScatterND of {sum(kinds.values())} nodes, "
          f"{times[0]:.1f} ms in onnxruntime, {times[1]:.1f} ms in torch")
assert scatters == {"Padded": 0, "InPlace": 2 * HOPS}, "sums in place are exported in another way now"
PYTHON
