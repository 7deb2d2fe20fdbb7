"""Train the text tokenizer of a language model on the text column of Parquet files."""

import sys

from q2d2_tokenizer.commands.train_text_tokenizer import main

if __name__ == "__main__":
    sys.exit(main())
