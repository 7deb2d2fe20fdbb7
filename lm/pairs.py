"""A Llama whose audio codes are groups of small indices: one table of a few rows per group instead of the codebook.

A codebook of 145 * 85 * 85 = 1,047,625 codes has 315 points in all. The embedding of a code is the sum of those of its
points, and its probability a product over the groups,

    p(code | past) = p(i_0 | past) p(i_1 | past, i_0) p(i_2 | past, i_0, i_1) ...

The first factor has one more class, `<eos>`, so the probabilities of all codes and of the end add up to one. Text is
read, never predicted. Body, weights layout and cache are those of `transformers.LlamaModel`.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaPreTrainedModel, LlamaRMSNorm

from .cache import CACHE_ARGUMENT, make_cache
from .generation_config import fields_of
from .layout import EOS, PAD, codes_to_indices, indices_to_codes

LARGEST_CODEBOOK = 65_536  # of which `JointHead` gives all probabilities
FOLDER_LOADER = "from_package"  # module beside the bundled weights that finds this package
_HONOURED = ("max_new_tokens", "max_length", "do_sample", "temperature", "top_k", "top_p")


@strict
class PairLlamaConfig(LlamaConfig):
    """Settings of a [`PairLlamaForCausalLM`]: those of Llama, with `vocab_size` ids before the audio codes.

    Args:
        points_per_group: Points of each group of a code; the first one is the least significant.
    """

    model_type = "pair_llama"

    points_per_group: list[int] | tuple[int, ...] = (85, 85)

    def __post_init__(self, **kwargs: Any):
        if FOLDER_LOADER in str(kwargs.get("auto_map")):  # that of the bundled folder, no use for any other
            del kwargs["auto_map"]
        super().__post_init__(**kwargs)

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return math.prod(self.points_per_group)

    @property
    def num_ids(self) -> int:
        """Number of ids: `vocab_size` of specials and text, then the codes."""
        return self.vocab_size + self.codebook_size


class _EarlierIndices(nn.Module):
    """Adds to the state of a frame what the earlier indices of its code say about the next one."""

    def __init__(self, config: PairLlamaConfig):
        super().__init__()
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.up = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.down = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, earlier: Tensor) -> Tensor:
        """States (..., D) of states (..., D) and the summed embeddings (..., D) of the earlier indices."""
        of_hidden, of_earlier = self.up.weight.chunk(2, dim=1)
        inner = nn.functional.linear(hidden, of_hidden) + nn.functional.linear(self.norm(earlier), of_earlier)
        return hidden + self.down(nn.functional.silu(inner))


class PairLlamaForCausalLM(LlamaPreTrainedModel):
    """Llama with sums of point embeddings at its input and a chain of factors over the groups at its output.

    Args:
        config: Its settings. With `tie_word_embeddings` the output uses the rows of the input.
    """

    config_class = PairLlamaConfig

    def __init__(self, config: PairLlamaConfig):
        super().__init__(config)
        self.points_per_group = tuple(config.points_per_group)
        self.model = LlamaModel(config)
        self.point_embedding = nn.Embedding(sum(self.points_per_group), config.hidden_size)
        self.earlier_indices = nn.ModuleList(_EarlierIndices(config) for _ in self.points_per_group[1:])
        if not config.tie_word_embeddings:
            self.point_head = nn.Linear(config.hidden_size, 1 + sum(self.points_per_group), bias=False)
        self.post_init()

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings (..., D) of ids (...)."""
        offset = self.config.vocab_size
        is_code = input_ids >= offset
        indices = codes_to_indices((input_ids - offset).clamp_min(0), self.points_per_group)
        others = self.model.embed_tokens(input_ids.masked_fill(is_code, 0))
        return torch.where(is_code.unsqueeze(-1), self.embed_points(indices), others)

    def embed_points(self, indices: list[Tensor]) -> Tensor:
        """Sum (..., D) of the embeddings of the points (...) of the first groups."""
        return sum(self.point_embedding(index + self._first_row(group)) for group, index in enumerate(indices))

    def _first_row(self, group: int) -> int:
        return sum(self.points_per_group[:group])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = None,
        position_ids: Tensor | None = None,
    ) -> BaseModelOutputWithPast:
        """States (B, S, D) of ids (B, S); there are no logits, since a codebook may have millions of codes."""
        return self.model(
            inputs_embeds=self.embed(input_ids),
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **{CACHE_ARGUMENT: cache},
        )

    def head_rows(self, group: int) -> Tensor:
        """Rows of the output for the points of a group (G, D); those of the first group begin with `<eos>`."""
        if self.config.tie_word_embeddings:
            eos = self.model.embed_tokens.weight[self.config.eos_token_id].unsqueeze(0)
            rows = torch.cat([eos, self.point_embedding.weight])
        else:
            rows = self.point_head.weight
        return rows[self._first_row(group) + (group > 0) : 1 + self._first_row(group + 1)]

    def factor_logits(self, hidden: Tensor, earlier: list[Tensor]) -> Tensor:
        """Logits of the next group's points (..., G) of states (..., D), given the points (...) of the earlier groups.

        Those of the first group are (..., 1 + G): `<eos>` comes first.
        """
        rows = self.head_rows(len(earlier))
        if earlier:
            hidden = self.earlier_indices[len(earlier) - 1](hidden, self.embed_points(earlier))
        return nn.functional.linear(hidden, rows)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        position_ids: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
    ) -> Tensor:
        """Prompts with what follows them (B, S + n), padded where a row ended before the others.

        Args:
            input_ids: Prompts (B, S), shorter ones padded at their beginning.
            attention_mask: (B, S), 0 on that padding.
            max_new_tokens: Most codes and `<eos>` per row; 750 if nothing says how many.
            do_sample: Whether to draw each point, as by default; else the most probable one is taken, group after
                group.
            temperature: Divides the logits of every factor; 1 by default.
            top_p: Share of the probability of every factor that is drawn from, the most probable points first.
            generator: Source of randomness.
            position_ids: Positions (B, S) of the prompts, from `Layout.position_ids`.
            generation_config: Values for what is not passed: max_new_tokens or max_length, do_sample, temperature,
                top_k (of every factor) and top_p.

        Raises:
            ValueError: If prompt and new tokens do not fit the context, a value is out of range, or the generation
                config asks for anything else.
            RuntimeError: If the logits are not finite.
        """
        config = self.config
        passed = dict(max_new_tokens=max_new_tokens, do_sample=do_sample, temperature=temperature, top_p=top_p)
        settings = fields_of(generation_config, _HONOURED) if generation_config else {}
        settings |= {name: value for name, value in passed.items() if value is not None}
        size = input_ids.shape[1]
        new_tokens = settings.get("max_new_tokens", settings.get("max_length", size + 750) - size)
        if size + new_tokens > config.max_position_embeddings:
            raise ValueError(
                f"a prompt of {size} and {new_tokens} new tokens do not fit the context of "
                f"{config.max_position_embeddings}; shorten one of them"
            )
        if new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, or max_length above the {size} of the prompt")
        if not input_ids.numel() or input_ids.min() < 0 or input_ids.max() >= config.num_ids:
            raise ValueError(f"input_ids must be a non-empty batch of ids within 0 and {config.num_ids - 1}")
        warpers = _warpers(settings)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        ended = torch.zeros_like(input_ids[:, 0], dtype=torch.bool)
        cache, new = make_cache(config), input_ids
        for _ in range(new_tokens):
            # Padding shifts the positions of a row, which changes nothing: rotary embeddings see distances alone.
            output = self(new, mask, cache, use_cache=True, position_ids=position_ids)
            token = self._next(output.last_hidden_state[:, -1], warpers, generator)
            token = token.masked_fill(ended, PAD)
            ended = ended | (token == EOS)
            new = token.unsqueeze(1)
            position_ids = None if position_ids is None else position_ids[:, -1:] + 1
            input_ids = torch.cat([input_ids, new], 1)
            mask = torch.cat([mask, torch.ones_like(new)], 1)
            if ended.all():
                break
        return input_ids

    def _next(self, hidden: Tensor, warpers: list, generator: torch.Generator | None) -> Tensor:
        """Ids (B,) that follow states (B, D)."""
        indices: list[Tensor] = []
        for group in range(len(self.points_per_group)):
            logits = self.factor_logits(hidden, indices).float()
            if not logits.isfinite().all():
                raise RuntimeError("the model's logits are not finite; its weights are broken")
            for warp in warpers:
                logits = warp(None, logits)
            chosen = (
                torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0] if warpers else logits.argmax(-1)
            )
            if not group:
                ends = chosen == 0
                chosen = (chosen - 1).clamp_min(0)
            indices.append(chosen)
        ids = indices_to_codes(indices, self.points_per_group) + self.config.vocab_size
        return ids.masked_fill(ends, EOS)


class JointHead:
    """Log probabilities (B, 1 + codes) of `<eos>` and all codes after states (B, D), in float32.

    What does not depend on the states is computed once, so a factor for all points of the groups before is one product
    of matrices.

    Args:
        model: The model; its weights are copied.

    Raises:
        ValueError: If the codebook is too large; `generate` draws one point after another instead.
    """

    @torch.no_grad()
    def __init__(self, model: PairLlamaForCausalLM):
        if model.config.codebook_size > LARGEST_CODEBOOK:
            raise ValueError(
                f"the probabilities of {model.config.codebook_size:,} codes are too many to compute for every token "
                f"(the limit is {LARGEST_CODEBOOK:,}); use the generate of the model"
            )
        groups = model.points_per_group
        self._factors = []  # of the later groups: table (codes so far, D), rows of the MLP
        rows, self._sizes = [model.head_rows(0).float()], [1 + groups[0]]  # of all that is multiplied with the state
        for group, mlp in enumerate(model.earlier_indices, start=1):
            assert isinstance(mlp, _EarlierIndices)
            of_state, of_earlier = mlp.up.weight.float().chunk(2, dim=1)
            codes = torch.arange(math.prod(groups[:group]), device=of_state.device)
            earlier = mlp.norm(model.embed_points(codes_to_indices(codes, groups[:group])))
            head_rows = model.head_rows(group).float()
            table = nn.functional.linear(earlier.float(), of_earlier)
            self._factors.append((table, head_rows @ mlp.down.weight.float()))
            rows += [of_state, head_rows]
            self._sizes += [len(of_state), len(head_rows)]
        self._rows = torch.cat(rows)

    @torch.no_grad()
    def __call__(self, hidden: Tensor) -> Tensor:
        """See the class; codes whose first points differ alone lie side by side."""
        first, *others = nn.functional.linear(hidden.float(), self._rows).split(self._sizes, dim=1)
        first = first.log_softmax(-1)
        end, joint = first[:, :1], first[:, 1:]  # joint: (B, codes of the groups so far), the first varies fastest
        for (table, rows_of_mlp), of_state, logits in zip(self._factors, others[::2], others[1::2], strict=True):
            inner = nn.functional.silu(of_state.unsqueeze(1) + table, inplace=True)  # (B, codes so far, D)
            factor = nn.functional.linear(inner, rows_of_mlp).add_(logits.unsqueeze(1)).log_softmax(-1)
            joint = (joint.unsqueeze(1) + factor.transpose(1, 2)).flatten(1)
        return torch.cat([end, joint], 1)


def _warpers(settings: dict[str, Any]) -> list[LogitsProcessor]:
    """What changes the logits of a factor before a point is drawn; nothing if the most probable one is taken."""
    if not settings.get("do_sample", True):
        return []
    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(float(settings.get("temperature", 1.0)))]
    if settings.get("top_k"):
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    return [*warpers, TopPLogitsWarper(settings.get("top_p", 1.0))]


AutoConfig.register(PairLlamaConfig.model_type, PairLlamaConfig, exist_ok=True)
for _auto in (AutoModel, AutoModelForCausalLM):
    _auto.register(PairLlamaConfig, PairLlamaForCausalLM, exist_ok=True)

AnyLlama = LlamaForCausalLM | PairLlamaForCausalLM
