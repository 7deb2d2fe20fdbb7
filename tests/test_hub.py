"""Saving, loading, exporting and publishing: the same tokens everywhere, or an error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioTokenization,
    AutoProcessor,
)

import q2d2_tokenizer
from q2d2_tokenizer import (
    Q2D2Config,
    Q2D2FeatureExtractor,
    Q2D2Model,
    Q2D2Processor,
    default_checkpoint,
    export_checkpoint,
    hub,
)
from q2d2_tokenizer.commands.main import main

ROOT = Path(q2d2_tokenizer.__file__).parents[1]
RATE = 24000
LOAD_WITHOUT_OPTIONAL_PACKAGES = """
import json, sys
import numpy as np
for name in ("accelerate", "datasets", "soundfile", "soxr"):
    sys.modules[name] = None  # an import of it fails
import q2d2_tokenizer
from transformers import AutoModel, AutoProcessor
model, processor = (auto.from_pretrained(sys.argv[1]) for auto in (AutoModel, AutoProcessor))
inputs = processor(audio=np.load(sys.argv[2]), sampling_rate=24000, return_tensors="pt")
codes = model.encode(**inputs).audio_codes.flatten().tolist()
json.dump({"fingerprint": model.fingerprint(), "codes": codes}, sys.stdout)
"""


def tokens(model: Q2D2Model, audio: np.ndarray) -> torch.Tensor:
    inputs = Q2D2FeatureExtractor()(audio, sampling_rate=RATE, return_tensors="pt")
    return model.encode(**inputs).audio_codes


@pytest.fixture
def audio(speech_like) -> np.ndarray:
    return speech_like(24000)


def test_save_and_load_keep_every_tensor_and_every_token(tiny_model, audio, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    loaded = Q2D2Model.from_pretrained(tmp_path)
    before, after = tiny_model.state_dict(), loaded.state_dict()
    buffers = {name for name, _ in tiny_model.named_buffers()}
    assert before.keys() == after.keys() and buffers <= before.keys()
    for name in before:
        assert before[name].dtype == after[name].dtype and torch.equal(before[name], after[name]), name
    assert not loaded.training
    assert loaded.fingerprint() == tiny_model.fingerprint()
    codes = tokens(tiny_model, audio)
    assert codes.unique().numel() > 20
    assert torch.equal(tokens(loaded, audio), codes)


def test_export_is_float16_on_disk_and_float32_in_use(tiny_model, tmp_path):
    fingerprint = export_checkpoint(tiny_model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    parameters = {name for name, _ in tiny_model.named_parameters()}
    assert {stored[name].dtype for name in parameters} == {torch.float16}
    for name, buffer in tiny_model.named_buffers():
        assert stored[name].dtype == buffer.dtype and torch.equal(stored[name], buffer), name
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    for loaded in (AutoModel.from_pretrained(tmp_path), Q2D2Model.from_pretrained(tmp_path, dtype="auto")):
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert loaded.fingerprint() == fingerprint
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, tiny_model.get_parameter(name).half().float()), name


@pytest.mark.parametrize("remote_code", [False, True])
def test_export_does_not_change_the_model_and_can_be_repeated(tiny_model, tmp_path, remote_code):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    config, fingerprint = tiny_model.config.to_dict(), tiny_model.fingerprint()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = export_checkpoint(tiny_model, tmp_path / "a", remote_code)
    assert torch.equal(torch.get_rng_state(), state)
    assert tiny_model.config.to_dict() == config and tiny_model.fingerprint() == fingerprint
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_model.state_dict().items())
    assert Q2D2Model._auto_class is None
    again = export_checkpoint(AutoModel.from_pretrained(tmp_path / "a"), tmp_path / "b")
    assert again == first
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert "auto_map" not in json.loads((tmp_path / "b" / "config.json").read_text())
    assert not list((tmp_path / "b").glob("*.py"))


def test_export_refuses_what_float16_cannot_hold(tiny_model, tmp_path):
    with torch.no_grad():
        tiny_model.decoder.head.project.bias[0] = 1e6
    with pytest.raises(ValueError, match="decoder.head.project.bias"):
        export_checkpoint(tiny_model, tmp_path)


def test_auto_classes(tiny_model, tmp_path):
    export_checkpoint(tiny_model, tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is Q2D2Config
    assert type(AutoModel.from_pretrained(tmp_path)) is Q2D2Model
    assert type(AutoModelForAudioTokenization.from_pretrained(tmp_path)) is Q2D2Model
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is Q2D2FeatureExtractor
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is Q2D2Processor and type(processor.feature_extractor) is Q2D2FeatureExtractor
    assert processor.feature_extractor.sampling_rate == tiny_model.config.sampling_rate
    assert type(AutoModel.from_config(tiny_model.config)) is Q2D2Model


def test_feature_extractor_of_an_export_has_the_rate_of_the_model(tiny_config, tmp_path):
    tiny_config.sampling_rate = 16000
    export_checkpoint(Q2D2Model(tiny_config), tmp_path)
    assert AutoFeatureExtractor.from_pretrained(tmp_path).sampling_rate == 16000


def test_another_process_gets_the_same_tokens_without_optional_packages(tiny_model, audio, tmp_path):
    fingerprint = export_checkpoint(tiny_model, tmp_path / "codec")
    np.save(tmp_path / "audio.npy", audio)
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-c", LOAD_WITHOUT_OPTIONAL_PACKAGES, "codec", "audio.npy"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = tokens(AutoModel.from_pretrained(tmp_path / "codec"), audio).flatten().tolist()
    assert json.loads(done.stdout) == {"fingerprint": fingerprint, "codes": expected}


def test_exported_code_is_the_model_only(tiny_model, tmp_path):
    export_checkpoint(tiny_model, tmp_path, remote_code=True)
    files = {path.stem for path in tmp_path.glob("*.py")}
    assert {"modeling_q2d2", "configuration_q2d2", "feature_extraction_q2d2", "processing_q2d2"} <= files
    assert not files & {"training", "data", "audio", "losses", "discriminators", "gan", "export", "__init__"}


def test_missing_or_left_over_tensor_is_refused(tiny_model, tmp_path):
    export_checkpoint(tiny_model, tmp_path)
    path = tmp_path / "model.safetensors"
    complete = load_file(path)
    for name in ("quantizer.lattices.offset", "encoder.backbone.norm.weight"):
        save_file({k: v for k, v in complete.items() if k != name}, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=name):
            AutoModel.from_pretrained(tmp_path)
    save_file(complete | {"encoder.surplus": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="encoder.surplus"):
        AutoModel.from_pretrained(tmp_path)


def test_tensors_of_another_shape_are_refused(tiny_model, tmp_path):
    export_checkpoint(tiny_model, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 48}))
    with pytest.raises((ValueError, RuntimeError), match="mismatch|does not fit"):
        AutoModel.from_pretrained(tmp_path)


def test_lattice_tables_of_other_levels_are_refused(tiny_model, tmp_path):
    # They have the same shape: a codec would go on with the levels of the weights under the name of others.
    export_checkpoint(tiny_model, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["levels"] = [level + 2 for level in config["levels"]]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="points a group instead of"):
        AutoModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="points a group instead of"):
        Q2D2Model(Q2D2Config(**config)).load_state_dict(tiny_model.state_dict())


def test_misspelt_config_key_is_refused(tiny_model, tmp_path):
    export_checkpoint(tiny_model, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["levles"] = config.pop("levels")
    path.write_text(json.dumps(config))
    for auto in (AutoConfig, AutoModel):
        with pytest.raises(ValueError, match="levles"):
            auto.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_tokens(tiny_model, audio, tmp_path, dtype):
    export_checkpoint(tiny_model, tmp_path)
    full = AutoModel.from_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    for model in (loaded, AutoModel.from_pretrained(tmp_path).to(dtype)):
        for part in ("encoder", "quantizer"):
            for name, tensor in full.get_submodule(part).state_dict().items():
                kept = model.get_submodule(part).state_dict()[name]
                assert kept.dtype == tensor.dtype and torch.equal(kept, tensor), name
        assert model.decoder.head.project.weight.dtype == dtype
        output = model(**Q2D2FeatureExtractor()(audio, sampling_rate=RATE, return_tensors="pt"))
        assert output.audio_codes.dtype == torch.int64
        assert output.audio_values.dtype == torch.float32 and output.audio_values.isfinite().all()
        codes = tokens(full, audio)
        assert torch.equal(output.audio_codes, codes) and model.fingerprint() == full.fingerprint()
        assert torch.equal(model.quantizer.decode(codes), full.quantizer.decode(codes))


def test_default_checkpoint_is_inside_the_package():
    assert Path(default_checkpoint()).parent == Path(q2d2_tokenizer.__file__).parent
    assert isinstance(default_checkpoint(), str)


@pytest.fixture
def checkpoint(tiny_model, tmp_path) -> Path:
    tiny_model.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


class HubStandIn:
    """Takes the calls of `HfApi` and keeps what would have been uploaded."""

    def __init__(self, failure: Exception | None = None):
        self.repos, self.uploads, self.failure = [], {}, failure

    def create_repo(self, repo_id, **kwargs):
        if self.failure:
            raise self.failure
        self.repos.append(repo_id)

    def upload_folder(self, *, folder_path, repo_id, **kwargs):
        assert repo_id in self.repos
        self.uploads[repo_id] = {path.name for path in Path(folder_path).iterdir()}


@pytest.mark.slow
def test_push_dry_run_loads_the_code_where_the_package_is_not_importable(checkpoint, tmp_path, monkeypatch):
    results, load_alone = [], hub.load_alone
    monkeypatch.setattr(hub, "load_alone", lambda *args: results.append(load_alone(*args)) or results[-1])
    monkeypatch.setattr(hub, "HfApi", lambda: pytest.fail("a dry run must not talk to the Hub"))
    out = tmp_path / "out"
    argv = ["push", "me/codec", "--codec", str(checkpoint), "--output", str(out), "--datasets", "a/b", "--dry_run"]
    assert main(argv) == 0
    model = AutoModel.from_pretrained(out)
    assert [result["fingerprint"] for result in results] == [model.fingerprint()]
    assert len(set(results[0]["codes"])) > 20
    assert results[0]["codes"] == tokens(model, hub.synthetic_audio(RATE)).flatten().tolist()
    assert main(argv) == 2  # the folder is not empty any more


def test_model_card_has_the_numbers_of_the_model(tiny_model, tmp_path):
    body = tmp_path / "MODEL_CARD.md"
    card = hub.model_card(tiny_model, "me/codec", ["a/b"], None)
    header = card.split("---")[1]
    assert "license: apache-2.0" in header and "library_name: transformers" in header and '["a/b"]' in header
    config = tiny_model.config
    for number in (tiny_model.fingerprint(), f"| {config.codebook_size} |", f"| {config.bitrate:.0f} |", "| 75 |"):
        assert number in card
    assert 'from_pretrained("me/codec", trust_remote_code=True)' in card
    body.write_text("## Training data")
    assert hub.model_card(tiny_model, "me/codec", ["a/b"], body) == card + "\n## Training data"


def test_push_stops_if_the_export_gives_other_tokens(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hub, "load_alone", lambda folder, audio: {"fingerprint": "0" * 16, "codes": [1]})
    monkeypatch.setattr(hub, "HfApi", lambda: pytest.fail("must not upload"))
    assert main(["push", "me/codec", "--codec", str(checkpoint), "--output", str(tmp_path / "out")]) == 2
    assert "other tokens" in capsys.readouterr().err


@pytest.fixture
def no_process(monkeypatch):
    """The command with its check by a new process left out, which the dry run tests."""

    def load_here(folder, audio):
        model = AutoModel.from_pretrained(folder)
        return {"fingerprint": model.fingerprint(), "codes": tokens(model, audio).flatten().tolist()}

    monkeypatch.setattr(hub, "load_alone", load_here)
    monkeypatch.setattr(hub, "get_token", lambda: "token")


def test_push_uploads_everything_that_loading_needs(no_process, checkpoint, tmp_path, monkeypatch):
    stand_in = HubStandIn()
    monkeypatch.setattr(hub, "HfApi", lambda: stand_in)
    argv = ["push", "me/codec", "--codec", str(checkpoint), "--output", str(tmp_path / "out")]
    assert main(argv) == 0
    needed = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "modeling_q2d2.py"}
    assert needed <= stand_in.uploads["me/codec"]


@pytest.mark.parametrize("token", [None, "token"])
def test_push_reports_a_hub_out_of_reach_and_keeps_the_export(
    no_process, checkpoint, tmp_path, monkeypatch, capsys, token
):
    monkeypatch.setattr(hub, "get_token", lambda: token)
    monkeypatch.setattr(hub, "HfApi", lambda: HubStandIn(ConnectionError("no network")))
    argv = ["push", "me/codec", "--codec", str(checkpoint), "--output", str(tmp_path / "out")]
    assert main(argv) == 1
    message = capsys.readouterr().err
    assert ("no network" if token else "hf auth login") in message and "is complete" in message
    assert AutoModel.from_pretrained(tmp_path / "out").config.codebook_size == 21025


def test_push_refuses_an_impossible_repository_name(checkpoint):
    assert main(["push", "a/b/c", "--codec", str(checkpoint)]) == 2
