"""The shape of the code: which room imports which, docstrings, and no prints or work on import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from q2d2_tokenizer.commands.main import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "q2d2_tokenizer"
LIBRARY = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "checkpoint")  # its loader is no module
MODEL_FILES = {
    "lattices",
    "registry",
    "layers",
    "quantizers",
    "quantizers_baselines",
    "encoders",
    "decoders",
    "configuration_q2d2",
}
MODEL_FILES |= {"modeling_q2d2", "streaming", "validation_q2d2", "feature_extraction_q2d2", "processing_q2d2"}

# Each room and those it may import besides itself. The model files are one room, so is every folder, every other file.
ROOMS = {
    "model": set(),
    "bundled": {"model"},
    "export": {"model"},
    "export_onnx": {"model", "corpus", "lm"},
    "hub": {"model", "bundled", "export"},
    "auto_classes": {"model"},
    "audio": {"model"},
    "corpus": {"model", "bundled", "audio"},
    "training": {"model", "bundled", "export", "audio", "corpus"},
    "speech": {"model", "bundled", "audio", "lm"},
    "evaluation": {"model", "bundled", "audio", "corpus", "training", "speech", "lm"},
    "commands": {"model", "bundled", "export_onnx", "hub", "audio", "corpus", "training", "speech", "evaluation", "lm"},
    "__init__": {"auto_classes", "model", "bundled", "export", "audio", "corpus", "evaluation", "speech"},
}


def imports(path: Path) -> list[tuple[str, int]]:
    """Imported modules of a file as (name, level of relative import)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is None:
            found += [(alias.name, node.level) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module, node.level))
    return found


def room_of(parts: tuple[str, ...]) -> str:
    """Room of a module, from its name below the package in parts."""
    return "model" if parts[0] in MODEL_FILES else parts[0]


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_imports_go_down(path):
    here = path.relative_to(PACKAGE).with_suffix("").parts
    room = room_of(here)
    for module, level in imports(path):
        assert level <= len(here)
        target = room_of((*here[: len(here) - level], *module.split("."))) if level else module.split(".")[0]
        if level:
            assert target in ROOMS[room] | {room}, f"{room} must not import {target}"
        assert level or target not in {"q2d2_tokenizer", "scripts", "torchaudio", "torchcodec"}
        assert module != "transformers.audio_utils", "its filters are announced to go; layers.py has its own"
        assert level or target != "lm" or "lm" in ROOMS[room]


def test_every_room_is_in_the_table():
    assert {room_of(path.relative_to(PACKAGE).with_suffix("").parts) for path in LIBRARY} == set(ROOMS)


def test_the_page_of_the_architecture_has_the_table_and_draws_it():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([\w, ]+) \|$", text.split("<!-- rooms -->")[1].split("<!-- end -->")[0], re.M)
    table = {room: set(names.split(", ")) - {"nothing"} for room, names in rows if room != "room"}
    assert table == {room: names for room, names in ROOMS.items() if room != "__init__"}
    lines = re.findall(r"^(\w.*?) {5,}", text.split("```text")[1].split("```")[0], re.M)
    height = {room: -number for number, line in enumerate(lines) for room in line.split()}
    assert set(height) == set(table)
    assert all(height[room] > height[below] for room, names in table.items() for below in names - {"lm"})


@pytest.mark.parametrize("stem", sorted(MODEL_FILES))
def test_model_files_are_found_by_the_export_to_the_hub(stem):
    for node in ast.walk(ast.parse((PACKAGE / f"{stem}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:  # it follows only `from .file import Name`
            assert node.level == 1 and node.module in MODEL_FILES


def test_lm_knows_of_the_codec_only_its_inputs_and_its_training_loop():
    allowed = {
        "__init__.py": {"q2d2_tokenizer.auto_classes"},
        "data.py": {"q2d2_tokenizer.corpus.inputs"},
        "settings.py": {"q2d2_tokenizer.training.settings"},
        "training.py": {"q2d2_tokenizer.training.loop"},
    }
    for path in (ROOT / "lm").glob("*.py"):
        found = {module for module, _ in imports(path) if module.startswith("q2d2_tokenizer")}
        assert found <= allowed.get(path.name, set())
    loop = imports(PACKAGE / "training" / "loop.py")
    assert [module for module, level in loop if level] == ["audio.files", "settings"]  # nothing of the codec


def test_scripts_call_commands():
    called = set()
    for path in (ROOT / "scripts").glob("*.py"):
        called |= set(re.findall(r'sys.exit\(main\(\["([a-z-]+)"', path.read_text()))
    assert called == set(COMMANDS) - {"encode", "decode", "reconstruct", "info", "align", "evaluate-tokens"}


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.slow
def test_the_codec_needs_only_the_core_dependencies():
    code = (
        "import sys, torch; threads, state = torch.get_num_threads(), torch.get_rng_state();"
        "import q2d2_tokenizer; q2d2_tokenizer.Q2D2Processor; q2d2_tokenizer.encode_file;"
        "assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state);"
        "extras = {'datasets', 'matplotlib', 'pesq', 'pystoi', 'jsonargparse', 'lm', 'q2d2_tokenizer.training'};"
        "heavy = extras & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
