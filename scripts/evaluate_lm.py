"""Measure a language model: bits of held-out tokens, and the speech it generates next to recordings and codec."""

import sys

from q2d2_tokenizer.commands.evaluate_lm import main

if __name__ == "__main__":
    sys.exit(main())
