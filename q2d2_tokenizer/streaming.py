"""Recordings chunk by chunk: what has to be remembered between chunks, and tokens that do not depend on the chunks.

Every stage of an encoder or decoder sees a few frames before and after each frame. So the frames of a stage lag behind
those that came in, and the last ones that went into each stage, as many as its context, are all that the rest of a
recording needs: every frame is computed once, and memory does not grow.

In float32 a frame is rounded differently in chunks of another size. A token that could change by this is computed again
in float64 from the samples it depends on (`ExactEncoder`); the others are the same anyway. So all tokens are those of a
computation in float64, whatever the chunks, the batch, the number of threads and the processor.

Nothing here changes a module, so threads may share a model.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoders import Encoder
from .layers import FramePart, Stage, apply_stages, exact_dtype, total_context
from .quantizers import Quantizer

_BLOCKS_PER_CALL = {"cpu": 1}  # accelerators need many blocks at a time to be busy
_BLOCKS_PER_CALL_ON_ACCELERATORS = 32
_WEIGHTS_IN_MARK = 8  # of a layer
Cache = TypeVar("Cache")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class FrameCache:
    """What the stages of a part need of the frames before.

    Args:
        num_frames: Frames that came in.
        states: For every stage the last frames that went into it, as many as its context; none at the beginning,
            which stands for zeros.
    """

    num_frames: int = 0
    states: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Q2D2EncoderCache:
    """What the tokens still to come depend on; made by `Q2D2Model.encode`, never changed, so it may be used twice.

    Args:
        samples: The last samples that came in (B, n): context of the encoder on both sides, and an unfinished frame.
        frames: State of the stages of the encoder.
        mark: What `mark_of` makes of encoder and quantizer.
    """

    samples: Tensor
    frames: FrameCache
    mark: tuple[float, ...]

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
        mark: What `mark_of` makes of decoder and quantizer.
    """

    batch_size: int
    frames: FrameCache
    mark: tuple[float, ...]


def mark_of(*parts: nn.Module) -> tuple[float, ...]:
    """A few weights of the last layer of parts of a codec: caches that are copied or pickled still know their codec."""
    last = [weight for part in parts for weight in [one for one in part.parameters() if one.ndim > 1][-1:]]
    few = [weight.detach().flatten()[:: max(1, weight.numel() // _WEIGHTS_IN_MARK)].float() for weight in last]
    return tuple(torch.cat(few).tolist())


def advance(stages: list[Stage], frames: Tensor, cache: FrameCache, is_last: bool) -> tuple[Tensor, FrameCache]:
    """Run the next frames of recordings through the stages of a part.

    Args:
        stages: Stages of the part.
        frames: The next frames (B, T, ...).
        cache: What `advance` returned for the frames before, an empty one at the beginning.
        is_last: Whether the recordings end here.

    Returns:
        The frames that are determined now, `total_context(stages).after` later than they come in, and the cache.

    Raises:
        ValueError: If recordings without frames end.
    """
    position = cache.num_frames  # of the first new frame of the stage
    num_frames = position + frames.shape[1]
    if is_last and not num_frames:
        raise ValueError("every recording needs at least one sample or token, got none in all of its chunks")
    if is_last:
        frames = _append_zeros(frames, total_context(stages).after)
    states = []
    for i, (apply, context) in enumerate(stages):
        before = cache.states[i] if cache.states else _append_zeros(frames[:, :0], context.size)
        window = torch.cat([before, frames], dim=1)
        states.append(window[:, window.shape[1] - context.size :].clone())
        mask = _frame_mask(position - context.size, window, num_frames if is_last else None)
        if window.shape[1]:
            frames = apply(window, mask)[:, context.before : window.shape[1] - context.after]
        else:  # Fourier transforms refuse no frames at all
            frames = apply(_append_zeros(window, 1), None)[:, :0]
        position -= context.after
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


def pack(recordings: list[Tensor], stages: list[Stage]) -> tuple[Tensor, Tensor]:
    """Frames (1, T, ...) of recordings (T_i, ...), one after the other, and whose they are (1, T).

    Between two lie as many frames of zeros, of number -1, as a stage sees on one side. Every stage takes frames outside
    of a recording for zeros, so none sees another one.
    """
    count = max(max(context) for _, context in stages)
    zeros = recordings[0].new_zeros(count, *recordings[0].shape[1:])
    frames = torch.cat([part for recording in recordings for part in (recording, zeros)][:-1])
    owners = [F.pad(torch.full((len(recording),), i), (0, count), value=-1) for i, recording in enumerate(recordings)]
    return frames.unsqueeze(0), torch.cat(owners)[: len(frames)].unsqueeze(0).to(frames.device)


def unpack(frames: Tensor, owners: Tensor) -> list[Tensor]:
    """Frames (T_i, ...) of each recording, from those (1, T, ...) of all that were packed."""
    counts = torch.bincount(owners[owners >= 0]).tolist()
    return list(frames[owners >= 0].split(counts))


def _mask_of(owners: Tensor) -> Tensor | None:
    """Which packed frames (1, T) lie inside a recording; None if all do."""
    return owners >= 0 if owners.min() < 0 else None


def exact_copy(module: Module, dtype: torch.dtype) -> Module:
    """A module that computes in another precision; it shares everything else with the module, which stays as it is."""

    def converted(tensors: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
        return {k: x.to(dtype) if x is not None and x.is_floating_point() else x for k, x in tensors.items()}

    twin = copy.copy(module)
    vars(twin).pop("forward", None)  # what others put around it is bound to the original
    children = {name: child and exact_copy(child, dtype) for name, child in module._modules.items()}
    parameters, buffers = converted(dict(module._parameters)), converted(module._buffers)
    vars(twin).update(_parameters=parameters, _buffers=buffers, _modules=children)
    return twin


class ExactEncoder:
    """Codes (W,) of one frame each of windows (W, before + 1 + after, hop_length), computed in float64.

    Args:
        encoder: Encoder of finite context. It and the quantizer are copied when the first window comes, so make a new
            one whenever they may have changed.
        quantizer: Quantizer of the same codec.
    """

    def __init__(self, encoder: Encoder, quantizer: Quantizer):
        self._originals = encoder, quantizer

    @cached_property
    def _copies(self) -> tuple[Encoder, Quantizer]:
        encoder, quantizer = self._originals
        dtype = exact_dtype(next(encoder.parameters()).device)
        return exact_copy(encoder, dtype), exact_copy(quantizer, dtype)

    def __call__(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        encoder, quantizer = self._copies
        frames = frames.to(exact_dtype(frames.device))
        for apply, context in encoder.frame_stages():
            keep = slice(context.before, frames.shape[1] - context.after)
            frames, frame_mask = apply(frames, frame_mask)[:, keep], frame_mask[:, keep]
        return quantizer.encode(frames).squeeze(1)


class _InBlocks(Generic[Cache]):
    """Computes the next values of recordings in blocks of about the same size, in little memory."""

    values_per_block: int

    def start(self, values: Tensor) -> Cache:
        """The empty cache at the beginning of the recordings that values (B, N) come from."""
        raise NotImplementedError

    def block(self, values: Tensor, cache: Cache, is_last: bool) -> tuple[Tensor, Cache]:
        """What the next values (B, N) determine, and the cache for those behind them."""
        raise NotImplementedError

    def together(self, recordings: list[Tensor]) -> list[Tensor]:
        """What short recordings (N,) determine, computed at once."""
        raise NotImplementedError

    def recordings(self, recordings: list[Tensor]) -> list[Tensor]:
        """What whole recordings (N,) determine: the short ones together, in little memory, each long one in blocks."""
        outputs: list[Tensor] = []
        group: list[Tensor] = []
        for recording in recordings:
            size = self._values_per_call(recording.device)
            if group and sum(map(len, group)) + len(recording) > size:
                outputs, group = outputs + self.together(group), []
            if len(recording) > size:
                outputs.append(self(recording.unsqueeze(0), None, True)[0][0])
            else:
                group.append(recording)
        return outputs + self.together(group) if group else outputs

    def _values_per_call(self, device: torch.device) -> int:
        return self.values_per_block * _BLOCKS_PER_CALL.get(device.type, _BLOCKS_PER_CALL_ON_ACCELERATORS)

    def __call__(self, values: Tensor, cache: Cache | None, is_last: bool) -> tuple[Tensor, Cache]:
        """What the next values (B, N) determine, and the cache for those behind them.

        Args:
            values: The next samples or codes of recordings.
            cache: Cache of those before; None at the beginning.
            is_last: Whether the recordings end here.
        """
        cache, size = self.start(values) if cache is None else cache, self._values_per_call(values.device)
        outputs, blocks = [], torch.tensor_split(values, max(1, round(values.shape[1] / size)), dim=1)
        for i, block in enumerate(blocks):
            output, cache = self.block(block, cache, is_last and i == len(blocks) - 1)
            outputs.append(output)
        return torch.cat(outputs, dim=1), cache


class ChunkEncoder(_InBlocks[Q2D2EncoderCache]):
    """Codes (B, T) that the next samples (B, N) of recordings determine; made anew for every call of a model.

    Args:
        encoder: Encoder of finite context.
        quantizer: Quantizer of the same codec.
        hop_length: Samples per frame.
        block_frames: About how many frames to compute at a time.
    """

    def __init__(self, encoder: Encoder, quantizer: Quantizer, hop_length: int, block_frames: int):
        self.encoder, self.quantizer = encoder, quantizer
        self.hop_length = hop_length
        self.values_per_block = block_frames * hop_length
        self.stages = encoder.frame_stages()
        self.context = total_context(self.stages)
        self.exact_encoder = ExactEncoder(encoder, quantizer)

    def start(self, values: Tensor) -> Q2D2EncoderCache:
        samples = values.new_zeros(len(values), self.context.size * self.hop_length)
        return Q2D2EncoderCache(samples, FrameCache(), mark_of(self.encoder, self.quantizer))

    def block(self, values: Tensor, cache: Q2D2EncoderCache, is_last: bool) -> tuple[Tensor, Q2D2EncoderCache]:
        samples = torch.cat([cache.samples, values], dim=1)
        if is_last:  # an unfinished frame is completed with zeros
            samples = F.pad(samples, (0, -samples.shape[1] % self.hop_length))
        num_whole = samples.shape[1] // self.hop_length
        frames = samples[:, : num_whole * self.hop_length].unflatten(1, (num_whole, self.hop_length))
        latents, state = advance(self.stages, frames[:, self.context.size :], cache.frames, is_last)
        codes, stable = self.quantizer.encode_stable(latents)
        if not stable.all():
            first = cache.frames.num_frames - self.context.size  # position of frames[:, 0]
            windows, masks = self._windows(frames, first, state.num_frames if is_last else None, codes.shape[1])
            codes[~stable] = self.exact_encoder(windows[~stable], masks[~stable])
        begin = (num_whole - self.context.size) * self.hop_length  # of what the samples to come need
        return codes, Q2D2EncoderCache(samples[:, begin:].clone(), state, cache.mark)

    def together(self, recordings: list[Tensor]) -> list[Tensor]:
        hop = self.hop_length
        frames, owners = pack([F.pad(x, (0, -len(x) % hop)).view(-1, hop) for x in recordings], self.stages)
        codes, stable = self.quantizer.encode_stable(apply_stages(self.stages, frames, _mask_of(owners)))
        unsure = ~stable & (owners >= 0)
        if unsure.any():
            size = self.context.size + 1
            masks = F.pad(owners, self.context, value=-1).unfold(1, size, 1)[unsure] == owners[unsure].unsqueeze(-1)
            windows = F.pad(frames, (0, 0, *self.context)).unfold(1, size, 1)[unsure].movedim(-1, 1)
            codes[unsure] = self.exact_encoder(windows * masks.unsqueeze(-1), masks)
        return unpack(codes, owners)

    def _windows(self, frames: Tensor, first: int, num_frames: int | None, count: int) -> tuple[Tensor, Tensor]:
        """Windows (B, count, W, hop_length) around the last frames, and which frames (B, count, W) of them are inside.

        Args:
            frames: (B, T, hop_length), with the context on both sides.
            first: Position of the first of them in the recordings.
            num_frames: Lengths of the recordings, if they end here.
            count: Number of windows.
        """
        if num_frames is not None:
            frames = _append_zeros(frames, self.context.after)
        mask = _frame_mask(first, frames, num_frames)
        mask = torch.ones_like(frames[..., 0], dtype=torch.bool) if mask is None else mask
        size = self.context.size + 1
        skip = frames.shape[1] - size + 1 - count  # windows around what lies before the recording
        return frames.unfold(1, size, 1).movedim(-1, 2)[:, skip:], mask.unfold(1, size, 1)[:, skip:]


class ChunkDecoder(_InBlocks[Q2D2DecoderCache]):
    """Audio (B, N) float32 that the next codes (B, T) of recordings determine; made anew for every call of a model.

    Args:
        decoder: Decoder of finite context.
        quantizer: Quantizer of the same codec.
        block_frames: About how many frames to compute at a time.
    """

    def __init__(self, decoder: FramePart, quantizer: Quantizer, block_frames: int):
        self.decoder, self.quantizer = decoder, quantizer
        self.values_per_block = block_frames
        self.stages = decoder.frame_stages()
        self.dtype = next(decoder.parameters()).dtype

    def start(self, values: Tensor) -> Q2D2DecoderCache:
        return Q2D2DecoderCache(len(values), FrameCache(), mark_of(self.decoder, self.quantizer))

    def block(self, values: Tensor, cache: Q2D2DecoderCache, is_last: bool) -> tuple[Tensor, Q2D2DecoderCache]:
        quantized = self.quantizer.decode(values).to(self.dtype)
        audio, state = advance(self.stages, quantized, cache.frames, is_last)
        return audio.flatten(1).float(), Q2D2DecoderCache(len(values), state, cache.mark)

    def together(self, recordings: list[Tensor]) -> list[Tensor]:
        codes, owners = pack(recordings, self.stages)
        audio = apply_stages(self.stages, self.quantizer.decode(codes).to(self.dtype), _mask_of(owners))
        return [frames.flatten().float() for frames in unpack(audio, owners)]
