"""Options of all commands: their help, their forms, and what is refused."""

import subprocess
import sys
import warnings
from argparse import ArgumentError, Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from q2d2_tokenizer.commands import main as cli
from q2d2_tokenizer.commands.options import parse
from q2d2_tokenizer.commands.train import train
from q2d2_tokenizer.training.discriminators import DISCRIMINATORS
from q2d2_tokenizer.training.projected import NETWORKS


@dataclass(frozen=True)
class Settings:
    """Settings of a command."""

    steps: int = 100
    """Number of steps."""
    names: list[str] = field(default_factory=lambda: ["a"])
    """Names of things."""
    limit: float = float("inf")
    """Longest time in minutes."""
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Weights by name."""
    tied: bool = True
    """Tie both."""


def further(*, title: str = "", decoded: dict[str, str] | None = None) -> None:
    """Take what the command passes on.

    Args:
        title: Title of the page.
        decoded: Folder of another codec.
    """


def command(
    inputs: list[str],
    word: str | None = None,
    *,
    output: Path,
    fast: bool = False,
    columns: list[str] | None = None,
    settings: Settings = Settings(steps=7),  # noqa: B008 - frozen
    **options,
) -> None:
    """Do something.

        q2d2 command in --output out

    Args:
        inputs: Files to read.
        word: Word to say.
        output: File to write.
        fast: Hurry.
        columns: Columns to leave out.
    """
    further(**options)


def parsed(*argv: str) -> dict:
    return parse("q2d2 command", command, list(argv))


def test_values_come_from_defaults_files_and_the_command_line(tmp_path):
    found = parsed("a", "b", "--output", "out")
    assert found == {
        "inputs": ["a", "b"],
        "word": None,
        "output": Path("out"),
        "fast": False,
        "columns": None,
        "settings": Settings(steps=7),
        "title": "",
        "decoded": {},
    }
    (tmp_path / "one.yaml").write_text("steps: 3\nnames: [x, y]\nweights: {a: {b: [1, 2]}}\n")
    (tmp_path / "two.json").write_text('{"limit": Infinity, "steps": 4, "tied": false, "names": []}')
    files = ["--config", str(tmp_path / "one.yaml"), f"--config={tmp_path / 'two.json'}"]
    found = parsed("a", "--names", "u", "v", "--output", "out", *files, "--limit", "2e1", "--fast")
    assert found["settings"] == Settings(4, ["u", "v"], 20.0, {"a": {"b": [1, 2]}}, False) and found["fast"]
    assert not parsed("a", "--output", "out", "--no_tied")["settings"].tied
    weights = parsed("a", "--output", "out", "--weights", '{"a": {"b": 1}}')["settings"].weights
    assert weights == {"a": {"b": 1}}
    found = parsed("a", "--output", "out", "--decoded", "X=one=two", "Y=three", "--columns", "c", "d")
    assert found["decoded"] == {"X": "one=two", "Y": "three"} and found["columns"] == ["c", "d"]


@pytest.mark.parametrize(
    "argv",
    [
        "a",  # no output
        "--output out",  # no inputs
        "a --output out --stepz 3",
        "a --output out --step 3",  # no abbreviations
        "a --output out --steps many",
        "a --output out --config absent.yaml",
        "a --output out --fast=yes --limit",
    ],
)
def test_what_does_not_fit_is_refused(argv):
    with pytest.raises(ArgumentError):
        parsed(*argv.split())


def test_unknown_settings_of_a_file_are_refused(tmp_path):
    (tmp_path / "one.yaml").write_text("stepz: 3\n")
    with pytest.raises(ArgumentError, match="stepz"):
        parsed("a", "--output", "out", "--config", str(tmp_path / "one.yaml"))


@pytest.mark.parametrize("name", ["finetune.yaml", "natural.yaml"])
def test_settings_of_the_package_are_those_of_training(name):
    path = Path(cli.__file__).parents[1] / "configs" / name
    found = parse("q2d2 train", train, ["--config", str(path), "--data", "a", "--output", "b", "--steps", "3"])
    config = found["config"]
    given = yaml.safe_load(path.read_text()) | {"data": ["a"], "output": "b", "steps": 3}
    assert {key: getattr(config, key) for key in given} == given
    assert set(config.discriminator_kwargs) <= set(config.discriminators) <= set(DISCRIMINATORS)
    assert set(config.discriminator_kwargs.get("projected", {"sizes": []})["sizes"]) <= set(NETWORKS)


def entries(text: str) -> dict[str, str]:
    """Help of every positional argument and option in a help text."""
    found: dict[str, str] = {}
    name = ""
    for line in text[text.index("  -h, --help") if "positional" not in text else text.index("positional") :].split(
        "\n"
    ):
        if line.startswith("  ") and line[2] != " ":
            name, _, rest = line.strip().partition("  ")
            found[name] = rest.strip()
        elif line.startswith("   "):
            found[name] += " " + line.strip()
    return found


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text.startswith(f"usage: q2d2 {name} ")
    assert f"q2d2 {name} " in text[text.index("\n\n") :] or f"q2d2 {name}\n" in text  # an example
    assert max(map(len, text.splitlines())) <= 120
    usage = " ".join(text[: text.index("\n\n")].split())
    for option, words in entries(text).items():
        assert len(words.split()) > 1 and not words.startswith("Of ") and "None" not in words, option
        if option.startswith("--print_config"):  # of jsonargparse
            continue
        if option.startswith("--") and f"[{option.split()[0].rstrip(',')}" not in usage:
            assert words.endswith("(required)"), option


def test_the_help_lists_all_commands(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.partition("commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(cli.COMMANDS)
    assert all(len(line) <= 100 for line in lines)
    assert cli.main(["--version"]) == 0 and capsys.readouterr().out.startswith("q2d2 0.")


TRAIN = ["train", "--data", "a", "--output", "b"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name a command; it must be one of encode, decode"),
        (["enkode"], "there is no command 'enkode'; it must be one of encode"),
        (["encode"], "required: inputs, --output; see q2d2 encode --help"),
        ([*TRAIN, "--steps", "abc"], "--steps must be a whole number, got 'abc'; see"),
        ([*TRAIN, "--betas", "0", "x"], "--betas must be a number, got 'x'; see"),
        ([*TRAIN, "--stepz", "3"], "arguments: --stepz 3; did you mean --steps?; see"),
        ([*TRAIN, "--check=3"], "--check takes no value, got '3'; see"),
        ([*TRAIN, "--steps"], "--steps needs a value; see"),
        (["train", "--config", "absent.yaml"], "--config: there is no file"),
        (
            [*TRAIN, "--segment_frames", "0"],
            "segment_frames must be at least 1, got 0",
        ),
        (
            [*TRAIN, "--mel_bands", "20"],
            "one number for each of mel_n_ffts, 5, got [20]",
        ),
        (
            [*TRAIN, "--freeze", "encoder", "quantizer", "decoder"],
            "leave one to train",
        ),
        (["evaluate", "--data", "a", "--clips", "0"], "clips must be a whole number from 1 on, got 0"),
        (["info", "--checkpoint", "a"], "unrecognized arguments: --checkpoint a"),
        (["tokenize", "a", "--output", "b", "--licence", "c", "--ray"], "--ray and --workers go together"),
    ],
)
def test_wrong_command_lines_end_in_one_line(argv, message, capsys):
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("q2d2: ") and message in error and error.count("\n") == 1


def fails_with(error: Exception) -> Any:
    """A function that takes all, and raises an error."""

    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("tokenize", "pyarrow", "train"),
        ("tokenize", "ray.data", "ray,train"),
        ("evaluate-lm", "num2words", "eval,train"),
    ],
)
def test_a_missing_extra_is_named(command, missing, extra, capsys, monkeypatch):
    error = ModuleNotFoundError(f"No module named {missing!r}", name=missing)
    monkeypatch.setattr(cli, "import_module", fails_with(error))
    assert cli.main([command]) == 2
    package = missing.partition(".")[0]
    line = f"q2d2: {command} needs {package}, which is not installed: pip install 'q2d2-tokenizer[{extra}]'\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ModuleNotFoundError("No module named 'q2d2_tokenizer.x'", name="q2d2_tokenizer.x"), "No module named", 2),
        (RuntimeError("the weights\n are damaged"), "q2d2: the weights are damaged\n", 2),
        (PermissionError(13, "Permission denied", "a.wav"), "q2d2: Permission denied: a.wav\n", 2),
        (KeyError("x"), "q2d2: info failed, KeyError: 'x'; Q2D2_TRACEBACK=1 in the environment shows where\n", 2),
        (KeyboardInterrupt(), "q2d2: info was interrupted\n", 130),
    ],
)
def test_every_failure_is_one_line(error, line, code, capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", fails_with(error))
    assert cli.main(["info"]) == code
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    monkeypatch.setenv("Q2D2_TRACEBACK", "1")
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            cli.main(["info"])


def test_warnings_are_one_line(capsys, monkeypatch):
    def warn() -> None:
        """Warn."""
        sys.stderr.write(warnings.formatwarning("not read:\n 🙂", UserWarning, "text.py", 1))

    monkeypatch.setattr(cli, "import_module", lambda *_: Namespace(info=warn))
    assert cli.main(["info"]) == 0 and capsys.readouterr().err == "warning: not read: 🙂\n"


def test_help_of_all_commands_loads_neither_torch_nor_extras():
    code = """
import re, sys
from importlib.metadata import requires
core = {"jsonargparse", "pyyaml", "q2d2-tokenizer"}
for name in {re.match("[a-z0-9-]+", one)[0] for one in requires("q2d2-tokenizer")} - core:
    sys.modules[name.replace("-", "_")] = None  # an import of it fails
import q2d2_tokenizer
from q2d2_tokenizer.commands.main import COMMANDS, main
for words in [], *([name] for name in COMMANDS):
    try:
        assert main([*words, "--help"]) == 0
    except SystemExit as ended:
        assert ended.code == 0
assert main(["--version"]) == 0
assert main(["train"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == len(cli.COMMANDS) + 1
