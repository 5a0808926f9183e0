"""Structural similarity: how much two pictures share brightness, contrast and structure, window by window (Wang et al. 2004, IEEE TIP 13:4)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

SIGMA, REACH = 1.5, 5  # pixels: a Gaussian window of 11 x 11
K1, K2, LEVELS = 0.01, 0.03, 255.0


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean structural similarity of each pair, float64 [n], from -1 to 1 for equal pictures.

    a, b: uint8 [n, h, w, c], or one of them [1, h, w, c]; h, w of 11 or more. Mean over channels and over all windows that lie inside the picture.
    """
    if a.shape[1:] != b.shape[1:] or min(a.shape[1:3]) < 2 * REACH + 1:
        raise ValueError(f"pictures of {a.shape[1:]} and {b.shape[1:]} have no window of {2 * REACH + 1} pixels in common")
    x, y = a.astype(np.float64), b.astype(np.float64)
    mx, my = _blurred(x), _blurred(y)
    vx, vy, both = _blurred(x * x) - mx**2, _blurred(y * y) - my**2, _blurred(x * y) - mx * my
    c1, c2 = (K1 * LEVELS) ** 2, (K2 * LEVELS) ** 2
    found = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return found.mean(axis=(1, 2, 3))


def nearest_ssim(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each picture, its similarity to the most similar of the others, float64 [n]. x: uint8 [n, h, w, c]; others: [m, h, w, c], m of 1 or more."""
    return np.max([ssim(x, other[None]) for other in others], axis=0)


def _blurred(x: np.ndarray) -> np.ndarray:
    """Weighted means of all windows that lie inside, [n, h - 10, w - 10, c]."""
    inner = slice(REACH, -REACH)
    return gaussian_filter(x, (0, SIGMA, SIGMA, 0), truncate=REACH / SIGMA)[:, inner, inner]
