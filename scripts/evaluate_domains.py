"""Runs `q2d2 evaluate-domains`; see --help."""

import sys

from q2d2_tokenizer.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate-domains", *(word for word in sys.argv[1:] if word != "--")]))
