"""Curves of a training run, of the codec or of a language model, from its log."""

import sys

from q2d2_tokenizer.commands.plot_training import main

if __name__ == "__main__":
    sys.exit(main())
