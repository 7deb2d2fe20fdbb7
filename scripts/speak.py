"""Read a text aloud with a language model: text -> codes -> wav, written while it is generated."""

import sys

from q2d2_tokenizer.commands.speak import main

if __name__ == "__main__":
    sys.exit(main())
