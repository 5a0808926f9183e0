"""Intervals for numbers of two whole sets, by drawing parts of them without replacement; and the floor at equal n.

Precision, recall, coverage, Frechet distance and their like are no means over images: radii and covariances tie the images together, and a
draw with replacement makes copies, which they read as structure. A draw of b of n images without replacement makes none, and the spread of
the number over such draws, times b / (n - b), estimates its variance at n (the delete-d jackknife: Shao and Wu 1989; Politis, Romano and
Wolf 1999). Both sides are drawn in the same proportion, so that one factor serves both.

The interval is for what the number is *on average at this n*, not for what it would be with endless images: bias that depends on n
(Frechet falls, Vendi rises with n) is in the value and in its interval alike. So the floor must be measured at the same n.

How often they hold the truth is measured (benchmarks/set_interval_coverage.py: Gaussian sets of 16 and 64 columns and MobileNetV2 features of
clothing, alike and apart; 75 to 150 worlds at 100 images a side, 200 at 30, 60 at 300). Draws of 80 % hold it in 0.93 to 1.00 of the worlds for every
metric tried, at 30 images in 0.915 to 1.00, at 300 in 0.917 to 1.00; halves, where they are used, in 0.92 to 1.00; the difference to the floor in
0.93 to 1.00. They are wide rather than narrow: at 100 images up to 2.7 times an interval that knows the deviation, widest where the two sets are
alike, since there the first order vanishes and the second is counted about twice (Frechet, Vendi), and for what hangs on single neighbours (coverage,
intra-cluster distance). With replacement the bootstrap's quantiles held precision and recall in 0.60 to 0.98 of worlds, authenticity in 0.10 to 0.98,
coverage in 0.03 to 0.93, Frechet in 0 to 0.40, Vendi in 0 to 0.68 and intra-cluster distance in none; an interval over one side alone held density in
0.55 to 0.86 and authenticity in 0.61 to 0.93 (all at 100 images).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mitate.metrics.intervals import Interval, quantile_t

SUBSAMPLED = "parts drawn without replacement (Politis, Romano and Wolf 1999), for the average at this n"
Statistic = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
DRAWS = 50
MOST = 2000  # images of a side in a draw
LEAST = 20  # images on a side
LEAST_GROUPS = 5
PARTS = 4  # where more images are held than are needed, at most so many parts of them are averaged
SHARES = frozenset({"precision", "recall", "coverage", "authenticity", "neighbour_accuracy"})  # lie in 0 to 1: Wilson's form keeps their intervals there
SHARE = 0.8  # of the images or groups in a draw: holds for every metric tried
HALF = 0.5  # a fifth narrower and less work, for `BY_HALVES` from 100 images a side on; too narrow for density, for precision among clumps, for small Vendi
BY_HALVES = frozenset({"recall", "coverage", "distance_ratio", "intra_cluster", "neighbour_accuracy"})


def subsampled(
    statistic: Statistic,
    real: np.ndarray,
    fake: np.ndarray,
    *,
    seed: int,
    share: float = SHARE,
    draws: int = DRAWS,
    most: int = MOST,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Each number that `statistic` tells of the two sets, with an interval for its average over such sets.

    statistic: takes the drawn part of either set and tells numbers by name; all of them share each draw, and so one pass over the distances.
    real [n, ...], fake [m, ...]: indexed by their first axis alone, so features or, for a statistic that looks them up, row numbers.
    share: of the images in a draw, `SHARE`, or `HALF` where all names are in `BY_HALVES`; with more than `most` images in a draw less. groups
    [n]: real images that came from one patient or plant; whole groups are drawn, and the synthetic images in the groups' proportion.

    The value is that of the whole sets; the interval is Student's around it, for the names in `SHARES` in Wilson's form. Degrees of
    freedom count both the draws and the images. The same seed gives the same draws. A number that is nan in some draw has no interval: both
    ends are nan. Raises ValueError below 20 images or 5 groups.
    """
    sides = _Side.of("real", len(real), groups), _Side.of("synthetic", len(fake), None)
    return _intervals(lambda rows: statistic(real[rows[0]], fake[rows[1]]), sides, seed, share, draws, most, confidence)


def subsampled_alone(
    statistic: Callable[[np.ndarray], Mapping[str, float]],
    points: np.ndarray,
    *,
    seed: int,
    share: float = SHARE,
    draws: int = DRAWS,
    most: int = MOST,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """`subsampled` for numbers of one set, such as its Vendi score."""
    sides = (_Side.of("given", len(points), groups),)
    return _intervals(lambda rows: statistic(points[rows[0]]), sides, seed, share, draws, most, confidence)


def _intervals(
    statistic: Callable[[Sequence[Any]], Mapping[str, float]],
    sides: Sequence[_Side],
    seed: int,
    share: float,
    draws: int,
    most: int,
    confidence: float,
) -> dict[str, Interval]:
    """Intervals of a statistic of rows of each side; `n` is that of the last side."""
    value = dict(statistic([slice(None) for _ in sides]))
    parts = _parts(sides, share, most)
    rng = np.random.default_rng(seed)
    table = np.empty((draws, len(value)))
    for row in table:
        found = statistic([side.draw(rng, part) for side, part in zip(sides, parts, strict=True)])
        row[:] = [found[name] for name in value]
    spread = _Spread.of(sides, parts, draws, confidence)
    return {name: spread.interval(name, v, column, sides[-1].n) for (name, v), column in zip(value.items(), table.T, strict=True)}


@dataclass(frozen=True)
class EqualN:
    """The synthetic images, and held-out real ones in their place, both at `n` images; and how far the first lie above the second."""

    n: int
    value: Mapping[str, Interval]
    floor: Mapping[str, Interval]
    excess: Mapping[str, Interval]  # value minus floor, beside the same real images


def at_equal_n(
    statistic: Statistic,
    real: np.ndarray,
    fake: np.ndarray,
    held_out: np.ndarray,
    *,
    seed: int,
    share: float = SHARE,
    draws: int = DRAWS,
    most: int = MOST,
    groups: np.ndarray | None = None,
    held_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> EqualN:
    """What `subsampled` says of the synthetic images beside the floor: held-out real images in their place, at as many images.

    n is the smaller of the two numbers of images. The larger set is cut into parts of n images, at most four, that overlap where they must,
    and the mean over them is taken; a set of exactly n is taken whole. Value and floor share each draw of the real images, so that the
    interval of their difference does not count the real set twice. Arguments as in `subsampled`; held_groups as groups, of the
    held-out images. Raises ValueError below 20 images of any set.
    """
    n = min(len(fake), len(held_out))
    rng = np.random.default_rng(seed)
    fake, _ = _thinned(fake, None, n, rng)
    held_out, held_groups = _thinned(held_out, held_groups, n, rng)
    sides = _Side.of("real", len(real), groups), _Side.of("synthetic", len(fake), None), _Side.of("held-out", len(held_out), held_groups)
    parts = _parts(sides, share, most)

    def both(rows: np.ndarray, some: np.ndarray, held: np.ndarray) -> list[Mapping[str, float]]:
        one_part = [max(1, round(n * len(x) / len(whole))) for x, whole in ((some, fake), (held, held_out))]
        return [_mean_over_parts(statistic, real[rows], x, size, rng) for x, size in zip((fake[some], held_out[held]), one_part, strict=True)]

    whole = both(np.arange(len(real)), np.arange(len(fake)), np.arange(len(held_out)))
    names = list(whole[0])
    table = np.empty((draws, 2, len(names)))
    for row in table:
        found = both(*(side.draw(rng, part) for side, part in zip(sides, parts, strict=True)))
        row[:] = [[f[name] for name in names] for f in found]
    spread = _Spread.of(sides, parts, draws, confidence)
    value, floor = ({name: spread.interval(name, whole[k][name], table[:, k, i], n) for i, name in enumerate(names)} for k in (0, 1))
    excess = {name: spread.difference(name, whole[0][name] - whole[1][name], table[:, 0, i] - table[:, 1, i], n) for i, name in enumerate(names)}
    return EqualN(n, value, floor, excess)


def wilson_form(value: float, variance: float, *, units: int, df: float, confidence: float) -> tuple[float, float]:
    """Ends of Wilson's interval (1927) for a number in 0 to 1, with as many trials as would give it this variance.

    At most `units` trials, the images or groups that there are: a value of 0 or 1 may have no spread and yet is not certain.
    Student's t in place of the normal quantile.
    """
    spread = max(value * (1 - value), (1 - 1 / units) / units)  # at the ends, that of one image
    trials = min(units, spread / variance) if variance > 0 else units
    t = quantile_t(0.5 + confidence / 2, df)
    centre = (value + t * t / (2 * trials)) / (1 + t * t / trials)
    half = t * math.sqrt(value * (1 - value) / trials + t * t / (4 * trials * trials)) / (1 + t * t / trials)
    return min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half))


@dataclass(frozen=True)
class _Side:
    which: str
    n: int
    members: np.ndarray | None  # int64 [n], the group of each image, from 0

    @classmethod
    def of(cls, which: str, n: int, groups: np.ndarray | None) -> _Side:
        if n < LEAST:
            raise ValueError(f"needs {LEAST} {which} images, has {n}; fix: give more")
        if groups is None:
            return cls(which, n, None)
        if len(groups) != n:
            raise ValueError(f"there are {len(groups)} group numbers for {n} {which} images; fix: give one an image")
        side = cls(which, n, np.unique(groups, return_inverse=True)[1])
        if side.units < LEAST_GROUPS:
            raise ValueError(f"needs {LEAST_GROUPS} groups of {which} images, has {side.units}; fix: give images of more")
        return side

    @property
    def units(self) -> int:
        """What is drawn: images, or groups of them."""
        return self.n if self.members is None else int(self.members.max()) + 1

    def draw(self, rng: np.random.Generator, part: int) -> np.ndarray:
        """Rows of the images drawn, ascending."""
        drawn = np.sort(rng.permutation(self.units)[:part])
        return drawn if self.members is None else np.flatnonzero(np.isin(self.members, drawn))


def _parts(sides: Sequence[_Side], share: float, most: int) -> list[int]:
    """How many images or groups of each side a draw takes: one proportion, that the side of the fewest can have."""
    if not 0 < share < 1:
        raise ValueError(f"a draw of {share} of the images; fix: give a share between 0 and 1")
    share = min(share, most / max(side.n for side in sides))
    few = min(side.units for side in sides)
    share = min(max(round(share * few), 1), few - 1) / few
    return [min(max(round(share * side.units), 1), side.units - 1) for side in sides]


@dataclass(frozen=True)
class _Spread:
    """From the spread over draws to that of the whole sets."""

    factor: float
    units: int
    df: float
    confidence: float

    @classmethod
    def of(cls, sides: Sequence[_Side], parts: Sequence[int], draws: int, confidence: float) -> _Spread:
        units = min(side.units for side in sides)
        factor = max(part / (side.units - part) for side, part in zip(sides, parts, strict=True))
        return cls(factor, units, 1 / (1 / (draws - 1) + 1 / (units - 1)), confidence)

    def interval(self, name: str, value: float, column: np.ndarray, n: int) -> Interval:
        value, variance = float(value), self.factor * float(column.var(ddof=1))
        if name not in SHARES or math.isnan(variance):
            return self._around(value, variance, n)
        low, high = wilson_form(value, variance, units=self.units, df=self.df, confidence=self.confidence)
        return Interval(value, low, high, n, se_images=math.sqrt(variance), df_images=self.df)

    def difference(self, name: str, value: float, column: np.ndarray, n: int) -> Interval:
        """Of two shares at least the spread of one image: two sets that both score 1 are not for certain alike."""
        least = 1 / self.units**2 if name in SHARES else 0.0
        return self._around(float(value), float(np.maximum(least, self.factor * column.var(ddof=1))), n)

    def _around(self, value: float, variance: float, n: int) -> Interval:
        half = quantile_t(0.5 + self.confidence / 2, self.df) * math.sqrt(variance)
        return Interval(value, value - half, value + half, n, se_images=math.sqrt(variance), df_images=self.df)


def _thinned(points: np.ndarray, groups: np.ndarray | None, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """At most PARTS times n of them, by chance."""
    if len(points) <= PARTS * n:
        return points, groups
    some = np.sort(rng.permutation(len(points))[: PARTS * n])
    return points[some], None if groups is None else groups[some]


def _mean_over_parts(statistic: Statistic, real: np.ndarray, points: np.ndarray, size: int, rng: np.random.Generator) -> Mapping[str, float]:
    """The mean of the statistic over parts of `size` points; each point is in as many parts as any other, or in one more."""
    count = len(points)
    if count <= size:
        return statistic(real, points)
    parts = count // size if count % size == 0 else min(PARTS, math.ceil(2 * count / size))
    order = rng.permutation(count)
    found = []
    for start in np.arange(parts) * count // parts:
        found.append(statistic(real, points[np.sort(np.take(order, np.arange(start, start + size), mode="wrap"))]))
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}
