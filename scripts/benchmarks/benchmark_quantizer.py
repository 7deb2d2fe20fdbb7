"""Time and memory of turning vectors into codes: closed form against tables of points and against FSQ.

    python scripts/benchmarks/benchmark_quantizer.py --vectors 1000000 --threads 2

All contestants take the same kind of vectors (N, d), bound them by tanh and give codes (N,). A table of all codes is so
slow that it gets fewer vectors; compare its microseconds per vector. The memory of a contestant includes its tables.
Writes quantizers.json, .md and .png. Needs `vector-quantize-pytorch` and `matplotlib`.
"""

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable
from importlib.metadata import version

import torch
from benchmarking import add_arguments, median_of, plot_bars, run_in_turns, write_results
from torch import Tensor
from vector_quantize_pytorch import FSQ

from q2d2_tokenizer.evaluation.memory import measure
from q2d2_tokenizer.evaluation.provenance import require_commit
from q2d2_tokenizer.lattices import build_groups, lattice_points
from q2d2_tokenizer.quantizers import Lattices

RHOMBIC = {"7,225 codes": (7, 7, 7, 7), "1,047,625 codes": (9, 9, 7, 7, 7, 7)}
FSQ_LEVELS = {"7,225 codes": (9, 9, 9, 10), "1,047,625 codes": (10, 10, 10, 10, 10, 10)}  # 7,290 and 1,000,000 codes
Encoder = Callable[[Tensor], Tensor]


def closed_form(size: str) -> Encoder:
    """Our rhombic quantizer."""
    lattices = Lattices("rhombic", RHOMBIC[size], 2)

    def encode(vectors: Tensor) -> Tensor:
        return lattices.indices_to_codes(lattices.nearest(vectors.tanh() * lattices.half_width)[1])

    return encode


def pair_tables(size: str) -> Encoder:
    """The same codes from the distances of every pair to a table of its points."""
    lattices = Lattices("rhombic", RHOMBIC[size], 2)
    tables = [torch.tensor(lattice_points(cosets)) for cosets in build_groups("rhombic", RHOMBIC[size], 2)]

    def encode(vectors: Tensor) -> Tensor:
        pairs = (vectors.tanh() * lattices.half_width).unflatten(-1, (-1, 2)).unbind(-2)
        indices = [torch.cdist(pair, table).argmin(-1) for pair, table in zip(pairs, tables, strict=True)]
        return lattices.indices_to_codes(torch.stack(indices, -1))

    return encode


def joint_table(size: str) -> Encoder:
    """The same codes from the distances to a table of the whole codebook, in chunks of about 256 MB of distances."""
    lattices = Lattices("rhombic", RHOMBIC[size], 2)
    codebook_size = math.prod(lattices.points_per_group)
    table = lattices.indices_to_points(lattices.codes_to_indices(torch.arange(codebook_size)))

    def encode(vectors: Tensor) -> Tensor:
        chunks = (vectors.tanh() * lattices.half_width).split(max(1, 2**26 // codebook_size))
        return torch.cat([torch.cdist(chunk, table).argmin(-1) for chunk in chunks])

    return encode


def fsq(size: str) -> Encoder:
    """FSQ of vector-quantize-pytorch with about as many codes and as many channels."""
    quantizer = FSQ(levels=list(FSQ_LEVELS[size])).eval()
    return lambda vectors: quantizer(vectors.unsqueeze(0))[1].squeeze(0)


# Name -> what builds it and into how many parts its share of the vectors is divided.
METHODS: dict[str, tuple[Callable[[str], Encoder], dict[str, int]]] = {
    "ours, closed form,": (closed_form, {}),
    "table per pair,": (pair_tables, {}),
    "table of all codes,": (joint_table, {"7,225 codes": 100, "1,047,625 codes": 20_000}),
    "FSQ, about": (fsq, {}),
}


@torch.inference_mode()
def work(args: argparse.Namespace) -> dict[str, float | int | str]:
    """Measure one contestant, given as `method|size`, in this process."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    method, size = args.worker.split("|")
    build, divisors = METHODS[method]
    vectors = torch.randn(max(1, args.vectors // divisors.get(size, 1)), len(RHOMBIC[size]))
    make_once = functools.cache(build)  # in the first call, so that its tables count as memory
    result = measure(lambda: make_once(size)(vectors), args.timed_calls)
    row = {"method": method, "codebook": size, "vectors": len(vectors)}
    row["microseconds_per_vector"] = 1e6 * result["seconds"] / len(vectors)
    row["peak_mb"] = result["peak_mb"]
    if build is not fsq:
        same = make_once(size)(vectors[:1000]) == closed_form(size)(vectors[:1000])
        row["same_codes"] = same.double().mean().item()
    return row


def main(argv: list[str] | None = None) -> None:
    """Measure all contestants in turns and write the results."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="vectors to encode")
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(work(args)))
        return
    require_commit(args.output)
    names = [f"{method}|{size}" for size in RHOMBIC for method in METHODS]
    runs = run_in_turns(__file__, names, argv, args.repeats)
    rows = [{"same_codes": "-"} | median_of(runs[name]) for name in names]
    columns = ["contestant", "vectors", "microseconds_per_vector", "peak_mb", "same_codes"]
    rows = [{key: ({"contestant": f"{r['method']} {r['codebook']}"} | r)[key] for key in columns} for r in rows]
    args.vector_quantize_pytorch = version("vector-quantize-pytorch")
    write_results(args.output, "quantizers", args, rows, runs)
    panels = {"microseconds_per_vector": "microseconds per vector", "peak_mb": "extra peak memory, MB"}
    plot_bars(args.output / "quantizers.png", rows, panels, log=True)


if __name__ == "__main__":
    main()
