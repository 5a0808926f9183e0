"""Vendi score: how many different images a set amounts to (Friedman and Dieng 2023).

The exponential of the entropy of the eigenvalues of K / n, K the cosine similarities of all pairs. With rows X of length 1 the
eigenvalues of X X^T / n and of X^T X / n are the same but for zeros, so the smaller of the two is taken: n x n or d x d.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from mitate.metrics.subsampling import SUBSAMPLED
from mitate.score import Metric

LEAST = 2
BLOCK = 1024

VENDI = Metric("vendi", "diversity", "higher", LEAST, SUBSAMPLED, "Friedman and Dieng 2023, with the cosine kernel")


def vendi(points: np.ndarray, *, block: int = BLOCK) -> float:
    """Effective number of different images, 1 (all alike) to the smaller of n and d. points [n, d]: features.

    It sees the set alone: noise scores high. It grows with n: compare at equal n. Features that share a large mean score low, since
    all cosines are then near 1. Raises ValueError below 2 images, on features that are not finite, and on a row of zeros.
    """
    n, d = points.shape
    if n < LEAST:
        raise ValueError(f"needs {LEAST} images, has {n}; fix: give more")
    if n <= d:
        rows = _unit(points, 0)
        gram = rows @ rows.T
    else:
        gram = np.zeros((d, d))
        for start in range(0, n, block):
            rows = _unit(points[start : start + block], start)
            gram += rows.T @ rows
    share = linalg.eigvalsh(gram / n, check_finite=False)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def vendi_by_class(points: np.ndarray, labels: np.ndarray, *, block: int = BLOCK) -> dict[int, float | None]:
    """Vendi score within each class; None for a class of fewer than 2 images. labels: int [n]."""
    return {int(c): vendi(points[labels == c], block=block) if (labels == c).sum() >= LEAST else None for c in np.unique(labels)}


def _unit(points: np.ndarray, at: int) -> np.ndarray:
    rows = points.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not np.isfinite(lengths).all():
        raise ValueError(f"features of image {at + int(np.argmin(np.isfinite(lengths)))} are not finite; fix: drop it")
    if not lengths.all():
        raise ValueError(f"features of image {at + int(np.argmin(lengths))} are all 0 and have no direction; fix: drop it")
    rows /= lengths[:, None]
    return rows
