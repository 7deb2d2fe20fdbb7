"""What a lattice does to vectors, apart from any codec: error and rate, walls of cells, gradients.

Everything is in the units of the box, which has the half-width 1, unless it says lattice units, of which a step of
`rectangle` is one.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.quasirandom import SobolEngine

from q2d2_tokenizer.lattices import LATTICES, box_half_widths, build_groups, lattice_points
from q2d2_tokenizer.quantizers import Lattices
from q2d2_tokenizer.training.statistics import corrected_entropy_of_counts

SECOND_MOMENTS = {
    "rectangle": 1 / 12,
    "rhombic": 1 / 12,
    "hexagon": 5 / (36 * math.sqrt(3)),
    "bcc": 19 / 192 / 2 ** (1 / 3),
}
"""Mean squared error a channel over the volume of a cell to the power 2 / g, as Conway & Sloane have it."""


@dataclass(frozen=True)
class Grid:
    """A lattice of groups of g channels with as many levels on every axis, in the box of half-width 1.

    Args:
        lattice: Name in `LATTICES`.
        level: Levels of every axis.
        group_size: Channels g of a group.
        room: Distance of the sides of the box from the outermost levels, in lattice units.
    """

    lattice: str
    level: int
    group_size: int
    room: float = 0.0

    @cached_property
    def table(self) -> Lattices:
        """The lattice of one group."""
        return Lattices(self.lattice, self.levels, self.group_size)

    @property
    def levels(self) -> list[int]:
        """Levels of every axis."""
        return [self.level] * self.group_size

    @property
    def half_width(self) -> float:
        """Half-width of the box, in lattice units."""
        return (self.level - 1) / 2 + self.room

    @property
    def size(self) -> int:
        """Points of a group."""
        return self.table.points_per_group[0]

    @property
    def bits(self) -> float:
        """Bits a channel, if all points are as likely."""
        return math.log2(self.size) / self.group_size

    def points(self) -> Tensor:
        """Points (G, g) in index order, in lattice units."""
        return torch.tensor(lattice_points(build_groups(self.lattice, self.levels, self.group_size)[0]))

    def grouped(self, x: Tensor) -> Tensor:
        """Vectors (N, P, g) in lattice units of values (N, P g)."""
        return x.unflatten(-1, (-1, self.group_size)) * self.half_width

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantized values (N, P g) of values (N, P g), and the indices (N, P) of their points."""
        points, indices = self.table.nearest(self.grouped(x))
        return points.flatten(-2) / self.half_width, indices.squeeze(-1)


def room_inside(lattice: str, level: int, group_size: int) -> float:
    """Room of the border `inside`, in lattice units."""
    return box_half_widths(lattice, [level] * group_size, group_size, "inside")[0] - (level - 1) / 2


def measure(x: Tensor, quantized: Tensor, indices: Tensor, group_size: int) -> dict[str, float]:
    """Mean squared error and entropy a channel, in bits, of values (N, P g) with indices (N, P), group by group."""
    entropies = [corrected_entropy_of_counts(torch.bincount(column).numpy()) for column in indices.T]
    return {
        "mse": float((x - quantized).double().square().mean()),
        "entropy": sum(entropies) / len(entropies) / group_size,
    }


def measure_alike(grid: Grid, x: Tensor) -> dict[str, float]:
    """As `measure`, of values (N, P g) whose channels are all alike, with the bits that equal likelihood would take."""
    quantized, indices = grid.quantize(x)
    return measure(x, quantized, indices.reshape(-1, 1), grid.group_size) | {"bits": grid.bits}


def excess_db(mse: float, bits: float, source_entropy: float) -> float:
    """Error above the Shannon lower bound at a rate, in dB.

    Args:
        mse: Mean squared error a channel.
        bits: Rate, in bits a channel.
        source_entropy: Differential entropy of the source, in bits a channel.
    """
    return 10 * math.log10(2 * math.pi * math.e * mse * 4.0 ** (bits - source_entropy))


def second_moment(lattice: str, group_size: int, count: int = 2**16) -> float:
    """Normalised second moment of a cell in the middle of a lattice, from vectors spread over one period of it."""
    grid = Grid(lattice, 9, group_size)
    period = torch.tensor(build_groups(lattice, grid.levels, group_size)[0][0].step)
    vectors = (SobolEngine(group_size, scramble=True, seed=0).draw(count).double() - 0.5) * period
    errors = vectors - grid.table.nearest(vectors)[0]
    return float(errors.square().mean()) / LATTICES[lattice].cell_volume ** (2 / group_size)


def sample(source: str, count: int, channels: int = 6, seed: int = 0) -> tuple[Tensor, float]:
    """Values (count, channels) of a source, well spread, and its differential entropy in bits a channel.

    Sources are `uniform` on the box, `gaussian` and `laplacian` of variance 1, and `tanh s`, the hyperbolic tangent of
    a Gaussian of standard deviation s.
    """
    u = SobolEngine(channels, scramble=True, seed=seed).draw(count).double().clamp(1e-6, 1 - 1e-6)
    if source == "uniform":
        return (2 * u - 1).float(), 1.0
    if source == "laplacian":
        size = math.sqrt(0.5)
        values = -size * (u - 0.5).sign() * (1 - 2 * (u - 0.5).abs()).log()
        return values.float(), math.log2(2 * math.e * size)
    normal = math.sqrt(2) * torch.erfinv(2 * u - 1)
    entropy = math.log2(2 * math.pi * math.e) / 2
    if source == "gaussian":
        return normal.float(), entropy
    spread = float(source.removeprefix("tanh "))
    slope = 4 / ((spread * normal).exp() + (-spread * normal).exp()).square()  # 1 - tanh^2 without cancellation
    return (spread * normal).tanh().float(), entropy + math.log2(spread) + float(slope.log2().mean())


def best_scale(grid: Grid, x: Tensor) -> float:
    """Half-width of the box, in units of x, at which values (N, P g) have the least error: golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(0.3), math.log(12.0)

    def error(at: float) -> float:
        return float((x / math.exp(at) - grid.quantize(x / math.exp(at))[0]).square().mean()) * math.exp(2 * at)

    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    errors = [error(at) for at in inner]
    for _ in range(12):
        if errors[0] < errors[1]:
            high, inner = inner[1], [inner[1] - ratio * (inner[1] - low), inner[0]]
            errors = [error(inner[0]), errors[0]]
        else:
            low, inner = inner[0], [inner[1], inner[0] + ratio * (high - inner[0])]
            errors = [errors[1], error(inner[1])]
    return math.exp(inner[0])


def distance_to_wall(vectors: Tensor, points: Tensor, indices: Tensor) -> Tensor:
    """Distances (N,) of vectors (N, g) from the walls of the cells of their points (K, g), by index (N,)."""
    squares = torch.cdist(vectors, points, compute_mode="donot_use_mm_for_euclid_dist").square()  # (N, K)
    between = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    own = squares.gather(1, indices.unsqueeze(1))
    return ((squares - own) / (2 * between[indices])).masked_fill(between[indices].isinf(), math.inf).amin(1)


def auroc(scores: np.ndarray, events: np.ndarray) -> float:
    """Chance that an event has a higher score than what is none, ties counted half; NaN if there is only one kind."""
    positives, negatives = int(events.sum()), int((~events).sum())
    if not positives or not negatives:
        return math.nan
    return float((rankdata(scores)[events].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def gradient_bias(grid: Grid, spread: float) -> tuple[float, float]:
    """Relative error of the straight-through gradient of a pair of channels, by root mean square: everywhere, inside.

    Latents before tanh are Gaussian about a mean. The gradient of the mean output with respect to that mean is what
    learning should follow; the straight-through one is the mean slope of tanh, as if nothing were quantized. Means are
    weighted as Gaussian of standard deviation 1; the second value leaves out those within a unit of the outer levels.

    Args:
        grid: Of pairs.
        spread: Standard deviation of latents about the mean, in widths of a cell in the middle of the box.
    """
    cell = math.sqrt(LATTICES[grid.lattice].cell_volume) / grid.half_width
    deviation = spread * cell
    means = torch.linspace(-2.0, 2.0, 81, dtype=torch.float64)
    step = min(deviation / 3, 0.1 * cell)
    z = torch.arange(-2.0 - 5 * deviation, 2.0 + 5 * deviation, step, dtype=torch.float64)  # (n,)
    offsets = (z - means.unsqueeze(1)) / deviation  # (81, n)
    blur = (-offsets.square() / 2).exp()
    blur = blur / blur.sum(1, keepdim=True)
    slope = blur * offsets / deviation  # gives the derivative of a mean by the place of the mean
    bounded = z.tanh()
    plane = torch.stack(torch.meshgrid(bounded, bounded, indexing="ij"), dim=-1)  # (n, n, 2)
    found = grid.quantize(plane.flatten(0, 1).float())[0].double().view(plane.shape).permute(2, 0, 1)
    true = torch.stack([slope @ found @ blur.T, blur @ found @ slope.T])  # (axis, channel, 81, 81)
    straight = torch.zeros_like(true)
    straight[0, 0] = (blur @ (1 - bounded.square())).unsqueeze(1)
    straight[1, 1] = (blur @ (1 - bounded.square())).unsqueeze(0)
    inside = means.tanh().abs() * grid.half_width < (grid.level - 1) / 2 - 1.0

    def relative(weights: Tensor) -> float:
        weights = weights.unsqueeze(1) * weights
        return float(((straight - true).square() * weights).sum() / (true.square() * weights).sum()) ** 0.5

    weights = (-means.square() / 2).exp()
    return relative(weights), relative(weights * inside)
