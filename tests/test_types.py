"""Type checks by mypy: the same whether the extra `ray` is installed or not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TYPES_OF_RAY = """from typing import Any, Callable
class Dataset:
    def map(self, fn: Callable[[dict[str, Any]], dict[str, Any]]) -> "Dataset": ...
def range(n: int) -> Dataset: ...
"""
CODE = """import ray.data
class Worker:
    def __call__(self, row: dict) -> dict:
        return row
ray.data.range(1).map(Worker)
"""


@pytest.mark.slow
def test_types_of_ray_do_not_count(tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").touch()
    (tmp_path / "ray" / "data.py").write_text(TYPES_OF_RAY)
    (tmp_path / "code.py").write_text(CODE)
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "code.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
