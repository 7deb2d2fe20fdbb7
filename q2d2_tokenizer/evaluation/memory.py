"""Peak memory of encoding and decoding of a codec, measured in a fresh process.

    python -m q2d2_tokenizer.evaluation.memory --codec runs/exported --seconds 10

Prints one line of JSON; Linux only.
"""

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..bundled import BUNDLED, load_codec


def resident_mb(field: str) -> float:
    """Memory of this process in MB, VmRSS now or VmHWM at its peak; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}; the benchmarks need Linux")


LEAST_TIMED_SECONDS = 3.0
MOST_TIMED_SECONDS = 60.0  # no further call after that


def measure(call: Callable[[], Any], timed_calls: int) -> dict[str, float]:
    """Peak memory of a first call, in MB, and the median duration, in seconds, of those that follow.

    `timed_calls` follow, or more: a short call is not warm after three.
    """
    memory = measure_peak(call)
    durations: list[float] = []
    while sum(durations) < MOST_TIMED_SECONDS and (
        len(durations) < timed_calls or sum(durations) < LEAST_TIMED_SECONDS
    ):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return {"seconds": statistics.median(durations), **memory}


def measure_peak(call: Callable[[], Any]) -> dict[str, float]:
    """Peak memory of a call, in MB.

    `peak_mb` is what the call adds, `process_mb` all that the process holds at that moment.

    There must be no call before it to warm up: memory it freed would be used again and not be seen.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    call()
    peak = resident_mb("VmHWM")
    return {"peak_mb": max(0.0, peak - before), "process_mb": peak}


def measure_memory(codec: str, seconds: float) -> dict[str, float] | None:
    """Peak memory in MB for random audio of that length, or None where the system does not tell."""
    if sys.platform != "linux":
        return None
    module = "q2d2_tokenizer.evaluation.memory"
    command = [sys.executable, "-m", module, "--codec", codec, "--seconds", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default=BUNDLED, help="folder of a codec, its name on the Hub, or bundled")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the audio")
    args = parser.parse_args(argv)
    model = load_codec(args.codec)
    audio = torch.randn(1, 1, round(args.seconds * model.config.sampling_rate)).mul(0.1).clamp(-1, 1)
    measured = measure(lambda: model(audio), timed_calls=1)
    memory = {"audio_seconds": args.seconds, "peak_mb": measured["peak_mb"], "process_mb": measured["process_mb"]}
    print(json.dumps(memory))


if __name__ == "__main__":
    main()
