"""The bundled folders: audio as users have it, and loading by those who have not imported the package."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor

import lm
from q2d2_tokenizer import Q2D2Model, default_checkpoint, export_checkpoint, read_audio, sample_recording

ROOT = Path(__file__).parent.parent
RATE = 24000
LOAD_WITHOUT_IMPORT = """
import json, sys
import torch
from transformers import (
    AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization, AutoModelForCausalLM, AutoProcessor
)
codec, language_model, first, saved = sys.argv[1:]
first = globals()[first].from_pretrained(codec, trust_remote_code=True)  # finds the package, whichever it is
model = AutoModelForAudioTokenization.from_pretrained(codec, trust_remote_code=True)
model.save_pretrained(saved)
speaker = AutoModelForCausalLM.from_pretrained(language_model, trust_remote_code=True)
ids = speaker.generate(torch.tensor([[1, 10, 20, 3]]), max_new_tokens=4, do_sample=False).tolist()
json.dump({"first": type(first).__name__, "fingerprint": model.fingerprint(), "ids": ids}, sys.stdout)
"""
FIRST = {
    "AutoConfig": "Q2D2Config",
    "AutoModel": "Q2D2Model",
    "AutoFeatureExtractor": "Q2D2FeatureExtractor",
    "AutoProcessor": "Q2D2Processor",
}


@pytest.mark.parametrize(
    ("auto", "name"), [pytest.param(*case, marks=[pytest.mark.slow] * (i != 1)) for i, case in enumerate(FIRST.items())]
)
def test_the_folders_load_where_the_package_is_not_imported(auto, name, tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf")}
    folders = [default_checkpoint(), lm.default_checkpoint()]
    command = [sys.executable, "-c", LOAD_WITHOUT_IMPORT, *folders, auto, "saved"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    codec, speaker = AutoModel.from_pretrained(folders[0]), AutoModelForCausalLM.from_pretrained(folders[1])
    ids = speaker.generate(torch.tensor([[1, 10, 20, 3]]), max_new_tokens=4, do_sample=False).tolist()
    assert json.loads(done.stdout) == {"first": name, "fingerprint": codec.fingerprint(), "ids": ids}
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"config.json", "model.safetensors"}
    assert "auto_map" not in (tmp_path / "saved" / "config.json").read_text()


@pytest.mark.parametrize(
    ("folder", "package"), [(default_checkpoint(), "q2d2_tokenizer"), (lm.default_checkpoint(), "lm.pairs")]
)
def test_the_folders_say_what_to_do_where_the_package_is_missing(folder, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="without its code.*install"):
        runpy.run_path(f"{folder}/from_package.py")


def test_the_map_of_the_bundled_folders_stays_in_them(tmp_path):
    loaders = {
        "codec": lambda: AutoModel.from_pretrained(default_checkpoint()),
        "extractor": lambda: AutoFeatureExtractor.from_pretrained(default_checkpoint()),
        "processor": lambda: AutoProcessor.from_pretrained(default_checkpoint()),
        "lm": lambda: AutoModelForCausalLM.from_pretrained(lm.default_checkpoint()),
    }
    for name, load in loaders.items():
        load().save_pretrained(tmp_path / name)
        assert all("auto_map" not in path.read_text() for path in (tmp_path / name).glob("*.json")), name
    (tmp_path / "from_package.py").touch()  # exported once more, the bundled folder keeps it
    export_checkpoint(AutoModel.from_pretrained(default_checkpoint()), tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        old = json.loads((Path(default_checkpoint()) / name).read_text())
        assert json.loads((tmp_path / name).read_text())["auto_map"] == old["auto_map"]


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("gain", [0.25, 1.0])
def test_audio_from_a_resampler_has_about_the_tokens_of_the_same_in_a_file(rate, gain):
    # What a resampler leaves above the old band is silence, a 16-bit file has its noise there.
    codec = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    audio = gain * read_audio(sample_recording(), RATE)
    narrow = soxr.resample(soxr.resample(audio, RATE, rate), rate, RATE).astype(np.float32)
    as_file = (narrow * 32767).round().astype(np.int16).astype(np.float32) / 32768
    ours, those_of_file = (codec.encode(torch.from_numpy(x).view(1, 1, -1)).audio_codes for x in (narrow, as_file))
    assert (ours == those_of_file).float().mean() > 0.8


def test_every_code_of_the_bundled_codebook_is_a_point_of_its_own():
    codec = Q2D2Model.from_pretrained(default_checkpoint())
    codes = torch.arange(codec.config.codebook_size)
    points = codec.quantizer.lattices.indices_to_points(codec.quantizer.lattices.codes_to_indices(codes))
    assert len(points.unique(dim=0)) == len(codes)
    assert torch.equal(codec.quantizer.lattices.indices_to_codes(codec.quantizer.lattices.nearest(points)[1]), codes)
