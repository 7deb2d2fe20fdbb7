"""Processor of the codec: the feature extractor under the name `AutoProcessor` looks for."""

from typing import Any

from transformers import BatchFeature, ProcessorMixin

from .feature_extraction_q2d2 import Q2D2FeatureExtractor


class Q2D2Processor(ProcessorMixin):
    """Holds a [`Q2D2FeatureExtractor`] and calls it.

    Args:
        feature_extractor: What the processor calls.
    """

    def __init__(self, feature_extractor: Q2D2FeatureExtractor):
        super().__init__(feature_extractor)

    def __call__(self, audio: Any = None, **kwargs: Any) -> BatchFeature:
        """Same as the call of the feature extractor, [`Q2D2FeatureExtractor.__call__`]."""
        return self.feature_extractor(audio, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call returns."""
        return self.feature_extractor.model_input_names
