"""Bits by group and near misses, against sums over the whole codebook."""

import pyarrow
import pyarrow.parquet
import pytest
import torch
from language_models import CODES, GROUPS, NEIGHBOURS
from test_lm_training import both_heads, make_trainer, sequences, settings, shards, tiny_scorer  # noqa: F401

from lm.batches import collate
from lm.data import shard_layout, shard_neighbours
from lm.layout import EOS, Layout, indices_to_codes
from lm.model import IGNORED
from lm.scoring import Scorer
from q2d2_tokenizer.corpus.shards import codec_metadata
from q2d2_tokenizer.lattices import build_groups, lattice_points

OFFSET = 4  # of the first code, after the specials


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of three sequences of random codes."""
    return collate(sequences(9, 4, 6))


@torch.no_grad()
def log_probs_of_all_codes(scorer: Scorer, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log probabilities (n, CODES) after every scored position."""
    columns = []
    for code in range(CODES):
        changed = torch.where(targets == IGNORED, IGNORED, OFFSET + code)
        columns.append(-scorer(input_ids, changed))
    return torch.stack(columns, -1)


@both_heads
def test_bits_by_group_are_a_chain_of_conditional_probabilities(head, batch):
    scorer = tiny_scorer(head)
    score = scorer.score(*batch)
    flat = batch[1][batch[1] != IGNORED]
    codes = flat[flat != EOS] - OFFSET
    assert torch.allclose(score.nats, scorer(*batch), atol=1e-5)
    assert torch.allclose(score.group_nats.sum(-1), score.nats[flat != EOS], atol=1e-4)
    tables = log_probs_of_all_codes(scorer, *batch)[flat != EOS].view(-1, *GROUPS[::-1])  # (n_c, 10, 5)
    first = tables.logsumexp(1)[torch.arange(len(codes)), codes % GROUPS[0]]
    assert torch.allclose(score.group_nats[:, 0], -first, atol=1e-4)


def test_near_misses_are_one_cell_off_in_one_group():
    class Guesses(Scorer):
        """A scorer whose guesses are given."""

        def _body(self, input_ids, position_ids):
            return torch.zeros(*input_ids.shape, 1)

        def _nats(self, hidden, targets):
            return torch.zeros(len(targets))

        def _groups(self, hidden, indices):
            return torch.zeros(len(hidden), 2), list(torch.tensor(guesses).T)

    #            right   near    near    two cells two groups no code  other end
    true_codes = [(2, 3), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3), (0, 0)]
    guesses = [(2, 3), (1, 3), (2, 4), (2, 5), (1, 4), (-1, -1), (0, 9)]
    scorer = Guesses(tiny_scorer().model, Layout(CODES, 24000, "codec-a", points_per_group=GROUPS), NEIGHBOURS)
    targets = torch.tensor([[OFFSET + indices_to_codes(true, GROUPS) for true in true_codes]])
    score = scorer.score(torch.zeros_like(targets), targets)
    assert score.is_right.tolist() == [True, *[False] * 6]
    assert score.is_near.tolist() == [False, True, True, *[False] * 4]


@both_heads
@torch.no_grad()
def test_the_best_guess_is_the_most_probable_one(head, batch):
    scorer = tiny_scorer(head)
    tables = log_probs_of_all_codes(scorer, *batch)
    scored = batch[1] != IGNORED
    likeliest, best = tables.max(-1)
    if head == "pairs":  # the first point, then the second one given the first
        tables = tables.view(-1, *GROUPS[::-1])  # (n, 10, 5)
        likeliest, first = tables.logsumexp(1).max(-1)
        best = first + GROUPS[0] * tables[torch.arange(len(first)), :, first].argmax(-1)
    others = [EOS] if head == "pairs" else range(OFFSET)
    others = torch.stack([-scorer(batch[0], torch.where(scored, other, IGNORED)) for other in others])
    targets = batch[1].masked_scatter(scored, OFFSET + best)
    is_right = scorer.score(batch[0], targets).is_right
    assert torch.equal(is_right, likeliest > others.max(0).values)
    assert is_right.any()


def test_shards_of_a_codec_tell_which_points_are_near(tiny_model, tmp_path):
    table = pyarrow.table({"codes": [[1]]}).replace_schema_metadata(codec_metadata(tiny_model))
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    neighbours, layout = shard_neighbours(tmp_path / "a.parquet"), shard_layout(tmp_path / "a.parquet")
    assert layout.points_per_group == tuple(map(len, neighbours)) == (145, 145)
    points = lattice_points(build_groups("rhombic", [9, 9], 2)[0])
    origin = points.index((0.0, 0.0))
    assert {points[index] for index in neighbours[1][origin]} == {(0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)}


def test_near_misses_need_neighbours(settings, tmp_path):  # noqa: F811
    assert "validation_near_miss_share" in make_trainer(settings, tmp_path / "new", "pairs").validate()
    path = settings["data"][0]
    pyarrow.parquet.write_table(without_neighbours(pyarrow.parquet.read_table(path)), path)
    values = make_trainer(settings, tmp_path / "old").validate()
    assert "validation_right_share" in values and "validation_near_miss_share" not in values


def without_neighbours(table: pyarrow.Table) -> pyarrow.Table:
    """The table of a shard as they were before they named neighbours."""
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"neighbours_per_group"}
    return table.replace_schema_metadata(metadata)
