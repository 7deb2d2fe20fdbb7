"""Tokenize a corpus of any size into Parquet shards; resumes where it was stopped.

    python scripts/tokenize_dataset.py 'speech/*.parquet' --output tokens --licence cc-by-4.0
    torchrun --nproc_per_node 8 scripts/tokenize_dataset.py owner/name --output tokens --licence cc-by-4.0
    accelerate launch --num_processes 8 scripts/tokenize_dataset.py owner/name --device cuda --output ...

`accelerate launch` starts several processes on GPUs, but one on CPUs; there torchrun starts them.

Inputs: Parquet files with an audio column, WebDataset tars, audio files, folders with these, glob patterns, text files
with one path a line, URLs of Parquet files or tars, data sets of the Hub that are Parquet files. Output: token shards
in data/, rejected rows in rejects/, and a data card. Back to audio: scripts/decode_row.py.
"""

import argparse
import sys
from datetime import timedelta

import torch
from accelerate import PartialState
from transformers.utils import logging as transformers_logging

from q2d2_tokenizer import Q2D2Model, default_checkpoint
from q2d2_tokenizer.corpus import Corpus
from q2d2_tokenizer.tokenize_corpus import CorpusOptions, CorpusTokenizer

_LONGEST_WAIT = timedelta(days=60)  # of processes that are done for the others


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Arguments of the command line `argv`, that of the process if it is None."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: each process its own (default: %(default)s)")
    return parser.parse_args(argv)


def tokenize(args: argparse.Namespace) -> None:
    """Do this process's part of the work."""
    state = PartialState(cpu=args.device == "cpu", timeout=_LONGEST_WAIT)
    if state.num_processes > 1 and args.device == "cpu":
        torch.set_num_threads(1)
    options = CorpusOptions(args.max_hours, args.silent, args.rows_per_shard)
    model = Q2D2Model.from_pretrained(args.checkpoint).eval().to(state.device if args.device == "cuda" else args.device)
    corpus = Corpus(args.inputs, args.audio_column, args.id_column, args.drop_columns)
    tokenizer = CorpusTokenizer(corpus, model, args.output, options)
    if state.is_main_process:
        tokenizer.prepare()
    state.wait_for_everyone()
    tokenizer.run(state.process_index, state.num_processes, show_progress=state.is_main_process)
    state.wait_for_everyone()
    if state.is_main_process:
        summary = tokenizer.finish(args.licence, args.source or ", ".join(args.inputs))
        rejects = summary["input_rows"] - summary["token_rows"]
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejects"].items())
        print(
            f"{summary['input_rows']} rows = {summary['token_rows']} with tokens + {rejects} rejected"
            f"{f' ({reasons})' if reasons else ''}; {summary['hours']:.2f} h, {summary['tokens']} tokens, "
            f"{summary['shards']} shards in {args.output}"
        )
    state.destroy_process_group()


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse_arguments(argv)
    transformers_logging.disable_progress_bar()
    try:
        tokenize(args)
    except (ValueError, OSError) as error:
        print(f"tokenize_dataset: {error.strerror if getattr(error, 'strerror', None) else error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
