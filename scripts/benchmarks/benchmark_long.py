"""Memory and speed of encoding and decoding files of any length, against a ten-second one.

    python scripts/benchmarks/benchmark_long.py --hours 3

Makes FLAC files at 16 kHz out of the bundled recording, at a loudness that changes, and converts each in a fresh
process with `encode_file` and `decode_to_file`, which the command `q2d2` calls; then encodes the long one once more as
a whole and compares the tokens. The memory is all that a process held at its peak (VmHWM of Linux), libraries and
weights included.
Writes long_files.json and .md.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from benchmarking import run_in_turns, write_results

from q2d2_tokenizer import Q2D2Model, default_checkpoint, read_audio, sample_recording
from q2d2_tokenizer.audio.recordings import decode_to_file, encode_file
from q2d2_tokenizer.evaluation.memory import resident_mb
from q2d2_tokenizer.evaluation.provenance import require_commit

RATE = 16000
SHORT_SECONDS = 10


def write_recording(path: Path, seconds: float, seed: int) -> None:
    """A FLAC file of so many seconds of speech."""
    speech, loudness = read_audio(sample_recording(), RATE), np.random.default_rng(seed)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for i in range(int(seconds * RATE) // len(speech) + 1):
            file.write(loudness.uniform(0.01, 1) * speech[: int(seconds * RATE) - i * len(speech)])


def work(name: str, folder: Path) -> dict[str, object]:
    """Encode one of the files, in pieces or as a whole, decode it, and tell what that took."""
    file, how = name.split(", ")
    model = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    start = time.perf_counter()
    if how == "whole":
        samples = torch.from_numpy(read_audio(folder / f"{file}.flac", model.config.sampling_rate))
        codes, num_samples = model.encode(samples.view(1, 1, -1)).audio_codes.flatten().numpy(), len(samples)
    else:
        codes, num_samples = encode_file(model, folder / f"{file}.flac")
    seconds = {"encode": time.perf_counter() - start}
    peaks = {"encode": resident_mb("VmHWM")}
    start = time.perf_counter()
    if how != "whole":
        decode_to_file(model, codes, num_samples, folder / "decoded.wav")
        seconds["decode"], peaks["decode"] = time.perf_counter() - start, resident_mb("VmHWM")
    duration = num_samples / model.config.sampling_rate
    return {
        "hours": duration / 3600,
        "tokens": len(codes),
        **{f"{verb}_x_real_time": duration / value for verb, value in seconds.items()},
        **{f"{verb}_process_mb": value for verb, value in peaks.items()},
        "tokens_sha256": hashlib.sha256(codes.astype("<i8").tobytes()).hexdigest()[:16],
    }


def main() -> int:
    """Run the benchmark; returns the exit code, 1 if tokens in pieces are not those of the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long file")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--seed", type=int, default=0, help="of the loudness")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker is not None:
        print(json.dumps(work(arguments.worker, arguments.folder)))
        return 0
    require_commit(arguments.output)
    with tempfile.TemporaryDirectory() as folder:
        write_recording(Path(folder, "short.flac"), SHORT_SECONDS, arguments.seed)
        write_recording(Path(folder, "long.flac"), arguments.hours * 3600, arguments.seed)
        names = ["short, in pieces", "long, in pieces", "long, whole"]
        argv = ["--folder", folder, "--threads", str(arguments.threads)]
        runs = run_in_turns(__file__, names, argv, repeats=1)
    columns = list(runs[names[0]][0])
    rows = [{"file": name, **{column: runs[name][0].get(column, "-") for column in columns}} for name in names]
    write_results(arguments.output, "long_files", arguments, rows, runs)
    return int(rows[1]["tokens_sha256"] != rows[2]["tokens_sha256"])


if __name__ == "__main__":
    sys.exit(main())
