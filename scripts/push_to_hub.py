"""Publish a codec on the Hugging Face Hub, with its code and a model card, after a test that it loads on its own."""

import sys

from q2d2_tokenizer.commands.push_to_hub import main

if __name__ == "__main__":
    sys.exit(main())
