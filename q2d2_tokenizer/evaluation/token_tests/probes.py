"""What a linear layer reads from frozen representations, after the protocol of ARCH.

A clip is cut or padded with silence, its representation is averaged over time, and one linear layer is trained on it:
AdamW, rate 1e-3 with 10 % warm-up and linear decay, batches of 32, at most 200 epochs, no choice of the best epoch.

Source: ARCH, arXiv 2405.00934, written from its description. Differs: see `fit_probes`.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ...audio.reading import read_audio
from ...modeling_q2d2 import Q2D2Model
from ...training.projected import WhisperFeatures, to_16_khz
from ..alignment import fit_length
from ..statistics import mean_and_interval
from .sets import SETS, Item, read_set

BATCH, EPOCHS, RATE, WARM_UP = 32, 200, 1e-3, 0.1
FOLDS, TEST_SHARE = 5, 0.2
RECOGNIZER = "Whisper tiny.en encoder"
DISJOINT, RANDOM = "speaker-disjoint", "random 80/20"

Split = tuple[np.ndarray, np.ndarray]


class Representations:
    """Embeddings (D,) of audio (N,), each the mean over time of one representation, by its name.

    Args:
        codec: The codec under test.
        seed: Of the weights of the untrained one.
    """

    def __init__(self, codec: Q2D2Model, seed: int = 0):
        torch.manual_seed(seed)
        self._codec, self._untrained = codec, Q2D2Model(codec.config).eval()
        try:
            self._whisper: WhisperFeatures | None = WhisperFeatures().eval()
        except ModuleNotFoundError:  # the page says that the row is missing
            self._whisper = None

    @torch.inference_mode()
    def __call__(self, audio: np.ndarray) -> dict[str, np.ndarray]:
        codec, rate = self._codec, self._codec.config.sampling_rate
        lattices = cast(Any, codec.quantizer).lattices
        samples = torch.from_numpy(audio).view(1, 1, -1)
        frames = F.pad(samples, (0, -len(audio) % codec.config.hop_length))
        codes = codec.encode(samples).audio_codes[:, 0]
        indices = lattices.codes_to_indices(codes)
        log_mel = _log_mel(audio, rate)
        found = {
            "quantized latents": _mean(codec.quantizer.decode(codes)),
            "lattice points": _mean(lattices.indices_to_points(indices) / lattices.half_width),
            "histogram of points": histogram(indices[0], lattices.points_per_group),
            "encoder, before the grid": _mean(codec.encoder(frames, exact=False)),
            "our encoder, random weights": _mean(self._untrained.encoder(frames, exact=False)),
            "log-mel": log_mel.mean(1),
            "MFCC": _mfcc(log_mel),
        }
        if self._whisper:
            features = self._whisper(to_16_khz(samples[:, 0], rate))[-1]  # (1, 384, 1, T)
            found[RECOGNIZER] = features[0, :, 0].mean(1).numpy()
        return found


def _mean(frames: Tensor) -> np.ndarray:
    """Mean (D,) of frames (1, T, D)."""
    return frames[0].mean(0).numpy()


def histogram(indices: Tensor, points_per_group: list[int]) -> np.ndarray:
    """Shares (sum of G_j,) of the points of every group among indices (T, P)."""
    pairs = zip(indices.T, points_per_group, strict=True)
    counts = [torch.bincount(index, minlength=size) for index, size in pairs]
    return (torch.cat(counts) / len(indices)).numpy()


def _log_mel(audio: np.ndarray, rate: int) -> np.ndarray:
    """Log-mel spectrogram (80, T)."""
    import librosa

    return librosa.power_to_db(librosa.feature.melspectrogram(y=audio, sr=rate, n_fft=1024, hop_length=256, n_mels=80))


def _mfcc(log_mel: np.ndarray) -> np.ndarray:
    """Cepstral coefficients (40,) of a log-mel spectrogram (80, T), averaged over time."""
    import librosa

    return librosa.feature.mfcc(S=log_mel, n_mfcc=40).mean(1)


def speaker_folds(speakers: list[str], count: int = FOLDS) -> list[Split]:
    """Training and test numbers of folds in which no speaker is on both sides."""
    names = sorted(set(speakers))
    fold = np.array([names.index(speaker) % min(count, len(names)) for speaker in speakers])
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(fold.max() + 1)]


def random_split(size: int, seed: int) -> Split:
    """Training and test numbers of a random split, whoever speaks."""
    order = np.random.default_rng(seed).permutation(size)
    test = round(TEST_SHARE * size)
    return np.sort(order[test:]), np.sort(order[:test])


def fit_probes(features: np.ndarray, labels: np.ndarray, train: list[np.ndarray], seed: int = 0) -> np.ndarray:
    """Predictions (F, N) for all clips of one linear layer per set of training clips; all are trained at once.

    All take as many steps as the smallest set takes for `EPOCHS` epochs, so that the others see a little less.

    Args:
        features: (F, N, D): those of each fit, which may be scaled by its training clips.
        labels: Classes (N,).
        train: Training clips of each fit.
        seed: Of the order of the clips.
    """
    torch.manual_seed(seed)
    x, y, fits = torch.from_numpy(features).float(), torch.from_numpy(labels), len(train)
    classes, dim = int(labels.max()) + 1, features.shape[2]
    bound = dim**-0.5  # as nn.Linear
    weight = torch.empty(fits, dim, classes).uniform_(-bound, bound).requires_grad_()
    bias = torch.empty(fits, 1, classes).uniform_(-bound, bound).requires_grad_()
    steps = EPOCHS * -(-min(map(len, train)) // BATCH)
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, fused=True)
    warm_up = max(1, round(WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))
    )
    rng, rows = np.random.default_rng(seed), torch.arange(fits).unsqueeze(1)
    size = min(BATCH, *map(len, train))
    batches = torch.from_numpy(np.stack([_order(one, steps * size, rng) for one in train])).view(fits, steps, size)
    for step in range(steps):
        chosen = batches[:, step]
        logits = torch.baddbmm(bias, x[rows, chosen], weight)
        loss = F.cross_entropy(logits.flatten(0, 1), y[chosen].flatten(), reduction="sum") / size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return torch.baddbmm(bias, x, weight).argmax(-1).numpy()


def _order(clips: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """That many clips (count,), epoch after epoch, each in a new order."""
    epochs = -(-count // len(clips))
    return np.concatenate([rng.permutation(clips) for _ in range(epochs)])[:count]


def scaled(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features (N, D) with mean 0 and deviation 1 over the training clips; what is constant there stays 0."""
    mean, deviation = features[train].mean(0), features[train].std(0)
    return (features - mean) / np.where(deviation > 1e-9, deviation, np.inf)


def macro_f1(wanted: np.ndarray, found: np.ndarray) -> float:
    """Mean over the classes (of `wanted`) of the F1 score, 0 for one that is never found."""
    scores = []
    for label in np.unique(wanted):
        hits = ((wanted == label) & (found == label)).sum()
        scores.append(2 * hits / ((wanted == label).sum() + (found == label).sum()))
    return float(np.mean(scores))


def probe(features: np.ndarray, labels: np.ndarray, speakers: list[str], seed: int = 0) -> dict[str, Any]:
    """Accuracy and macro-F1 of one representation, with and without scaling, by split.

    Args:
        features: (N, D).
        labels: Classes (N,).
        speakers: Of each clip; without their names there is no speaker-disjoint split.
        seed: Of split and training.
    """
    folds = speaker_folds(speakers) if all(speakers) else []
    splits = [*folds, random_split(len(labels), seed)]
    train = [part for part, _ in splits]
    inputs = np.stack([*[features] * len(train), *(scaled(features, part) for part in train)])
    found = fit_probes(inputs, labels, [*train, *train], seed)
    result: dict[str, Any] = {}
    for offset, kind in enumerate(("as it is", "scaled")):
        rows = found[offset * len(splits) : (offset + 1) * len(splits)]
        if folds:
            tested = np.concatenate([test for _, test in folds])
            guesses = np.concatenate([row[test] for row, (_, test) in zip(rows, folds, strict=False)])
            result[f"{DISJOINT}, {kind}"] = _scores(labels[tested], guesses, [speakers[i] for i in tested])
        test = splits[-1][1]
        result[f"{RANDOM}, {kind}"] = _scores(labels[test], rows[-1][test], None)
    return result


def _scores(wanted: np.ndarray, found: np.ndarray, speakers: list[str] | None) -> dict[str, Any]:
    accuracy = mean_and_interval((wanted == found).astype(float).tolist(), speakers)
    return {"accuracy": accuracy, "macro_f1": macro_f1(wanted, found)}


def measure_set(name: str, folder: Path, codec: Q2D2Model, most: int, seed: int = 0) -> dict[str, Any]:
    """Probes of all representations on one set.

    Args:
        name: Name in `SETS`.
        folder: Where the set is.
        codec: The codec under test.
        most: Largest number of clips.
        seed: Of untrained weights, split and training.
    """
    items, represent = read_set(name, folder, most), Representations(codec, seed)
    names, labels = np.unique([item.label for item in items], return_inverse=True)
    rows = [
        represent(load_clip(item, codec.config.sampling_rate, SETS[name].seconds))
        for item in tqdm(items, desc=name, disable=None)
    ]
    speakers, counts = [item.speaker for item in items], np.bincount(labels)
    probes = {}
    for key in tqdm(rows[0], desc=f"{name}: probes", disable=None):
        features = np.stack([row[key] for row in rows])
        probes[key] = {"dimensions": features.shape[1], "splits": probe(features, labels, speakers, seed)}
    return {
        "set": name,
        "clips": len(items),
        "speakers": len(set(speakers) - {""}),
        "classes": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "majority": float(counts.max() / len(items)),
        "probes": probes,
    }


def load_clip(item: Item, rate: int, seconds: float) -> np.ndarray:
    """Audio of a recording, cut or padded with silence to a length."""
    return fit_length(read_audio(item.path, rate), round(seconds * rate))
