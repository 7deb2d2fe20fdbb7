"""What tokenizing 1 h, 1,000 h and 100,000 h takes, from the speed that benchmark_corpus.py measured.

    python scripts/benchmarks/cost_table.py docs/benchmarks/corpus.json --processes 2 64 1024 --price_per_core_hour 0.04

Adds nothing to what was measured but multiplication: every process is taken to be as fast as one alone, and reading as
fast as it was then. Storage and transfer of the recordings are not counted. Writes cost.md beside the input.
"""

import argparse
import json
from pathlib import Path

from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit, written_by
from q2d2_tokenizer.evaluation.tables import markdown_table

_HOURS = (1, 1_000, 100_000)


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    if hours < 1:
        return f"{60 * hours:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def cost_rows(speed: float, bytes_per_hour: float, processes: list[int], price: float) -> list[list[str]]:
    """Rows of cells, the first one with titles.

    Args:
        speed: Of one process, as a multiple of real time.
        bytes_per_hour: Of token shards for an hour of audio.
        processes: Numbers of processes to give the duration for.
        price: Of an hour of one core.
    """
    titles = ["audio", "core hours", "cost", "token shards", *(f"time with {count:,} processes" for count in processes)]
    rows = [titles]
    for hours in _HOURS:
        core_hours = hours / speed
        cells = [
            f"{hours:,} h",
            f"{core_hours:,.2f}",
            f"{core_hours * price:,.2f}",
            f"{hours * bytes_per_hour / 1e6:,.1f} MB",
        ]
        rows.append([*cells, *(_duration(core_hours / count) for count in processes)])
    return rows


def main(argv: list[str] | None = None) -> None:
    """Write the table next to the measured speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="corpus.json of scripts/benchmarks/benchmark_corpus.py")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 64, 1024], help="default: %(default)s")
    parser.add_argument("--price_per_core_hour", type=float, required=True, help="in the currency of your bill")
    args = parser.parse_args(argv)
    require_commit(args.measured)
    measured = json.loads(args.measured.read_text())
    one = next(row for row in measured["results"] if row["processes"] == 1)
    table = cost_rows(
        one["times_real_time"], one["shard_bytes"] / one["hours"], args.processes, args.price_per_core_hour
    )
    run = describe_run()
    text = (
        f"One process on one core tokenizes {one['times_real_time']:.1f}x real time, measured at commit "
        f"{measured['run']['commit']} by `{measured['run']['command']}`. The cost assumes {args.price_per_core_hour:g} "
        f"per hour of a core.\n\n{markdown_table(table)}\n\n"
        f"{written_by(run)}\n"
    )
    args.measured.with_name("cost.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
