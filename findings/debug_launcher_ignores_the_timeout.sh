#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0, on a CPU.
#
# Behaviour: `debug_launcher` makes the group of processes itself before it calls the function, so the arguments of
# `InitProcessGroupKwargs` that the function gives to `Accelerator` come too late. Nothing is said. A test that wants to
# see a stuck process fail after seconds waits half an hour.
# Seen: a timeout of 0:30:00 where 0:00:07 was asked for. Expected: 0:00:07, or a warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 accelerate==1.15.0 "numpy<2.5"
cat > "$folder/launch.py" <<'PYTHON'
import warnings
from datetime import timedelta
from importlib.metadata import version

import torch
from accelerate import Accelerator, debug_launcher
from accelerate.utils import InitProcessGroupKwargs
from torch.distributed.distributed_c10d import _get_default_group

warnings.simplefilter("ignore")
ASKED = timedelta(seconds=7)


def work():
    accelerator = Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(timeout=ASKED)])
    found = _get_default_group()._get_backend(torch.device("cpu")).options._timeout
    if accelerator.is_main_process:
        print(f"asked for {ASKED}, got {found}", flush=True)
    assert found != ASKED, "the timeout is obeyed now"


if __name__ == "__main__":
    print("accelerate", version("accelerate"), "torch", torch.__version__, flush=True)
    debug_launcher(work, (), 2)
PYTHON
"$folder/env/bin/python" "$folder/launch.py"
