"""Two samples of scores compared by their ranks: how often one lies above the other, and who lies above almost all of the other.

AUC is the chance that a score of the first sample is above one of the second (ties count half). Its interval is the wider, at either end,
of two: that of the placements' variance (DeLong et al. 1988; of groups, Obuchowski 1997) with Student's t of Welch's degrees of freedom,
as in Brunner and Munzel 2000; and the score interval of Newcombe 2006, method 5. The first is right in large samples whatever the two
distributions; the second has a width where the samples do not overlap, and ends at 0.5 where the test of Mann and Whitney does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from mitate.metrics.intervals import Interval, clopper_pearson, quantile_t

GROUP_DRAWS = 40  # of one score from each group
HALVINGS = 50  # of an interval of length 1


@dataclass(frozen=True)
class Separation:
    """AUC with its interval, and the one-sided p of "no more than 0.5": the tail at which the interval's low end is 0.5."""

    auc: Interval
    p: float


@dataclass(frozen=True)
class Tail:
    """Who of the first sample lies above all but a few of the second.

    `caught` has the interval of Clopper and Pearson for this threshold, `false` the share of the second sample above it; the threshold is an
    order statistic, whose true share is at most `false.high` with the confidence of that end (Wilks 1941). p: the exact chance that so many
    or more are caught where both samples are of one distribution (negative hypergeometric); of groups, by draws of one score from each.
    """

    caught: Interval
    false: Interval
    threshold: float
    p: float


def placements(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Share of `second` below each score of `first`, ties counted half. float64 [n], 0 to 1."""
    order = np.sort(second)
    return (np.searchsorted(order, first, side="left") + np.searchsorted(order, first, side="right")) / (2 * len(second))


def separation(
    first: np.ndarray, second: np.ndarray, *, groups_first: np.ndarray | None = None, groups_second: np.ndarray | None = None, confidence: float = 0.95
) -> Separation:
    """How surely `first` lies above `second`. Scores [n] and [m], without NaN; groups: int [n] and [m], of scores that vary together.

    A group may be in both samples. Raises ValueError with fewer than two scores, or groups, in a sample.
    """
    _check(first, second)
    a, b = placements(first, second), 1 - placements(second, first)
    value = float(a.mean())
    n, m, variance, df = _variance(a - value, b - value, *_members(groups_first, groups_second, len(first), len(second)))
    tail = (1 - confidence) / 2
    half = quantile_t(1 - tail, df) * math.sqrt(variance)
    z = float(special.ndtri(1 - tail))
    low = min(value - half, _score_end(value, 0.0, z, n, m))
    high = max(value + half, _score_end(value, 1.0, z, n, m))
    found = Interval(value, max(0.0, low), min(1.0, high), len(first) + len(second), se_images=math.sqrt(variance), df_images=df)
    by_score = float(special.ndtr((0.5 - value) / math.sqrt(_hanley(0.5, n, m))))
    by_placements = float(special.stdtr(df, (0.5 - value) / math.sqrt(variance))) if variance > 0 else float(value <= 0.5)
    return Separation(found, max(by_score, by_placements))


def smallest_auc(n: int, m: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest AUC whose interval lies above 0.5 with this power, for samples of n and m. Above 0.5, at most 1.

    By the normal approximation with the variance of Hanley and McNeil 1982.
    """
    z, reach = float(special.ndtri(0.5 + confidence / 2)), float(special.ndtri(power))
    needed = 0.5 + z * math.sqrt(_hanley(0.5, n, m))
    low, high = 0.5, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if middle - reach * math.sqrt(_hanley(middle, n, m)) >= needed else (middle, high)
    return high


def tail(
    first: np.ndarray,
    second: np.ndarray,
    share: float,
    *,
    groups_first: np.ndarray | None = None,
    groups_second: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Tail:
    """How many of `first` lie above all but `share` (0 to below 1) of `second`: the true positive rate at that false positive rate.

    The threshold is the (k + 1)-th largest of `second`, k = floor(share m), and who is caught lies above it: no tie is.
    The intervals take the scores as independent; p takes groups for what they are.
    """
    _check(first, second)
    k = math.floor(share * len(second) + 1e-9)
    threshold = float(np.partition(second, len(second) - k - 1)[len(second) - k - 1])
    caught = clopper_pearson(int((first > threshold).sum()), len(first), confidence=confidence)
    false = clopper_pearson(int((second > threshold).sum()), len(second), confidence=confidence)
    return Tail(caught, false, threshold, _chance(first, second, share, groups_first, groups_second))


def _chance(first: np.ndarray, second: np.ndarray, share: float, groups_first: np.ndarray | None, groups_second: np.ndarray | None) -> float:
    """`chance_of_tail`; with groups, twice its mean over draws of one score from each, which is a p-value again (Vovk and Wang 2020, proposition 2).

    One score of a group is of one distribution however large the group is; its highest is not.
    """
    if groups_first is None and groups_second is None:
        return chance_of_tail(first, second, math.floor(share * len(second) + 1e-9))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(GROUP_DRAWS):
        a, b = _one_of_each(first, groups_first, rng), _one_of_each(second, groups_second, rng)
        found.append(chance_of_tail(a, b, math.floor(share * len(b) + 1e-9)))
    return min(1.0, 2 * float(np.mean(found)))


def chance_of_tail(first: np.ndarray, second: np.ndarray, k: int) -> float:
    """Chance, where both samples are of one distribution, that so many of `first` or more lie above the (k + 1)-th largest of `second`."""
    n, m = len(first), len(second)
    caught = int((first > np.partition(second, m - k - 1)[m - k - 1]).sum())
    if not caught:
        return 1.0
    top = caught + k  # so many or more are caught where at most k of these, drawn from all n + m in any order, are of `second`
    j = np.arange(max(0, top - n), k + 1)
    log = _log_choose(m, j) + _log_choose(n, top - j) - _log_choose(n + m, np.array(top))
    return min(1.0, float(np.exp(log).sum()))


def z_of_ranks(first: np.ndarray, second: np.ndarray) -> float:
    """Mann and Whitney's z: below 0 where `first` tends to lie below `second`. Variance with ties, no continuity correction; 0 where all tie."""
    _check(first, second)
    n, m = len(first), len(second)
    counts = np.unique(np.concatenate([first, second]), return_counts=True)[1].astype(np.float64)
    total = n + m
    variance = n * m / 12 * (total + 1 - float((counts**3 - counts).sum()) / (total * (total - 1)))
    return n * m * (float(placements(first, second).mean()) - 0.5) / math.sqrt(variance) if variance > 0 else 0.0


def _variance(a: np.ndarray, b: np.ndarray, groups_a: np.ndarray, groups_b: np.ndarray, count: int) -> tuple[int, int, float, float]:
    """Numbers of groups in either sample, variance of AUC and its degrees of freedom, from the centred placements (Obuchowski 1997)."""
    by_a, by_b = np.bincount(groups_a, weights=a, minlength=count), np.bincount(groups_b, weights=b, minlength=count)
    n, m = len(np.unique(groups_a)), len(np.unique(groups_b))
    if min(n, m) < 2:
        raise ValueError(f"needs two groups in each sample, has {n} and {m}; fix: give more groups")
    part_a = n / (n - 1) * float((by_a**2).sum()) / len(a) ** 2
    part_b = m / (m - 1) * float((by_b**2).sum()) / len(b) ** 2
    both = count / (count - 1) * float((by_a * by_b).sum()) / (len(a) * len(b))
    spread = part_a**2 / (n - 1) + part_b**2 / (m - 1)
    df = (part_a + part_b) ** 2 / spread if spread > 0 else n + m - 2.0
    return n, m, max(0.0, part_a + part_b + 2 * both), df


def _members(first: np.ndarray | None, second: np.ndarray | None, n: int, m: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Numbers of the groups of both samples, and how many there are; a score without a group is one of its own."""
    if first is None and second is None:
        return np.arange(n), np.arange(n, n + m), n + m
    if first is None or second is None or len(first) != n or len(second) != m:
        raise ValueError("groups fit neither sample; fix: give one group a score, for both samples")
    numbers = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    return numbers[:n], numbers[n:], int(numbers.max()) + 1


def _score_end(value: float, end: float, z: float, n: int, m: int) -> float:
    """Where |value - auc| = z se(auc), between the value and 0 or 1."""
    inside, outside = value, end
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if abs(value - middle) <= z * math.sqrt(_hanley(middle, n, m)) else (inside, middle)
    return outside


def _hanley(auc: float, n: int, m: int) -> float:
    """Variance of AUC between two exponential distributions (Hanley and McNeil 1982), the sample sizes evened out (Newcombe 2006, method 5)."""
    both = (n + m) / 2 - 1
    return auc * (1 - auc) * (1 + both * ((1 - auc) / (2 - auc) + auc / (1 + auc))) / (n * m)


def _one_of_each(scores: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """A score of each group, by chance."""
    if groups is None:
        return scores
    order = rng.permutation(len(scores))
    return scores[order[np.unique(groups[order], return_index=True)[1]]]


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _check(first: np.ndarray, second: np.ndarray) -> None:
    if min(len(first), len(second)) < 2:
        raise ValueError(f"needs 2 scores in each sample, has {len(first)} and {len(second)}; fix: give more")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("scores hold NaN; fix: drop those images")
