"""Undo the delay of a codec, and the length that it adds or takes."""

import numpy as np


def fit_length(audio: np.ndarray, size: int) -> np.ndarray:
    """Audio (N,), cut or padded with silence to a size (size,)."""
    return np.pad(audio[:size], (0, max(0, size - len(audio))))


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
    max_shift = min(max_shift, size // 2 - 1)
    lags = np.arange(-max_shift, max_shift + 1)
    lag = int(lags[np.argmax(correlation[lags])])
    shifted = reconstruction[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag, np.float32), reconstruction])
    return fit_length(shifted, len(reference)).astype(np.float32)
