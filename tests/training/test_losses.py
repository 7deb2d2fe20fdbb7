"""The losses of codec training: what they hear, what they forgive, and their gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from pesq import pesq

import q2d2_tokenizer
from q2d2_tokenizer.layers import frame_signal
from q2d2_tokenizer.training.losses import EnvelopeLoss, MelLoss, PulseLoss, spectrogram
from q2d2_tokenizer.training.loudness import LoudnessLoss

RATE = 24000
SAMPLE = Path(q2d2_tokenizer.__file__).parent / "samples" / "arctic_a0009.wav"


def test_mel_loss_is_zero_for_equal_audio_and_grows_with_the_difference():
    loss = MelLoss(RATE, (512, 1024), (40, 80), 1e-3)
    audio = torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(0)) * 0.1
    assert loss(audio, audio) == 0
    differences = [loss(audio * gain, audio).item() for gain in (0.9, 0.5, 0.1)]
    assert differences == sorted(differences)
    assert differences[1] == pytest.approx(np.log(2), rel=0.05)  # half the amplitude, log 2 in every band


@pytest.mark.parametrize("n_fft, hop", [(256, 64), (768, 384)])
def test_gradient_of_the_spectrogram_is_that_of_autograd(n_fft: int, hop: int):
    audio = torch.randn(2, 1, 9 * hop, requires_grad=True)
    window = torch.hann_window(n_fft)
    spectrum = spectrogram(audio, hop, window)
    expected = torch.fft.rfft(frame_signal(audio.squeeze(1), n_fft, hop) * window)
    assert torch.equal(spectrum, expected)
    wanted = torch.randn_like(spectrum)
    ours, reference = (torch.autograd.grad(x, audio, wanted)[0] for x in (spectrum, expected))
    assert torch.allclose(ours, reference, atol=1e-4)


def test_mel_loss_has_finite_gradients_for_silence():
    audio = torch.zeros(1, 1, 4096, requires_grad=True)
    MelLoss(RATE, (512,), (40,), 1e-3)(audio, torch.zeros(1, 1, 4096)).backward()
    assert torch.isfinite(audio.grad).all()


@pytest.mark.parametrize("loss", [MelLoss(RATE, (512,), (40,), 1e-3), LoudnessLoss(RATE)])
def test_spectral_losses_are_the_same_under_autocast(loss):
    real, fake = 0.1 * torch.randn(2, 1, 1, 4096, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(fake, real)
    assert torch.equal(value, loss(fake, real))


def test_loudness_bands_cover_the_spectrum_once():
    loss = LoudnessLoss(RATE)
    covered = (loss.filters > 0).sum(1)
    frequencies = torch.arange(len(covered)) * RATE / loss.n_fft
    assert (covered[(frequencies > 0) & (frequencies < 8_000)] == 1).all()
    assert (covered[frequencies >= 8_000] == 0).all() and covered[0] == 0
    assert (loss.filters > 0).any(0)[1:].all()


@pytest.mark.parametrize("rate", [16_000, RATE])
def test_loudness_loss_is_pesq_but_for_what_it_says(rate, monkeypatch):
    speech = soxr.resample(*soundfile.read(SAMPLE, dtype="float32"), 16_000)
    monkeypatch.setattr(LoudnessLoss, "BEYOND_LIMIT", 0.0)
    monkeypatch.setattr(LoudnessLoss, "FORGIVEN_COLOUR", 100.0)
    loss, rng = LoudnessLoss(rate), np.random.default_rng(0)
    rumble = np.cumsum(rng.standard_normal(len(speech)))
    rumble -= np.convolve(rumble, np.ones(1600) / 1600, "same")
    worse = [speech + level * rng.standard_normal(len(speech)) for level in (3e-4, 1e-3, 3e-3)]
    worse += [speech + 0.01 * rumble / rumble.std(), np.convolve(speech, [0.3, 0.4, 0.3], "same")]
    worse += [np.clip(speech, -0.05, 0.05), 1.5 * np.roll(speech, 20)]
    for degraded in (audio.astype(np.float32) for audio in worse):
        pair = (torch.from_numpy(soxr.resample(audio, 16_000, rate)).view(1, 1, -1) for audio in (degraded, speech))
        score = 0.999 + 4 / (1 + math.exp(-1.3669 * (4.5 - loss(*pair)) + 3.8224))
        assert score == pytest.approx(pesq(16_000, speech, degraded, "wb"), abs=0.15)


def test_loudness_loss_hears_all_of_a_segment():
    rng = torch.Generator().manual_seed(0)
    speech, loss = 0.1 * torch.randn(1, 1, 40_960, generator=rng), LoudnessLoss(RATE)
    for start in range(0, 40_960 - 2_000, 2_000):
        burst = torch.zeros_like(speech)
        burst[..., start : start + 2_000] = 0.3 * torch.randn(2_000, generator=rng)
        assert loss(speech + burst, speech) > 0.1, start
    for size in (100, 384, 9_000):
        assert loss(2 * speech[..., :size] + 0.1, speech[..., :size]) > 0


def test_loudness_loss_does_not_raise_pauses_to_the_level_of_speech():
    rng = torch.Generator().manual_seed(0)
    real, noise = torch.randn(2, 1, 1, RATE, generator=rng)

    def pull(level: float) -> float:
        audio = (level * (0.8 * real + 0.6 * noise)).requires_grad_()
        return torch.autograd.grad(LoudnessLoss(RATE)(audio, level * real), audio)[0].norm().item()

    assert 0 < pull(1e-1) < 100 and pull(1e-4) < 100 * pull(1e-1)  # a thousand times if levels were made equal


def test_loudness_loss_refuses_rates_that_miss_what_it_hears():
    with pytest.raises(ValueError, match="needs a sampling rate of at least 16000 Hz, got 8000; train without it"):
        LoudnessLoss(8_000)


def test_loudness_loss_hears_what_a_listener_hears():
    rng = torch.Generator().manual_seed(0)
    loss, noise = LoudnessLoss(RATE), torch.randn(2, 1, RATE, generator=rng)
    time = torch.arange(RATE) / RATE
    tones = 0.05 * sum(torch.sin(2 * torch.pi * f * time) for f in (300.0, 700.0, 1500.0)).expand(2, 1, -1)
    assert loss(tones, tones) < 0.01
    audible = [loss(tones + level * noise, tones).item() for level in (1e-3, 1e-2, 1e-1)]
    assert audible == sorted(audible) and audible[0] > 0.1
    hiss = loss(tones + 1e-6 * noise, tones)  # below the threshold in quiet
    assert hiss < 0.01
    assert loss(4 * tones + 4e-2 * noise, 4 * tones).item() == pytest.approx(audible[1], rel=1e-2)
    high, low = (loss(tones + 0.1 * torch.sin(2 * torch.pi * f * time), tones) for f in (10_000, 3_000))
    assert high < 0.1 * low  # above the last band; the abrupt ends are heard


def test_loudness_loss_counts_what_is_added_more_than_what_is_missing():
    time = torch.arange(RATE) / RATE
    one = 0.05 * torch.sin(2 * torch.pi * 500 * time).view(1, 1, -1)
    two = one + 0.01 * torch.sin(2 * torch.pi * 2_000 * time)
    loss = LoudnessLoss(RATE)
    assert loss(two, one) > 1.5 * loss(one, two)


def test_loudness_loss_has_finite_gradients_for_silence():
    audio = torch.zeros(1, 1, 4096, requires_grad=True)
    LoudnessLoss(RATE)(audio, torch.zeros(1, 1, 4096)).backward()
    assert torch.isfinite(audio.grad).all()


def test_envelope_loss_asks_for_the_modulation_and_not_for_the_level():
    rng = torch.Generator().manual_seed(0)
    loss, noise = EnvelopeLoss(RATE), torch.randn(2, 1, RATE, generator=rng)
    swell = 0.1 * (1 + torch.sin(2 * torch.pi * 4 * torch.arange(RATE) / RATE)) * noise
    assert loss(swell, swell) < 1e-3 and loss(2 * swell, swell) < 1e-3
    assert 0.1 < loss(swell + 0.1 * torch.randn(2, 1, RATE, generator=rng), swell) < loss(0.1 * noise, swell)
    short = torch.zeros(1, 1, 4096, requires_grad=True)
    loss(short, swell[:1, :, :4096]).backward()
    assert torch.isfinite(short.grad).all()


@pytest.mark.parametrize("num_samples", [20000, 20480, 40960])
def test_envelope_loss_hears_a_segment_to_its_end(num_samples):
    audio = torch.rand(1, 1, num_samples, requires_grad=True)
    EnvelopeLoss(24000)(audio, torch.rand(1, 1, num_samples)).backward()
    assert (audio.grad != 0).nonzero()[-1, -1] >= num_samples - 10


def _pulses(pitch: float, delay: float = 0.0) -> torch.Tensor:
    """A second of noise (1, 1, N) that swells for a millisecond in every period, on a quiet floor."""
    noise = 0.1 * torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(0))
    phase = (torch.arange(RATE) / RATE - delay) * pitch % 1
    return noise * (0.1 + (phase < 0.001 * pitch))


def test_pulse_loss_hears_pulses_wherever_they_are():
    loss, wanted = PulseLoss(RATE), _pulses(120)
    assert loss(wanted, wanted) == 0 and loss(0.3 * wanted, wanted) < 0.02
    smooth = wanted.square().mean().sqrt() * torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(1))
    assert loss(_pulses(120, delay=0.004), wanted) < 0.2 < 0.5 < loss(smooth, wanted)
    assert loss(_pulses(170), wanted) > 0.5


@pytest.mark.parametrize("num_samples", [100, 4096])
def test_pulse_loss_has_finite_gradients_for_silence(num_samples):
    audio = torch.zeros(1, 1, num_samples, requires_grad=True)
    PulseLoss(RATE)(audio, torch.zeros(1, 1, num_samples)).backward()
    assert torch.isfinite(audio.grad).all()
