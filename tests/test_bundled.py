"""The bundled codec on audio as users have it."""

import numpy as np
import pytest
import soxr
import torch

from q2d2_tokenizer import Q2D2Model, default_checkpoint, read_audio, sample_recording
from q2d2_tokenizer.losses import MelLoss

RATE = 24000


@pytest.fixture(scope="module")
def codec() -> Q2D2Model:
    """The bundled codec."""
    return Q2D2Model.from_pretrained(default_checkpoint()).eval()


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("gain", [0.25, 1.0])
def test_audio_without_high_frequencies_is_coded_as_well_as_with_them(codec, rate, gain):
    # What a resampler leaves above the old band is silence, a 16-bit file has its noise there.
    audio = gain * read_audio(sample_recording(), RATE)
    narrow = soxr.resample(soxr.resample(audio, RATE, rate), rate, RATE)[: len(audio)].astype(np.float32)
    as_file = (narrow * 32767).round().astype(np.int16).astype(np.float32) / 32768
    loss = MelLoss(RATE, (1024,), (80,), 1e-3)

    def distance(x: np.ndarray) -> float:
        values = torch.from_numpy(x).view(1, 1, -1)
        return loss(codec(values).audio_values, values).item()

    wide = distance(audio)
    assert distance(narrow) < 1.15 * wide
    assert distance(as_file) < 1.15 * wide
