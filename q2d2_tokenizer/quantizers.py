"""Quantizers: latents (B, T, D) -> quantized latents (B, T, D) and one integer per frame (B, T)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .configuration_q2d2 import Q2D2Config
from .lattices import box_half_widths, build_groups
from .layers import Float32Module
from .registry import Registry

QUANTIZERS = Registry("quantizer")
BOUNDS = {"tanh": 1.0, "ifsq": 0.8}  # name -> gain a of tanh(a z); 2 sigmoid(1.6 z) - 1 of iFSQ is tanh(0.8 z)
ROUNDING_MARGIN = 3e-5  # lattice units; above what rounding was seen to move a channel, see docs/LOG.md


def mixed_radix(sizes: Sequence[int]) -> list[int]:
    """Place values of a number whose first digit, of base `sizes[0]`, is the least significant."""
    places = [1]
    for size in sizes[:-1]:
        places.append(places[-1] * size)
    return places


class Lattices(nn.Module):
    """Nearest points of fixed lattices in closed form, for many groups of channels at once.

    Vectors are (..., d) float32 in lattice units (channel `i` within plus or minus `(l_i - 1) / 2`), group indices are
    (..., P) int64 with `0 <= index_j < points_per_group[j]`, codes are (...) int64.

    Args:
        lattice: Name in `lattices.LATTICES`.
        levels: Levels of each of the d channels.
        group_size: Channels per group.
        border: `edge` or `inside`; see `lattices.box_half_widths`.
    """

    offset: Tensor
    step: Tensor
    count: Tensor
    axis_place: Tensor
    first_coset_size: Tensor
    group_base: Tensor
    group_place: Tensor
    half_width: Tensor

    def __init__(self, lattice: str, levels: list[int] | tuple[int, ...], group_size: int, border: str = "edge"):
        super().__init__()
        self._settings = (lattice, tuple(levels), group_size, border)
        groups = build_groups(lattice, levels, group_size)
        self.group_size = group_size
        self.points_per_group = [sum(coset.num_points for coset in cosets) for cosets in groups]
        # A group of one coset repeats it: the copy is never strictly nearer, so it is never chosen.
        pairs = list(zip(*((cosets[0], cosets[-1]) for cosets in groups), strict=True))  # 2 tuples of P cosets
        self._add_table("offset", [[c.offset for c in cosets] for cosets in pairs], torch.float32)  # (2, P, g)
        self._add_table("step", [[c.step for c in cosets] for cosets in pairs], torch.float32)  # (2, P, g)
        self._add_table("count", [[c.count for c in cosets] for cosets in pairs])  # (2, P, g)
        self._add_table("axis_place", [[mixed_radix(c.count) for c in cosets] for cosets in pairs])  # (2, P, g)
        self._add_table("first_coset_size", [c.num_points for c in pairs[0]])  # (P,)
        self._add_table("group_base", self.points_per_group)  # (P,)
        self._add_table("group_place", mixed_radix(self.points_per_group))  # (P,)
        self._add_table("half_width", box_half_widths(lattice, levels, group_size, border), torch.float32)  # (d,)
        self.register_load_state_dict_post_hook(_check_tables)

    def _add_table(self, name: str, values: Sequence, dtype: torch.dtype = torch.int64) -> None:
        # Persistent: a computed buffer that is not saved comes back as garbage from `from_pretrained`.
        self.register_buffer(name, torch.tensor(values, dtype=dtype))

    def check_tables(self) -> None:
        """Compare the tables with those of the settings: a file may bring others of the same shape.

        Raises:
            ValueError: If they are of other levels or of another lattice.
        """
        lattice, levels, group_size, border = self._settings
        with torch.device("cpu"):
            expected = Lattices(lattice, levels, group_size, border).state_dict()
        wrong = [name for name, table in self.state_dict().items() if not torch.equal(table.cpu(), expected[name])]
        if wrong:
            raise ValueError(
                f"the tables {wrong} in the weights are not those of lattice {lattice!r} with levels {list(levels)} in "
                f"groups of {group_size} and border {border!r}, which the config asks for; they have "
                f"{self.group_base.tolist()} points a group instead of {expected['group_base'].tolist()}"
            )

    def nearest(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest lattice points (..., d) and their group indices (..., P) of vectors (..., d)."""
        with torch.autocast(vectors.device.type, enabled=False):
            # Channels come first, so that every operation runs along the vectors: axes 2 cosets, P, g, ...
            x = vectors.float().movedim(-1, 0).contiguous().unflatten(0, (-1, self.group_size))
            shape = (*self.offset.shape, *(1 for _ in vectors.shape[:-1]))
            offset, step, count, place = (
                table.view(shape) for table in (self.offset, self.step, self.count, self.axis_place)
            )
            steps = (x - offset).div_(step).round_().clamp_min_(0.0).clamp_max_(count - 1.0)
            points = offset + step * steps
            first, second = steps.long().mul_(place).sum(2)  # indices (P, ...) in either coset
            distances = (x - points).square_().sum(2)
            is_second = distances[1] < distances[0]
            index = torch.where(is_second, second + self.first_coset_size.view(shape[1], *shape[3:]), first)
            point = torch.where(is_second.unsqueeze(1), points[1], points[0])
            return point.flatten(0, 1).movedim(0, -1), index.movedim(0, -1)

    def is_within_cell(self, vectors: Tensor, indices: Tensor, margin: float) -> Tensor:
        """Whether all points within `margin` of vectors (..., d) along every axis have the same nearest points: (...).

        The nearest point of a group is the same in a convex cell, so the corners of a box speak for all of the box.

        Args:
            vectors: In lattice units.
            indices: Group indices (..., P) of their nearest points.
            margin: Half the edge of the box, in lattice units.
        """
        signs = list(itertools.product((-margin, margin), repeat=self.group_size))
        corners = torch.tensor(signs, dtype=torch.float32, device=vectors.device)  # (2**g, g)
        moved = vectors.float().unsqueeze(-2) + corners.repeat(1, len(self.points_per_group))  # (..., 2**g, d)
        return (self.nearest(moved)[1] == indices.unsqueeze(-2)).flatten(-2).all(-1)

    def indices_to_points(self, indices: Tensor) -> Tensor:
        """Lattice points (..., d) of group indices (..., P)."""
        second = indices >= self.first_coset_size
        local = torch.where(second, indices - self.first_coset_size, indices).unsqueeze(-1)  # (..., P, 1)
        first, other = (self.offset[c] + self.step[c] * ((local // self.axis_place[c]) % self.count[c]) for c in (0, 1))
        return torch.where(second.unsqueeze(-1), other, first).flatten(-2)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Flat codes (...) of group indices (..., P)."""
        return (indices * self.group_place).sum(-1)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Group indices (..., P) of flat codes (...)."""
        return (codes.unsqueeze(-1) // self.group_place) % self.group_base


def _check_tables(lattices: Lattices, incompatible_keys: object) -> None:
    lattices.check_tables()


class Quantizer(Float32Module):
    """The contract of a quantizer: `codebook_size`, `forward`, `encode`, `decode` and `codes_to_indices`.

    All is computed in float32 at least. `encode_stable` may be left as it is: every code then counts as uncertain,
    which is right but slow. So may `learn`, by a quantizer that the losses of the audio teach all it has to learn.
    """

    codebook_size: int

    def check_tables(self) -> None:
        """Refuse lattice tables that a file brought and that are not those of the settings; see `Lattices`."""
        for module in self.children():
            if isinstance(module, Lattices):
                module.check_tables()

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Quantized latents (B, T, D), with a gradient to the latents, and codes (B, T) of latents (B, T, D)."""
        raise NotImplementedError

    def learn(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What `forward` gives, and a loss () of the quantizer's own, if it has one; what training calls.

        In training mode, this may also move a codebook that no gradient reaches, unless all parameters are frozen.
        """
        return *self(latents), None

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, T) int64 of latents (B, T, D); computed in float64 if the latents and all parameters are."""
        return self(latents)[1]

    def encode_stable(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, T) of float32 latents (B, T, D), and which of them (B, T) no rounding error can change."""
        codes = self.encode(latents)
        return codes, torch.zeros_like(codes, dtype=torch.bool)

    def decode(self, codes: Tensor) -> Tensor:
        """Quantized latents (B, T, D) of codes (B, T) within `0 <= codes < codebook_size`."""
        raise NotImplementedError

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Indices (..., P) of codes (...), one for each of `config.points_per_group`."""
        raise NotImplementedError


@QUANTIZERS.register("lattice")
class LatticeQuantizer(Quantizer):
    """Projects latents to a few bounded channels and snaps groups of them to a fixed lattice.

    Linear -> tanh -> times half-width -> nearest lattice point (straight-through) -> divided by half-width ->
    Linear. Runs in float32 whatever the autocast state, since bfloat16 merges neighbouring codes.

    Source: Q2D2, arXiv 2512.01537, section 3; the bound `ifsq`: arXiv 2601.17124.

    Args:
        config: Of the codec.
        bound: Name in `BOUNDS`: `tanh`, or the flatter bound of iFSQ. The linear layer before it can learn to be
            either, so they differ where training begins.
        border: Where the outermost points lie: on the `edge` of the box, half of their cells outside, or so far
            `inside` that the cells fill the box; see `lattices.box_half_widths`.
        rotation: Whether to turn the channels by a learned rotation before the bound, and back behind the lattice. The
            linear layers could learn that too, so it changes how pairs are learned, not what they can be.
    """

    def __init__(self, config: Q2D2Config, bound: str = "tanh", border: str = "edge", rotation: bool = False):
        super().__init__()
        if bound not in BOUNDS:
            raise ValueError(f"bound must be one of {sorted(BOUNDS)}, got {bound!r}")
        self.gain = BOUNDS[bound]
        self.codebook_size, channels = config.codebook_size, len(config.levels)
        self.lattices = Lattices(config.lattice, config.levels, config.group_size, border)
        self.project_in = nn.Linear(config.hidden_size, channels)
        self.project_out = nn.Linear(channels, config.hidden_size)
        self.skew = nn.Parameter(torch.zeros(channels, channels)) if rotation else None

    def _rotate(self, vectors: Tensor, back: bool = False) -> Tensor:
        if self.skew is None:
            return vectors
        skew = self.skew - self.skew.T
        return vectors @ torch.linalg.matrix_exp(-skew if back else skew)

    def _bound(self, latents: Tensor) -> Tensor:
        latents = latents if latents.dtype == torch.float64 else latents.float()
        return (self.gain * self._rotate(self.project_in(latents))).tanh() * self.lattices.half_width

    def _project_out(self, points: Tensor) -> Tensor:
        return self.project_out(self._rotate(points / self.lattices.half_width, back=True))

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bound(latents)  # (B, T, d)
            points, indices = self.lattices.nearest(bounded.detach())
            points = bounded + (points - bounded).detach()  # straight-through gradient
            return self._project_out(points), self.lattices.indices_to_codes(indices)

    def encode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return self.lattices.indices_to_codes(self.lattices.nearest(self._bound(latents))[1])

    def encode_stable(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bound(latents)
            indices = self.lattices.nearest(bounded)[1]
            stable = self.lattices.is_within_cell(bounded, indices, ROUNDING_MARGIN)
            return self.lattices.indices_to_codes(indices), stable

    def decode(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            return self._project_out(self.lattices.indices_to_points(self.lattices.codes_to_indices(codes)))

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        return self.lattices.codes_to_indices(codes)
