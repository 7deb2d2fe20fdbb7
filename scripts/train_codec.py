"""Train a codec, or go on training one; resumes from the newest checkpoint in the output folder."""

import sys

from q2d2_tokenizer.commands.train_codec import main

if __name__ == "__main__":
    sys.exit(main())
