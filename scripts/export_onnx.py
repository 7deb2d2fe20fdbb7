"""Export a codec to ONNX: encoder.onnx (audio -> tokens) and decoder.onnx (tokens -> audio), one file each."""

import sys

from q2d2_tokenizer.commands.export_onnx import main

if __name__ == "__main__":
    sys.exit(main())
