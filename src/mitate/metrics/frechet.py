"""Frechet distance between two sets of features, as between two Gaussians with their means and covariances (Heusel et al. 2017, eq. 6).

    FD = |mu_a - mu_b|^2 + tr A + tr B - 2 tr (A B)^1/2

The trace of the root is a sum of square roots of eigenvalues of a symmetric matrix: with A = L L^T, those of L^T B L. Where a set has no
more images than columns, its centred rows stand for L (A = X^T X / (n - 1)), and the sum is that of the singular values of X Y^T: no
d x d matrix is made, and a covariance without full rank costs no digits. All in float64.

FD grows as n falls. Two values are compared at equal n only; `frechet_infinity` estimates what endless synthetic images would score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.linalg import blas

from mitate.metrics.intervals import Interval, quantile_t
from mitate.metrics.refusals import check_features
from mitate.metrics.subsampling import SUBSAMPLED
from mitate.score import Metric

LEAST = 10  # images on either side
LEAST_INFINITY = 100  # synthetic images: the least of the sizes is a tenth of them
SIZES = 15
LARGEST_FIRST = 5000  # the first size is a tenth of the images, at most this
LARGEST_DRAWN = 200_000  # and the last is all of them, at most this: beyond, 1 / n has nothing more to tell
BLOCK = 1024

FRECHET = Metric("frechet", "fidelity", "lower", LEAST, SUBSAMPLED, "Heusel et al. 2017, eq. 6")
FRECHET_INFINITY = Metric(
    "frechet_infinity",
    "fidelity",
    "lower",
    LEAST_INFINITY,
    "none: the subsets share images; repeat with fresh images",
    "Chong and Forsyth 2020; sizes of Stein et al. 2023",
)


@dataclass(frozen=True)
class FrechetInfinity:
    """The intercept of Frechet distances against 1 / n, and what it rests on."""

    value: float  # may fall a little below 0 when the sets are alike
    slope: float
    sizes: tuple[int, ...]
    distances: np.ndarray  # float64 [sizes]
    line: Interval  # how well the line fits; too narrow for an interval of the value, since the subsets share images


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """Frechet distance, 0 or more. real [n, d], fake [m, d]: features of one extractor.

    Raises ValueError below 10 images on a side or on features that are not finite. Biased upward at small n: compare at equal n.
    """
    check_features(LEAST, real=real, synthetic=fake)
    return _between(_side(real), _side(fake), spent=True)


def frechet_gaussians(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """Frechet distance of two Gaussians, 0 or more. Means [d]; covariances [d, d], symmetric, of any rank."""
    sides = [
        _Side(np.asarray(m, np.float64), float(np.trace(c)), None, np.asarray(c, np.float64)) for m, c in ((mean, covariance), (other_mean, other_covariance))
    ]
    return _between(*sides)


def frechet_infinity(real: np.ndarray, fake: np.ndarray, *, seed: int) -> FrechetInfinity:
    """Frechet distance as the number of synthetic images grows without end, by a line through distances against 1 / n.

    15 sizes in equal steps from a tenth of the synthetic images (at most 5,000) to all of them (at most 200,000), each drawn afresh by `seed` without
    replacement; the real set stays whole, so its own bias stays. Raises ValueError below 100 synthetic images.
    """
    check_features(LEAST, real=real, synthetic=fake)
    if len(fake) < LEAST_INFINITY:
        raise ValueError(f"needs {LEAST_INFINITY} synthetic images, has {len(fake)}; fix: give more")
    rng = np.random.default_rng(seed)
    sizes = np.linspace(min(LARGEST_FIRST, len(fake) // 10), min(len(fake), LARGEST_DRAWN), SIZES).astype(int)
    side = _side(real)
    distances = np.array([_between(side, _side(fake[rng.permutation(len(fake))[:size]])) for size in sizes])
    x = 1.0 / sizes
    slope = float(((x - x.mean()) * (distances - distances.mean())).sum() / ((x - x.mean()) ** 2).sum())
    value = float(distances.mean() - slope * x.mean())
    rest = distances - value - slope * x
    se = math.sqrt(float((rest**2).sum()) / (SIZES - 2) * (1 / SIZES + x.mean() ** 2 / float(((x - x.mean()) ** 2).sum())))
    half = quantile_t(0.975, SIZES - 2) * se
    return FrechetInfinity(value, slope, tuple(int(s) for s in sizes), distances, Interval(value, value - half, value + half, len(fake), se_images=se))


@dataclass(frozen=True)
class _Side:
    """A Gaussian, its covariance either X^T X by its rows [n, d] or whole [d, d]."""

    mean: np.ndarray
    trace: float
    rows: np.ndarray | None
    covariance: np.ndarray | None


def _side(points: np.ndarray) -> _Side:
    n, d = points.shape
    mean = points.mean(axis=0, dtype=np.float64)
    if n <= d:
        rows = (points - mean) / math.sqrt(n - 1)
        return _Side(mean, float(np.einsum("ij,ij->", rows, rows)), rows, None)
    covariance = np.zeros((d, d))
    for start in range(0, n, BLOCK):
        some = points[start : start + BLOCK] - mean
        covariance += some.T @ some
    covariance /= n - 1
    return _Side(mean, float(np.trace(covariance)), None, covariance)


def _between(a: _Side, b: _Side, *, spent: bool = False) -> float:
    """spent: b is not needed afterwards, so its matrix may be written over."""
    apart = a.mean - b.mean
    return max(0.0, float(apart @ apart) + a.trace + b.trace - 2.0 * _trace_of_root(a, b, spent=spent))


def _trace_of_root(a: _Side, b: _Side, *, spent: bool) -> float:
    """Sum of the square roots of the eigenvalues of A B."""
    if a.rows is not None or b.rows is not None:
        rows, other = (a.rows, b) if a.rows is not None else (b.rows, a)
        return float(linalg.svdvals(rows @ (other.rows.T if other.rows is not None else _factor(other.covariance))).sum())
    assert a.covariance is not None and b.covariance is not None
    try:
        factor = linalg.cholesky(a.covariance, lower=True)
    except linalg.LinAlgError:
        factor = _factor(a.covariance)
        inner = factor.T @ b.covariance @ factor
    else:  # products with a triangle, in place; b's transpose is b in the order that they have
        inner = blas.dtrmm(1.0, factor, b.covariance.T, lower=1, trans_a=1, overwrite_b=spent)
        inner = blas.dtrmm(1.0, factor, inner, side=1, lower=1, overwrite_b=1)
    eigenvalues = linalg.eigvalsh(inner, overwrite_a=True)
    return float(np.sqrt(np.maximum(eigenvalues, 0.0)).sum())


def _factor(covariance: np.ndarray | None) -> np.ndarray:
    """F with F F^T = covariance, [d, d]: by Cholesky, or by eigenvalues where it has not full rank."""
    assert covariance is not None
    try:
        return linalg.cholesky(covariance, lower=True)
    except linalg.LinAlgError:
        eigenvalues, vectors = linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
