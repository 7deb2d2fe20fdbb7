"""Fixtures of all tests: a tiny codec and language model, speech-like audio, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models are slower on several cores; set before torch is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from language_models import TINY
from networks import TinyNetwork
from recordings import file_bytes

from lm.layout import Layout
from lm.model import LanguageModel, ModelSettings, make_language_model
from lm.text import train_text_tokenizer
from q2d2_tokenizer import Q2D2Config, Q2D2Model
from q2d2_tokenizer.training.projected import NETWORKS

NETWORKS["tiny"] = TinyNetwork  # the real ones are extras


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
def checkpoint(tiny_model, tmp_path) -> str:
    """Folder of the tiny codec."""
    tiny_model.save_pretrained(tmp_path / "codec")
    return str(tmp_path / "codec")


@pytest.fixture
def language_model(tiny_model) -> LanguageModel:
    """A tiny language model for the tiny codec; it rarely ends by itself."""
    text = train_text_tokenizer(["hello there, general", "you are a bold one"] * 10, 40)
    config = tiny_model.config
    layout = Layout(config.codebook_size, config.sampling_rate, tiny_model.fingerprint(), text.size, text.fingerprint)
    return LanguageModel(make_language_model(ModelSettings(**TINY | {"context": 128}), layout), layout, text)


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


@pytest.fixture
def corpus_file(speech_like, tmp_path) -> Path:
    """Twenty rows: rates and formats mixed, eight of them of no use."""
    rates = [8000, 16000, 22050, 24000, 44100, 48000]
    cells: list[bytes | None] = []
    for i in range(12):
        samples = speech_like(rates[i % 6] // 3, seed=i, sampling_rate=rates[i % 6])
        samples = np.stack([samples, samples], axis=1) if i % 4 == 1 else samples
        cells.append(file_bytes(samples, rates[i % 6], *[("WAV", "PCM_16"), ("FLAC", "PCM_16")][i % 2]))
    broken = np.full(1000, np.nan, dtype=np.float32)
    cells[3:3] = [None, b"", b"not audio", cells[0][:-50]]
    cells += [
        file_bytes(np.zeros(1000), 24000, "WAV", "PCM_16"),
        file_bytes(broken, 24000, "WAV", "FLOAT"),
        file_bytes(np.zeros(0), 24000, "WAV", "PCM_16"),
        file_bytes(np.tile(speech_like(24000), 5), 24000, "FLAC", "PCM_16"),
    ]
    audio = [{"bytes": cell, "path": None} for cell in cells]
    ids, text = [f"id{i}" for i in range(len(cells))], [f"text {i}" for i in range(len(cells))]
    pq.write_table(pa.table({"id": ids, "audio": audio, "text": text}), tmp_path / "corpus.parquet", row_group_size=8)
    return tmp_path / "corpus.parquet"
