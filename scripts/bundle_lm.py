"""Put a trained language model where `lm.default_checkpoint` finds it: float16 weights, layout, text tokenizer."""

import sys

from q2d2_tokenizer.commands.bundle_lm import main

if __name__ == "__main__":
    sys.exit(main())
