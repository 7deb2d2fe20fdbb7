#!/usr/bin/env bash
# soxr 1.1.0 (Python), resample of int16 arrays.
#
# Behaviour: the result for int16 is dithered, which the docstring of `resample` does not say and no argument turns off.
# Digital silence comes out with a quarter of its samples at plus or minus one, and a constant of 100 as 99 to 101. So
# two paths to the same audio, int16 to int16 and int16 to float, differ even where there is nothing to round, and what
# trims or counts silence by its zeros finds none. The noise is the same at every call. In float32 silence stays zero.
# Seen: 23 % of the samples of resampled silence are not zero. Expected: zeros.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soxr==1.1.0 "numpy<2.5"
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import soxr

silence = np.zeros(24000, np.int16)
constant = np.full(24000, 100, np.int16)
resampled, floats = soxr.resample(silence, 24000, 16000), soxr.resample(silence.astype(np.float32), 24000, 16000)
print("soxr", soxr.__version__, "numpy", np.__version__)
print(f"silence in int16: values {np.unique(resampled).tolist()}, not zero {np.mean(resampled != 0):.1%}")
print(f"silence in float32: values {np.unique(floats).tolist()}")
print(f"a constant of 100 in int16: values {np.unique(soxr.resample(constant, 24000, 16000)[500:-500]).tolist()}")
assert resampled.dtype == np.int16 and not floats.any()
assert np.array_equal(resampled, soxr.resample(silence, 24000, 16000))
assert np.mean(resampled != 0) > 0.1, "silence stays silence now"
PYTHON
