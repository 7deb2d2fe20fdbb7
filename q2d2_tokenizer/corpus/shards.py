"""Token shards: Parquet files with the tokens of a corpus, and the card that describes them.

Columns: `id` (string), `codes` (list of int32), `num_samples` (int64, at the rate of the codec), then the columns of
the corpus. The metadata of the schema say which codec made the tokens: `codec_fingerprint`, `sampling_rate` in Hz,
`codebook_size`, `hop_length` in samples, `points_per_group`, from which pair tokens follow, and `neighbours_per_group`:
for every point of every group the points whose cells touch its own, which is all of the geometry that a language model
needs. Codecs without a lattice have none.
"""

import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..audio.files import write_atomically
from ..audio.token_file import MAKE_AGAIN, TokenFile, check_in_codebook
from ..lattices import build_groups, lattice_neighbours
from ..modeling_q2d2 import Q2D2Model
from ..quantizers import LatticeQuantizer
from .inputs import describe_counts, warn_of_missing_shards

TOKEN_COLUMNS = pa.schema([("id", pa.string()), ("codes", pa.list_(pa.int32())), ("num_samples", pa.int64())])
SHARD_FOLDER = "data"
REJECTS_FOLDER = "rejects"
_UNKNOWN = object()


def codec_metadata(model: Q2D2Model) -> dict[bytes, bytes]:
    """Metadata of the shards of a codec."""
    config = model.config
    fields = {
        "codec_fingerprint": model.fingerprint(),
        "sampling_rate": config.sampling_rate,
        "codebook_size": config.codebook_size,
        "hop_length": config.hop_length,
        "points_per_group": json.dumps(config.points_per_group),
    }
    if isinstance(model.quantizer, LatticeQuantizer):  # entries of codebooks have no neighbours to speak of
        groups = build_groups(config.lattice, config.levels, config.group_size)
        neighbours = [lattice_neighbours(group) for group in groups]
        fields["neighbours_per_group"] = json.dumps(neighbours, separators=(",", ":"))
    return {name.encode(): str(value).encode() for name, value in fields.items()}


def shard_schema(corpus_schema: pa.Schema, metadata: dict[bytes, bytes]) -> pa.Schema:
    """Schema of shards with the columns of a corpus.

    Raises:
        ValueError: If the corpus has columns that hold something else in shards.
    """
    taken = sorted(set(corpus_schema.names) & set(TOKEN_COLUMNS.names))
    if taken:
        raise ValueError(f"the corpus has columns {taken}, which the tokens need; drop or rename them")
    features = json.loads((corpus_schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    features = {name: feature for name, feature in features.items() if name in corpus_schema.names}
    if features:  # names of classes and the like
        metadata = metadata | {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return pa.schema([*TOKEN_COLUMNS, *corpus_schema], metadata)


def write_shard(path: Path, table: pa.Table) -> None:
    """Write a shard so that it is there completely or not at all."""
    content = io.BytesIO()
    with pq.ParquetWriter(content, table.schema, compression="zstd") as writer:
        if len(table):  # `datasets` cannot read an empty row group
            writer.write_table(table, row_group_size=1000)
    write_atomically(path, content.getvalue())


@dataclass(frozen=True)
class Rejected:
    """A row without tokens.

    Args:
        id: Id of the row.
        reason: One of few words.
        detail: What was wrong.
    """

    id: str
    reason: str
    detail: str


def write_rejects(path: Path, rejects: list[Rejected]) -> None:
    """Write rows as JSON lines; no file if there are none."""
    if rejects:
        lines = [json.dumps({"id": row.id, "reason": row.reason, "detail": row.detail}) for row in rejects]
        write_atomically(path, ("\n".join(lines) + "\n").encode())
    else:
        path.unlink(missing_ok=True)


def read_rejects(path: Path) -> list[Rejected]:
    """Rows of a file of rejects; none if there is no file.

    Raises:
        ValueError: If the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return [Rejected(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}; {MAKE_AGAIN}") from error


def check_plan(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with a data set that was begun with another codec, other options or another input.

    Raises:
        ValueError: Names what differs, and both values.
    """
    go_on = "use that one or another folder"
    codec, other = before["codec"]["codec_fingerprint"], now["codec"]["codec_fingerprint"]
    if codec != other:
        raise ValueError(f"{folder} was begun with codec {codec}, this is codec {other}; {go_on}")
    for part in ("codec", "options"):
        for name in sorted(before[part].keys() | now[part].keys()):
            old, new = (_shown(plan[part], name) for plan in (before, now))
            if before[part].get(name, _UNKNOWN) != now[part].get(name, _UNKNOWN):
                raise ValueError(f"{folder} was begun with {name} {old}, this run has {name} {new}; {go_on}")
    if before["input"] != now["input"]:
        old, new = (
            f"{plan['rows']} rows in {plan['sources']} sources (digest {plan['digest']})"
            for plan in (before["input"], now["input"])
        )
        if old == new:
            old, new = f"columns {before['input']['columns']}", f"{now['input']['columns']}"
        raise ValueError(f"{folder} was begun with an input of {old}, this is {new}; {go_on}")
    if before != now:
        raise ValueError(f"{folder} was begun with {before['shards']} shards, this run has {now['shards']}; {go_on}")


def _shown(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return "unknown (another version of this program)"
    text = repr(values[name])
    return text if len(text) < 100 else f"{text[:100]}..."


def check_no_others(folder: Path, expected: set[Path]) -> None:
    """Refuse shards and files of rejects that are not expected, as they would be read with the others.

    Raises:
        ValueError: Names some of them.
    """
    found = {*folder.glob(f"{SHARD_FOLDER}/*.parquet"), *folder.glob(f"{REJECTS_FOLDER}/*.jsonl")}
    others = sorted(str(path) for path in found - expected)
    if others:
        raise ValueError(
            f"{len(others)} files in {folder} are not of this data set, such as {others[:3]}; move or remove them"
        )


def list_shards(folder: str | Path, codec_fingerprint: str | None) -> list[Path]:
    """The shards of a token data set.

    Args:
        folder: Folder of the data set.
        codec_fingerprint: `Q2D2Model.fingerprint()` of the codec to use them with; any codec if None.

    Raises:
        ValueError: If a shard is damaged or of another codec; names both fingerprints.
        FileNotFoundError: If there are none.
    """
    paths = sorted(Path(folder, SHARD_FOLDER).glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(f"no token shards in {Path(folder, SHARD_FOLDER)}")
    for path in paths:
        found = read_metadata(path)["codec_fingerprint"]
        if codec_fingerprint not in (None, found):
            raise ValueError(
                f"{path} holds tokens of codec {found}, expected codec {codec_fingerprint}; load the codec that made "
                "the tokens, or tokenize again"
            )
    warn_of_missing_shards(paths)
    return paths


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a shard.

    Raises:
        ValueError: If the file is no token shard or damaged.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowException as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if b"codec_fingerprint" not in metadata:
        raise ValueError(f"{path} is no token shard: its schema names no codec_fingerprint")
    return {name.decode(): value.decode() for name, value in metadata.items() if name != b"huggingface"}


def load_token_shards(folder: str | Path, codec_fingerprint: str | None, streaming: bool = False) -> Any:
    """A token data set, a `datasets.Dataset`; see `list_shards` for the errors.

    Args:
        folder: See `list_shards`.
        codec_fingerprint: See `list_shards`.
        streaming: Whether to read rows when they are asked for, as an `IterableDataset`.
    """
    from datasets import Dataset, load_dataset

    shards = list_shards(folder, codec_fingerprint)
    files = [str(path) for path in shards if pq.read_metadata(path).num_rows]
    if not files:  # all rows were rejected, which `load_dataset` takes for an error
        empty = Dataset(pq.read_table(shards[0]))
        return empty.to_iterable_dataset() if streaming else empty
    return load_dataset("parquet", data_files=files, split="train", streaming=streaming)


def find_row(folder: str | Path, row_id: str, codec_fingerprint: str | None = None) -> TokenFile:
    """The tokens of one row.

    Raises:
        KeyError: If there is no such row; tells why if it was rejected.
        ValueError: See `list_shards`; or if the row is damaged.
    """
    for path in list_shards(folder, codec_fingerprint):
        index = pc.index(pq.read_table(path, columns=["id"])["id"], row_id).as_py()
        if index >= 0:
            row = pq.read_table(path, columns=["codes", "num_samples"]).slice(index, 1).to_pylist()[0]
            metadata = read_metadata(path)
            codes, place = np.array(row["codes"], dtype=np.int32), f"row {row_id!r} of {path}"
            check_in_codebook(codes, int(metadata["codebook_size"]), place)
            tokens = -(-row["num_samples"] // int(metadata["hop_length"]))
            if tokens != len(codes):
                raise ValueError(f"{place}: its audio takes {tokens} codes, got {len(codes)}; {MAKE_AGAIN}")
            rate, fingerprint = int(metadata["sampling_rate"]), metadata["codec_fingerprint"]
            return TokenFile(codes, rate, row["num_samples"], fingerprint)
    for path in sorted(Path(folder, REJECTS_FOLDER).glob("*.jsonl")):
        for reject in read_rejects(path):
            if reject.id == row_id:
                raise KeyError(f"{row_id!r} was rejected, {reject.reason}: {reject.detail}")
    raise KeyError(f"no row {row_id!r} in {folder}")


def write_card(folder: Path, summary: dict[str, Any], schema: pa.Schema, licence: str, source: str) -> None:
    """Write the data card, README.md; its header makes `datasets.load_dataset(folder)` find the shards.

    Args:
        folder: Folder of the data set.
        summary: Counts, and the metadata of the codec under `codec`.
        schema: Schema of the shards.
        licence: Licence of the recordings, as an identifier of the Hub where there is one.
        source: Where the recordings come from.
    """
    codec = summary["codec"]
    frame_rate = int(codec["sampling_rate"]) / int(codec["hop_length"])
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary["rejects"].items()) or "none"
    rows = "\n".join(f"| `{field.name}` | {field.type} |" for field in schema)
    header = {"license": licence, "configs": [{"config_name": "default", "data_files": f"{SHARD_FOLDER}/*.parquet"}]}
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())  # JSON is YAML
    text = f"""---
{front}
---
# Speech tokens

Tokens of {source}, made with `q2d2 tokenize` of the Q2D2 tokenizer. Licence of the recordings: {licence}.

| | |
|---|---|
| input rows | {summary["input_rows"]:,} |
| rows with tokens | {summary["token_rows"]:,} |
| rejected rows | {summary["input_rows"] - summary["token_rows"]:,} ({reasons}) |
| files left out | {describe_counts(Counter(summary["left_out"])) or "none"} |
| hours | {summary["hours"]:.4f} |
| tokens | {summary["tokens"]:,} |
| shards | {summary["shards"]:,} |
| codec fingerprint | `{codec["codec_fingerprint"]}` |
| sampling rate | {int(codec["sampling_rate"]):,} Hz |
| tokens per second | {frame_rate:.2f} |
| codebook size | {int(codec["codebook_size"]):,} |
| points per group | {codec["points_per_group"]} |

Only the codec with this fingerprint can decode the tokens; the metadata of the Parquet schema name it in every shard.

## Layout

`{SHARD_FOLDER}/` holds the token shards, `{REJECTS_FOLDER}/` the rejected rows as JSON lines (`id`, `reason`,
`detail`), `plan.json` what was tokenized and how. A row has one token per {codec["hop_length"]} samples,
`ceil(num_samples / {codec["hop_length"]})` in all. A token is `i_0 + i_1 G_0 + i_2 G_0 G_1 + ...` with `i_j` the point
of group `j` and `G_j` its points per group.

| column | type |
|---|---|
{rows}
"""
    write_atomically(folder / "README.md", text.encode())
