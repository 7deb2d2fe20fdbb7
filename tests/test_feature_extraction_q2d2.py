import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.utils import PaddingStrategy

from q2d2_tokenizer import Q2D2FeatureExtractor, Q2D2Processor
from q2d2_tokenizer.feature_extraction_q2d2 import to_float32

RATE = 24000


@pytest.fixture
def fe() -> Q2D2FeatureExtractor:
    return Q2D2FeatureExtractor()


def test_one_recording_keeps_its_samples_and_length(fe, speech_like):
    audio = speech_like(1001)
    inputs = fe(audio, sampling_rate=RATE, return_tensors="pt")
    assert inputs["input_values"].shape == (1, 1, 1001) and inputs["input_values"].dtype == torch.float32
    assert inputs["padding_mask"].shape == (1, 1001) and inputs["padding_mask"].all()
    assert torch.equal(inputs["input_values"].flatten(), torch.from_numpy(audio))
    assert not inputs["padding_mask"].is_floating_point()


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        lambda x: tuple(x),
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x).double().requires_grad_(),
        lambda x: x[None],
        lambda x: x[:, None],
        lambda x: torch.from_numpy(x)[None],
        lambda x: [x],
        lambda x: [x.tolist()],
        lambda x: [torch.from_numpy(x)[None]],
        lambda x: x[::-1][::-1],
        lambda x: np.asfortranarray(x),
    ],
)
def test_forms_of_the_same_recording_give_the_same_batch(fe, speech_like, convert):
    audio = speech_like(500)
    inputs = fe(convert(audio), sampling_rate=RATE, return_tensors="np")
    assert inputs["input_values"].shape == (1, 1, 500) and inputs["input_values"].dtype == np.float32
    assert np.array_equal(inputs["input_values"][0, 0], audio)


def test_raw_audio_is_another_name_of_audio(fe, speech_like):
    audio = speech_like(500)
    processor = Q2D2Processor(fe)
    for call in (fe, processor):
        by_position, by_name, by_old_name = (
            call(audio, sampling_rate=RATE),
            call(audio=audio, sampling_rate=RATE),
            call(raw_audio=audio, sampling_rate=RATE),
        )
        assert by_position.keys() == by_old_name.keys()
        for name, value in by_position.items():
            assert np.array_equal(by_name[name], value) and np.array_equal(by_old_name[name], value)
        with pytest.raises(ValueError, match="two names of one argument.*got both"):
            call(audio, raw_audio=audio, sampling_rate=RATE)
        with pytest.raises(ValueError, match="audio is missing"):
            call(sampling_rate=RATE)


@pytest.mark.parametrize(("dtype", "scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integers_are_scaled_to_plus_or_minus_one(fe, dtype, scale):
    info = np.iinfo(dtype)
    samples = np.array([info.min, 0, info.max, scale // 2], dtype=dtype)
    values = fe(samples, sampling_rate=RATE)["input_values"][0, 0]
    assert np.allclose(values, [-1, 0, info.max / scale, 0.5]) and np.abs(values).max() <= 1
    assert np.array_equal(fe(torch.from_numpy(samples), sampling_rate=RATE)["input_values"][0, 0], values)


def test_peaks_above_two_are_warned_of(fe, caplog):
    fe([np.array([2.0, -2.0]), torch.tensor([0.1, 8.0])], sampling_rate=RATE)
    assert [record.message.split(";")[0] for record in caplog.records] == ["audio[1] has a peak of 8"]


def test_half_precision_is_taken_with_a_warning(fe, caplog):
    samples = torch.tensor([0.5, -0.25])
    for half in (samples.to(torch.float16), samples.to(torch.bfloat16), samples.numpy().astype(np.float16)):
        assert torch.equal(fe(half, sampling_rate=RATE, return_tensors="pt").input_values[0, 0], samples)
    names = [record.message.split()[2] for record in caplog.records]
    assert names == ["float16", "bfloat16", "float16"]


def test_batch_is_padded_on_the_right_to_the_longest_and_not_to_the_hop(fe, speech_like):
    recordings = [speech_like(n, seed=n) for n in (1, 319, 321, 77)]
    inputs = fe(recordings, sampling_rate=RATE, return_tensors="pt")
    assert inputs["input_values"].shape == (4, 1, 321)
    for values, mask, recording in zip(inputs["input_values"], inputs["padding_mask"], recordings, strict=True):
        assert mask.tolist() == [1] * len(recording) + [0] * (321 - len(recording))
        assert np.array_equal(values[0, : len(recording)], recording) and not values[0, len(recording) :].any()


def test_padding_and_truncation_options(fe, speech_like):
    recordings = [speech_like(30), speech_like(50)]
    fixed = fe(recordings, sampling_rate=RATE, padding="max_length", max_length=60)
    assert fixed["input_values"].shape == (2, 1, 60) and fixed["padding_mask"].sum(-1).tolist() == [30, 50]
    cut = fe(recordings, sampling_rate=RATE, truncation=True, max_length=40)
    assert cut["input_values"].shape == (2, 1, 40) and cut["padding_mask"].sum(-1).tolist() == [30, 40]
    shorter = fe(recordings, sampling_rate=RATE, truncation=True, max_length=60)
    assert shorter["input_values"].shape == (2, 1, 50)
    ragged = fe(recordings, sampling_rate=RATE, padding=False)
    assert [x.shape for x in ragged["input_values"]] == [(1, 30), (1, 50)]
    assert [x.shape for x in ragged["padding_mask"]] == [(30,), (50,)]
    with pytest.raises(ValueError, match="truncation=True"):
        fe(recordings, sampling_rate=RATE, padding="max_length", max_length=40)
    with pytest.raises(ValueError, match="max_length"):
        fe(recordings, sampling_rate=RATE, truncation=True)
    with pytest.raises(ValueError, match="at least 1"):
        fe(recordings, sampling_rate=RATE, truncation=True, max_length=0)


@pytest.mark.parametrize("padding", [True, "longest", "max_length", False, "do_not_pad", *PaddingStrategy])
@pytest.mark.parametrize("truncation", [False, True])
@pytest.mark.parametrize("return_tensors", [None, "np", "pt"])
def test_padding_is_what_transformers_does(speech_like, padding, truncation, return_tensors):
    fe = Q2D2FeatureExtractor(padding_value=-0.5)
    recordings = [speech_like(40), speech_like(50)[:40] if padding in (False, "do_not_pad") else speech_like(50)]
    options = {"padding": padding, "truncation": truncation, "max_length": 40 if truncation else 60}
    expected = fe.pad({"input_values": recordings}, **options, return_attention_mask=True)
    inputs = fe(recordings, sampling_rate=RATE, **options, return_tensors=return_tensors)
    assert isinstance(
        inputs["input_values"], {None: (np.ndarray, list), "np": np.ndarray, "pt": torch.Tensor}[return_tensors]
    )
    for name, given in (("input_values", "input_values"), ("padding_mask", "attention_mask")):
        for row, wanted in zip(inputs[name], expected[given], strict=True):
            row = np.asarray(row)
            assert np.array_equal(row.reshape(-1), wanted) and row.dtype == wanted.dtype
            assert row.ndim == (2 if name == "input_values" else 1)


def test_wrong_padding_is_refused(fe):
    for kwargs in ({"padding": "max_length"}, {"truncation": True, "padding": False}):
        with pytest.raises(ValueError, match="need max_length, got None"):
            fe(np.zeros(10), sampling_rate=RATE, **kwargs)
    with pytest.raises(ValueError, match="longst"):
        fe(np.zeros(10), sampling_rate=RATE, padding="longst")


def test_shortest_and_silent_audio(fe):
    assert fe(np.zeros(1), sampling_rate=RATE)["input_values"].shape == (1, 1, 1)
    silence = fe(np.zeros(100, np.int16), sampling_rate=RATE)
    assert silence["input_values"].shape == (1, 1, 100) and not silence["input_values"].any()


@pytest.mark.parametrize("shape", [(2, 100), (100, 2), (4, 100)])
def test_several_channels_are_refused(fe, shape):
    with pytest.raises(ValueError, match="average the channels"):
        fe(np.zeros(shape, np.float32), sampling_rate=RATE)
    with pytest.raises(ValueError, match=r"audio\[1\].*average the channels"):
        fe([np.zeros(5), torch.zeros(shape)], sampling_rate=RATE)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([np.inf]), "NaN or infinite"),
        (np.array([1e300]), "NaN or infinite"),
        (np.array([1e30]), "divide samples of 16 bits by 32768"),
        ([np.zeros(3), np.array([0, -8.01])], r"audio\[1\] has a peak of 8.01; .* at most 8 is taken"),
        ([np.zeros(3), np.array([-np.inf])], r"audio\[1\] has NaN"),
        (np.zeros(0), "empty"),
        ([], "empty"),
        ([np.zeros(3), []], r"audio\[1\] is empty"),
        (np.zeros((1, 0)), "empty"),
        (np.zeros(3, np.uint8), "uint8"),
        (np.zeros(3, np.int64), "int64"),
        (np.zeros(3, bool), "bool"),
        (np.zeros((1, 1, 3)), "shape"),
        (np.float32(0.5), "shape"),
        ("speech.wav", "shape"),
        (["speech.wav"], "shape"),
    ],
)
def test_unusable_audio_is_refused_with_a_reason(fe, audio, message):
    with pytest.raises(ValueError, match=message):
        fe(audio, sampling_rate=RATE)


def test_wrong_sampling_rate_is_refused_and_a_missing_one_warned_about(fe, caplog):
    with pytest.raises(ValueError, match="24000 Hz, got 16000 Hz; resample"):
        fe(np.zeros(10), sampling_rate=16000)
    with caplog.at_level(logging.WARNING):
        fe(np.zeros(10), sampling_rate=RATE)
        assert not caplog.records
        fe(np.zeros(10))
        assert "sampling_rate was not passed" in caplog.text


@pytest.mark.parametrize("kwargs", [{"feature_size": 2}, {"padding_side": "left"}])
def test_what_the_model_cannot_take_is_refused_at_construction(kwargs):
    with pytest.raises(ValueError, match="must be"):
        Q2D2FeatureExtractor(**kwargs)


def test_feature_extractor_survives_saving(tmp_path):
    Q2D2FeatureExtractor(sampling_rate=16000).save_pretrained(tmp_path)
    loaded = Q2D2FeatureExtractor.from_pretrained(tmp_path)
    assert loaded.sampling_rate == 16000
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["sampling_rate"] == 16000


def test_processor_calls_the_feature_extractor_and_survives_saving(fe, speech_like, tmp_path):
    recordings = [speech_like(100), speech_like(60)]
    expected = fe(recordings, sampling_rate=RATE, return_tensors="pt")
    Q2D2Processor(fe).save_pretrained(tmp_path)
    for processor in (Q2D2Processor(fe), Q2D2Processor.from_pretrained(tmp_path)):
        inputs = processor(audio=recordings, sampling_rate=RATE, return_tensors="pt")
        assert inputs.keys() == expected.keys() == set(processor.model_input_names)
        assert all(torch.equal(inputs[key], expected[key]) for key in expected)
    with pytest.raises(ValueError, match="resample"):
        processor(audio=recordings, sampling_rate=8000)


def test_input_goes_into_the_model(fe, tiny_model, speech_like):
    recordings = [speech_like(700), speech_like(1)]
    output = tiny_model(**fe(recordings, sampling_rate=RATE, return_tensors="pt"))
    assert output.audio_values.shape == (2, 1, 700)
    assert output.audio_codes_mask.sum(-1).tolist() == [3, 1]


def test_to_float32_does_not_change_its_argument():
    samples = np.array([1.0, -1.0], dtype=np.float32)
    to_float32(samples)[0] = 5.0
    assert samples[0] == 1.0


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("path.wav", "audio must be samples .*, got str; read the file first: q2d2_tokenizer.read_audio"),
        (Path("path.wav"), "audio must be samples .*, got [A-Za-z]+Path; read the file first"),
        ([Path("a.wav"), Path("b.wav")], r"audio\[0\] must be samples .*, got [A-Za-z]+Path; read the file first"),
        ([b"RIFF"], r"audio\[0\] must be samples .*, got bytes; read the file first"),
        ({"array": np.zeros(9), "sampling_rate": 24000}, r"audio must be samples .*, got dict; pass its array"),
        ([None], r"audio\[0\] must be samples .*, got NoneType; pass an array"),
        (5, "audio must be samples .*, got int; pass an array"),
    ],
)
def test_what_holds_no_samples_is_refused_with_the_way_to_them(audio, message, fe):
    with pytest.raises(ValueError, match=message):
        fe(audio, sampling_rate=24000)
