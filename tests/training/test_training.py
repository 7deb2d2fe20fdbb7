"""Losses, discriminators, augmentation and the trainer of the codec: what moves and what is learned."""

import json
from argparse import ArgumentError
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from transformers import AutoFeatureExtractor

from q2d2_tokenizer import Q2D2Config, Q2D2Model
from q2d2_tokenizer.commands.options import parse
from q2d2_tokenizer.commands.train import train
from q2d2_tokenizer.commands.train_lm import train_lm
from q2d2_tokenizer.training.augmentation import Augmentation, _shift_formants
from q2d2_tokenizer.training.codec import CodecTrainer, TrainConfig, make_codec
from q2d2_tokenizer.training.data import AudioCache
from q2d2_tokenizer.training.discriminators import DISCRIMINATORS, Discriminators
from q2d2_tokenizer.training.gan import (
    Autoencoder,
    discriminator_loss,
    discriminator_step,
    feature_loss,
    generator_step,
    spectral_step,
)
from q2d2_tokenizer.training.losses import MelLoss
from q2d2_tokenizer.training.loudness import LoudnessLoss

SCRIPTS = Path(__file__).parents[2] / "scripts"
RATE = 24000
SMALL = {"band": {"sizes": [512], "dim": 8}, "period": {"sizes": [3], "channels": [4, 8]}}
LIGHT = {
    "band": {"dim": 8},
    "period": {"channels": [8, 16]},
    "resolution": {"channels": 4},
    "multiband": {"channels": 4},
    "projected": {"sizes": ["tiny"], "dim": 16},
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """A folder of three recordings: tones of changing pitch at other rates than the codec's."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for number, rate in enumerate((16000, 24000, 44100)):
        time = np.arange(2 * rate) / rate
        tone = 0.3 * np.sin(2 * np.pi * (150 + 50 * number) * time * (1 + 0.1 * np.sin(5 * time)))
        soundfile.write(folder / f"{number}.wav", tone + 0.01 * rng.standard_normal(len(time)), rate)
    return folder


@pytest.fixture
def settings(recordings, tiny_config, tmp_path) -> dict:
    """Arguments of a run of a few steps with all discriminators."""
    tiny_config.to_json_file(tmp_path / "codec.json")
    return {
        "data": [str(recordings)],
        "validation_data": [str(recordings / "0.wav")],
        "codec": str(tmp_path / "codec.json"),
        "cache": str(tmp_path / "cache"),
        "batch_size": 2,
        "segment_frames": 16,
        "steps": 6,
        "adversarial_start": 2,
        "warmup_steps": 2,
        "decay_steps": 2,
        "discriminator_kwargs": SMALL,
        "save_every": 3,
        "log_every": 1,
        "validate_every": 6,
    }


def one(name: str) -> Discriminators:
    """A small discriminator of that name."""
    return Discriminators([name], {name: {"sizes": [min(DISCRIMINATORS[name].sizes)], **LIGHT[name]}})


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_learns_to_tell_noise_from_tones(name):
    torch.manual_seed(0)
    discriminator = one(name)
    time = torch.arange(2048) / RATE
    tones = 0.3 * torch.sin(2 * torch.pi * torch.tensor([200.0, 310.0, 450.0, 600.0])[:, None, None] * time)
    noise = 0.2 * torch.randn(4, 1, 2048)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    seen = discriminator.prepare(tones), discriminator.prepare(noise)
    before = discriminator_step(discriminator, *seen).item()
    for _ in range(40):
        loss = discriminator_step(discriminator, *seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * before


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_judges_each_segment_alone_and_has_finite_gradients_for_silence(name):
    discriminator = one(name)
    audio = 0.1 * torch.randn(2, 1, 3000, requires_grad=True)
    together, alone = (discriminator(discriminator.prepare(part))[0] for part in (audio, audio[:1]))
    for layer, single in zip(together, alone, strict=True):
        assert torch.allclose(layer[: len(layer) // 2], single, atol=1e-4)
    silence = torch.zeros(1, 1, 2048, requires_grad=True)
    sum(layer.square().sum() for head in discriminator(discriminator.prepare(silence)) for layer in head).backward()
    assert torch.isfinite(silence.grad).all()


def test_discriminators_are_known_by_name():
    whole = Discriminators(["period", "resolution", "multiband"], {"period": {"channels": [4]}})
    assert whole.labels[:2] == ["period 2", "period 3"] and len(whole.parts) == 5 + 3 + 3
    with pytest.raises(ValueError, match="discriminator must be one of"):
        Discriminators(["nonsense"], {})
    with pytest.raises(ValueError, match="takes \\['channels'\\]"):
        Discriminators(["period"], {"period": {"n_fft": 1}})
    with pytest.raises(ValueError, match="none is among"):
        Discriminators(["band"], {"period": {}})


def test_hinge_loss_of_known_scores():
    assert discriminator_loss([torch.tensor([2.0])], [torch.tensor([-2.0])]) == 0
    assert discriminator_loss([torch.tensor([0.0])], [torch.tensor([0.0])]) == 2


def test_feature_loss_is_relative_to_the_size_of_the_features():
    real = [[torch.full((2, 3), 4.0), torch.zeros(1)]]
    fake = [[torch.full((2, 3), 3.0), torch.zeros(1)]]
    assert feature_loss(real, fake) == pytest.approx(0.25)
    real[0][0][1] *= 10  # the other row is judged as before
    fake[0][0][1] *= 10
    assert feature_loss(real, fake) == pytest.approx(0.25)


def test_each_step_moves_only_its_own_parameters(tiny_config):
    torch.manual_seed(0)
    model, discriminators = Autoencoder(Q2D2Model(tiny_config)), Discriminators(["band", "period"], SMALL)
    audio = 0.1 * torch.randn(2, 1, 16 * tiny_config.hop_length)
    reconstruction, *_ = model(audio)
    seen = discriminators.prepare(audio), discriminators.prepare(reconstruction)
    discriminator_step(discriminators, *seen).backward(retain_graph=True)
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in discriminators.parameters())
    discriminators.zero_grad()
    discriminators.requires_grad_(False)
    spectral_losses = nn.ModuleDict({"mel": MelLoss(RATE, (512,), (40,), 1e-3), "loudness": LoudnessLoss(RATE)})
    losses = spectral_step(audio, reconstruction, spectral_losses) | generator_step(discriminators, *seen)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in discriminators.parameters())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_segments_depend_on_seed_and_number_alone(recordings, tmp_path):
    cache = AudioCache([str(recordings)], tmp_path, RATE)
    changes = Augmentation(gain_db=6.0, speed=0.2, tone_db=6.0, formants=0.15)
    whole = cache.batch(7, range(4), 4000, changes)
    parts = torch.cat([cache.batch(7, range(2), 4000, changes), cache.batch(7, range(2, 4), 4000, changes)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, cache.batch(8, range(4), 4000, changes))
    assert whole.abs().max() < 1


def test_augmentation_changes_speed_tone_and_gain():
    tone = (8000 * np.sin(2 * np.pi * 440 / RATE * np.arange(4 * RATE))).astype(np.int16)

    def segments(**changes):
        augmentation = Augmentation(**changes)
        return [augmentation.segment(tone, np.random.default_rng(i), RATE)[0].numpy() for i in range(20)]

    def pitches(**changes):
        return [float(np.abs(np.fft.rfft(x * np.hanning(len(x)))).argmax()) for x in segments(**changes)]

    assert pitches() == [440.0] * 20
    assert pitches(tone_db=12.0) == [440.0] * 20
    moved = pitches(speed=0.2)
    assert min(moved) < 400 and max(moved) > 480 and 440 / 1.21 < min(moved) and max(moved) < 440 * 1.21
    plain = np.abs(segments()[0]).max()
    for changes in ({"gain_db": 6.0}, {"tone_db": 6.0}):
        peaks_db = [20 * np.log10(np.abs(x).max() / plain) for x in segments(**changes)]
        assert min(peaks_db) < -2 and max(peaks_db) > 2 and max(map(abs, peaks_db)) < 6.1


def test_a_short_recording_gets_silence_at_its_end_at_any_speed():
    short = np.full(500, 1000, np.int16)
    for seed in range(10):
        segment = Augmentation(speed=0.2).segment(short, np.random.default_rng(seed), 2000)
        assert segment.shape == (1, 2000)
        assert segment[0, 300].abs() > 0.02 and (segment[0, 640:] == 0).all()


def test_shifted_formants_keep_pitch_and_level():
    frequencies = np.fft.rfftfreq(RATE, 1 / RATE)
    harmonics = np.arange(1, 100) * 120.0

    def voice(formant: float) -> np.ndarray:
        """A second of a 120 Hz voice with one formant."""
        levels = 1 / (1 + ((harmonics - formant) / 150) ** 2)
        time = np.arange(RATE) / RATE
        return (0.05 * (levels[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(0)).astype(np.float32)

    def centre(audio: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(audio * np.hanning(RATE))) ** 2
        assert np.all(np.abs(frequencies[power > 0.01 * power.max()] / 120 % 1 - 0.5) > 0.45)  # harmonics alone
        return float((power * frequencies).sum() / power.sum())

    for factor in (0.87, 1.0, 1.15):
        shifted = _shift_formants(voice(1500), factor)
        assert centre(shifted) == pytest.approx(centre(voice(1500 * factor)), rel=0.03)
        assert shifted.std() == pytest.approx(voice(1500).std(), rel=0.3)
    assert np.allclose(_shift_formants(voice(1500)[:300], 1.0), voice(1500)[:300], atol=1e-5)


def test_cache_resamples_and_is_reused(recordings, tmp_path, monkeypatch):
    first = AudioCache([str(recordings)], tmp_path, RATE)
    assert len(first) == 3
    assert first.seconds == pytest.approx(6.0, abs=0.01)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = AudioCache([str(recordings)], tmp_path, RATE)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert np.array_equal(first[2], second[2])
    monkeypatch.setattr("q2d2_tokenizer.training.data.READER", 10**6)  # as if files were read in another way now
    AudioCache([str(recordings)], tmp_path, RATE)
    assert len(list(tmp_path.glob("*.i16"))) == 2 * len([path for path in stamps if path.suffix == ".i16"])


def test_a_source_named_twice_counts_twice_and_an_empty_one_is_an_error(recordings, tmp_path):
    assert len(AudioCache([str(recordings), str(recordings / "0.wav")], tmp_path, RATE)) == 4
    with pytest.raises(ValueError, match="no Parquet, tar or audio files"):
        AudioCache([str(recordings / "*.flac")], tmp_path, RATE)


def test_a_run_writes_log_validation_audio_and_weights(settings, tmp_path):
    output = tmp_path / "run"
    CodecTrainer(TrainConfig(**settings, output=str(output))).run()
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "mel" in line] == [1, 2, 3, 4, 5, 6]
    assert {"adversarial", "feature", "discriminator"} <= set(lines[2]) and "adversarial" not in lines[1]
    assert lines[-1]["validation_mel"] > 0
    assert {"validation_frame_line", "validation_level_db", "validation_peak"} <= set(lines[-1])
    assert AutoFeatureExtractor.from_pretrained(output / "weights").sampling_rate == RATE
    assert soundfile.info(output / "validation" / "0.wav").samplerate == RATE


def test_discriminators_may_see_a_part_of_each_segment(settings, tmp_path, monkeypatch):
    seen = []
    prepare = Discriminators.prepare
    monkeypatch.setattr(Discriminators, "prepare", lambda self, x: seen.append(x.detach().clone()) or prepare(self, x))

    def batches(frames: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What discriminators saw of the audio in six steps, and the segments of those steps."""
        seen.clear()
        options = settings | {"adversarial_start": 0, "discriminator_frames": frames}
        trainer = CodecTrainer(TrainConfig(output=str(tmp_path / str(frames)), **options))
        for step in range(6):
            trainer.update(step)
        assert all(real.shape == fake.shape for real, fake in zip(seen[::2], seen[1::2], strict=True))
        return seen[::2], [trainer.batch(step) for step in range(6)]

    hop = Q2D2Config.from_json_file(settings["codec"]).hop_length
    for real, audio in zip(*batches(0), strict=True):
        assert torch.equal(real, audio)
    places = set()
    for real, audio in zip(*batches(4), strict=True):
        assert real.shape == (2, 1, 4 * hop)
        places |= {place for place in range(13) if torch.equal(real, audio[..., place * hop : (place + 4) * hop])}
    assert len(places) > 3
    with pytest.raises(ValueError, match="discriminator_frames must be at most segment_frames=16"):
        TrainConfig(output="x", **settings | {"discriminator_frames": 17})


def test_frozen_parts_stay_as_they_are(settings, tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "codec")
    settings |= {"codec": str(tmp_path / "codec"), "freeze": ["encoder", "quantizer"], "steps": 3}
    CodecTrainer(TrainConfig(**settings, output=str(tmp_path / "run"))).run()
    tuned = Q2D2Model.from_pretrained(tmp_path / "run" / "weights")
    moved = {name for name, p in tuned.named_parameters() if not torch.equal(p, tiny_model.get_parameter(name))}
    assert moved and all(name.startswith("decoder.") for name in moved)
    with pytest.raises(ValueError, match="batch_size=2 must be a multiple of 1 processes times accumulation=3"):
        CodecTrainer(TrainConfig(**settings, output=str(tmp_path), accumulation=3))
    with pytest.raises(ValueError, match="freeze takes encoder, quantizer and decoder"):
        TrainConfig(data=[], output="", freeze=["head"])


def test_other_levels_keep_the_rest_of_the_codec(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    finer = make_codec(str(tmp_path), [level + 2 for level in tiny_model.config.levels])
    assert finer.config.codebook_size > tiny_model.config.codebook_size
    assert all(torch.equal(p, tiny_model.get_parameter(name)) for name, p in finer.named_parameters())
    finer.quantizer.check_tables()
    latents = torch.randn(1, 50, tiny_model.config.hidden_size)
    exact = tiny_model.quantizer.project_out(tiny_model.quantizer.project_in(latents).tanh())
    errors = [(model.quantizer(latents)[0] - exact).square().mean() for model in (tiny_model, finer)]
    assert errors[1] < errors[0]  # the same box with more points
    with pytest.raises(ValueError, match="levels must be .* one a channel, or more to add channels, got"):
        make_codec(str(tmp_path), [7])


def test_more_levels_add_channels_that_say_nothing_yet(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    levels = [*tiny_model.config.levels, 3, 3]
    wider = make_codec(str(tmp_path), levels)
    assert wider.config.levels == levels
    latents = torch.randn(2, 50, tiny_model.config.hidden_size)
    quantized, codes = wider.quantizer(latents)
    assert torch.allclose(quantized, tiny_model.quantizer(latents)[0], atol=1e-6)
    old = wider.quantizer.codes_to_indices(codes)[..., : len(tiny_model.config.levels) // 2]
    assert torch.equal(old, tiny_model.quantizer.codes_to_indices(tiny_model.quantizer(latents)[1]))
    quantized.square().sum().backward()
    grad = wider.quantizer.project_out.weight.grad
    assert grad is not None and grad[:, -2:].any()  # but they can learn
    config = Q2D2Config(hidden_size=8, quantizer="pq", lattice="rectangle", group_size=1, levels=[3, 3])
    Q2D2Model(config).save_pretrained(tmp_path / "pq")
    with pytest.raises(ValueError, match=r"levels must be 2 numbers, one a channel, got \[3, 3, 3\]"):
        make_codec(str(tmp_path / "pq"), [3, 3, 3])


def test_another_look_ahead_keeps_the_weights(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    hasty = make_codec(str(tmp_path), encoder_look_ahead=1, decoder_look_ahead=0)
    assert (hasty.encoder.context_frames.after, hasty.decoder.context_frames.after) == (1, 0)
    moved = {name for name, p in hasty.named_parameters() if not torch.equal(p, tiny_model.get_parameter(name))}
    assert moved and all(name.endswith(("embed.weight", "depthwise.weight")) for name in moved)
    assert hasty.fingerprint() != tiny_model.fingerprint()
    decoder_alone = make_codec(str(tmp_path), decoder_look_ahead=0)
    assert decoder_alone.fingerprint() == tiny_model.fingerprint()  # the same tokens
    hasty.save_pretrained(tmp_path / "hasty")
    loaded = Q2D2Model.from_pretrained(tmp_path / "hasty")
    assert loaded.fingerprint() == hasty.fingerprint() and loaded.decoder_latency_samples == 0
    with pytest.raises(ValueError, match="look_ahead must be None or within 0 and .* got 99"):
        make_codec(str(tmp_path), encoder_look_ahead=99)


def test_held_out_recordings_are_not_trained_on(settings, tmp_path):
    settings |= {"validation_data": [], "hold_out": 1, "steps": 1}
    trainer = CodecTrainer(TrainConfig(**settings, output=str(tmp_path / "run")))
    assert (len(trainer.data), len(trainer.validation)) == (2, 1)
    whole = AudioCache(settings["data"], settings["cache"], RATE)
    parts = [trainer.validation[0], *(trainer.data[i] for i in range(2))]
    assert sorted(part.tobytes() for part in parts) == sorted(whole[i].tobytes() for i in range(3))
    with pytest.raises(ValueError, match="cannot hold out 3 of 3"):
        whole.split(3)
    twice = AudioCache(settings["data"] * 2, settings["cache"], RATE)
    rest, held = twice.split(1)
    assert (len(twice), len(rest), len(held)) == (6, 4, 1)
    assert held[0].tobytes() not in [rest[i].tobytes() for i in range(4)]


def test_an_output_among_the_data_is_refused(settings, recordings):
    with pytest.raises(ValueError, match="lies in the data folder"):
        CodecTrainer(TrainConfig(**settings | {"data": [str(recordings)]}, output=str(recordings / "run")))


def test_many_files_are_not_open_at_once(recordings, tmp_path):
    import resource

    (tmp_path / "many").mkdir()
    for number in range(100):
        soundfile.write(tmp_path / "many" / f"{number}.wav", np.full(100, number / 200), RATE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 80, most))
    try:
        cache = AudioCache([str(tmp_path / "many")], tmp_path / "cache", RATE)
        assert len({int(cache[i][0]) for i in range(100)}) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_settings_come_from_a_file_and_the_command_line_wins(settings, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(settings | {"output": "a"}))  # JSON is YAML
    config = settings_of("--steps", "7", "--config", str(path), "--data", "x")
    assert config == TrainConfig(**settings | {"output": "a", "steps": 7, "data": ["x"]})
    path.write_text(json.dumps(asdict(config)))  # as a run writes it
    assert settings_of("--config", str(path)) == config
    path.write_text("stepz: 3")
    with pytest.raises(ArgumentError, match="stepz"):
        settings_of("--config", str(path), "--data", "x", "--output", "y")


def settings_of(*argv: str) -> TrainConfig:
    """The settings of a command line of `q2d2 train`."""
    return parse("q2d2 train", train, list(argv))["config"]


def test_every_file_of_settings_is_understood():
    paths = list((SCRIPTS.parent / "q2d2_tokenizer" / "configs").glob("*.yaml"))
    assert paths
    for path in paths:
        command = train_lm if path.name.startswith("lm_") else train
        others = ["--text_model", "z"] if command is train_lm else []
        parse(f"q2d2 {command.__name__}", command, ["--config", str(path), "--data", "x", "--output", "y", *others])


def test_a_few_steps_lower_the_loss(settings, tmp_path):
    settings |= {"steps": 40, "batch_size": 4, "adversarial_start": 100, "learning_rate": 1e-2, "save_every": 100}
    CodecTrainer(TrainConfig(**settings, output=str(tmp_path / "run"))).run()
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    mel = [value for line in lines if (value := json.loads(line).get("mel"))]
    assert np.mean(mel[-10:]) < 0.8 * np.mean(mel[:5])
