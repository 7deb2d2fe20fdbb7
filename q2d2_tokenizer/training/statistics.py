"""How many codes are in use, and how evenly."""

import math

import numpy as np


def entropy_of_counts(counts: np.ndarray) -> float:
    """Entropy in bits of the distribution with these counts, of any shape."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def corrected_entropy_of_counts(counts: np.ndarray) -> float:
    """As `entropy_of_counts`, with the first-order correction of Miller and Madow for the finite number.

    Source: G. Miller, "Note on the bias of information estimates", 1955.
    """
    return entropy_of_counts(counts) + (int((counts > 0).sum()) - 1) / (2 * float(counts.sum()) * math.log(2))


def entropy_bits(codes: np.ndarray) -> float:
    """Entropy in bits of the distribution of integers (N,)."""
    return entropy_of_counts(np.unique(codes, return_counts=True)[1])


def usage(codes: np.ndarray, codebook_size: int) -> dict[str, float]:
    """How many of the possible codes (N,) occur, their entropy in bits and the perplexity, two to that power.

    The entropy is that of the counts, an estimate that is too low while codes are not many times the codebook.
    """
    entropy = entropy_bits(codes)
    used = len(np.unique(codes))
    return {"size": codebook_size, "used": used, "entropy_bits": entropy, "perplexity": 2**entropy}
