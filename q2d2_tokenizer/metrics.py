"""Quality of a reconstruction: functions of two waveforms (N,) at one rate, and summaries with 95 % intervals.

PESQ and STOI come from the packages `pesq` and `pystoi`: pip install 'q2d2-tokenizer[eval]'.
"""

import math

import numpy as np
import torch

from .losses import MelLoss

METRIC_RATE = 16000


def _at_metric_rate(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    import soxr

    return soxr.resample(samples, sampling_rate, METRIC_RATE).astype(np.float32)


def pesq_wb(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2) after resampling to 16 kHz; NaN where the reference holds no utterance."""
    from pesq import NoUtterancesError, pesq

    pair = (_at_metric_rate(audio, sampling_rate) for audio in (reference, reconstruction))
    try:
        return float(pesq(METRIC_RATE, *pair, "wb"))
    except NoUtterancesError:
        return math.nan


def stoi(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), not extended."""
    from pystoi import stoi as short_time_objective_intelligibility

    return float(short_time_objective_intelligibility(reference, reconstruction, sampling_rate, extended=False))


class LogMelDistance:
    """Mean absolute difference of log-mel spectrograms (natural logarithm, 1024-sample frames, 80 bands)."""

    def __init__(self, sampling_rate: int):
        self._loss = MelLoss(sampling_rate, (1024,), (80,), 1e-3)

    def __call__(self, reference: np.ndarray, reconstruction: np.ndarray) -> float:
        pair = (torch.from_numpy(audio).view(1, 1, -1) for audio in (reconstruction, reference))
        return float(self._loss(*pair))


def align(reference: np.ndarray, reconstruction: np.ndarray, max_shift: int) -> np.ndarray:
    """The reconstruction (N,), shifted by the lag of largest cross-correlation and cut or padded to the reference (N,).

    Args:
        reference: Samples (N,).
        reconstruction: Samples (M,), delayed by a constant.
        max_shift: Largest lag tried, in samples.
    """
    size = 1 << (len(reference) + len(reconstruction)).bit_length()
    spectrum = np.fft.rfft(reconstruction, size) * np.conj(np.fft.rfft(reference, size))
    correlation = np.fft.irfft(spectrum, size)
    lags = np.arange(-max_shift, max_shift + 1)
    lag = int(lags[np.argmax(correlation[lags])])
    shifted = reconstruction[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag, np.float32), reconstruction])
    return np.pad(shifted, (0, max(0, len(reference) - len(shifted))))[: len(reference)].astype(np.float32)


def mean_and_interval(values: list[float]) -> dict[str, float]:
    """Number of values that are not NaN, their mean and the half-width of its 95 % interval (normal approximation)."""
    kept = np.array([value for value in values if not math.isnan(value)])
    if not len(kept):
        return {"n": 0, "mean": math.nan, "interval": math.nan}
    spread = float(kept.std(ddof=1)) if len(kept) > 1 else math.nan
    return {"n": len(kept), "mean": float(kept.mean()), "interval": 1.96 * spread / math.sqrt(len(kept))}


def entropy_bits(codes: np.ndarray) -> float:
    """Entropy in bits of the distribution of integers (N,)."""
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
