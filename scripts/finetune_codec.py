"""Runs `q2d2 finetune`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
