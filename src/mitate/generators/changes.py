"""Differentiable changes of images for the critic of a GAN: few images show it more, and the maker's gradients pass through.

Colour, translation and cutout of Zhao et al. 2020 ("Differentiable augmentation for data-efficient GAN training"). Real and drawn images are changed by the
same law, so the critic never learns what an unchanged image looks like beside a changed one, and nothing pushes changes into what is drawn. Each
kind of change is left out for some images, so that an image and its changed self stay apart (Karras et al. 2020, section 2.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

CHANCES = 12  # numbers from 0 to 1 that an image's changes are made of
BRIGHTER = 1.0  # width of the range that is added, where black is -1 and white 1
FURTHER = 1 / 8  # of a side, at most
HOLE = 1 / 2  # of a side


def changed(images: Tensor, chance: Tensor, *, share: float) -> Tensor:
    """`images` with every kind of change made to a `share` of them. images: [n, channels, height, width] in [-1, 1]; chance: [n, CHANCES] in [0, 1).

    Image i depends on row i of `chance` alone. What a translation brings in is mid-grey, as is a hole.
    """
    if share == 0:
        return images
    rows, columns = images.shape[2:]
    said = (chance[:, [0, 2, 4, 6, 9]] < share).to(images.dtype)
    bright, vivid, sharp = (chance[:, i, None, None, None].to(images.dtype) for i in (1, 3, 5))
    moved, cut = said[:, 3], said[:, 4]
    lit, tinted, contrasted = (said[:, i, None, None, None] for i in range(3))
    images = images + lit * BRIGHTER * (bright - 0.5)
    if images.shape[1] > 1:
        grey = images.mean(dim=1, keepdim=True)
        images = grey + (images - grey) * (1 + tinted * (2 * vivid - 1))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + contrasted * (sharp - 0.5))
    down = _shift(moved, chance[:, 7], rows)
    right = _shift(moved, chance[:, 8], columns)
    images = down @ images @ right.mT
    hole = _inside(chance[:, 10], rows)[:, None, :, None] & _inside(chance[:, 11], columns)[:, None, None, :]
    return images * (1 - cut[:, None, None, None] * hole)


def _shift(moved: Tensor, chance: Tensor, side: int) -> Tensor:
    """Matrices [n, 1, side, side] that move a column by whole pixels: a product is differentiable, and the same in every run."""
    most = int(side * FURTHER + 0.5)
    by = (moved * ((chance * (2 * most + 1)).floor() - most)).long()
    place = torch.arange(side)
    return (place[None, None, :] == (place[None, :, None] - by[:, None, None])).to(moved.dtype)[:, None]


def _inside(chance: Tensor, side: int) -> Tensor:
    """Where a hole is along one side, bool [n, side]; its middle may be anywhere, so it may reach over the edge."""
    size = int(side * HOLE + 0.5)
    start = (chance * (side + 1 - size % 2)).floor().long()[:, None] - size // 2
    place = torch.arange(side)
    return (place >= start) & (place < start + size)
