"""The command `q2d2 tokenize`."""

from typing import Any

from ..corpus.options import CorpusOptions
from ..corpus.processes import tokenize_corpus


def tokenize(
    inputs: list[str],
    *,
    output: str,
    licence: str,
    ray: bool = False,
    workers: int | None = None,
    options: CorpusOptions = CorpusOptions(),  # noqa: B008 - frozen
    **further: Any,
) -> None:
    """Turn a corpus of any size into Parquet shards of tokens; goes on where it was stopped.

        q2d2 tokenize 'speech/*.parquet' --output tokens --licence cc-by-4.0
        torchrun --nproc_per_node 8 -m q2d2_tokenizer.commands.main tokenize owner/name --output tokens \\
            --licence cc-by-4.0 --device cuda

    Several nodes share the output folder. Output: token shards in data/, rejected rows in rejects/, and a data card.
    Back to audio: q2d2 decode-row.

    With --ray the work is done on the CPUs of a Ray cluster, with the same output, to the byte (ray start --head on the
    first node, ray start --address ADDRESS on the others; without a cluster Ray starts one of this machine alone). All
    nodes see the inputs and the output under the same paths.

    Args:
        inputs: Parquet files with an audio column, WebDataset tars, audio files, folders with these, globs, text files
            with one path a line, URLs of Parquet files or tars, or data sets of the Hub that are Parquet files.
        output: Folder to write; the beginning of the same job is continued.
        licence: Licence of the recordings, for the data card: an identifier of the Hub.
        ray: Work in a Ray cluster; needs --workers.
        workers: Number of processes of the Ray cluster, each with one CPU.
    """
    if ray != (workers is not None):
        raise ValueError("--ray and --workers go together: give both or none")
    summary = tokenize_corpus(inputs, output, licence, options=options, ray_workers=workers, **further)
    if summary:
        rejects = summary["input_rows"] - summary["token_rows"]
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejects"].items())
        print(
            f"{summary['input_rows']} rows = {summary['token_rows']} with tokens + {rejects} rejected"
            f"{f' ({reasons})' if reasons else ''}; {summary['hours']:.2f} h, {summary['tokens']} tokens, "
            f"{summary['shards']} shards in {output}"
        )
