"""Speed of generation, encode, decode and batches relative to another checkout of this repository.

    git worktree add ../base v0.1.0
    python scripts/benchmarks/benchmark_baseline.py --baseline ../base

Each runs in a process of its own, on one thread, and they take turns call by call. Times are processor time, so that a
machine may do other work meanwhile. Writes baseline.json and .md: medians, and the median ratio of the turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit, written_by
from q2d2_tokenizer.evaluation.tables import rows_table

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The print could have been placed on the carton, and then it was forgotten."
SECONDS = 64
CLIPS = (0.5, 1.0, 2.0)


def work(checkout: Path) -> None:
    """Measure everything once for every line of the input; prints milliseconds by name."""
    import torch

    import q2d2_tokenizer
    from q2d2_tokenizer.speech import SpeechOptions, TextToSpeech

    if checkout not in Path(q2d2_tokenizer.__file__).parents:
        raise ValueError(f"expected the package of {checkout}, got {q2d2_tokenizer.__file__}")
    torch.set_num_threads(1)
    speaker = TextToSpeech.from_pretrained()
    codec, rate = speaker.codec, speaker.sampling_rate
    recording = torch.from_numpy(q2d2_tokenizer.read_audio(q2d2_tokenizer.sample_recording(), rate))
    audio = recording.repeat(-(-SECONDS * rate // len(recording)))[: SECONDS * rate]

    def milliseconds(call: Callable[[], Any]) -> float:
        start = time.process_time()
        call()
        return (time.process_time() - start) * 1e3

    for line in sys.stdin:
        options = SpeechOptions(seed=int(line), min_seconds=4.0, max_seconds=4.0)  # as many codes for both
        utterances = [speaker.utterances(TEXT, options=options)[0] for _ in range(2)]
        times = {
            "generate, a code": milliseconds(lambda u=utterances[0]: list(u._generation)) / (4.0 * 75),
            "first audio": milliseconds(lambda u=utterances[1]: next(iter(u))),
        }
        for seconds in (SECONDS, *CLIPS):
            rows = audio.view(-1, 1, round(seconds * rate))
            codes = codec.encode(rows).audio_codes
            name = f"{len(rows)} x {seconds:g} s"
            times[f"encode {name}"] = milliseconds(lambda rows=rows: codec.encode(rows))
            times[f"decode {name}"] = milliseconds(lambda codes=codes: codec.decode(codes))
        print(json.dumps(times), flush=True)


def start(checkout: Path) -> subprocess.Popen:
    """A process that measures a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", str(checkout)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=checkout, **pipes)


def main() -> None:
    """Measure both checkouts in turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="folder of the other checkout")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return
    if not args.baseline or not (args.baseline / "q2d2_tokenizer").is_dir():
        parser.error(f"--baseline must be a folder with a checkout of this repository, got {args.baseline}")
    require_commit(args.output)
    processes = [start(args.baseline.resolve()), start(ROOT)]
    turns: list[list[dict[str, float]]] = []
    for turn in range(args.repeats):
        turns.append([])
        for process in processes:
            process.stdin.write(f"{turn}\n")
            process.stdin.flush()
            turns[-1].append(json.loads(process.stdout.readline()))
    for process in processes:
        process.communicate()
    rows = []
    for name in turns[0][0]:
        before, now = ([turn[i][name] for turn in turns] for i in range(2))
        values = {"baseline_ms": statistics.median(before), "now_ms": statistics.median(now)}
        rows.append(
            {"what": name, **values, "ratio": statistics.median(b / n for b, n in zip(before, now, strict=True))}
        )
    args.output.mkdir(parents=True, exist_ok=True)
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=args.baseline, text=True).strip()
    run = describe_run() | {"baseline": commit, "threads": 1}
    (args.output / "baseline.json").write_text(
        json.dumps({"run": run, "results": rows, "turns": turns}, indent=2) + "\n"
    )
    table = rows_table(rows)
    source = f"One thread, processor time, medians of {args.repeats} turns; baseline {commit}. {written_by(run)}"
    (args.output / "baseline.md").write_text(f"{table}\n\n{source}\n")
    print(table)


if __name__ == "__main__":
    main()
