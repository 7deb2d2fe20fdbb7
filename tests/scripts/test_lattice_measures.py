"""Measures of lattices have the values that theory knows."""

import json
import math
import re

import lattice_experiments as experiments
import lattice_measures as measures
import numpy as np
import pytest
import quantizers
import torch

from q2d2_tokenizer.quantizers_baselines import kmeans

LATTICES = {"rectangle": 1, "rhombic": 2, "hexagon": 2, "bcc": 3}


@pytest.mark.parametrize(("lattice", "group_size"), LATTICES.items())
def test_second_moments_are_those_of_the_books(lattice: str, group_size: int):
    expected = {"rectangle": 0.083333, "rhombic": 0.083333, "hexagon": 0.080188, "bcc": 0.078543}[lattice]
    assert measures.SECOND_MOMENTS[lattice] == pytest.approx(expected, abs=1e-6)
    assert measures.second_moment(lattice, group_size) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("source", ["uniform", "gaussian", "laplacian", "tanh 1", "tanh 2"])
def test_sources_have_their_entropy(source: str):
    x, entropy = measures.sample(source, 2**15)
    edges = np.quantile(x.numpy(), np.linspace(0, 1, 301))  # of cells that are as likely
    assert np.log2(np.diff(edges) * 300).mean() == pytest.approx(entropy, abs=0.03)
    if source in ("gaussian", "laplacian"):
        assert x.var() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("lattice", "group_size"), LATTICES.items())
def test_gap_to_the_bound_at_a_high_rate_is_that_of_the_second_moment(lattice: str, group_size: int):
    x, entropy = measures.sample("gaussian", 2**15)
    found = measures.measure_alike(measures.Grid(lattice, 33, group_size), x / 6)
    gap = measures.excess_db(found["mse"], found["entropy"], entropy - math.log2(6))
    expected = 10 * math.log10(2 * math.pi * math.e * measures.SECOND_MOMENTS[lattice])
    expected += 10 * math.log10(1 + 36 * found["mse"])  # the entropy is that of the source and the error together
    assert gap == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("level", [4, 7, 12])
def test_what_the_border_costs_a_uniform_source(level: int):
    x, entropy = measures.sample("uniform", 2**15)
    found = {}
    for room in (0.0, 0.5):
        found[room] = measures.measure_alike(measures.Grid("rectangle", level, 1, room), x)
    assert found[0.5]["mse"] == pytest.approx(1 / 3 / level**2, rel=0.003)  # 1/12 of the square of the width 2 / level
    assert found[0.5]["entropy"] == pytest.approx(math.log2(level), abs=1e-3)
    size, rate = (
        measures.excess_db(found[0.0]["mse"], found[0.0][key], entropy)
        - measures.excess_db(found[0.5]["mse"], found[0.5][key], entropy)
        for key in ("bits", "entropy")
    )
    assert size == pytest.approx(20 * math.log10(level / (level - 1)), abs=0.03)
    assert rate == pytest.approx(20 * math.log10(2) / (level - 1), abs=0.03)


def test_cells_fill_the_box_with_room_inside():
    assert measures.room_inside("rectangle", 9, 2) == pytest.approx(0.5)
    grid = measures.Grid("rhombic", 9, 2, measures.room_inside("rhombic", 9, 2))
    assert (2 * grid.half_width) ** 2 == pytest.approx(145 / 2)


def test_lattices_are_compared_at_equal_bits():
    bits = {name: experiments.grid_of(name, level).bits for name, level in experiments.SAME_SIZE.items()}
    assert set(bits) == set(experiments.NAMES)
    assert all(found == pytest.approx(bits["FSQ"], rel=0.01) for found in bits.values())


def test_noise_takes_the_spectrum_of_the_recording():
    audio, white = torch.sin(torch.arange(1000) * 2 * math.pi / 20), torch.randn(1000)
    noise = experiments.with_spectrum_of(audio, white)
    assert noise.square().mean() == pytest.approx(0.5, rel=1e-3) and not torch.allclose(noise, audio, atol=0.1)
    assert torch.allclose(torch.fft.rfft(noise).abs(), torch.fft.rfft(audio).abs(), atol=1e-3)


def test_best_scale_of_two_levels_is_that_of_lloyd_and_max():
    x, _ = measures.sample("gaussian", 2**15)
    scale = measures.best_scale(measures.Grid("rectangle", 2, 1), x)  # the levels are at plus and minus the scale
    assert scale == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)


def test_learned_points_are_better_than_those_they_began_with():
    x = measures.sample("gaussian", 2**12)[0].reshape(-1, 2)
    begin = x[:16].clone()
    errors = [torch.cdist(x, points).amin(1).square().mean() for points in (begin, kmeans(x, begin, rounds=30))]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize(("lattice", "group_size"), LATTICES.items())
def test_no_index_changes_nearer_than_the_wall_and_one_does_beyond(lattice: str, group_size: int):
    grid = measures.Grid(lattice, 5, group_size)
    vectors = torch.rand(300, group_size) * 5 - 2.5
    indices = grid.table.nearest(vectors)[1].squeeze(-1)
    distances = measures.distance_to_wall(vectors, grid.points(), indices)
    directions = torch.nn.functional.normalize(torch.randn(4000, 1, group_size), dim=-1)
    for factor, changes in ((0.999, False), (1.1, True)):
        moved = grid.table.nearest(vectors + factor * distances.unsqueeze(1) * directions)[1].squeeze(-1)
        assert ((moved != indices).any(0) == changes).all()


def test_auroc_of_known_scores():
    events = np.array([False, False, True, True])
    assert measures.auroc(np.array([1.0, 2.0, 3.0, 4.0]), events) == 1
    assert measures.auroc(np.array([4.0, 3.0, 2.0, 1.0]), events) == 0
    assert measures.auroc(np.array([1.0, 3.0, 2.0, 4.0]), events) == 0.75
    assert measures.auroc(np.zeros(4), events) == 0.5
    assert math.isnan(measures.auroc(np.zeros(4), events & False))


def test_the_straight_through_gradient_is_right_for_latents_spread_over_cells_and_wrong_for_narrow_ones():
    grid = measures.Grid("rectangle", 9, 2, 0.5)
    (narrow, _), (everywhere, inside) = measures.gradient_bias(grid, 0.1), measures.gradient_bias(grid, 1.0)
    assert narrow > 0.5 and inside < 0.02 < everywhere  # what is left is the border


@pytest.mark.slow
def test_the_script_writes_tables_and_pictures(tmp_path):
    quantizers.main(["--log2_vectors", "9", "--seconds", "1", "--output", str(tmp_path)])
    results = json.loads((tmp_path / "quantizers.json").read_text())
    assert results["recordings"] == 1 and results["frames"] == 75
    text = (tmp_path / "quantizers.md").read_text()
    for picture in re.findall(r"\((\w+\.png)\)", text):
        assert (tmp_path / picture).stat().st_size > 10_000
    row = next(line for line in text.splitlines() if line.startswith("| FSQ, inside"))
    assert row.split("|")[2].strip() == "1.53 / 1.53" and row.split("|")[-2].strip() == "0.00 / 0.00"
