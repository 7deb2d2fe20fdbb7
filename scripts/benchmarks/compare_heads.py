"""A softmax over all codes against pair tokens.

    python scripts/benchmarks/compare_heads.py --data runs/tokens \\
        --validation_data runs/validation_tokens --output docs/results

Both train with the same data, body, steps, batches and rate, each in a fresh process. Another run of pair tokens, on
uniformly random codes of a codebook too large for the softmax, shows time and memory alone. Writes heads.json, .md,
.png and heads_cost.png. Needs `matplotlib` and Linux.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from benchmark_runs import run_in_turns
from benchmarking import plot_bars, write_results

from lm.data import expand_shards
from lm.layout import Layout
from lm.model import ModelSettings, make_language_model
from lm.training import LanguageModelTrainer, TrainConfig
from q2d2_tokenizer.evaluation.memory import measure_peak
from q2d2_tokenizer.evaluation.plot import load_pyplot
from q2d2_tokenizer.evaluation.provenance import require_commit

BIG = "pairs, big codebook"
CONTESTANTS = ["flat", "pairs", BIG]


def write_random_shard(path: Path, like: list[str], groups: list[int], seed: int) -> None:
    """Write a shard with the recordings' lengths of others and uniformly random codes of another codebook."""
    tables = [pyarrow.parquet.read_table(shard, columns=["codes", "num_samples"]) for shard in expand_shards(like)]
    table = pyarrow.concat_tables(tables)
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, math.prod(groups), len(row)) for row in table["codes"].to_pylist()]
    table = table.set_column(0, "codes", pyarrow.array(codes, pyarrow.list_(pyarrow.int32())))
    codec = {"codec_fingerprint": "random", "codebook_size": str(math.prod(groups)), "sampling_rate": "24000"}
    pyarrow.parquet.write_table(table.replace_schema_metadata(codec | {"points_per_group": json.dumps(groups)}), path)


def model_settings(args: argparse.Namespace, head: str) -> ModelSettings:
    """Size of a contestant, with heads of 32 channels."""
    width = args.hidden_size
    return ModelSettings(width, args.num_layers, width // 32, 8 * width // 3, args.context, audio_head=head)


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Train one contestant in this process."""
    torch.set_num_threads(args.threads)
    is_big = args.worker == BIG
    steps = 20 if is_big else args.steps
    with tempfile.TemporaryDirectory() as folder:
        if is_big:
            write_random_shard(Path(folder, "random.parquet"), args.data, args.big_groups, args.seed)
        config = TrainConfig(
            data=[f"{folder}/random.parquet"] if is_big else args.data,
            output=folder,
            validation_data=[] if is_big else args.validation_data,
            steps=steps,
            tokens_per_batch=args.tokens_per_batch,
            learning_rate=3e-3,
            warmup_steps=max(1, steps // 20),
            decay_steps=max(1, steps // 3),
            seed=args.seed,
        )
        trainer = LanguageModelTrainer(config, model_settings(args, args.worker.split(",")[0]))
    codes, model = trainer.language_model.layout.codebook_size, trainer.language_model.model
    row = {"codes": codes, "parameters": model.num_parameters(), **measure_peak(trainer.train_step)}
    durations, validations = [], []
    for step in range(2, steps + 1):
        start = time.perf_counter()
        trainer.train_step()
        durations.append(time.perf_counter() - start)
        if not is_big and (step % max(1, steps // 4) == 0 or step == steps):
            validations.append({"step": step} | trainer.validate())
    return row | {"ms_per_step": 1e3 * statistics.median(durations), "validations": validations}


def table_row(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """Columns of the table; a dash for what was not measured."""
    last = run["validations"][-1] if run.get("validations") else {}
    right, near = (100 * last[f"validation_{key}_share"] if last else "-" for key in ("right", "near_miss"))
    return {
        "contestant": name,
        "codes": run["codes"],
        "parameters": run["parameters"],
        "ms per step": run.get("ms_per_step", "-"),
        "extra peak MB of a step": run.get("peak_mb", "-"),
        "bits per token": last.get("validation_bits_per_token", "-"),
        "bits per second": last.get("validation_bits_per_second", "-"),
        "bits by group": " + ".join(f"{bits:.3f}" for bits in last.get("validation_bits_by_group", [])) or "-",
        "guessed right, %": right,
        "one cell off, %": near,
    }


def plot_curves(path: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Held-out bits per second by step."""
    pyplot = load_pyplot()
    figure, axis = pyplot.subplots(figsize=(7, 4))
    for name, run in runs.items():
        if run["validations"]:
            steps, bits = zip(*((v["step"], v["validation_bits_per_second"]) for v in run["validations"]), strict=True)
            axis.plot(steps, bits, marker="o", label=name)
    axis.set(xlabel="step", ylabel="held-out bits per second of audio")
    axis.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv: list[str] | None = None) -> None:
    """Train all contestants and write the results."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="token shards, folders or globs")
    parser.add_argument("--validation_data", nargs="+", required=True, help="likewise; held out")
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--big_groups", type=int, nargs="+", default=[145, 85, 85], help="points of each group")
    size = {"hidden_size": 128, "num_layers": 3, "context": 512, "tokens_per_batch": 768, "steps": 300}
    for name, value in (size | {"threads": 1, "seed": 0}).items():
        parser.add_argument(f"--{name}", type=int, default=value, help="default: %(default)s")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(work(args)))
        return
    require_commit(args.output)
    runs = {name: run for name, (run,) in run_in_turns(__file__, CONTESTANTS, argv, 1).items()}
    big = Layout(math.prod(args.big_groups), 24000, "random", points_per_group=tuple(args.big_groups))
    with torch.device("meta"):
        parameters = make_language_model(model_settings(args, "flat"), big).num_parameters()
    rows = [table_row(name, run) for name, run in runs.items()]
    not_run = table_row("flat, big codebook (not run)", {"codes": big.codebook_size, "parameters": parameters})
    write_results(args.output, "heads", args, [*rows, not_run], runs)
    plot_curves(args.output / "heads.png", runs)
    panels = {name: name for name in ("ms per step", "extra peak MB of a step", "parameters")}
    plot_bars(args.output / "heads_cost.png", rows, panels, log=True)


if __name__ == "__main__":
    main()
