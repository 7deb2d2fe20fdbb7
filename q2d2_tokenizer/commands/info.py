"""The command `q2d2 info`."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..modeling_q2d2 import Q2D2Model

_PARTS = ("encoder", "quantizer", "decoder")


def info(*, codec: str = "bundled") -> None:
    """Describe a codec: parameters, tokens per second, lattice, codebook, bit rate, latency, fingerprint.

        q2d2 info
        q2d2 info --codec configs/paper_1kbps.json

    Args:
        codec: Folder of a codec, its name on the Hub, a configuration (.json), or bundled.
    """
    from ..bundled import load_codec

    if codec.endswith(".json"):
        fields = describe(load_model_without_weights(codec), "none without weights")
    else:
        model = load_codec(codec)
        fields = describe(model, model.fingerprint())
    try:
        for name, value in fields.items():
            print(f"{name:<18} {value}")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `head`, for example, has enough


def load_model_without_weights(config_file: str) -> "Q2D2Model":
    """The model of a configuration in JSON; its tensors have shapes, but no values.

    Raises:
        ValueError: If the file is no valid configuration.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError

    from ..configuration_q2d2 import Q2D2Config
    from ..modeling_q2d2 import Q2D2Model

    try:
        config = Q2D2Config.from_json_file(config_file)
        with torch.device("meta"):
            return Q2D2Model(config)
    except (ValueError, OSError, RuntimeError, TypeError, StrictDataclassError) as error:
        raise ValueError(f"cannot use {config_file} as a Q2D2 configuration: {error}") from error


def describe(model: "Q2D2Model", fingerprint: str) -> dict[str, str]:
    """What `q2d2 info` tells about a codec, in order."""
    config = model.config
    parts = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in _PARTS}
    return {
        "parameters": f"{sum(parts.values()):,}",
        **{f"  {name}": f"{count:,} ({getattr(config, name)})" for name, count in parts.items()},
        "sampling rate": f"{config.sampling_rate:,} Hz",
        "hop length": f"{config.hop_length} samples",
        "tokens": f"{config.frame_rate:.2f} /s",
        **_describe_quantizer(model),
        "points per group": " * ".join(map(str, config.points_per_group)),
        "codebook size": f"{config.codebook_size:,}",
        "information": f"{config.bits_per_code:.3f} bits/token",
        "bitrate": f"{config.bitrate:.0f} bit/s",
        **_describe_context(model),
        "fingerprint": fingerprint,
    }


def _describe_quantizer(model: "Q2D2Model") -> dict[str, str]:
    from ..quantizers import LatticeQuantizer

    config, lines = model.config, {}
    if isinstance(model.quantizer, LatticeQuantizer):
        lines["lattice"] = f"{config.lattice}, channels in groups of {config.group_size}"
    lines["levels"] = ", ".join(map(str, config.levels))
    if config.quantizer_kwargs:
        lines["options"] = ", ".join(f"{name}: {value}" for name, value in config.quantizer_kwargs.items())
    return lines


def _describe_context(model: "Q2D2Model") -> dict[str, str]:
    hop, rate = model.config.hop_length, model.config.sampling_rate
    contexts = {"encoder": model.encoder.context_frames, "decoder": model.decoder.context_frames}
    lines = {}
    for name, context in contexts.items():
        if context is None:
            lines[f"{name} context"] = "the whole recording"
        else:
            after = f"{context.after} = {1000 * context.after * hop / rate:.1f} ms after it"
            lines[f"{name} context"] = f"{context.before} frames before a frame, {after}"
    ahead = [context.after for context in contexts.values() if context is not None]
    if len(ahead) < len(contexts):
        return {**lines, "latency": "the whole recording"}
    latency = 1000 * (1 + sum(ahead)) * hop / rate
    return {**lines, "latency": f"{latency:.1f} ms, a frame and what encoder and decoder look ahead"}
