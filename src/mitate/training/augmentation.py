"""Strong classical augmentation as torch operations: the baseline that synthetic images have to beat.

One random affine map an image (shift, rotation, scale, shear, a flip where flips are safe), then brightness, contrast, colour and a
random erased square. The strengths are those of RandAugment-like recipes at middle magnitude; none is tuned per arm.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 0.12  # of the image's side
ROTATION = 15.0  # degrees
SCALE = 0.15
SHEAR = 0.10
LIGHT = 0.25  # brightness and contrast
COLOUR = 0.10  # gain of each channel
ERASE = 0.5  # share of images that lose a square
ERASE_SIDE = (0.1, 0.35)  # of the image's side


def augment(x: Tensor, *, flip: bool) -> Tensor:
    """A randomly changed copy of x: float [n, c, h, w] in 0 to 1. Draws from torch's global random state."""
    n, c, h, w = x.shape
    signed = lambda *shape: torch.rand(*shape) * 2 - 1  # noqa: E731
    angle = signed(n) * math.radians(ROTATION)
    scale = 1 + signed(n, 2) * SCALE
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = cos * scale[:, 0] * mirror
    theta[:, 0, 1] = -sin * scale[:, 1] + signed(n) * SHEAR
    theta[:, 1, 0] = sin * scale[:, 0] * mirror
    theta[:, 1, 1] = cos * scale[:, 1]
    theta[:, :, 2] = signed(n, 2) * 2 * SHIFT  # the grid runs from -1 to 1
    grid = F.affine_grid(theta, [n, c, h, w], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * (1 + signed(n, 1, 1, 1) * LIGHT) + mean + signed(n, 1, 1, 1) * LIGHT * 0.5
    if c > 1:
        x = x * (1 + signed(n, c, 1, 1) * COLOUR)
    return _erase(x.clamp(0, 1))


def _erase(x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    low, high = ERASE_SIDE
    half = (low + torch.rand(n, 2) * (high - low)) / 2
    centre = torch.rand(n, 2)
    rows = ((torch.arange(h) + 0.5) / h - centre[:, :1]).abs() < half[:, :1]
    columns = ((torch.arange(w) + 0.5) / w - centre[:, 1:]).abs() < half[:, 1:]
    hole = rows[:, :, None] & columns[:, None, :] & (torch.rand(n) < ERASE)[:, None, None]
    return torch.where(hole[:, None], x.mean(dim=(2, 3), keepdim=True), x)


def flips_are_safe(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether mirrored images still look like their class: decided once, on training images only.

    x: uint8 [n, h, w, c], y: int64 [n]. Each mirrored image asks its nearest other training image for its class; where that is
    right clearly less often than for the image as it is (two standard errors of the paired difference), left and right carry
    meaning (digits, letters, text) and no arm is allowed to flip.
    """
    rows = np.random.default_rng(0).permutation(len(x))[:1000]
    x, y = x[rows].astype(np.float32), y[rows]
    n = len(x)
    flat = x.reshape(n, -1)
    mirrored = np.ascontiguousarray(x[:, :, ::-1]).reshape(n, -1)
    norms = (flat**2).sum(1)

    def right(queries: np.ndarray) -> np.ndarray:
        distance = norms[None] - 2 * queries @ flat.T
        np.fill_diagonal(distance, np.inf)
        return (y[distance.argmin(1)] == y).astype(float)

    loss = right(flat) - right(mirrored)
    return bool(loss.mean() <= 2 * loss.std() / math.sqrt(n))
