"""Quantizers: the nearest point is the nearest, codes are a bijection, gradients pass straight through."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from q2d2_tokenizer import Q2D2Config
from q2d2_tokenizer.lattices import LATTICES, build_groups, half_widths, lattice_points
from q2d2_tokenizer.quantizers import QUANTIZERS, LatticeQuantizer, Lattices
from q2d2_tokenizer.streaming import exact_copy

LEVELS = {
    1: ([7], [4], [9, 6, 2, 5]),
    2: ([7, 7], [8, 6], [2, 3], [9, 9, 7, 7], [3, 8, 5, 4, 6, 2]),
    3: ([5, 5, 5], [4, 6, 3], [2, 2, 2], [3, 4, 5, 6, 3, 2]),
}
CASES = [
    pytest.param(name, levels, size, id=f"{name}-{size}-{'x'.join(map(str, levels))}")
    for name, lattice in LATTICES.items()
    for size in lattice.group_sizes
    for levels in LEVELS[size]
]
PLAIN = {"lattice": "rectangle", "group_size": 1}  # levels one by one, as quantizers without a lattice take them
BASELINES = {
    "fsq": [8, 5, 6, 3],
    "vq": [300],
    "residual_vq": [40, 30, 20, 10],
    "pq": [85, 36],
    "sim_vq": [300],
    "lfq": [2] * 10,
    "bsq": [2] * 10,
}
OPTIONS = [{"bound": "ifsq"}, {"border": "inside"}, {"rotation": True}]  # of the lattice quantizer
SETTINGS = [
    pytest.param({"lattice": name, "levels": levels, "group_size": size}, id=case.id)
    for case in CASES
    for name, levels, size in [case.values]
]
SETTINGS += [pytest.param({"levels": [9, 9, 7, 7], "quantizer_kwargs": kwargs}, id=str(kwargs)) for kwargs in OPTIONS]
SETTINGS += [
    pytest.param({"quantizer": name, "levels": levels, **PLAIN}, id=name) for name, levels in BASELINES.items()
]


def tables(name: str, levels: list[int], size: int) -> list[Tensor]:
    """Points (G_j, g) of every group, in index order."""
    return [torch.tensor(lattice_points(cosets), dtype=torch.float64) for cosets in build_groups(name, levels, size)]


def trial_vectors(levels: list[int], count: int) -> Tensor:
    """Vectors (N, d) in lattice units: random, on cell boundaries and corners (ties), and far outside of the box."""
    generator = torch.Generator().manual_seed(len(levels) * sum(levels))
    half = torch.tensor(half_widths(levels))
    random = (torch.rand(count, len(levels), generator=generator) * 2 - 1) * (half + 1)
    quarters = (random[: count // 4] * 4).round() / 4
    on_one_boundary = random[: count // 8].clone()
    on_one_boundary[:, 0] = (on_one_boundary[:, 0] * 4).round() / 4
    far = random[: count // 8] * 300
    return torch.cat([random, quarters, on_one_boundary, far])


def make_quantizer(hidden_size: int = 12, **settings: Any) -> nn.Module:
    """A quantizer whose random weights spread the latents over the whole box."""
    torch.manual_seed(0)
    config = Q2D2Config(hidden_size=hidden_size, **settings)
    return QUANTIZERS[config.quantizer](config, **config.quantizer_kwargs)


def latents(batch: int = 3, frames: int = 50, hidden_size: int = 12) -> Tensor:
    """Random latents (B, T, D), large enough for the outer points."""
    return 2 * torch.randn(batch, frames, hidden_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "levels", "size"), CASES)
def test_nearest_point_is_as_near_as_the_nearest_of_all(name: str, levels: list[int], size: int):
    vectors = trial_vectors(levels, 24_000)
    points, indices = Lattices(name, levels, size).nearest(vectors)
    for j, table in enumerate(tables(name, levels, size)):
        channels = slice(j * size, (j + 1) * size)
        x, found, index = vectors[:, channels].double(), points[:, channels].double(), indices[:, j]
        assert (found - table[index]).abs().max() < 1e-5  # the index names the point, in the order of the table
        best = torch.cdist(x, table, compute_mode="donot_use_mm_for_euclid_dist").min(-1).values
        assert ((x - found).norm(dim=-1) <= best * (1 + 1e-5) + 1e-5).all()


def test_nearest_point_over_many_vectors():
    vectors = trial_vectors([9, 9, 7, 7], 150_000)
    (table, other), lattices = tables("rhombic", [9, 9, 7, 7], 2), Lattices("rhombic", [9, 9, 7, 7], 2)
    points, _ = lattices.nearest(vectors)
    for channels, points_of_group in ((slice(0, 2), table), (slice(2, 4), other)):
        best = torch.full((len(vectors),), math.inf)
        for point in points_of_group.float():
            best = best.minimum((vectors[:, channels] - point).square().sum(-1))
        distance = (vectors[:, channels] - points[:, channels]).square().sum(-1)
        assert torch.allclose(distance, best, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "levels", "size"), CASES)
def test_nearest_point_of_a_lattice_point_is_itself(name: str, levels: list[int], size: int):
    lattices = Lattices(name, levels, size)
    codes = torch.arange(min(math.prod(lattices.points_per_group), 50_000))
    indices = lattices.codes_to_indices(codes)
    points = lattices.indices_to_points(indices)
    found, found_indices = lattices.nearest(points)
    assert torch.allclose(found, points, atol=1e-6)
    assert torch.equal(found_indices, indices)


@pytest.mark.parametrize(("name", "levels", "size"), CASES)
def test_codes_indices_and_points_round_trip(name: str, levels: list[int], size: int):
    lattices = Lattices(name, levels, size)
    codebook_size = math.prod(lattices.points_per_group)
    codes = torch.arange(codebook_size) if codebook_size < 50_000 else torch.randint(codebook_size, (50_000,))
    indices = lattices.codes_to_indices(codes)
    assert torch.equal(lattices.indices_to_codes(indices), codes)
    assert (indices >= 0).all() and (indices < torch.tensor(lattices.points_per_group)).all()
    expected = [table[indices[:, j]] for j, table in enumerate(tables(name, levels, size))]
    assert torch.allclose(lattices.indices_to_points(indices).double(), torch.cat(expected, -1), atol=1e-5)


def test_codes_of_the_million_entry_codebook_round_trip():
    lattices = Lattices("rhombic", [9, 9, 7, 7, 7, 7], 2)
    codes = torch.cat([torch.arange(2000), torch.randint(1_047_625, (200_000,)), torch.arange(1_045_625, 1_047_625)])
    points = lattices.indices_to_points(lattices.codes_to_indices(codes))
    assert torch.equal(lattices.indices_to_codes(lattices.nearest(points)[1]), codes)


def test_first_group_is_the_least_significant_digit():
    lattices = Lattices("rhombic", [9, 9, 7, 7], 2)
    assert lattices.indices_to_codes(torch.tensor([[3, 0], [0, 1], [144, 84]])).tolist() == [3, 145, 145 * 85 - 1]


@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (2, 3, 4)])
def test_nearest_point_does_not_depend_on_the_shape_of_the_batch(shape: tuple[int, ...]):
    lattices = Lattices("hexagon", [7, 8, 5, 6], 2)
    vectors = trial_vectors([7, 8, 5, 6], 1000)[: max(1, math.prod(shape))]
    points, indices = lattices.nearest(vectors.view(*shape, 4))
    one_by_one = [lattices.nearest(vector) for vector in vectors]
    assert torch.equal(points.view(-1, 4), torch.stack([point for point, _ in one_by_one]))
    assert torch.equal(indices.view(-1, 2), torch.stack([index for _, index in one_by_one]))
    assert points.shape == (*shape, 4) and indices.shape == (*shape, 2)


def test_nearest_point_is_exact_under_bfloat16_autocast():
    lattices, vectors = Lattices("rhombic", [9, 9, 7, 7], 2), trial_vectors([9, 9, 7, 7], 20_000)
    expected = lattices.nearest(vectors)
    with torch.autocast("cpu", torch.bfloat16):
        found = lattices.nearest(vectors)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_every_quantizer_is_tested():
    assert set(QUANTIZERS) == {"lattice", *BASELINES}


@pytest.mark.parametrize("settings", SETTINGS)
class TestContract:
    """What holds for every quantizer of the registry."""

    def test_decode_of_codes_is_the_forward_value(self, settings: dict):
        module, z = make_quantizer(**settings), latents()
        quantized, codes = module(z)
        assert quantized.shape == z.shape and codes.shape == z.shape[:2] and codes.dtype == torch.int64
        assert torch.equal(module.encode(z), codes)
        assert torch.allclose(module.decode(codes), quantized, atol=1e-5)
        assert codes.min() >= 0 and codes.max() < module.codebook_size

    def test_codes_are_numbers_of_mixed_radix(self, settings: dict):
        module, config = make_quantizer(**settings), Q2D2Config(**settings)
        assert module.codebook_size == config.codebook_size == math.prod(config.points_per_group)
        codes = torch.randint(module.codebook_size, (2, 5))
        places = torch.tensor([math.prod(config.points_per_group[:i]) for i in range(len(config.points_per_group))])
        indices = module.codes_to_indices(codes)
        assert torch.equal((indices * places).sum(-1), codes)
        assert (indices >= 0).all() and (indices < torch.tensor(config.points_per_group)).all()

    def test_codes_do_not_depend_on_batch_or_autocast(self, settings: dict):
        module, z = make_quantizer(**settings), latents()
        quantized, codes = module(z)
        assert torch.equal(torch.cat([module.encode(item.unsqueeze(0)) for item in z]), codes)
        with torch.autocast("cpu", torch.bfloat16):
            quantized_under_autocast, codes_under_autocast = module(z)
            decoded_under_autocast = module.decode(codes)
        assert torch.equal(codes_under_autocast, codes)
        assert torch.equal(quantized_under_autocast, quantized)
        assert torch.equal(decoded_under_autocast, module.decode(codes))

    @pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.double()])
    def test_stays_float32_when_cast(self, settings: dict, cast):
        module, z = make_quantizer(**settings), latents()
        expected = module.state_dict()
        codes = module.encode(z)
        module = cast(module)
        for name, tensor in module.state_dict().items():
            assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
        assert torch.equal(module.encode(z), codes)
        assert module.decode(codes).dtype == torch.float32

    def test_half_precision_latents_are_quantized_in_float32(self, settings: dict):
        module, z = make_quantizer(**settings), latents().bfloat16()
        assert torch.equal(module.encode(z), module.encode(z.float()))

    def test_codes_at_the_walls_of_cells_are_not_stable(self, settings: dict):
        module = make_quantizer(**settings)
        z, other = latents(1, 400).double(), latents(1, 401)[:, 1:].double()
        twin = exact_copy(module, torch.float64)
        codes, stable = module.encode_stable(z.float())
        assert torch.equal(codes, twin.encode(z)) and stable.float().mean() > 0.9
        for _ in range(50):  # bisection of the way to another code
            middle = (z + other) / 2
            is_same = (twin.encode(middle) == codes).unsqueeze(-1)
            z, other = torch.where(is_same, middle, z), torch.where(is_same, other, middle)
        assert not module.encode_stable(z.float())[1][twin.encode(other) != codes].any()

    def test_learning_gives_what_forward_gives_and_reaches_latents_and_weights(self, settings: dict):
        module, z = make_quantizer(**settings), latents().requires_grad_()
        module.learn(z)  # codebooks begin
        expected = copy.deepcopy(module)(z)
        quantized, codes, loss = module.learn(z)
        assert torch.equal(quantized, expected[0]) and torch.equal(codes, expected[1])
        (quantized.square().sum() + (0 if loss is None else loss)).backward()
        for gradient in [z.grad, *(p.grad for p in module.parameters())]:
            assert gradient.isfinite().all() and gradient.abs().sum() > 0

    def test_nothing_moves_in_evaluation_or_when_frozen(self, settings: dict):
        module = make_quantizer(**settings)
        before = copy.deepcopy(module.state_dict())
        module(latents())
        module.eval().learn(latents())
        module.train().requires_grad_(False).learn(latents())
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    def test_can_be_pickled(self, settings: dict):
        module, z = make_quantizer(**settings), latents()
        module.learn(z)
        assert torch.equal(pickle.loads(pickle.dumps(module)).encode(z), module.encode(z))


@pytest.mark.parametrize(("name", "levels", "size"), CASES)
def test_every_code_is_reachable(name: str, levels: list[int], size: int):
    module = make_quantizer(len(levels), lattice=name, levels=levels, group_size=size)
    codebook_size = module.codebook_size
    codes = torch.arange(codebook_size) if codebook_size < 50_000 else torch.randint(codebook_size, (50_000,))
    module.project_in = module.project_out = nn.Identity()
    points = module.decode(codes.unsqueeze(0))
    assert torch.equal(module.encode((points * (1 - 1e-5)).atanh()).squeeze(0), codes)


@pytest.mark.parametrize(("name", "levels", "size"), CASES)
def test_gradient_of_lattice_points_is_the_identity(name: str, levels: list[int], size: int, monkeypatch):
    module = make_quantizer(len(levels), lattice=name, levels=levels, group_size=size)
    monkeypatch.setattr(module, "_bound", lambda z: z)
    monkeypatch.setattr(module, "_project_out", lambda points: points)
    bounded = trial_vectors(levels, 200).requires_grad_()
    weights = torch.randn(bounded.shape)
    points, _ = module(bounded)
    (points * weights).sum().backward()
    assert torch.equal(bounded.grad, weights)


@pytest.mark.parametrize(("name", "levels", "size"), CASES)
def test_gradient_is_that_of_the_path_without_quantization(name: str, levels: list[int], size: int):
    module: LatticeQuantizer = make_quantizer(lattice=name, levels=levels, group_size=size)
    z, weights = latents().requires_grad_(), torch.randn(3, 50, 12)
    half = torch.tensor(half_widths(levels))
    unquantized = module.project_out(torch.tanh(module.project_in(z)) * half / half)
    inputs = [z, module.project_in.weight, module.project_in.bias]
    expected = torch.autograd.grad((unquantized * weights).sum(), inputs)
    found = torch.autograd.grad((module(z)[0] * weights).sum(), inputs)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [7, 7], [2, 3, 4]])
def test_rectangle_of_single_channels_is_fsq(levels: list[int]):
    module = make_quantizer(len(levels), levels=levels, **PLAIN)
    module.project_in = module.project_out = nn.Identity()
    z = latents(hidden_size=len(levels))
    quantized, codes = module(z)
    half = (np.array(levels) - 1) / 2
    digits = np.rint(np.tanh(z.numpy()) * half + half)  # 0 ... l - 1 on every channel
    assert np.allclose(quantized.numpy(), digits / half - 1, atol=1e-6)
    assert np.array_equal(codes.numpy(), digits.astype(int) @ np.cumprod([1, *levels[:-1]]))


def test_decode_takes_32_bit_codes():
    module = make_quantizer(levels=[9, 9, 7, 7, 7, 7])
    codes = torch.randint(module.codebook_size, (2, 100))
    assert torch.equal(module.decode(codes.int()), module.decode(codes))


def test_codebooks_beyond_int64_are_refused():
    assert Q2D2Config(levels=[9] * 16).codebook_size == 145**8
    with pytest.raises(ValueError, match="int64"):
        Q2D2Config(levels=[9] * 18)


def test_unknown_quantizer_names_the_known_ones():
    with pytest.raises(ValueError, match=r"quantizer must be one of \[.*'lattice'.*got 'vqq'"):
        QUANTIZERS.resolve("vqq", {})
