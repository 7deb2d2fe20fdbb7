"""Speed and memory next to another checkout of this repository, and next to FSQ, EnCodec and Mimi, in one run.

    git worktree add ../base v0.1.0
    python scripts/benchmarks/benchmark_baseline.py --baseline ../base

Each contestant is a process of its own, and they take turns. Times are processor time, of all threads together, so that
a machine may do other work meanwhile. EnCodec and Mimi are those of transformers with random weights, as in
benchmark.py. Writes baseline.json, .md and .png: medians, median ratios of the turns, and the most memory that each
process held. Needs `vector-quantize-pytorch` and `matplotlib`.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The print could have been placed on the carton, and then it was forgotten."
SPEECH_SECONDS = 4.0
CLIPS = (0.5, 1.0, 2.0)
VECTORS = 1_000_000
RECORDING = 600  # vectors of 8 s
CODEBOOK = "7,225 codes"

Task = tuple[str, Callable[[], Any]]  # what is measured, and the call; names of tasks that are compared are the same
Tasks = Callable[[int], list[Task]]  # tasks of a turn


def checkout(seconds: int, dtype: str = "float32") -> Tasks:
    """What is compared with another checkout, with the decoder in a dtype; imports no more than old commits have."""
    import torch

    import q2d2_tokenizer
    from q2d2_tokenizer.speech import SpeechOptions, TextToSpeech

    if Path.cwd() not in Path(q2d2_tokenizer.__file__).parents:
        raise ValueError(f"expected the package of {Path.cwd()}, got {q2d2_tokenizer.__file__}")
    speaker = TextToSpeech.from_pretrained()
    codec, rate = speaker.codec.to(getattr(torch, dtype)), speaker.sampling_rate
    audio = recording(seconds, rate)

    def with_threads(threads: int, call: Callable[[Any], Any], values: Any) -> Any:
        torch.set_num_threads(threads)
        call(values)
        torch.set_num_threads(1)

    def tasks(turn: int) -> list[Task]:
        options = SpeechOptions(seed=turn, min_seconds=SPEECH_SECONDS, max_seconds=SPEECH_SECONDS)  # as many codes
        whole, first = (speaker.utterances(TEXT, options=options)[0] for _ in range(2))
        found: list[Task] = [
            (f"generate {SPEECH_SECONDS:g} s of codes", lambda: list(whole._generation)),
            ("first audio of a text", lambda: next(iter(first))),
        ]
        for clip in (seconds, *CLIPS):
            rows = audio.view(-1, 1, round(clip * rate))
            codes = codec.encode(rows).audio_codes
            name = f"{len(rows)} x {clip:g} s"
            for threads in (1, 2):
                of_threads = f"{name}, {threads} thread{'s' * (threads > 1)}"
                for what, call, values in (("encode", codec.encode, rows), ("decode", codec.decode, codes)):
                    found.append((f"{what} {of_threads}", lambda t=threads, c=call, v=values: with_threads(t, c, v)))
        return found

    return tasks


def quantizer(method: str) -> Tasks:
    """Vectors to codes, by a method of benchmark_quantizer.py: all at once, and a recording at a time."""
    import benchmark_quantizer
    import torch

    vectors = torch.randn(VECTORS, 4, generator=torch.Generator().manual_seed(0))
    quantize = getattr(benchmark_quantizer, method)(CODEBOOK)
    recordings = vectors.split(RECORDING)[:1000]
    return lambda turn: [
        (f"quantize {VECTORS:,} vectors, about {CODEBOOK}", lambda: quantize(vectors)),
        (f"quantize 1,000 x {RECORDING} vectors, about {CODEBOOK}", lambda: [quantize(part) for part in recordings]),
    ]


def other_codec(name: str, seconds: int) -> Tasks:
    """A codec of benchmark_codecs.py on one recording."""
    from benchmark_codecs import CODECS

    codec = CODECS[name]("")
    audio = recording(seconds, codec.sampling_rate).view(1, 1, -1)
    encoded = codec.encode(audio)
    clip = f"1 x {seconds} s, 1 thread"
    return lambda turn: [
        (f"encode {clip}", lambda: codec.encode(audio)),
        (f"decode {clip}", lambda: codec.decode(encoded)),
    ]


CONTESTANTS: dict[str, Callable[[int], Tasks]] = {
    "now": checkout,
    "baseline": checkout,
    "bfloat16": lambda seconds: checkout(seconds, "bfloat16"),
    "lattice": lambda seconds: quantizer("closed_form"),
    "FSQ": lambda seconds: quantizer("fsq"),
    "EnCodec": lambda seconds: other_codec("EnCodec", seconds),
    "Mimi": lambda seconds: other_codec("Mimi", seconds),
}
# Another one, ours, and which tasks.
RIVALS = [
    ("baseline", "now", ""),
    ("baseline", "bfloat16", "decode"),
    ("FSQ", "lattice", ""),
    ("EnCodec", "now", ""),
    ("Mimi", "now", ""),
]


def recording(seconds: int, rate: int) -> Any:
    """Audio (N,) of speech, repeated."""
    import torch

    import q2d2_tokenizer

    audio = torch.from_numpy(q2d2_tokenizer.read_audio(q2d2_tokenizer.sample_recording(), rate))
    return audio.repeat(-(-seconds * rate // len(audio)))[: seconds * rate]


def measure(call: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of processor time of a call, and the most memory that the process holds meanwhile, in MB."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    start = time.process_time()
    call()
    milliseconds = (time.process_time() - start) * 1e3
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return milliseconds, int(peak.split()[1]) / 1024


def work(contestant: str, seconds: int) -> None:
    """Measure every task once for every line of the input; prints milliseconds and MB by name."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        tasks = CONTESTANTS[contestant](seconds)
        for line in sys.stdin:
            print(json.dumps({name: measure(call) for name, call in tasks(int(line))}), flush=True)


def start(contestant: str, folder: Path, seconds: int) -> subprocess.Popen:
    """The process of a contestant."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", contestant, "--seconds", str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=folder, **pipes)


def compare(turns: list[dict[str, dict[str, tuple[float, float]]]]) -> list[dict[str, Any]]:
    """Rows of the table: a contestant against ours in a task."""
    rows = []
    for contestant, ours, kind in RIVALS:
        for task in filter(lambda name: name.startswith(kind), turns[0][contestant]):
            pairs = [(turn[contestant][task], turn[ours][task]) for turn in turns]
            rows.append(
                {
                    "what": f"{task}, bfloat16" if ours == "bfloat16" else task,
                    "against": contestant,
                    "its_ms": statistics.median(its[0] for its, _ in pairs),
                    "our_ms": statistics.median(our[0] for _, our in pairs),
                    "times_as_fast": statistics.median(its[0] / our[0] for its, our in pairs),
                    "its_peak_mb": max(its[1] for its, _ in pairs),
                    "our_peak_mb": max(our[1] for _, our in pairs),
                }
            )
    return rows


def machine() -> str:
    """Processor, cores and how busy they are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} when it began"


def main() -> None:
    """Measure all contestants in turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="folder of the other checkout")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--repeats", type=int, default=5, help="turns, after one to warm up")
    parser.add_argument("--seconds", type=int, default=16, help="audio to encode and to decode, an even number")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.seconds)
        return
    if not args.baseline or not (args.baseline / "q2d2_tokenizer").is_dir():
        parser.error(f"--baseline must be a folder with a checkout of this repository, got {args.baseline}")
    from benchmarking import plot_bars

    from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit, written_by
    from q2d2_tokenizer.evaluation.tables import rows_table

    require_commit(args.output)
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=args.baseline, text=True).strip()
    run = describe_run() | {"baseline": commit, "machine": machine()}
    folders = {"baseline": args.baseline.resolve()}
    processes = {name: start(name, folders.get(name, ROOT), args.seconds) for name in CONTESTANTS}
    turns: list[dict[str, Any]] = []
    for turn in range(1 + args.repeats):
        turns.append({})
        for name, process in processes.items():
            process.stdin.write(f"{turn}\n")
            process.stdin.flush()
            turns[-1][name] = json.loads(process.stdout.readline())
    for process in processes.values():
        process.communicate()
    rows = compare(turns[1:])
    args.output.mkdir(parents=True, exist_ok=True)
    content = {"run": run, "results": rows, "turns": turns[1:]}
    (args.output / "baseline.json").write_text(json.dumps(content, indent=2) + "\n")
    source = (
        f"Processor time of all threads, medians of {args.repeats} turns; baseline {commit}. Peaks are of the whole "
        f"process, with its libraries and weights. Machine: {run['machine']}. {written_by(run)}"
    )
    (args.output / "baseline.md").write_text(f"{rows_table(rows)}\n\n{source}\n")
    bars = [{"label": f"{row['what']}; {row['against']}", **row} for row in rows]
    plot_bars(args.output / "baseline.png", bars, {"times_as_fast": "times as fast as the other"}, log=True)
    print(rows_table(rows))


if __name__ == "__main__":
    main()
