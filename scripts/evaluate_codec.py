"""Measure a codec on recordings, next to Opus, Codec2 and folders of audio that other codecs decoded."""

import sys

from q2d2_tokenizer.commands.evaluate_codec import main

if __name__ == "__main__":
    sys.exit(main())
