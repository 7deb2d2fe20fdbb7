"""Audio of one row of a token data set."""

import sys

from q2d2_tokenizer.commands.decode_row import main

if __name__ == "__main__":
    sys.exit(main())
