"""How many tokens stay the same when a recording is cut, shifted, disturbed or encoded again."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm

from ...lattices import build_groups, lattice_neighbours
from ...modeling_q2d2 import Q2D2Model
from ..asr import edit_distance
from ..clips import Clip
from ..metrics import METRICS
from ..statistics import mean_and_interval
from .changes import Change, all_changes

EQUAL, NEAR, ELSEWHERE = "equal", "off by one cell", "elsewhere"
SLICE_SECONDS = (0.2, 1.0, 3.0)
SHIFT_SAMPLES = 48  # 2 ms at 24 kHz
ROUNDS = 10
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Row = dict[str, Any]
Measure = Callable[..., Row]
_SCORES = ("stoi", "log_mel")


class Comparison:
    """Compares the tokens of two versions of a recording, on a lattice.

    Args:
        codec: Its quantizer has lattices.

    Raises:
        ValueError: If it has none.
    """

    def __init__(self, codec: Q2D2Model):
        if not hasattr(codec.quantizer, "lattices"):
            raise ValueError(f"stability is measured on lattices, which the quantizer {codec.config.quantizer!r} lacks")
        self._lattices = cast(Any, codec.quantizer).lattices
        config = codec.config
        groups = build_groups(config.lattice, config.levels, config.group_size)
        self._near = [neighbour_table(lattice_neighbours(group)) for group in groups]

    def __call__(self, wanted: np.ndarray, found: np.ndarray) -> Row:
        """Shares of tokens (T,) that are equal, off by one cell and elsewhere; and of each group, with its distance.

        A token is off by one cell if it is not equal and the point of every group is the same or a neighbour.
        Distances are of points, in lattice units, where rows of the rhombic lattice are 1 apart.
        """
        pair = torch.from_numpy(np.stack([wanted, found]))
        indices = self._lattices.codes_to_indices(pair)  # (2, T, P)
        points = self._lattices.indices_to_points(indices).unflatten(-1, (indices.shape[-1], -1))
        distance = (points[0] - points[1]).square().sum(-1).sqrt()  # (T, P)
        first, second = indices.numpy()
        same = first == second
        near = np.stack([table[a, b] for table, a, b in zip(self._near, first.T, second.T, strict=True)], axis=1)
        equal, close = same.all(1), (same | near).all(1)
        return {
            EQUAL: float(equal.mean()),
            NEAR: float((close & ~equal).mean()),
            ELSEWHERE: float((~close).mean()),
            "edits": edit_distance(wanted.tolist(), found.tolist()) / len(wanted),
            "groups": [
                {
                    EQUAL: float(same[:, k].mean()),
                    NEAR: float(near[:, k].mean()),
                    ELSEWHERE: float(1 - (same | near)[:, k].mean()),
                    "distance": float(distance[:, k].mean()),
                }
                for k in range(same.shape[1])
            ],
        }


def neighbour_table(neighbours: list[list[int]]) -> np.ndarray:
    """Which points (G, G) are neighbours."""
    table = np.zeros((len(neighbours), len(neighbours)), bool)
    for point, others in enumerate(neighbours):
        table[point, others] = True
    return table


def encode(codec: Q2D2Model, audio: np.ndarray) -> np.ndarray:
    """Codes (T,) of audio (N,)."""
    return codec.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes.flatten().numpy()


def decode(codec: Q2D2Model, codes: np.ndarray, num_samples: int) -> np.ndarray:
    """Audio (N,) of codes (T,), cut off at full scale as a file is."""
    audio = codec.decode(torch.from_numpy(codes).view(1, 1, -1), num_samples=num_samples).audio_values
    return audio.flatten().clamp(-1, 1).numpy()


class Stability:
    """Rows of comparisons of some clips, by what was done to them.

    Args:
        codec: The codec.
        clips: Recordings at its rate.
        seed: Of cuts and noise; each clip has its own numbers.
        phase_step: Samples from one shift within a frame to the next.
    """

    def __init__(self, codec: Q2D2Model, clips: list[Clip], seed: int = 0, phase_step: int = 16):
        self._codec, self._clips, self._seed, self._phase_step = codec, clips, seed, phase_step
        self._compare = Comparison(codec)
        self._rate, self._hop = codec.config.sampling_rate, codec.config.hop_length
        self._codes = [encode(codec, clip.audio) for clip in tqdm(clips, desc="tokens", disable=None)]

    def _over_clips(self, measure: Measure, *settings: Any) -> Row:
        """Summary over the clips of what a function of clip, codes, random numbers and some settings measures."""
        pairs = enumerate(zip(self._clips, self._codes, strict=True))
        rows = [measure(*pair, np.random.default_rng([self._seed, number]), *settings) for number, pair in pairs]
        return summarize(rows, [clip.speaker for clip in self._clips])

    def slices(self) -> Row:
        """A piece that begins with a frame and is encoded alone, against those tokens of the whole recording.

        First as it is, then with the receptive field on both sides, whose tokens are dropped, and in a stream.
        """
        context = self._codec.encoder.context_frames
        found = {}
        for seconds in SLICE_SECONDS:
            for margin in (0, max(context or [0])):
                name = f"slice of {seconds:g} s" + (", context of the encoder kept" if margin else "")
                found[name] = self._over_clips(self._slice, seconds, margin)
        found["stream in chunks of random size"] = self._over_clips(self._stream)
        return found

    def _slice(self, clip: Clip, codes: np.ndarray, rng: np.random.Generator, seconds: float, margin: int) -> Row:
        frames = min(round(seconds * self._rate / self._hop), len(codes))
        start = int(rng.integers(len(codes) - frames + 1))
        first, end = max(0, start - margin), start + frames + margin
        piece = encode(self._codec, clip.audio[first * self._hop : end * self._hop])
        return self._compare(codes[start : start + frames], piece[start - first :][:frames])

    def _stream(self, clip: Clip, codes: np.ndarray, rng: np.random.Generator) -> Row:
        cache, parts, start = None, [], 0
        while start < len(clip.audio):
            size = int(rng.integers(1, self._rate // 2))
            chunk = torch.from_numpy(clip.audio[start : start + size]).view(1, 1, -1)
            start += size
            encoded = self._codec.encode(chunk, cache=cache, use_streaming=start < len(clip.audio))
            cache = encoded.cache
            parts.append(encoded.audio_codes.flatten().numpy())
        return self._compare(codes, np.concatenate(parts))

    def shifts(self) -> dict[str, Row]:
        """Recordings without their first samples, as many as the key says, for phases of the hop.

        A token is compared with that of the frame that lies nearest.
        """
        steps = sorted({*range(0, self._hop, self._phase_step), SHIFT_SAMPLES})
        bar = tqdm(steps, desc="shifts", disable=None)
        return {str(step): self._over_clips(self._shift, step) for step in bar}

    def _shift(self, clip: Clip, codes: np.ndarray, rng: np.random.Generator, samples: int) -> Row:
        moved = encode(self._codec, clip.audio[samples:])
        wanted = codes[round(samples / self._hop) :][: len(moved)]
        return self._compare(wanted, moved[: len(wanted)])

    def changes(self) -> dict[str, Row]:
        """Recordings with noise, in rooms, through other codecs, at other levels."""
        changes = all_changes(self._rate)
        bar = tqdm(changes.items(), desc="changes", disable=None)
        return {name: self._over_clips(self._change, change) for name, change in bar}

    def _change(self, clip: Clip, codes: np.ndarray, rng: np.random.Generator, change: Change) -> Row:
        others = [other.audio for other in self._clips if other.speaker != clip.speaker]
        changed = change(clip.audio, others, rng)
        row = self._compare(codes, encode(self._codec, changed.audio))
        return row if changed.bits_per_second is None else row | {"bits_per_second": changed.bits_per_second}

    def rounds(self) -> list[Row]:
        """Recordings that are encoded and decoded again and again: tokens against the first and the last ones."""
        measures = {name: METRICS[name].build(self._rate) for name in _SCORES if not METRICS[name].missing()}
        speakers, audio, codes = [c.speaker for c in self._clips], [c.audio for c in self._clips], self._codes
        found = []
        for _ in tqdm(range(ROUNDS), desc="rounds", disable=None):
            audio = [decode(self._codec, row, len(one)) for row, one in zip(codes, audio, strict=True)]
            again = [encode(self._codec, one) for one in audio]
            row: Row = {
                "against the first": self._summary(self._codes, again, speakers),
                "against the round before": self._summary(codes, again, speakers),
            }
            for name, measure in measures.items():
                scores: list[Any] = [measure(c.audio, one) for c, one in zip(self._clips, audio, strict=True)]
                row[name] = mean_and_interval(scores, speakers)
            found.append(row)
            codes = again
        return found

    def _summary(self, wanted: list[np.ndarray], found: list[np.ndarray], speakers: list[str]) -> Row:
        return summarize([self._compare(*pair) for pair in zip(wanted, found, strict=True)], speakers)


def summarize(rows: list[Row], speakers: list[str]) -> Row:
    """Means with intervals of all shares of some clips, and quantiles of the share of equal tokens."""
    names = [name for name in rows[0] if name != "groups"]
    result: Row = {name: mean_and_interval([row[name] for row in rows], speakers) for name in names}
    quantiles = np.quantile([row[EQUAL] for row in rows], _QUANTILES).tolist()
    result["quantiles_of_equal"] = {str(key): value for key, value in zip(_QUANTILES, quantiles, strict=True)}
    result["groups"] = [
        {name: mean_and_interval([row["groups"][k][name] for row in rows], speakers) for name in group}
        for k, group in enumerate(rows[0]["groups"])
    ]
    return result


def measure_stability(codec: Q2D2Model, clips: list[Clip], seed: int = 0, phase_step: int = 16) -> Row:
    """Everything that the page tells of stability."""
    stability = Stability(codec, clips, seed, phase_step)
    return {
        "clips": len(clips),
        "speakers": len({clip.speaker for clip in clips}),
        "seconds": sum(len(clip.audio) for clip in clips) / codec.config.sampling_rate,
        "hop_length": codec.config.hop_length,
        "context_frames": max(codec.encoder.context_frames or [0]) or None,
        "slices": stability.slices(),
        "shifts": stability.shifts(),
        "changes": stability.changes(),
        "rounds": stability.rounds(),
    }
