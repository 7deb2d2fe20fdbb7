"""Q2D2: speech as one flat stream of integers, and back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .auto_classes import register

if TYPE_CHECKING:
    from .audio.reading import read_audio
    from .audio.recordings import decode_to_file, encode_file
    from .bundled import default_checkpoint, sample_recording
    from .configuration_q2d2 import Q2D2Config
    from .corpus.dataset_map import TokenizeAudio
    from .corpus.processes import tokenize_corpus
    from .evaluation.evaluate import evaluate_codec
    from .export import export_checkpoint
    from .feature_extraction_q2d2 import Q2D2FeatureExtractor
    from .modeling_q2d2 import Q2D2DecoderOutput, Q2D2EncoderOutput, Q2D2Model, Q2D2Output
    from .processing_q2d2 import Q2D2Processor
    from .speech import TextToSpeech, speak, stream_speech

# Public names by their modules, which are imported when a name is used: torch and transformers take seconds.
_MODULES = {
    "Q2D2Config": "configuration_q2d2",
    "Q2D2DecoderOutput": "modeling_q2d2",
    "Q2D2EncoderOutput": "modeling_q2d2",
    "Q2D2FeatureExtractor": "feature_extraction_q2d2",
    "Q2D2Model": "modeling_q2d2",
    "Q2D2Output": "modeling_q2d2",
    "Q2D2Processor": "processing_q2d2",
    "TextToSpeech": "speech",
    "TokenizeAudio": "corpus.dataset_map",
    "decode_to_file": "audio.recordings",
    "default_checkpoint": "bundled",
    "encode_file": "audio.recordings",
    "evaluate_codec": "evaluation.evaluate",
    "export_checkpoint": "export",
    "read_audio": "audio.reading",
    "sample_recording": "bundled",
    "speak": "speech",
    "stream_speech": "speech",
    "tokenize_corpus": "corpus.processes",
}
__all__ = [
    "Q2D2Config",
    "Q2D2DecoderOutput",
    "Q2D2EncoderOutput",
    "Q2D2FeatureExtractor",
    "Q2D2Model",
    "Q2D2Output",
    "Q2D2Processor",
    "TextToSpeech",
    "TokenizeAudio",
    "decode_to_file",
    "default_checkpoint",
    "encode_file",
    "evaluate_codec",
    "export_checkpoint",
    "read_audio",
    "sample_recording",
    "speak",
    "stream_speech",
    "tokenize_corpus",
]

register()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
