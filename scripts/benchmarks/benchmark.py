"""Speed and memory of our codec next to EnCodec, Mimi, DAC and X-codec2, on the bundled recording.

    python scripts/benchmarks/benchmark.py
    python scripts/benchmarks/benchmark.py --threads 1 2 --batch 1 16 --dtypes float32 bfloat16 \\
        --modes eager compiled --repeats 3

The others are those of transformers with random weights (their speed does not depend on them; nothing is downloaded),
at the bitrate closest to ours. Every number is the median of fresh processes, all codecs in turn; what cannot run, such
as torch.compile without a C++ compiler, says so in the table. What is measured is kept in OUTPUT/details, so a run that
was interrupted goes on (at the same commit). Writes codecs.json, .md and .png. Needs `matplotlib`.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from benchmark_codecs import CODECS
from benchmarking import KeptRuns, add_arguments, median_of, run_in_turns, write_results

from q2d2_tokenizer import read_audio, sample_recording
from q2d2_tokenizer.evaluation.memory import measure
from q2d2_tokenizer.evaluation.plot import load_pyplot
from q2d2_tokenizer.evaluation.provenance import require_commit

CELL = ("codec", "threads", "batch", "dtype", "mode")
SPEEDS = {"encode_x": "encode, x real time", "decode_x": "decode, x real time"}


@torch.inference_mode()
def measure_cell(cell: dict[str, Any], args: argparse.Namespace) -> dict[str, float]:
    """Measure one codec in this process."""
    torch.set_num_threads(cell["threads"])
    torch.manual_seed(args.seed)
    codec = CODECS[cell["codec"]](args.codec)
    dtype = getattr(torch, cell["dtype"])
    codec.model.to(dtype)
    if cell["mode"] == "compiled":
        codec.compile()
    samples = round(args.seconds * codec.sampling_rate)
    recording = torch.from_numpy(read_audio(sample_recording(), codec.sampling_rate))
    audio = recording.repeat(-(-samples // len(recording)))[:samples].expand(cell["batch"], 1, -1).to(dtype)
    encoding = measure(lambda: codec.encode(audio), args.timed_calls)
    encoded = codec.encode(audio)
    decoding = measure(lambda: codec.decode(encoded), args.timed_calls)
    missing = samples - codec.decode(encoded).shape[-1]
    if missing > 0.02 * codec.sampling_rate:
        raise RuntimeError(f"{missing} of {samples} samples were not decoded")
    seconds = args.seconds * cell["batch"]
    return {
        "parameters_million": sum(p.numel() for p in codec.model.parameters()) / 1e6,
        "bitrate_bps": float(codec.bitrate),
        "encode_x": seconds / encoding["seconds"],
        "decode_x": seconds / decoding["seconds"],
        "both_x": seconds / (encoding["seconds"] + decoding["seconds"]),
        "encode_peak_mb": encoding["peak_mb"],
        "decode_peak_mb": decoding["peak_mb"],
        "process_peak_mb": max(encoding["process_mb"], decoding["process_mb"]),
    }


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the cell of this process, or say why that is not possible."""
    try:
        return measure_cell(json.loads(args.worker), args)
    except Exception as error:  # of any library: the table says what it was
        message = next((line for line in str(error).splitlines() if line.strip()), "")
        return {"not_available": f"{type(error).__name__}: {message[:120]}"}


def compare(cells: list[dict[str, Any]], runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of the table, with how many times as fast ours is in the same setting."""
    measured = {json.dumps(cell): median_of(runs[json.dumps(cell)]) for cell in cells}
    columns = next((list(row) for row in measured.values() if "encode_x" in row), [])
    rows = []
    for cell in cells:
        row, first = (measured[json.dumps(cell | more)] for more in ({}, {"codec": next(iter(CODECS))}))
        both = "encode_x" in row and "encode_x" in first
        ratios = {
            f"ours_over_it_{part}": first[f"{part}_x"] / row[f"{part}_x"] if both else None
            for part in ("encode", "both")
        }
        values = {column: row.get(column) for column in columns}
        rows.append(cell | values | ratios | {"not_available": row.get("not_available")})
    return rows


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Bars of speed: one line of panels for each setting, a bar for each codec."""
    pyplot = load_pyplot()
    settings = {key: list(group) for key, group in itertools.groupby(rows, lambda row: tuple(row[k] for k in CELL[1:]))}
    size = (10, 0.6 + len(settings) * (0.5 + 0.25 * len(CODECS)))
    figure, axes = pyplot.subplots(len(settings), 2, figsize=size, squeeze=False, layout="constrained", sharex="col")
    for line, ((threads, *rest), group) in zip(axes, settings.items(), strict=True):
        for axis, (column, title) in zip(line, SPEEDS.items(), strict=True):
            bars = axis.barh([row["codec"] for row in group], [row[column] or 0 for row in group])
            axis.bar_label(bars, fmt="%.3g", padding=3)
            axis.set_title(f"{title}; {threads} threads, batch {', '.join(map(str, rest))}", fontsize=8)
            axis.set_xscale("symlog", linthresh=1.0)
            axis.margins(x=0.2)
            axis.invert_yaxis()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Measure all codecs in turns and write the results."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="threads of torch")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="recordings at once")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager"])
    parser.add_argument("--codecs", nargs="+", choices=list(CODECS), default=list(CODECS), help="ours is always there")
    parser.add_argument("--codec", default="bundled", help="our codec: folder, name on the Hub, or bundled")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the audio")
    parser.add_argument(
        "--limit_seconds", type=float, default=900.0, help="of one process; what takes longer is left out"
    )
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(work(args)))
        return
    require_commit(args.output)
    names = [name for i, name in enumerate(CODECS) if i == 0 or name in args.codecs]
    grid = itertools.product(args.threads, args.batch, args.dtypes, args.modes)
    cells = [dict(zip(CELL, (name, *cell), strict=True)) for cell in grid for name in names]
    settings = {name: getattr(args, name) for name in ("seconds", "timed_calls", "seed", "codec")}
    kept = KeptRuns(args.output / "details" / "codecs.jsonl", settings)
    keys = [json.dumps(cell) for cell in cells]
    runs = run_in_turns(__file__, keys, argv, args.repeats, kept, args.limit_seconds)
    rows = compare(cells, runs)
    write_results(args.output, "codecs", args, rows, runs)
    plot(args.output / "codecs.png", rows)


if __name__ == "__main__":
    main()
