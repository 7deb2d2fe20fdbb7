#!/usr/bin/env bash
# torch 2.13.0 on a CPU of the x86 family, where its transforms are those of MKL.
#
# Behaviour: a transform of a tensor without rows, such as the empty last batch of a loader or what a mask leaves of a
# batch, raises "MKL FFT error: ... Inconsistent configuration parameters". Nothing in the message says that it is about
# size 0. Most operations of torch give an empty result for such a tensor, and so do numpy's transforms.
# Seen: RuntimeError of fft, ifft, rfft and irfft for shapes (0, 8) and (0, 5). Expected: empty results, (0, 8)
# and, of rfft, (0, 5).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import torch

print("torch", torch.__version__, "with MKL:", torch.backends.mkl.is_available())
kinds = (("fft", 8, "complex64"), ("ifft", 8, "complex64"), ("rfft", 8, "float32"), ("irfft", 5, "complex64"))
for name, columns, dtype in kinds:
    empty = np.zeros((0, columns), dtype)
    expected = getattr(np.fft, name)(empty).shape
    try:
        found = tuple(getattr(torch.fft, name)(torch.from_numpy(empty)).shape)
    except RuntimeError as error:
        found = str(error).splitlines()[0]
    print(f"{name:5} numpy {expected}, torch {found}")
    assert "MKL FFT error" in str(found), "no error of MKL now"
assert (torch.zeros(0, 8) @ torch.zeros(8, 5)).shape == (0, 5)
PYTHON
