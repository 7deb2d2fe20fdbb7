"""A Llama step by step: what transformers computes, with static caches and no work that does not depend on the step."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
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
        if isinstance(model, PairLlamaForCausalLM):
            self.embed: Map = model.embed
            self.log_probs: Map = JointHead(model)
            self._points, self._groups = model.point_embedding, model.points_per_group
            self._first_rows = [sum(self._groups[:group]) for group in range(len(self._groups))]
        else:
            self.embed = body.embed_tokens
            self.log_probs = partial(_flat_log_probs, model.lm_head, audio_offset)
            self._points, self._groups, self._first_rows = body.embed_tokens, (model.config.vocab_size,), [audio_offset]

    def embed_codes(self, codes: np.ndarray) -> Tensor:
        """Embeddings (B, D) of codes (B,)."""
        points = np.stack(codes_to_indices(codes, self._groups), axis=1) + self._first_rows
        return self._points(torch.from_numpy(points).to(self.device)).sum(1)


class _Layer:
    """What a step needs of a layer."""

    def __init__(self, layer: LlamaDecoderLayer):
        attention, mlp = layer.self_attn, layer.mlp
        turned = [_turned(one, attention.head_dim) for one in (attention.q_proj, attention.k_proj)]
        self.attention_norm, self.attention = _norm(layer.input_layernorm), _linear(*turned, attention.v_proj)
        self.output = _linear(attention.o_proj)
        self.mlp_norm, self.mlp = _norm(layer.post_attention_layernorm), _linear(mlp.gate_proj, mlp.up_proj)
        self.activation, self.down = mlp.act_fn, _linear(mlp.down_proj)


def _norm(norm: LlamaRMSNorm) -> Map:
    shape, weight, eps = tuple(norm.weight.shape), norm.weight.detach(), norm.variance_epsilon
    return lambda x: F.rms_norm(x, shape, weight, eps)


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
        config, self._llama, self._starts = llama.config, llama, starts
        self._heads = config.num_attention_heads
        self._key_heads = config.num_key_value_heads or self._heads
        cos, sin = llama.rotary(positions.new_empty(0, dtype=torch.float32), positions)  # both halves of C are equal
        self._turns = torch.complex(*(x.chunk(2, dim=-1)[0] for x in (cos, sin))).unsqueeze(2)  # (B, S, 1, C / 2)
        rows, size = positions.shape
        self._memory = cos.new_empty(len(llama.layers), rows, 2 * self._key_heads, size, cos.shape[-1])
        for row, start in enumerate(starts):
            self._memory[:, row, :, :start] = 0  # it is multiplied by zero, and was maybe not finite
        self._mask = None
        if any(starts):
            is_padding = torch.arange(size) < torch.tensor(starts).view(-1, 1, 1, 1)
            self._mask = torch.zeros(is_padding.shape).masked_fill(is_padding, _HIDDEN).to(cos)

    def read(self, embedded: Tensor) -> Tensor:
        """States (B, D) of the last ids of prompts, given the embeddings (B, S, D) of all, each row without padding."""
        size = embedded.shape[1]
        rows = [self._run(embedded[i : i + 1, s:], i, s, size) for i, s in enumerate(self._starts)]
        return torch.cat([states[:, -1] for states in rows])

    def step(self, embedded: Tensor, place: int) -> Tensor:
        """States (B, D) of the ids at a place, given their embeddings (B, D)."""
        return self._run(embedded.unsqueeze(1), 0, place, place + 1)[:, 0]

    def _run(self, x: Tensor, row: int, start: int, end: int) -> Tensor:
        """States (b, S, D) of embeddings (b, S, D) at the places from `start` to `end`, of the rows from `row` on."""
        rows, is_prompt = slice(row, row + len(x)), start == self._starts[row]
        turns, seen = self._turns[rows, start:end], slice(start if is_prompt else 0, end)
        mask = None if is_prompt or self._mask is None else self._mask[..., :end]
        for layer, memory in zip(self._llama.layers, self._memory[:, rows], strict=True):
            states = layer.attention(layer.attention_norm(x)).float().unflatten(-1, (-1, turns.shape[-1], 2))
            torch.view_as_complex(states[:, :, : self._heads + self._key_heads]).mul_(turns)
            states = states.flatten(-2).transpose(1, 2)  # (b, heads, S, C) of queries, keys and values
            memory[:, :, start:end] = states[:, self._heads :]
            keys, values = memory[:, :, seen].chunk(2, dim=1)
            queries, is_grouped = states[:, : self._heads], self._heads != self._key_heads
            attended = F.scaled_dot_product_attention(
                queries, keys, values, mask, is_causal=is_prompt, enable_gqa=is_grouped
            )
            x = x + layer.output(attended.transpose(1, 2).flatten(2).to(x.dtype))
            gate, up = layer.mlp(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = x + layer.down(layer.activation(gate) * up)
        return self._llama.norm(x)
