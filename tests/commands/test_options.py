"""Options of all commands: their help, their forms, and what is refused."""

from argparse import ArgumentError
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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name a command; it must be one of encode, decode"),
        (["enkode"], "there is no command 'enkode'; it must be one of encode"),
        (["encode", "a"], "required: output; see q2d2 encode --help"),
        (["info", "--checkpoint", "a"], "unrecognized arguments: --checkpoint a"),
        (["tokenize", "a", "--output", "b", "--licence", "c", "--ray"], "--ray and --workers go together"),
    ],
)
def test_wrong_command_lines_end_in_one_line(argv, message, capsys):
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("q2d2: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "extra"), [("pyarrow", "train"), ("ray.data", "ray"), ("q2d2_tokenizer.nothing", None)]
)
def test_a_missing_extra_is_named_and_a_missing_module_of_ours_is_not(missing, extra, capsys, monkeypatch):
    def fail(*_):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(cli, "import_module", fail)
    if extra is None:
        with pytest.raises(ModuleNotFoundError):
            cli.main(["tokenize", "--help"])
        return
    assert cli.main(["tokenize", "--help"]) == 2
    package = missing.partition(".")[0]
    error = f"q2d2: tokenize needs {package}, which is not installed: pip install 'q2d2-tokenizer[{extra}]'\n"
    assert capsys.readouterr().err == error
