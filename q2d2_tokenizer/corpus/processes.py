"""A corpus tokenized by all processes of a launcher, or by a Ray cluster, with one call."""

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import CorpusOptions

if TYPE_CHECKING:
    from .tokenize import CorpusTokenizer

_LONGEST_WAIT = timedelta(days=60)  # of processes that are done for the others


def tokenize_corpus(
    inputs: list[str] | str,
    output: str | Path,
    licence: str,
    *,
    source: str | None = None,
    codec: str = "bundled",
    device: str = "cpu",
    audio_column: str = "audio",
    id_column: str | None = None,
    drop_columns: list[str] | None = None,
    options: CorpusOptions = CorpusOptions(),  # noqa: B008 - frozen
    ray_workers: int | None = None,
) -> dict[str, Any] | None:
    """Turn a corpus of any size into Parquet shards of tokens, with a data card; goes on where it was stopped.

    Under torchrun or accelerate launch, all processes call it with the same arguments and share the work.

    Args:
        inputs: What to tokenize, see `Corpus`.
        output: Folder to write; may hold the beginning of the same job.
        licence: Licence of the recordings, for the data card: an identifier of the Hub.
        source: Name of the corpus, for the data card; the inputs if left out.
        codec: Folder of a codec, its name on the Hub, or `bundled`.
        device: Device of the codec: `cpu`, `cuda` (processes go round the GPUs), `cuda:0` and so on.
        audio_column: Column of Parquet files that holds the audio.
        id_column: Column of Parquet files that holds the ids of recordings; `id`, or else file and row, if left out.
        drop_columns: Columns of the inputs to leave out of the shards.
        options: What the result depends on besides.
        ray_workers: Processes of a Ray cluster, each with one CPU, that do the work instead of this one.

    Returns:
        Counts of rows, rejects, hours, tokens and shards, as in summary.json; None in all processes but the main one.

    Raises:
        ValueError: If there is nothing to tokenize, no licence, or the folder holds something else.
        OSError: If the inputs cannot be read or the folder cannot be written.
    """
    from ..bundled import load_codec
    from .sources import Corpus
    from .tokenize import CorpusTokenizer

    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not licence.strip():
        raise ValueError("licence must name the licence of the recordings, such as cc-by-4.0, got nothing")

    def build(device: str) -> CorpusTokenizer:
        corpus = Corpus(inputs, audio_column, id_column, drop_columns, str(output))
        return CorpusTokenizer(corpus, load_codec(codec, device), output, options)

    if ray_workers is not None:
        if device != "cpu":
            raise ValueError(f"workers of Ray use CPUs, got the device {device!r}")
        tokenizer: CorpusTokenizer | None = run_on_ray(build, ray_workers)
    else:
        tokenizer = run_processes(build, device)
    return tokenizer.finish(licence, source or ", ".join(inputs)) if tokenizer else None


def run_processes(build: "Callable[[str], CorpusTokenizer]", device: str) -> "CorpusTokenizer | None":
    """Do this process's part of the work; returns the tokenizer in the main process, once all are done.

    Args:
        build: Makes the tokenizer, with the codec on a device.
        device: See `tokenize_corpus`.
    """
    import torch
    from accelerate import PartialState
    from tqdm import tqdm

    # The processes only wait for each other, so the backend of CPUs will do; it lets several of them share a GPU.
    state = PartialState(cpu=True, timeout=_LONGEST_WAIT)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("the device is cuda, but torch sees no GPU here; use cpu or another build of torch")
        device = f"cuda:{state.local_process_index % torch.cuda.device_count()}"
    if state.num_processes > 1 and device == "cpu":
        torch.set_num_threads(1)
    tokenizer = build(device)
    if state.is_main_process:
        tokenizer.prepare()
    state.wait_for_everyone()
    if not state.is_main_process:
        tokenizer.check_plan()
    start = time.perf_counter()
    tokenizer.run(state.process_index, state.num_processes, show_progress=state.is_main_process)
    state.wait_for_everyone()
    if state.is_main_process:
        tqdm.write(f"tokenized for {time.perf_counter() - start:.1f} s", file=sys.stderr)
    state.destroy_process_group()
    return tokenizer if state.is_main_process else None


class ShardWorker:
    """Makes shards in a process of the cluster; holds the codec and the list of the corpus.

    Args:
        build: Makes the tokenizer, with the codec on a device.
        folder: Folder that relative paths start from.
    """

    def __init__(self, build: "Callable[[str], CorpusTokenizer]", folder: str):
        import torch

        os.chdir(folder)
        torch.set_num_threads(1)
        self.tokenizer = build("cpu")
        self.tokenizer.check_plan()  # this node may see other inputs

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The hours of audio of a shard, once it is written."""
        return {"shard": row["id"], "hours": self.tokenizer.run(int(row["id"]), len(self.tokenizer.shards))}


def run_on_ray(build: "Callable[[str], CorpusTokenizer]", workers: int) -> "CorpusTokenizer":
    """Make all shards that are missing, in the cluster; returns the tokenizer of this process.

    Args:
        build: Makes the tokenizer, with the codec on a device.
        workers: Processes, each with one CPU of the cluster.
    """
    import ray.data
    from tqdm import tqdm

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
            speed = 3600 * hours / bar.format_dict["elapsed"]
            bar.set_postfix_str(f"{hours:.2f} h, {speed:.0f}x real time", refresh=False)
            bar.update()
    return tokenizer
