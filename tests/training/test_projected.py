"""Projected discriminators: what is frozen stays frozen, every head works, and a run with them resumes exactly."""

import numpy as np
import pytest
import soundfile
import torch
from networks import TinyNetwork
from safetensors.torch import load_file
from torch import Tensor, nn

from q2d2_tokenizer.training.codec import CodecTrainer, TrainConfig
from q2d2_tokenizer.training.discriminators import Discriminators
from q2d2_tokenizer.training.gan import discriminator_step, generator_step
from q2d2_tokenizer.training.losses import LevelLoss
from q2d2_tokenizer.training.projected import freeze, to_16_khz

RATE = 24000


def make() -> Discriminators:
    return Discriminators(["projected"], {"projected": {"sizes": ["tiny"], "dim": 4}})


@pytest.mark.parametrize("sampling_rate", [16000, 24000, 44100, 8000])
def test_resampling_keeps_a_tone_its_level_and_its_gradient(sampling_rate):
    time = torch.arange(sampling_rate) / sampling_rate
    audio = (0.5 * torch.sin(2 * torch.pi * 440 * time)).unsqueeze(0).requires_grad_()
    resampled = to_16_khz(audio, sampling_rate)
    wanted = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    assert resampled.shape == (1, 16000) and torch.allclose(resampled[0], wanted, atol=1e-3)
    resampled.square().sum().backward()
    assert torch.isfinite(audio.grad).all() and audio.grad.any()


def test_frozen_networks_have_nothing_to_train_and_are_not_saved():
    discriminators = make()
    assert not list(discriminators.parts[0].network.parameters())
    assert not any("network" in name for name in discriminators.state_dict())
    before = [buffer.clone() for buffer in discriminators.parts[0].network.buffers()]
    optimizer = torch.optim.SGD(discriminators.parameters(), 1.0)
    discriminators.requires_grad_(False).requires_grad_(True)
    audio, other = torch.randn(2, 2, 1, 2400)
    discriminator_step(discriminators, discriminators.prepare(audio), discriminators.prepare(other)).backward()
    optimizer.step()
    after = discriminators.parts[0].network.buffers()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is not None for p in discriminators.parameters())


def test_freezing_does_not_change_what_a_network_computes():
    audio = torch.randn(1, 1600)
    network = TinyNetwork()
    wanted = network(audio)
    assert all(torch.equal(a, b) for a, b in zip(wanted, freeze(network)(audio), strict=True))


def test_every_head_moves_the_reconstruction_and_a_dead_one_is_seen():
    discriminators = make()
    real = discriminators.prepare(torch.randn(1, 1, 2400))

    def gradient() -> Tensor:
        reconstruction = torch.ones(1, 1, 2400).mul(torch.linspace(-1, 1, 2400)).requires_grad_()
        losses = generator_step(discriminators, real, discriminators.prepare(reconstruction), with_features=False)
        assert set(losses) == {"adversarial"}
        losses["adversarial"].backward()
        return reconstruction.grad

    whole = gradient()
    for head in discriminators.parts[0].heads:
        nn.init.zeros_(head.score.weight)  # a planted fault: this head says nothing about its input
    assert whole.any() and not gradient().any()


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(ValueError, match="must be one of.*distillmos.*got 'nonsense'"):
        Discriminators(["projected"], {"projected": {"sizes": ["nonsense"]}})


def test_resuming_is_exact_and_the_frozen_parts_keep_their_weights(tiny_config, tmp_path):
    time = np.arange(RATE) / RATE
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 200 * time * (1 + 0.2 * time)), RATE)
    tiny_config.to_json_file(tmp_path / "codec.json")

    def run(output: str, steps: int) -> CodecTrainer:
        config = TrainConfig(
            data=[str(tmp_path / "tone.wav")],
            output=str(tmp_path / output),
            codec=str(tmp_path / "codec.json"),
            freeze=["encoder", "quantizer"],
            discriminators=["projected"],
            discriminator_kwargs={"projected": {"sizes": ["tiny"], "dim": 4}},
            adversarial_start=0,
            feature_weight=0.0,
            level_weight=0.3,
            steps=4,
            max_minutes=1e-9 if steps < 4 else 9.0,
            batch_size=2,
            segment_frames=16,
            save_every=1,
        )
        trainer = CodecTrainer(config)
        first = trainer.codec.fingerprint()
        trainer.run()
        assert trainer.codec.fingerprint() == first
        return trainer

    assert run("parts", 1).progress.step == 1
    run("parts", 4)
    run("whole", 4)
    a, b = (load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("parts", "whole"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_level_loss_of_known_changes():
    audio = 0.1 * torch.randn(3, 1, 24000)
    loss = LevelLoss()
    assert loss(audio, audio) == 0
    assert float(loss(audio * 2, audio)) == pytest.approx(6.02, abs=0.01)
    assert float(loss(audio / 2, audio)) == pytest.approx(6.02, abs=0.01)
    spike = torch.zeros(1, 1, 24000)
    spike[..., 0] = 2.0
    assert float(loss(spike, spike)) == pytest.approx(6.02, abs=0.01)
