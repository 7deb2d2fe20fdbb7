"""Runs `q2d2 bundle-lm`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["bundle-lm", *sys.argv[1:]]))
