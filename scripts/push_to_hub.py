"""Runs `q2d2 push`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
