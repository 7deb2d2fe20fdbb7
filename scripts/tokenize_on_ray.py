"""Tokenize a corpus on the CPUs of a Ray cluster; the output is that of scripts/tokenize_dataset.py, to the byte."""

import sys

from q2d2_tokenizer.commands.tokenize_on_ray import main

if __name__ == "__main__":
    sys.exit(main())
