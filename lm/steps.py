"""A Llama step by step: what transformers computes, with static caches and no work that does not depend on the step."""

import math
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from .layout import EOS, codes_to_indices
from .pairs import AnyLlama, JointHead, PairLlamaForCausalLM

_HIDDEN = torch.finfo(torch.float16).min  # the score of padding
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

Map = Callable[[Tensor], Tensor]


def checksum(model: AnyLlama) -> tuple[int, ...]:
    """Numbers that change when weights do."""
    sums = [weight.detach().view(_INTEGERS[weight.element_size()]).sum() for weight in model.parameters()]
    return tuple(torch.stack(sums).tolist())


class PreparedLlama:
    """The weights of a Llama, laid out for one step after another.

    Args:
        model: The Llama, for inference; most of its weights are copied.
        audio_offset: Id of its first audio code.
    """

    def __init__(self, model: AnyLlama, audio_offset: int):
        body = model.model
        self.config, self.rotary, self.norm = model.config, body.rotary_emb, _norm(body.norm)
        self.device = body.embed_tokens.weight.device
        self.layers = [_Layer(layer) for layer in body.layers]
        self.heads = self.config.num_attention_heads
        self.key_heads = self.config.num_key_value_heads or self.heads
        if isinstance(model, PairLlamaForCausalLM):
            self.embed: Map = model.embed
            self.log_probs: Map = JointHead(model)
            self._points, self._groups = model.point_embedding, model.points_per_group
            self._first_rows = [sum(self._groups[:group]) for group in range(len(self._groups))]
        else:
            self.embed = body.embed_tokens
            self.log_probs = partial(_flat_log_probs, model.lm_head, audio_offset)
            self._points, self._groups, self._first_rows = body.embed_tokens, (model.config.vocab_size,), [audio_offset]

    def embed_codes(self, codes: list[int]) -> Tensor:
        """Embeddings (B, D) of codes (B,)."""
        points = [codes_to_indices(code, self._groups) for code in codes]
        rows = [[first + point for first, point in zip(self._first_rows, row, strict=True)] for row in points]
        return torch.embedding(self._points.weight, torch.tensor(rows, device=self.device)).sum(1)


class _Layer:
    """What a step needs of a layer."""

    def __init__(self, layer: LlamaDecoderLayer):
        attention, mlp = layer.self_attn, layer.mlp
        turned = [_turned(one, attention.head_dim) for one in (attention.q_proj, attention.k_proj)]
        self.attention_norm, self.attention = _norm(layer.input_layernorm), _linear(*turned, attention.v_proj)
        self.output = _linear(attention.o_proj)
        self.mlp_norm, self.mlp = _norm(layer.post_attention_layernorm), _linear(mlp.gate_proj, mlp.up_proj)
        self.activation, self.down = mlp.act_fn.forward, _linear(mlp.down_proj)


def _norm(norm: LlamaRMSNorm) -> Map:
    """The layer in fewer operations than those of torch: for a few rows, to call them takes longest."""
    size, dtype = len(norm.weight), torch.promote_types(norm.weight.dtype, torch.float32)
    weight = norm.weight.detach().to(dtype) * math.sqrt(size)
    least = weight.new_tensor(size * norm.variance_epsilon).sqrt()

    def normalize(x: Tensor) -> Tensor:
        """Rows (..., D) of about the length of the weight."""
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype).hypot_(least)
        return (x * weight).div_(lengths).to(x.dtype)

    return normalize


def _turned(layer: nn.Linear, head_dim: int) -> nn.Linear:
    """The layer with both halves of every head interleaved: what is rotated together then lies side by side."""

    def interleaved(x: Tensor) -> nn.Parameter:
        """Weights or biases with the halves of every head in turns."""
        return nn.Parameter(x.detach().view(-1, 2, head_dim // 2, *x.shape[1:]).transpose(1, 2).reshape(x.shape))

    turned = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    turned.weight = interleaved(layer.weight)
    turned.bias = None if layer.bias is None else interleaved(layer.bias)
    return turned


def _linear(*layers: nn.Linear) -> Map:
    """Layers with the same input as one."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    bias = torch.cat(biases) if biases else None
    packed = _packed(weight)
    if packed is None:
        return partial(F.linear, weight=weight, bias=bias)
    return lambda x: torch.fbgemm_linear_fp16_weight_fp32_activation(x, packed, bias)


def _packed(weight: Tensor) -> Tensor | None:
    """A weight as float16, if that is exact, as in a published model, and there is a kernel: half as much to read.

    Products and sums stay float32. Torch means to remove this kernel one day; the one that it names instead takes
    longer to call than to run.
    """
    is_exact = weight.dtype == torch.float32 and torch.equal(weight, weight.half().float())
    is_supported = weight.device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines
    if not (is_exact and is_supported and hasattr(torch, "fbgemm_pack_gemm_matrix_fp16")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will be removed; torch says it once
        packed = torch.fbgemm_pack_gemm_matrix_fp16(weight)
        torch.fbgemm_linear_fp16_weight_fp32_activation(weight[:1], packed, None)
    return packed


def _flat_log_probs(head: nn.Module, audio_offset: int, hidden: Tensor) -> Tensor:
    """Log probabilities (B, 1 + codes) of `<eos>` and all codes after states (B, D), among those of all ids."""
    log_probs = head(hidden).float().log_softmax(-1)
    return torch.cat([log_probs[:, EOS : EOS + 1], log_probs[:, audio_offset:]], dim=1)


class CachedSteps:
    """States of the last of some ids, and then of one more id of every row at a time.

    Args:
        llama: The Llama.
        positions: Positions (B, S) of all ids there may be.
        starts: Where each row starts; padding lies before.
    """

    def __init__(self, llama: PreparedLlama, positions: Tensor, starts: list[int]):
        self._llama, self._starts = llama, starts
        cos, sin = llama.rotary(positions.new_empty(0, dtype=torch.float32), positions)  # both halves of C are equal
        self._turns = torch.complex(*(x.chunk(2, dim=-1)[0] for x in (cos, sin))).unsqueeze(2)  # (B, S, 1, C / 2)
        rows, size = positions.shape
        self._memory = cos.new_empty(len(llama.layers), rows, 2 * llama.key_heads, size, cos.shape[-1])
        for row, start in enumerate(starts):
            self._memory[:, row, :, :start] = 0  # it is multiplied by zero, and was maybe not finite
        self._new = _NewStates(llama, self._turns[:, :1])
        self._mask = None
        if any(starts):
            is_padding = torch.arange(size) < torch.tensor(starts).view(-1, 1, 1, 1)
            self._mask = torch.zeros(is_padding.shape).masked_fill(is_padding, _HIDDEN).to(cos)

    def read(self, embedded: Tensor) -> Tensor:
        """States (B, D) of the last ids of prompts, given the embeddings (B, S, D) of all, each row without padding."""
        size, states = embedded.shape[1], []
        for row, start in enumerate(self._starts):
            rows = slice(row, row + 1)
            turns, memory = self._turns[rows, start:size], self._memory[:, rows, :, start:size]
            new = _NewStates(self._llama, turns)
            states.append(self._run(embedded[rows, start:], turns, new, memory, memory, None, is_prompt=True)[:, -1])
        return torch.cat(states)

    def step(self, embedded: Tensor, place: int) -> Tensor:
        """States (B, D) of the ids at a place, given their embeddings (B, D)."""
        end, memory = place + 1, self._memory
        turns, mask = self._turns.narrow(1, place, 1), None if self._mask is None else self._mask.narrow(3, 0, end)
        seen = memory.narrow(3, 0, end)
        return self._run(embedded.unsqueeze(1), turns, self._new, memory.narrow(3, place, 1), seen, mask)[:, 0]

    def _run(
        self,
        x: Tensor,
        turns: Tensor,
        new: "_NewStates",
        places: Tensor,
        seen: Tensor,
        mask: Tensor | None,
        is_prompt: bool = False,
    ) -> Tensor:
        """States (b, S, D) of embeddings (b, S, D).

        Args:
            x: The embeddings.
            turns: Rotations (b, S, 1, C / 2) of their positions.
            new: Memory of that shape.
            places: Where keys and values (layers, b, heads, S, C) are remembered.
            seen: Keys and values (layers, b, heads, all, C) of what they attend to.
            mask: Scores (b, 1, 1, all) that are added.
            is_prompt: Whether they are all there is, and each sees those before it alone.
        """
        keys, values = seen.chunk(2, dim=2)
        views = (one.unbind() for one in (places, keys, values))
        is_grouped = self._llama.heads != self._llama.key_heads
        for layer, place, layer_keys, layer_values in zip(self._llama.layers, *views, strict=True):
            new.flat.copy_(layer.attention(layer.attention_norm(x)))
            new.turned.mul_(turns)
            place.copy_(new.keys_and_values)
            attended = F.scaled_dot_product_attention(
                new.queries, layer_keys, layer_values, mask, is_causal=is_prompt, enable_gqa=is_grouped
            )
            x = layer.output(attended.transpose(1, 2).flatten(2).to(x.dtype)).add_(x)
            gate, up = layer.mlp(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = layer.down(layer.activation(gate).mul_(up)).add_(x)
        return self._llama.norm(x)


class _NewStates:
    """Memory for queries, keys and values of some ids in one layer, and views of it, made once for all layers."""

    def __init__(self, llama: PreparedLlama, turns: Tensor):
        turned = llama.heads + llama.key_heads
        states = turns.real.new_empty(*turns.shape[:2], turned + llama.key_heads, 2 * turns.shape[-1])
        self.flat = states.flatten(2)  # (b, S, all heads times C), as a linear layer gives them
        self.turned = torch.view_as_complex(states[:, :, :turned].unflatten(-1, (-1, 2)))  # queries and keys
        self.queries, self.keys_and_values = states.transpose(1, 2).split([llama.heads, 2 * llama.key_heads], dim=1)
