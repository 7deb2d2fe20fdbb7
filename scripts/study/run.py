"""Run the study: trains every arm, measures it, and writes one JSON a run; goes on where it was interrupted.

    python scripts/study/run.py --data 'speech/librispeech-train-*.parquet' \\
        --validation_data 'speech/librispeech-validation-*.parquet'
    python scripts/study/run.py ... --only fsq-4_middle_0 rhombic-4_middle_0
    python scripts/study/run.py --list

Start it twice for two cores: a run that is locked by one process is left to it. A run that diverged, or whose process
ended, has a JSON that says so; delete that file to try the run again. Then: python scripts/study/report.py
"""

import argparse
import fcntl
import glob
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from plan import ARMS, SMALL, Run, load_plan
from records import read_record, write_record

from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "docs/results/study/runs"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], help="recordings to train on, as q2d2 train takes them")
    parser.add_argument("--validation_data", nargs="+", default=[], help="recordings of other speakers")
    parser.add_argument("--arms", type=Path, default=ARMS, help="file with the arms")
    parser.add_argument("--size", type=Path, default=SMALL, help="file with sizes and budget")
    parser.add_argument("--output", type=Path, default=RUNS, help="folder of the JSONs")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="folder for audio, locks and weights")
    parser.add_argument("--only", nargs="+", default=[], help="names of runs; all if left out")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--list", action="store_true", help="print the runs and what became of them")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def names_of_data(sources: list[str]) -> list[str]:
    """Names of data sets: those of files or folders, without numbers and endings, so that results name no machine."""
    files = [file for source in sources for file in sorted(glob.glob(source)) or [source]]
    return list(dict.fromkeys(re.sub(r"[-*?\[\]0-9]+$", "", Path(file).stem) for file in files))


def config_of(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """What a result depends on; two records of one run must agree in it."""
    data = {"data": names_of_data(args.data), "validation_data": names_of_data(args.validation_data)}
    return {"arm": run.arm, "rate": run.rate, "seed": run.seed, **data, **run.settings}


def record_path(run: Run, args: argparse.Namespace) -> Path:
    """File of the record of a run."""
    return args.output / f"{run.name}.json"


def is_done(run: Run, args: argparse.Namespace) -> bool:
    """Whether a run has a record.

    Raises:
        ValueError: If the record is of other settings.
    """
    return read_record(record_path(run, args), config_of(run, args)) is not None


@contextmanager
def locked(path: Path) -> Iterator[TextIO | None]:
    """The open lock file, or None if another process holds it; a process that is killed holds none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def make(run: Run, args: argparse.Namespace, argv: list[str], lock: TextIO) -> None:
    """Make a run in a process of its own, which also holds its lock: it may outlive this one."""
    require_commit(args.output)
    folder = args.work / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, *argv, "--worker", run.name]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    log = folder / "log.txt"
    with open(log, "w") as out:
        ended = subprocess.run(command, stdout=out, stderr=out, env=environment, pass_fds=[lock.fileno()])
    if is_done(run, args):
        shutil.rmtree(folder)
        return
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    error = f"its process ended with status {ended.returncode}: {without_folders(last[0])}"
    failed = {"config": config_of(run, args), "run": provenance(run, args), "status": "failed", "error": error}
    write_record(record_path(run, args), failed)
    print(f"{run.name} failed, {error}; its log is {log}", flush=True)


def without_folders(text: str) -> str:
    """A message that names no folder of this machine."""
    return re.sub(r"(/[\w.+-]+)+/", "", text)


def provenance(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Commit and versions, and the command that makes this run alone, which names no folder of this machine."""
    data = [f"--data '{name}-*'" for name in names_of_data(args.data)]
    data += [f"--validation_data '{name}-*'" for name in names_of_data(args.validation_data)]
    command = ["python scripts/study/run.py", *data, f"--size {args.size.name}", f"--only {run.name}"]
    return describe_run() | {"command": " ".join(command)}


def be_worker(run: Run, args: argparse.Namespace) -> None:
    """Make a run in this process and write its record."""
    from work import work

    torch.set_num_threads(args.threads)
    start = {"config": config_of(run, args), "run": provenance(run, args)}
    record = work(run, args.data, args.validation_data, args.work / "audio", args.work / run.name)
    write_record(record_path(run, args), start | record)


def decode_audio(runs: list[Run], args: argparse.Namespace) -> None:
    """Decode the recordings once for all runs; what is missing is refused before the first one."""
    from q2d2_tokenizer.training.data import AudioCache

    for rate in {run.codec.sampling_rate for run in runs}:
        for sources in (args.data, args.validation_data):
            AudioCache(sources, args.work / "audio", rate)


def make_all(runs: list[Run], args: argparse.Namespace, argv: list[str]) -> None:
    """Make the runs that have no record and are not locked, one after the other."""
    args.output.mkdir(parents=True, exist_ok=True)
    todo = [run for run in runs if not is_done(run, args)]  # looks at all records before the first run
    require_commit(args.output)
    decode_audio(todo, args)
    for number, run in enumerate(todo, 1):
        with locked(args.work / "locks" / f"{run.name}.lock") as lock:
            if lock and not is_done(run, args):
                print(f"{run.name}, {number} of {len(todo)}", flush=True)
                make(run, args, argv, lock)


def summary(runs: list[Run], args: argparse.Namespace) -> tuple[str, bool]:
    """How many runs are done and which ended otherwise, in words; and whether all are done."""
    records = {run.name: record for run in runs if (record := read_record(record_path(run, args)))}
    counts = Counter(record["status"] for record in records.values())
    others = [f"  {name}: {r['status']}, {r['error']}" for name, r in records.items() if r["status"] != "done"]
    counted = ", ".join(f"{counts[status]} {status}" for status in ("done", "diverged", "failed"))
    text = f"{len(runs)} runs: {counted}, {len(runs) - len(records)} to do or in another process"
    return "\n".join([text, *others]), counts["done"] == len(runs)


def main(argv: list[str] | None = None) -> int:
    """Make all runs that have no record; returns 1 if some did not end well or are left to another process."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    try:
        runs = {run.name: run for run in load_plan(args.arms, args.size).runs}
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if unknown := set(args.only) - set(runs):
        raise SystemExit(f"there are no runs {sorted(unknown)}; --list shows their names")
    if args.worker:
        be_worker(runs[args.worker], args)
        return 0
    chosen = [run for run in runs.values() if run.name in args.only or not args.only]
    if args.list:
        for run in chosen:
            record = read_record(record_path(run, args))
            print(f"{run.name:32} {run.codec.bitrate:7.1f} bit/s  {record['status'] if record else 'to do'}")
    elif not (args.data and args.validation_data):
        raise SystemExit("--data and --validation_data are needed: recordings to train on, and of other speakers")
    else:
        make_all(chosen, args, argv)
    text, all_done = summary(chosen, args)
    print(text)
    return 0 if all_done or args.list else 1


if __name__ == "__main__":
    sys.exit(main())
