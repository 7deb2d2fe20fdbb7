"""Q2D2: speech as one flat stream of integers, and back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioTokenization,
    AutoProcessor,
)

from .audio.reading import read_audio
from .audio.recordings import decode_to_file, encode_file
from .bundled import default_checkpoint, sample_recording
from .configuration_q2d2 import Q2D2Config
from .corpus.dataset_map import TokenizeAudio
from .export import export_checkpoint
from .feature_extraction_q2d2 import Q2D2FeatureExtractor
from .modeling_q2d2 import Q2D2DecoderOutput, Q2D2EncoderOutput, Q2D2Model, Q2D2Output
from .processing_q2d2 import Q2D2Processor

if TYPE_CHECKING:
    from .corpus.processes import tokenize_corpus
    from .evaluation.evaluate import evaluate_codec
    from .speech import TextToSpeech, speak, stream_speech

# Public names by their modules, which need extras and are imported when a name is used.
_LAZY = {
    "TextToSpeech": "speech",
    "evaluate_codec": "evaluation.evaluate",
    "speak": "speech",
    "stream_speech": "speech",
    "tokenize_corpus": "corpus.processes",
}

AutoConfig.register("q2d2", Q2D2Config, exist_ok=True)
AutoModel.register(Q2D2Config, Q2D2Model, exist_ok=True)
AutoModelForAudioTokenization.register(Q2D2Config, Q2D2Model, exist_ok=True)
AutoFeatureExtractor.register(Q2D2Config, Q2D2FeatureExtractor, exist_ok=True)
AutoProcessor.register(Q2D2Config, Q2D2Processor, exist_ok=True)

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


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
