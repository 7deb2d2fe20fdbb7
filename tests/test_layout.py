"""The shape of the code: who imports whom, sizes, and no prints or work on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "q2d2_tokenizer").glob("*.py"))
MODEL_FILES = {"lattices", "registry", "layers", "quantizers", "encoders", "decoders", "configuration_q2d2"}
MODEL_FILES |= {"modeling_q2d2", "streaming", "feature_extraction_q2d2", "processing_q2d2"}
TRAINING_FILES = {"losses", "discriminators", "gan", "training", "data", "data_stream", "doctor", "metrics"}


def imports(path: Path) -> list[tuple[str, int]]:
    """Imported modules of a file as (name, level of relative import)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))
    return found


def test_library_is_one_flat_folder():
    folders = {p.name for p in (ROOT / "q2d2_tokenizer").iterdir() if p.is_dir()} - {"__pycache__"}
    assert folders == {"checkpoint", "samples"}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    for module, level in imports(path):
        if level:  # the export to the Hub follows only `from .file import Name`
            assert level == 1 and module
            assert not (path.stem in MODEL_FILES and module in TRAINING_FILES | {"audio", "tokenize_dataset", "export"})
        assert module.split(".")[0] not in ("q2d2_tokenizer", "scripts", "lm", "torchaudio", "torchcodec")


def test_lm_does_not_know_the_codec():
    for path in (ROOT / "lm").glob("*.py"):
        assert not [module for module, _ in imports(path) if module.startswith("q2d2_tokenizer")]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno <= 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.slow
def test_import_needs_only_the_core_dependencies():
    code = (
        "import sys, torch; threads, state = torch.get_num_threads(), torch.get_rng_state();"
        "import q2d2_tokenizer;"
        "assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state);"
        "heavy = {'datasets', 'matplotlib', 'pesq', 'pystoi'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
