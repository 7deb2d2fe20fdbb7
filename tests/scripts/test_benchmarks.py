"""The benchmarks: they go on after an interruption, say what cannot run, and the cost table multiplies correctly."""

import json

import benchmark
import benchmarking
import cost_table
import pytest


@pytest.fixture
def worker(tmp_path) -> str:
    """Path of a script that adds a line to a file and gives a number, or fails as its name says."""
    path = tmp_path / "worker.py"
    path.write_text(
        "import json, pathlib, sys, time\n"
        "name = sys.argv[-1]\n"
        f"with open({str(tmp_path / 'log')!r}, 'a') as file: file.write(name + chr(10))\n"
        "if name == 'slow': time.sleep(30)\n"
        "if name == 'dead': sys.exit('no memory')\n"
        "print(json.dumps({'not_available': 'no'} if name == 'impossible' else {'speed': 2.0}))\n"
    )
    return str(path)


def test_interrupted_runs_go_on(worker, tmp_path):
    kept = tmp_path / "details/runs.jsonl"
    first = benchmarking.run_in_turns(worker, ["a", "b"], [], 2, benchmarking.KeptRuns(kept, {"seconds": 1}))
    assert first == {name: [{"speed": 2.0}] * 2 for name in "ab"}
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])  # killed while it wrote the third
    again = benchmarking.run_in_turns(worker, ["a", "b"], [], 2, benchmarking.KeptRuns(kept, {"seconds": 1}))
    assert again == first
    assert (tmp_path / "log").read_text().split() == ["a", "b"] * 3
    other = benchmarking.KeptRuns(kept, {"seconds": 2})  # of other settings nothing is known
    benchmarking.run_in_turns(worker, ["a"], [], 1, other)
    assert (tmp_path / "log").read_text().split()[6:] == ["a"]


def test_what_cannot_run_is_said_once(worker, tmp_path):
    results = benchmarking.run_in_turns(worker, ["impossible", "slow"], [], 2, limit_seconds=1.0)
    assert results == {"impossible": [{"not_available": "no"}], "slow": [{"not_available": "took more than 1 s"}]}
    assert benchmarking.median_of(results["slow"]) == {"not_available": "took more than 1 s"}
    with pytest.raises(RuntimeError, match="dead failed with status 1:\nno memory"):
        benchmarking.run_in_turns(worker, ["dead"], [], 1)


def test_table_compares_within_a_setting(tmp_path):
    cells = [
        {"codec": codec, "threads": threads, "batch": 1, "dtype": "float32", "mode": "eager"}
        for threads in (1, 2)
        for codec in ("Q2D2 (ours)", "Mimi")
    ]
    speeds = [{"encode_x": 40.0, "decode_x": 40.0, "both_x": 20.0}, {"encode_x": 4.0, "decode_x": 4.0, "both_x": 2.0}]
    results = [*speeds, {"encode_x": 60.0, "decode_x": 60.0, "both_x": 30.0}, {"not_available": "no compiler"}]
    runs = {json.dumps(cell): [result] for cell, result in zip(cells, results, strict=True)}
    rows = benchmark.compare(cells, runs)
    assert [row["ours_over_it_encode"] for row in rows] == [1.0, 10.0, 1.0, None]
    assert rows[3]["not_available"] == "no compiler" and rows[3]["encode_x"] is None
    assert len({tuple(row) for row in rows}) == 1  # all have the columns of the table
    benchmark.plot(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_errors_of_a_codec_become_a_row(monkeypatch):
    def broken(_):
        raise RuntimeError("\nno kernel for bfloat16")

    monkeypatch.setitem(benchmark.CODECS, "Mimi", broken)
    monkeypatch.setattr(benchmark.torch, "set_num_threads", lambda _: None)
    cell = {"codec": "Mimi", "threads": 1, "batch": 1, "dtype": "bfloat16", "mode": "eager"}
    args = benchmark.argparse.Namespace(worker=json.dumps(cell), seed=0, codec="bundled")
    assert benchmark.work(args) == {"not_available": "RuntimeError: no kernel for bfloat16"}


def test_cost_table(tmp_path, monkeypatch):
    measured = {"run": {"commit": "abc", "command": "python x"}, "results": [{"processes": 1, "hours": 2.0}]}
    measured["results"][0] |= {"times_real_time": 100.0, "shard_bytes": 4e6}
    (tmp_path / "corpus.json").write_text(json.dumps(measured))
    command = [str(tmp_path / "corpus.json"), "--processes", "2", "1000", "--price_per_core_hour", "0.05"]
    cost_table.main(command)
    text = (tmp_path / "cost.md").read_text()
    assert "| 1 h | 0.01 | 0.00 | 2.0 MB | 18 s | 0 s |" in text
    assert "| 100,000 h | 1,000.00 | 50.00 | 200,000.0 MB | 20.8 days | 1.0 h |" in text
    assert "100.0x real time, measured at commit abc" in text
