"""Experiments that need no training: lattices on known sources, and on latents of the bundled codec."""

from dataclasses import dataclass
from typing import Any

import lattice_measures as measures
import numpy as np
import torch
from lattice_measures import Grid, excess_db, room_inside
from torch import Tensor

from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.evaluation.clips import Clip
from q2d2_tokenizer.evaluation.statistics import mean_and_interval
from q2d2_tokenizer.lattices import LATTICES
from q2d2_tokenizer.quantizers_baselines import kmeans, nearest_entries

NAMES = {"FSQ": ("rectangle", 1), "rhombic": ("rhombic", 2), "hexagon": ("hexagon", 2), "brick": ("brick", 2)}
NAMES |= {"bcc": ("bcc", 3)}
PAIRS = ("FSQ", "rhombic", "hexagon", "brick")  # what may stand in groups of two
SAME_SIZE = {"FSQ": 12, "rhombic": 9, "hexagon": 12, "brick": 12, "bcc": 10}  # levels, for 3.6 bits a channel
BORDERS = ("inside", "edge")
BOUNDED, UNBOUNDED = ("uniform", "tanh 0.8", "tanh 1", "tanh 2"), ("gaussian", "laplacian")
SPREADS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)  # of latents, in widths of a cell
NOISES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)  # standard deviations, in half-widths of the box
NOISES_DB = (10, 30, 50)  # below the recording

Point = dict[str, float]
Curves = dict[str, list[Point]]


def levels_of(name: str) -> range:
    """Levels of a lattice at up to about 4 bits a channel."""
    return range(3, 18 if name in ("FSQ", "hexagon", "brick") else 14)


def grid_of(name: str, level: int, border: str = "inside", group_size: int = 0) -> Grid:
    """A lattice by its name here; FSQ may be taken in larger groups, whose entropy is a joint one."""
    lattice, size = NAMES[name][0], group_size or NAMES[name][1]
    return Grid(lattice, level, size, room_inside(lattice, level, size) if border == "inside" else 0.0)


def with_excess(point: Point, source_entropy: float) -> Point:
    """A measured point with its excess over the Shannon bound, at equal codebook size and at equal entropy."""
    return point | {f"excess_{key}": excess_db(point["mse"], point[key], source_entropy) for key in ("bits", "entropy")}


def at_rate(curve: list[Point], key: str, bits: float) -> float | None:
    """Excess in dB at a rate, between the points of a curve; None outside of it."""
    rates, excesses = zip(*sorted((point[key], point[f"excess_{key}"]) for point in curve), strict=True)
    return float(np.interp(bits, rates, excesses)) if rates[0] <= bits <= rates[-1] else None


def cells() -> list[dict[str, Any]]:
    """Second moments of cells alone, against those of the books, and the gap to the Shannon bound at a high rate."""
    rows: list[dict[str, Any]] = []
    for name, (lattice, size) in NAMES.items():
        found = measures.second_moment(lattice, size)
        row = {"lattice": name, "second moment": found, "of the books": measures.SECOND_MOMENTS.get(lattice)}
        row |= {"above the bound, dB": 10 * np.log10(2 * np.pi * np.e * found)}
        rows.append(row | {"better than FSQ, dB": round(-10 * np.log10(12 * found), 4) + 0.0})
    return rows


def bounded_curves(source: str, count: int) -> Curves:
    """Error and rates at all levels by lattice and border, of a source that lives in the box."""
    x, entropy = measures.sample(source, count)
    return {
        f"{name}, {border}": [
            with_excess({"level": level} | measures.measure_alike(grid_of(name, level, border), x), entropy)
            for level in levels_of(name)
        ]
        for name in NAMES
        for border in BORDERS
    }


def unbounded_curves(source: str, count: int) -> Curves:
    """The same of a source without bounds: codebooks in the best box for their size, and lattices without an end."""
    x, entropy = measures.sample(source, count)
    curves: Curves = {}
    for name, (lattice, size) in NAMES.items():
        curves[f"{name}, best box"], curves[f"{name}, no border"] = [], []
        for level in list(levels_of(name))[::2]:
            grid = grid_of(name, level)
            box = measures.best_scale(grid, x[: count // 8])
            point = measures.measure_alike(grid, x / box) | {"level": level, "box": box}
            curves[f"{name}, best box"].append(with_excess(point, entropy - float(np.log2(box))))
        for width in (1.8, 1.3, 0.9, 0.65, 0.45, 0.35):  # of a cell, in standard deviations
            step = width / LATTICES[lattice].cell_volume ** (1 / size)
            grid = grid_of(name, 2 * int(10 / step) + 1, "edge")  # up to ten standard deviations
            box = grid.half_width * step
            point = measures.measure_alike(grid, x / box) | {"cell": width}
            curves[f"{name}, no border"].append(with_excess(point, entropy - float(np.log2(box))))
    return curves


def room_sweep(x: Tensor, alike: bool) -> dict[str, list[Point]]:
    """What the place of the border does to values (N, d) in the box, at equal entropy and at equal codebook size.

    In dB against FSQ with half a level of room; pairs have joint entropies if channels are not all alike.
    """
    curves: dict[str, list[Point]] = {}
    for name in ("FSQ", "rhombic", "hexagon"):
        lattice, level = NAMES[name][0], SAME_SIZE[name]
        curves[name] = []
        for room in np.linspace(0, 0.8, 17).tolist():
            grid = Grid(lattice, level, 2, room)
            quantized, indices = grid.quantize(x)
            point = measures.measure(x, quantized, indices.reshape(-1, 1) if alike else indices, 2)
            point |= {"room": room, "bits": grid.bits}
            curves[name].append(with_excess(point, 0.0))
    reference = min(curves["FSQ"], key=lambda point: abs(point["room"] - 0.5))
    for curve in curves.values():
        for point in curve:
            for key in ("bits", "entropy"):
                point[f"relative_{key}"] = point[f"excess_{key}"] - reference[f"excess_{key}"]
    return curves


def flips(count: int) -> dict[str, Any]:
    """How often indices change under noise on uniform values: by noise, and walls a channel against those of FSQ."""
    x, _ = measures.sample("uniform", count)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=generator)
    shares: dict[str, list[float]] = {}
    walls: dict[str, float] = {}
    for name in NAMES:
        for border in BORDERS:
            grid = grid_of(name, SAME_SIZE[name], border)
            before = grid.quantize(x)[1]
            changed = [float((grid.quantize(x + size * noise)[1] != before).double().mean()) for size in NOISES]
            label = f"{name}, {border}"
            shares[label] = [1 - (1 - share) ** (12 / grid.group_size) for share in changed]  # of 12 channels
            walls[label] = changed[0] / grid.group_size / grid.size ** (1 / grid.group_size)
    return {
        "noise": list(NOISES),
        "of_12_channels": shares,
        "walls": {k: v / walls["FSQ, inside"] for k, v in walls.items()},
    }


def gradients() -> dict[str, list[list[float]]]:
    """Relative error of the straight-through gradient by spread of the latents: everywhere, inside."""
    return {
        f"{name}, {border}": [
            list(measures.gradient_bias(grid_of(name, SAME_SIZE[name], border, 2), s)) for s in SPREADS
        ]
        for name in PAIRS
        for border in BORDERS
    }


@dataclass(frozen=True)
class Latents:
    """Bounded latents (T, d) of a recording, and of what was done to it.

    Args:
        speaker: Who speaks.
        clean: Of the recording.
        changed: Of the recording when it begins later, with noise, and decoded from its own tokens, by name.
    """

    speaker: str
    clean: Tensor
    changed: dict[str, Tensor]


@torch.no_grad()
def bounded_latents(model: Q2D2Model, audio: Tensor) -> Tensor:
    """What the lattice of a codec sees of audio (N,): values (T, d) in the box of half-width 1."""
    padded = torch.nn.functional.pad(audio, (0, -len(audio) % model.config.hop_length))
    return model.quantizer.project_in(model.encoder(padded.view(1, 1, -1), exact=True).float())[0].tanh()


def with_spectrum_of(audio: Tensor, noise: Tensor) -> Tensor:
    """The phases of noise (N,) with the magnitudes of audio (N,)."""
    spectrum = torch.fft.rfft(noise)
    return torch.fft.irfft(torch.fft.rfft(audio).abs() * spectrum / spectrum.abs().clamp_min(1e-9), len(audio))


def latents_of(model: Q2D2Model, clip: Clip, seed: int) -> Latents:
    """Latents of a recording, and of what was done to it."""
    audio = torch.from_numpy(clip.audio)
    white = torch.randn(audio.shape, generator=torch.Generator().manual_seed(seed)) * audio.square().mean().sqrt()
    noise = with_spectrum_of(audio, white)  # white noise would fill bands that are empty in the recording
    changed = {
        "2 ms later": audio[round(0.002 * clip.sampling_rate) :],
        "a sample later": audio[1:],
        "decoded and encoded": model(audio.view(1, 1, -1)).audio_values.flatten(),
        "white noise, 30 dB": audio + 10**-1.5 * white,
    }
    changed |= {f"noise, {level} dB": audio + 10 ** (-level / 20) * noise for level in NOISES_DB}
    latents = {name: bounded_latents(model, x.clamp(-1, 1)) for name, x in changed.items()}
    return Latents(clip.speaker, bounded_latents(model, audio), latents)


def real_curves(x: Tensor, others: Tensor) -> Curves:
    """Error and rates of real latents (T, d) by lattice and border, in pairs; excess is against no bound but itself.

    Args:
        x: What is quantized.
        others: Latents of other recordings, from which points are learned.
    """
    curves: Curves = {}
    for name in PAIRS:
        for border in BORDERS:
            curves[f"{name}, {border}"] = []
            for level in levels_of(name):
                grid = grid_of(name, level, border, 2)
                point = measures.measure(x, *grid.quantize(x), 2) | {"level": level, "bits": grid.bits}
                curves[f"{name}, {border}"].append(with_excess(point, 0.0))
    curves["learned"] = [learned_point(x, others, grid_of("rhombic", level)) for level in (3, 4, 5, 6, 7, 8, 9)]
    return curves


def learned_point(x: Tensor, others: Tensor, grid: Grid) -> Point:
    """As `real_curves`, of as many points as a grid has, which k-means begins with."""
    quantized, indices = [], []
    for pair in range(0, x.shape[1], 2):
        points = kmeans(others[:, pair : pair + 2], grid.points() / grid.half_width, rounds=30)
        indices.append(nearest_entries(x[:, pair : pair + 2], points)[0])
        quantized.append(points[indices[-1]])
    point = measures.measure(x, torch.cat(quantized, -1), torch.stack(indices, -1), 2)
    return with_excess(point | {"level": grid.level, "bits": grid.bits}, 0.0)


def margins(recordings: list[Latents]) -> dict[str, dict[str, Any]]:
    """Whether the distance to the wall says which indices change, by lattice and by what was done to the recordings.

    Lattices have their border on the edge, as that of the codec. AUROC is of every recording alone, then averaged.
    """
    result: dict[str, dict[str, Any]] = {}
    for name in ("FSQ", "rhombic", "hexagon"):
        grid = grid_of(name, SAME_SIZE[name], "edge", 2)
        width = float(np.sqrt(LATTICES[grid.lattice].cell_volume))
        result[name] = {}
        for change in recordings[0].changed:
            scores = [_margins_of(grid, recording, change) for recording in recordings]
            distances, errors, events = (np.concatenate(column) for column in zip(*scores, strict=True))
            speakers = [recording.speaker for recording in recordings]
            edges = np.quantile(distances, np.linspace(0, 1, 11))
            bins = np.clip(np.searchsorted(edges, distances, side="right") - 1, 0, 9)
            result[name][change] = {
                "changed": float(events.mean()),
                "auroc": mean_and_interval([measures.auroc(-d, e) for d, _, e in scores], speakers),
                "auroc_of_error": mean_and_interval([measures.auroc(x, e) for _, x, e in scores], speakers),
                "distance": [float(distances[bins == i].mean() / width) for i in range(10)],  # in widths of a cell
                "changed_by_distance": [float(events[bins == i].mean()) for i in range(10)],
            }
    return result


def _margins_of(grid: Grid, recording: Latents, change: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances to the wall, errors, and whether the index changed, of all pairs (n,) of a recording."""
    moved = recording.changed[change]
    clean = recording.clean[: len(moved)]
    quantized, indices = grid.quantize(clean)
    vectors = grid.grouped(clean).flatten(0, 1)
    distances = measures.distance_to_wall(vectors, grid.points(), indices.flatten())
    errors = grid.grouped(clean - quantized).flatten(0, 1).norm(dim=-1)
    events = (grid.quantize(moved)[1] != indices).flatten()
    return distances.numpy(), errors.numpy(), events.numpy()
