"""How far rounding moves the channels that are quantized, and what the certainty of tokens costs.

    python scripts/benchmarks/measure_rounding.py --data 'speech/*-validation-*.parquet' --clips 20

Computes speech and hard cases in float32, in chunks of several sizes, on one thread and two, and in float64, and prints
the largest differences in lattice units: they must stay well below `ROUNDING_MARGIN`. Then the share of frames that are
computed again in float64 because of it. Run it for new weights.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.bundled import load_codec
from q2d2_tokenizer.corpus.sources import Corpus
from q2d2_tokenizer.corpus.tokenize import CorpusOptions, read_recording
from q2d2_tokenizer.quantizers import ROUNDING_MARGIN
from q2d2_tokenizer.streaming import FrameCache, advance, exact_copy

CHUNKS = [(10**9, 1), (10**9, 2), (768, 1), (96, 1), (37, 1), (5, 1), (1, 1)]  # frames at a time, threads
CLIP_SECONDS = 4


def hard_cases(rate: int) -> Iterator[tuple[str, np.ndarray]]:
    """Signals (N,) that rounding might hurt: quiet, loud, pure, sudden."""
    time = np.arange(rate * CLIP_SECONDS) / rate
    noise = np.random.default_rng(0).standard_normal(time.size)
    yield "silence", 0 * time
    yield "noise of 1e-6", 1e-6 * noise
    yield "noise of 3e-5", 3e-5 * noise
    yield "noise of half a 16-bit step", np.round(0.6 * noise) / 2**15
    yield "tone", 0.9 * np.sin(2 * np.pi * 440 * time)
    yield "fading tone", 0.9 * np.sin(2 * np.pi * 440 * time) * np.exp(-2 * time)
    yield "sweep", 0.8 * np.sin(2 * np.pi * (50 * time + 700 * time**2))
    yield "square", np.sign(np.sin(2 * np.pi * 200 * time))
    yield "clipped noise", np.clip(3 * noise, -1, 1)
    yield "clicks", 0.9 * (np.arange(time.size) % 7001 == 0)
    yield "constant", np.full(time.size, 0.8)


def bounded_channels(model: Q2D2Model, frames: Tensor, size: int) -> Tensor:
    """Channels (T, d) before they are quantized, of frames (1, T, hop_length) computed `size` at a time."""
    outputs, cache = [], FrameCache()
    for start in range(0, frames.shape[1], size):
        is_last = start + size >= frames.shape[1]
        latents, cache = advance(model.encoder.frame_stages(), frames[:, start : start + size], cache, is_last)
        outputs.append(model.quantizer._bound(latents)[0])
    return torch.cat(outputs)


def measure(models: tuple[Q2D2Model, Q2D2Model], samples: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Largest differences (T,) from float64 and between chunks, and which tokens (T,) are stable, of one recording."""
    model, exact_model = models
    audio = torch.from_numpy(samples.astype(np.float32))
    hop = model.config.hop_length
    frames = F.pad(audio, (0, -len(audio) % hop)).view(1, -1, hop)
    exact = bounded_channels(exact_model, frames.double(), 10**9)
    results = []
    for size, threads in CHUNKS:
        torch.set_num_threads(threads)
        results.append(bounded_channels(model, frames[:, : 60 if size < 10 else None], size))
    torch.set_num_threads(1)
    from_exact, spread = torch.zeros(len(exact)), torch.zeros(len(exact))
    for found in results:
        whole = slice(0, len(found) if len(found) == len(exact) else len(found) - model.encoder.context_frames)
        from_exact[whole] = from_exact[whole].maximum((found - exact[: len(found)]).abs().amax(-1)[whole].float())
        spread[whole] = spread[whole].maximum((found - results[0][: len(found)]).abs().amax(-1)[whole])
    indices = model.quantizer.lattices.nearest(results[0])[1]
    return from_exact, spread, model.quantizer.lattices.is_within_cell(results[0], indices, ROUNDING_MARGIN)


def main() -> int:
    """Print a table; returns the exit code, 1 if a difference exceeds the margin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="bundled", help="folder of a codec, its name on the Hub, or bundled")
    parser.add_argument("--data", nargs="*", default=[], help="audio folders, audio files or Parquet files of speech")
    parser.add_argument("--clips", type=int, default=20, help="recordings of each --data")
    arguments = parser.parse_args()
    model = load_codec(arguments.codec)
    rate = model.config.sampling_rate
    cases = {name: [samples] for name, samples in hard_cases(rate)}
    for source in arguments.data:
        corpus = Corpus([source])
        cells = [cell for batch in corpus.read(corpus.split(arguments.clips)[0]) for cell in batch.cells]
        recordings = [np.concatenate(list(read_recording(cell, rate, CorpusOptions(silent="keep")))) for cell in cells]
        cases[source] = [samples[: rate * CLIP_SECONDS] for samples in recordings]
    models, worst = (model, exact_copy(model, torch.float64)), 0.0
    print(
        "| audio | frames | from float64, max | 99% | between chunks, max | computed again |\n|---|---|---|---|---|---|"
    )
    with torch.no_grad():
        for name, clips in cases.items():
            measured = [torch.cat(values) for values in zip(*(measure(models, clip) for clip in clips), strict=True)]
            from_exact, spread, stable = measured
            worst = max(worst, from_exact.max().item(), spread.max().item())
            print(
                f"| {name} | {len(stable)} | {from_exact.max():.1e} | {from_exact.quantile(0.99):.1e} "
                f"| {spread.max():.1e} | {100 * (~stable).float().mean():.3f}% |",
                flush=True,
            )
    print(f"\nlargest difference {worst:.1e}, margin {ROUNDING_MARGIN:.0e}")
    return int(worst > ROUNDING_MARGIN)


if __name__ == "__main__":
    sys.exit(main())
