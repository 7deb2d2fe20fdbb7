"""Runs `q2d2 align`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["align", *sys.argv[1:]]))
