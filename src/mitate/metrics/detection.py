"""Detection of foreign images: does a classifier notice what it was not trained on? Scores of strangeness, and how well they sort.

    doubt         one minus the largest softmax       Hendrycks and Gimpel 2017
    energy        minus the log-sum-exp of logits     Liu et al. 2020
    far           distance to the k-th nearest training feature, lengths taken out   Sun et al. 2022
    mahalanobis   distance to the nearest class mean under one covariance            Lee et al. 2018

Every score grows with strangeness. `known` are scores of images of the training kind that were not trained on, `foreign` of others;
`far` and `mahalanobis` need the training features besides, and no foreign image: who has the training set can deploy any of them. The
headline is `mahalanobis`; `energy` and `doubt` are the model's own say. A score that sorts one foreign set well may miss the next one: name the set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, special

from mitate.metrics.intervals import Interval, one_way, quantile_t, wilson
from mitate.score import Metric

LEAST = 10  # images on either side
LEAST_KNOWN = 20  # for a threshold that one in twenty passes
K = 10
ACCEPTED = 0.95  # share of known images below the threshold
BLOCK = 1024

OVER_BOTH = "order statistics for the threshold, Wilson 1927 for the share, added in squares; a set with groups counts as the fewer images it is worth"
DELONG = "DeLong et al. 1988, with groups Obuchowski 1997, on the logit scale"
FOREIGN_AUROC = Metric(
    "foreign_auroc", "robustness", "higher", LEAST, DELONG, "chance that a foreign image is stranger, by the nearest class mean: Lee et al. 2018"
)
FOREIGN_ACCEPTED = Metric("foreign_accepted", "robustness", "lower", LEAST_KNOWN, OVER_BOTH, "false positive rate at 95 % true positives, Liang et al. 2018")
HEADLINE = "mahalanobis"  # needs the training images' features and no foreign image, so it can be deployed; best over pairs (benchmarks/foreign_scores.py)
BESIDE = {
    by: Metric(f"foreign_{by}_auroc", "robustness", "higher", LEAST, DELONG, f"chance that a foreign image is stranger, {source}")
    for by, source in (
        ("energy", "by energy, the model's own say: Liu et al. 2020"),
        ("doubt", "by the largest softmax: Hendrycks and Gimpel 2017"),
        ("far", "by the k-th nearest training feature: Sun et al. 2022"),
    )
}


@dataclass(frozen=True)
class Seen:
    """What a classifier makes of images: logits [n, classes], and features [n, d], which its last layer reads."""

    logits: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Noticed:
    """How well each score sorts foreign images from known ones. Where a score cannot be had, a text says why."""

    auroc: Mapping[str, Interval | str]  # by score
    accepted: Interval | str  # by the headline score
    each: Mapping[str, np.ndarray]  # by score, what each image adds to its AUROC: float64 [n + m], `shares_of_auroc`


def noticed(
    known: Seen,
    foreign: Seen,
    train: Seen,
    y: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    foreign_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Noticed:
    """AUROC by every score of this file, and the share of foreign images accepted by the headline one.

    known [n]: images of the training kind that were not trained on; foreign [m]; train: training images with their classes y. groups int [n],
    foreign_groups int [m], numbered alike: images that vary together.
    """
    ways = {
        "energy": lambda seen: energy(seen.logits), "doubt": lambda seen: doubt(seen.logits),
        "far": lambda seen: far(seen.features, train.features), "mahalanobis": lambda seen: mahalanobis(seen.features, train.features, y),
    }  # fmt: skip
    together: dict[str, Any] = {"groups": groups, "foreign_groups": foreign_groups}
    auroc: dict[str, Interval | str] = {}
    each: dict[str, np.ndarray] = {}
    for by, strange in ways.items():
        try:
            scores = strange(known), strange(foreign)
            auroc[by] = foreign_auroc(*scores, **together, confidence=confidence)
            each[by] = shares_of_auroc(*scores)
        except ValueError as wrong:
            auroc[by] = str(wrong)
    accepted: Interval | str
    try:
        accepted = foreign_accepted(ways[HEADLINE](known), ways[HEADLINE](foreign), **together, confidence=confidence)
    except ValueError as wrong:
        accepted = str(wrong)
    return Noticed(auroc, accepted, each)


def doubt(logits: np.ndarray) -> np.ndarray:
    """One minus the largest softmax, float64 [n], 0 to 1. Summed from the other classes, so that certainty beyond rounding still sorts."""
    logits = _rows("logits", logits)
    shares = special.softmax(logits, axis=1)
    return np.sort(shares, axis=1)[:, :-1].sum(axis=1)


def energy(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """-T log sum exp(logits / T), float64 [n]: Liu et al. 2020, equation 4."""
    return -temperature * special.logsumexp(_rows("logits", logits) / temperature, axis=1)


def far(features: np.ndarray, train: np.ndarray, *, k: int = K) -> np.ndarray:
    """Distance to the k-th nearest training feature after both are scaled to length 1, float64 [n], 0 to 2. features [n, d], train [m, d].

    Sun et al. 2022, algorithm 1 (they take k = 50 of 50,000; ours is for hundreds). Training images must not be among `features`.
    """
    features, train = _unit(_rows("features", features)), _unit(_rows("training features", train))
    if not 1 <= k <= len(train):
        raise ValueError(f"needs {k} training images, has {len(train)}; fix: give more, or a smaller k")
    found = np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        some = features[start : start + BLOCK]
        near = np.partition(2 - 2 * (some @ train.T), k - 1, axis=1)[:, k - 1]
        found[start : start + BLOCK] = np.sqrt(np.maximum(near, 0.0))
    return found


def mahalanobis(features: np.ndarray, train: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the nearest class mean under the covariance that the classes share, float64 [n]. features [n, d], train [m, d], y [m].

    Lee et al. 2018, equation 2, without their input noise; the root of what they give. The covariance is shrunk as Ledoit and Wolf 2004
    say: with as many features as images the plain one has no inverse.
    """
    from sklearn.covariance import ledoit_wolf

    features, train = _rows("features", features), _rows("training features", train)
    classes, members = np.unique(y, return_inverse=True)
    if len(train) != len(y) or len(train) <= len(classes):
        raise ValueError(f"there are {len(train)} training images, {len(y)} labels and {len(classes)} classes; fix: give more images than classes")
    means = np.stack([train[members == j].mean(axis=0) for j in range(len(classes))])
    covariance, _ = ledoit_wolf(train - means[members], assume_centered=True)
    if not np.trace(covariance) > 1e-20 * float((train**2).sum()) / len(train):
        raise ValueError("the training features do not vary within their classes; fix: give features of different images")
    root = linalg.cholesky(covariance, lower=True)
    white, centres = (linalg.solve_triangular(root, part.T, lower=True).T for part in (features, means))
    return np.sqrt(np.min([((white - centre) ** 2).sum(axis=1) for centre in centres], axis=0))


# how well they sort ---------------------------------------------------------------------------------------------------


def foreign_auroc(
    known: np.ndarray,
    foreign: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    foreign_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Chance that a foreign image is stranger than a known one, ties half. 0 to 1; 0.5 is blind. known [n], foreign [m]: scores.

    The variance is DeLong's (1988), by ranks; the interval is built on the logit scale, which keeps it within 0 to 1. The standard error
    is at least that of one image of the smaller set becoming a coin's toss, so that a perfect sorting of few images is no certainty.
    groups int [n], foreign_groups int [m], numbered alike: images that vary together (Obuchowski 1997; Student's t over the fewer groups).
    """
    known, foreign = _scores(known, foreign, LEAST)
    n, m = len(known), len(foreign)
    below, above = _placements(known, foreign)
    value = float(below.mean())
    together = both_groups(groups, foreign_groups, n, m)
    if together is None:
        least, df = 1 / (2 * min(n, m)), math.inf
        se = math.sqrt(float(below.var(ddof=1)) / m + float(above.var(ddof=1)) / n)
    else:
        fewer = min(len(np.unique(together[:n])), len(np.unique(together[n:])))
        if fewer < 2:
            raise ValueError("one group of known or of foreign images has no interval; fix: give images of more groups")
        least, df = 1 / (2 * fewer), fewer - 1.0
        se = one_way(shares_of_auroc(known, foreign), groups=together).se_images
    se, inner = max(se, least), min(max(value, least), 1 - least)
    half = quantile_t(0.5 + confidence / 2, df) * se / (inner * (1 - inner))
    low, high = (float(special.expit(special.logit(inner) + side * half)) for side in (-1, 1))
    return Interval(value, min(low, value), max(high, value), min(n, m), se_images=se, df_images=df)


def shares_of_auroc(known: np.ndarray, foreign: np.ndarray) -> np.ndarray:
    """What each image adds to the AUROC, float64 [n + m], known images first: their mean is the AUROC, their standard error DeLong's.

    Of one image: the AUROC plus its placement's distance from it, over its set's share of all images. So two models on the same images can be
    compared image by image, as DeLong et al. 1988 do.
    """
    known, foreign = _scores(known, foreign, LEAST)
    below, above = _placements(known, foreign)
    value, n, m = below.mean(), len(known), len(foreign)
    return np.concatenate([value + (above - value) * (n + m) / n, value + (below - value) * (n + m) / m])


def _placements(known: np.ndarray, foreign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each foreign image the share of known ones that it is stranger than, and of each known one the share of foreign ones that are stranger."""
    n, m = len(known), len(foreign)
    ranks = _midranks(np.concatenate([known, foreign]))
    return (ranks[n:] - _midranks(foreign)) / n, 1 - (ranks[:n] - _midranks(known)) / m


def both_groups(groups: np.ndarray | None, foreign_groups: np.ndarray | None, n: int, m: int) -> np.ndarray | None:
    """Group numbers int [n + m] of both sets; an image of a set without groups is on its own. None where neither set has any."""
    if groups is None and foreign_groups is None:
        return None
    first = np.arange(n) if groups is None else groups
    beyond = int(first.max()) + 1
    return np.concatenate([first, np.arange(beyond, beyond + m) if foreign_groups is None else foreign_groups + (beyond if groups is None else 0)])


def foreign_accepted(
    known: np.ndarray,
    foreign: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    foreign_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Share of foreign images that pass a threshold which 95 % of the known ones pass (FPR at 95 % TPR). 0 to 1. known [n], foreign [m].

    The threshold is the smallest known score with 95 % of them at or below it; what is at it passes. It is itself estimated: its exact
    binomial interval from order statistics moves the share one way or the other, Wilson's interval gives the foreign images' part, and
    the two are added in squares. Below 72 known images no order statistic bounds the threshold from above, and the high end is 1.
    groups int [n], foreign_groups int [m]: images that vary together. They count as if those of a group were one image seen again and again,
    so the interval is wide rather than narrow.
    """
    known, foreign = _scores(known, foreign, LEAST, LEAST_KNOWN)
    n, m = len(known), len(foreign)
    order = np.sort(known)
    passed = lambda threshold: float((foreign <= threshold).mean())  # noqa: E731
    share, counted = passed(order[math.ceil(ACCEPTED * n - 1e-9) - 1]), _worth(foreign_groups, m)
    middle = wilson(share * counted, counted, confidence=confidence)
    independent = math.floor(_worth(groups, n))
    low, high = _ranks(independent, ACCEPTED, confidence)
    least = passed(order[max(math.floor(low * n / independent), 1) - 1]) if low >= 1 else 0.0
    most = passed(order[math.ceil(high * n / independent - 1e-9) - 1]) if high <= independent else 1.0
    down, up = math.hypot(middle.value - middle.low, middle.value - least), math.hypot(middle.high - middle.value, most - middle.value)
    return Interval(middle.value, max(0.0, middle.value - down), min(1.0, middle.value + up), m)


def _worth(groups: np.ndarray | None, n: int) -> float:
    """How many independent images n images are worth, where those of a group are all alike: n^2 over the sum of the squared group sizes (Kish 1965)."""
    return float(n) if groups is None else float(n**2 / (np.unique(groups, return_counts=True)[1] ** 2).sum())


def _ranks(n: int, share: float, confidence: float) -> tuple[int, int]:
    """Ranks, 1 to n, whose order statistics hold the quantile `share` between them at this confidence; 0 and n + 1 where there is none."""
    tail = (1 - confidence) / 2
    counts = np.arange(n + 1)
    at_most = special.bdtr(counts, n, share)  # chance that no more than so many lie below the quantile
    low = int(np.searchsorted(at_most, tail, side="right"))
    high = int(np.searchsorted(at_most, 1 - tail, side="left")) + 1
    return low, high


def _midranks(values: np.ndarray) -> np.ndarray:
    """Rank of each, 1 to n, equal ones sharing the mean of theirs."""
    order = np.sort(values)
    return (np.searchsorted(order, values, side="left") + np.searchsorted(order, values, side="right") + 1) / 2


def _unit(points: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(points, axis=1, keepdims=True)
    if not length.all():
        raise ValueError("a row of features is 0 and has no direction; fix: give features from before a layer that can silence them all")
    return points / length


def _rows(which: str, points: np.ndarray) -> np.ndarray:
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(f"{which} have shape {points.shape} or are not finite; fix: give finite [images, columns]")
    return points.astype(np.float64)


def _scores(known: np.ndarray, foreign: np.ndarray, least: int, least_known: int = 0) -> tuple[np.ndarray, np.ndarray]:
    for which, scores, needed in (("known", known, max(least, least_known)), ("foreign", foreign, least)):
        if scores.ndim != 1 or np.isnan(scores).any():
            raise ValueError(f"{which} scores have shape {scores.shape} or hold NaN; fix: give one number an image")
        if len(scores) < needed:
            raise ValueError(f"needs {needed} {which} images, has {len(scores)}; fix: give more")
    return known.astype(np.float64), foreign.astype(np.float64)
