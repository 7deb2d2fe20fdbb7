"""Speed and memory of our codec next to EnCodec and Mimi, on random audio, batch 1.

    python scripts/benchmark.py --threads 2
    python scripts/benchmark.py --checkpoint q2d2_tokenizer/checkpoint

EnCodec and Mimi are those of transformers with random weights (speed does not depend on them; nothing is downloaded),
at the bitrate closest to ours. Writes codecs.json, .md and .png. Needs `matplotlib`.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from benchmarking import add_arguments, measure, median_of, plot_bars, run_in_turns, write_results
from torch import Tensor

SAMPLING_RATE_HZ = 24_000
Codec = tuple[torch.nn.Module, Callable[[Tensor], Any], Callable[[Any], Tensor], float]


def ours(checkpoint: str | None) -> Codec:
    """Our model, the call that encodes audio (1, 1, N), the call that decodes its result, and the bitrate."""
    from q2d2_tokenizer import Q2D2Config, Q2D2Model

    model = Q2D2Model.from_pretrained(checkpoint) if checkpoint else Q2D2Model(Q2D2Config())
    return model, model.encode, lambda e: model.decode(e.audio_codes).audio_values, model.config.bitrate


def encodec(checkpoint: str | None) -> Codec:
    """EnCodec, 24 kHz, at its lowest bitrate; see `ours`."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig())
    bandwidth_kbps = model.config.target_bandwidths[0]

    def decode(encoded: Any) -> Tensor:
        codes, scales, pad = encoded.audio_codes, encoded.audio_scales, encoded.last_frame_pad_length
        return model.decode(codes, scales, last_frame_pad_length=pad).audio_values

    return model, lambda audio: model.encode(audio, bandwidth=bandwidth_kbps), decode, 1000 * bandwidth_kbps


def mimi(checkpoint: str | None) -> Codec:
    """Mimi with eight codebooks, as in Moshi; see `ours`."""
    from transformers import MimiConfig, MimiModel

    model, codebooks = MimiModel(MimiConfig()), 8
    bitrate_bps = model.config.frame_rate * codebooks * math.log2(model.config.codebook_size)
    return (
        model,
        lambda audio: model.encode(audio, num_quantizers=codebooks),
        lambda e: model.decode(e.audio_codes).audio_values,
        bitrate_bps,
    )


CODECS = {"Q2D2 (ours)": ours, "EnCodec": encodec, "Mimi": mimi}


@torch.inference_mode()
def work(args: argparse.Namespace) -> dict[str, float | int | str]:
    """Measure one codec in this process."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model, encode, decode, bitrate_bps = CODECS[args.worker](args.checkpoint)
    model.eval()
    audio = 0.1 * torch.randn(1, 1, round(args.seconds * SAMPLING_RATE_HZ))
    encoding = measure(lambda: encode(audio), args.timed_calls)
    encoded = encode(audio)
    decoding = measure(lambda: decode(encoded), args.timed_calls)
    samples = decode(encoded).shape[-1]
    if samples < audio.shape[-1]:
        raise RuntimeError(f"{args.worker} decoded {samples} of {audio.shape[-1]} samples")
    return {
        "codec": args.worker,
        "parameters_million": sum(p.numel() for p in model.parameters()) / 1e6,
        "bitrate_bps": float(bitrate_bps),
        "encode_seconds": encoding["seconds"],
        "decode_seconds": decoding["seconds"],
        "encode_peak_mb": encoding["peak_mb"],
        "decode_peak_mb": decoding["peak_mb"],
        "process_peak_mb": max(encoding["process_mb"], decoding["process_mb"]),
    }


def compare(rows: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Rows with speed, as a multiple of real time, and how many times the others' time ours goes into."""
    rows = [row | {"total_seconds": row["encode_seconds"] + row["decode_seconds"]} for row in rows]
    first = rows[0]
    return [
        row
        | {"times_real_time": seconds / row["total_seconds"]}
        | {
            f"{part}_time_over_ours": row[f"{part}_seconds"] / first[f"{part}_seconds"]
            for part in ("encode", "decode", "total")
        }
        for row in rows
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure all codecs in turns and write the results."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--checkpoint", help="folder of our codec; default config, random weights if left out")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the audio")
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(work(args)))
        return
    runs = run_in_turns(__file__, list(CODECS), argv, args.repeats)
    rows = compare([median_of(runs[name]) for name in CODECS], args.seconds)
    write_results(args.output, "codecs", args, rows, runs)
    panels = {"encode_seconds": "encode, s", "decode_seconds": "decode, s"}
    panels |= {"encode_peak_mb": "encode, extra peak MB", "decode_peak_mb": "decode, extra peak MB"}
    plot_bars(args.output / "codecs.png", rows, panels, log=False)


if __name__ == "__main__":
    main()
