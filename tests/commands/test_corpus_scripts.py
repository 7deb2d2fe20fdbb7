"""The scripts around a corpus: several nodes, back to audio, and errors of the command."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from corpora import OPTIONS, SCRIPTS, digests, tokenize

from q2d2_tokenizer.commands.main import main
from q2d2_tokenizer.corpus.shards import find_row, load_token_shards
from q2d2_tokenizer.training.statistics import entropy_bits


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.mark.slow
def test_two_nodes_of_accelerate_give_the_files_of_one_process(corpus_file, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "codec")
    node = (
        f"--multi_gpu --num_machines 2 --num_processes 2 --main_process_ip 127.0.0.1 --main_process_port {free_port()}"
    )
    options = ["--licence", "cc0-1.0", "--max_hours", OPTIONS.max_hours, "--rows_per_shard", 3, "--source", "a test"]
    options += ["--codec", tmp_path / "codec", "--output", tmp_path / "two"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *node.split()]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    nodes = [
        subprocess.Popen(
            [
                *command,
                "--machine_rank",
                str(rank),
                str(SCRIPTS / "tokenize_dataset.py"),
                corpus_file,
                *map(str, options),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert outputs[0][0].count("20 rows = 12 with tokens + 8 rejected (3 empty, 1 not finite") == 1
    assert (
        "process 0 of 2" in outputs[0][1] and "x real time" in outputs[0][1] and "12 with tokens" not in outputs[1][0]
    )
    tokenize(corpus_file, tiny_model, tmp_path / "one")
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def test_a_row_becomes_audio_again(corpus_file, tiny_model, tmp_path, capsys):
    tiny_model.save_pretrained(tmp_path / "codec")
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    arguments = ["--output", str(tmp_path / "new" / "row.wav"), "--codec", str(tmp_path / "codec")]
    assert main(["decode-row", str(tmp_path / "out"), "id8", *arguments]) == 0
    tokens = find_row(tmp_path / "out", "id8")
    codes = torch.from_numpy(tokens.audio_codes).long().view(1, 1, -1)
    audio = tiny_model.decode(codes, num_samples=tokens.num_samples).audio_values.flatten().numpy()
    assert np.abs(soundfile.read(tmp_path / "new" / "row.wav", dtype="float32")[0] - audio.clip(-1, 1)).max() < 1e-4
    assert main(["decode-row", str(tmp_path / "out"), "id5", *arguments]) == 2
    with torch.no_grad():
        tiny_model.quantizer.project_in.bias += 0.5
    tiny_model.save_pretrained(tmp_path / "codec")
    assert main(["decode-row", str(tmp_path / "out"), "id8", *arguments]) == 2
    errors = capsys.readouterr().err
    assert "'id5' was rejected, unreadable" in errors
    assert f"{tokens.codec_fingerprint}, expected codec {tiny_model.fingerprint()}" in errors


def test_errors_of_the_command(corpus_file, tiny_model, tmp_path, capsys):
    tiny_model.save_pretrained(tmp_path / "codec")
    common = ["--output", str(tmp_path / "out"), "--licence", "cc0-1.0", "--codec", str(tmp_path / "codec")]
    assert main(["tokenize", str(corpus_file), *common, "--drop_columns", "nope", "text"]) == 2
    assert "drop_columns names ['nope'], the inputs have the columns ['audio', " in capsys.readouterr().err
    assert main(["tokenize", str(corpus_file), *common, "--audio_column", "speech"]) == 2
    assert main(["tokenize", str(tmp_path / "nothing"), *common]) == 2
    assert main(["tokenize", str(corpus_file), *common, "--output", str(corpus_file / "out")]) == 2
    assert main(["tokenize", str(corpus_file), *common, "--codec", str(tmp_path / "none")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("q2d2: ")]
    for line, part in zip(lines, ["no column 'speech'", "no Parquet, tar", "cannot write to", ""], strict=True):
        assert part in line


def test_plot_of_tokens(corpus_file, tiny_model, tmp_path, capsys, monkeypatch):
    tokenize(corpus_file, tiny_model, tmp_path / "out")
    assert main(["plot-tokens", str(tmp_path / "out"), "--output", str(tmp_path / "plots")]) == 0
    found = json.loads((tmp_path / "plots/tokens.json").read_text())
    rows = load_token_shards(tmp_path / "out", None)
    codes = np.concatenate(rows["codes"][:])
    indices = tiny_model.quantizer.lattices.codes_to_indices(torch.from_numpy(codes)).numpy()
    for grid, counts, row in zip(indices.T, found["counts_per_grid"], found["usage"][1:], strict=True):
        assert np.array_equal(np.bincount(grid, minlength=len(counts)), counts)
        assert row["entropy_bits"] == pytest.approx(entropy_bits(grid))
    joint, rates = found["usage"][0], found["rates"]
    assert joint["entropy_bits"] == pytest.approx(entropy_bits(codes)) and joint["used"] == len(set(codes))
    seconds = sum(rows["num_samples"]) / 24000
    assert rates["tokens_per_second"] == pytest.approx(len(codes) / seconds)
    assert rates["entropy_bits_per_second"] == pytest.approx(len(codes) / seconds * entropy_bits(codes))
    assert rates["nominal_bits_per_second"] == pytest.approx(tiny_model.config.bitrate)
    assert tiny_model.fingerprint() in (tmp_path / "plots/tokens.md").read_text()
    assert (tmp_path / "plots/tokens.png").stat().st_size > 10_000
    wrong = ["--output", str(tmp_path / "plots"), "--codec_fingerprint", "other"]
    assert main(["plot-tokens", str(tmp_path / "out"), *wrong]) == 2
    assert f"of codec {tiny_model.fingerprint()}, expected codec other" in capsys.readouterr().err
