"""Fixtures of all tests: a tiny codec, speech-like audio, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models are slower on several cores; set before torch is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable

import numpy as np
import pytest
import torch

from q2d2_tokenizer import Q2D2Config, Q2D2Model


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for every test, whatever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def tiny_config() -> Q2D2Config:
    """Default architecture in small, with blocks so short that a second of audio takes several."""
    return Q2D2Config(
        hidden_size=32,
        encoder_kwargs={"depth": 2},
        decoder_kwargs={"dim": 32, "depth": 2},
        block_frames=16,
    )


@pytest.fixture
def tiny_model(tiny_config: Q2D2Config) -> Q2D2Model:
    """Codec of `tiny_config` with random weights that use many codes."""
    torch.manual_seed(0)
    model = Q2D2Model(tiny_config).eval()
    torch.nn.init.normal_(model.quantizer.project_in.weight, std=0.3)  # fresh weights give a handful of codes
    return model


@pytest.fixture
def speech_like() -> Callable[..., np.ndarray]:
    """Function `(num_samples, seed=0, sampling_rate=24000)` -> audio (N,) float32: syllables of harmonics and noise."""

    def make(num_samples: int, seed: int = 0, sampling_rate: int = 24000) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.arange(num_samples) / sampling_rate
        pitch_hz = rng.uniform(90, 200) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
        phase = 2 * np.pi * np.cumsum(pitch_hz) / sampling_rate
        voiced = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 25))
        syllables = np.sin(2 * np.pi * rng.uniform(1, 3) * time + rng.uniform(0, 6)) ** 2
        noise = rng.standard_normal(num_samples)
        return (0.1 * syllables * voiced + 0.03 * (1 - syllables) * noise).astype(np.float32)

    return make
