"""Runs `q2d2 train-text-tokenizer`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train-text-tokenizer", *sys.argv[1:]]))
