"""Recordings piece by piece: what has to be remembered between pieces, and tokens that do not depend on the pieces.

Every stage of an encoder or decoder sees a few frames of context on each side. So the frames of a stage lag behind
those that came in, and the last `2 * context_frames` that went into each stage are all that the rest of a recording
needs: every frame is computed once, and memory does not grow.

In float32 a frame is rounded differently in pieces of another size. A token that could change by this is computed again
in float64 from the samples it depends on (`encode_exactly`); the others are the same anyway. So all tokens are those of
a computation in float64, whatever the pieces, the batch, the number of threads and the processor.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .layers import FramePart, Stage, exact_dtype
from .quantizers import Quantizer


@dataclass(frozen=True)
class FrameCache:
    """What the stages of a part need of the frames before.

    Args:
        num_frames: Frames that came in.
        states: For every stage the last `2 * context_frames` frames that went into it.
    """

    num_frames: int
    states: tuple[Tensor, ...]


@dataclass(frozen=True)
class Q2D2EncoderCache:
    """What the tokens still to come depend on; made by `Q2D2Model.encode`, never changed, so it may be used twice.

    Args:
        samples: The last samples that came in (B, n): context of the encoder on both sides, and an unfinished frame.
        frames: State of the stages of the encoder.
    """

    samples: Tensor
    frames: FrameCache

    @property
    def batch_size(self) -> int:
        """Recordings that are encoded together."""
        return len(self.samples)


@dataclass(frozen=True)
class Q2D2DecoderCache:
    """What the audio still to come depends on; made by `Q2D2Model.decode`, never changed, so it may be used twice.

    Args:
        batch_size: Streams that are decoded together.
        frames: State of the stages of the decoder.
    """

    batch_size: int
    frames: FrameCache


def advance(stages: list[Stage], frames: Tensor, cache: FrameCache | None, is_last: bool) -> tuple[Tensor, FrameCache]:
    """Run the next frames of recordings through the stages of a part.

    Args:
        stages: Of the part.
        frames: The next frames (B, T, ...).
        cache: What `advance` returned for the frames before, None at the beginning.
        is_last: Whether the recordings end here.

    Returns:
        The frames that are determined now, `sum(context_frames)` later than they come in, and the cache.

    Raises:
        ValueError: If recordings without frames end.
    """
    position = 0 if cache is None else cache.num_frames  # of the first new frame of the stage
    num_frames = position + frames.shape[1]
    if is_last and not num_frames:
        raise ValueError("every recording needs at least one sample or token, got none in all of its pieces")
    if is_last:
        frames = _append_zeros(frames, sum(stage.context_frames for stage in stages))
    states = []
    for i, (apply, context) in enumerate(stages):
        before = _append_zeros(frames[:, :0], 2 * context) if cache is None else cache.states[i]
        window = torch.cat([before, frames], dim=1)
        states.append(window[:, window.shape[1] - 2 * context :].clone())
        mask = _frame_mask(position - 2 * context, window, num_frames if is_last else None)
        frames = apply(window, mask)[:, context : window.shape[1] - context]
        position -= context
    return frames[:, max(0, -position) :], FrameCache(num_frames, tuple(states))


def _append_zeros(frames: Tensor, count: int) -> Tensor:
    return torch.cat([frames, frames.new_zeros(frames.shape[0], count, *frames.shape[2:])], dim=1)


def _frame_mask(first: int, frames: Tensor, num_frames: int | None) -> Tensor | None:
    """Which frames (B, T), the first of them at `first`, lie inside the recordings; None if all do."""
    if first >= 0 and num_frames is None:
        return None
    positions = torch.arange(first, first + frames.shape[1], device=frames.device)
    mask = positions >= 0 if num_frames is None else (positions >= 0) & (positions < num_frames)
    return mask.expand(frames.shape[0], -1)


class _WindowEncoder(nn.Module):
    """Codes (W,) of the middle frames of windows (W, 2 * context_frames + 1, hop_length)."""

    def __init__(self, encoder: FramePart, quantizer: Quantizer):
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        for apply, context in self.encoder.frame_stages():
            keep = slice(context, frames.shape[1] - context)
            frames, frame_mask = apply(frames, frame_mask)[:, keep], frame_mask[:, keep]
        return self.quantizer.encode(frames).squeeze(1)


def encode_exactly(encoder: FramePart, quantizer: Quantizer, frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Codes (W,) of the middle frames of windows (W, 2 * context_frames + 1, hop_length), computed in float64."""
    dtype = exact_dtype(frames.device)
    module = _WindowEncoder(encoder, quantizer)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    tensors = {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}
    return functional_call(module, tensors, (frames.to(dtype), frame_mask))


def encode_next(
    encoder: FramePart,
    quantizer: Quantizer,
    samples: Tensor,
    hop_length: int,
    cache: Q2D2EncoderCache | None,
    is_last: bool,
) -> tuple[Tensor, Q2D2EncoderCache]:
    """Codes (B, T) that the next samples (B, N) determine, and the cache for those behind them.

    Args:
        encoder: Of finite context.
        quantizer: Of the same codec.
        samples: The next samples (B, N) of recordings.
        hop_length: Samples per frame.
        cache: Of the samples before, None at the beginning.
        is_last: Whether the recordings end here; an unfinished frame is then completed with zeros.
    """
    context = encoder.context_frames
    before = samples.new_zeros(len(samples), 2 * context * hop_length) if cache is None else cache.samples
    samples = torch.cat([before, samples], dim=1)
    if is_last:
        samples = F.pad(samples, (0, -samples.shape[1] % hop_length))
    num_whole = samples.shape[1] // hop_length
    frames = samples[:, : num_whole * hop_length].unflatten(1, (num_whole, hop_length))  # (B, 2 context + T, hop)
    first = (0 if cache is None else cache.frames.num_frames) - 2 * context  # position of frames[:, 0]
    latents, state = advance(
        encoder.frame_stages(), frames[:, 2 * context :], None if cache is None else cache.frames, is_last
    )
    codes, stable = quantizer.encode_stable(latents)
    if not stable.all():
        if is_last:
            frames = _append_zeros(frames, context)
        mask = _frame_mask(first, frames, state.num_frames if is_last else None)
        mask = torch.ones_like(frames[..., 0], dtype=torch.bool) if mask is None else mask
        size = 2 * context + 1
        skip = frames.shape[1] - size + 1 - codes.shape[1]  # windows around what lies before the recording
        windows, masks = frames.unfold(1, size, 1).movedim(-1, 2)[:, skip:], mask.unfold(1, size, 1)[:, skip:]
        codes[~stable] = encode_exactly(encoder, quantizer, windows[~stable], masks[~stable])
    keep = samples.shape[1] - (num_whole - 2 * context) * hop_length
    return codes, Q2D2EncoderCache(samples[:, samples.shape[1] - keep :].clone(), state)


def decode_next(
    decoder: FramePart, quantizer: Quantizer, codes: Tensor, cache: Q2D2DecoderCache | None, is_last: bool
) -> tuple[Tensor, Q2D2DecoderCache]:
    """Audio (B, N) float32 that the next codes (B, T) determine, and the cache; see `encode_next`."""
    quantized = quantizer.decode(codes).to(next(decoder.parameters()).dtype)
    audio, state = advance(decoder.frame_stages(), quantized, None if cache is None else cache.frames, is_last)
    return audio.flatten(1).float(), Q2D2DecoderCache(len(codes), state)
