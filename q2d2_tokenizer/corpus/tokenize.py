"""Tokens of a corpus in shards: by many processes, resumable after any interruption, every row accounted for.

The corpus is split into shards before anything is computed. A shard is a function of its rows and the codec alone and
appears under its name complete or not at all, so a run that was killed and started again ends with the files of an
undisturbed one, whatever the number of processes. Recordings are not sorted or bucketed by length: `Q2D2Model.encode`
computes every recording by itself, so there is no padding to save; what follows on accelerators is in docs/corpora.md.
"""

import errno
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..audio.errors import AudioError, SilentAudioError, TooLongAudioError
from ..audio.files import make_folder, read_json, write_atomically
from ..audio.recordings import BatchEncoder
from ..modeling_q2d2 import Q2D2Model
from .cells import announced_seconds, read_cell
from .options import CorpusOptions
from .shards import (
    REJECTS_FOLDER,
    SHARD_FOLDER,
    TOKEN_COLUMNS,
    Rejected,
    check_no_others,
    check_plan,
    codec_metadata,
    read_metadata,
    read_rejects,
    shard_schema,
    write_card,
    write_rejects,
    write_shard,
)
from .sources import Batch, Corpus

_PLAN = "plan.json"
_SILENT_PEAK = 1e-3  # -60 dB of full scale
_SECONDS_BETWEEN_LINES = 30.0  # of progress in a log file


class Progress(tqdm):
    """A progress bar that counts rows and shows hours done and speed."""

    hours_before = 0.0  # done in earlier runs
    seconds = 0.0

    def add(self, seconds: float) -> None:
        """One more row, of so many seconds."""
        self.seconds += seconds
        self.show()
        self.update()

    def show(self) -> None:
        """Put hours and speed behind the bar."""
        speed = self.seconds / max(self.format_dict["elapsed"], 1e-9)
        self.set_postfix_str(f"{self.hours_before + self.seconds / 3600:.2f} h, {speed:.0f}x real time", refresh=False)


class CorpusTokenizer:
    """Tokenizes a corpus into a folder.

    Args:
        corpus: The recordings.
        model: The codec.
        folder: Where the data set is written; may hold the beginning of it.
        options: See `CorpusOptions`.

    Raises:
        ValueError: If the codebook is too large.
    """

    def __init__(self, corpus: Corpus, model: Q2D2Model, folder: str | Path, options: CorpusOptions):
        if model.config.codebook_size > 2**31:
            raise ValueError(
                f"shards hold codes as int32; a codebook of {model.config.codebook_size} codes is too large"
            )
        self.corpus = corpus
        self.model = model
        self.folder = Path(folder)
        self.options = options
        self.metadata = codec_metadata(model)
        self.schema = shard_schema(corpus.schema, self.metadata)
        self.shards = corpus.split(options.rows_per_shard)

    def prepare(self) -> None:
        """Write the plan, or check that the folder holds the same one; one process does this, before all run.

        Raises:
            ValueError: If the codec, the corpus or the options changed, ids occur more than once, or the folder holds
                shards of something else.
            OSError: If the folder cannot be written.
        """
        _check_writable(self.folder)
        path = self.folder / _PLAN
        if path.exists():
            self.check_plan()
        elif any(self.folder.glob(f"{SHARD_FOLDER}/*.parquet")):
            raise ValueError(f"{self.folder} holds shards but no {_PLAN}; choose another folder")
        else:
            self._check_no_others()
            self.corpus.check_ids()
            write_atomically(path, json.dumps(self._plan(), indent=1).encode())
        for name in (SHARD_FOLDER, REJECTS_FOLDER):
            (self.folder / name).mkdir(exist_ok=True)
        for folder in (".", SHARD_FOLDER, REJECTS_FOLDER):
            for left in self.folder.glob(f"{folder}/.*.tmp"):  # of processes that were killed
                left.unlink(missing_ok=True)

    def check_plan(self) -> None:
        """Check that the folder holds the plan of this process; all do this before they run, one of them in `prepare`.

        Raises:
            ValueError: If the codec, the corpus or the options are others here, there are shards of something else, or
                the plan is damaged.
        """
        now = self._plan()
        advice = "restore it, or tokenize into another folder"
        check_plan(read_json(self.folder / _PLAN, now, advice=advice), now, self.folder)
        self._check_no_others()

    def _check_no_others(self) -> None:
        check_no_others(self.folder, {path for number in range(len(self.shards)) for path in self._paths(number)})

    def _plan(self) -> dict[str, Any]:
        return {
            "codec": {name.decode(): value.decode() for name, value in self.metadata.items()},
            "input": {
                "digest": self.corpus.digest(),
                "sources": len(self.corpus.sources),
                "rows": self.corpus.num_rows,
                "columns": {field.name: str(field.type) for field in self.schema},
            },
            "options": asdict(self.options) | self.corpus.options,
            "shards": len(self.shards),
        }

    def run(self, process: int = 0, num_processes: int = 1, show_progress: bool = False) -> float:
        """Make the shards of one process that are not there yet: every `num_processes`-th.

        Returns:
            Hours of audio for which tokens were made.

        Raises:
            OSError: If a shard cannot be written.
        """
        mine = range(process, len(self.shards), num_processes)
        missing = [number for number in mine if not self._is_done(number)]
        rows = sum(self._num_rows(number) for number in mine)
        todo = sum(self._num_rows(number) for number in missing)
        with Progress(
            total=rows,
            initial=rows - todo,
            desc=f"process {process} of {num_processes}" if num_processes > 1 else "tokens",
            unit="row",
            disable=not show_progress,
            mininterval=0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES,
        ) as progress:
            progress.hours_before = sum(self._samples(number).sum() for number in set(mine) - set(missing))
            progress.hours_before /= self._samples_per_hour
            for number in missing:
                self._make(number, progress)
            progress.show()
        return progress.seconds / 3600

    def _num_rows(self, number: int) -> int:
        return self.shards[number].stop - self.shards[number].start

    def _paths(self, number: int) -> tuple[Path, Path]:
        name = f"{number:05d}-of-{len(self.shards):05d}"
        return self.folder / SHARD_FOLDER / f"tokens-{name}.parquet", self.folder / REJECTS_FOLDER / f"{name}.jsonl"

    def _samples(self, number: int) -> np.ndarray:
        """Lengths (rows,) of the recordings of a finished shard."""
        table = pq.read_table(self._paths(number)[0], columns=["num_samples"], use_threads=False)
        return table["num_samples"].to_numpy()

    @property
    def _samples_per_hour(self) -> int:
        return 3600 * self.model.config.sampling_rate

    def _is_done(self, number: int) -> bool:
        shard, rejects = self._paths(number)
        try:
            same_codec = read_metadata(shard)["codec_fingerprint"] == self.metadata[b"codec_fingerprint"].decode()
            done = pq.read_metadata(shard).num_rows + len(read_rejects(rejects))
        except (OSError, ValueError):
            return False
        return same_codec and done == self._num_rows(number)

    def _make(self, number: int, progress: Progress) -> None:
        tables = [self.schema.empty_table()]
        rejects: list[Rejected] = []
        for batch in self.corpus.read(self.shards[number]):
            tables.append(self._tokenize(batch, rejects, progress))
        shard, rejects_path = self._paths(number)
        try:
            write_rejects(rejects_path, rejects)  # first: the shard says that all is done
            write_shard(shard, pa.concat_tables(tables).replace_schema_metadata(self.schema.metadata))
        except OSError as error:
            raise _explain(error, self.folder) from error

    def _tokenize(self, batch: Batch, rejects: list[Rejected], progress: Progress) -> pa.Table:
        """Rows of a shard for the rows of a batch that have usable audio."""
        kept, lengths, encoder = [], [], BatchEncoder(self.model)
        rate = self.model.config.sampling_rate
        for number, (row_id, cell) in enumerate(zip(batch.ids, batch.cells, strict=True)):
            try:
                num_samples = encoder.add(read_recording(cell, rate, self.options))
            except AudioError as error:
                rejects.append(Rejected(row_id, error.reason, str(error)))
                progress.add(0.0)
                continue
            kept.append(number)
            lengths.append(num_samples)
            progress.add(num_samples / rate)
        codes = encoder.finish()
        offsets = np.cumsum([0, *map(len, codes)], dtype=np.int32)
        flat = np.concatenate([np.empty(0, np.int64), *codes]).astype(np.int32)
        columns = {
            "id": pa.array([batch.ids[number] for number in kept], pa.string()),
            "codes": pa.ListArray.from_arrays(offsets, flat),
            "num_samples": pa.array(lengths, pa.int64()),
        }
        rows = pa.array(kept, pa.int64())
        for field in list(self.schema)[len(TOKEN_COLUMNS) :]:
            has = field.name in batch.columns.column_names
            values = batch.columns[field.name].take(rows) if has else pa.nulls(len(rows))
            columns[field.name] = values.cast(field.type)
        return pa.table(columns, schema=self.schema)

    def finish(self, licence: str, source: str) -> dict[str, Any]:
        """Check that every row of the corpus is in a shard or rejected, write summary.json and the data card.

        Returns:
            The summary; see `write_card` for the arguments.

        Raises:
            ValueError: If shards are missing, or there are others.
        """
        self._check_no_others()
        missing = [number for number in range(len(self.shards)) if not self._is_done(number)]
        if missing:
            raise ValueError(f"{len(missing)} of {len(self.shards)} shards are missing; run again")
        reasons: Counter[str] = Counter()
        token_rows = tokens = samples = 0
        for number in range(len(self.shards)):
            reasons.update(row.reason for row in read_rejects(self._paths(number)[1]))
            lengths = self._samples(number)
            token_rows += len(lengths)
            tokens += int((-(-lengths // self.model.config.hop_length)).sum())
            samples += int(lengths.sum())
        summary = {
            "input_rows": self.corpus.num_rows,
            "token_rows": token_rows,
            "rejects": dict(sorted(reasons.items())),
            "left_out": dict(self.corpus.left_out.most_common()),
            "hours": samples / self._samples_per_hour,
            "tokens": tokens,
            "shards": len(self.shards),
            "codec": self._plan()["codec"],
        }
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
        write_card(self.folder, summary, self.schema, licence, source)
        return summary


def read_recording(cell: Any, target_rate: int, options: CorpusOptions) -> Iterator[np.ndarray]:
    """Mono samples float32 at `target_rate` Hz of one cell of a corpus, in chunks (N,).

    Raises:
        AudioError: What `read_cell` raises, `TooLongAudioError` or `SilentAudioError`; some of it turns
            out after the last chunk only.
        OSError: If a file cannot be read for a reason that is not the file.
    """
    seconds = announced_seconds(cell)
    if seconds is not None:  # else reading it will tell
        _check_hours(seconds / 3600, options)
    num_samples, peak = 0, 0.0
    for chunk in read_cell(cell, target_rate):
        num_samples += chunk.size
        peak = max(peak, float(np.abs(chunk).max()))
        _check_hours(num_samples / target_rate / 3600, options)
        yield chunk
    if peak < _SILENT_PEAK and options.silent == "reject":
        raise SilentAudioError(f"the peak is {peak:.2g} of full scale, less than {_SILENT_PEAK:.2g}")


def _check_hours(hours: float, options: CorpusOptions) -> None:
    if hours > options.max_hours:
        raise TooLongAudioError(f"{hours:.4g} h, at most {options.max_hours:.4g} h are taken")


def _check_writable(folder: Path) -> None:
    make_folder(folder)
    try:
        write_atomically(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except OSError as error:
        raise _explain(error, folder) from error


def _explain(error: OSError, folder: Path) -> OSError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"the disk of {folder} is full; complete shards are kept: free some space and run again"
    else:
        message = f"cannot write to {folder}: {error.strerror or error}"
    return OSError(error.errno, message)
