"""Fine-tune the bundled codec on your own recordings and measure what that gained on some that were held out."""

import sys

from q2d2_tokenizer.commands.finetune_codec import main

if __name__ == "__main__":
    sys.exit(main())
