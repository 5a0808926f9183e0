"""The network of mitate-small: a residual network of 1.2 million parameters for 64 x 64 colour images (He et al. 2016), without normalisation layers.

It is trained with batch normalisation (experiments/2026-11-22-mitate-small), which is then folded into the convolutions: what is
shipped is convolutions, and the mean and deviation of each feature over the pictures it learnt from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 64  # pixels
STEM = 32
PLAN = (64, 128, 256)  # channels of each block, which halves the map
WIDTH = 128 + 256  # averages over the last two maps
EARLY = 2 * 64


class SmallNet(nn.Module):
    """float32 [b, 3, 64, 64], 0 to 1, to late features [b, 384] and early ones [b, 128].

    Late: each channel's average over the 8 x 8 and the 4 x 4 map, minus its mean and over its deviation on the training pictures. Early:
    average and deviation of each channel of the first block, which sees pieces of 15 x 15 pixels: what a style is made of.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2, 1)
        inside = STEM
        blocks = []
        for outside in PLAN:
            blocks.append(_Block(inside, outside))
            inside = outside
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("deviation", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(x)
        return self.late(maps), channel_statistics(maps[0])

    def maps(self, x: Tensor) -> list[Tensor]:
        """What each block makes of x."""
        x = F.relu(self.stem(2 * x - 1))
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def late(self, maps: list[Tensor]) -> Tensor:
        found = torch.cat([maps[1].mean(dim=(2, 3)), maps[2].mean(dim=(2, 3))], dim=1)
        return (found - self.mean) / self.deviation


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, 2, 1)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1)
        self.shortcut = nn.Conv2d(inside, outside, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def channel_statistics(maps: Tensor) -> Tensor:
    """Average and deviation of each channel over the map: [b, c, h, w] to [b, 2 c] (the statistics of Huang and Belongie 2017, eq. 5 and 6)."""
    deviation, mean = torch.std_mean(maps, dim=(2, 3), correction=0)
    return torch.cat([mean, deviation], dim=1)
