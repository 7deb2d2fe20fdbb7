"""The study: bits are equal, the queue goes on, what diverges is said, and the report says what the numbers say."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report
import run
import soundfile
import work
import yaml
from compare import LM_BITS, Study, holm, interval_and_p, outcome
from plan import ARMS, HERE, SMALL, Run, load_plan, read_yaml
from records import read_record, write_record

from q2d2_tokenizer.evaluation.statistics import t_quantile

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "codec": {"hidden_size": 16, "encoder_kwargs": {"depth": 1}, "decoder_kwargs": {"dim": 16, "depth": 1}},
    "training": {
        "steps": 4,
        "batch_size": 2,
        "segment_frames": 16,
        "warmup_steps": 1,
        "decay_steps": 2,
        "learning_rate": 0.001,
        "loudness_weight": 0.0,
        "discriminators": ["band"],
        "adversarial_start": 100,
        "mel_n_ffts": [512],
        "mel_bands": [40],
        "log_every": 1,
    },
    "evaluation": {"clips": 2, "seconds": 0.5, "token_recordings": 2, "metrics": ["log_mel"]},
    "language_model": {
        "rates": ["middle"],
        "hours": 1.0,
        "heads": ["flat", "pairs"],
        "model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "context": 64},
        "training": {"steps": 2, "tokens_per_batch": 64, "warmup_steps": 1, "decay_steps": 1, "log_every": 1},
    },
    "inherited": "nothing",
}
TWO_ARMS = [
    {"name": "fsq", "label": "FSQ", "comparisons": ["main"], "codec": {"lattice": "rectangle", "group_size": 1}},
    {"name": "rhombic", "label": "rhombic", "comparisons": ["main"], "codec": {"lattice": "rhombic", "group_size": 2}},
]
LEVELS = {"fsq": [9, 9, 10, 10], "rhombic": [7, 7, 7, 8]}


def write_arms(folder: Path, levels: dict[str, list[int]], seeds: int = 1) -> Path:
    arms = [arm | {"rates": {"middle": {"levels": levels[arm["name"]]}}} for arm in TWO_ARMS]
    path = folder / "arms.yaml"
    path.write_text(yaml.safe_dump({"middle": "middle", "seeds": {"middle": seeds}, "arms": arms}))
    return path


@pytest.fixture
def study_files(tmp_path) -> dict[str, Path]:
    """Two arms at equal bits, tiny sizes, and recordings to train on and of other speakers."""
    rng = np.random.default_rng(0)
    for name, count in (("speech-train", 3), ("speech-validation", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            noise = rng.standard_normal(24000) * np.hanning(24000) * 0.1
            soundfile.write(tmp_path / name / f"{number}.wav", noise, 24000)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    data = {name: tmp_path / f"speech-{name}" for name in ("train", "validation")}
    return data | {"arms": write_arms(tmp_path, LEVELS), "size": tmp_path / "tiny.yaml"}


def arguments(files: dict[str, Path], folder: Path) -> list[str]:
    names = {"--arms": "arms", "--size": "size", "--data": "train", "--validation_data": "validation"}
    options = [word for option, name in names.items() for word in (option, str(files[name]))]
    return [*options, "--output", str(folder / "runs"), "--work", str(folder / "work")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*nope.yaml: No such file"),
        ("text", "must be a mapping in YAML, got str"),
        ("a: [", "is no YAML"),
        ("arms: []", "lacks seeds, middle"),
    ],
)
def test_files_that_are_no_plan_are_refused_in_a_line(content, message, tmp_path):
    path = tmp_path / "nope.yaml"
    if content:
        path.write_text(content)
    output = ["--output", str(tmp_path / "study.md")]
    for main in (lambda *words: run.main(["--list", *words]), lambda *words: report.main([*output, *words])):
        with pytest.raises(SystemExit, match=message) as refused:
            main("--arms", str(path))
        assert len(str(refused.value).splitlines()) == 1


def test_arms_of_unequal_bits_are_refused(tmp_path, study_files):
    assert len(load_plan(study_files["arms"], study_files["size"]).runs) == 2
    path = write_arms(tmp_path, LEVELS | {"rhombic": [9, 9, 9, 9]})  # as many levels, 2.6 times the points
    with pytest.raises(ValueError, match=r"within 1% of each other, got fsq with 973.8 bit/s and rhombic with 1077"):
        load_plan(path, study_files["size"])


@pytest.mark.parametrize("size", [SMALL, HERE / "gpu.yaml"], ids=lambda path: path.stem)
def test_arms_of_the_study_are_equal_and_have_their_seeds(size):
    plan = load_plan(ARMS, size)
    at_middle = [run for run in plan.runs if run.rate == "middle"]
    assert {arm: sum(run.arm == arm for run in at_middle) for arm in plan.arms} == dict.fromkeys(plan.arms, 3)
    assert len({run.name for run in plan.runs}) == len(plan.runs)
    assert all(plan.against(arm) in plan.arms for arm in plan.arms)
    bits = {rate: [run.codec.bits_per_code for run in plan.runs if run.rate == rate] for rate in ("low", "high")}
    assert all(abs(b / nominal - 1) < 0.01 for rate, nominal in (("low", 7), ("high", 26)) for b in bits[rate])
    for prediction in read_yaml(ROOT / "docs/results/study/predictions.yaml"):
        assert {prediction["arm"], prediction["against"]} <= set(plan.arms)


def run_of(files: dict[str, Path], arm: str, **training: Any) -> Run:
    found = next(run for run in load_plan(files["arms"], files["size"]).runs if run.arm == arm)
    return Run(found.arm, found.rate, found.seed, found.settings | {"training": TINY["training"] | training})


def make_record(files: dict[str, Path], folder: Path, one: Run) -> dict[str, Any]:
    (folder / "work").mkdir()
    return work.work(one, [str(files["train"])], [str(files["validation"])], folder / "audio", folder / "work")


@pytest.mark.filterwarnings("ignore")
def test_a_run_measures_codec_tokens_and_language_models(study_files, tmp_path):
    record = make_record(study_files, tmp_path, run_of(study_files, "rhombic"))
    assert (record["status"], record["steps"], record["curve"]["step"]) == ("done", 4, [1, 2, 3, 4])
    assert record["curve"]["learning_rate"] == [0.001, 0.001, 0.001, 0.0005]
    assert len(record["scores"]["log_mel"]) == len(record["clips"]) == 2
    assert record["usage"]["tokens"] == 2 * 75 and [g["size"] for g in record["usage"]["groups"]] == [85, 98]
    assert set(record["language_models"]) == {"flat", "pairs"}
    assert all(0 < model["bits_per_second"] < 2000 for model in record["language_models"].values())
    assert {"codec", "evaluation", "tokens"} <= set(record["seconds"])
    json.dumps(record)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_diverges_is_reported(study_files, tmp_path):
    record = make_record(study_files, tmp_path, run_of(study_files, "fsq", learning_rate=1e30))
    assert record["status"] == "diverged" and "not finite" in record["error"] and "scores" not in record
    assert record["steps"] == len(record["curve"]["step"]) < 4
    plan = load_plan(study_files["arms"], study_files["size"])
    config = {"arm": "fsq", "rate": "middle", "seed": 0}
    text = report.status(Study(plan, [record | {"config": config}]), [record | {"config": config}])
    assert "**0 of 2 runs are done**, 1 diverged" in text and "FSQ, rate middle, seed 0: diverged, loss or" in text


WORKER = """
import json, os, signal, sys
name, output = sys.argv[-1], sys.argv[sys.argv.index("--output") + 1]
with open({log!r}, "a") as file:
    file.write(name + chr(10))
if os.path.exists({kill!r}) and name.startswith("rhombic"):
    os.remove({kill!r})
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
if os.path.exists({die!r}):
    sys.exit("/home/somebody/codec.py has no memory")
record = {{"config": json.loads({configs!r})[name], "status": "done", "error": None}}
json.dump(record, open(os.path.join(output, name + ".json"), "w"))
"""


@pytest.fixture
def queue(study_files, tmp_path, monkeypatch) -> list[str]:
    """Arguments of a queue whose workers note their name and write a record; files kill and die make them worse."""
    argv = arguments(study_files, tmp_path)
    args = run.parse(argv)
    runs = load_plan(args.arms, args.size).runs
    configs = json.dumps({one.name: run.config_of(one, args) for one in runs})
    paths = {name: str(tmp_path / name) for name in ("log", "kill", "die")}
    (tmp_path / "worker.py").write_text(WORKER.format(configs=configs, **paths))
    monkeypatch.setattr(run, "__file__", str(tmp_path / "worker.py"))
    return argv


def test_a_killed_queue_goes_on(queue, tmp_path):
    (tmp_path / "kill").touch()
    child = os.fork()
    if not child:
        os._exit(run.main(queue))
    assert os.waitpid(child, 0)[1] == 9
    assert sorted(path.stem for path in (tmp_path / "runs").glob("*.json")) == ["fsq_middle_0"]
    assert run.main(queue) == 0
    assert (tmp_path / "log").read_text().split() == ["fsq_middle_0", "rhombic_middle_0", "rhombic_middle_0"]
    assert run.main(queue) == 0 and len((tmp_path / "log").read_text().split()) == 3  # nothing is left to do


def test_a_run_in_another_process_is_left_to_it(queue, tmp_path, capsys):
    with run.locked(tmp_path / "work/locks/fsq_middle_0.lock") as lock:
        assert lock
        assert run.main(queue) == 1
    assert (tmp_path / "log").read_text().split() == ["rhombic_middle_0"]
    assert "2 runs: 1 done, 0 diverged, 0 failed, 1 to do" in capsys.readouterr().out
    assert run.main(queue) == 0


def test_a_worker_that_ends_is_reported_and_tried_again_on_request(queue, tmp_path):
    (tmp_path / "die").touch()
    assert run.main(queue) == 1
    record = json.loads((tmp_path / "runs/fsq_middle_0.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "its process ended with status 1: codec.py has no memory")
    assert str(tmp_path) not in json.dumps(record)
    (tmp_path / "die").unlink()
    (tmp_path / "runs/fsq_middle_0.json").unlink()
    assert run.main([*queue, "--only", "fsq_middle_0"]) == 0


def test_records_of_other_settings_are_refused(queue, tmp_path):
    assert run.main(queue) == 0
    path = tmp_path / "runs/fsq_middle_0.json"
    record = json.loads(path.read_text())
    record["config"]["training"]["learning_rate"] = 0.5
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"other settings of \['training'\]"):
        run.main(queue)


def test_data_sets_have_names_and_no_folders(tmp_path):
    sources = ["/data/speech/librispeech-train-*.parquet", "/x/kathleen-train-000.parquet", "/x/my_voice/"]
    assert run.names_of_data(sources) == ["librispeech-train", "kathleen-train", "my_voice"]
    for name in ("one-train-000", "one-train-001", "two-train-000", "two-test-000"):
        (tmp_path / f"{name}.parquet").touch()
    assert run.names_of_data([f"{tmp_path}/*-train-*.parquet"]) == ["one-train", "two-train"]


def synthetic(plan: Any, worse: dict[str, float], noise: float = 0.0) -> list[dict[str, Any]]:
    """Records of all runs of a plan, with scores of arms that are worse by a share."""
    records = []
    for one in plan.runs:
        rng = np.random.default_rng([one.seed, len(one.arm)])
        factor = (1 + worse.get(one.arm, 0.0)) * (1 + noise * rng.standard_normal())
        clips = 0.5 + 0.1 * np.random.default_rng(7).random(8)
        scores = {name: (factor * clips).tolist() for name in report.SCORES}
        models = {"flat": {"bits_per_second": 900.0 * factor}}
        size = one.codec.codebook_size
        groups = [{"entropy_bits": 5.75}, {"entropy_bits": 6.0}]
        usage = {"tokens": 50000, "codebook": {"size": size, "used": size / 2, "entropy_bits": 11.5}, "groups": groups}
        records.append(
            {
                "config": {"arm": one.arm, "rate": one.rate, "seed": one.seed, "data": ["a"], "validation_data": ["b"]}
                | one.settings,
                "run": {"commit": "0123", "torch": "2", "transformers": "5", "processor": "x", "threads": 1},
                "bits": {"per_token": one.codec.bits_per_code, "per_second": one.codec.bitrate},
                "status": "done",
                "error": None,
                "curve": {"step": [1, 2], "learning_rate": [0.1, 0.05], "mel": [2.0, 1.0]},
                "clips": list("abcdefgh"),
                "speakers": list("aabbccdd"),
                "scores": scores,
                "usage": usage,
                "language_models": models if one.settings["language_model"] else {},
                "seconds": {"codec": {"wall": 1.0, "processor": 1.0}},
            }
        )
    return records


def test_report_says_what_the_records_say(tmp_path, monkeypatch):
    plan = load_plan()
    records = synthetic(plan, {"rhombic": 0.1, "vq": -0.1}, noise=0.005)
    folder = tmp_path / "runs"
    folder.mkdir()
    for record in records[:-3]:
        config = record["config"]
        (folder / f"{config['arm']}_{config['rate']}_{config['seed']}.json").write_text(json.dumps(record))
    assert report.main(["--runs", str(folder), "--output", str(tmp_path / "study.md")]) == 0
    text = (tmp_path / "study.md").read_text()
    assert (
        f"**{len(records) - 3} of {len(records)} runs are done**" in text and "3 are missing (3 at rate middle)" in text
    )
    assert "Rate middle, log-mel distance: best is VQ; all others are clearly worse." in text
    grids = next(line for line in text.splitlines() if line.startswith("- Q2D2 rhombic at rate middle"))
    assert "worse by log-mel distance" in grids and "better than FSQ by STOI" in grids
    assert "- Q2D2 hexagon at rate middle: no clear difference" in text
    assert "| 50 % | 11.50 | 11.75 | 13.00 |" in text and "| – | – | 11.75 | 26.00 |" in text
    for name in ("differences", "variants", "rates", "after_lm", "curves"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000 and f"({name}.png)" in text.replace("./", "")
    assert "untried" in text and "nan" not in text


def test_report_without_runs_says_so(tmp_path):
    assert report.main(["--runs", str(tmp_path), "--output", str(tmp_path / "study.md")]) == 0
    text = (tmp_path / "study.md").read_text()
    assert "**0 of 142 runs are done**" in text and "No two arms of a rate are done yet." in text
    assert text.count("| not measured |") == 20 and "rates.png" not in text


def test_page_of_the_quantizers_alone_is_nested(tmp_path):
    assert report.quantizer_level(tmp_path / "results", tmp_path).startswith("Not measured yet")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/quantizers.md").write_text("# Title\n\n## Cells\n\n![a](a.png)\n\n## Walls\n")
    nested = report.quantizer_level(tmp_path / "results", tmp_path)
    assert nested.splitlines() == ["### Cells", "", "![a](results/a.png)", "", "### Walls"]


def test_records_that_are_not_of_the_plan_are_refused(tmp_path):
    record, settings = synthetic(load_plan(), {})[0], load_plan().runs[0].settings
    path = tmp_path / "fsq_middle_0.json"
    assert read_record(path, settings) is None
    write_record(path, record)
    assert read_record(path, settings) == record
    write_record(path, record | {"config": record["config"] | {"training": {"steps": 3}}})
    with pytest.raises(ValueError, match=r"made with other settings of \['training'\]"):
        read_record(path, settings)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        read_record(path, settings)


def test_intervals_hold_clips_and_seeds():
    plan = load_plan()
    exact = Study(plan, synthetic(plan, {"rhombic": 0.1}, noise=0.0)).difference("rhombic", "fsq", "middle", "stoi")
    assert exact and exact.mean == pytest.approx(0.1) and exact.seeds == (3, 3)
    study = Study(plan, synthetic(plan, {"rhombic": 0.1}, noise=0.02))
    noise, degrees = study.seed_noise("stoi")
    assert noise == pytest.approx(0.02, rel=0.35) and degrees == 2 * len(plan.arms)
    at_middle = study.difference("rhombic", "fsq", "middle", "stoi")
    at_low = study.difference("rhombic", "fsq", "low", "stoi")
    assert at_middle and at_low and at_low.seeds == (1, 1) and at_low.interval > 1.5 * at_middle.interval > 0
    bits = study.difference("rhombic", "fsq", "middle", LM_BITS)
    assert bits and bits.interval == pytest.approx(t_quantile(degrees) * noise_of_bits(study), rel=5e-3)
    one_seed = Study(plan, [r for r in synthetic(plan, {}) if r["config"]["seed"] == 0])
    alone = one_seed.difference("rhombic", "fsq", "middle", "stoi")
    assert alone and math.isnan(alone.interval) and not alone.is_clear


def noise_of_bits(study: Study) -> float:
    return study.seed_noise(LM_BITS)[0] * math.sqrt(2 / 3)


def test_paired_test_is_that_of_student():
    interval, p = interval_and_p(2.0, [(1.0, 3)])
    assert interval == pytest.approx(3.182, rel=1e-3) and p == pytest.approx(0.139, abs=1e-3)
    wider, _ = interval_and_p(2.0, [(1.0, 3), (1.0, 3)])  # six degrees of freedom
    assert wider == pytest.approx(2.447 * math.sqrt(2), rel=1e-3)
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_predictions_come_fail_or_stay_open():
    plan = load_plan()
    study = Study(plan, synthetic(plan, {"rhombic": 0.1}, noise=0.002))
    against_fsq = {name: study.difference(name, "fsq", "middle", "log_mel") for name in ("rhombic", "hexagon")}
    same = {"expect": "same", "margin": 0.02}
    assert outcome(same, against_fsq["rhombic"]) == "no" and outcome(same, against_fsq["hexagon"]) == "yes"
    assert outcome(same | {"margin": 1e-4}, against_fsq["hexagon"]) == "open"
    assert [outcome({"expect": way}, against_fsq["rhombic"]) for way in ("more", "less")] == ["yes", "no"]
    assert outcome({"expect": "more"}, against_fsq["hexagon"]) == "open"
    assert outcome(same, None) == "not measured"
