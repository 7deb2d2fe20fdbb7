"""Measure a codec where it was not trained: noise, other languages, music, effects; all in one picture."""

import sys

from q2d2_tokenizer.commands.evaluate_domains import main

if __name__ == "__main__":
    sys.exit(main())
