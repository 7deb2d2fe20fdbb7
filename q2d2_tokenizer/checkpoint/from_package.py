"""Lets `trust_remote_code=True` load this folder in a process that has not imported q2d2_tokenizer."""

from types import SimpleNamespace
from typing import Any

try:
    from q2d2_tokenizer import Q2D2Config, Q2D2FeatureExtractor, Q2D2Processor
except ImportError as error:
    raise ImportError(
        "this folder holds the weights of the package q2d2_tokenizer without its code, and the package is not "
        "installed: install it, or load a folder with weights and code, as made where it is installed by "
        "`q2d2 push NAME/CODEC --dry_run --output FOLDER`"
    ) from error


def _unmarked(cls: Any) -> SimpleNamespace:
    """A class whose code transformers is not to copy into everything that is saved later."""
    return SimpleNamespace(from_pretrained=cls.from_pretrained, register_for_auto_class=lambda *args: None)


Config, FeatureExtractor, Processor = map(_unmarked, (Q2D2Config, Q2D2FeatureExtractor, Q2D2Processor))
