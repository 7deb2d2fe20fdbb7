"""Heads that begin by reading: attention of audio to the text whose sound is expected now.

A small model takes long to find out that it should look at the text, and where. With text placed where its sound is
expected (`Layout.codes_per_piece`), "where" is a rotary distance near zero, which weights can say at once: queries of
audio and keys of text that are constant vectors, whose product after rotation is a sum of cosines of the distance, a
bump around zero. What is read has no effect at first and is learned, as everything is from there on: a head that adds
noise at first would unlearn to look.
"""

import math

import torch
from torch import Tensor, nn

from .batches import Batch, TrainingBatches
from .layout import AUDIO, Layout
from .pairs import AnyLlama

_PEAK = 8.0  # score of text at distance zero; other keys have about zero
_WAVELENGTHS = ((12.0, 600.0), (40.0, 1200.0))  # of the cosines of each reading head in a layer, in positions
_PULL = 1e-2  # of the fit, towards zero


@torch.no_grad()
def add_reading_heads(model: AnyLlama, layout: Layout, input_ids: Tensor, layers: tuple[int, ...]) -> None:
    """Set queries and keys of the first heads of some layers so that audio attends to the text that is due.

    Args:
        model: To be changed; trained or not.
        layout: Its vocabulary, with `codes_per_piece`.
        input_ids: Sequences (B, S) with text, from which follows how audio and text look to a layer.
        layers: Which layers.

    Raises:
        ValueError: If text is not placed by durations, or the model has too few heads or layers.
    """
    config = model.config
    assert config.num_key_value_heads is not None and config.rope_parameters is not None  # set by LlamaConfig
    base = config.rope_parameters["rope_theta"]
    assert base is not None
    if not layout.codes_per_piece:
        raise ValueError("reading heads need text_positions='durations'")
    if config.num_key_value_heads < len(_WAVELENGTHS) or max(layers) >= config.num_hidden_layers:
        raise ValueError(
            f"reading heads need {len(_WAVELENGTHS)} heads and layers {layers}, got {config.num_key_value_heads} heads "
            f"and {config.num_hidden_layers} layers"
        )
    in_audio = (input_ids == AUDIO).cumsum(-1) > 0
    is_text = (input_ids >= layout.text_offset) & (input_ids < layout.audio_offset)
    group = config.num_attention_heads // config.num_key_value_heads
    for number in layers:
        states = _attention_inputs(model, layout, input_ids, number)
        attention = model.model.layers[number].self_attn
        to_audio, to_text = _indicator(states, in_audio), _indicator(states, is_text)
        for head, wavelengths in enumerate(_WAVELENGTHS):
            pattern = _bump(attention.head_dim, base, wavelengths)
            for row in range(head * group, (head + 1) * group):
                _rows(attention.q_proj, row, attention.head_dim).copy_(torch.outer(pattern, to_audio))
                attention.o_proj.weight[:, row * attention.head_dim : (row + 1) * attention.head_dim] = 0
            _rows(attention.k_proj, head, attention.head_dim).copy_(torch.outer(pattern, to_text))


def first_batch_with_text(batches: TrainingBatches) -> Batch:
    """The first batch of the first epoch in which some recording is shown with its text.

    Raises:
        ValueError: If there is none.
    """
    step = 0
    while batches.epoch(step) == 0:
        batch = batches.batch(step)
        if (batch.input_ids[:, 1] != AUDIO).any():
            return batch
        step += 1
    raise ValueError("no recording of the data is shown with a text")


def _attention_inputs(model: AnyLlama, layout: Layout, input_ids: Tensor, number: int) -> Tensor:
    """What comes to the attention of a layer (B, S, D)."""
    found = []
    hook = model.model.layers[number].self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: found.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    mask = torch.ones_like(input_ids)
    model(input_ids, attention_mask=mask, position_ids=layout.position_ids(input_ids), use_cache=False)
    hook.remove()
    return found[0]


def _indicator(states: Tensor, is_meant: Tensor) -> Tensor:
    """Direction (D,) along which states (B, S, D) are about one where they are meant and zero elsewhere."""
    x, y = states.flatten(0, 1).double(), is_meant.flatten().double()
    gram = x.T @ x
    pull = _PULL * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram + pull, x.T @ y).to(states.dtype)


def _bump(head_dim: int, base: float, wavelengths: tuple[float, float]) -> Tensor:
    """Query and key (head_dim,) whose score is `_PEAK` at distance zero and falls off over those wavelengths."""
    wavelength = 2 * math.pi * base ** (torch.arange(0, head_dim, 2) / head_dim)  # of each pair of dimensions
    chosen = (wavelength >= wavelengths[0]) & (wavelength <= wavelengths[1])
    pattern = torch.zeros(head_dim)
    pattern[: head_dim // 2][chosen] = math.sqrt(_PEAK * math.sqrt(head_dim) / int(chosen.sum()))
    return pattern


def _rows(linear: nn.Linear, head: int, head_dim: int) -> Tensor:
    return linear.weight[head * head_dim : (head + 1) * head_dim]
