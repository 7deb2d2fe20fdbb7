"""Decoders: quantized latents (B, T, hidden_size) -> audio (B, 1, T * hop_length).

The contract is that of `encoders`: `forward(quantized, frame_mask)`, and `frame_stages` that end in frames of audio.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_q2d2 import Q2D2Config
from .layers import ConvNeXtBackbone, Float32Buffers, FramePart, Stage, overlap_add, total_context
from .registry import Registry

DECODERS = Registry("decoder")


class IstftHead(Float32Buffers):
    """Hidden states (B, T, C) -> audio (B, T, hop_length): magnitude and phase of every frame, then inverse STFT.

    Source: Vocos, arXiv 2306.00814, section 3.3.
    """

    window: Tensor

    def __init__(self, dim: int, n_fft: int, hop_length: int):
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.project = nn.Linear(dim, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32).clone())

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        log_magnitude, phase = self.project(x).float().chunk(2, dim=-1)  # 2 x (B, T, n_fft // 2 + 1)
        magnitude = log_magnitude.clamp_max(math.log(self.n_fft)).exp()  # a full-scale frame cannot be louder
        mask = torch.ones_like(x[..., :1]) if frame_mask is None else frame_mask.unsqueeze(-1)
        mask = mask.float()  # (B, T, 1)
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # faster than torch.polar
        frames = torch.fft.irfft(spectrum, self.n_fft) * (self.window * mask)
        envelope = overlap_add(self.window.square() * mask, self.hop_length)
        audio = overlap_add(frames, self.hop_length) / envelope.clamp_min(1e-8)
        return audio.unflatten(-1, (-1, self.hop_length))


class ResnetBlock(nn.Module):
    """Two normalized convolutions over time, added to the input (B, T, C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv1d(dim, dim, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.silu(norm(y)).transpose(1, 2)).transpose(1, 2)
        return x + y


class AttentionBlock(nn.Module):
    """Single-head self-attention over all frames, added to the input (B, T, C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        mask = None if frame_mask is None else frame_mask.bool().unsqueeze(1)  # (B, 1, T)
        return x + self.project(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


class AttentionPrenet(nn.Module):
    """ResNet and attention blocks in front of the ConvNeXt backbone, as in the paper's decoder (B, T, C).

    Source: WavTokenizer, arXiv 2408.16532, section 3.3. Differs: layer instead of group normalization.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.before = nn.Sequential(ResnetBlock(dim), ResnetBlock(dim))
        self.attention = AttentionBlock(dim)
        self.after = nn.Sequential(ResnetBlock(dim), ResnetBlock(dim))

    def forward(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return self.after(self.attention(self.before(x), frame_mask))


@DECODERS.register("vocos")
class VocosDecoder(FramePart):
    """ConvNeXt blocks at the frame rate and an inverse-STFT head.

    Source: Vocos, arXiv 2306.00814.

    Args:
        config: Hidden size and hop length are read from it.
        dim: Channels of the blocks.
        depth: ConvNeXt blocks.
        expansion: Width of the network in each block, as a multiple of `dim`.
        kernel_size: Of the convolutions, in frames; odd.
        overlap: Length of a synthesis frame, in hops.
        attention: Put the paper's ResNet and attention blocks first; every frame then depends on the whole recording.
    """

    def __init__(
        self,
        config: Q2D2Config,
        dim: int = 320,
        depth: int = 8,
        expansion: int = 3,
        kernel_size: int = 7,
        overlap: int = 4,
        attention: bool = False,
    ):
        super().__init__()
        self.prenet = AttentionPrenet(config.hidden_size) if attention else None
        self.backbone = ConvNeXtBackbone(config.hidden_size, dim, depth, dim * expansion, kernel_size)
        self.head = IstftHead(dim, overlap * config.hop_length, config.hop_length)
        if not attention:
            self.context_frames = total_context(self.frame_stages())

    def frame_stages(self) -> list[Stage]:
        """The stages of the backbone and the head; with attention there are none."""
        context = math.ceil((self.head.n_fft / self.head.hop_length - 1) / 2)
        return [*self.backbone.frame_stages(), Stage(self.head, context)]

    def forward(self, quantized: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        x = quantized.to(self.head.project.weight.dtype)
        if self.prenet is not None:
            x = self.prenet(x, frame_mask)
        return self.head(self.backbone(x, frame_mask), frame_mask).flatten(1).unsqueeze(1)  # (B, 1, N)
