"""Codecs of transformers (EnCodec, DAC, Mimi) from folders with their weights."""

import hashlib
import inspect
import math
from pathlib import Path

import soxr
import torch
from transformers import AutoFeatureExtractor, AutoModel

from .clips import Clip
from .codecs import Codec, Decoded


class TransformersCodec(Codec):
    """A model whose call takes what its feature extractor gives and returns `audio_values` and `audio_codes`.

    Args:
        name: What the results call it.
        spec: The folder, then settings of its call: "models/mimi,num_quantizers=8", "models/encodec,bandwidth=1.5".
    """

    def __init__(self, name: str, spec: str):
        folder, *settings = spec.split(",")
        if not Path(folder).is_dir():
            raise ValueError(
                f"{folder!r} of {name} is not a folder; nothing is downloaded, so put the model there first"
            )
        self.name = name
        self._settings = {key: float(value) for key, _, value in (item.partition("=") for item in settings)}
        self._settings = {key: int(value) if value.is_integer() else value for key, value in self._settings.items()}
        self._extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self._accepted = set(inspect.signature(self._model.forward).parameters)
        if unknown := set(self._settings) - self._accepted:
            raise ValueError(
                f"{type(self._model).__name__} takes no {sorted(unknown)}; it takes {sorted(self._accepted)}"
            )
        digest = hashlib.sha256(repr(sorted(self._settings.items())).encode())
        for path in sorted(Path(folder).glob("*.safetensors")) + sorted(Path(folder).glob("*.json")):
            digest.update(path.read_bytes())
        self._identity = digest.hexdigest()[:16]

    def identity(self, clip: Clip) -> str:
        return self._identity

    @torch.no_grad()
    def __call__(self, clip: Clip) -> Decoded:
        rate = self._extractor.sampling_rate
        audio = soxr.resample(clip.audio, clip.sampling_rate, rate)
        inputs = self._extractor(audio, sampling_rate=rate, return_tensors="pt")
        inputs = {name: value for name, value in inputs.items() if name in self._accepted}
        output = self._model(**inputs, **self._settings, return_dict=True)
        decoded = soxr.resample(output.audio_values.flatten().numpy(), rate, clip.sampling_rate)
        config = self._model.config
        levels = getattr(config, "quantization_levels", None)  # of X-codec2, which has no codebook
        bits = output.audio_codes.numel() * math.log2(math.prod(levels) if levels else config.codebook_size)
        return Decoded(decoded, {"code_bits": bits})
