"""The command `q2d2`: all of the project by the names in `COMMANDS`.

Exit code: 0 if all went well, 1 if single files failed (the rest is done), 2 if nothing could be started.
"""

import os
import re
import sys
import warnings
from argparse import ArgumentError
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

_DISTRIBUTION = "q2d2-tokenizer"
_TRACEBACK = "Q2D2_TRACEBACK"  # name of the environment variable that shows where an error is from


@dataclass(frozen=True)
class Command:
    """A command: the module of this folder that has a function of the same name, and what it needs.

    Args:
        module: Name of the module and of its function.
        summary: One line for the help.
        extra: Extra of the package with the libraries that it imports.
        settings: File of the folder configs with other defaults.
    """

    module: str
    summary: str
    extra: str = ""
    settings: str = ""


COMMANDS = {
    "encode": Command("encode", "Turn audio files into token files"),
    "decode": Command("decode", "Turn token files into wav files"),
    "reconstruct": Command("reconstruct", "Send audio files through tokens into wav files"),
    "info": Command("info", "Describe a codec"),
    "tokenize": Command("tokenize", "Turn a corpus into Parquet shards of tokens", "train"),
    "decode-row": Command("decode_row", "Turn one row of a token data set into a wav file", "train"),
    "plot-tokens": Command("plot_tokens", "Draw how the tokens of a data set are used", "train"),
    "train": Command("train", "Train a codec, or check data and settings", "train"),
    "finetune": Command(
        "finetune", "Fine-tune a codec on your recordings and measure the gain", "train", "finetune.yaml"
    ),
    "plot-training": Command("plot_training", "Draw the curves of a training run", "train"),
    "train-text-tokenizer": Command("train_text_tokenizer", "Train the text tokenizer of a language model", "train"),
    "train-lm": Command("train_lm", "Train a language model on tokens", "train"),
    "bundle-lm": Command("bundle_lm", "Put a trained language model into the package", "train"),
    "speak": Command("read_aloud", "Read a text aloud", "train"),
    "continue": Command("continue_speech", "Go on speaking from a recording", "train"),
    "align": Command("align", "Tell when each word of a recording is spoken", "train"),
    "evaluate": Command("evaluate", "Measure a codec on recordings, next to others", "eval"),
    "evaluate-domains": Command("evaluate_domains", "Measure a codec on noise, music and other languages", "eval"),
    "evaluate-lm": Command("evaluate_lm", "Measure a language model and its speech", "eval"),
    "evaluate-tokens": Command("evaluate_tokens", "Measure what tokens carry and how stable they are", "eval"),
    "results": Command("results", "Write a page of results from evaluations", "eval"),
    "export-onnx": Command("export_onnx", "Export a codec and a language model to ONNX", "onnx"),
    "push": Command("push", "Publish a codec on the Hugging Face Hub"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, that of the process if left out; returns the exit code."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"q2d2 {version(_DISTRIBUTION)}")
    elif name not in COMMANDS:
        problem = f"there is no command {name!r}" if name else "name a command"
        return _refuse(f"{problem}; it must be one of {', '.join(COMMANDS)}")
    else:
        return _run(name, COMMANDS[name], rest)
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    usage = "usage: q2d2 COMMAND ...\n       q2d2 COMMAND --help\n       q2d2 --version"
    return "\n".join([usage, "", "Turn speech into one flat stream of integers, and back.", "", "commands:", *lines])


def _run(name: str, command: Command, argv: list[str]) -> int:
    """Parse the options of a command and call it; whatever goes wrong is said in one line."""
    from .options import parse

    before, warnings.formatwarning = warnings.formatwarning, _warning_line
    try:
        function = getattr(import_module(f".{command.module}", __package__), command.module)
        settings = Path(__file__).parents[1] / "configs" / command.settings if command.settings else None
        arguments = parse(f"q2d2 {name}", function, argv, settings)
        from transformers.utils import logging  # takes time, which help and wrong options shall not

        logging.disable_progress_bar()
        return function(**arguments) or 0
    except ArgumentError as error:
        return _refuse(f"{name}: {error}; see q2d2 {name} --help")
    except KeyboardInterrupt:
        return _refuse(f"{name} was interrupted", 130)
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        return _refuse(_explain(name, command, error))
    finally:
        warnings.formatwarning = before


def _explain(name: str, command: Command, error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, ModuleNotFoundError) and (extras := _extras(error.name or "", command.extra)):
        missing = (error.name or "").partition(".")[0]
        return f"{name} needs {missing}, which is not installed: pip install '{_DISTRIBUTION}[{','.join(extras)}]'"
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
    if isinstance(error, (ValueError, ImportError, RuntimeError)) and str(error):
        return str(error)
    return f"{name} failed, {type(error).__name__}: {error}; {_TRACEBACK}=1 in the environment shows where"


def _extras(module: str, preferred: str) -> list[str]:
    """Extras of the package to install for a module: that of the command, and one that has the module."""
    package = re.escape(module.partition(".")[0]).replace("_", "[-_]")
    pattern = re.compile(rf"{package}\b(?!-).*extra == ['\"](\w+)['\"]", re.IGNORECASE)
    others = [one for one in requires(_DISTRIBUTION) or [] if not one.startswith(_DISTRIBUTION)]
    found = [match[1] for one in others if (match := pattern.match(one))]
    return [] if not found else [preferred] if preferred in found else sorted({preferred, found[0]} - {""})


def _warning_line(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


def _refuse(problem: str, code: int = 2) -> int:
    print("q2d2:", " ".join(problem.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
