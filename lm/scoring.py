"""What a language model says of the tokens it is to predict: loss, bits of each group, and how far its guesses miss."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from .layout import Layout, codes_to_indices
from .model import IGNORED
from .pairs import AnyLlama, PairLlamaForCausalLM

NeighbourLists = list[list[list[int]]]  # for every point of every group its neighbours


class Neighbours(nn.Module):
    """Points of each group whose cells touch.

    Args:
        neighbours: For every point of every group its neighbours.
    """

    table: Tensor

    def __init__(self, neighbours: NeighbourLists):
        super().__init__()
        width = max(len(points) for group in neighbours for points in group)
        table = torch.full((len(neighbours), max(map(len, neighbours)), width), -1)
        for group, points in enumerate(neighbours):
            for index, others in enumerate(points):
                table[group, index, : len(others)] = torch.tensor(others)
        # Neighbours, then -1. Not saved: it belongs to the data, not to the model.
        self.register_buffer("table", table, persistent=False)  # (P, G, M)

    def are_near(self, group: int, indices: Tensor, others: Tensor) -> Tensor:
        """Whether points (n,) of a group are neighbours of others (n,)."""
        return (self.table[group, indices] == others.unsqueeze(-1)).any(-1)


@dataclass(frozen=True)
class Score:
    """Exact measures of predictions; the last three are of the n_c targets that are codes.

    Args:
        nats: Log loss (n,) of all targets, in reading order.
        group_nats: Log loss (n_c, P) of each group's point given those of the groups before it; their sum is that of
            the code.
        is_right: Whether the best guess is the code (n_c,).
        is_near: Whether it is one cell off: a neighbour in one group, right in the others (n_c,). All false if the
            neighbours are not known.
    """

    nats: Tensor
    group_nats: Tensor
    is_right: Tensor
    is_near: Tensor


class Totals:
    """Sums of scores over batches and processes.

    Args:
        num_groups: Groups of a code.
    """

    def __init__(self, num_groups: int):
        self._by_place = torch.zeros(2, 32, dtype=torch.float64)  # nats and tokens by power of two of the place
        self._by_group = torch.zeros(num_groups, dtype=torch.float64)  # nats of codes
        self._outcomes = torch.zeros(3, dtype=torch.float64)  # codes, those guessed right, near misses

    def add(self, score: Score, targets: Tensor) -> None:
        """Add the score of targets (B, S)."""
        scored = targets != IGNORED
        powers = scored.cumsum(1)[scored].cpu().double().log2().floor().long()
        self._by_place[0] += torch.bincount(powers, score.nats.cpu().double(), 32)
        self._by_place[1] += torch.bincount(powers, minlength=32)
        self._by_group += score.group_nats.cpu().double().sum(0)
        counts = len(score.is_right), int(score.is_right.sum()), int(score.is_near.sum())
        self._outcomes += torch.tensor(counts, dtype=torch.float64)

    def reduce(self, accelerator: Accelerator) -> None:
        """Add up those of all processes."""
        sums = [part.to(accelerator.device, torch.float32) for part in (self._by_place, self._by_group, self._outcomes)]
        sums = [part.double().cpu() for part in accelerator.reduce(sums, "sum")]  # not all devices have float64
        self._by_place, self._by_group, self._outcomes = sums

    @property
    def bits(self) -> float:
        """Bits of all tokens."""
        return self._by_place[0].sum().item() / math.log(2)

    def means(self) -> dict[str, Any]:
        """Loss in nats, bits per token, by place and by group, and the shares of right guesses and of near misses.

        The places after `<audio>` are 0, 1-2, 3-6, 7-14 and so on; the key is the first of each range. The bits by
        group are those of the codes alone. Near misses are one cell off, in one group.
        """
        nats, tokens = self._by_place
        codes, right, near = self._outcomes.tolist()
        by_place = {2**i - 1: (nats[i] / tokens[i]).item() / math.log(2) for i in range(32) if tokens[i] > 0}
        return {
            "loss_nats": (nats.sum() / tokens.sum()).item(),
            "bits_per_token": self.bits / tokens.sum().item(),
            "bits_by_place": by_place,
            "bits_by_group": (self._by_group / (codes * math.log(2))).tolist(),
            "right_share": right / codes,
            "near_miss_share": near / codes,
        }


class Scorer(nn.Module):
    """Log loss of a language model on the tokens it is to predict; the output layer sees those positions alone.

    Args:
        model: The language model.
        layout: Its vocabulary.
        neighbours: See `Neighbours`; for near misses.
    """

    def __init__(self, model: AnyLlama, layout: Layout, neighbours: NeighbourLists | None = None):
        super().__init__()
        self.model = model
        self.layout = layout
        self.audio_offset = layout.audio_offset
        self.points_per_group = layout.points_per_group or (layout.codebook_size,)
        self.neighbours = Neighbours(neighbours) if neighbours else None

    def forward(self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Nats (n,) of the targets in reading order.

        Args:
            input_ids: (B, S) int64, padded at the end. Attention looks back only, so no token sees the padding and
                no attention mask is needed.
            targets: (B, S) int64, the token after each position, or `IGNORED` where none is scored.
            position_ids: (B, S) int64; those of the layout if left out.
        """
        hidden, targets = self._states(input_ids, targets, position_ids)
        return self._nats(hidden, targets)

    @torch.no_grad()
    def score(self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None) -> Score:
        """Everything about the targets (n,) of inputs as in `forward`."""
        hidden, targets = self._states(input_ids, targets, position_ids)
        is_code = targets >= self.audio_offset
        indices = self._indices(targets[is_code])
        group_nats, guess = self._groups(hidden[is_code], indices)
        wrong = torch.stack([guess != index for guess, index in zip(guess, indices, strict=True)], -1)  # (n_c, P)
        near = torch.zeros_like(wrong)
        if self.neighbours is not None:
            pairs = enumerate(zip(indices, guess, strict=True))
            near = torch.stack([self.neighbours.are_near(group, *pair) for group, pair in pairs], -1)
        is_near = (wrong.sum(-1) == 1) & (near & wrong).any(-1)
        return Score(self._nats(hidden, targets), group_nats, ~wrong.any(-1), is_near)

    def _states(self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        scored = targets != IGNORED
        return self._body(input_ids, position_ids)[scored], targets[scored]

    def _indices(self, targets: Tensor) -> list[Tensor]:
        return codes_to_indices((targets - self.audio_offset).clamp_min(0), self.points_per_group)

    def _places(self, input_ids: Tensor, position_ids: Tensor | None) -> dict[str, Tensor]:
        """Positions, if they are not the usual ones, with the mask that must go with them."""
        position_ids = self.layout.position_ids(input_ids) if position_ids is None else position_ids
        if position_ids is None:
            return {}
        return {"position_ids": position_ids, "attention_mask": torch.ones_like(input_ids)}

    def _body(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        """States (B, S, D)."""
        raise NotImplementedError

    def _nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Nats (n,) of targets (n,) after states (n, D)."""
        raise NotImplementedError

    def _groups(self, hidden: Tensor, indices: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Nats (n, P) of the points of codes after states (n, D), and the points of the best guess.

        A guess that is no code is -1 in every group.
        """
        raise NotImplementedError


class FlatScorer(Scorer):
    """Scores of a stock Llama, whose softmax is over all ids. The best guess is the most probable id."""

    model: LlamaForCausalLM

    def _body(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        places = self._places(input_ids, position_ids)
        return self.model.model(input_ids=input_ids, use_cache=False, **places).last_hidden_state

    def _nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = self.model.lm_head(hidden).float()  # (n, V)
        return nn.functional.cross_entropy(logits, targets, reduction="none")

    def _groups(self, hidden: Tensor, indices: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        log_probs = self.model.lm_head(hidden).float().log_softmax(-1)  # (n, V)
        guess = log_probs.argmax(-1)
        is_code = guess >= self.audio_offset
        guess = [index.masked_fill(~is_code, -1) for index in self._indices(guess)]
        rest = log_probs[:, self.audio_offset :]  # (n, codes whose earlier points are the right ones)
        before, nats = torch.zeros_like(rest[:, 0]), []
        for size, index in zip(self.points_per_group, indices, strict=True):
            rest = rest.unflatten(1, (-1, size))  # (n, codes of the later groups, G): the first group varies fastest
            rest = rest.gather(2, index.view(-1, 1, 1).expand(-1, rest.shape[1], 1))[:, :, 0]
            log_prob = rest.logsumexp(1)
            nats.append(before - log_prob)
            before = log_prob
        return torch.stack(nats, -1), guess


class PairScorer(Scorer):
    """Scores of pair tokens. The best guess is the most probable point of each group, given those guessed before."""

    model: PairLlamaForCausalLM

    def _body(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        return self.model(input_ids, use_cache=False, **self._places(input_ids, position_ids)).last_hidden_state

    def _nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        indices = self._indices(targets)
        nats = torch.zeros_like(hidden[:, 0], dtype=torch.float32)
        for group, index in enumerate(indices):
            log_probs = self._log_probs(hidden, indices[:group])
            if not group:
                end, log_probs = log_probs[:, 0], log_probs[:, 1:]
            nats = nats - log_probs.gather(1, index.unsqueeze(1))[:, 0]
        return torch.where(targets >= self.audio_offset, nats, -end)

    def _groups(self, hidden: Tensor, indices: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        nats: list[Tensor] = []
        guess: list[Tensor] = []
        for group, index in enumerate(indices):
            log_probs = self._log_probs(hidden, indices[:group])
            best = self._log_probs(hidden, [point.clamp_min(0) for point in guess]).argmax(-1)
            if not group:
                best, log_probs = best - 1, log_probs[:, 1:]  # <eos> comes first
                is_code = best >= 0
            guess.append(best.masked_fill(~is_code, -1))
            nats.append(-log_probs.gather(1, index.unsqueeze(1))[:, 0])
        return torch.stack(nats, -1), guess

    def _log_probs(self, hidden: Tensor, earlier: list[Tensor]) -> Tensor:
        return self.model.factor_logits(hidden, earlier).float().log_softmax(-1)


def make_scorer(model: AnyLlama, layout: Layout, neighbours: NeighbourLists | None = None) -> Scorer:
    """The scorer for a language model; see `Scorer`."""
    kind = PairScorer if isinstance(model, PairLlamaForCausalLM) else FlatScorer
    return kind(model, layout, neighbours)
