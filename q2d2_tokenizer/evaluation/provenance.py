"""Where a number comes from: command, commit and versions, for the results that scripts write."""

import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

_ROOT = Path(__file__).parents[2]
# Prose and results change no number; a run that writes several results finds the first ones changed.
_NO_CODE = (":(exclude,top)docs", ":(exclude,top,glob)**/*.md")


def _git(root: Path, *arguments: str) -> str:
    """What git prints; nothing where there is no git or no repository."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True).stdout.rstrip()
    except FileNotFoundError:
        return ""


def changed_files(root: Path = _ROOT) -> list[str]:
    """Tracked files that differ from their commit, without docs/ and Markdown."""
    lines = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", *_NO_CODE).splitlines()
    return [line[3:] for line in lines]


def require_commit(output: str | Path, root: Path = _ROOT) -> None:
    """Refuse to write results into docs/ that no commit could give again.

    Args:
        output: File or folder to be written; nothing is asked of one outside docs/.
        root: Top folder of the repository.

    Raises:
        RuntimeError: If tracked files differ from their commit; docs/ and Markdown may.
    """
    if not Path(output).resolve().is_relative_to(root.resolve() / "docs"):
        return
    if changed := changed_files(root):
        raise RuntimeError(
            f"results in docs/ must come from a commit, got {len(changed)} changed files, such as {changed[0]}: commit "
            f"or stash them, or write elsewhere, such as --output runs/{Path(output).stem}"
        )


def describe_run(root: Path = _ROOT) -> dict[str, str | int]:
    """Command line, commit (with -dirty if files were changed), versions and threads of this process."""
    commit = _git(root, "describe", "--always", "--abbrev=12")
    script, *words = sys.argv
    program = ["q2d2"] if Path(script).name == "q2d2" else ["python", script]  # which lies elsewhere on every machine
    return {
        "command": shlex.join([*program, *words]),
        "commit": commit + "-dirty" * bool(commit and changed_files(root)) or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def written_by(run: dict[str, Any]) -> str:
    """The sentence below a table, from what `describe_run` gave when it was written."""
    return f"Written by `{run['command']}` at commit {run['commit']}."
