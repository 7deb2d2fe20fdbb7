"""Loss terms of codec training; each takes audio (B, 1, N) or outputs of discriminators and returns a scalar."""

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from .layers import frame_signal


def spectrogram(audio: Tensor, n_fft: int, hop_length: int, window: Tensor) -> Tensor:
    """Complex spectrogram (B, T, n_fft // 2 + 1) of audio (B, 1, N); N must be a multiple of `hop_length`."""
    with torch.autocast(audio.device.type, enabled=False):
        return torch.fft.rfft(frame_signal(audio.squeeze(1).float(), n_fft, hop_length) * window)


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms, averaged over several resolutions.

    Source: DAC, arXiv 2306.06546, section 3.4. Differs: natural logarithm, floor as an argument.

    Args:
        sampling_rate: In Hz.
        n_ffts: Frame lengths, in samples; the hop is a quarter.
        n_mels: Mel bands of each.
        floor: Magnitudes below it count as this much.
    """

    def __init__(self, sampling_rate: int, n_ffts: tuple[int, ...], n_mels: tuple[int, ...], floor: float):
        super().__init__()
        self.n_ffts = n_ffts
        self.floor = floor
        for n_fft, mels in zip(n_ffts, n_mels, strict=True):
            filters = mel_filter_bank(n_fft // 2 + 1, mels, 0.0, sampling_rate / 2, sampling_rate, mel_scale="slaney")
            self.register_buffer(f"filters_{n_fft}", torch.tensor(filters, dtype=torch.float32))
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft).clone())

    def _log_mel(self, audio: Tensor, n_fft: int) -> Tensor:
        audio = audio[..., : audio.shape[-1] // (n_fft // 4) * (n_fft // 4)]
        spectrum = spectrogram(audio, n_fft, n_fft // 4, getattr(self, f"window_{n_fft}"))
        # The derivative of the magnitude at zero is not finite; the floor hides the small constant.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        return (magnitude @ getattr(self, f"filters_{n_fft}")).clamp_min(self.floor).log()

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Distance of audio (B, 1, N) to audio (B, 1, N)."""
        losses = [(self._log_mel(reconstruction, n) - self._log_mel(target, n)).abs().mean() for n in self.n_ffts]
        return torch.stack(losses).mean()
