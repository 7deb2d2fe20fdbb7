"""A codec as ONNX files: encoder.onnx (audio -> tokens) and decoder.onnx (tokens -> audio).

Lengths are free; batches hold one recording, which is computed at once, not in blocks. The Fourier transforms become
matrix products, the analysis one in float64 as in the model.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .corpus.shards import codec_metadata
from .decoders import ExcitedIstftHead, VocosDecoder
from .encoders import StftEncoder
from .layers import frame_signal, overlap_add
from .modeling_q2d2 import Q2D2Model

_OPSET = 18


def _angles(n_fft: int) -> Tensor:
    """Angles (n_fft // 2 + 1, n_fft) of the Fourier transform, float64."""
    products = torch.outer(torch.arange(n_fft // 2 + 1), torch.arange(n_fft))
    return 2 * math.pi * (products % n_fft).double() / n_fft  # reduced first, so that the angles are exact


class OnnxEncoder(nn.Module):
    """Audio (1, 1, N) -> tokens (1, 1, ceil(N / hop_length)) int64, as `Q2D2Model.encode`."""

    kernels: Tensor

    def __init__(self, model: Q2D2Model):
        super().__init__()
        self.encoder, self.quantizer = model.encoder, model.quantizer
        angles, window = _angles(self.encoder.n_fft), self.encoder.window.double()
        self.register_buffer("kernels", torch.cat([angles.cos() * window, angles.sin() * window]).T.contiguous())

    def forward(self, input_values: Tensor) -> Tensor:
        n_fft, hop = self.encoder.n_fft, self.encoder.hop_length
        samples = self.encoder.round_samples(input_values.squeeze(1))
        frames = frame_signal(F.pad(samples, (0, hop - 1)), n_fft, hop)  # (1, ceil(N / hop), n_fft)
        real, imaginary = (frames.double() @ self.kernels).chunk(2, dim=-1)  # 2 x (1, T, n_fft // 2 + 1)
        mel = (real.square() + imaginary.square()).sqrt().float() @ self.encoder.mel_filters
        return self.quantizer.encode(self.encoder.backbone(mel.clamp_min(1e-5).log())).unsqueeze(1)


class OnnxDecoder(nn.Module):
    """Tokens (1, 1, T) int64 -> audio (1, 1, T * hop_length), as `Q2D2Model.decode`."""

    kernels: Tensor
    analysis: Tensor
    low_kernels: Tensor
    squared_window: Tensor

    def __init__(self, model: Q2D2Model):
        super().__init__()
        self.decoder, self.quantizer = model.decoder, model.quantizer
        head = self.decoder.head
        angles, window = _angles(head.n_fft), head.window.double()
        twice = torch.full((head.n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1.0  # all other frequencies stand for two
        kernels = torch.cat([angles.cos() * twice, -angles.sin() * twice]) * window / head.n_fft
        self.register_buffer("kernels", kernels.float().unsqueeze(1))  # (n_fft + 2, 1, n_fft)
        self.register_buffer("squared_window", head.window.square().view(1, 1, -1))
        if isinstance(head, ExcitedIstftHead):  # in float64: the source is made flat, and rounding with it
            analysis = torch.cat([angles.cos() * window, -angles.sin() * window]).T
            self.register_buffer("analysis", analysis.contiguous())  # (n_fft, n_fft + 2)
            passing = head.low_pass[: head.num_low, None].double()
            parts = [part[: head.num_low] * passing for part in kernels.chunk(2)]
            self.register_buffer("low_kernels", torch.cat(parts))  # (2 * num_low, n_fft)

    def _overlap_add(self, frames: Tensor, kernels: Tensor) -> Tensor:
        """Audio (1, 1, T * hop_length) of coefficients (1, C, T) of the kernels (C, 1, n_fft)."""
        head = self.decoder.head
        return F.conv_transpose1d(frames, kernels, stride=head.hop_length, padding=(head.n_fft - head.hop_length) // 2)

    def forward(self, audio_codes: Tensor) -> Tensor:
        hidden = self.decoder.backbone(self.quantizer.decode(audio_codes.squeeze(1)))
        head = self.decoder.head
        real, imaginary = head._spectrum(hidden)
        if isinstance(head, ExcitedIstftHead):
            low = torch.cat([real[..., : head.num_low], imaginary[..., : head.num_low]], dim=-1).double()
            windows = low @ self.low_kernels  # (1, T, n_fft)
            envelope = overlap_add(torch.ones_like(windows) * head.window.double().square(), head.hop_length)
            low = overlap_add(windows, head.hop_length) / envelope.clamp_min(1e-8)
            pulses = head.pulses(frame_signal(low, head.n_fft, head.hop_length))
            source = (pulses @ self.analysis).float().chunk(2, dim=-1)  # real and imaginary parts
            scale = head.source_scale(source[0].square() + source[1].square(), head.gains(hidden))
            real = real + scale * source[0]
            imaginary = imaginary + scale * source[1]
        return self._synthesize(real, imaginary)

    def _synthesize(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Audio (1, 1, T * hop_length) of spectra (1, T, n_fft // 2 + 1)."""
        spectrum = torch.cat([real, imaginary], dim=-1).transpose(1, 2)
        envelope = self._overlap_add(torch.ones_like(spectrum[:, :1]), self.squared_window)
        return self._overlap_add(spectrum, self.kernels) / envelope.clamp_min(1e-8)


def export(model: Q2D2Model, folder: Path) -> None:
    """Write encoder.onnx and decoder.onnx.

    Raises:
        ValueError: If the codec has other parts than the default one.
    """
    if not isinstance(model.encoder, StftEncoder) or not isinstance(model.decoder, VocosDecoder):
        raise ValueError(f"only stft and vocos can be exported, got {model.config.encoder} and {model.config.decoder}")
    if model.decoder.prenet is not None:
        raise ValueError("a decoder with attention cannot be exported")
    folder.mkdir(parents=True, exist_ok=True)
    frames = torch.zeros(1, 1, 50, dtype=torch.int64)
    samples = torch.zeros(1, 1, 50 * model.config.hop_length)
    parts: dict[str, tuple[nn.Module, Tensor, str, str]] = {
        "encoder": (OnnxEncoder(model), samples, "input_values", "audio_codes"),
        "decoder": (OnnxDecoder(model), frames, "audio_codes", "audio_values"),
    }
    for name, (part, example, given, result) in parts.items():
        program = torch.onnx.export(
            part.eval(),
            (example,),
            input_names=[given],
            output_names=[result],
            dynamic_shapes={given: {2: torch.export.Dim.DYNAMIC}},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # with dynamo
        for key, value in codec_metadata(model).items():
            program.model.metadata_props[key.decode()] = value.decode()
        program.save(folder / f"{name}.onnx", external_data=False)
