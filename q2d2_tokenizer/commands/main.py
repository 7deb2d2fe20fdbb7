"""The command `q2d2`: all of the project by the names in `COMMANDS`.

Exit code: 0 if all went well, 1 if single files failed (the rest is done), 2 if nothing could be started.
"""

import sys
from argparse import ArgumentError
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path


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
    "speak": Command("speak", "Read a text aloud", "train"),
    "continue": Command("continue_speech", "Go on speaking from a recording", "train"),
    "align": Command("align", "Tell when each word of a recording is spoken", "train"),
    "evaluate": Command("evaluate", "Measure a codec on recordings, next to others", "eval"),
    "evaluate-domains": Command("evaluate_domains", "Measure a codec on noise, music and other languages", "eval"),
    "evaluate-lm": Command("evaluate_lm", "Measure a language model and its speech", "eval"),
    "evaluate-tokens": Command("evaluate_tokens", "Measure what tokens carry and how stable they are", "eval"),
    "results": Command("results", "Write a page of results from evaluations", "eval"),
    "export-onnx": Command("export_onnx", "Export a codec to ONNX", "onnx"),
    "push": Command("push", "Publish a codec on the Hugging Face Hub"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, that of the process if left out; returns the exit code."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"q2d2 {version('q2d2-tokenizer')}")
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
    """Import the module of a command, parse its options and call it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.utils import logging

    from .options import parse

    logging.disable_progress_bar()
    try:
        function = getattr(import_module(f".{command.module}", __package__), command.module)
        settings = Path(__file__).parents[1] / "configs" / command.settings if command.settings else None
        return function(**parse(f"q2d2 {name}", function, argv, settings)) or 0
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "q2d2_tokenizer", "lm"):
            raise
        extra = "ray" if missing == "ray" else command.extra
        return _refuse(f"{name} needs {missing}, which is not installed: pip install 'q2d2-tokenizer[{extra}]'")
    except ArgumentError as error:
        return _refuse(f"{name}: {error}; see q2d2 {name} --help")
    except OSError as error:
        return _refuse(": ".join(str(part) for part in (error.strerror or error, error.filename) if part))
    except (ValueError, ImportError, StrictDataclassError) as error:
        return _refuse(str(error))


def _refuse(problem: str) -> int:
    print("q2d2:", " ".join(problem.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
