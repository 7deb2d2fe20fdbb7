"""Tokenize a corpus of any size into Parquet shards; resumes where it was stopped."""

import sys

from q2d2_tokenizer.commands.tokenize_dataset import main

if __name__ == "__main__":
    sys.exit(main())
