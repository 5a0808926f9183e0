"""Kernel distance (KID): the unbiased squared MMD of Gretton et al. 2012, lemma 6, with k = (x.y / d + 1)^3 (Binkowski et al. 2018, section 4).

Exact: all pairs, in tiles, float64 throughout (the value is a small difference of large means, which float32 would lose). Unbiased at
every n, so it leads where images are few; it may be a little below 0 when the sets are alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mitate.metrics.intervals import Interval, quantile_t
from mitate.metrics.refusals import check_features
from mitate.score import Metric

LEAST = 10  # images on either side
BLOCK = 1024
SUBSETS = 100
SUBSET = 1000

KERNEL_DISTANCE = Metric(
    "kernel_distance",
    "fidelity",
    "lower",
    LEAST,
    "delete-one jackknife over both sets (Arvesen 1969) with Student's t; its variance is on average not too small (Efron and Stein 1981)",
    "Binkowski et al. 2018, section 4; Gretton et al. 2012, lemma 6",
)


@dataclass(frozen=True)
class Subsets:
    """The kernel distance as most papers print it: mean and standard deviation over subsets. The deviation is no standard error."""

    mean: float
    deviation: float
    values: np.ndarray  # float64 [subsets]


def kernel_distance(real: np.ndarray, fake: np.ndarray, *, confidence: float = 0.95, block: int = BLOCK) -> Interval:
    """Unbiased squared MMD over all pairs, with an interval. real [n, d], fake [m, d]: features of one extractor.

    The interval is the delete-one jackknife's: each image is left out once, in closed form from the sums of its row. It counts the
    second-order part of the U-statistic twice, so it is wide rather than narrow where the sets are alike and the first order vanishes.
    Raises ValueError below 10 images on a side or on features that are not finite.
    """
    check_features(LEAST, real=real, synthetic=fake)
    within_real, within_fake = _within(real, block), _within(fake, block)
    by_real, by_fake = _across(real, fake, block)
    n, m = len(real), len(fake)
    a, b, c = within_real.sum(), within_fake.sum(), by_real.sum()
    value = a / (n * (n - 1)) + b / (m * (m - 1)) - 2 * c / (n * m)
    less_real = (a - 2 * within_real) / ((n - 1) * (n - 2)) + b / (m * (m - 1)) - 2 * (c - by_real) / ((n - 1) * m)
    less_fake = a / (n * (n - 1)) + (b - 2 * within_fake) / ((m - 1) * (m - 2)) - 2 * (c - by_fake) / (n * (m - 1))
    se = math.sqrt((n - 1) * float(less_real.var()) + (m - 1) * float(less_fake.var()))
    df = min(n, m) - 1.0
    half = quantile_t(0.5 + confidence / 2, df) * se
    return Interval(float(value), float(value) - half, float(value) + half, m, se_images=se, df_images=df)


def kernel_distance_by_subsets(real: np.ndarray, fake: np.ndarray, *, seed: int, subsets: int = SUBSETS, size: int = SUBSET) -> Subsets:
    """Mean and deviation of the unbiased squared MMD over random subsets, as published; `kernel_distance` is the same without the noise.

    size: images of a subset, of each set, drawn without replacement; at most the smaller set. Raises ValueError below 10.
    """
    size = min(size, len(real), len(fake))
    check_features(LEAST, real=real, synthetic=fake)
    if size < LEAST:
        raise ValueError(f"needs {LEAST} images a subset, has {size}; fix: raise the size")
    rng = np.random.default_rng(seed)
    values = np.empty(subsets)
    for i in range(subsets):
        a, b = real[rng.permutation(len(real))[:size]], fake[rng.permutation(len(fake))[:size]]
        own = (_within(a, BLOCK).sum() + _within(b, BLOCK).sum()) / (size * (size - 1))
        values[i] = own - 2 * _across(a, b, BLOCK)[0].sum() / size**2
    return Subsets(float(values.mean()), float(values.std()), values)


def _within(points: np.ndarray, block: int) -> np.ndarray:
    """Sum of the kernel of each point with the others, float64 [n]; each pair is computed once."""
    sums = np.zeros(len(points))
    for i in range(0, len(points), block):
        left = points[i : i + block].astype(np.float64)
        own = _kernel(left, left)
        sums[i : i + block] += own.sum(axis=1) - np.diagonal(own)
        for j in range(i + block, len(points), block):
            tile = _kernel(left, points[j : j + block].astype(np.float64))
            sums[i : i + block] += tile.sum(axis=1)
            sums[j : j + block] += tile.sum(axis=0)
    return sums


def _across(a: np.ndarray, b: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel over the other set: float64 [n] and [m]."""
    by_a, by_b = np.zeros(len(a)), np.zeros(len(b))
    for i in range(0, len(a), block):
        left = a[i : i + block].astype(np.float64)
        for j in range(0, len(b), block):
            tile = _kernel(left, b[j : j + block].astype(np.float64))
            by_a[i : i + block] += tile.sum(axis=1)
            by_b[j : j + block] += tile.sum(axis=0)
    return by_a, by_b


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    tile = a @ b.T
    tile /= a.shape[1]
    tile += 1.0
    square = tile * tile  # a product: ** 3 is many times slower
    square *= tile
    return square
