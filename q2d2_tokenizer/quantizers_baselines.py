"""Quantizers of other codecs, to compare lattices with: FSQ, VQ, residual VQ, PQ, SimVQ, LFQ and BSQ.

All but `fsq` have codebooks instead of a lattice: `levels` of the config are their sizes, and the flat code of a frame
is the number whose digits are the indices in all of them, the first one least significant. So residual VQ too has one
integer a frame. FSQ with levels about the origin, or with another bound or border, is the quantizer `lattice` with
`rectangle` in groups of 1.
"""

import math

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_q2d2 import Q2D2Config
from .quantizers import QUANTIZERS, ROUNDING_MARGIN, LatticeQuantizer, Quantizer, mixed_radix

_KMEANS_ROUNDS = 10


def _check_plain_levels(config: Q2D2Config) -> None:
    if (config.lattice, config.group_size) != ("rectangle", 1):
        raise ValueError(
            f"quantizer {config.quantizer!r} takes levels one by one: set lattice='rectangle' and group_size=1, got "
            f"lattice={config.lattice!r} and group_size={config.group_size}"
        )


@QUANTIZERS.register("fsq")
class FiniteScalarQuantizer(LatticeQuantizer):
    """FSQ as it is usually written: even levels count from `-l / 2` to `l / 2 - 1`, zero is one of them.

    Symmetric latents reach the top level more often than the bottom one. With odd levels it is the lattice quantizer
    of single channels, but for a box that is a thousandth wider.

    Source: FSQ, arXiv 2309.15505, appendix A.1.
    """

    def __init__(self, config: Q2D2Config):
        _check_plain_levels(config)
        if min(config.levels) < 3:
            raise ValueError(f"quantizer 'fsq' takes levels of at least 3, got {list(config.levels)}")
        super().__init__(config)

    @property
    def _offset(self) -> Tensor:
        """Distance (d,) of the origin from the middle of the levels: half a level where they are even."""
        return 0.5 * ((2 * self.lattices.half_width) % 2)

    def _bound(self, latents: Tensor) -> Tensor:
        latents = latents if latents.dtype == torch.float64 else latents.float()
        half_width = self.lattices.half_width * (1 + 1e-3)
        return (self.project_in(latents) + (self._offset / half_width).atanh()).tanh() * half_width

    def _project_out(self, points: Tensor) -> Tensor:
        return self.project_out((points - self._offset) / (self.lattices.half_width + self._offset))


class CodebookQuantizer(Quantizer):
    """Projects latents to vectors of a few channels, and finds for each its entries in one or several codebooks.

    A subclass supplies `_search` and `_entries`. It may have a `_loss`, and codebooks that `_begin` and `_follow`.

    Args:
        config: Of the codec.
        channels: Of the vectors.
    """

    has_one_codebook = False
    """Whether more than one is refused."""

    def __init__(self, config: Q2D2Config, channels: int):
        super().__init__()
        _check_plain_levels(config)
        if self.has_one_codebook and len(config.levels) != 1:
            sizes = list(config.levels)
            raise ValueError(
                f"quantizer {config.quantizer!r} has one codebook, got the sizes {sizes}; see `residual_vq`"
            )
        if channels < 1:
            raise ValueError(f"quantizer {config.quantizer!r} takes a positive number of channels, got {channels!r}")
        self.codebook_size = config.codebook_size
        self.levels = list(config.levels)
        self.project_in = nn.Linear(config.hidden_size, channels)
        self.project_out = nn.Linear(channels, config.hidden_size)

    def _vectors(self, latents: Tensor) -> Tensor:
        """Vectors (..., n) of latents (..., D)."""
        return self.project_in(latents if latents.dtype == torch.float64 else latents.float())

    def _search(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (..., P) of vectors (..., n), and how far (...) a vector may move at least until one changes."""
        raise NotImplementedError

    def _entries(self, indices: Tensor) -> Tensor:
        """Quantized vectors (..., n) of indices (..., P)."""
        raise NotImplementedError

    def _loss(self, vectors: Tensor, indices: Tensor) -> Tensor | None:
        """The quantizer's own loss () of vectors (..., n) that were given these indices (..., P)."""
        return None

    def _begin(self, vectors: Tensor) -> None:
        """Begin codebooks with the first vectors (N, n) of a training run."""

    def _follow(self, vectors: Tensor, indices: Tensor) -> None:
        """Move codebooks towards vectors (N, n) with these indices (N, P)."""

    def _quantize(self, vectors: Tensor, indices: Tensor) -> Tensor:
        points = vectors + (self._entries(indices) - vectors).detach()  # straight-through gradient
        return self.project_out(points)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(latents.device.type, enabled=False):
            vectors = self._vectors(latents)
            indices = self._search(vectors.detach())[0]
            return self._quantize(vectors, indices), self._indices_to_codes(indices)

    def learn(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        is_learning = self.training and self.project_in.weight.requires_grad
        with torch.autocast(latents.device.type, enabled=False):
            vectors = self._vectors(latents)
            if is_learning:
                self._begin(vectors.detach().flatten(0, -2))
            indices = self._search(vectors.detach())[0]
            quantized, loss = self._quantize(vectors, indices), self._loss(vectors, indices)
            if is_learning:
                self._follow(vectors.detach().flatten(0, -2), indices.flatten(0, -2))
            return quantized, self._indices_to_codes(indices), loss

    def encode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return self._indices_to_codes(self._search(self._vectors(latents))[0])

    def encode_stable(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(latents.device.type, enabled=False):
            vectors = self._vectors(latents)
            indices, room = self._search(vectors)
            return self._indices_to_codes(indices), room > ROUNDING_MARGIN * (1 + vectors.norm(dim=-1))

    def decode(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            return self.project_out(self._entries(self.codes_to_indices(codes)))

    def _indices_to_codes(self, indices: Tensor) -> Tensor:
        return (indices * indices.new_tensor(mixed_radix(self.levels))).sum(-1)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        places = zip(mixed_radix(self.levels), self.levels, strict=True)
        return torch.stack([codes.long() // place % size for place, size in places], dim=-1)


def nearest_entries(vectors: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (...) of the entries (K, n) nearest to vectors (..., n), and a bound (...) of how far these may move.

    The border to another entry is at least as far as half the difference of the distances.
    """
    # Not as a matrix product, whose rounding depends on the number of vectors.
    distances = torch.cdist(vectors.flatten(0, -2), entries, compute_mode="donot_use_mm_for_euclid_dist")
    (first, second), (indices, _) = (x.unbind(-1) for x in distances.topk(2, largest=False))
    return indices.unflatten(0, vectors.shape[:-1]), (second - first).div(2).unflatten(0, vectors.shape[:-1])


def _sums(vectors: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sum (K, n) and number (K,) of the vectors (N, n) that have each of K indices (N,)."""
    used = torch.bincount(indices, minlength=size).to(vectors.dtype)
    return vectors.new_zeros(size, vectors.shape[1]).index_add_(0, indices, vectors), used


def kmeans(vectors: Tensor, entries: Tensor, rounds: int) -> Tensor:
    """Means (K, n) of the vectors (N, n) nearest to each, found from entries (K, n); those of none stay."""
    for _ in range(rounds):
        sums, used = _sums(vectors, nearest_entries(vectors, entries)[0], len(entries))
        entries = torch.where(used.unsqueeze(1) > 0, sums / used.unsqueeze(1), entries)
    return entries


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class MovingCodebook(nn.Module):
    """Entries (K, n) that follow the vectors nearest to them: k-means from batch to batch, without a gradient.

    Source: VQ-VAE, arXiv 1711.00937, appendix A.1; revival of unused entries: SoundStream, arXiv 2107.03312.
    Differs: an entry is dead if it is used much less than the mean, whatever the size of batch and codebook.

    Args:
        size: Entries K, at least 2.
        channels: Of the entries.
        decay: Of the moving counts and means, per batch.
        revive_below: Share of the mean use below which an entry is replaced by a vector of the batch; below 1 / e,
            above which the moving counts would grow without end.
    """

    entries: Tensor
    counts: Tensor
    has_begun: Tensor

    def __init__(self, size: int, channels: int, decay: float, revive_below: float):
        super().__init__()
        for name, value, limit in (("decay", decay, 1.0), ("revive_below", revive_below, math.exp(-1))):
            if not 0 <= value < limit:
                raise ValueError(f"{name} must be at least 0 and below {limit:.4g}, got {value!r}")
        self.decay, self.revive_below = decay, revive_below
        self.register_buffer("entries", torch.randn(size, channels))
        self.register_buffer("counts", torch.ones(size))  # moving number of vectors per batch
        self.register_buffer("has_begun", torch.tensor(False))

    def begin(self, vectors: Tensor) -> None:
        """Begin with the means of groups of the first vectors (N, n), or with vectors, slightly moved, if N < K."""
        size, count = len(self.entries), len(vectors)
        if count < size:
            chosen = vectors[torch.randint(count, (size,), device=vectors.device)]
            self.entries.copy_(chosen + 0.1 * vectors.std(0) * torch.randn_like(chosen))
        else:
            chosen = vectors[torch.randperm(count, device=vectors.device)[:size]]
            self.entries.copy_(kmeans(vectors, chosen, _KMEANS_ROUNDS))
        # Random, so that entries that nothing uses do not all die in the same batch.
        self.counts.copy_((self.revive_below + (1 - self.revive_below) * torch.rand_like(self.counts)) * count / size)
        self.has_begun.fill_(True)
        self._agree()

    def follow(self, vectors: Tensor, indices: Tensor) -> None:
        """Move entries towards the vectors (N, n) that have their indices (N,), and revive the dead ones."""
        sums, used = _sums(vectors, indices, len(self.entries))
        if _is_distributed():
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(used)
        self.counts.lerp_(used, 1 - self.decay)
        share = (1 - self.decay) / self.counts.clamp_min(1e-9).unsqueeze(1)
        self.entries.add_(share * (sums - used.unsqueeze(1) * self.entries))
        mean = self.counts.mean()
        dead = (self.counts < self.revive_below * mean).nonzero().squeeze(1)
        self.entries[dead] = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
        self.counts[dead] = mean
        self._agree()

    def _agree(self) -> None:
        """Take the entries of the first process: what is drawn at random differs among processes."""
        if _is_distributed():
            torch.distributed.broadcast(self.entries, 0)
            torch.distributed.broadcast(self.counts, 0)


class MovingCodebookQuantizer(CodebookQuantizer):
    """What quantizers with moving codebooks share.

    Every part of a step moves the codebooks, so `accumulation` of a training run changes them.

    Args:
        config: Of the codec.
        channels: Of the vectors.
        channels_per_codebook: Of the entries.
        commitment: Weight of the squared distance of vectors to their entries, in the loss.
        decay: See `MovingCodebook`.
        revive_below: See `MovingCodebook`.
    """

    def __init__(
        self,
        config: Q2D2Config,
        channels: int,
        channels_per_codebook: int,
        commitment: float,
        decay: float,
        revive_below: float,
    ):
        super().__init__(config, channels)
        self.commitment = commitment
        self.codebooks = nn.ModuleList(
            MovingCodebook(size, channels_per_codebook, decay, revive_below) for size in config.levels
        )

    def _books(self) -> list[MovingCodebook]:
        return [book for book in self.codebooks if isinstance(book, MovingCodebook)]  # all, but checkers cannot know

    def _looked_up(self, indices: Tensor) -> list[Tensor]:
        """Entries (..., m) of indices (..., P), by codebook."""
        return [book.entries[indices[..., i]] for i, book in enumerate(self._books())]

    def _inputs(self, vectors: Tensor, number: int, found: list[Tensor]) -> Tensor:
        """What the codebook of this number looks up of vectors (..., n), given the entries of those before it."""
        raise NotImplementedError

    def _search(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []
        indices, rooms = [], []
        for number, book in enumerate(self._books()):
            index, room = nearest_entries(self._inputs(vectors, number, found), book.entries)
            indices.append(index)
            rooms.append(room)
            found.append(book.entries[index])
        return torch.stack(indices, dim=-1), torch.stack(rooms, dim=-1).amin(-1)

    def _loss(self, vectors: Tensor, indices: Tensor) -> Tensor | None:
        if not self.commitment:
            return None
        found = self._looked_up(indices)
        losses = [F.mse_loss(self._inputs(vectors, i, found), entries) for i, entries in enumerate(found)]
        return self.commitment * torch.stack(losses).sum()

    def _begin(self, vectors: Tensor) -> None:
        found: list[Tensor] = []
        for number, book in enumerate(self._books()):
            if not book.has_begun:
                book.begin(inputs := self._inputs(vectors, number, found))
                found.append(book.entries[nearest_entries(inputs, book.entries)[0]])

    def _follow(self, vectors: Tensor, indices: Tensor) -> None:
        found = self._looked_up(indices)  # before any of them moves
        for number, book in enumerate(self._books()):
            book.follow(self._inputs(vectors, number, found), indices[:, number])


@QUANTIZERS.register("residual_vq")
class ResidualVectorQuantizer(MovingCodebookQuantizer):
    """A codebook for vectors, and each further one for what the codebooks before it leave; quantized is the sum.

    Source: SoundStream, arXiv 2107.03312, section III-C; few channels: DAC, arXiv 2306.06546.

    Args:
        config: Of the codec.
        channels: Of the vectors.
        commitment: See `MovingCodebookQuantizer`.
        decay: See `MovingCodebook`.
        revive_below: See `MovingCodebook`.
    """

    def __init__(
        self,
        config: Q2D2Config,
        channels: int = 8,
        commitment: float = 0.25,
        decay: float = 0.99,
        revive_below: float = 0.1,
    ):
        super().__init__(config, channels, channels, commitment, decay, revive_below)

    def _inputs(self, vectors: Tensor, number: int, found: list[Tensor]) -> Tensor:
        return vectors - sum(found[:number])

    def _entries(self, indices: Tensor) -> Tensor:
        return torch.stack(self._looked_up(indices)).sum(0)


@QUANTIZERS.register("vq")
class VectorQuantizer(ResidualVectorQuantizer):
    """One codebook; the arguments are those of `residual_vq`."""

    has_one_codebook = True


@QUANTIZERS.register("pq")
class ProductQuantizer(MovingCodebookQuantizer):
    """Groups of channels in the box of the lattices, with learned points instead of those of a lattice.

    Source: Jegou et al., "Product quantization for nearest neighbor search", 2011.
    Differs: channels are bounded by tanh, and there is no loss of its own, so that only the points differ from those of
    the quantizer `lattice`.

    Args:
        config: Of the codec.
        channels_per_codebook: Channels of a group.
        commitment: See `MovingCodebookQuantizer`.
        decay: See `MovingCodebook`.
        revive_below: See `MovingCodebook`.
    """

    def __init__(
        self,
        config: Q2D2Config,
        channels_per_codebook: int = 2,
        commitment: float = 0.0,
        decay: float = 0.99,
        revive_below: float = 0.1,
    ):
        channels = channels_per_codebook * len(config.levels)
        super().__init__(config, channels, channels_per_codebook, commitment, decay, revive_below)
        self.channels_per_codebook = channels_per_codebook

    def _vectors(self, latents: Tensor) -> Tensor:
        return super()._vectors(latents).tanh()

    def _inputs(self, vectors: Tensor, number: int, found: list[Tensor]) -> Tensor:
        return vectors.unflatten(-1, (-1, self.channels_per_codebook))[..., number, :]

    def _entries(self, indices: Tensor) -> Tensor:
        return torch.cat(self._looked_up(indices), dim=-1)


@QUANTIZERS.register("sim_vq")
class SimVectorQuantizer(CodebookQuantizer):
    """One codebook of fixed random entries behind a linear layer, which the loss teaches: all entries move at once.

    Source: SimVQ, arXiv 2411.02038.

    Args:
        config: Of the codec.
        channels: Of the vectors.
        commitment: Weight of the loss, squared distances of entries to vectors.
        vector_weight: Share of that loss that moves vectors towards entries.
    """

    has_one_codebook = True
    directions: Tensor

    def __init__(self, config: Q2D2Config, channels: int = 8, commitment: float = 1.0, vector_weight: float = 0.25):
        super().__init__(config, channels)
        self.commitment, self.vector_weight = commitment, vector_weight
        self.register_buffer("directions", torch.randn(config.levels[0], channels) * channels**-0.5)
        self.transform = nn.Parameter(torch.eye(channels))

    def _search(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        indices, room = nearest_entries(vectors, (self.directions @ self.transform).detach())
        return indices.unsqueeze(-1), room

    def _entries(self, indices: Tensor) -> Tensor:
        return self.directions[indices[..., 0]] @ self.transform

    def _loss(self, vectors: Tensor, indices: Tensor) -> Tensor | None:
        entries = self._entries(indices)
        to_vectors, to_entries = F.mse_loss(entries, vectors.detach()), F.mse_loss(vectors, entries.detach())
        return self.commitment * (to_vectors + self.vector_weight * to_entries)


@QUANTIZERS.register("lfq")
class LookupFreeQuantizer(CodebookQuantizer):
    """The signs of the channels; its loss asks for certain signs of every frame and for all of them in a batch.

    Source: MAGVIT-v2, arXiv 2310.05737, section 3.1. Differs: signs count as independent in the entropy of the batch,
    as in BSQ, since the whole codebook is too large; that of a frame is exact.

    Args:
        config: Of the codec, with levels of 2.
        commitment: Weight of the squared distance of vectors to their signs, in the loss.
        entropy: Weight of the entropies in the loss.
        diversity: Weight of the entropy of the batch against that of a frame.
        sharpness: Inverse temperature of the probabilities of signs.
    """

    def __init__(
        self,
        config: Q2D2Config,
        commitment: float = 0.25,
        entropy: float = 0.1,
        diversity: float = 1.0,
        sharpness: float = 100.0,
    ):
        super().__init__(config, len(config.levels))
        if set(config.levels) != {2}:
            raise ValueError(f"quantizer {config.quantizer!r} has two levels a channel, got {list(config.levels)}")
        self.commitment, self.entropy, self.diversity, self.sharpness = commitment, entropy, diversity, sharpness
        self.size = 1.0  # of a channel

    def _search(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return (vectors > 0).long(), vectors.abs().amin(-1)

    def _entries(self, indices: Tensor) -> Tensor:
        return self.size * (2 * indices - 1).float()  # whatever the default dtype is

    def entropies(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Mean entropy () of the code of a vector (..., n), and entropy () of the codes of all of them, in nats."""
        logits = 4 * self.sharpness * self.size * vectors.flatten(0, -2)  # (N, n), of a positive sign
        of_vectors = (F.softplus(logits) - logits * logits.sigmoid()).sum(-1).mean()
        mean = logits.sigmoid().mean(0).clamp(1e-6, 1 - 1e-6)  # beyond, its logarithm has no finite gradient
        return of_vectors, F.binary_cross_entropy(mean, mean, reduction="sum")

    def _loss(self, vectors: Tensor, indices: Tensor) -> Tensor | None:
        of_vectors, of_batch = self.entropies(vectors)
        distance = F.mse_loss(vectors, self._entries(indices))
        return self.commitment * distance + self.entropy * (of_vectors - self.diversity * of_batch)


@QUANTIZERS.register("bsq")
class BinarySphericalQuantizer(LookupFreeQuantizer):
    """The signs of the channels of a vector on the unit sphere; the arguments are those of `lfq`.

    Source: BSQ, arXiv 2406.07548.
    """

    def __init__(
        self,
        config: Q2D2Config,
        commitment: float = 0.25,
        entropy: float = 0.1,
        diversity: float = 1.0,
        sharpness: float = 100.0,
    ):
        super().__init__(config, commitment, entropy, diversity, sharpness)
        self.size = len(config.levels) ** -0.5

    def _vectors(self, latents: Tensor) -> Tensor:
        return F.normalize(super()._vectors(latents), dim=-1)
