"""The comparison of output heads, in small and in this process."""

import sys
from argparse import Namespace

import compare_heads
import numpy as np
import pytest
from language_models import CODES, GROUPS, write_shard


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_contestants_train_on_the_same_data(tmp_path):
    rng = np.random.default_rng(0)
    data = [str(write_shard(tmp_path / "a.parquet", [rng.integers(0, CODES, 20).tolist() for _ in range(8)]))]
    args = Namespace(data=data, validation_data=data, steps=4, tokens_per_batch=64)
    args.hidden_size, args.num_layers, args.context, args.threads, args.seed = 32, 1, 32, 1, 0
    args.big_groups = [145, 85, 85]
    runs = {name: compare_heads.work(Namespace(**vars(args), worker=name)) for name in compare_heads.CONTESTANTS}
    rows = [compare_heads.table_row(name, run) for name, run in runs.items()]
    assert [row["codes"] for row in rows] == [CODES] * 2 + [1_047_625]
    assert rows[2]["parameters"] - rows[1]["parameters"] == (315 - sum(GROUPS)) * 32 + 3 * 32**2 + 32
    for row in rows[:2]:
        by_group = [float(bits) for bits in row["bits by group"].split(" + ")]
        assert sum(by_group) == pytest.approx(row["bits per token"], rel=0.2)  # <eos> is a token too
    assert [values["step"] for values in runs["flat"]["validations"]] == [2, 3, 4]
    assert rows[2]["bits per second"] == "-" and rows[2]["ms per step"] > 0
    compare_heads.plot_curves(tmp_path / "curves.png", runs)
    assert (tmp_path / "curves.png").stat().st_size > 1000
