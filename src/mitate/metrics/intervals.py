"""Intervals: which uncertainty a number has, and how it is estimated.

A gain between two arms varies for two reasons: another replicate (subset, generator, initialisation, order) would give another
one, and so would other test images. Both are estimated from the table of paired differences, replicates x images, and added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

BORROWED = 0.4  # degrees of freedom that a typical other arm's spread counts for


@dataclass(frozen=True)
class Interval:
    """A value with a two-sided interval; `se_replicates` and `se_images` say where its width comes from, each with its degrees of freedom."""

    value: float
    low: float
    high: float
    n: int  # test images that count
    se_replicates: float = 0.0
    se_images: float = 0.0
    df_replicates: float = math.inf
    df_images: float = math.inf

    @property
    def se(self) -> float:
        return math.hypot(self.se_replicates, self.se_images)

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def reach(self, tail: float) -> float:
        """How far an end lies from the value that leaves `tail` (0 to 1) outside."""
        return float(reach(tail, (self.se_replicates**2, self.df_replicates), (self.se_images**2, self.df_images)))


def reach(tail: float, *parts: tuple[Any, float]) -> Any:
    """How far an end lies from the value that leaves `tail` (0 to 1) outside. parts: (variance, a number or an array; its degrees of freedom).

    Each part is widened by its own Student's t, and the parts are added in squares (docs/statistics.md says why not one t for the sum).
    """
    return np.sqrt(sum(quantile_t(1 - tail, df) ** 2 * variance for variance, df in parts))


def quantile_t(share: float, df: float) -> float:
    """Quantile of Student's t; scipy.special rather than scipy.stats, which takes a second to import."""
    return float(special.stdtrit(df, share))


def two_way(
    table: np.ndarray,
    *,
    confidence: float,
    groups: np.ndarray | None = None,
    df_images: float | None = None,
    se_replicates: tuple[float, float] | None = None,
    typical: float | None = None,
    overlap: float = 0.0,
    least: float | None = None,
    low_share: float = 0.5,
) -> Interval:
    """Interval for the mean of `table`, over replicates and over test images.

    table: float64 [replicates, images], each image's (paired) contribution in each replicate. groups: int [images], images that
    came from one patient or plant and vary together. The between-replicate part is the variance of the row means over R; the image
    part that of the column means over n. Both hold the interaction (this replicate on this image) once, so its estimate is taken off
    once, but the sum never falls below the larger part. Each part is widened by Student's t of its own degrees of freedom before the two
    are added in squares; one t with Satterthwaite's degrees of freedom covers too little (docs/statistics.md has both). The image part is
    at least that of one image changing its mind: identical answers on few images do not prove a difference of zero.

    low_share: the low end's share of the error 1 - confidence; below 0.5 the low end is the more careful one.

    least: how far one image that changes its mind moves the mean (`Measure.one_image`); 1 / n, that of a plain share, where not given.

    se_replicates: (standard error of one row, its degrees of freedom) pooled over arms, where a single table has too few rows.
    typical: variance of a row mean in a typical other arm, from which this table's own rows borrow (`borrowed`); its own alone where not given.
    overlap: test images over training images of cross-fitting's folds: replicates that train on each other's test images are not
    independent; the between-replicate variance is then s^2 (1 / R + overlap). A heuristic after Nadeau and Bengio 2003, eq. 3: their
    variance is that of single splits, ours of whole repetitions.
    """
    replicates, n = table.shape
    if replicates < 1 or n < 2:
        raise ValueError(f"a table of {replicates} x {n} has no interval")
    if se_replicates is None and replicates < 2:
        raise ValueError("one replicate has no between-replicate variance; give a pooled one")
    members, count = _members(groups, n)
    rows, images, both = _variances(table, members, count)
    own = rows if typical is None else borrowed(rows, typical, replicates)
    row_variance, row_df = (own, replicates - 1.0) if se_replicates is None else (se_replicates[0] ** 2, se_replicates[1])
    v_rows, v_rest = _parts(row_variance * (1 / replicates + overlap), images, both, 1 / n if least is None else least)
    value = float(table.mean())
    found = Interval(value, value, value, n, math.sqrt(v_rows), math.sqrt(v_rest), row_df, _least_df(count, df_images))
    return ends(found, confidence=confidence, low_share=low_share)


def one_way(values: np.ndarray, *, confidence: float = 0.95, groups: np.ndarray | None = None, within: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Interval for the mean of `values`, float64 [images], of one training: Student's t over images, or over groups [images] where they vary together.

    Its standard error is at least that of one image or group changing its mind. within: what the mean can be.
    """
    count = len(values) if groups is None else len(np.unique(groups))
    found = two_way(values[None], confidence=confidence, groups=groups, se_replicates=(0.0, math.inf), least=1 / count)
    return replace(found, low=max(within[0], found.low), high=min(within[1], found.high))


def along(
    first: np.ndarray,
    second: np.ndarray,
    shares: np.ndarray,
    *,
    confidence: float,
    groups: np.ndarray | None = None,
    df_images: float | None = None,
    overlap: float = 0.0,
    least: float | None = None,
    low_share: float = 0.5,
) -> np.ndarray:
    """What `two_way` gives for the tables first + share * second: value, low and high, float64 [3, shares].

    Every variance is a quadratic of the share, so three tables tell it for all shares.
    """
    replicates, n = first.shape
    if replicates < 2 or n < 2:
        raise ValueError(f"a table of {replicates} x {n} has no interval")
    members, count = _members(groups, n)
    left, here, right = (np.asarray(_variances(first + s * second, members, count)) for s in (-1.0, 0.0, 1.0))
    rows, images, both = np.maximum(((left + right) / 2 - here)[:, None] * shares**2 + ((right - left) / 2)[:, None] * shares + here[:, None], 0.0)
    values = first.mean() + shares * second.mean()
    v_rows, v_rest = _parts(rows * (1 / replicates + overlap), images, both, 1 / n if least is None else least)
    parts = (v_rows, replicates - 1.0), (v_rest, _least_df(count, df_images))
    error = 1 - confidence
    return np.stack([values, values - reach(error * low_share, *parts), values + reach(error * (1 - low_share), *parts)])


def _members(groups: np.ndarray | None, n: int) -> tuple[np.ndarray, int]:
    if groups is None:
        return np.arange(n), n
    members = np.unique(groups, return_inverse=True)[1]
    if (count := int(members.max()) + 1) < 2:
        raise ValueError("one group of test images has no interval")
    return members, count


def _least_df(count: int, df_images: float | None) -> float:
    return min(count - 1.0, df_images) if df_images is not None else count - 1.0


def _variances(table: np.ndarray, members: np.ndarray, count: int) -> tuple[float, float, float]:
    """Variance of a row mean; of the mean of the columns (groups count as one image); and of the interaction's part of the mean."""
    replicates, n = table.shape
    value, columns, rows = table.mean(), table.mean(axis=0), table.mean(axis=1)
    scale = count / (count - 1) / n**2
    images = float((np.bincount(members, weights=columns - value) ** 2).sum()) * scale
    if replicates < 2:
        return 0.0, images, 0.0
    if count == n:  # the sum of squares of table - rows - columns + value, without making that table
        squares = float(np.vdot(table, table) - n * (rows @ rows) - replicates * (columns @ columns) + replicates * n * value**2)
    else:
        rest = table - rows[:, None] - columns + value
        squares = sum(float((np.bincount(members, weights=row) ** 2).sum()) for row in rest)
    return float(rows.var(ddof=1)), images, max(0.0, squares) / (replicates - 1) * scale / replicates


def _parts(v_rows: Any, v_images: Any, both: Any, least: float) -> tuple[Any, Any]:
    """The variance of the mean, as the rows' part and the rest: the sum less the interaction, at least the larger of the two."""
    v_images = np.maximum(v_images, least**2)
    return v_rows, np.maximum(np.maximum(v_rows + v_images - both, v_rows), v_images) - v_rows


def borrowed(own: float, typical: float, replicates: int) -> float:
    """The variance of a row mean, kept from being small by luck: the arm's own, or its blend with that of a typical other arm where that is larger.

    Three replicates that had the same luck agree by chance, and their own variance then says next to nothing. The other arm's counts as 0.4 of a
    degree of freedom beside the replicates - 1 of the arm's own (the moderated variance of Smyth 2004, with a fixed small prior weight).
    """
    return max(own, ((replicates - 1) * own + BORROWED * typical) / (replicates - 1 + BORROWED))


def ends(interval: Interval, *, confidence: float, low_share: float = 0.5) -> Interval:
    """The same value and spread with the ends of another confidence."""
    error = 1 - confidence
    return replace(interval, low=interval.value - interval.reach(error * low_share), high=interval.value + interval.reach(error * (1 - low_share)))


def pooled_row_se(tables: list[np.ndarray]) -> tuple[float, float]:
    """Standard deviation of a row mean and its degrees of freedom, pooled over the tables of several arms.

    The arms share replicates and a baseline, so their rows are not independent; the degrees of freedom are counted as if a third of
    the arms were (an untested rule of ours; used only where images are chosen or dropped, never in the verdict).
    """
    spread = [float(t.mean(axis=1).var(ddof=1)) for t in tables if t.shape[0] > 1]
    if not spread:
        raise ValueError("no table has two rows")
    df = max(1.0, sum(t.shape[0] - 1 for t in tables if t.shape[0] > 1) / 3)
    return math.sqrt(sum(spread) / len(spread)), df


def wilson(hits: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share (Wilson 1927). An effective number of trials need not be whole."""
    if n < 1:
        raise ValueError("no trials")
    z = float(special.ndtri(0.5 + confidence / 2))
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return Interval(share, low, high, math.floor(n))


def share_of(hits: np.ndarray, *, groups: np.ndarray | None = None, confidence: float = 0.95) -> Interval:
    """The share of `hits`, bool [n], with Wilson's interval over images, or Student's t over groups, int [n]."""
    if groups is None:
        return wilson(int(hits.sum()), len(hits), confidence=confidence)
    return one_way(hits.astype(np.float64), confidence=confidence, groups=groups, within=(0.0, 1.0))


def clopper_pearson(hits: float, n: float, *, confidence: float = 0.95) -> Interval:
    """The exact interval for a share (Clopper and Pearson 1934): it holds the truth at least as often as it says.

    With an effective number of trials, which need not be whole, it is the interval of Korn and Graubard 1998 for shares over clusters.
    """
    if not (n >= 1 and 0 <= hits <= n):
        raise ValueError(f"{hits} hits in {n} trials")
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(special.betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(special.betaincinv(hits + 1, n - hits, 1 - tail))
    return Interval(hits / n, low, high, math.floor(n))


def newcombe(hits: int, n: int, hits_other: int, n_other: int, *, confidence: float = 0.95) -> Interval:
    """Interval for the difference of two independent shares, first minus second (Newcombe 1998, method 10)."""
    a, b = wilson(hits, n, confidence=confidence), wilson(hits_other, n_other, confidence=confidence)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value, low, high, n)


def p_value(interval: Interval) -> float:
    """Two-sided p of "no difference": the error at which the equal-tailed interval ends at zero, by bisection."""
    if not interval.se:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if interval.reach(p / 2) > abs(interval.value) else (low, p)
    return (low + high) / 2


def holm(p: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted
