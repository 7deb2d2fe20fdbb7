"""Discriminators for adversarial training: audio (B, 1, N) -> scores and the features of every layer.

A discriminator has one or more heads; each gives a list of hidden features whose last entry is its score, of any shape.
A new one is a subclass of [`Discriminator`] with `@DISCRIMINATORS.register("name")`, whose first argument is a size and
whose `sizes` are those used together.

`band` and `period` are built of 1-D convolutions with many channels, which are matrix products. `resolution` and
`multiband` are the 2-D convolutions of the published ones, which run at a third of that speed on a CPU: on a GPU,
`period resolution multiband` is the set of the paper.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..registry import Registry
from .losses import spectrogram

DISCRIMINATORS = Registry("discriminator")


class Discriminator(nn.Module):
    """Base class: `forward` takes what `prepare` makes of audio, and returns features and score of every head."""

    def prepare(self, audio: Tensor) -> Any:
        """What the trained layers see of audio (B, 1, N): a tensor or a list of them, without trained weights."""
        return audio


def _judge(x: Tensor, layers: Iterable[nn.Module], score: nn.Module) -> list[list[Tensor]]:
    """Features of every layer and score of one head."""
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        features.append(x)
    return [[*features, score(x)]]


@DISCRIMINATORS.register("band")
class BandDiscriminator(Discriminator):
    """Judges the complex spectrogram, cut into frequency bands with weights of their own.

    Source: after the multi-band multi-resolution discriminator of DAC, arXiv 2306.06546, section 3.3. Differs: a band
    is a vector of channels and not an image, so frequencies share no weights and a layer is one product per band.

    Args:
        n_fft: Frame length, in samples; the hop is a quarter.
        bands: Bands of equal width.
        dim: Channels per band.
        depth: Convolutions per band.
    """

    sizes = (512, 1024, 2048)
    window: Tensor

    def __init__(self, n_fft: int, bands: int = 8, dim: int = 64, depth: int = 3):
        super().__init__()
        self.n_fft = n_fft
        self.bands = bands
        self.register_buffer("window", torch.hann_window(n_fft).clone())
        widths = [n_fft // bands] + [dim] * depth  # real and imaginary parts of n_fft // 2 // bands frequencies
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(bands * a, bands * b, 3, padding=1, groups=bands))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.mix = weight_norm(nn.Conv1d(bands * dim, bands * dim // 2, 1))
        self.score = weight_norm(nn.Conv1d(bands * dim // 2, bands, 3, padding=1))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        hop = self.n_fft // 4
        audio = audio[..., : audio.shape[-1] // hop * hop]
        spectrum = spectrogram(audio, hop, self.window)[..., 1:]  # (B, T, n_fft // 2)
        power = spectrum.real.square() + spectrum.imag.square()
        scale = (power + 1e-6) ** -0.35  # magnitude to the power 0.3, phase kept
        x = torch.stack([spectrum.real * scale, spectrum.imag * scale], dim=-1).flatten(2)  # (B, T, n_fft)
        x = x.transpose(1, 2)  # bands stay contiguous in the channels
        return _judge(x, [*self.layers, self.mix], self.score)


@DISCRIMINATORS.register("period")
class PeriodDiscriminator(Discriminator):
    """Judges the waveform folded at a period: every `period`-th sample is one sequence.

    Source: HiFi-GAN, arXiv 2010.05646, section 2.3; its (k, 1) convolutions are 1-D convolutions of the folded signal.

    Args:
        period: In samples.
        channels: Channels of the successive layers.
    """

    sizes = (2, 3, 5, 7, 11)

    def __init__(self, period: int, channels: tuple[int, ...] = (32, 128, 512, 1024)):
        super().__init__()
        self.period = period
        widths = (1, *channels)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(a, b, 5, stride=3, padding=2)) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.layers.append(weight_norm(nn.Conv1d(widths[-1], widths[-1], 5, padding=2)))
        self.score = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        x = F.pad(audio, (0, -audio.shape[-1] % self.period), mode="reflect")
        x = x.view(x.shape[0], -1, self.period).transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B * period, 1, N')
        return _judge(x, self.layers, self.score)


def _conv2d(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))


def _image_layers(inputs: int, channels: int) -> nn.ModuleList:
    strided = [_conv2d(channels, channels, (3, 9), (1, 2)) for _ in range(3)]
    return nn.ModuleList([_conv2d(inputs, channels, (3, 9)), *strided, _conv2d(channels, channels, (3, 3))])


@DISCRIMINATORS.register("resolution")
class ResolutionDiscriminator(Discriminator):
    """Judges the magnitude spectrogram as an image.

    Source: UnivNet, arXiv 2106.07889, section 2.2. Differs: time is the first axis of the image.

    Args:
        n_fft: Frame length, in samples; the hop is a quarter.
        channels: Channels of every layer.
    """

    sizes = (512, 1024, 2048)
    window: Tensor

    def __init__(self, n_fft: int, channels: int = 32):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft).clone())
        self.layers = _image_layers(1, channels)
        self.score = _conv2d(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        spectrum = _complex_spectrum(audio, self.n_fft, self.window)
        # The derivative of the magnitude at zero is not finite.
        x = (spectrum.square().sum(-1) + 1e-9).sqrt().unsqueeze(1)  # (B, 1, T, n_fft // 2 + 1)
        return _judge(x, self.layers, self.score)


@DISCRIMINATORS.register("multiband")
class MultiBandDiscriminator(Discriminator):
    """Judges the complex spectrogram as images of several bands, each with weights of its own.

    Source: DAC, arXiv 2306.06546, section 3.3.

    Args:
        n_fft: Frame length, in samples; the hop is a quarter.
        channels: Channels of every layer.
        edges: Between the bands, as shares of the spectrum.
    """

    sizes = (512, 1024, 2048)
    window: Tensor

    def __init__(self, n_fft: int, channels: int = 32, edges: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft).clone())
        bins = n_fft // 2 + 1
        cuts = [int(edge * bins) for edge in edges]
        self.widths = [b - a for a, b in zip((0, *cuts), (*cuts, bins), strict=True)]
        self.bands = nn.ModuleList(_image_layers(2, channels) for _ in self.widths)
        self.score = _conv2d(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        x = _complex_spectrum(audio, self.n_fft, self.window).permute(0, 3, 1, 2)  # (B, 2, T, n_fft // 2 + 1)
        features, last = [], []
        for band, layers in zip(x.split(self.widths, dim=-1), self.bands, strict=True):
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                band = F.leaky_relu(layer(band), 0.1)
                features.append(band)
            last.append(band)
        return [[*features, self.score(torch.cat(last, dim=-1))]]


def _complex_spectrum(audio: Tensor, n_fft: int, window: Tensor) -> Tensor:
    """Real and imaginary parts (B, T, n_fft // 2 + 1, 2) of audio (B, 1, N), cut to whole hops."""
    hop = n_fft // 4
    return torch.view_as_real(spectrogram(audio[..., : audio.shape[-1] // hop * hop], hop, window))


class Discriminators(nn.Module):
    """Several discriminators side by side.

    Args:
        names: Names in `DISCRIMINATORS`.
        kwargs: For some of the names, arguments of the class, and `sizes` for which to build one each.

    Raises:
        ValueError: If a name or an argument is unknown, or arguments are for a name that is not used.
    """

    def __init__(self, names: list[str] | tuple[str, ...], kwargs: dict[str, dict[str, Any]]):
        super().__init__()
        if unused := sorted(set(kwargs) - set(names)):
            raise ValueError(f"arguments for the discriminators {unused}, of which none is among {list(names)}")
        self.parts = nn.ModuleList()
        self.labels = []
        for name in names:
            arguments = dict(kwargs.get(name, {}))
            sizes = arguments.pop("sizes", None)
            arguments = DISCRIMINATORS.resolve(name, arguments)
            for size in DISCRIMINATORS[name].sizes if sizes is None else sizes:
                self.parts.append(DISCRIMINATORS[name](size, **arguments))
                self.labels.append(f"{name} {size}")

    def prepare(self, audio: Tensor) -> list[Any]:
        """What the discriminators see of audio (B, 1, N), for `forward`; it is the same until the audio changes."""
        seen = []
        for part in self.parts:
            assert isinstance(part, Discriminator)
            seen.append(part.prepare(audio))
        return seen

    def forward(self, prepared: list[Any]) -> list[list[Tensor]]:
        """Features and score of every head of every discriminator."""
        return [head for part, seen in zip(self.parts, prepared, strict=True) for head in part(seen)]
