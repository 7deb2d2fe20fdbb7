"""How fast a corpus of Opus in Parquet becomes token shards, with one process and with two.

    python scripts/benchmarks/benchmark_corpus.py 'speech/librispeech-*.parquet'

Runs scripts/tokenize_dataset.py under torchrun into fresh folders, in turns, one thread per process. Speed counts
reading, decoding, resampling, tokens and writing; loading the codec is told apart, since it does not grow with the
corpus. What is measured is kept in OUTPUT/details, so a run that was interrupted goes on (at the same commit). Writes
corpus.json and corpus.md; scripts/benchmarks/cost_table.py goes on from there.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarking import KeptRuns, median_of, run_in_turns, write_results

from q2d2_tokenizer.corpus.shards import list_shards
from q2d2_tokenizer.evaluation.provenance import require_commit

_SCRIPT = Path(__file__).parents[1] / "tokenize_dataset.py"


def tokenize(inputs: list[str], processes: int, rows_per_shard: int) -> dict[str, Any]:
    """Tokenize into a temporary folder; speed as a multiple of real time."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        options = ["--output", folder, "--licence", "other", "--rows_per_shard", str(rows_per_shard)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        start = time.perf_counter()
        done = subprocess.run(
            [*launcher, str(_SCRIPT), *inputs, *options], capture_output=True, text=True, env=environment
        )
        total = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"tokenize_dataset.py failed:\n{done.stderr[-2000:]}")
        seconds = float(re.search(r"tokenized for ([\d.]+) s", done.stderr).group(1))
        summary = json.loads(Path(folder, "summary.json").read_text())
        return {
            "hours": summary["hours"],
            "seconds": seconds,
            "start_and_end_seconds": total - seconds,
            "times_real_time": 3600 * summary["hours"] / seconds,
            "times_real_time_from_start_to_end": 3600 * summary["hours"] / total,
            "shard_bytes": sum(path.stat().st_size for path in list_shards(folder, None)),
        }


def main(argv: list[str] | None = None) -> None:
    """Measure in turns and write the results."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="as of tokenize_dataset.py")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--rows_per_shard", type=int, default=10, help="few, so that no process waits for a last shard")
    args = parser.parse_args(argv)
    require_commit(args.output)
    args.threads, args.seed = 1, "none (nothing is random)"
    settings = {"inputs": args.inputs, "rows_per_shard": args.rows_per_shard}
    kept = KeptRuns(args.output / "details" / "corpus.jsonl", settings)
    runs = run_in_turns(__file__, list(map(str, args.processes)), argv, args.repeats, kept)
    medians = {name: median_of(found) for name, found in runs.items()}
    first = next(iter(medians.values()))["times_real_time"]
    rows = [
        {"processes": int(name)} | row | {"speed_over_first": row["times_real_time"] / first}
        for name, row in medians.items()
    ]
    write_results(args.output, "corpus", args, rows, runs)


if __name__ == "__main__":
    main()
