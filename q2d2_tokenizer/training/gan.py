"""One training step of the codec: losses and parameter updates; no logging and no files."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling_q2d2 import Q2D2Model


class Autoencoder(nn.Module):
    """The codec with gradients: audio (B, 1, T * hop_length) -> audio of the same shape, codes (B, T), and a loss.

    The loss () is the quantizer's own, None if it has none.
    """

    def __init__(self, codec: Q2D2Model):
        super().__init__()
        self.codec = codec

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        quantized, codes, loss = self.codec.quantizer.learn(self.codec.encoder(audio, exact=False))
        return self.codec.decoder(quantized), codes, loss


def discriminator_loss(scores_real: list[Tensor], scores_fake: list[Tensor]) -> Tensor:
    """Hinge loss of the discriminators, averaged over them. Source: Vocos, arXiv 2306.00814, equation 2."""
    losses = [
        F.relu(1 - real).mean() + F.relu(1 + fake).mean() for real, fake in zip(scores_real, scores_fake, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(scores_fake: list[Tensor]) -> Tensor:
    """Hinge loss of the generator, averaged over the discriminators."""
    return torch.stack([F.relu(1 - fake).mean() for fake in scores_fake]).mean()


def feature_loss(features_real: list[list[Tensor]], features_fake: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of hidden features (rows, ...) relative to their size, averaged over all.

    Each row is relative to its own size, so the loss of a segment does not depend on the rest of its batch: it is the
    same in parts, on one process or on several.
    """
    losses = []
    for real_layers, fake_layers in zip(features_real, features_fake, strict=True):
        for real, fake in zip(real_layers[:-1], fake_layers[:-1], strict=True):
            real, rest = real.detach(), tuple(range(1, real.ndim))  # flatten would copy what has channels last
            losses.append(((real - fake).abs().mean(rest) / real.abs().mean(rest).clamp_min(1e-3)).mean())
    return torch.stack(losses).mean()


def joined(real: Any, fake: Any) -> Any:
    """What discriminators see of real audio and of reconstructions, as one batch; the latter get no gradient."""
    if isinstance(real, list):
        return [joined(*pair) for pair in zip(real, fake, strict=True)]
    return torch.cat([real, fake.detach()])


def discriminator_step(discriminators: nn.Module, real: list[Any], fake: list[Any]) -> Tensor:
    """Loss of the discriminators on what they see of real audio and of reconstructions; the latter get no gradient."""
    scores = [head[-1].chunk(2) for head in discriminators(joined(real, fake))]
    real_scores, fake_scores = zip(*scores, strict=True)
    return discriminator_loss(list(real_scores), list(fake_scores))


def spectral_step(audio: Tensor, reconstruction: Tensor, spectral_losses: nn.ModuleDict) -> dict[str, Tensor]:
    """Unweighted losses of the codec that need no discriminator, by name."""
    return {name: loss(reconstruction, audio) for name, loss in spectral_losses.items()}


def generator_step(
    discriminators: nn.Module, real: list[Any], fake: list[Any], with_features: bool = True
) -> dict[str, Tensor]:
    """Unweighted adversarial losses of the codec by name.

    Args:
        discriminators: With frozen weights.
        real: What they see of the audio.
        fake: What they see of the reconstruction, with its gradient.
        with_features: Whether to compute the feature loss.
    """
    heads = discriminators(fake)
    losses = {"adversarial": adversarial_loss([head[-1] for head in heads])}
    if with_features:
        with torch.no_grad():
            wanted = discriminators(real)
        losses["feature"] = feature_loss(wanted, heads)
    return losses
