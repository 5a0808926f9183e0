"""Utility against number of synthetic images: the curve error = a + b n^-c, and a band around it.

A power law with a floor is what learning curves mostly look like (Hestness et al. 2017, arXiv 1712.00409). b may be negative:
more synthetic images can hurt, and the error then rises towards a. For a given c the curve is linear in a and b, so least squares
is a search over c alone (variable projection, Golub and Pereyra 1973).

The band comes from resampling replicates and test images (whole groups where there are groups) and fitting anew each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

EXPONENTS = (0.1, 2.0)  # c: below, a and b cannot be told apart over a decade of n; above, the curve is a step
LEAST_POINTS = 4  # three parameters go through any three points, and nothing is left to check them
RESAMPLES = 2000
_GRID = 120  # exponents tried for each resample, evenly in log c: 2.5 % apart


@dataclass(frozen=True)
class Power:
    """error = a + b n^-c. `edge`: c lies at an end of its range, so the data ask for a shape that this curve does not have."""

    a: float
    b: float
    c: float
    edge: bool = False

    def at(self, n: np.ndarray) -> np.ndarray:
        """The error at n images, float64, n above 0."""
        return self.a + self.b * np.asarray(n, dtype=np.float64) ** -self.c


@dataclass(frozen=True)
class Band:
    """A fitted curve with a pointwise interval at the places `n`, and the ranges of a and c over the resamples."""

    power: Power
    n: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    a: tuple[float, float]
    c: tuple[float, float]


def fit_power(n: np.ndarray, error: np.ndarray, se: np.ndarray) -> Power:
    """The curve by weighted least squares, weights 1 / se^2. n: [v] images, above 0 and increasing; error, se: [v]; v at least 3."""
    n, error, se = (np.asarray(v, dtype=np.float64) for v in (n, error, se))
    if len(n) < 3 or (n <= 0).any() or (np.diff(n) <= 0).any() or not (se > 0).all():
        raise ValueError(f"{len(n)} points with volumes {n.tolist()} do not fix a curve")
    scale = float(np.exp(np.log(n).mean()))  # n in units of its middle, so that the two columns are of one size
    exponents = _exponents()
    misfits = np.array([_misfit(c, n / scale, error, se) for c in exponents])
    best = int(misfits.argmin())
    low, high = exponents[max(0, best - 1)], exponents[min(len(exponents) - 1, best + 1)]
    c = _golden(low, high, n / scale, error, se)
    c = next((float(end) for end in EXPONENTS if math.isclose(c, end, rel_tol=1e-6)), float(c))
    a, b = _linear(c, n / scale, se) @ (error / se)
    return Power(float(a), float(b * scale**c), c, edge=c in EXPONENTS)


def fit_band(
    tables: np.ndarray,
    n: np.ndarray,
    *,
    se: np.ndarray,
    at: np.ndarray,
    confidence: float,
    seed: int,
    groups: np.ndarray | None = None,
    overlap: float = 0.0,
) -> Band:
    """The curve through the mean errors of `tables`, with a band from a two-way bootstrap. Same arguments, same numbers.

    tables: float64 [volumes, replicates, images], each image's error in each replicate; n: [volumes], 4 or more, all above 0. se:
    [volumes], standard errors of the means: the weights of the fit, and the least spread a resample has. at: where the band is wanted.
    groups: int [images], images that vary together. overlap: of cross-fitting, as in `two_way`.

    Replicates and images are drawn anew, the same ones for every volume, for volumes share both. The spread of a draw of R rows is too
    small by (R - 1) / R, and few rows leave their own variance uncertain: it is stretched by that, and by the root of
    (R - 1) / chi^2(R - 1), which makes it Student's t. The same for images or their groups. What replicate and image share (the
    interaction) is in both parts, so the band is on the wide side.
    """
    volumes, replicates, images = tables.shape
    if volumes < LEAST_POINTS:
        raise ValueError(f"{volumes} volumes leave nothing to check three parameters with")
    if replicates < 2:
        raise ValueError("one replicate does not say how far replicates differ")
    mean = tables.mean(axis=(1, 2))
    power = fit_power(n, mean, se)
    drawn = mean + _deviations(tables, se, groups=groups, overlap=overlap, seed=seed)
    a, b, c, scale = _fit_many(np.asarray(n, dtype=np.float64), drawn, np.asarray(se, dtype=np.float64))
    curves = a[:, None] + b[:, None] * (np.asarray(at, dtype=np.float64) / scale) ** -c[:, None]
    ends = (0.5 - confidence / 2, 0.5 + confidence / 2)
    low, high = np.quantile(curves, ends, axis=0)
    a_low, a_high = np.quantile(a, ends)
    c_low, c_high = np.quantile(c, ends)
    return Band(power, np.asarray(at), power.at(at), low, high, (float(a_low), float(a_high)), (float(c_low), float(c_high)))


def _deviations(tables: np.ndarray, se: np.ndarray, *, groups: np.ndarray | None, overlap: float, seed: int) -> np.ndarray:
    """How far the mean errors of a resample lie from those measured, float64 [resamples, volumes]."""
    volumes, replicates, images = tables.shape
    rng = np.random.default_rng(seed)
    mean = tables.mean(axis=(1, 2))[:, None]
    rows = tables.mean(axis=2) - mean
    columns = tables.mean(axis=1) - mean
    members = np.arange(images) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(members.max()) + 1
    if count < 2:
        raise ValueError("one group of test images has no band")
    sums = np.stack([np.bincount(members, weights=column, minlength=count) for column in columns]) / images
    stretch = math.sqrt(replicates / (replicates - 1) * (1 + replicates * overlap))
    by_row = _resampled(rng, replicates) @ rows.T / replicates * stretch
    by_image = _resampled(rng, count) @ sums.T * math.sqrt(count / (count - 1))
    spread = (rows**2).sum(axis=1) / (replicates * (replicates - 1)) * (1 + replicates * overlap) + (sums**2).sum(axis=1) * count / (count - 1)
    missing = np.sqrt(np.maximum(0.0, np.asarray(se, dtype=np.float64) ** 2 - spread))  # where all answers agree, resampling sees no chance at all
    return by_row + by_image + rng.standard_normal((RESAMPLES, volumes)) * missing


def _resampled(rng: np.random.Generator, count: int) -> np.ndarray:
    """How often each of `count` units is drawn, float64 [resamples, count], stretched so that sums of them follow Student's t."""
    times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return times * np.sqrt((count - 1) / rng.chisquare(count - 1, size=(RESAMPLES, 1)))


# least squares --------------------------------------------------------------------------------------------------------


def _exponents() -> np.ndarray:
    return np.exp(np.linspace(math.log(EXPONENTS[0]), math.log(EXPONENTS[1]), _GRID))


def _design(c: float, n: np.ndarray, se: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones_like(n), n**-c]) / se[:, None]


def _linear(c: float, n: np.ndarray, se: np.ndarray) -> np.ndarray:
    """The matrix [2, v] that takes errors over their standard errors to a and b."""
    return np.linalg.pinv(_design(c, n, se))


def _misfit(c: float, n: np.ndarray, error: np.ndarray, se: np.ndarray) -> float:
    design = _design(c, n, se)
    rest = error / se - design @ (np.linalg.pinv(design) @ (error / se))
    return float(rest @ rest)


def _golden(low: float, high: float, n: np.ndarray, error: np.ndarray, se: np.ndarray) -> float:
    """The c of least misfit between two grid points, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = low, high
    for _ in range(60):
        left, right = b - ratio * (b - a), a + ratio * (b - a)
        if _misfit(left, n, error, se) <= _misfit(right, n, error, se):
            b = right
        else:
            a = left
    return (a + b) / 2


def _fit_many(n: np.ndarray, errors: np.ndarray, se: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """a, b, c of many sets of errors [resamples, v] at once, c from the grid; b and the last number belong to n / scale."""
    scale = float(np.exp(np.log(n).mean()))
    exponents = _exponents()
    weighted = errors / se
    designs = np.stack([_design(c, n / scale, se) for c in exponents])
    solvers = np.linalg.pinv(designs)
    bases = np.linalg.qr(designs)[0]  # [grid, v, 2], orthonormal: what a fit explains is the square of the part that lies in it
    explained = ((weighted @ bases.transpose(1, 0, 2).reshape(len(n), -1)).reshape(-1, len(exponents), 2) ** 2).sum(axis=2)
    best = explained.argmax(axis=1)
    solved = np.einsum("rpv,rv->rp", solvers[best], weighted)
    return solved[:, 0], solved[:, 1], exponents[best], scale
