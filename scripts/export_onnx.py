"""Runs `q2d2 export-onnx`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["export-onnx", *sys.argv[1:]]))
