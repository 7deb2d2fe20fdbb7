"""Decoder-only language models on speech tokens; reads token data sets and knows nothing of the codec."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from q2d2_tokenizer.auto_classes import when_imported

if TYPE_CHECKING:
    from .bundled import default_checkpoint

__all__ = ["default_checkpoint"]

# The module registers its model with them.
when_imported(__name__, {"transformers.models.auto.modeling_auto": lambda: import_module(".pairs", __name__)})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import bundled  # loads torch, which takes seconds

    return getattr(bundled, name)
