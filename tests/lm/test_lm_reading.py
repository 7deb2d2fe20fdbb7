"""Heads that begin by reading: audio attends to the text that is due, and to nothing else."""

import numpy as np
import pytest
import torch
from language_models import CODES, GROUPS, TINY

from lm.layout import AUDIO, BOS, Layout
from lm.model import ModelSettings, make_language_model
from lm.reading import add_reading_heads

PIECES, CODES_PER_PIECE, TEXT = 9, 5.0, 30


def sequences() -> torch.Tensor:
    """Ids (4, S) of texts and as many codes as they are expected to take."""
    rng = np.random.default_rng(0)
    layout = make_layout()
    pieces = layout.pieces_to_ids(rng.integers(0, PIECES, (4, TEXT)))
    codes = layout.codes_to_ids(rng.integers(0, CODES, (4, int(TEXT * CODES_PER_PIECE))))
    first, marker = np.full((4, 1), BOS), np.full((4, 1), AUDIO)
    return torch.from_numpy(np.concatenate([first, pieces, marker, codes], 1))


def make_layout(**changes) -> Layout:
    """A vocabulary whose pieces take five codes each."""
    values = {"codes_per_piece": (CODES_PER_PIECE,) * PIECES} | changes
    return Layout(CODES, 24000, "codec-a", PIECES, "text-a", GROUPS, **values)


@pytest.mark.parametrize("head", ["flat", "pairs"])
@torch.no_grad()
def test_audio_attends_to_the_text_that_is_due(head):
    torch.manual_seed(0)
    layout, ids = make_layout(), sequences()
    settings = ModelSettings(**TINY | {"hidden_size": 64, "num_heads": 4, "context": 256}, audio_head=head)
    model = make_language_model(settings, layout).eval()
    add_reading_heads(model, layout, ids, (0, 1))
    model.set_attn_implementation("eager")
    for number in (0, 1):
        weights = []
        attention = model.model.layers[number].self_attn
        attention.register_forward_hook(lambda module, args, output, to=weights: to.append(output[1]))
        model(ids, torch.ones_like(ids), position_ids=layout.position_ids(ids), use_cache=False)
        positions = layout.position_ids(ids)[0]
        text, audio = slice(1, 1 + TEXT), slice(TEXT + 22, TEXT + 122)
        distance = (positions[text] - positions[audio, None]).abs()
        to_text = weights[0][:, :, audio, text].mean(0)  # (heads, 100, TEXT)
        near = (to_text * (distance <= 20)).sum(-1).mean(-1)
        assert near[:2].min() > 0.6 and near[2:].max() < 0.3, near
        assert not attention.o_proj.weight[:, : 2 * attention.head_dim].any()  # what is read has no effect yet


def test_it_needs_durations_heads_and_layers():
    layout, ids = make_layout(), sequences()
    model = make_language_model(ModelSettings(**TINY), layout)
    with pytest.raises(ValueError, match="text_positions='durations'"):
        add_reading_heads(model, make_layout(codes_per_piece=()), ids, (0,))
    with pytest.raises(ValueError, match="layers \\(7,\\)"):
        add_reading_heads(model, layout, ids, (7,))
