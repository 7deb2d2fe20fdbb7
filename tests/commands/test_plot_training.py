"""Curves of a training run."""

import json

import pytest

from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.evaluation import curves as plots


def test_curves_of_a_run_that_was_resumed(tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    run.mkdir()
    rows = [{"step": s, "mel": 1 / s, "minutes": 0.1 * s} for s in (10, 20, 30)]
    rows += [
        {"step": 20, "mel": 5.0, "minutes": 0.3},
        {"step": 20, "validation_mel": 0.5, "validation_bits_by_place": {"0": 1.0}},
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.json").write_text('{"steps": 30}')
    curves = plots.read_log(run / "log.jsonl")
    assert curves == {"mel": ([10, 20, 30], [0.1, 5.0, 1 / 30]), "validation_mel": ([20], [0.5])}
    main(["plot-training", str(run), "--output", str(tmp_path / "out")])
    page = (tmp_path / "out" / "curves.md").read_text()
    assert "| mel | 10 | 0.1 | 30 | 0.03333 |" in page and '"steps": 30' in page
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["plot-training", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "no log.jsonl" in capsys.readouterr().err
