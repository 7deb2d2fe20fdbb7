"""A frozen network for tests of projected discriminators."""

import torch
from torch import Tensor, nn


class TinyNetwork(nn.Module):
    """Two layers on frames of 80 samples."""

    channels = (16, 16)

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Conv2d(80, 16, 1), nn.Conv2d(16, 16, (1, 3), padding=(0, 1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        frames = audio[:, : audio.shape[1] // 80 * 80].unflatten(1, (-1, 80)).permute(0, 2, 1).unsqueeze(2)
        hidden = self.first(frames).relu()
        return [hidden, self.second(hidden).relu()]
