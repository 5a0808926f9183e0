"""Kernel distance (KID): the unbiased squared MMD of Gretton et al. 2012, lemma 6, with k = (x.y / d + 1)^3 (Binkowski et al. 2018, section 4).

Exact: all pairs count, in float64 throughout (the value is a small difference of large means, which float32 would lose). Unbiased at
every n, so it leads where images are few; it may be a little below 0 when the sets are alike. Pairs are computed in tiles, or, where images
are so many that it is sooner done, summed without being computed (metrics/moments.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mitate.metrics import moments
from mitate.metrics.intervals import Interval, quantile_t
from mitate.metrics.refusals import check_features
from mitate.progress import Progress
from mitate.score import Metric

LEAST = 10  # images on either side
BLOCK = 1024
SUBSETS = 100
SUBSET = 1000
LEFT_OUT = 10_000  # images of a set that stand for all in the jackknife, where pairs are not computed

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
    second-order part of the U-statistic twice, so it is wide rather than narrow where the sets are alike and the first order vanishes. Of large
    sets `LEFT_OUT` images stand for all in it, drawn by a fixed seed: its width is then known to about 1 %; the value has all.
    Raises ValueError below 10 images on a side or on features that are not finite.
    """
    return kernel_distances(real, (fake,), confidence=confidence, block=block)[0]


def kernel_distances(
    real: np.ndarray, others: Sequence[np.ndarray], *, confidence: float = 0.95, block: int = BLOCK, progress: Progress | None = None
) -> list[Interval]:
    """`kernel_distance` of each of the others, the real images gone over once."""
    for other in others:
        check_features(LEAST, real=real, synthetic=other)
    lengths = [len(real), *(len(other) for other in others)]
    sums = _by_moments((real, *others), progress) if moments.pays(lengths, LEFT_OUT, real.shape[1]) else _by_pairs(real, others, block)
    return [_interval(sums, k, lengths[0], lengths[k], confidence) for k in range(1, len(lengths))]


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


@dataclass(frozen=True)
class _Sums:
    """Of the kernel. Set 0 is the real one; rows are of all images, or of those that stand for them."""

    within: Sequence[float]  # [sets], over pairs of different images
    between: Sequence[float]  # [sets], over pairs with the real set; nothing at 0
    rows_within: Sequence[np.ndarray]  # [sets] of float64, of an image with the others of its set
    rows_of_real: Sequence[np.ndarray]  # [sets] of float64, of a real image with another set
    rows_to_real: Sequence[np.ndarray]  # [sets] of float64, of an image of another set with the real one


def _interval(sums: _Sums, k: int, n: int, m: int, confidence: float) -> Interval:
    """The distance of set k, of m images, to the real one, of n."""
    a, b, c = sums.within[0], sums.within[k], sums.between[k]
    value = a / (n * (n - 1)) + b / (m * (m - 1)) - 2 * c / (n * m)
    less_real = (a - 2 * sums.rows_within[0]) / ((n - 1) * (n - 2)) + b / (m * (m - 1)) - 2 * (c - sums.rows_of_real[k]) / ((n - 1) * m)
    less_fake = a / (n * (n - 1)) + (b - 2 * sums.rows_within[k]) / ((m - 1) * (m - 2)) - 2 * (c - sums.rows_to_real[k]) / (n * (m - 1))
    se = math.sqrt((n - 1) * float(less_real.var()) + (m - 1) * float(less_fake.var()))
    df = min(len(less_real), len(less_fake)) - 1.0
    half = quantile_t(0.5 + confidence / 2, df) * se
    return Interval(float(value), float(value) - half, float(value) + half, m, se_images=se, df_images=df)


def _by_pairs(real: np.ndarray, others: Sequence[np.ndarray], block: int) -> _Sums:
    within = [_within(points, block) for points in (real, *others)]
    across = [(np.zeros(0), np.zeros(0)), *(_across(real, other, block) for other in others)]
    return _Sums(
        [float(rows.sum()) for rows in within], [float(rows.sum()) for rows, _ in across], within, [rows for rows, _ in across], [rows for _, rows in across]
    )


def _by_moments(sets: Sequence[np.ndarray], progress: Progress | None) -> _Sums:
    rng = np.random.default_rng(0)
    asked = [np.sort(rng.permutation(len(points))[:LEFT_OUT]) for points in sets]
    found = moments.cubic_sums(sets, asked, progress=progress)
    which = range(len(sets))
    return _Sums(
        [float(found.total[s, s] - found.alone[s]) for s in which],
        [0.0, *(float(found.total[0, s]) for s in which[1:])],
        [found.rows[s][s] - found.own[s] for s in which],
        [found.rows[0][s] for s in which],
        [found.rows[s][0] for s in which],
    )


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
