"""What the commands that convert files share: which file becomes which, and failures of single files."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from tqdm import tqdm

from ..audio.files import make_folder
from ..audio.reading import AUDIO_SUFFIXES
from ..audio.token_file import TOKEN_SUFFIX
from ..corpus.inputs import count_left_out, found_files

_FILE_SUFFIXES = AUDIO_SUFFIXES.union([TOKEN_SUFFIX])  # nobody calls a folder so
_FAILURES = (ValueError, OSError, RuntimeError, MemoryError, StrictDataclassError)


@dataclass(frozen=True)
class Job:
    """One file to convert."""

    source: Path
    target: Path


def plan_jobs(inputs: list[str], output: str, input_suffixes: set[str], output_suffix: str) -> list[Job]:
    """Say which file becomes which and make the folders to write to.

    Folders among the inputs are searched for files of `input_suffixes` and keep their structure.

    Args:
        inputs: Files and folders.
        output: Folder to write to; or the file to write, if there is one input file and `output` has `output_suffix`.
        input_suffixes: Suffixes of the files to take from folders, in lower case.
        output_suffix: Suffix of the files to write.

    Raises:
        ValueError: If there is nothing to do, two inputs would become the same file, or one would be overwritten.
        OSError: If a folder cannot be made or written to.
    """
    root = Path(output)
    is_single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if is_single and root.suffix.lower() == output_suffix and not root.is_dir():
        jobs = [Job(Path(inputs[0]), root)]
    elif root.suffix.lower() in _FILE_SUFFIXES and not root.is_dir():
        ends = f"end in {output_suffix} for a single file, or " if is_single else ""
        raise ValueError(f"the output must {ends}be a folder, got {output}, the name of a file")
    else:
        found = [pair for name in inputs for pair in _files_of(Path(name), root, input_suffixes)]
        jobs = [Job(source, root / relative.with_suffix(output_suffix)) for source, relative in found]
    if not jobs:
        raise ValueError(f"no {', '.join(sorted(input_suffixes))} files in {', '.join(inputs)}")
    _check_targets(jobs)
    for folder in sorted({job.target.parent for job in jobs}):
        make_folder(folder)
    return jobs


def _files_of(path: Path, output: Path, suffixes: set[str]) -> Iterator[tuple[Path, Path]]:
    """Files of an input, each with its path relative to that input."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    inside = path.resolve() in output.resolve().parents  # then results of an earlier run are no input
    found = [file for file in found_files(str(path)) if not (inside and output.resolve() in file.resolve().parents)]
    count_left_out([str(file) for file in found if file.suffix.lower() not in suffixes], str(path))
    yield from ((file, file.relative_to(path)) for file in found if file.suffix.lower() in suffixes)


def _check_targets(jobs: list[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    identities = {_identity(source) for source in sources if source.exists()}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources or (target.exists() and _identity(target) in identities):
            raise ValueError(f"{job.source} would overwrite the input {job.target}; choose another --output")
        if target in taken and taken[target] != job.source.resolve():
            raise ValueError(f"{taken[target]} and {job.source} would both become {job.target}; convert one at a time")
        taken[target] = job.source.resolve()


def refuse_overwriting(output: Path, *sources: Path | None) -> None:
    """Raise ValueError if writing a file would replace one that is read, by whatever name."""
    for source in sources:
        if source and output.exists() and source.exists() and _identity(output) == _identity(source):
            raise ValueError(f"{output} would overwrite the input {source}; choose another file to write")


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def run(jobs: list[Job], convert: Callable[[Path, Path], None]) -> int:
    """Convert all files, name those that fail, and return the exit code: 1 if there are any, else 0."""
    failed = 0
    for job in tqdm(jobs, unit="file", disable=None if len(jobs) > 1 else True):
        try:
            convert(job.source, job.target)
        except _FAILURES as error:
            failed += 1
            tqdm.write(f"q2d2: {job.source}: {error}", file=sys.stderr)
    if failed:
        print(f"q2d2: {failed} of {len(jobs)} files failed", file=sys.stderr)
    if failed < len(jobs):
        print(f"wrote {jobs[0].target if len(jobs) == 1 else f'{len(jobs) - failed} files'}")
    return 1 if failed else 0
