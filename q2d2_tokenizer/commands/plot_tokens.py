"""The command `q2d2 plot-tokens`."""

from pathlib import Path


def plot_tokens(folder: Path, *, output: Path, codec_fingerprint: str | None = None) -> None:
    """Draw how the tokens of a data set are used: histogram of every group, tokens per second, entropies.

        q2d2 plot-tokens tokens --output docs/results/tokens

    Writes tokens.png, tokens.md and tokens.json with command and commit; nothing in it is random. Shards are read in
    turn. Entropies are those of the counts, too low while tokens are not many times the codebook.

    Args:
        folder: Folder of the data set, as q2d2 tokenize wrote it.
        output: Folder for the results.
        codec_fingerprint: Fingerprint of a codec, as q2d2 info prints it; tokens of others are refused.
    """
    from ..evaluation.tokens import read_counts, write_results

    print(write_results(output, read_counts(folder, codec_fingerprint)))
