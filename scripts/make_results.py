"""docs/RESULTS.md from the evaluation.json files of `evaluate_codec.py`, one section each."""

import sys

from q2d2_tokenizer.commands.make_results import main

if __name__ == "__main__":
    sys.exit(main())
