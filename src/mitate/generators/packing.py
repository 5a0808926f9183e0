"""Pixels to the tensors that networks read, and back: [-1, 1], edges repeated to a whole number of patches, patches as channels.

A patch of p x p pixels becomes p * p * c channels ("pixel unshuffle"), so that every network here works on a map of about 16 x 16
whatever the image size: the work of a step hardly depends on the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mitate.codec import pixel_digest
from mitate.errors import DataError
from mitate.generator import Pixels
from mitate.runtime import seed_of


@dataclass(frozen=True)
class Packing:
    """How images of one shape are packed: patches of `patch` pixels, sides repeated up to a multiple of `patch * multiple`."""

    height: int
    width: int
    channels: int
    patch: int
    multiple: int  # the map's sides are multiples of this, so that the network can halve them

    @classmethod
    def of(cls, shape: tuple[int, int, int], *, side: int, multiple: int) -> Packing:
        """The packing of uint8 [height, width, channels] images whose map is about `side` x `side`."""
        height, width, channels = shape
        return cls(height, width, channels, max(1, round(max(height, width) / side)), multiple)

    @property
    def planes(self) -> int:
        """Channels of the map."""
        return self.channels * self.patch**2

    @property
    def rows(self) -> int:
        return _up(self.height, self.patch * self.multiple) // self.patch

    @property
    def columns(self) -> int:
        return _up(self.width, self.patch * self.multiple) // self.patch

    def pack(self, x: np.ndarray) -> Tensor:
        """uint8 [n, h, w, c] as float32 [n, planes, rows, columns] in [-1, 1], channels last in memory."""
        images = torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 127.5 - 1
        down, right = self.rows * self.patch - self.height, self.columns * self.patch - self.width
        if down or right:
            images = F.pad(images, (0, right, 0, down), mode="replicate")
        return F.pixel_unshuffle(images, self.patch).contiguous(memory_format=torch.channels_last)

    def unpack(self, maps: Tensor) -> np.ndarray:
        """float32 [n, planes, rows, columns] as uint8 [n, h, w, c]; values outside [-1, 1] are cut off."""
        images = F.pixel_shuffle(maps, self.patch)[:, :, : self.height, : self.width]
        return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def noise(seeds: np.ndarray, *shape: int) -> Tensor:
    """Standard normal draws [n, *shape], float32; row i comes from seed i alone."""
    out = torch.empty(len(seeds), *shape)
    for row, seed in zip(out, seeds, strict=True):
        row.copy_(torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))))
    return out


def content_seeds(image: np.ndarray, *, seed: int, draws: int) -> np.ndarray:
    """Seeds of the draws that a loss of this image is averaged over, int64 [draws]: by its pixels and `seed`, not by its place among others."""
    name = pixel_digest(image)
    return np.array([seed_of("loss", seed, name, k) for k in range(draws)], dtype=np.int64)


def balanced_rows(y: Tensor, n: int) -> Tensor:
    """`n` rows drawn with replacement from the global random state, every class equally often on average."""
    counts = torch.bincount(y)
    return torch.multinomial(1.0 / counts[y].double(), n, replacement=True)


def check(train: Pixels, selection: Pixels) -> tuple[int, int, int]:
    """The image shape, once it is sure that there is at least one training image of every class."""
    height, width, channels = train.x.shape[1:]
    missing = sorted(set(range(train.n_classes)) - set(train.y.tolist()))
    if missing:
        raise DataError(f"{len(missing)} of {train.n_classes} classes have no training image (class {missing[0]}).", fix="add images, or leave the class out")
    if len(selection.x) and selection.x.shape[1:] != train.x.shape[1:]:
        raise DataError(f"Selection images are {selection.x.shape[1:]}, training images {train.x.shape[1:]}.", fix="read both at one size")
    return height, width, channels


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
