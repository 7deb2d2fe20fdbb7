import json
import math

import pytest

from q2d2_tokenizer import Q2D2Config, Q2D2Model

PAPER = [  # ratios, levels, tokens/s, codebook, bit/s; Q2D2, arXiv 2512.01537
    ((6, 5, 5, 3), (9, 9, 7, 7, 7, 7), 53.33, 145 * 85 * 85, 1067),
    ((6, 4, 3, 2), (9, 9, 7, 7, 7, 7), 166.7, 145 * 85 * 85, 3333),
    ((6, 4, 3, 1), (9, 9, 9, 9, 7, 7), 333.3, 145 * 145 * 85, 6923),
]


@pytest.mark.parametrize(("ratios", "levels", "frame_rate", "codebook_size", "bitrate"), PAPER)
def test_bitrates_of_the_paper(ratios, levels, frame_rate, codebook_size, bitrate):
    config = Q2D2Config(downsampling_ratios=ratios, levels=levels)
    assert config.hop_length == math.prod(ratios)
    assert config.frame_rate == pytest.approx(frame_rate, rel=1e-3)
    assert config.codebook_size == codebook_size
    assert config.bitrate == pytest.approx(bitrate, rel=1e-3)


def test_derived_values_of_the_default():
    config = Q2D2Config()
    assert (config.hop_length, config.frame_rate, config.points_per_group) == (320, 75.0, [145, 145])
    assert config.codebook_size == 21025
    assert config.bits_per_code == pytest.approx(14.36, abs=0.01)
    assert config.bitrate == pytest.approx(75 * math.log2(21025))


@pytest.mark.parametrize("name", ["hop_length", "frame_rate", "codebook_size", "bits_per_code", "bitrate"])
def test_derived_values_are_not_stored_and_cannot_be_set(name):
    assert name not in Q2D2Config().to_dict()
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Q2D2Config(**{name: 1})


def test_json_round_trip(tiny_config, tmp_path):
    config = Q2D2Config(
        **{key: tiny_config.to_dict()[key] for key in ("hidden_size", "encoder_kwargs", "decoder_kwargs")},
        lattice="hexagon",
        levels=(5, 6, 7, 8),
        downsampling_ratios=(8, 5),
        sampling_rate=16000,
    )
    config.save_pretrained(tmp_path)
    loaded = Q2D2Config.from_pretrained(tmp_path)
    for name in Q2D2Config.__annotations__:
        value = getattr(config, name)
        assert getattr(loaded, name) == (value if not isinstance(value, tuple) else list(value)), name
    assert loaded.codebook_size == config.codebook_size and loaded.bitrate == config.bitrate
    assert Q2D2Config.from_dict(loaded.to_dict()).to_dict() == loaded.to_dict()


def test_a_model_completes_its_config_with_the_arguments_of_its_parts(tiny_config, tmp_path):
    model = Q2D2Model(tiny_config)
    assert model.config.encoder_kwargs["depth"] == 2 and "n_fft" in model.config.encoder_kwargs
    model.config.save_pretrained(tmp_path)
    assert Q2D2Config.from_pretrained(tmp_path).encoder_kwargs == model.config.encoder_kwargs


def test_configs_do_not_share_their_kwargs():
    first, second = Q2D2Config(), Q2D2Config()
    first.encoder_kwargs["depth"] = 1
    assert not second.encoder_kwargs


@pytest.mark.parametrize("key", ["levles", "n_mels", "codebook_size_"])
def test_unknown_keys_raise_from_constructor_dict_and_file(key, tmp_path):
    with pytest.raises(ValueError, match=key):
        Q2D2Config(**{key: 3})
    with pytest.raises(ValueError, match=key):
        Q2D2Config.from_dict({"model_type": "q2d2", key: 3})
    Q2D2Config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 3}))
    with pytest.raises(ValueError, match=key):
        Q2D2Config.from_pretrained(tmp_path)


def test_keys_of_transformers_are_accepted(tmp_path):
    config = Q2D2Config(dtype="float32", architectures=["Q2D2Model"], name_or_path="x", auto_map={"AutoConfig": "a.B"})
    config.save_pretrained(tmp_path)
    assert Q2D2Config.from_pretrained(tmp_path, name_or_path="y").auto_map == {"AutoConfig": "a.B"}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sampling_rate": 0}, "sampling_rate"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"block_frames": 0}, "block_frames"),
        ({"downsampling_ratios": []}, "downsampling_ratios"),
        ({"downsampling_ratios": [320, 0]}, "downsampling_ratios"),
        ({"levels": []}, "levels"),
        ({"levels": [7, 7, 7]}, "multiple of group_size"),
        ({"levels": [7, 1]}, "at least 2"),
        ({"lattice": "square"}, "rectangle"),
        ({"group_size": 3, "levels": [7, 7, 7]}, "group_size"),
        ({"lattice": "bcc"}, "group_size"),
    ],
)
def test_values_out_of_range_raise(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Q2D2Config(**kwargs)


@pytest.mark.parametrize("kwargs", [{"levels": "7777"}, {"hidden_size": 2.5}, {"encoder": 3}, {"levels": [7, 7.5]}])
def test_values_of_wrong_type_raise(kwargs):
    name, value = next(iter(kwargs.items()))
    message = f"Q2D2Config: .*'{name}'.*(expected|match any type).*{type(value).__name__}"
    with pytest.raises(ValueError, match=message):
        Q2D2Config(**kwargs)
    with pytest.raises(ValueError, match=message):
        Q2D2Config.from_dict({"model_type": "q2d2", **kwargs})
    config = Q2D2Config()
    with pytest.raises(ValueError, match=message):
        setattr(config, name, value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"encoder_kwargs": {"depth": "3"}}, "depth of encoder 'stft' must be int, got '3'"),
        ({"encoder_kwargs": {"depth": None}}, "depth of encoder 'stft' must be int, got None"),
        ({"encoder_kwargs": {"look_ahead": 2.5}}, r"look_ahead of encoder 'stft' must be int \| None, got 2.5"),
        ({"decoder_kwargs": {"depth": True}}, "depth of decoder 'vocos' must be int, got True"),
        ({"decoder_kwargs": {"attention": 1}}, "attention of decoder 'vocos' must be bool, got 1"),
        ({"quantizer_kwargs": {"bound": 5}}, "bound of quantizer 'lattice' must be str, got 5"),
    ],
)
def test_arguments_of_parts_of_wrong_type_raise_when_the_model_is_built(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Q2D2Model(Q2D2Config(hidden_size=16, **kwargs))


def test_whole_numbers_are_floats_and_none_stands_for_left_out():
    kwargs = {"encoder_kwargs": {"look_ahead": None, "depth": 1}, "decoder_kwargs": {"excitation_hz": 0, "depth": 1}}
    config = Q2D2Model(Q2D2Config(hidden_size=16, **kwargs)).config
    assert config.decoder_kwargs["excitation_hz"] == 0 and "look_ahead" not in config.encoder_kwargs


@pytest.mark.parametrize(
    "kwargs",
    [{"encoder": "conformer"}, {"decoder": "hifigan"}, {"quantizer": "rvq"}, {"encoder_kwargs": {"deth": 2}}],
)
def test_unknown_parts_and_arguments_of_parts_raise_when_the_model_is_built(kwargs):
    with pytest.raises(ValueError, match="must be one of|got unknown"):
        Q2D2Model(Q2D2Config(hidden_size=16, **kwargs))
