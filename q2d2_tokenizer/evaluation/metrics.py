"""Quality of a reconstruction: functions of two waveforms (N,) at one rate.

All resample by soxr. A score that cannot be measured is `NotMeasured`, a NaN with a reason. `METRICS` names every
metric, what it measures and the packages it needs: pip install 'q2d2-tokenizer[eval]', and for the two that would pull
in torchaudio or a compiler what `Metric.install` says.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..audio.voice import PULSE_SCORES, SIGNAL_SCORES, VOICE_SCORES, NotMeasured, Signal, Voice, level_db
from ..training.losses import MelLoss
from ..training.projected import load_distillmos
from .isolated import Isolated, ProcessEnded

METRIC_RATE = 16000
RESAMPLING = (
    "Scores at 8 and 16 kHz (PESQ, pitch, DNSMOS, DistillMOS, speaker, words) are after resampling by soxr, HQ."
)
_NARROW_RATE = 8000
_MAX_SI_SDR_DB = 100.0
_STOI_OF_TOO_LITTLE_SPEECH = 1e-5  # what pystoi returns, with a warning, when it cannot measure
_SHORTEST_STOI_SECONDS = 0.3  # it needs 30 frames of 12.8 ms
_SHORTEST_PESQ_SECONDS = 0.25
_LONGEST_PESQ_SECONDS = 20.0  # its C code has tables for 50 utterances, and writes on behind them
_SHORTEST_NISQA_SECONDS = 0.2
_LONGEST_NISQA_SECONDS = 50.0
_DNSMOS_SAMPLES, _DNSMOS_HOP = 144160, METRIC_RATE  # 9.01 s
_NISQA_WEIGHTS = Path("~/.torchmetrics/NISQA/nisqa.tar")  # where torchmetrics looks for them

_isolated = Isolated()


def _resample(samples: np.ndarray, sampling_rate: int, rate: int) -> np.ndarray:
    import soxr

    return soxr.resample(samples, sampling_rate, rate).astype(np.float32)


def windows(length: int, longest: float) -> list[slice]:
    """Parts of nearly equal size, as few as have no more than `longest` samples each."""
    count = max(1, math.ceil(length / longest))
    edges = [round(i * length / count) for i in range(count + 1)]
    return [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]


def _cannot(reference: np.ndarray, reconstruction: np.ndarray, shortest: float) -> NotMeasured | None:
    """Why a pair has no score, if it has none: silence, or less than `shortest` samples."""
    if len(reference) < shortest:
        return NotMeasured("too short")
    if not reference.any():
        return NotMeasured("the recording is silent")
    return None if reconstruction.any() else NotMeasured("the reconstruction is silent")


def _pesq(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int, rate: int, mode: str) -> float:
    if unmeasured := _cannot(reference, reconstruction, _SHORTEST_PESQ_SECONDS * sampling_rate):
        return unmeasured
    pair = [_resample(audio, sampling_rate, rate) for audio in (reference, reconstruction)]
    parts = windows(len(pair[0]), _LONGEST_PESQ_SECONDS * rate)
    scores = [_pesq_of_window(pair[0][part], pair[1][part], rate, mode) for part in parts]
    known = ~np.isnan(scores)
    lengths = np.array([part.stop - part.start for part in parts])
    return float(np.average(np.array(scores)[known], weights=lengths[known])) if known.any() else scores[0]


def _pesq_of_window(reference: np.ndarray, reconstruction: np.ndarray, rate: int, mode: str) -> float:
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    if not (reference.any() and reconstruction.any()):
        return NotMeasured("silence")
    try:
        return float(_isolated(pesq, rate, reference, reconstruction, mode))
    except (BufferTooShortError, NoUtterancesError):
        return NotMeasured("no utterance")
    except ProcessEnded:
        return NotMeasured("its program crashed")


def pesq_wb(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2) at 16 kHz; longer than 20 s, the mean over equal parts by their length."""
    return _pesq(reference, reconstruction, sampling_rate, METRIC_RATE, "wb")


def pesq_nb(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Narrow-band PESQ (ITU-T P.862.1) at 8 kHz; longer than 20 s, the mean over equal parts by their length."""
    return _pesq(reference, reconstruction, sampling_rate, _NARROW_RATE, "nb")


def stoi(reference: np.ndarray, reconstruction: np.ndarray, sampling_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), not extended; NaN for too little speech."""
    from pystoi import stoi as short_time_objective_intelligibility

    if unmeasured := _cannot(reference, reconstruction, _SHORTEST_STOI_SECONDS * sampling_rate):
        return unmeasured
    value = float(short_time_objective_intelligibility(reference, reconstruction, sampling_rate, extended=False))
    return NotMeasured("too little speech") if value == _STOI_OF_TOO_LITTLE_SPEECH else value


def si_sdr(reference: np.ndarray, reconstruction: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, after removing means; NaN where one of the two is constant.

    Source: Le Roux et al., "SDR - half-baked or well done?", 2019. Differs: an upper limit, so that means are finite.
    """
    target, estimate = (audio.astype(np.float64) - audio.mean() for audio in (reference, reconstruction))
    energy = float(target @ target)
    if energy == 0 or not estimate.any():
        return NotMeasured("silence")
    projection = (estimate @ target) / energy * target
    signal, noise = float(projection @ projection), float(((estimate - projection) ** 2).sum())
    if signal == 0:
        return NotMeasured("nothing in common")
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
    """Error of the pitch in cents, F1 score of the decision voiced or unvoiced, and share of voiced frames lost.

    Both tracks are of pYIN (Mauch and Dixon, 2014) at 16 kHz, 60 to 500 Hz, every 10 ms. The error is the mean absolute
    one over frames voiced in both. Lost is the share of voiced frames of the recording that are unvoiced in the
    reconstruction.
    """

    def __init__(self, sampling_rate: int):
        self._sampling_rate = sampling_rate
        self._reference: np.ndarray | None = None
        self._reference_track = np.zeros(0)

    def _track(self, audio: np.ndarray) -> np.ndarray:
        """Frequencies (T,) in Hz, NaN for unvoiced frames."""
        import librosa

        audio = _resample(audio, self._sampling_rate, METRIC_RATE)
        audio = np.pad(audio, (0, max(0, 1024 - len(audio))))
        hop = METRIC_RATE // 100
        track = librosa.pyin(audio, fmin=60.0, fmax=500.0, sr=METRIC_RATE, frame_length=1024, hop_length=hop)[0]
        # Silence with an offset has a pitch of `fmax` there; what moves by less than a step of 16 bits has none.
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, 512, mode="edge"), 1024)[::hop]
        track[np.ptp(frames[: len(track)], axis=1) < 2.0**-15] = np.nan
        return track

    def __call__(self, reference: np.ndarray, reconstruction: np.ndarray) -> dict[str, float]:
        if reference is not self._reference:  # several codecs in a row are measured on the same recording
            self._reference, self._reference_track = reference, self._track(reference)
        wanted, found = self._reference_track, self._track(reconstruction)
        voiced, also_voiced = ~np.isnan(wanted), ~np.isnan(found)
        both, total = voiced & also_voiced, voiced.sum() + also_voiced.sum()
        cents = 1200 * np.abs(np.log2(found[both] / wanted[both]))
        return {
            "f0_error_cents": float(cents.mean()) if len(cents) else NotMeasured("no frames voiced in both"),
            "voicing_f1": float(2 * both.sum() / total) if total else NotMeasured("no voiced frames"),
            "voiced_lost": 1 - float(both.sum() / voiced.sum()) if voiced.any() else NotMeasured("no voiced frames"),
        }


class DNSMOS:
    """Opinion scores predicted by DNSMOS P.835 (overall, speech, background) and P.808; of the reconstruction alone.

    They are means over windows of 9.01 s, one a second and one that ends with the clip.
    """

    NAMES = {
        "ovrl_mos": "dnsmos",
        "sig_mos": "dnsmos_speech",
        "bak_mos": "dnsmos_background",
        "p808_mos": "dnsmos_p808",
    }

    def __init__(self, sampling_rate: int):
        self._sampling_rate = sampling_rate

    def __call__(self, reference: np.ndarray | None, reconstruction: np.ndarray) -> dict[str, float]:
        from speechmos import dnsmos

        audio = _resample(reconstruction, self._sampling_rate, METRIC_RATE).clip(-1, 1)
        if not len(audio):
            return dict.fromkeys(self.NAMES.values(), NotMeasured("too short"))
        last = len(audio) - _DNSMOS_SAMPLES
        starts = [*range(0, last, _DNSMOS_HOP), last] if last > 0 else [0]  # it repeats short audio until it is enough
        scores = [dnsmos.run(audio[start:][: _DNSMOS_SAMPLES if last > 0 else None], METRIC_RATE) for start in starts]
        return {name: float(np.mean([score[key] for score in scores])) for key, name in self.NAMES.items()}


class DistillMOS:
    """Opinion score predicted by DistillMOS (Stahl and Gamper, 2025); of the reconstruction alone."""

    def __init__(self, sampling_rate: int):
        self._model = load_distillmos()
        self._sampling_rate = sampling_rate

    @torch.no_grad()
    def __call__(self, reference: np.ndarray | None, reconstruction: np.ndarray) -> float:
        audio = _resample(reconstruction, self._sampling_rate, METRIC_RATE)
        return float(self._model(torch.from_numpy(audio).unsqueeze(0)))


class NISQA:
    """Opinion score predicted by NISQA v2, and its parts; of the reconstruction alone, at its own sampling rate.

    Source: Mittag et al., Interspeech 2021. Weights are for measuring only (CC BY-NC-SA 4.0) and never downloaded.

    Raises:
        FileNotFoundError: If the weights are missing.
    """

    SCORES = ("nisqa", "nisqa_noisiness", "nisqa_discontinuity", "nisqa_coloration", "nisqa_loudness")

    def __init__(self, sampling_rate: int):
        if not _NISQA_WEIGHTS.expanduser().is_file():
            raise FileNotFoundError(
                f"the metric nisqa needs {_NISQA_WEIGHTS}, got no such file: put weights/nisqa.tar of the repository "
                "github.com/gabrielmittag/NISQA there (CC BY-NC-SA 4.0: not for commercial use), or leave out nisqa"
            )
        from torchmetrics.functional.audio.nisqa import non_intrusive_speech_quality_assessment

        self._measure = non_intrusive_speech_quality_assessment
        self._sampling_rate = sampling_rate

    def __call__(self, reference: np.ndarray | None, reconstruction: np.ndarray) -> dict[str, float]:
        if len(reconstruction) < _SHORTEST_NISQA_SECONDS * self._sampling_rate:
            return dict.fromkeys(self.SCORES, NotMeasured("too short"))
        parts = windows(len(reconstruction), _LONGEST_NISQA_SECONDS * self._sampling_rate)
        audio = np.ascontiguousarray(reconstruction, np.float32)
        scores = [self._measure(torch.from_numpy(audio[part]), self._sampling_rate).numpy() for part in parts]
        means = np.average(scores, axis=0, weights=[part.stop - part.start for part in parts])
        return dict(zip(self.SCORES, means.tolist(), strict=True))


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

    build: Callable[..., Callable[..., float | dict[str, float]]]
    """Function of a sampling rate in Hz that returns a function of reference (N,) and reconstruction (N,)."""
    modules: tuple[str, ...] = ()
    """What it imports besides the core dependencies."""
    install: str = "'q2d2-tokenizer[eval]'"
    """What to give to `pip install` if one of them is missing."""
    needs_reference: bool = True
    """Whether the reference is looked at."""
    scores: tuple[str, ...] = ()
    """Names of its scores, if it gives others than its own."""
    of_frames: bool = False
    """Whether `build` takes the frame rate of the codec as its second argument."""

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
    "f0": Metric(PitchAgreement, ("librosa",), scores=("f0_error_cents", "voicing_f1", "voiced_lost")),
    "level_db": Metric(lambda rate: level_db),
    "voice": Metric(Voice, scores=VOICE_SCORES),
    "signal": Metric(Signal, needs_reference=False, scores=SIGNAL_SCORES, of_frames=True),
    "dnsmos": Metric(
        DNSMOS,
        ("speechmos", "onnxruntime", "librosa", "requests"),
        needs_reference=False,
        scores=tuple(DNSMOS.NAMES.values()),
    ),
    "nisqa": Metric(NISQA, ("torchmetrics", "librosa", "requests"), needs_reference=False, scores=NISQA.SCORES),
    "distillmos": Metric(
        DistillMOS,
        ("distillmos", "xls_r_sqa"),
        "--no-deps distillmos xls-r-sqa",
        needs_reference=False,
    ),
    "speaker": Metric(SpeakerSimilarity, _RESEMBLYZER, "librosa webrtcvad-wheels && pip install --no-deps Resemblyzer"),
}

LOWER_IS_BETTER = {"log_mel", "f0_error_cents", "voiced_lost", "wer", "cer"}
LOWER_IS_BETTER |= {"phase_concentration", "peak", "clipped_share"}
BEST_AT: dict[str, float] = {name: 1.0 for name in (*VOICE_SCORES, "frame_line")} | {"level_db": 0.0}


# What of the training imitates a score, so that it flatters a codec that was trained with that.
_IMITATED_BY = dict.fromkeys(PULSE_SCORES, "pulse loss") | {
    "pesq_wb": "loudness loss",
    "pesq_nb": "loudness loss",
    "stoi": "envelope loss",
    "log_mel": "mel loss",
    "level_db": "level loss",
    "distillmos": "projected discriminators",
}


def imitated_by(score: str) -> str:
    """What of the training imitates a score; a dash for none."""
    return _IMITATED_BY.get(score, "–")
