"""A corpus tokenized on the CPUs of a Ray cluster; a task of Ray Data is one shard."""

import os
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from .tokenize import CorpusTokenizer


class ShardWorker:
    """Makes shards in a process of the cluster; holds the codec and the list of the corpus.

    Args:
        build: Makes the tokenizer, with the codec on a device.
        folder: Folder that relative paths start from.
    """

    def __init__(self, build: Callable[[str], CorpusTokenizer], folder: str):
        os.chdir(folder)
        torch.set_num_threads(1)
        self.tokenizer = build("cpu")
        self.tokenizer.check_plan()  # this node may see other inputs

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The hours of audio of a shard, once it is written."""
        return {"shard": row["id"], "hours": self.tokenizer.run(int(row["id"]), len(self.tokenizer.shards))}


def run_on_ray(build: Callable[[str], CorpusTokenizer], workers: int) -> CorpusTokenizer:
    """Make all shards that are missing, in the cluster; returns the tokenizer of this process.

    Args:
        build: Makes the tokenizer, with the codec on a device.
        workers: Processes, each with one CPU of the cluster.
    """
    import ray.data

    tokenizer = build("cpu")
    tokenizer.prepare()
    ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = ray.data.range(len(tokenizer.shards), override_num_blocks=len(tokenizer.shards)).map(
        ShardWorker,
        fn_constructor_args=(build, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=workers),
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
    return tokenizer
