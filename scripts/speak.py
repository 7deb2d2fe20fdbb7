"""Runs `q2d2 speak`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["speak", *sys.argv[1:]]))
