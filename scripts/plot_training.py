"""Runs `q2d2 plot-training`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["plot-training", *sys.argv[1:]]))
