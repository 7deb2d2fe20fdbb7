"""Quality of a reconstruction: functions of two waveforms (N,) at one rate, and summaries with 95 % intervals.

`METRICS` names every metric, what it measures and the packages it needs: pip install 'q2d2-tokenizer[eval]', and
for the two that would pull in torchaudio or a compiler what `Metric.install` says.
"""

import contextlib
import importlib.util
import io
import math
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..training.losses import MelLoss
from ..training.statistics import entropy_bits, entropy_of_counts, usage  # noqa: F401  (summaries too)

METRIC_RATE = 16000
_NARROW_RATE = 8000
_MAX_SI_SDR_DB = 100.0
_STOI_OF_TOO_LITTLE_SPEECH = 1e-5  # what pystoi returns, with a warning, when it cannot measure
_SHORTEST_STOI_SECONDS = 0.3  # it needs 30 frames of 12.8 ms


def _resample(samples: np.ndarray, sampling_rate: int, rate: int) -> np.ndarray:
    import soxr

    return soxr.resample(samples, sampling_rate, rate).astype(np.float32)


def _pesq(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int, rate: int, mode: str) -> float:
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    if not (reference.any() and reconstruction.any()):
        return math.nan
    pair = (_resample(audio, sampling_rate, rate) for audio in (reference, reconstruction))
    try:
        return float(pesq(rate, *pair, mode))
    except (BufferTooShortError, NoUtterancesError):
        return math.nan


def pesq_wb(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2) after resampling to 16 kHz; NaN without an utterance or of silence."""
    return _pesq(reference, reconstruction, sampling_rate, METRIC_RATE, "wb")


def pesq_nb(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Narrow-band PESQ (ITU-T P.862.1) after resampling to 8 kHz; NaN without an utterance or of silence."""
    return _pesq(reference, reconstruction, sampling_rate, _NARROW_RATE, "nb")


def stoi(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), not extended; NaN for too little speech."""
    from pystoi import stoi as short_time_objective_intelligibility

    if len(reference) < _SHORTEST_STOI_SECONDS * sampling_rate:
        return math.nan
    value = float(short_time_objective_intelligibility(reference, reconstruction, sampling_rate, extended=False))
    return math.nan if value == _STOI_OF_TOO_LITTLE_SPEECH else value


def si_sdr(reference: np.ndarray, reconstruction: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, after removing means; NaN where one of the two is constant.

    Source: Le Roux et al., "SDR - half-baked or well done?", 2019. Differs: an upper limit, so that means are finite.
    """
    target, estimate = (audio.astype(np.float64) - audio.mean() for audio in (reference, reconstruction))
    energy = float(target @ target)
    if energy == 0 or not estimate.any():
        return math.nan
    projection = (estimate @ target) / energy * target
    signal, noise = float(projection @ projection), float(((estimate - projection) ** 2).sum())
    if signal == 0:
        return math.nan
    return -10 * math.log10(noise / signal + 10 ** (-_MAX_SI_SDR_DB / 10))


class LogMelDistance:
    """Mean absolute difference of log-mel spectrograms (natural logarithm, 1024-sample frames, 80 bands to 7.6 kHz).

    Higher bands are left out: recordings of 16 kHz, as those of LibriSpeech, hold nothing there, and two kinds of
    nothing differ little.
    """

    def __init__(self, sampling_rate: int):
        self._loss = MelLoss(sampling_rate, (1024,), (80,), 1e-3, highest=min(7600.0, sampling_rate / 2))

    def __call__(self, reference: np.ndarray, reconstruction: np.ndarray) -> float:
        pair = (torch.from_numpy(audio).view(1, 1, -1) for audio in (reconstruction, reference))
        return float(self._loss(*pair))


class PitchAgreement:
    """Error of the fundamental frequency, in cents, and F1 score of the decision voiced or unvoiced.

    Both tracks are of pYIN (Mauch and Dixon, 2014) at 16 kHz, 60 to 500 Hz, every 10 ms. The error is the mean absolute
    one over frames voiced in both; it is NaN without any, and F1 is NaN if neither has a voiced frame.
    """

    def __init__(self, sampling_rate: int):
        self._sampling_rate = sampling_rate
        self._reference: np.ndarray | None = None
        self._reference_track = np.zeros(0)

    def _track(self, audio: np.ndarray) -> np.ndarray:
        """Frequencies (T,) in Hz, NaN for unvoiced frames."""
        import librosa

        audio = _resample(audio, self._sampling_rate, METRIC_RATE)
        settings = {"sr": METRIC_RATE, "frame_length": 1024, "hop_length": METRIC_RATE // 100}
        return librosa.pyin(np.pad(audio, (0, max(0, 1024 - len(audio)))), fmin=60.0, fmax=500.0, **settings)[0]

    def __call__(self, reference: np.ndarray, reconstruction: np.ndarray) -> dict[str, float]:
        if reference is not self._reference:  # several codecs in a row are measured on the same recording
            self._reference, self._reference_track = reference, self._track(reference)
        wanted, found = self._reference_track, self._track(reconstruction)
        voiced, also_voiced = ~np.isnan(wanted), ~np.isnan(found)
        both, total = voiced & also_voiced, voiced.sum() + also_voiced.sum()
        cents = 1200 * np.abs(np.log2(found[both] / wanted[both]))
        return {
            "f0_error_cents": float(cents.mean()) if len(cents) else math.nan,
            "voicing_f1": float(2 * both.sum() / total) if total else math.nan,
        }


class DNSMOS:
    """Opinion scores predicted by DNSMOS P.835 (overall, speech, background) and P.808; of the reconstruction alone."""

    def __init__(self, sampling_rate: int):
        self._sampling_rate = sampling_rate

    def __call__(self, reference: np.ndarray | None, reconstruction: np.ndarray) -> dict[str, float]:
        from speechmos import dnsmos

        audio = _resample(reconstruction, self._sampling_rate, METRIC_RATE).clip(-1, 1)
        names = {
            "ovrl_mos": "dnsmos",
            "sig_mos": "dnsmos_speech",
            "bak_mos": "dnsmos_background",
            "p808_mos": "dnsmos_p808",
        }
        if not len(audio):  # it repeats short audio until it is long enough
            return dict.fromkeys(names.values(), math.nan)
        scores = dnsmos.run(audio, METRIC_RATE)
        return {name: float(scores[key]) for key, name in names.items()}


@contextlib.contextmanager
def _stand_in(module: str) -> Iterator[None]:
    """An empty module of that name while an import runs that names it and does not use it."""
    present = module in sys.modules
    sys.modules.setdefault(module, types.ModuleType(module))
    try:
        yield
    finally:
        if not present:
            del sys.modules[module]


class DistillMOS:
    """Opinion score predicted by DistillMOS (Stahl and Gamper, 2025); of the reconstruction alone."""

    def __init__(self, sampling_rate: int):
        # Only its command line uses torchaudio, whose versions are tied to those of torch.
        with _stand_in("torchaudio"), contextlib.redirect_stdout(io.StringIO()):
            from distillmos import ConvTransformerSQAModel

            self._model = ConvTransformerSQAModel().eval()
        self._sampling_rate = sampling_rate

    @torch.no_grad()
    def __call__(self, reference: np.ndarray | None, reconstruction: np.ndarray) -> float:
        audio = _resample(reconstruction, self._sampling_rate, METRIC_RATE)
        return float(self._model(torch.from_numpy(audio).unsqueeze(0)))


class SpeakerSimilarity:
    """Cosine of the speaker embeddings (Resemblyzer) of both, without long silences; NaN where one is silent."""

    def __init__(self, sampling_rate: int):
        from resemblyzer import VoiceEncoder

        self._encoder = VoiceEncoder("cpu", verbose=False)
        self._sampling_rate = sampling_rate

    def _embed(self, audio: np.ndarray) -> np.ndarray:
        from resemblyzer import preprocess_wav

        audio = _resample(audio, self._sampling_rate, METRIC_RATE)
        audio = preprocess_wav(audio).astype(np.float32) if audio.any() else audio[:0]
        return self._encoder.embed_utterance(audio) if len(audio) else np.full(256, math.nan)

    def __call__(self, reference: np.ndarray, reconstruction: np.ndarray) -> float:
        return float(self._embed(reference) @ self._embed(reconstruction))


@dataclass(frozen=True)
class Metric:
    """One entry of `METRICS`."""

    build: Callable[[int], Callable[[np.ndarray, np.ndarray], float | dict[str, float]]]
    """Function of a sampling rate in Hz that returns a function of reference (N,) and reconstruction (N,)."""
    modules: tuple[str, ...] = ()
    """What it imports besides the core dependencies."""
    install: str = "'q2d2-tokenizer[eval]'"
    """What to give to `pip install` if one of them is missing."""
    needs_reference: bool = True
    """Whether the reference is looked at."""

    def missing(self) -> list[str]:
        """Modules it needs that are not installed."""
        return [module for module in self.modules if importlib.util.find_spec(module) is None]


def _at(rate_last: Callable[[np.ndarray, np.ndarray, int], float]) -> Callable[[int], Callable]:
    """Builder of a metric that is a function of reference, reconstruction and rate."""
    return lambda rate: lambda reference, reconstruction: rate_last(reference, reconstruction, rate)


_RESEMBLYZER = ("resemblyzer", "librosa", "webrtcvad", "scipy")
METRICS: dict[str, Metric] = {
    "pesq_wb": Metric(_at(pesq_wb), ("pesq",)),
    "pesq_nb": Metric(_at(pesq_nb), ("pesq",)),
    "stoi": Metric(_at(stoi), ("pystoi",)),
    "log_mel": Metric(LogMelDistance),
    "si_sdr": Metric(lambda rate: si_sdr),
    "f0": Metric(PitchAgreement, ("librosa",)),
    "dnsmos": Metric(DNSMOS, ("speechmos", "onnxruntime", "librosa", "requests"), needs_reference=False),
    "distillmos": Metric(DistillMOS, ("distillmos", "xls_r_sqa"), "--no-deps distillmos xls-r-sqa", False),
    "speaker": Metric(SpeakerSimilarity, _RESEMBLYZER, "librosa webrtcvad-wheels && pip install --no-deps Resemblyzer"),
}

LOWER_IS_BETTER = {"log_mel", "f0_error_cents", "wer", "cer"}


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
    return np.pad(shifted, (0, max(0, len(reference) - len(shifted))))[: len(reference)].astype(np.float32)


def mean_and_interval(values: list[float]) -> dict[str, float]:
    """Number of values that are not NaN, their mean and the half-width of its 95 % interval (normal approximation)."""
    kept = np.array([value for value in values if not math.isnan(value)])
    if not len(kept):
        return {"n": 0, "mean": math.nan, "interval": math.nan}
    spread = float(kept.std(ddof=1)) if len(kept) > 1 else math.nan
    return {"n": len(kept), "mean": float(kept.mean()), "interval": 1.96 * spread / math.sqrt(len(kept))}


def ratio_and_interval(numerators: list[float], denominators: list[float]) -> dict[str, float]:
    """Number of pairs without NaN, the sum of one over that of the other, and the half-width of its 95 % interval.

    Such as word errors and words of clips: every word counts the same. The interval is that of a ratio estimator.
    """
    pairs = np.array([pair for pair in zip(numerators, denominators, strict=True) if not math.isnan(sum(pair))])
    pairs = pairs.reshape(-1, 2)
    if not pairs[:, 1].sum():
        return {"n": 0, "mean": math.nan, "interval": math.nan}
    ratio = float(pairs[:, 0].sum() / pairs[:, 1].sum())
    residuals = (pairs[:, 0] - ratio * pairs[:, 1]) / pairs[:, 1].mean()
    spread = math.sqrt(float((residuals**2).sum()) / (len(pairs) - 1)) if len(pairs) > 1 else math.nan
    return {"n": len(pairs), "mean": ratio, "interval": 1.96 * spread / math.sqrt(len(pairs))}


def share_and_interval(events: list[bool]) -> dict[str, float]:
    """Number of events, the share of those that happened, and the ends of its 95 % interval (Wilson).

    Unlike the normal approximation it is not empty where nothing or everything happened.
    """
    n, z = len(events), 1.96
    share = sum(events) / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return {"n": n, "share": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}
