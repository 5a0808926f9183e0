"""Detection of foreign images: does a classifier notice what it was not trained on? Scores of strangeness, and how well they sort.

    doubt         one minus the largest softmax       Hendrycks and Gimpel 2017
    energy        minus the log-sum-exp of logits     Liu et al. 2020
    far           distance to the k-th nearest training feature, lengths taken out   Sun et al. 2022
    mahalanobis   distance to the nearest class mean under one covariance            Lee et al. 2018

Every score grows with strangeness. `known` are scores of images of the training kind that were not trained on, `foreign` of others;
`far` and `mahalanobis` need the training features besides. A score that sorts one foreign set well may miss the next one: name the set.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg, special

from mitate.metrics.intervals import Interval, quantile_t, wilson
from mitate.score import Metric

LEAST = 10  # images on either side
LEAST_KNOWN = 20  # for a threshold that one in twenty passes
K = 10
ACCEPTED = 0.95  # share of known images below the threshold
BLOCK = 1024

OVER_BOTH = "order statistics for the threshold, Wilson 1927 for the share, added in squares"
FOREIGN_AUROC = Metric("foreign_auroc", "robustness", "higher", LEAST, "DeLong et al. 1988, on the logit scale", "chance that a foreign image is stranger")
FOREIGN_ACCEPTED = Metric("foreign_accepted", "robustness", "lower", LEAST_KNOWN, OVER_BOTH, "false positive rate at 95 % true positives, Liang et al. 2018")


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


def foreign_auroc(known: np.ndarray, foreign: np.ndarray, *, confidence: float = 0.95) -> Interval:
    """Chance that a foreign image is stranger than a known one, ties half. 0 to 1; 0.5 is blind. known [n], foreign [m]: scores.

    The variance is DeLong's (1988), by ranks; the interval is built on the logit scale, which keeps it within 0 to 1. The standard error
    is at least that of one image of the smaller set becoming a coin's toss, so that a perfect sorting of few images is no certainty.
    """
    known, foreign = _scores(known, foreign, LEAST)
    n, m = len(known), len(foreign)
    ranks = _midranks(np.concatenate([known, foreign]))
    below = (ranks[n:] - _midranks(foreign)) / n  # of each foreign image, the share of known ones that it is stranger than
    above = 1 - (ranks[:n] - _midranks(known)) / m  # of each known image, the share of foreign ones that are stranger
    value = float(below.mean())
    least = 1 / (2 * min(n, m))
    se = max(math.sqrt(float(below.var(ddof=1)) / m + float(above.var(ddof=1)) / n), least)
    inner = min(max(value, least), 1 - least)
    half = quantile_t(0.5 + confidence / 2, math.inf) * se / (inner * (1 - inner))
    low, high = (float(special.expit(special.logit(inner) + side * half)) for side in (-1, 1))
    return Interval(value, min(low, value), max(high, value), min(n, m), se_images=se)


def foreign_accepted(known: np.ndarray, foreign: np.ndarray, *, confidence: float = 0.95) -> Interval:
    """Share of foreign images that pass a threshold which 95 % of the known ones pass (FPR at 95 % TPR). 0 to 1. known [n], foreign [m].

    The threshold is the smallest known score with 95 % of them at or below it; what is at it passes. It is itself estimated: its exact
    binomial interval from order statistics moves the share one way or the other, Wilson's interval gives the foreign images' part, and
    the two are added in squares. Below 72 known images no order statistic bounds the threshold from above, and the high end is 1.
    """
    known, foreign = _scores(known, foreign, LEAST, LEAST_KNOWN)
    n, m = len(known), len(foreign)
    order = np.sort(known)
    passed = lambda threshold: int((foreign <= threshold).sum())  # noqa: E731
    middle = wilson(passed(order[math.ceil(ACCEPTED * n - 1e-9) - 1]), m, confidence=confidence)
    low, high = _ranks(n, ACCEPTED, confidence)
    least = passed(order[low - 1]) / m if low >= 1 else 0.0
    most = passed(order[high - 1]) / m if high <= n else 1.0
    down, up = math.hypot(middle.value - middle.low, middle.value - least), math.hypot(middle.high - middle.value, most - middle.value)
    return Interval(middle.value, max(0.0, middle.value - down), min(1.0, middle.value + up), m)


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
