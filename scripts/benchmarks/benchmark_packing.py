"""Time and memory of training on padded batches of about equal lengths, against rows packed with sequences.

    python scripts/benchmarks/benchmark_packing.py --data runs/validation_tokens --threads 2

Packed rows hold several sequences, none of which sees another one: positions start again at each, from which
`transformers` makes a block mask. One call is a forward and backward pass over all recordings, with a stock Llama.
Writes packing.json, .md and .png. Needs `matplotlib` and Linux.
"""

import argparse
import json
import sys

import torch
from benchmark_runs import run_in_turns
from benchmarking import add_arguments, median_of, plot_bars, write_results
from torch import Tensor, nn

from lm.data import TokenCorpus, collate, expand_shards, make_windows, shard_layout, validation_batches
from lm.layout import PAD
from lm.model import IGNORED, ModelSettings, make_language_model
from q2d2_tokenizer.evaluation.memory import measure

CONTESTANTS = ["padded", "packed"]
Inputs = tuple[Tensor, Tensor, Tensor | None]  # ids (B, S), targets (B, S) and, in packed rows, positions (B, S)


def pack(corpus: TokenCorpus, context: int, tokens_per_batch: int) -> list[Inputs]:
    """Batches of rows of `context` tokens; a sequence goes to the first row with room for it, longest first."""
    windows = make_windows(corpus, context, 1.0, None)
    pairs = [collate([corpus.sequence(index, windows[index])]) for index in range(len(corpus))]
    rows: list[list[tuple[Tensor, Tensor]]] = []
    room: list[int] = []
    for pair in sorted(pairs, key=lambda pair: pair[0].shape[1], reverse=True):
        size = pair[0].shape[1]
        number = next((i for i, left in enumerate(room) if left >= size), len(rows))
        if number == len(rows):
            rows.append([])
            room.append(context)
        rows[number].append(pair)
        room[number] -= size
    ids, targets = torch.full((len(rows), context), PAD), torch.full((len(rows), context), IGNORED)
    positions = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        end = context - room[number]
        ids[number, :end] = torch.cat([pair[0][0] for pair in row])
        targets[number, :end] = torch.cat([pair[1][0] for pair in row])
        positions[number] = torch.cat([torch.arange(pair[0].shape[1]) for pair in row] + [torch.arange(room[number])])
    batches = (values.split(tokens_per_batch // context) for values in (ids, targets, positions))
    return list(zip(*batches, strict=True))


def train_pass(model: nn.Module, batches: list[Inputs]) -> None:
    """Gradients of the loss on all batches."""
    for input_ids, targets, positions in batches:
        hidden = model.model(input_ids=input_ids, position_ids=positions, use_cache=False).last_hidden_state
        scored = targets != IGNORED
        nn.functional.cross_entropy(model.lm_head(hidden[scored]), targets[scored]).backward()
        model.zero_grad()


def work(args: argparse.Namespace) -> dict[str, float | int | str]:
    """Measure one contestant in this process."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    layout = shard_layout(expand_shards(args.data)[0])
    corpus = TokenCorpus(args.data, layout)
    size = (args.hidden_size, args.num_layers, args.hidden_size // 32, 8 * args.hidden_size // 3, args.context)
    model = make_language_model(ModelSettings(*size), layout)
    if args.worker == "packed":
        batches = pack(corpus, args.context, args.tokens_per_batch)
    else:
        padded = validation_batches(corpus, args.context, args.tokens_per_batch, with_text=False)
        batches = [(batch.input_ids, batch.targets, None) for batch in padded]
    scored = sum(int((targets != IGNORED).sum()) for _, targets, _ in batches)
    result = measure(lambda: train_pass(model, batches), args.timed_calls)
    computed = sum(input_ids.numel() for input_ids, _, _ in batches)
    return {
        "contestant": args.worker,
        "steps": len(batches),
        "padding_percent": 100 * (1 - (scored + len(corpus)) / computed),  # <bos> is no padding, though not scored
        "scored_tokens_per_second": scored / result["seconds"],
        "peak_mb": result["peak_mb"],
    }


def main(argv: list[str] | None = None) -> None:
    """Measure both contestants in turns and write the results."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--data", nargs="+", required=True, help="token shards, folders or globs")
    size = {"hidden_size": 384, "num_layers": 8, "context": 1536, "tokens_per_batch": 8192}
    for name, value in size.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="default: %(default)s")
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(work(args)))
        return
    runs = run_in_turns(__file__, CONTESTANTS, argv, args.repeats)
    rows = [median_of(runs[name]) for name in CONTESTANTS]
    write_results(args.output, "packing", args, rows, runs)
    panels = {"scored_tokens_per_second": "scored tokens per second", "peak_mb": "extra peak memory, MB"}
    plot_bars(args.output / "packing.png", rows, panels, log=False)


if __name__ == "__main__":
    main()
