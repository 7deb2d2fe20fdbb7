"""What the tokens of a data set look like: histogram of every grid, tokens per second, entropies."""

import sys

from q2d2_tokenizer.commands.plot_tokens import main

if __name__ == "__main__":
    sys.exit(main())
