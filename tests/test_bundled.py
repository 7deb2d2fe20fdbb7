"""The bundled codec on audio as users have it."""

import numpy as np
import pytest
import soxr
import torch

from q2d2_tokenizer import Q2D2Model, default_checkpoint, read_audio, sample_recording

RATE = 24000


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("gain", [0.25, 1.0])
def test_audio_from_a_resampler_has_about_the_tokens_of_the_same_in_a_file(rate, gain):
    # What a resampler leaves above the old band is silence, a 16-bit file has its noise there.
    codec = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    audio = gain * read_audio(sample_recording(), RATE)
    narrow = soxr.resample(soxr.resample(audio, RATE, rate), rate, RATE).astype(np.float32)
    as_file = (narrow * 32767).round().astype(np.int16).astype(np.float32) / 32768
    ours, those_of_file = (codec.encode(torch.from_numpy(x).view(1, 1, -1)).audio_codes for x in (narrow, as_file))
    assert (ours == those_of_file).float().mean() > 0.8


def test_every_code_of_the_bundled_codebook_is_a_point_of_its_own():
    codec = Q2D2Model.from_pretrained(default_checkpoint())
    codes = torch.arange(codec.config.codebook_size)
    points = codec.quantizer.lattices.indices_to_points(codec.quantizer.lattices.codes_to_indices(codes))
    assert len(points.unique(dim=0)) == len(codes)
    assert torch.equal(codec.quantizer.lattices.indices_to_codes(codec.quantizer.lattices.nearest(points)[1]), codes)
