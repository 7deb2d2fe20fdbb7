"""A language model of pair tokens as language_model.onnx: the next ids of a sequence -> scores of the next code.

Two rows are computed at once, with the text and without it, and the scores are those of classifier-free guidance. Keys
and values of the ids before go in; those of the new ids come out, to be put behind them.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from lm.layout import EOS
from lm.model import LanguageModel
from lm.pairs import PairLlamaForCausalLM

from .files import write_onnx


class OnnxLanguageModel(nn.Module):
    """One step of a model of pair tokens of two groups: scores as `lm.generate` has them, of the likeliest codes.

    Args:
        model: The model.
        first_points: Of how many points of the first group, the likeliest ones, the codes get scores.
    """

    def __init__(self, model: PairLlamaForCausalLM, first_points: int):
        super().__init__()
        self.model, self.first_points = model, first_points

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        past: Tensor,
        guidance_scale: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (1 + first_points * G,), their scores, and the keys and values of the new ids.

        Args:
            input_ids: The next S ids (2, S) with and without text.
            position_ids: Their positions (2, S).
            attention_mask: Which of the P + S ids so far (2, P + S) are there, and no padding.
            past: Keys, then values, of the P ids before (2 * layers, 2, heads, P, C).
            guidance_scale: How far scores move away from those without the text (); 1 for not at all.

        Returns:
            Codes, -1 for the end first; log probabilities, moved by guidance; and (2 * layers, 2, heads, S, C).
        """
        body, new = self.model.model, []
        hidden, num_past = self.model.embed(input_ids), past.shape[3]
        places = torch.arange(attention_mask.shape[1])
        visible = (places <= num_past + torch.arange(input_ids.shape[1]).unsqueeze(1)) & attention_mask.unsqueeze(1)
        angles = position_ids.unsqueeze(-1) * body.rotary_emb.inv_freq
        angles = torch.cat([angles, angles], dim=-1)
        for number, layer in enumerate(body.layers):
            attention, x = layer.self_attn, layer.input_layernorm(hidden)
            parts = (attention.q_proj, attention.k_proj, attention.v_proj)
            query, key, value = (part(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for part in parts)
            query, key = apply_rotary_pos_emb(query, key, angles.cos(), angles.sin())
            new += [key, value]
            keys, values = (torch.cat([past[2 * number + i], new[2 * number + i]], dim=2) for i in (0, 1))
            scores = query @ keys.transpose(2, 3) * attention.head_dim**-0.5
            scores = scores.masked_fill(~visible.unsqueeze(1), torch.finfo(scores.dtype).min)
            hidden = hidden + attention.o_proj((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return *self._score(body.norm(hidden[:, -1]), guidance_scale), torch.stack(new)

    def _score(self, hidden: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and their scores after states (2, D) with and without text."""
        logs = self.model.factor_logits(hidden, []).log_softmax(-1)
        first = logs[1] + scale * (logs[0] - logs[1])  # (1 + G,)
        points = first[1:].topk(self.first_points).indices  # (K,)
        earlier = points.expand(2, -1)
        logs = self.model.factor_logits(hidden.unsqueeze(1), [earlier]).log_softmax(-1)  # (2, K, G)
        second = logs[1] + scale * (logs[0] - logs[1])
        scores = first[1:][points].unsqueeze(1) + second  # (K, G)
        num_first, num_second = self.model.points_per_group
        codes = points.unsqueeze(1) + num_first * torch.arange(num_second)
        end = torch.full((1,), -1, dtype=codes.dtype)
        return torch.cat([end, codes.flatten()]), torch.cat([first[:1], scores.flatten()])


def export_language_model(language_model: LanguageModel, folder: Path, first_points: int = 16) -> None:
    """Write language_model.onnx and, beside it, the layout and what reads text.

    Args:
        language_model: A language model of pair tokens.
        folder: Where to write; made if absent.
        first_points: The step gives scores of all codes with one of that many points in their first group, the
            likeliest ones. All of them make it slow; 16 leave out what is hardly ever drawn.

    Raises:
        ValueError: If the model has a flat head, or pair tokens of other than two groups, or fewer points.
    """
    model = language_model.model
    if not isinstance(model, PairLlamaForCausalLM) or len(model.points_per_group) != 2:
        groups = len(language_model.layout.points_per_group)
        raise ValueError(
            f"the language model must have pair tokens of 2 groups, got a {model.config.model_type} of {groups}; a "
            "flat head is a plain Llama, which the exporters for transformers take"
        )
    if not 1 <= first_points <= model.points_per_group[0]:
        raise ValueError(f"first_points must be within 1 and {model.points_per_group[0]}, got {first_points}")
    folder.mkdir(parents=True, exist_ok=True)
    config, layout = model.config, language_model.layout
    past = torch.zeros(
        2 * config.num_hidden_layers, 2, config.num_attention_heads, 3, model.model.layers[0].self_attn.head_dim
    )
    mask = torch.ones(2, 7, dtype=torch.bool)
    inputs: dict[str, tuple[Tensor, dict[int, str]]] = {
        "input_ids": (torch.full((2, 4), EOS), {1: "ids"}),  # two tensors: the exporter takes one for one input
        "position_ids": (torch.full((2, 4), EOS), {1: "ids"}),
        "attention_mask": (mask, {1: "ids_so_far"}),
        "past": (past, {3: "past_ids"}),
        "guidance_scale": (torch.tensor(1.0), {}),
    }
    metadata = {
        "codec_fingerprint": layout.codec_fingerprint,
        "sampling_rate": str(layout.sampling_rate),
        "points_per_group": json.dumps(layout.points_per_group),
        "context": str(config.max_position_embeddings),
    }
    step = OnnxLanguageModel(model, first_points)
    write_onnx(step, folder / "language_model.onnx", inputs, ["codes", "scores", "new"], metadata)
    layout.save(folder)
    if language_model.text:
        language_model.text.save(folder)
