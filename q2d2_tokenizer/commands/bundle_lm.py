"""Put a trained language model where `lm.default_checkpoint` finds it: float16 weights, layout, text tokenizer.

python scripts/bundle_lm.py runs/lm/weights
"""

import argparse
from pathlib import Path

import lm
from lm.bundled import export_checkpoint
from lm.model import LanguageModel

LARGEST_MB = 60


def main(argv: list[str] | None = None) -> None:
    """Convert, and refuse what is too large for a package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder of a trained model: output/weights of a run")
    parser.add_argument("--output", type=Path, default=Path(lm.__file__).parent / "checkpoint", help="folder to write")
    args = parser.parse_args(argv)
    language_model = LanguageModel.load(args.weights)
    parameters = language_model.model.num_parameters()
    if parameters * 2 > LARGEST_MB * 1e6:
        parser.error(f"{parameters / 1e6:.1f} M parameters take more than {LARGEST_MB} MB in float16")
    size = export_checkpoint(language_model, args.output)
    print(f"{args.output}: {parameters / 1e6:.1f} M parameters, {size / 1e6:.1f} MB")
