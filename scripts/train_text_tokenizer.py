"""Train the text tokenizer of a language model on the text column of Parquet files.

python scripts/train_text_tokenizer.py --data 'speech/*-train-*.parquet' --output runs/text.model
"""

import argparse
from pathlib import Path

import pyarrow.parquet

from lm.data import expand_shards
from lm.text import train_text_tokenizer


def main(argv: list[str] | None = None) -> None:
    """Read the texts, train, write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="Parquet files, folders or globs")
    parser.add_argument("--output", type=Path, required=True, help="File to write")
    parser.add_argument("--size", type=int, default=512, help="Number of pieces")
    arguments = parser.parse_args(argv)
    texts = []
    for path in expand_shards(arguments.data):
        texts += pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()
    tokenizer = train_text_tokenizer([text for text in texts if text], arguments.size)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(tokenizer.model)
    print(f"{arguments.output}: {tokenizer.size} pieces of {len(texts)} texts, fingerprint {tokenizer.fingerprint}")


if __name__ == "__main__":
    main()
