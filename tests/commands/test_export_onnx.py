"""The ONNX files of the bundled models, in chunks of any size: tokens, audio and scores are those of the models."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import lm
from lm.generate import Generation, GenerationSettings, make_prompt
from lm.model import LanguageModel
from q2d2_tokenizer import Q2D2Config, Q2D2Model, default_checkpoint, read_audio, sample_recording

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
from q2d2_tokenizer.export_onnx import export_codec, export_language_model  # noqa: E402
from q2d2_tokenizer.export_onnx.files import write_onnx  # noqa: E402

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = ["decoder.onnx", "encoder.onnx", "language_model.onnx"]


@pytest.fixture(scope="module")
def model() -> Q2D2Model:
    return Q2D2Model.from_pretrained(default_checkpoint()).eval()


@pytest.fixture(scope="module")
def bundled_language_model() -> LanguageModel:
    return LanguageModel.load(lm.default_checkpoint())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of the exported files."""
    folder = tmp_path_factory.mktemp("onnx") / "new"
    command = [sys.executable, str(SCRIPTS / "export_onnx.py"), "--output", str(folder)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr  # a process of its own: pytest makes the exporter write traces
    names = sorted(path.name for path in folder.iterdir())
    assert names == [*NAMES, "layout.json", "pronunciations.txt", "text.model"]  # nothing beside them
    return folder


@pytest.fixture(scope="module")
def sessions(folder) -> tuple:
    """Decoder, encoder and language model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return tuple(onnxruntime.InferenceSession(folder / name, options) for name in NAMES)


def run_in_chunks(session, values: list[np.ndarray], sizes: Iterator[int]) -> list[np.ndarray]:
    """What comes of the frames (T, ...) of recordings that are run together, in chunks of those sizes."""
    name, _, state = (one.name for one in session.get_inputs())
    context = int(session.get_modelmeta().custom_metadata_map["context_frames"])
    stop, outputs, done = max(map(len, values)) + context, [], 0
    frames = np.zeros((len(values), stop, *values[0].shape[1:]), values[0].dtype)
    for row, one in zip(frames, values, strict=True):
        row[: len(one)] = one
    mask = np.arange(stop) < np.array([[len(one)] for one in values])
    memory = np.zeros((len(values), session.get_inputs()[2].shape[1]), np.float32)
    while done < stop:
        part = slice(done, done + next(sizes))
        output, memory = session.run(None, {name: frames[:, part], "frame_mask": mask[:, part], state: memory})
        outputs.append(output)
        done = part.stop
    whole = np.concatenate(outputs, axis=1)
    return [row[context : context + len(one)] for row, one in zip(whole, values, strict=True)]


def always(size: int) -> Iterator[int]:
    while True:
        yield size


def test_constants_that_are_nearly_zero_or_one_stay(tmp_path):
    class Levelled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (x.square().mean(-1, keepdim=True) + 1e-9).rsqrt() * 1.000005 + 9e-9

    x = torch.tensor([[0.0, 0.0], [1e-5, -1e-5], [0.5, -0.5]])
    write_onnx(Levelled(), tmp_path / "levelled.onnx", {"x": (x, {0: "rows"})}, ["y"], {})
    y = onnxruntime.InferenceSession(tmp_path / "levelled.onnx").run(None, {"x": x.numpy()})[0]
    scale = 1e-5 / (1e-10 + 1e-9) ** 0.5 * 1.000005
    expected = [[9e-9, 9e-9], [scale, -scale], [1.000005, -1.000005]]
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-9)


def check_parity(sessions: tuple, model: Q2D2Model, recordings: list[np.ndarray], sizes: Iterator[int]) -> None:
    decoder, encoder, _ = sessions
    frames = [np.pad(audio, (0, -len(audio) % 320)).reshape(-1, 320) for audio in recordings]
    all_codes = run_in_chunks(encoder, frames, sizes)
    for audio, codes, decoded in zip(recordings, all_codes, run_in_chunks(decoder, all_codes, sizes), strict=True):
        expected = model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes
        assert codes.dtype == np.int64 and np.array_equal(codes, expected.flatten().numpy())
        audio_values = model.decode(expected).audio_values.flatten().numpy()
        assert np.abs(decoded.ravel() - audio_values).max() < 1e-4


@pytest.mark.parametrize("size", [10_000, 48, 7])
def test_parity_on_the_bundled_recording(sessions, model, size):
    check_parity(sessions, model, [read_audio(sample_recording(), model.config.sampling_rate)], always(size))


@pytest.mark.parametrize("num_samples", [1, 319, 320, 321, 24000, 300_123])  # the last takes two blocks of the model
def test_parity_at_any_length(sessions, model, speech_like, num_samples):
    check_parity(sessions, model, [speech_like(num_samples, seed=num_samples)], always(10_000))


def test_parity_of_a_batch_in_chunks_of_any_size(sessions, model, speech_like):
    rng = np.random.default_rng(0)
    sizes = iter(lambda: int(rng.integers(0, 40)), None)
    check_parity(sessions, model, [speech_like(count, seed=count) for count in (24000, 1, 30_001, 9000)], sizes)


def test_parity_of_a_codec_that_looks_ahead_less(sessions, speech_like, tmp_path):
    torch.manual_seed(0)
    kwargs = {
        "encoder_kwargs": {"depth": 1, "look_ahead": 1, "mel_floor": 0.05},
        "decoder_kwargs": {"depth": 1, "look_ahead": 2},
    }
    model = Q2D2Model(Q2D2Config(hidden_size=32, **kwargs)).eval()
    export_codec(model, tmp_path)
    hasty = tuple(onnxruntime.InferenceSession(tmp_path / name) for name in NAMES[:2])
    check_parity((*hasty, None), model, [speech_like(9000, seed=1), speech_like(24_001, seed=2)], always(7))


def test_silence_and_full_scale(sessions, model):
    check_parity(sessions, model, [np.zeros(5000, dtype=np.float32)], always(1000))
    check_parity(sessions, model, [np.sign(np.sin(np.arange(24000) / 17)).astype(np.float32)], always(1000))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_scores_of_the_language_model(sessions, bundled_language_model, scale):
    """Against those of `lm.generate`, step by step along its codes: equal, and they have nearly all probability."""
    prompt = make_prompt(bundled_language_model, "He turned sharply, and faced her.")
    offset, size = bundled_language_model.layout.audio_offset, len(prompt)
    text = size - 2
    ids = np.array([prompt, [0] * text + [1, 3]])
    layout = bundled_language_model.layout
    positions = np.stack([layout.position_ids(torch.from_numpy(row)[None])[0].numpy() for row in ids])
    mask = ids > 0
    settings = GenerationSettings(guidance_scale=2.0, max_codes=40, seed=3)
    past = np.zeros((10, 2, 4, 0, 64), np.float32)
    lost = []
    for code in (int(row[0]) for row in Generation(bundled_language_model, [prompt], settings)):
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask, "past": past}
        inputs["guidance_scale"] = np.array(scale, np.float32)
        codes, scores, new = sessions[2].run(None, inputs)
        expected = reference_scores(bundled_language_model, prompt, scale)
        assert np.abs(scores - expected[codes + 1]).max() < 2e-3
        chances = np.exp(2 * (expected - expected.max()))  # at a temperature of a half
        lost.append(1 - np.exp(2 * (scores - expected.max())).sum() / chances.sum())
        past = np.concatenate([past, new], axis=3)
        prompt = np.append(prompt, code + offset)
        ids, mask = np.full((2, 1), code + offset), np.pad(mask, ((0, 0), (0, 1)), constant_values=True)
        positions = np.full((2, 1), positions[0, -1] + 1)
    assert len(lost) == 40 and np.mean(lost) < 0.02


def reference_scores(language_model: LanguageModel, prompt: np.ndarray, scale: float) -> np.ndarray:
    """Scores (1 + codes,) of the end and all codes after a prompt, computed at once, and without the text apart."""
    model, rows = language_model.model, []
    with torch.inference_mode():
        for row in (prompt, np.append(prompt[:1], prompt[np.argmax(prompt == 3) :])):
            ids = torch.from_numpy(row)[None]
            positions = language_model.layout.position_ids(ids)
            state = model(ids, torch.ones_like(ids), position_ids=positions).last_hidden_state[:, -1]
            first = model.factor_logits(state, []).log_softmax(-1)[0]
            second = model.factor_logits(state.unsqueeze(1), [torch.arange(145)[None]]).log_softmax(-1)[0]
            joint = (first[1:, None] + second).T  # the first point varies fastest
            rows.append(torch.cat([first[:1], joint.flatten()]).numpy())
    return rows[1] + scale * (rows[0] - rows[1])


def test_metadata_name_the_codec(sessions, model):
    for session in sessions:
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["codec_fingerprint"] == model.fingerprint() and metadata["sampling_rate"] == "24000"
    assert sessions[0].get_modelmeta().custom_metadata_map["context_frames"] == str(model.decoder.context_frames.after)


def test_weights_are_half_as_large(folder, model, bundled_language_model):
    weights = [*model.parameters(), *bundled_language_model.model.parameters()]
    size = sum((folder / name).stat().st_size for name in NAMES)
    assert size < 2.1 * sum(weight.numel() for weight in weights)


def run_without_torch(script: str, *arguments: object) -> str:
    """What a script prints; fails if it loads torch."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv.pop(0));"
        "runpy.run_path(sys.argv[0], run_name='__main__');"
        "loaded = {'torch', 'transformers'} & set(sys.modules); assert not loaded, loaded"
    )
    command = [sys.executable, "-c", code, SCRIPTS, SCRIPTS / script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((SCRIPTS / script).read_text().splitlines()) <= 45
    return done.stdout


@pytest.mark.parametrize("num_samples", [30_001, 10])
def test_the_example_that_streams(folder, model, speech_like, tmp_path, num_samples):
    audio = speech_like(num_samples)
    soundfile.write(tmp_path / "in.wav", audio, 24000, subtype="FLOAT")
    run_without_torch("onnx_stream.py", folder, tmp_path / "in.wav", tmp_path / "out.wav")
    codes = model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes
    decoded = model.decode(codes, num_samples=num_samples).audio_values.flatten().numpy()
    assert np.abs(soundfile.read(tmp_path / "out.wav")[0] - decoded).max() < 2e-4  # 16 bit


def test_the_example_that_streams_takes_other_rates(folder, speech_like, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.stack([speech_like(8000)] * 2, axis=1), 16000)
    run_without_torch("onnx_stream.py", folder, tmp_path / "in.wav", tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").frames == 12000


def test_the_example_that_speaks(folder, tmp_path):
    run_without_torch("onnx_speak.py", folder, "It was cold, and the dog barked.", tmp_path / "out.wav")
    audio, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 24000 and 1 < len(audio) / rate < 5
    assert np.abs(audio).max() > 0.05


def test_others_are_refused(tmp_path, language_model):
    attention = Q2D2Config(hidden_size=32, encoder_kwargs={"depth": 1}, decoder_kwargs={"depth": 1, "attention": True})
    with pytest.raises(ValueError, match="with attention cannot be exported"):
        export_codec(Q2D2Model(attention), tmp_path)
    seanet = Q2D2Config(hidden_size=32, encoder="seanet", encoder_kwargs={}, decoder_kwargs={"depth": 1})
    with pytest.raises(ValueError, match="only stft and vocos can be exported, got seanet"):
        export_codec(Q2D2Model(seanet), tmp_path)
    with pytest.raises(ValueError, match="pair tokens of 2 groups, got a llama"):
        export_language_model(language_model, tmp_path)
    assert not list(tmp_path.iterdir())
