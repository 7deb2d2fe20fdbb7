"""Decoder-only language models on speech tokens; reads token data sets and knows nothing of the codec."""

from .bundled import default_checkpoint

__all__ = ["default_checkpoint"]
