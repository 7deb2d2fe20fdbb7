"""The arguments of `evaluate_codec.py`."""

import argparse
from pathlib import Path

from ..bundled import default_checkpoint
from .metrics import METRICS

DEFAULT_METRICS = ["pesq_wb", "pesq_nb", "stoi", "log_mel", "si_sdr"]


def clip_count(text: str) -> int:
    """A number of clips from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text}")
    return int(text)


def parse_arguments(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """The arguments, checked as far as that needs no audio."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=default_checkpoint(), help="folder; the bundled one if left out")
    parser.add_argument("--data", nargs="+", required=True, help="Parquet, tar or audio files, folders ...")
    parser.add_argument("--audio_column", default="audio", help="of Parquet files (default: %(default)s)")
    parser.add_argument("--id_column", help="of Parquet files: names of the clips (default: id, else file and row)")
    parser.add_argument("--text_column", default="text", help="of Parquet files and metadata (default: %(default)s)")
    parser.add_argument("--title", default="", help="what the data is, for docs/RESULTS.md")
    parser.add_argument("--output", type=Path, default=Path("runs/evaluation"), help="folder for the results")
    parser.add_argument("--cache", default="runs/cache", help="folder for decoded audio")
    parser.add_argument("--clips", type=clip_count, help="at most that many, evenly spread; all if left out")
    parser.add_argument("--no-peers", action="store_true", help="leave out Opus and Codec2")
    parser.add_argument("--decoded", nargs="+", default=[], metavar="NAME=FOLDER", help="output of other codecs")
    parser.add_argument("--transformers", nargs="+", default=[], metavar="NAME=FOLDER", help="EnCodec, DAC or Mimi")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=DEFAULT_METRICS,
        choices=[*METRICS, "all"],
        metavar="METRIC",
        help=f"of {', '.join(METRICS)}, or all; {' '.join(DEFAULT_METRICS)} if left out",
    )
    parser.add_argument(
        "--program", nargs="+", default=[], metavar="NAME=RATE COMMAND", help="see evaluation/programs.py"
    )
    parser.add_argument(
        "--asr", metavar="FOLDER", help="with a model (see evaluation/asr.py): adds the word error rate"
    )
    parser.add_argument("--listen", type=int, default=3, help="clips on the page with players")
    parser.add_argument("--write-clips", type=Path, metavar="FOLDER", help="write the clips as wav files and stop")
    parser.add_argument("--restart", action="store_true", help="forget the rows of earlier runs")
    args = parser.parse_args(argv)
    if "all" in args.metrics:
        args.metrics = list(METRICS)
    args.decoded = dict(item.partition("=")[::2] for item in args.decoded)
    args.program = dict(item.partition("=")[::2] for item in args.program)
    args.transformers = dict(item.partition("=")[::2] for item in args.transformers)
    for name in () if args.write_clips else args.metrics:
        if METRICS[name].missing():
            modules, install = ", ".join(METRICS[name].missing()), METRICS[name].install
            parser.error(f"the metric {name} needs {modules}, which is not installed: pip install {install}")
    for name, folder in args.decoded.items():
        if not Path(folder or "?").is_dir():
            parser.error(f"--decoded takes NAME=FOLDER, and {folder!r} of {name!r} is not a folder")
    return args
