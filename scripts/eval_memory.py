"""Peak memory of encoding and decoding with a checkpoint, measured in a fresh process.

    python scripts/eval_memory.py --checkpoint runs/exported --seconds 10

Prints one line of JSON; Linux only.
"""

import argparse
import json
import subprocess
import sys

import torch
from benchmarking import measure

from q2d2_tokenizer import Q2D2Model, default_checkpoint


def measure_memory(checkpoint: str, seconds: float) -> dict[str, float] | None:
    """Peak memory in MB for random audio of that length, or None where the system does not tell."""
    if sys.platform != "linux":
        return None
    command = [sys.executable, __file__, "--checkpoint", checkpoint, "--seconds", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=default_checkpoint(), help="folder; the bundled one if left out")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the audio")
    args = parser.parse_args(argv)
    model = Q2D2Model.from_pretrained(args.checkpoint).eval()
    audio = torch.randn(1, 1, round(args.seconds * model.config.sampling_rate)).mul(0.1).clamp(-1, 1)
    measured = measure(lambda: model(audio), timed_calls=1)
    memory = {"audio_seconds": args.seconds, "peak_mb": measured["peak_mb"], "process_mb": measured["process_mb"]}
    print(json.dumps(memory))


if __name__ == "__main__":
    main()
