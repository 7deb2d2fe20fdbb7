"""A codec and a language model as ONNX files that go on from call to call: what they remember goes in and comes out."""

from .codec import export_codec
from .language_model import export_language_model

__all__ = ["export_codec", "export_language_model"]
