"""Tokenize a corpus on the CPUs of a Ray cluster; the output is that of scripts/tokenize_dataset.py, to the byte.

    ray start --head                      # on the first node; on the others: ray start --address ADDRESS
    python scripts/tokenize_on_ray.py 'speech/*.parquet' --output tokens --licence cc-by-4.0 --workers 64

A task of Ray Data is one shard. What is there already is left alone, so a run that was stopped goes on, here or with
tokenize_dataset.py. All nodes see the repository, the inputs and the output under the same paths. Without a cluster,
Ray starts one of this machine alone. Needs the extra `ray`.
"""

import os
from argparse import Namespace
from typing import Any

import torch
from tqdm import tqdm

from .tokenize_dataset import build, exit_code, finish, make_parser


class ShardWorker:
    """Makes shards in a process of the cluster; holds the codec and the list of the corpus.

    Args:
        args: Of the command line.
        folder: That relative paths start from.
    """

    def __init__(self, args: Namespace, folder: str):
        os.chdir(folder)
        torch.set_num_threads(1)
        self.tokenizer = build(args, "cpu")
        self.tokenizer.check_plan()  # this node may see other inputs

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The hours of audio of a shard, once it is written."""
        return {"shard": row["id"], "hours": self.tokenizer.run(int(row["id"]), len(self.tokenizer.shards))}


def tokenize(args: Namespace) -> None:
    """Make all shards that are missing, in the cluster."""
    try:
        import ray.data
    except ImportError as error:
        raise ValueError(f"{error}; install Ray: pip install -c constraints.txt -e '.[ray]'") from error
    tokenizer = build(args, "cpu")
    tokenizer.prepare()
    ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = ray.data.range(len(tokenizer.shards), override_num_blocks=len(tokenizer.shards)).map(
        ShardWorker,
        fn_constructor_args=(args, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=args.workers),
        num_cpus=1,
    )
    hours = 0.0
    with tqdm(total=len(tokenizer.shards), desc="shards", unit="shard") as bar:
        for row in shards.iter_rows():
            hours += row["hours"]
            bar.set_postfix_str(
                f"{hours:.2f} h, {3600 * hours / bar.format_dict['elapsed']:.0f}x real time", refresh=False
            )
            bar.update()
    finish(tokenizer, args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--workers", type=int, required=True, help="processes, each with one CPU of the cluster")
    args = parser.parse_args(argv)
    return exit_code(lambda: tokenize(args))
