"""Tokenize a corpus of any size into Parquet shards; resumes where it was stopped.

    python scripts/tokenize_dataset.py 'speech/*.parquet' --output tokens --licence cc-by-4.0
    torchrun --nproc_per_node 8 scripts/tokenize_dataset.py owner/name --output tokens --licence cc-by-4.0
    accelerate launch --num_processes 8 scripts/tokenize_dataset.py owner/name --device cuda --output ...

Several nodes share the output folder. To start several processes on CPUs, accelerate needs --multi_gpu, despite the
name; `accelerate launch --cpu` starts one. On Ray: scripts/tokenize_on_ray.py. docs/corpora.md has all of it.

Inputs: Parquet files with an audio column, WebDataset tars, audio files, folders with these, glob patterns, text files
with one path a line, URLs of Parquet files or tars, data sets of the Hub that are Parquet files. Output: token shards
in data/, rejected rows in rejects/, and a data card. Back to audio: scripts/decode_row.py.
"""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import PartialState
from transformers.utils import logging as transformers_logging

from ..bundled import default_checkpoint
from ..corpus.sources import Corpus
from ..corpus.tokenize import CorpusOptions, CorpusTokenizer
from ..modeling_q2d2 import Q2D2Model

_LONGEST_WAIT = timedelta(days=60)  # of processes that are done for the others


def make_parser(description: str) -> argparse.ArgumentParser:
    """Parser of the arguments that say what to tokenize, and how."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="see above")
    parser.add_argument("--output", required=True, help="folder; the beginning of the same job is continued")
    parser.add_argument(
        "--licence", required=True, help="of the recordings, for the data card: an identifier of the Hub"
    )
    parser.add_argument("--source", help="name of the corpus, for the data card (default: the inputs)")
    parser.add_argument("--checkpoint", default=default_checkpoint(), help="codec: folder or name on the Hub")
    parser.add_argument("--audio_column", default="audio", help="of Parquet files (default: %(default)s)")
    parser.add_argument("--id_column", help="of Parquet files (default: id, else ids of file and row number)")
    parser.add_argument("--drop_columns", nargs="*", default=[], help="columns to leave out")
    parser.add_argument("--max_hours", type=float, default=4.0, help="reject longer ones (default: %(default)s)")
    parser.add_argument("--silent", choices=["reject", "keep"], default="reject", help="recordings below -60 dB")
    parser.add_argument("--rows_per_shard", type=int, default=1000, help="default: %(default)s")
    return parser


def build(args: argparse.Namespace, device: str) -> CorpusTokenizer:
    """What the arguments ask for, with the codec on a device."""
    options = CorpusOptions(args.max_hours, args.silent, args.rows_per_shard)
    model = Q2D2Model.from_pretrained(args.checkpoint).eval().to(device)
    corpus = Corpus(args.inputs, args.audio_column, args.id_column, args.drop_columns, args.output)
    return CorpusTokenizer(corpus, model, args.output, options)


def finish(tokenizer: CorpusTokenizer, args: argparse.Namespace) -> None:
    """Check that all is there, write the data card and say what was done."""
    summary = tokenizer.finish(args.licence, args.source or ", ".join(args.inputs))
    rejects = summary["input_rows"] - summary["token_rows"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejects"].items())
    print(
        f"{summary['input_rows']} rows = {summary['token_rows']} with tokens + {rejects} rejected"
        f"{f' ({reasons})' if reasons else ''}; {summary['hours']:.2f} h, {summary['tokens']} tokens, "
        f"{summary['shards']} shards in {args.output}"
    )


def tokenize(args: argparse.Namespace) -> None:
    """Do this process's part of the work."""
    # The processes only wait for each other, so the backend of CPUs will do; it lets several of them share a GPU.
    state = PartialState(cpu=True, timeout=_LONGEST_WAIT)
    device = args.device
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("--device cuda, but torch sees no GPU here; use --device cpu or another build of torch")
        device = f"cuda:{state.local_process_index % torch.cuda.device_count()}"
    if state.num_processes > 1 and device == "cpu":
        torch.set_num_threads(1)
    tokenizer = build(args, device)
    if state.is_main_process:
        tokenizer.prepare()
    state.wait_for_everyone()
    if not state.is_main_process:
        tokenizer.check_plan()
    start = time.perf_counter()
    tokenizer.run(state.process_index, state.num_processes, show_progress=state.is_main_process)
    state.wait_for_everyone()
    if state.is_main_process:
        print(f"tokenized for {time.perf_counter() - start:.1f} s", file=sys.stderr)
        finish(tokenizer, args)
    state.destroy_process_group()


def exit_code(work: Callable[[], None]) -> int:
    """Run `work`; 0, or 2 after a message if it cannot be done."""
    transformers_logging.disable_progress_bar()
    try:
        work()
    except (ValueError, OSError) as error:
        parts = [getattr(error, "strerror", None) or error, getattr(error, "filename", None)]
        print("tokenize_dataset", *filter(None, parts), sep=": ", file=sys.stderr)
        return 2
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda (processes go round the GPUs), cuda:0 ...")
    args = parser.parse_args(argv)
    return exit_code(lambda: tokenize(args))
