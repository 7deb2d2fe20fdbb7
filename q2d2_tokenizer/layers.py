"""Blocks used by more than one part of the codec."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Context(NamedTuple):
    """Frames that a frame depends on: how many before it, and how many after it."""

    before: int
    after: int

    @property
    def size(self) -> int:
        """All of them."""
        return self.before + self.after


class Stage(NamedTuple):
    """One step of a part of the codec.

    Args:
        apply: From frames (B, T, ...) and a mask (B, T) of those inside the recording, or None if all are, to frames
            (B, T, ...). Frames outside count as zeros.
        context: Frames that a frame depends on.
    """

    apply: Callable[[Tensor, Tensor | None], Tensor]
    context: Context


class FramePart(nn.Module):
    """An encoder or decoder: a chain of stages, each of finite context, so that it can be computed chunk by chunk.

    A part whose frames depend on the whole recording has no stages; its `context_frames` stay None.
    """

    context_frames: Context | None = None
    """Frames that a frame depends on, set by `__init__`; None if that is all of them."""

    def frame_stages(self) -> list[Stage]:
        """The stages in order; a part of finite context has them."""
        raise NotImplementedError

    def forward(self, frames: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """All stages over the frames (B, T, ...) of whole recordings."""
        return apply_stages(self.frame_stages(), frames, frame_mask)


def apply_stages(stages: list[Stage], frames: Tensor, frame_mask: Tensor | None) -> Tensor:
    """One stage after the other over the frames (B, T, ...) of whole recordings."""
    for stage in stages:
        frames = stage.apply(frames, frame_mask)
    return frames


def total_context(stages: list[Stage]) -> Context:
    """Frames that a frame behind the last stage depends on."""
    return Context(sum(stage.context.before for stage in stages), sum(stage.context.after for stage in stages))


def check_look_ahead(look_ahead: int | None, most: int) -> None:
    """Raise if a part cannot look ahead so many frames; None stands for symmetric contexts."""
    if look_ahead is not None and not 0 <= look_ahead <= most:
        raise ValueError(f"look_ahead must be None or within 0 and {most} frames with these settings, got {look_ahead}")


def exact_dtype(device: torch.device) -> torch.dtype:
    """The finest floating-point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def mel_filters(
    num_bins: int, num_bands: int, highest: float, sampling_rate: int, equal_areas: bool = False
) -> np.ndarray:
    """Triangles (num_bins, num_bands) float64 that overlap by half and are spaced evenly on the mel scale of M. Slaney.

    Source: M. Slaney, "Auditory Toolbox", 1998: linear up to 1 kHz, logarithmic above.

    Args:
        num_bins: Frequencies of the Fourier transform, from 0 to half the sampling rate.
        num_bands: Mel bands.
        highest: Upper end of the last band, in Hz; the first begins at 0.
        sampling_rate: In Hz.
        equal_areas: Scale the triangles to the same area; all have the height 1 otherwise.
    """
    mel_of_1_khz, octave = 15.0, np.log(6.4) / 27.0
    highest_mel = 3.0 * highest / 200.0
    if highest >= 1000.0:
        highest_mel = mel_of_1_khz + np.log(highest / 1000.0) * (27.0 / np.log(6.4))
    mels = np.linspace(0.0, highest_mel, num_bands + 2)
    corners = 200.0 * mels / 3.0  # Hz
    above = mels >= mel_of_1_khz
    corners[above] = 1000.0 * np.exp(octave * (mels[above] - mel_of_1_khz))
    widths = np.diff(corners)
    distances = corners - np.linspace(0, sampling_rate // 2, num_bins)[:, np.newaxis]  # (num_bins, num_bands + 2)
    filters = np.maximum(0.0, np.minimum(-distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]))
    return filters * (2.0 / (corners[2:] - corners[:-2])) if equal_areas else filters


_takes_onednn: ContextVar[bool] = ContextVar("_takes_onednn", default=False)


@contextmanager
def fast_products() -> Iterator[None]:
    """`multiply` may take oneDNN within: `encode` and `decode` say so, training does not, whatever autograd does."""
    token = _takes_onednn.set(True)
    try:
        yield
    finally:
        _takes_onednn.reset(token)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """A linear layer over x (..., C), and then a GELU if `activation` is `gelu`.

    On a CPU of x86 oneDNN is faster: its float32 products take half the time of those of MKL on AMD.
    """
    if not torch.compiler.is_compiling() and _takes_onednn.get() and _has_onednn(x, weight, bias):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    y = F.linear(x, weight, bias)
    return F.gelu(y) if activation == "gelu" else y


def _has_onednn(*tensors: Tensor | None) -> bool:
    if torch.jit.is_tracing() or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    are_plain = all(x is None or (x.device.type, x.dtype) == ("cpu", torch.float32) for x in tensors)
    return are_plain and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _convolve_depthwise(conv: nn.Conv1d, x: Tensor, context: Context) -> Tensor:
    """Depthwise convolution over time of (B, T, C), in the precision of `x` if that is float64.

    The layers of torch pad both sides alike, so they get the wider one, and what lies behind the frames is dropped.
    """
    bias, size = conv.bias, x.shape[1]
    assert bias is not None
    if x.dtype == torch.float64:
        weight = conv.weight.to(x.dtype)
        padded = F.pad(x, (0, 0, *context))
        y = bias.to(x.dtype).expand_as(x)
        for k in range(weight.shape[2]):
            y = torch.addcmul(y, padded[:, k : k + size], weight[:, 0, k])
        return y
    if x.device.type != "cpu" or conv.weight.dtype != torch.float32:
        return conv(x.transpose(1, 2)).transpose(1, 2)[:, :size]
    # The same sums as a 2-D convolution of height 1, which reads (B, T, C) in place: 2 to 3 times as fast as Conv1d
    # on a CPU. In bfloat16 it is many times slower, so autocast is off.
    with torch.autocast("cpu", enabled=False):
        x = x.float().transpose(1, 2).unsqueeze(2)  # (B, C, 1, T)
        y = F.conv2d(x, conv.weight.unsqueeze(2), bias, padding=(0, context.before), groups=conv.groups)
    return y.squeeze(2).transpose(1, 2)[:, :size]


def _normalize(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer normalization, in the precision of `x` if that is float64."""
    if x.dtype != torch.float64:
        return norm(x)
    return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


class Float32Module(nn.Module):
    """Stays float32 when a model is cast, and can be brought back to it: what tokens are computed by.

    In half precision many tokens would be others, and lattice points and flat codes are not representable.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32Module":
        def move_without_cast(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype in (tensor.dtype, torch.float32) else tensor.to(moved.device)

        return super()._apply(move_without_cast, recurse)


class Float32Buffers(nn.Module):
    """Keeps its own buffers float32 when a model is cast: rounded windows would change the audio."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32Buffers":
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network per frame, added to the input (B, T, C).

    Source: Vocos, arXiv 2306.00814, after ConvNeXt, arXiv 2201.03545. Differs: no adaptive normalization.

    Args:
        dim: Channels C.
        hidden_dim: Width of the network per frame.
        kernel_size: Size of the convolution, in frames; odd.
        layer_scale: Initial scale of what is added.
        after: Frames that the convolution looks ahead, at most half of the others; so many if left out.
    """

    def __init__(self, dim: int, hidden_dim: int, kernel_size: int, layer_scale: float, after: int | None = None):
        super().__init__()
        after = kernel_size // 2 if after is None else after
        self.context = Context(kernel_size - 1 - after, after)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=self.context.before, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, hidden_dim)
        self.contract = nn.Linear(hidden_dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        y = _normalize(self.norm, _convolve_depthwise(self.depthwise, x, self.context))  # (B, T, C)
        if x.dtype == torch.float64:  # from here on in the precision of the weights
            x, y = x.to(self.scale.dtype), y.to(self.scale.dtype)
        y = multiply(y, self.expand.weight, self.expand.bias, "gelu")
        return torch.addcmul(x, self.scale, multiply(y, self.contract.weight, self.contract.bias))


class ConvNeXtBackbone(FramePart):
    """Features (B, T, C_in) -> hidden states (B, T, C): an input convolution and a stack of ConvNeXt blocks.

    Features in float64 stay so up to the network of the first block: that is where float32 would lose most.

    Frames outside a recording are zeros at every layer, as if the recording were convolved alone: `frame_mask` says
    which frames are inside, so that a window cut from a recording gives the frames of the whole.

    Args:
        in_dim: Channels of the features.
        dim: Channels C of the hidden states.
        depth: Number of blocks.
        hidden_dim: Width of the network in each block.
        kernel_size: Size of all convolutions, in frames; odd.
        look_ahead: Frames that all convolutions look ahead together; the first ones take them, up to half a kernel
            each, and the others see the past alone. If left out, all are symmetric.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        depth: int,
        hidden_dim: int,
        kernel_size: int,
        look_ahead: int | None = None,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        margin, count = kernel_size // 2, depth + 1
        rest = margin * count if look_ahead is None else look_ahead
        first, *others = (min(margin, max(0, rest - i * margin)) for i in range(count))
        self.embed_context = Context(kernel_size - 1 - first, first)
        self.embed = nn.Conv1d(in_dim, dim, kernel_size)
        self.norm = nn.LayerNorm(dim)
        blocks = (ConvNeXtBlock(dim, hidden_dim, kernel_size, 1 / depth, after) for after in others)
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(dim)
        self.context_frames = total_context(self.frame_stages())

    def frame_stages(self) -> list[Stage]:
        """The input convolution, the blocks and the normalization."""
        (_, first), *others = self._convolutions()
        applied = [partial(_apply_masked, block) for block in self.blocks]
        blocks = [Stage(apply, context) for apply, (_, context) in zip(applied, others, strict=True)]
        return [Stage(self._embed, first), *blocks, Stage(self._normalize_last, Context(0, 0))]

    @torch.no_grad()
    def take_kernels(self, other: "ConvNeXtBackbone") -> None:
        """Take the kernels of a backbone of the same shape that looks ahead more or less: every tap keeps its time.

        Taps of frames that this one does not see yet are added to those of the last it sees.
        """
        for (conv, context), (source, source_context) in zip(self._convolutions(), other._convolutions(), strict=True):
            unseen = source_context.after - context.after
            conv.weight.copy_(F.pad(source.weight, (unseen, -unseen)))  # one side grows, the other is cut
            if unseen > 0:
                conv.weight[..., -1] += source.weight[..., -unseen:].sum(-1)

    def _convolutions(self) -> list[tuple[nn.Conv1d, Context]]:
        blocks = [block for block in self.blocks if isinstance(block, ConvNeXtBlock)]
        return [(self.embed, self.embed_context), *((block.depthwise, block.context) for block in blocks)]

    def _embed(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        conv, x = self.embed, _masked(x, frame_mask)
        assert conv.bias is not None
        # As a matrix product: rounding of a convolution depends on the number of frames, that of a product does not.
        num_frames, padded = x.shape[1], F.pad(x, (0, 0, *self.embed_context))
        windows = torch.cat([padded[:, i : i + num_frames] for i in range(conv.kernel_size[0])], dim=-1)  # (B, T, k C)
        weight, bias = conv.weight.transpose(1, 2).flatten(1), conv.bias
        if x.dtype == torch.float64:
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        return _normalize(self.norm, multiply(windows, weight, bias))

    def _normalize_last(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        return self.final_norm(x)


def _apply_masked(module: nn.Module, x: Tensor, frame_mask: Tensor | None) -> Tensor:
    return module(_masked(x, frame_mask))


def _masked(x: Tensor, frame_mask: Tensor | None) -> Tensor:
    return x if frame_mask is None else x * frame_mask.unsqueeze(-1).to(x.dtype)


def frame_signal(audio: Tensor, frame_length: int, hop_length: int, after: int | None = None) -> Tensor:
    """Overlapping frames (B, T, frame_length) of audio (B, T * hop_length), each centred on its hop.

    Samples outside the audio are zeros. With `after`, a frame ends so many samples behind its hop instead.
    """
    margin = frame_length - hop_length
    after = margin - margin // 2 if after is None else after
    padded = F.pad(audio, (margin - after, after))
    return padded.unfold(-1, frame_length, hop_length)


def overlap_add(frames: Tensor, hop_length: int, before: int | None = None) -> Tensor:
    """Sum of overlapping frames (B, T, frame_length) as audio (B, T * hop_length), the inverse of `frame_signal`.

    `frame_length` must be a multiple of `hop_length`. With `before`, a frame begins so many samples before its hop.
    """
    batch, num_frames, frame_length = frames.shape
    overlap = frame_length // hop_length
    hops = frames.reshape(batch, num_frames, overlap, hop_length)
    shifted = [F.pad(hops[:, :, i], (0, 0, i, overlap - 1 - i)) for i in range(overlap)]
    total = sum(shifted[1:], start=shifted[0])  # (B, T + overlap - 1, hop)
    before = (frame_length - hop_length) // 2 if before is None else before
    return total.flatten(1)[:, before : before + num_frames * hop_length]
