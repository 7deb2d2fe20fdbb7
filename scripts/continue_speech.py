"""Go on speaking from a recording: audio -> codes -> more codes -> wav, written while it is generated."""

import sys

from q2d2_tokenizer.commands.continue_speech import main

if __name__ == "__main__":
    sys.exit(main())
