"""Decoder-only language models on speech tokens; reads token data sets and knows nothing of the codec."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundled import default_checkpoint

__all__ = ["default_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import bundled  # loads torch, which takes seconds

    return getattr(bundled, name)
