"""Runs `q2d2 evaluate-lm`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate-lm", *sys.argv[1:]]))
