"""Fixed lattices of channel groups, each a union of at most two axis-aligned product grids (cosets).

All lattices live in the box `[-e_1, e_1] x ... x [-e_g, e_g]` with half-widths `e_i = (l_i - 1) / 2` for levels `l_i`.
Because every coset is a product grid, its nearest point is found by rounding and clamping each axis on its own, and the
nearest point of the lattice is the nearer of the two: exact, O(1) and without a table of points.

Source: Q2D2, arXiv 2512.01537, section 3; Conway & Sloane, "Sphere Packings, Lattices and Groups", chapters 2 and 4.
Differs: `hexagon` is the true triangular lattice A2; the pattern the paper's code calls hexagon is `brick` here.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BORDERS = ("edge", "inside")


@dataclass(frozen=True)
class Coset:
    """A product grid: axis `i` holds `offset[i] + step[i] * k` for `0 <= k < count[i]`."""

    offset: tuple[float, ...]
    step: tuple[float, ...]
    count: tuple[int, ...]

    @property
    def num_points(self) -> int:
        """Number of points of the grid."""
        return math.prod(self.count)


def half_widths(levels: Sequence[int]) -> tuple[float, ...]:
    """Half-width `(l - 1) / 2` of the box along each axis."""
    return tuple((level - 1) / 2 for level in levels)


def rectangle(levels: Sequence[int]) -> list[Coset]:
    """Unit grid with `l_i` points along axis `i`. With one channel per group this is FSQ."""
    return [Coset(tuple(-e for e in half_widths(levels)), (1.0,) * len(levels), tuple(levels))]


def centred(levels: Sequence[int]) -> list[Coset]:
    """The unit grid and the centres of its cells: rhombic in two dimensions, body-centred cubic in three."""
    offset = tuple(0.5 - e for e in half_widths(levels))
    return rectangle(levels) + [Coset(offset, (1.0,) * len(levels), tuple(level - 1 for level in levels))]


def hexagon(levels: Sequence[int]) -> list[Coset]:
    """Triangular lattice A2 with spacing 1, cut to the box, the origin among its points."""
    half_x, half_y = half_widths(levels)
    row = math.sqrt(3.0)
    even = (math.floor(half_x), math.floor(half_y / row))
    odd = (math.floor(half_x + 0.5), math.floor(half_y / row + 0.5))
    cosets = [
        Coset((-float(even[0]), -even[1] * row), (1.0, row), (2 * even[0] + 1, 2 * even[1] + 1)),
        Coset((0.5 - odd[0], (0.5 - odd[1]) * row), (1.0, row), (2 * odd[0], 2 * odd[1])),
    ]
    return [coset for coset in cosets if coset.num_points]


def brick(levels: Sequence[int]) -> list[Coset]:
    """Unit rows at unit height, every other row shifted by half a step (two neighbours at 1, four at 1.118).

    This is what the code published with the paper computes under the name hexagon.
    """
    (half_x, half_y), (level_x, level_y) = half_widths(levels), levels
    return [
        Coset((-half_x, -half_y), (1.0, 2.0), (level_x, (level_y + 1) // 2)),
        Coset((0.5 - half_x, 1.0 - half_y), (1.0, 2.0), (level_x - 1, level_y // 2)),
    ]


@dataclass(frozen=True)
class Lattice:
    """A named lattice: how to build it, for which group sizes it is defined, and the volume of a cell."""

    build: Callable[[Sequence[int]], list[Coset]]
    group_sizes: tuple[int, ...]
    cell_volume: float


LATTICES: dict[str, Lattice] = {
    "rectangle": Lattice(rectangle, (1, 2, 3), 1.0),
    "rhombic": Lattice(centred, (2,), 0.5),
    "hexagon": Lattice(hexagon, (2,), math.sqrt(3.0) / 2),
    "brick": Lattice(brick, (2,), 1.0),
    "bcc": Lattice(centred, (3,), 0.5),
}


def build_groups(lattice: str, levels: Sequence[int], group_size: int) -> list[list[Coset]]:
    """Cosets of every group of channels.

    Args:
        lattice: Name in `LATTICES`.
        levels: Levels of each channel; consecutive `group_size` channels form a group.
        group_size: Channels per group.

    Raises:
        ValueError: If the lattice is unknown or the levels do not fit it.
    """
    if lattice not in LATTICES:
        raise ValueError(f"lattice must be one of {sorted(LATTICES)}, got {lattice!r}")
    if group_size not in LATTICES[lattice].group_sizes:
        raise ValueError(
            f"lattice {lattice!r} groups channels by {' or '.join(map(str, LATTICES[lattice].group_sizes))}, "
            f"got group_size={group_size}; `rectangle` takes any of 1, 2 and 3"
        )
    if not levels or len(levels) % group_size:
        raise ValueError(f"levels must be a non-empty multiple of group_size={group_size} numbers, got {list(levels)}")
    if min(levels) < 2:
        raise ValueError(f"every level must be at least 2, got {list(levels)}")
    return [LATTICES[lattice].build(levels[i : i + group_size]) for i in range(0, len(levels), group_size)]


def group_sizes_in_points(lattice: str, levels: Sequence[int], group_size: int) -> list[int]:
    """Number of lattice points `G_j` of every group; their product is the codebook size."""
    return [sum(c.num_points for c in cosets) for cosets in build_groups(lattice, levels, group_size)]


def box_half_widths(lattice: str, levels: Sequence[int], group_size: int, border: str = "edge") -> tuple[float, ...]:
    """Half-widths of the box that latents are bounded to, in lattice units, for every channel.

    With the border on the `edge` they are those of the levels, and much of an outermost cell lies outside of the box.
    With the border `inside` all sides of a group's box are moved out by the same room, so that its volume is that of
    all cells: half a cell for `rectangle`, about a quarter of a unit for `rhombic`.

    Raises:
        ValueError: If the border is unknown.
    """
    if border not in BORDERS:
        raise ValueError(f"border must be one of {sorted(BORDERS)}, got {border!r}")
    widths = list(half_widths(levels))
    if border == "edge":
        return tuple(widths)
    for j, count in enumerate(group_sizes_in_points(lattice, levels, group_size)):
        group = slice(j * group_size, (j + 1) * group_size)
        room = _room(widths[group], count * LATTICES[lattice].cell_volume)
        widths[group] = [width + room for width in widths[group]]
    return tuple(widths)


def _room(widths: Sequence[float], volume: float) -> float:
    """By how much to move out all sides of a box of these half-widths, to give it this volume."""
    low, high = -min(widths), max(widths) + 1.0
    for _ in range(60):  # bisection
        middle = (low + high) / 2
        too_small = math.prod(2 * (width + middle) for width in widths) < volume
        low, high = (middle, high) if too_small else (low, middle)
    return low


def lattice_points(cosets: Sequence[Coset]) -> list[tuple[float, ...]]:
    """All points of one group in index order (first axis fastest, first coset first); for plots and tests."""
    points = []
    for coset in cosets:
        axes = [[o + s * k for k in range(n)] for o, s, n in zip(coset.offset, coset.step, coset.count, strict=True)]
        points += [point[::-1] for point in itertools.product(*axes[::-1])]
    return points


def lattice_neighbours(cosets: Sequence[Coset]) -> list[list[int]]:
    """For every point of one group, in index order, the indices of the points whose cells share a side with its own.

    Two points are neighbours if no third one lies in the ball whose diameter joins them. In a lattice without borders
    these are the points across the facets of the Voronoi cell: 4 in `rectangle` and `rhombic`, 6 in `hexagon` and
    `brick`, 14 in `bcc`.

    Source: Conway & Sloane, "Sphere Packings, Lattices and Groups", chapter 21, theorem 10 (Voronoi).
    """
    points = np.array(lattice_points(cosets))  # (G, g)
    squares = ((points[:, None] - points) ** 2).sum(-1)  # (G, G)
    neighbours = []
    for row in squares:  # of one point
        in_ball = (row[:, None] + squares <= row + 1e-6).sum(0)  # (G,): Thales; the two points themselves are in it
        neighbours.append(np.flatnonzero(in_ball == 2).tolist())
    return neighbours
