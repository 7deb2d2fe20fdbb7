"""One training step of the codec: losses and parameter updates; no logging and no files."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modeling_q2d2 import Q2D2Model


class Autoencoder(nn.Module):
    """The codec with gradients: audio (B, 1, T * hop_length) -> audio of the same shape and codes (B, T)."""

    def __init__(self, codec: Q2D2Model):
        super().__init__()
        self.codec = codec

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        quantized, codes = self.codec.quantizer(self.codec.encoder(audio))
        return self.codec.decoder(quantized), codes


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
            real, fake = real.detach().flatten(1), fake.flatten(1)
            losses.append(((real - fake).abs().mean(1) / real.abs().mean(1).clamp_min(1e-3)).mean())
    return torch.stack(losses).mean()


def discriminator_step(discriminators: nn.Module, audio: Tensor, reconstruction: Tensor) -> Tensor:
    """Loss of the discriminators on real audio (B, 1, N) and a reconstruction that gets no gradient."""
    features = discriminators(torch.cat([audio, reconstruction.detach()]))
    real, fake = zip(*(part[-1].chunk(2) for part in features), strict=True)
    return discriminator_loss(list(real), list(fake))


def generator_step(
    audio: Tensor,
    reconstruction: Tensor,
    spectral_losses: nn.ModuleDict,
    discriminators: nn.Module | None,
) -> dict[str, Tensor]:
    """Unweighted losses of the codec by name; without discriminators only the spectral ones."""
    losses = {name: loss(reconstruction, audio) for name, loss in spectral_losses.items()}
    if discriminators is not None:
        features = discriminators(torch.cat([audio, reconstruction]))
        real = [[layer.chunk(2)[0] for layer in part] for part in features]
        fake = [[layer.chunk(2)[1] for layer in part] for part in features]
        losses["adversarial"] = adversarial_loss([part[-1] for part in fake])
        losses["feature"] = feature_loss(real, fake)
    return losses
