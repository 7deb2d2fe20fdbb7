"""Geometry of the lattices: how many points, where, how far apart, and how good as quantizers."""

import math

import pytest
import torch
from torch import Tensor

from q2d2_tokenizer.lattices import (
    LATTICES,
    build_groups,
    group_sizes_in_points,
    half_widths,
    lattice_neighbours,
    lattice_points,
)

CASES = [
    pytest.param(name, levels, id=f"{name}-{'x'.join(map(str, levels))}")
    for name, lattice in LATTICES.items()
    for size in lattice.group_sizes
    for levels in ([7, 7, 7][:size], [9, 6, 4][:size], [3, 8, 5][:size], [4, 4, 4][:size], [2, 3, 2][:size])
]


def points_of(name: str, levels: list[int]) -> Tensor:
    """Points (G, g) of one group."""
    (cosets,) = build_groups(name, levels, len(levels))
    return torch.tensor(lattice_points(cosets), dtype=torch.float64)


def neighbours(name: str, levels: list[int], radius: float) -> list[Tensor]:
    """Sorted distances up to `radius` from every point that is at least `radius` away from the edge of the box."""
    points = points_of(name, levels)
    inner = points[(points.abs() <= torch.tensor(half_widths(levels)) - radius).all(-1)]
    assert len(inner) >= 4
    distances = torch.cdist(inner, points, compute_mode="donot_use_mm_for_euclid_dist")
    return [row[(row > 1e-9) & (row <= radius)].sort().values for row in distances]


@pytest.mark.parametrize(
    ("name", "levels", "count"),
    [
        ("rhombic", [9, 9], 145),
        ("rhombic", [7, 7], 85),
        ("rhombic", [2, 2], 5),
        ("rectangle", [7, 5], 35),
        ("rectangle", [7], 7),
        ("rectangle", [8, 5, 3], 120),
        ("bcc", [5, 5, 5], 5**3 + 4**3),
        ("bcc", [4, 3, 2], 24 + 6),
        ("hexagon", [3, 3], 7),
        ("brick", [3, 3], 3 + 2 + 3),
    ],
)
def test_number_of_points(name: str, levels: list[int], count: int):
    assert group_sizes_in_points(name, levels, len(levels)) == [count]
    assert len(points_of(name, levels)) == count


@pytest.mark.parametrize(("levels", "size"), [([9, 9, 7, 7, 7, 7], 1_047_625), ([9, 9, 9, 9, 7, 7], 1_787_125)])
def test_codebooks_of_the_paper(levels: list[int], size: int):
    assert math.prod(group_sizes_in_points("rhombic", levels, 2)) == size


def test_groups_are_built_one_by_one():
    assert group_sizes_in_points("rhombic", [9, 9, 7, 5], 2) == [145, 7 * 5 + 6 * 4]
    assert group_sizes_in_points("rectangle", [9, 4, 2], 1) == [9, 4, 2]


@pytest.mark.parametrize(("name", "levels"), CASES)
def test_points_are_distinct_and_in_the_box(name: str, levels: list[int]):
    points = points_of(name, levels)
    assert points.unique(dim=0).shape == points.shape
    assert (points.abs() <= torch.tensor(half_widths(levels)) + 1e-9).all()


@pytest.mark.parametrize(("name", "levels"), CASES)
def test_points_are_symmetric_about_the_origin(name: str, levels: list[int]):
    if name == "brick" and levels[1] % 2 == 0:
        pytest.skip("the published brick pattern has rows of unequal length at top and bottom for even levels")
    points = points_of(name, levels)
    assert torch.cdist(points, -points).min(-1).values.max() < 1e-6


@pytest.mark.parametrize("levels", [[2, 2], [3, 4], [7, 7], [8, 8], [9, 6]])
def test_hexagon_holds_the_origin(levels: list[int]):
    assert (points_of("hexagon", levels) == 0).all(-1).any()


@pytest.mark.parametrize("levels", [[7, 7], [8, 8], [9, 6], [17, 16]])
def test_hexagon_fills_the_box(levels: list[int]):
    # Density of A2 is 2 / sqrt(3) points per unit area; a cut-off row or column would show at once.
    half_x, half_y = half_widths(levels)
    points = points_of("hexagon", levels)
    assert half_x - points[:, 0].max() < 0.5
    assert half_y - points[:, 1].max() < math.sqrt(3) / 2
    assert len(points) >= (levels[0] - 2) * (levels[1] - 2) * 2 / math.sqrt(3)


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("rectangle", [7, 6], [1.0] * 4),
        ("rectangle", [7, 6, 7], [1.0] * 6),
        ("rhombic", [7, 6], [math.sqrt(0.5)] * 4),
        ("hexagon", [9, 8], [1.0] * 6),
        ("brick", [9, 8], [1.0] * 2 + [math.sqrt(1.25)] * 4),
        ("bcc", [6, 5, 6], [math.sqrt(3) / 2] * 8),
    ],
)
def test_nearest_neighbours_of_interior_points(name: str, levels: list[int], expected: list[float]):
    for distances in neighbours(name, levels, expected[-1] + 1e-6):
        assert distances.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "levels"), CASES)
def test_no_two_points_are_closer_than_the_spacing(name: str, levels: list[int]):
    spacing = {"rhombic": math.sqrt(0.5), "bcc": math.sqrt(0.75)}.get(name, 1.0)
    points = points_of(name, levels)
    if len(points) > 1:
        assert torch.pdist(points).min() == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("name", "levels", "moment"),
    [
        ("rectangle", [9], 1 / 12),
        ("rectangle", [9, 9], 1 / 12),
        ("rhombic", [9, 9], 1 / 12),
        ("hexagon", [9, 9], 0.08019),
        ("bcc", [9, 9, 9], 0.07854),
    ],
)
def test_normalized_second_moment(name: str, levels: list[int], moment: float):
    # Mean squared error per dimension over volume^(2/g) of a cell, from uniform points of a whole number of periods.
    g = len(levels)
    period = {"hexagon": [1.0, math.sqrt(3)]}.get(name, [1.0] * g)
    cell = math.prod(period) / {"rectangle": 1}.get(name, 2)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(30_000, g, generator=generator, dtype=torch.float64) - 0.5) * torch.tensor(period)
    points = points_of(name, levels)
    points = points[points.norm(dim=-1) < 2]
    error = (x.unsqueeze(1) - points).square().sum(-1).min(-1).values.mean().item() / g
    assert error / cell ** (2 / g) == pytest.approx(moment, rel=0.012)


@pytest.mark.parametrize(
    ("lattice", "levels", "group_size", "message"),
    [
        ("rombic", [7, 7], 2, r"must be one of \['bcc'.*got 'rombic'"),
        ("rhombic", [7, 7, 7], 3, "groups channels by 2, got group_size=3"),
        ("rectangle", [7, 7, 7, 7], 4, "groups channels by 1 or 2 or 3, got group_size=4"),
        ("rhombic", [7, 7, 7], 2, r"multiple of group_size=2 numbers, got \[7, 7, 7\]"),
        ("rhombic", [], 2, "non-empty"),
        ("rhombic", [7, 1], 2, r"at least 2, got \[7, 1\]"),
    ],
)
def test_errors_say_what_came(lattice: str, levels: list[int], group_size: int, message: str):
    with pytest.raises(ValueError, match=message):
        build_groups(lattice, levels, group_size)


@pytest.mark.parametrize(
    ("name", "levels", "count"),
    [
        ("rectangle", [9], 2),
        ("rectangle", [9, 7], 4),
        ("rhombic", [9, 7], 4),
        ("hexagon", [9, 7], 6),
        ("brick", [9, 7], 6),
        ("bcc", [5, 6, 5], 14),
    ],
)
def test_cells_have_the_sides_of_the_lattice(name: str, levels: list[int], count: int):
    found = lattice_neighbours(build_groups(name, levels, len(levels))[0])
    inner = (points_of(name, levels).abs() <= torch.tensor(half_widths(levels)) - 1.5).all(-1)
    assert {len(found[index]) for index in inner.nonzero().flatten()} == {count}


@pytest.mark.parametrize(("name", "levels"), [case for case in CASES if math.prod(case.values[1]) < 150])
def test_halfway_to_a_neighbour_no_other_point_is_as_near(name: str, levels: list[int]):
    points = points_of(name, levels)
    found = lattice_neighbours(build_groups(name, levels, len(levels))[0])
    assert all(others and all(index in found[other] for other in others) for index, others in enumerate(found))
    for index in range(0, len(points), 1 + len(points) // 10):
        halfway = (points[index] + points) / 2  # (G, g)
        distances = torch.cdist(halfway, points, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = (distances < distances.min(-1, keepdim=True).values + 1e-6).sum(-1)
        own = distances[:, index] < distances.min(-1).values + 1e-6
        assert (own & (nearest == 2)).nonzero().flatten().tolist() == found[index]
