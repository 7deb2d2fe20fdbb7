"""Measure a codec on recordings, next to Opus and Codec2 where their programs are installed.

    python scripts/evaluate_codec.py --data 'speech/librispeech-validation-*.parquet' --output docs/results

Writes evaluation.json (every clip and the summary, with command, commit and versions), evaluation.md (a table) and
evaluation.png. Opus needs `opusenc` and `opusdec`, Codec2 `c2enc` and `c2dec` (Debian: opus-tools, codec2).
Our codec is aligned by construction; others are shifted by the lag of largest cross-correlation (at most 100 ms).
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from provenance import describe_run
from tqdm.auto import tqdm

from q2d2_tokenizer import Q2D2Model, default_checkpoint
from q2d2_tokenizer.data import AudioCache
from q2d2_tokenizer.metrics import LogMelDistance, align, entropy_bits, mean_and_interval, pesq_wb, stoi


class OurCodec:
    """The codec under test."""

    def __init__(self, checkpoint: str):
        self.model = Q2D2Model.from_pretrained(checkpoint).eval()
        self.name = f"Q2D2 {self.model.config.bitrate / 1000:.2f} kbit/s"
        self.codes: list[np.ndarray] = []
        self.seconds = 0.0

    def __call__(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        start = time.perf_counter()
        output = self.model(torch.from_numpy(audio).view(1, 1, -1))
        self.seconds += time.perf_counter() - start
        self.codes.append(output.audio_codes.flatten().numpy())
        return output.audio_values.flatten().numpy()


class Opus:
    """Opus at its lowest rate, 6 kbit/s."""

    name = "Opus 6 kbit/s"
    programs = ("opusenc", "opusdec")

    def __call__(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            wav, opus, out = (f"{folder}/{name}" for name in ("in.wav", "a.opus", "out.wav"))
            soundfile.write(wav, audio, sampling_rate)
            _call("opusenc", "--quiet", "--bitrate", "6", "--speech", wav, opus)
            _call("opusdec", "--quiet", "--rate", str(sampling_rate), opus, out)
            return soundfile.read(out, dtype="float32")[0]


class Codec2:
    """Codec2 at 1.2 kbit/s; 8 kHz."""

    name = "Codec2 1.2 kbit/s"
    programs = ("c2enc", "c2dec")

    def __call__(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            raw, bits, out = (f"{folder}/{name}" for name in ("in.raw", "a.bit", "out.raw"))
            (soxr.resample(audio, sampling_rate, 8000).clip(-1, 1) * 32767).astype("<i2").tofile(raw)
            _call("c2enc", "1200", raw, bits)
            _call("c2dec", "1200", bits, out)
            return soxr.resample(np.fromfile(out, "<i2").astype(np.float32) / 32768, 8000, sampling_rate)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def evaluate(codecs: list, clips: AudioCache, indices: list[int]) -> dict[str, list[dict[str, float]]]:
    """Metrics of every clip by name of the codec."""
    rate = clips.sampling_rate
    mel = LogMelDistance(rate)
    rows: dict[str, list[dict[str, float]]] = {codec.name: [] for codec in codecs}
    for index in tqdm(indices, desc="clips", disable=None):
        audio = clips[index].astype(np.float32) / 32768
        for codec in codecs:
            decoded = codec(audio, rate)
            if not isinstance(codec, OurCodec):
                decoded = align(audio, decoded, rate // 10)
            scores = {"pesq_wb": pesq_wb(audio, decoded, rate), "stoi": stoi(audio, decoded, rate)}
            rows[codec.name].append(scores | {"log_mel": mel(audio, decoded)})
    return rows


def summarize(rows: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean, interval and n of every metric by codec."""
    return {
        name: {metric: mean_and_interval([row[metric] for row in values]) for metric in values[0]}
        for name, values in rows.items()
    }


def write_table(path: Path, result: dict) -> None:
    """The summary as Markdown."""
    metrics = list(next(iter(result["summary"].values())))
    lines = ["| codec | n | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 2) + "|"]
    for name, summary in result["summary"].items():
        cells = [f"{s['mean']:.3f} ± {s['interval']:.3f}" for s in summary.values()]
        lines.append(f"| {name} | {summary['stoi']['n']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Mean ± half-width of the 95 % interval. " + ", ".join(f"{k}: {v}" for k, v in result["ours"].items()),
    ]
    lines += ["", f"Written by `{result['run']['command']}` at commit {result['run']['commit']}."]
    path.write_text("\n".join(lines) + "\n")


def write_plot(path: Path, summary: dict) -> None:
    """One bar chart with intervals for every metric."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    metrics = list(next(iter(summary.values())))
    figure, axes = plt.subplots(1, len(metrics), figsize=(4 * len(metrics), 3), layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        values = [scores[metric] for scores in summary.values()]
        axis.barh(list(summary), [v["mean"] for v in values], xerr=[v["interval"] for v in values])
        axis.set_title(metric)
        axis.invert_yaxis()
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=default_checkpoint(), help="folder; the bundled one if left out")
    parser.add_argument("--data", nargs="+", required=True, help="Parquet or audio files, folders or globs")
    parser.add_argument("--output", type=Path, default=Path("runs/evaluation"), help="folder for the results")
    parser.add_argument("--cache", default="runs/cache", help="folder for decoded audio")
    parser.add_argument("--clips", type=int, help="at most that many, evenly spread; all if left out")
    parser.add_argument("--no-peers", action="store_true", help="measure our codec only")
    args = parser.parse_args(argv)

    for package in ("pesq", "pystoi", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            parser.error(f"the package {package} is missing: pip install 'q2d2-tokenizer[eval]'")
    ours = OurCodec(args.checkpoint)
    clips = AudioCache(args.data, args.cache, ours.model.config.sampling_rate)
    peers = [peer() for peer in (Opus, Codec2) if not args.no_peers and all(map(shutil.which, peer.programs))]
    rows = evaluate([ours, *peers], clips, clips.spread(args.clips))
    codes = np.concatenate(ours.codes)
    speech_seconds = len(codes) / ours.model.config.frame_rate
    result = {
        "run": describe_run(),
        "ours": {
            "fingerprint": ours.model.fingerprint(),
            "tokens": len(codes),
            "codes used": f"{len(np.unique(codes))} of {ours.model.config.codebook_size}",
            "entropy of codes (bits)": round(entropy_bits(codes), 3),
            "nominal bits per code": round(ours.model.config.bits_per_code, 3),
            "speed (x real time, both ways)": round(speech_seconds / ours.seconds, 1),
        },
        "summary": summarize(rows),
        "clips": rows,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "evaluation.json").write_text(json.dumps(result, indent=1))
    write_table(args.output / "evaluation.md", result)
    write_plot(args.output / "evaluation.png", result["summary"])
    print((args.output / "evaluation.md").read_text())


if __name__ == "__main__":
    main()
