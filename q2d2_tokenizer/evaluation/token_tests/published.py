"""Published numbers of other codecs, with where they are from; perplexities as bits per second, where that is possible.

A perplexity says nothing without the vocabulary it is over, and nothing of a second of audio without the tokens of a
second: bits per second = tokens per second of all streams * log2(perplexity per token).
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Perplexity:
    """A published perplexity.

    Args:
        codec: The codec.
        perplexity: Per token.
        model: Size of the model and what it was measured on.
        source: Paper.
        tokens_per_second: Of all streams together; None if the paper does not tell of which streams the number is.
        nominal_bits: Of a token, log2 of its codebook; None if it is not told.
        problem: Why bits per second cannot be told; empty if they can.
    """

    codec: str
    perplexity: float
    model: str
    source: str
    tokens_per_second: float | None = None
    nominal_bits: float | None = None
    problem: str = ""

    @property
    def bits_per_second(self) -> float | None:
        """Bits that the model pays for a second of audio; None if nobody can tell."""
        if self.problem or self.tokens_per_second is None:
            return None
        return self.tokens_per_second * math.log2(self.perplexity)

    @property
    def nominal_bits_per_second(self) -> float | None:
        """Bits of the tokens of a second without a model."""
        if self.tokens_per_second is None or self.nominal_bits is None:
            return None
        return self.tokens_per_second * self.nominal_bits


_BENCH = "AudioCodecBench, arXiv 2509.02349"
_BENCH_MODEL = "10 layers x 768, LibriTTS"
_STREAMS = "a number for several streams, without how many of them and how they are averaged"
PERPLEXITIES = [
    Perplexity("WavTokenizer-40", 317.0, _BENCH_MODEL, _BENCH, 40.0, 12.0),
    Perplexity("EnCodec (mean)", 111.0, _BENCH_MODEL, _BENCH, problem=_STREAMS),
    Perplexity("DAC", 421.0, _BENCH_MODEL, _BENCH, problem=_STREAMS),
    Perplexity("Mimi", 270.0, _BENCH_MODEL, _BENCH, problem=_STREAMS),
    Perplexity("SpeechTokenizer", 24.0, _BENCH_MODEL, _BENCH, problem=_STREAMS),
    Perplexity("X-Codec", 56.0, _BENCH_MODEL, _BENCH, problem=_STREAMS),
    Perplexity("SemantiCodec", 15.0, _BENCH_MODEL, _BENCH, problem=_STREAMS),
    Perplexity(
        "WavTokenizer",
        148122.0,
        "a text LLM with added codes",
        "LLM-Codec, arXiv 2604.17852",
        nominal_bits=12.0,
        problem="17.2 bits for a code of 12: probability goes to the words of the LLM, which no audio token can be",
    ),
]

# Accuracy in percent of a linear layer on clip embeddings, protocol of ARCH; RAVDESS on a random split.
_SAC = "arXiv 2510.16841, table 3, from a secondary note"
PROBES = {
    "SAC": (57.99, 29.94, 99.52, _SAC),
    "XY-Tokenizer": (48.96, 17.98, 96.22, _SAC),
    "SemantiCodec": (44.79, 15.35, 98.19, _SAC),
    "HuBERT": (65.28, 33.75, 99.58, _SAC),
    "WavLM": (67.94, 30.98, 99.50, _SAC),
}
PROBE_SETS = ("RAVDESS", "SLURP", "AudioMNIST")

# Percent of equal tokens of a slice and of the whole recording; percent of edits of tokens under noise.
SLICES = {"FunCodec": 6.9, "SpeechTokenizer": 14.7, "DAC": 39.1, "EnCodec": 47.4, "DRI, two variants": (71.0, 88.8)}
SLICES_SOURCE = "DRI, arXiv 2409.19283"
EDITS = {"StableToken": 10.2, "S3": 26.2, "GLM-4-Voice": 31.1, "CosyVoice2": 38.7}
EDITS_SOURCE = "StableToken, ICLR 2026"

# Percent of SALMon pairs (200 a task) in which the original is likelier: gender, sentiment, speaker.
SALMON = {
    "WavTokenizer": (82.5, 71.0, 75.5),
    "EnCodec": (63.0, 53.5, 65.0),
    "Mimi": (88.0, 76.0, 85.5),
    "SQ-Codec": (83.0, 58.5, 84.5),
}
SALMON_TASKS = ("gender", "sentiment", "speaker")
SALMON_SOURCE = "DATES, arXiv 2506.10274"

# Bits per second of a causal model trained from scratch on train-clean-100, one seed.
SMALL_MODEL = {"parameters": 10.1e6, "bits_per_second": 594.7, "nominal_bits_per_second": 716.0}
