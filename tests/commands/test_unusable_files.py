"""What commands say of outputs that cannot be written and of files that are damaged: one line that names the file."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import tokenize

from q2d2_tokenizer.audio.token_file import TokenFile, save_tokens
from q2d2_tokenizer.commands.main import main

TO_FOLDERS = [
    "encode {wav} --codec {codec}",
    "tokenize {corpus} --licence x --codec {codec}",
    "train --data {corpus}",
    "train --data {corpus} --check",
    "finetune --data {corpus}",
    "train-text-tokenizer --data {corpus}",
    "train-lm --data {tokens}/data",
    "bundle-lm {lm}",
    "plot-tokens {tokens}",
    "plot-training {run}",
    "evaluate --data {corpus}",
    "evaluate-domains --speech {corpus}",
    "evaluate-lm --tokens {tokens}/data",
    "evaluate-tokens --stability {corpus}",
    "export-onnx --codec {codec}",
    "push owner/name",
]
TO_FILES = ["speak hello {models}", "continue {wav} {models}", "decode-row {tokens} id8 --codec {codec}"]


@pytest.fixture
def places(tmp_path, corpus_file, speech_like, tiny_model, language_model) -> dict[str, str]:
    """Inputs of the commands."""
    import soundfile

    soundfile.write(tmp_path / "voice.wav", speech_like(9000), 24000)
    tiny_model.save_pretrained(tmp_path / "codec")
    language_model.save(tmp_path / "lm")
    tokenize(corpus_file, tiny_model, tmp_path / "tokens")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    found = {"corpus": corpus_file, "wav": tmp_path / "voice.wav", "run": tmp_path / "run"}
    found |= {name: tmp_path / name for name in ("codec", "lm", "tokens")}
    models = f"--codec {tmp_path}/codec --language_model {tmp_path}/lm --max_seconds 0.2 --min_seconds 0.2"
    return {"models": models} | {name: str(path) for name, path in found.items()}


def said(words: list[str], capsys) -> str:
    """The one line of a command that cannot start."""
    capsys.readouterr()
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("q2d2: ")
    return line


def test_an_output_that_is_a_file_is_named_and_stays(places, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    for command in TO_FOLDERS:
        for output in (tmp_path / "file", tmp_path / "file/below"):
            line = said([*command.format(**places).split(), "--output", str(output)], capsys)
            assert f"cannot write to {output}: {tmp_path}/file is a file; choose another folder" in line, command
    assert (tmp_path / "file").read_text() == "precious"


def test_an_output_that_is_a_folder_is_named(places, tmp_path, capsys):
    (tmp_path / "out.wav").mkdir()
    for command in TO_FILES:
        line = said([*command.format(**places).split(), "--output", str(tmp_path / "out.wav")], capsys)
        assert f"cannot write to {tmp_path}/out.wav: it is a folder; name a file" in line


def test_a_damaged_plan_is_named(places, tmp_path, capsys):
    plan = tmp_path / "tokens/plan.json"
    plan.write_bytes(plan.read_bytes()[:100])
    words = ["tokenize", places["corpus"], "--licence", "x", "--codec", places["codec"], "--output", places["tokens"]]
    assert f"{plan} is damaged, it is no JSON" in said(words, capsys)


def test_damaged_shards_are_named(places, tmp_path, capsys):
    shard = next(path for path in sorted((tmp_path / "tokens/data").iterdir()) if pq.read_metadata(path).num_rows)
    table = pq.read_table(shard)
    rows = table.to_pylist()
    words = ["decode-row", places["tokens"], rows[0]["id"], "--codec", places["codec"], "--output", f"{tmp_path}/a.wav"]
    for wrong in (-5, 10**6):
        rows[0]["codes"][3] = wrong
        pq.write_table(pa.Table.from_pylist(rows, table.schema), shard)
        line = said(words, capsys)
        assert f"row {rows[0]['id']!r} of {shard}: codes must be within 0 and" in line
        assert f"got {wrong};" in line
        line = said(["plot-tokens", places["tokens"], "--output", str(tmp_path / "plots")], capsys)
        assert f"{shard}: codes must be" in line
    rows[0]["codes"] = rows[0]["codes"][:2]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), shard)
    assert f"of {shard}: its audio takes" in said(words, capsys)
    rejects = next((tmp_path / "tokens/rejects").iterdir())
    rejects.write_text(rejects.read_text()[:-9])
    words[2] = "nobody"
    assert f"{rejects}: Unterminated string" in said(words, capsys)


def test_tokens_out_of_range_are_refused_with_their_file(places, tmp_path, tiny_model, capsys):
    size = tiny_model.config.codebook_size
    save_tokens(tmp_path / "a.q2d2", TokenFile(np.arange(9) + size, 24000, 9 * 320, tiny_model.fingerprint()))
    words = ["continue", str(tmp_path / "a.q2d2"), *places["models"].split(), "--output", str(tmp_path / "a.wav")]
    assert f"{tmp_path}/a.q2d2: codes must be within 0 and {size - 1}" in said(words, capsys)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x83\x00\xff", "is no YAML or JSON in UTF-8"),
        (b"a: [1, 2", "is no YAML or JSON in UTF-8"),
        (b"- 1\n- 2\n", "must hold lines such as 'steps: 100', got list"),
        (b"", "must hold lines such as 'steps: 100', got nothing"),
    ],
)
def test_a_file_of_settings_that_holds_none_is_named(content, problem, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    for words in (["--config", str(file)], [f"--config={file}"]):
        assert f"--config: {file} {problem}" in said(["train", "--data", "a", "--output", "b", *words], capsys)
    assert f"--config: {tmp_path} is a folder" in said(["speak", "hello", "--config", str(tmp_path)], capsys)
    assert "--config needs a value" in said(["train", "--data", "a", "--output", "b", "--config"], capsys)


def test_damaged_results_are_named(tmp_path, capsys):
    (tmp_path / "evaluation.json").write_text(json.dumps({"data": {}})[:-1])
    words = ["results", str(tmp_path), "--output", str(tmp_path / "page.md")]
    assert f"{tmp_path}/evaluation.json is damaged" in said(words, capsys)
