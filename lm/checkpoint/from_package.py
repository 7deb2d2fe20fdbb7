"""Lets `trust_remote_code=True` load this folder in a process that has not imported lm."""

from types import SimpleNamespace

try:
    from lm.pairs import PairLlamaConfig
except ImportError as error:
    raise ImportError(
        "this folder holds the weights of the package lm, which comes with q2d2_tokenizer, without its code, and the "
        "package is not installed: install q2d2-tokenizer"
    ) from error

# Not the class itself, whose code transformers would copy into everything that is saved later.
Config = SimpleNamespace(from_pretrained=PairLlamaConfig.from_pretrained, register_for_auto_class=lambda *args: None)
