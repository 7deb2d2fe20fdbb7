"""The one lister: which files inputs name, and how to open them; local ones, and URLs through fsspec."""

import csv
import errno
import fnmatch
import glob
import io
import json
import logging
import os
import re
import shlex
import warnings
from collections import Counter, deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from ..audio.reading import AUDIO_SUFFIXES

logger = logging.getLogger(__name__)
ROW_SUFFIXES = (".parquet", ".tar")  # of files that hold many recordings
_SUFFIXES = AUDIO_SUFFIXES.union(ROW_SUFFIXES)
_METADATA = ("metadata.csv", "metadata.jsonl")
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".tgz", ".zip", ".7z", ".rar"}
_NO_AUDIO = {"", ".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".xml", ".html", ".textgrid"}
_NO_AUDIO |= {".lab", ".srt", ".vtt", ".ctm", ".stm", ".trn", ".cls", ".py", ".sh", ".png", ".jpg", ".pdf", ".log"}
_NO_AUDIO |= {".lock", ".npy", ".npz", ".pt", ".safetensors", ".q2d2"}
_said: set[str] = set()  # what was said of files that are left out
_DAMAGE = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}  # no such file
_DAMAGE |= {errno.EINVAL}  # of seeking to a place that a damaged file names


_File = tuple[str, dict[str, str | None]]  # path or URL, and other columns


class Entry(NamedTuple):
    """A file of the inputs.

    Args:
        name: Path below the folder that all files share, or the URL.
        path: Absolute path or URL.
        columns: Values from metadata, by name of the column.
    """

    name: str
    path: str
    columns: dict[str, str | None]


def open_input(path: str) -> Any:
    """A file or URL, to read bytes from."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


def size_of(path: str) -> int | None:
    """Bytes of a file or URL; None if there is no such file."""
    if "://" in path:
        filesystem, inner = fsspec.core.url_to_fs(path)
        return filesystem.info(inner)["size"]
    return os.path.getsize(path) if os.path.exists(path) else None


def version_of(path: str) -> str:
    """What changes when a file or what is behind a URL does.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if "://" in path:
        filesystem, inner = fsspec.core.url_to_fs(path)
        return f"{path}:{filesystem.ukey(inner)}"
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such audio file: {path}; take it out of the list or metadata that name it")
    stat = os.stat(path)
    return f"{Path(path).resolve()}:{stat.st_size}:{stat.st_mtime_ns}"


def stop_unless_damaged(error: Exception, path: str) -> None:
    """Tell an error that a file is damaged or missing from one that may be gone in the next run.

    Raises:
        OSError: Unless the file is damaged or missing.
    """
    if not isinstance(error, OSError):
        return
    # Arrow says with a plain OSError that a file is damaged; errors of the network are subclasses without a number.
    damaged = type(error) is OSError if error.errno is None else error.errno in _DAMAGE
    if "://" in path or not (damaged or isinstance(error, FileNotFoundError | IsADirectoryError)):
        raise stopping_error(error, path) from error


def stopping_error(error: OSError, path: str) -> OSError:
    """An error that stops the run and names the file."""
    return OSError(f"cannot read {path}: {error}; nothing was rejected for that, run again when it can be read")


def matching_paths(pattern: str) -> list[Path]:
    """What a path or a glob pattern names, sorted; a path that exists is no pattern, whatever brackets it holds.

    Of patterns with `**`, the files that match or lie in a folder that does.
    """
    parts = Path(pattern).parts
    if os.path.exists(pattern) or "**" not in parts:  # glob follows links that go round in circles
        return [Path(name) for name in ([pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern)))]
    place = parts.index("**")
    found = []
    for folder in sorted(glob.glob(str(Path(*parts[:place])))) if place else ["."]:
        for file in _files_below(Path(folder), set()):
            names = file.relative_to(folder).parts
            if any(_matches(names[:size], parts[place:]) for size in range(len(names) + 1)):
                found.append(file)
    return sorted(found)


def _matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the names of a path match those of a pattern; hidden ones only match what begins with a dot."""
    if not names or not pattern:
        return not names and set(pattern) <= {"**"}
    hidden = names[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or (not hidden and _matches(names[1:], pattern))
    return not hidden and fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def found_files(item: str) -> list[Path]:
    """All files that a path, a folder or a glob pattern names, each once.

    Folders, also those that a pattern matches and those behind links, are searched to any depth. A link to nowhere is
    a file, which reading it will tell.

    Raises:
        OSError: If a folder cannot be listed.
    """
    seen: set[str] = set()
    folders: dict[str, str] = {}  # the real one of each
    found = []
    for path in matching_paths(item):
        for file in _files_below(path, seen) if path.is_dir() else [path]:
            folder = os.path.dirname(file)
            real = os.path.join(folders.setdefault(folder, os.path.realpath(folder)), file.name)
            if real not in seen and (file.is_file() or file.is_symlink()):
                seen.add(real)
                found.append(file)
    return sorted(found, key=_order(item))


def _files_below(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Files of a folder and all folders in it; what is behind links comes last, and every real folder once."""

    def stop(error: OSError) -> None:
        raise OSError(f"cannot list {error.filename}: {error.strerror}") from error

    waiting = deque([str(folder)])
    while waiting:
        for path, folders, files in os.walk(waiting.popleft(), onerror=stop):
            if (real := os.path.realpath(path)) in seen:
                folders.clear()
                continue
            seen.add(real)
            waiting += [os.path.join(path, name) for name in folders if os.path.islink(os.path.join(path, name))]
            yield from (Path(path, name) for name in files)


def local_files(item: str, suffixes: Collection[str]) -> list[Path]:
    """The files of `found_files` that have one of these endings (in lower case)."""
    return [file for file in found_files(item) if file.suffix.lower() in suffixes]


def count_left_out(files: Collection[str], where: str) -> Counter[str]:
    """Count files that are not read by their endings; those that may hold audio are warned of, once a process.

    Args:
        files: Their paths or names.
        where: The input they were found in.
    """
    counts = Counter(os.path.splitext(file)[1].lower() for file in files)
    unknown = {suffix for suffix in counts if suffix not in _NO_AUDIO}
    example = next((file for file in files if os.path.splitext(file)[1].lower() in unknown), None)
    others = describe_counts(Counter({suffix: counts[suffix] for suffix in counts if suffix not in unknown}))
    if example:
        number = describe_counts(Counter({suffix: counts[suffix] for suffix in unknown}))
        message = f"left out of {where}: {number} (such as {example}), which are not read; {_way_out(where, unknown)}"
        if message not in _said and os.environ.get("RANK", "0") == "0":
            logger.warning("%s", message)
        _said.add(message)
    if others:
        logger.info("left out of %s: %s, which hold no audio", where, others)
    return counts


def describe_counts(counts: Counter[str]) -> str:
    """Endings and how many files have each, the most first."""
    return ", ".join(f"{count:,} {suffix or 'without ending'}" for suffix, count in counts.most_common())


def _way_out(where: str, suffixes: set[str]) -> str:
    """The command that converts files of an input to what is read."""
    if suffixes <= _PACKED:
        return "unpack them"
    folder = shlex.quote(where if "://" in where else str(_folder_of(where)))
    names = " -o ".join(f"-iname '*{suffix}'" for suffix in sorted(suffixes - _PACKED))
    convert = """-exec sh -c 'ffmpeg -i "$1" "${1%.*}.flac"' _ {} \\;"""
    return f"convert them: find -L {folder} \\( {names} \\) {convert}"


def _order(item: str) -> Any:
    """Files of a folder come folder by folder, those of a pattern by their names."""
    return Path if os.path.isdir(item) else str


def list_entries(inputs: list[str], output: str | None = None, keep_order: bool = False) -> list[Entry]:
    """The entries of `find_entries`."""
    return find_entries(inputs, output, keep_order)[0]


def find_entries(
    inputs: list[str], output: str | None = None, keep_order: bool = False
) -> tuple[list[Entry], Counter[str]]:
    """All Parquet, tar and audio files of the inputs, and how many others there are of each ending.

    Others that may hold audio are warned of, with the command that converts them.

    Args:
        inputs: Files, folders (with `metadata.csv` or `metadata.jsonl` that name files in the column `file_name`),
            glob patterns, text files with one path a line (relative to the text file), URLs, or data sets of the Hub
            (`owner/name`). Of URLs and the Hub, audio files are taken only where there are no Parquet and tar files.
        output: Folder of results; files in it are no inputs where it lies below the folder of an input.
        keep_order: Keep the order of the inputs and of the lines of lists, so that an input named twice comes twice in
            its place; else all files are sorted by name.

    Raises:
        ValueError: If there are no files at an input, or a text file cannot be read.
        OSError: If an input cannot be listed.
    """
    found: list[_File] = []
    left_out: Counter[str] = Counter()
    for item in inputs:
        files, others = _list_input(item)
        if output:
            files, others = _without(output, _folder_of(item), files), _without(output, _folder_of(item), others)
        counts = count_left_out([path for path, _ in others], item)
        left_out += counts
        if not files:
            only = f"; there are {describe_counts(counts)}: {_way_out(item, set(counts))}" if counts else ""
            raise ValueError(f"no Parquet, tar or audio files at {item!r}{only}")
        found += files
    local = [os.path.dirname(path) for path, _ in found if "://" not in path]
    root = os.path.commonpath(local) if local else ""
    entries = [
        Entry(path if "://" in path else Path(path).relative_to(root).as_posix(), path, columns)
        for path, columns in found
    ]
    return (entries if keep_order else sorted(entries, key=lambda entry: entry.name)), left_out


def _folder_of(item: str) -> Path:
    """The folder that an input is searched from."""
    if os.path.exists(item) or not glob.has_magic(item):
        return Path(item)
    parts = Path(item).parts
    return Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])


def _without(output: str, folder: Path, files: list[_File]) -> list[_File]:
    """Files that are not results of an earlier run, for which the output has to be below the folder."""
    results = Path(output).resolve()
    if folder.resolve() not in results.parents:
        return files
    return [(path, more) for path, more in files if "://" in path or results not in Path(path).resolve().parents]


def _list_input(item: str) -> tuple[list[_File], list[_File]]:
    """Files that an input names, and those that are left out."""
    matches = matching_paths(item)
    if "://" in item or (not matches and re.fullmatch(r"[\w.-]+/[\w.-]+", item)):
        return _list_url(item if "://" in item else f"hf://datasets/{item}")
    files = [Path(os.path.abspath(file)) for file in found_files(item)]
    found: dict[str, dict[str, str | None]] = {str(file): {} for file in files if file.suffix.lower() in _SUFFIXES}
    for path in [file for file in files if file.name in _METADATA]:
        for target, columns in _read_metadata(path).items():  # also of files that are not there
            found[target] = found.get(target) or columns
    listed = [path for path in matches if item.lower().endswith(".txt") and path.is_file()]  # else maybe transcripts
    used = {*found, *(os.path.abspath(path) for path in listed)}
    others: list[_File] = [(str(file), {}) for file in files if str(file) not in used and file.name not in _METADATA]
    of_lists: list[_File] = [(path, {}) for file in listed for path in _read_list(file)]
    return [*sorted(found.items(), key=lambda file: _order(item)(file[0])), *of_lists], others


def _list_url(url: str) -> tuple[list[_File], list[_File]]:
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        if glob.has_magic(root):
            files = sorted(filesystem.glob(root))
        else:
            files = [root] if filesystem.isfile(root) else sorted(filesystem.find(root))
    except (OSError, ValueError, ImportError) as error:
        raise OSError(f"cannot list {url}: {error}; a local input must exist") from error
    wanted: list[str] = []
    for suffixes in (ROW_SUFFIXES, tuple(AUDIO_SUFFIXES)):  # audio beside tables shows what they hold
        wanted = wanted or [path for path in files if path.lower().endswith(suffixes)]
    others = sorted(set(files).difference(wanted))
    return [(filesystem.unstrip_protocol(path), {}) for path in wanted], [(path, {}) for path in others]


def _read_list(path: Path) -> list[str]:
    lines = [line.strip(" \t\r") for line in read_text(path).split("\n")]
    return [os.path.normpath(Path(os.path.abspath(path)).parent / line) for line in lines if line]


def _read_metadata(path: Path) -> dict[str, dict[str, str | None]]:
    """Columns by absolute path, of a metadata file.

    Raises:
        ValueError: If it cannot be read; names file and line.
    """
    found: dict[str, dict[str, str | None]] = {}
    for number, row in (_csv_rows if path.suffix == ".csv" else _json_rows)(path):
        name = row.pop("file_name", None)
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"line {number} of {path} names no file in 'file_name'; rename the column, or the file if it is none"
            )
        target = os.path.normpath(path.parent / name)
        found[target] = {column: value if value is None else str(value) for column, value in row.items()}
    return found


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):  # no other character ends a line of JSON
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} of {path} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} of {path} must be an object with names and values, got {line[:40]!r}")
            yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = read_text(path)
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiters = [mark for mark in ",;\t|" if "file_name" in (name.strip(' "') for name in header.split(mark))]
    if not delimiters and header.count("|") in (1, 2):
        yield from _ljspeech_rows(path, text)
        return
    if not delimiters:
        raise ValueError(f"{path} has no column 'file_name'; rename the column, or the file if it is none")
    limit = csv.field_size_limit(2**31 - 1)  # texts may be long
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiters[0], skipinitialspace=True)
        for row in reader:
            if None in row:
                raise ValueError(
                    f"line {reader.line_num} of {path} has more fields than the {len(reader.fieldnames or [])} of its "
                    f"first line; put quotes around texts with {delimiters[0]!r}"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path} is no CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _ljspeech_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a file as LJSpeech has it, without names of columns and without quotes: `name|text|normalized text`."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, *texts = line.strip("\r").split("|")
        if not 1 <= len(texts) <= 2:
            raise ValueError(f"line {number} of {path} must have 2 or 3 fields between '|', got {len(texts) + 1}")
        places = [f"{folder}{name}{suffix}" for folder in ("", "wavs/") for suffix in ("", *sorted(AUDIO_SUFFIXES))]
        file_name = next((place for place in places if (path.parent / place).is_file()), f"wavs/{name}.wav")
        yield number, {"file_name": file_name} | dict(zip(("text", "normalized_text"), texts, strict=False))


def read_text(path: Path) -> str:
    """Content of a text file in UTF-8 or, if it begins with the mark for that, UTF-16; line ends as they are.

    Raises:
        ValueError: If it is in another encoding.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; convert it") from error


def warn_of_missing_shards(paths: list[Path]) -> None:
    """Warn if these are not all shards of their data sets, as their names count them (00001-of-00004)."""
    counts: dict[tuple[Path, int], set[int]] = {}
    for path in paths:
        if found := re.search(r"-(\d{5})-of-(\d{5})$", path.stem):
            counts.setdefault((path.parent, int(found[2])), set()).add(int(found[1]))
    for (folder, total), numbers in counts.items():
        if len(numbers) < total:
            warnings.warn(
                f"{folder} has {len(numbers)} of {total} shards, and only these are read; if it is of a run that was "
                "stopped, start the same command again to finish it",
                stacklevel=3,
            )
