"""The ONNX files of the bundled codec: tokens and audio are those of the model; no torch is needed to run them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from q2d2_tokenizer import Q2D2Config, Q2D2Model, default_checkpoint, export_onnx, read_audio, sample_recording

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def model() -> Q2D2Model:
    return Q2D2Model.from_pretrained(default_checkpoint()).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of the exported files."""
    folder = tmp_path_factory.mktemp("onnx") / "new"
    command = [sys.executable, str(SCRIPTS / "export_onnx.py"), "--output", str(folder)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr  # a process of its own: pytest makes the exporter write traces
    assert sorted(path.name for path in folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]  # nothing beside them
    return folder


@pytest.fixture(scope="module")
def sessions(folder) -> tuple:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return tuple(onnxruntime.InferenceSession(folder / f"{name}.onnx", options) for name in ("encoder", "decoder"))


def check_parity(sessions: tuple, model: Q2D2Model, audio: np.ndarray) -> None:
    encoder, decoder = sessions
    expected = model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes
    (codes,) = encoder.run(None, {"input_values": audio[np.newaxis, np.newaxis]})
    assert codes.dtype == np.int64 and np.array_equal(codes, expected.numpy())
    (decoded,) = decoder.run(None, {"audio_codes": codes})
    assert np.abs(decoded - model.decode(expected).audio_values.numpy()).max() < 1e-4


def test_parity_on_the_bundled_recording(sessions, model):
    check_parity(sessions, model, read_audio(sample_recording(), model.config.sampling_rate))


@pytest.mark.parametrize("num_samples", [1, 319, 320, 321, 24000, 300_123])  # the last takes two blocks of the model
def test_parity_at_any_length(sessions, model, speech_like, num_samples):
    check_parity(sessions, model, speech_like(num_samples, seed=num_samples))


def test_silence_and_full_scale(sessions, model):
    check_parity(sessions, model, np.zeros(5000, dtype=np.float32))
    check_parity(sessions, model, np.sign(np.sin(np.arange(24000) / 17)).astype(np.float32))


def test_metadata_name_the_codec(sessions, model):
    for session in sessions:
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["codec_fingerprint"] == model.fingerprint()
        assert metadata["sampling_rate"] == "24000" and metadata["hop_length"] == "320"


def test_the_example_needs_no_torch(folder, model, speech_like, tmp_path):
    audio = speech_like(24000)
    soundfile.write(tmp_path / "in.wav", audio, 24000, subtype="FLOAT")
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0]);"
        "loaded = {'torch', 'transformers', 'q2d2_tokenizer'} & set(sys.modules); assert not loaded, loaded"
    )
    command = [
        sys.executable,
        "-c",
        code,
        SCRIPTS / "onnx_example.py",
        folder,
        tmp_path / "in.wav",
        tmp_path / "out.wav",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    codes = model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes
    assert done.stdout == f"75 tokens, the first are {codes[0, 0, :8].tolist()}\n"
    decoded = model.decode(codes, num_samples=24000).audio_values.flatten().numpy()
    assert np.abs(soundfile.read(tmp_path / "out.wav")[0] - decoded).max() < 2e-4  # 16 bit
    soundfile.write(tmp_path / "in.wav", audio, 16000)  # half as long again
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.stdout.startswith("113 tokens"), done.stderr
    assert len((SCRIPTS / "onnx_example.py").read_text().splitlines()) <= 30


def test_other_codecs_are_refused(tmp_path):
    attention = Q2D2Config(hidden_size=32, encoder_kwargs={"depth": 1}, decoder_kwargs={"depth": 1, "attention": True})
    with pytest.raises(ValueError, match="with attention cannot be exported"):
        export_onnx.export(Q2D2Model(attention), tmp_path)
    seanet = Q2D2Config(hidden_size=32, encoder="seanet", encoder_kwargs={}, decoder_kwargs={"depth": 1})
    with pytest.raises(ValueError, match="only stft and vocos can be exported, got seanet"):
        export_onnx.export(Q2D2Model(seanet), tmp_path)
    assert not list(tmp_path.iterdir())
