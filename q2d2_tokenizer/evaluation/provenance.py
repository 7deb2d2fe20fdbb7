"""Where a number comes from: command, commit and versions, for the results that scripts write."""

import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch
import transformers


def describe_run() -> dict[str, str | int]:
    """Command line, commit (with -dirty if files were changed), versions and threads of this process."""
    folder = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=folder, capture_output=True, text=True
    ).stdout.strip()
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }
