"""What `Q2D2Model.encode` and `decode` refuse, with errors that say what was expected and what came."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .feature_extraction_q2d2 import check_peak, warn_if_half, warn_if_loud
from .streaming import Q2D2DecoderCache, Q2D2EncoderCache, mark_of


def refuse_unknown(kwargs: Mapping[str, Any]) -> None:
    """Raise if there is any argument that nobody asked for."""
    if kwargs:
        raise ValueError(f"got unknown arguments {sorted(kwargs)}")


def check_audio(input_values: Tensor, padding_mask: Tensor | None, is_chunk: bool) -> list[int]:
    """Samples of each item (B, 1, N) of a batch; a chunk may have none."""
    _check_tensor(input_values, "input_values")
    if input_values.ndim != 3 or input_values.shape[1] != 1:
        raise ValueError(
            f"input_values must be mono audio of shape (batch, 1, samples), got {tuple(input_values.shape)}; "
            "the feature extractor makes it"
        )
    if not input_values.is_floating_point():
        raise ValueError(f"input_values must be floats within plus or minus 1, got {input_values.dtype}")
    warn_if_half(input_values.dtype)
    lengths = _lengths(padding_mask, (input_values.shape[0], input_values.shape[2]), "padding_mask", "samples")
    if not lengths or (min(lengths) < 1 and not is_chunk):
        raise ValueError("every recording needs at least one sample, got an empty one; drop it before encoding")
    for index, length in enumerate(lengths):
        peak = input_values[index, 0, :length].abs().amax().item() if length else 0.0
        name = "a chunk of a stream" if is_chunk else f"input_values[{index}]"
        check_peak(peak, name)
        warn_if_loud(peak, name, once=is_chunk)
    return lengths


def check_codes(audio_codes: Tensor, audio_codes_mask: Tensor | None, codebook_size: int, is_chunk: bool) -> list[int]:
    """Tokens of each item (B, 1, T) of a batch; a chunk may have none."""
    _check_tensor(audio_codes, "audio_codes")
    if audio_codes.ndim != 3 or audio_codes.shape[1] != 1:
        raise ValueError(
            f"audio_codes must have shape (batch, 1, tokens), got {tuple(audio_codes.shape)}; "
            "tokens (T,) of one recording become it by codes.view(1, 1, -1)"
        )
    if audio_codes.dtype not in (torch.int64, torch.int32, torch.int16):
        raise ValueError(f"audio_codes must be integers, got {audio_codes.dtype}; int64, int32 and int16 will do")
    lengths = _lengths(audio_codes_mask, (audio_codes.shape[0], audio_codes.shape[2]), "audio_codes_mask", "tokens")
    if not lengths or (min(lengths) < 1 and not is_chunk):
        raise ValueError("every item needs at least one token, got an empty one")
    for codes, length in zip(audio_codes, lengths, strict=True):
        low, high = (codes[0, :length].min().item(), codes[0, :length].max().item()) if length else (0, 0)
        if low < 0 or high >= codebook_size:
            raise ValueError(
                f"audio_codes must be within 0 and {codebook_size - 1}, got {low if low < 0 else high}; "
                "are they of another codec, or shifted by the offset of a language model?"
            )
    return lengths


def check_chunk(
    model: PreTrainedModel,
    part: str,
    cache: Q2D2EncoderCache | Q2D2DecoderCache | None,
    cache_class: type,
    lengths: list[int],
    chunk_length: int,
) -> None:
    """Raise unless a part of the model, `encoder` or `decoder`, can take this chunk of recordings."""
    if getattr(model, part).context_frames is None:
        raise ValueError(
            f"the {part} {getattr(model.config, part)!r} of this model sees the whole recording at once (it has an "
            "LSTM or attention), so it cannot work chunk by chunk; pass the whole recording"
        )
    if cache is not None and not isinstance(cache, cache_class):
        raise ValueError(f"cache must be a {cache_class.__name__}, got {type(cache).__name__}")
    if cache is not None and cache.batch_size != len(lengths):
        raise ValueError(f"the cache is of {cache.batch_size} recordings, got a chunk of {len(lengths)}")
    if cache is not None:
        _check_origin(cache, model, part)
    if any(length != chunk_length for length in lengths):
        raise ValueError("chunks of a batch must have the same length, got padding; stream those recordings alone")


def _check_origin(cache: Q2D2EncoderCache | Q2D2DecoderCache, model: PreTrainedModel, part: str) -> None:
    """Raise unless a cache was made by this encoder or decoder and this quantizer, as they are now."""
    module, quantizer = model.get_submodule(part), model.get_submodule("quantizer")
    made, now = ((tensor.dtype, str(tensor.device)) for tensor in (cache.frames.states[0], next(module.parameters())))
    if made != now:
        raise ValueError(
            f"the cache is in {made[0]} on {made[1]}, the {part} in {now[0]} on {now[1]}; "
            "keep dtype and device of the model until a recording ends"
        )
    if cache.mark != mark_of(module, quantizer):
        raise ValueError(
            f"the cache is of another codec: its {part} or quantizer had other weights; pass it to the codec that made "
            "it, or begin the recording again without a cache"
        )


def check_num_samples(num_samples: int | list[int] | Tensor | None, lengths: list[int], hop_length: int) -> list[int]:
    """Samples to return of each item, given its tokens."""
    if num_samples is None:
        return [length * hop_length for length in lengths]
    try:
        given = torch.as_tensor(num_samples)
    except (TypeError, ValueError, RuntimeError):
        given = None
    if given is None or given.is_floating_point() or given.ndim > 1:
        raise ValueError(f"num_samples must be an integer or one for each item, got {num_samples!r}")
    if given.ndim == 1 and len(given) != len(lengths):
        raise ValueError(f"num_samples must be one number or {len(lengths)}, got {len(given)}")
    counts = given.expand(len(lengths)).tolist()
    for count, length in zip(counts, lengths, strict=True):
        tokens = -(-count // hop_length)
        if tokens != length:
            raise ValueError(f"num_samples={count} takes {tokens} tokens of {hop_length} samples, got {length} tokens")
    return counts


def check_num_samples_of_chunks(
    num_samples: int | list[int] | Tensor | None, lengths: list[int], hop_length: int, is_last: bool
) -> int:
    """Samples of each of the recordings that chunks end with, given all of their tokens."""
    if num_samples is not None and not is_last:
        raise ValueError("num_samples says where the recordings end; pass it with their last tokens only")
    count, *others = set(check_num_samples(num_samples, lengths, hop_length))
    if others:
        raise ValueError(f"recordings decoded in chunks together have one num_samples, got {num_samples}")
    return count


def check_float32(*modules: nn.Module) -> None:
    """Raise unless all parameters are float32: in another precision tokens would silently be others."""
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.dtype != torch.float32:
                raise ValueError(
                    f"tokens are computed by float32 parameters only, got {parameter.dtype} in {name!r} of "
                    f"{type(module).__name__}; call model.float()"
                )


def _check_tensor(value: Any, name: str) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} must be a torch tensor, got {type(value).__name__}; outputs and batches unpack: "
            "model.encode(**batch), model.decode(**encoded)"
        )


def _lengths(mask: Tensor | None, shape: tuple[int, int], name: str, unit: str) -> list[int]:
    """Length of each row of a mask whose zeros all stand behind its ones."""
    if mask is None:
        return [shape[1]] * shape[0]
    _check_tensor(mask, name)
    if tuple(mask.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, (batch, {unit}), got {tuple(mask.shape)}")
    lengths = mask.bool().sum(-1)
    if not torch.equal(mask.bool(), torch.arange(shape[1], device=mask.device) < lengths.unsqueeze(-1)):
        raise ValueError(f"{name} must be 1 for {unit} and then 0 for padding; padding goes on the right")
    return lengths.tolist()
