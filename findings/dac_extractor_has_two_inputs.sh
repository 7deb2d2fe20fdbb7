#!/usr/bin/env bash
# transformers 5.24.0 (5.20.2 and 5.23.0 too), DacFeatureExtractor, with torch 2.13.0 on a CPU.
#
# Behaviour: the batch that the extractor returns holds two things under the name `input_values`. As a key it is what
# was asked for: a tensor (B, 1, N). As an attribute, which for other extractors is the same object, it is a numpy array
# from before the conversion: `__call__` assigns to the attribute, which is not the entry of the dictionary, so nothing
# converts it and `.to(device)` does not move it. `model.encode(batch.input_values)` then ends in a TypeError about
# conv1d inside the model, and whoever looks at the attribute alone believes that `return_tensors` is not honoured.
# EncodecFeatureExtractor, of the same form, has one value under both.
# Seen: a tensor by key and a numpy array by attribute, and only the tensor follows `.to`.
# Expected: one and the same tensor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import torch
from transformers import DacFeatureExtractor, EncodecFeatureExtractor

audio = [np.sin(np.arange(n) / 20).astype(np.float32) for n in (700, 1000)]
dac = DacFeatureExtractor(sampling_rate=24000, hop_length=320)(audio, sampling_rate=24000, return_tensors="pt")
encodec = EncodecFeatureExtractor()(audio, sampling_rate=24000, return_tensors="pt")
print("transformers", version("transformers"), "torch", torch.__version__)
for name, batch in (("EnCodec", encodec), ("DAC", dac)):
    print(f"{name:8s} key {type(batch['input_values']).__name__:8s} attribute {type(batch.input_values).__name__}")
assert encodec.input_values is encodec["input_values"]
assert isinstance(dac["input_values"], torch.Tensor) and dac["input_values"].shape == (2, 1, 1280)
assert isinstance(dac.input_values, np.ndarray), "the attribute is a tensor now"
moved = dac.to(torch.float64)
assert moved["input_values"].dtype == torch.float64 and moved.input_values.dtype == np.float32
PYTHON
