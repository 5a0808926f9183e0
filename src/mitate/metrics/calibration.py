"""Calibration: does a classifier that says 90 % get nine in ten right? Calibration error, Brier score with its parts, log loss.

All take probabilities [n, classes] and y int64 [n]. `groups`, int [n], are rows that vary together: the versions of one corrupted image
("calibration under shift"), or the images of one patient; intervals then count groups. Bins hold equally many answers; equal confidences
are never parted, so the order of rows does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mitate.metrics.intervals import Interval, one_way, reach
from mitate.score import Metric

BINS = 15
LEAST_A_BIN = 5  # answers
LEAST_BINNED = 50  # images
LEAST = 10  # images, for scores without bins

BINNED = "Student's t over images; the low end also gives way by the most that noise in the bins can add (sqrt(2 / pi) of each bin's standard error)"
DEBIASED = "Student's t over images for the sum of squared gaps, and the noise of the squares; ends are roots"
CALIBRATION_ERROR = Metric(
    "calibration_error", "robustness", "lower", LEAST_BINNED, BINNED, "Naeini et al. 2015; equal-mass bins, top label (Nguyen and O'Connor 2015)"
)
DEBIASED_ERROR = Metric(
    "debiased_calibration_error", "robustness", "lower", LEAST_BINNED, DEBIASED, "Kumar et al. 2019, definition 5.1: root mean square, top label"
)
BRIER = Metric("brier", "robustness", "lower", LEAST, "Student's t over images", "Brier 1950, summed over classes: 0 to 2")
LOG_LOSS = Metric("log_loss", "robustness", "lower", LEAST, "Student's t over images; heavy tails make it too narrow", "mean of -ln p of the right class")


@dataclass(frozen=True)
class Brier:
    """Brier score, and the parts that add up to it: score = reliability - resolution + uncertainty + within. Parts of few images are too large."""

    score: Interval
    reliability: float  # how far stated probabilities are from what comes true, in bins; 0 is calibrated
    resolution: float  # how far the bins are from the average; more is better
    uncertainty: float  # of the classes themselves
    within: float  # what the bins lose, both ways


@dataclass(frozen=True)
class Calibration:
    """All of this file for one set of answers. The two errors need bins, and are None below 50 images."""

    error: Interval | None
    debiased: Interval | None
    brier: Brier
    log_loss: Interval


def calibration(probabilities: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None, bins: int = BINS, confidence: float = 0.95) -> Calibration:
    """Calibration error (plain and debiased), Brier score and log loss of the same answers."""
    binned = len(y) if groups is None else len(np.unique(groups))
    options: dict[str, Any] = {"groups": groups, "confidence": confidence}
    return Calibration(
        calibration_error(probabilities, y, bins=bins, **options) if binned >= LEAST_BINNED else None,
        debiased_calibration_error(probabilities, y, bins=bins, **options) if binned >= LEAST_BINNED else None,
        brier(probabilities, y, bins=bins, **options),
        log_loss(probabilities, y, **options),
    )


def calibration_error(probabilities: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None, bins: int = BINS, confidence: float = 0.95) -> Interval:
    """Mean distance between confidence and accuracy over bins of equally many answers. 0 to 1.

    Noise in the bins makes it too large, most where the model is calibrated: the value is the usual plain one, the interval's low end
    allows for that. It covers the error at this number of bins, which is at most that of infinitely fine ones. Raises ValueError below 5
    answers a bin.
    """
    gap, bin_of, members = _gaps(probabilities, y, bins, groups)
    share, _, variance, inside = _by_bin(gap, bin_of, members)
    side = np.where(np.bincount(bin_of, weights=gap) < 0, -1.0, 1.0)
    found = _interval(side[bin_of] * gap, members, confidence, most=1.0)  # the mean of these is the error
    noise = math.sqrt(2 / math.pi) * float((share * np.maximum(np.sqrt(variance), 1 / inside)).sum())
    return replace(found, low=max(0.0, found.low - noise))


def debiased_calibration_error(
    probabilities: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None, bins: int = BINS, confidence: float = 0.95
) -> Interval:
    """Root mean square distance between confidence and accuracy, less what noise adds; 0 where noise explains all of it. 0 to 1.

    Kumar et al. 2019, section 5, with each bin's variance that of its gaps; theirs is that of the labels, which is the same where a bin has
    one confidence. Squares weigh large gaps: not to be compared with `calibration_error`, which is a mean of distances.
    """
    gap, bin_of, members = _gaps(probabilities, y, bins, groups)
    share, mean, variance, inside = _by_bin(gap, bin_of, members)
    square = float((share * (mean**2 - variance)).sum())
    steady = np.sign(mean) * np.sqrt(np.maximum(mean**2 - variance, 0.0))  # the gap without its noise
    each = steady[np.unique(bin_of, return_inverse=True)[1]]
    linear = _interval(2 * each * gap - each**2, members, confidence, least=-math.inf)  # what one image adds to the sum of squares
    noise = np.maximum(variance, 1 / inside**2)  # at least that of one image changing its mind
    half = float(reach((1 - confidence) / 2, (linear.se**2, linear.df_images), (float((2 * share**2 * noise**2).sum()), linear.df_images)))
    value, low, high = (math.sqrt(max(0.0, part)) for part in (square, square - half, square + half))
    return Interval(value, low, min(1.0, high), linear.n)


def brier(probabilities: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None, bins: int = BINS, confidence: float = 0.95) -> Brier:
    """Mean squared distance between the probabilities and the truth, summed over classes, and its parts. 0 to 2.

    Parts after Murphy 1973 for each class in bins of equally many answers, with the two terms of Stephenson et al. 2008 for what varies
    within a bin, so that the sum is exact. Half of it is the 0 to 1 score that some programs give for two classes.
    """
    probabilities = _checked(probabilities, y, LEAST)
    hits = np.eye(probabilities.shape[1])[y]
    score = _interval(((probabilities - hits) ** 2).sum(axis=1), _members(groups, len(y)), confidence, most=2.0)
    reliability = resolution = uncertainty = 0.0
    for k in range(probabilities.shape[1]):
        bin_of = _bins(probabilities[:, k], bins)
        count = np.bincount(bin_of, minlength=bins)
        used = count > 0
        said, true = (np.bincount(bin_of, weights=v, minlength=bins)[used] / count[used] for v in (probabilities[:, k], hits[:, k]))
        base, share = hits[:, k].mean(), count[used] / len(y)
        reliability += float((share * (said - true) ** 2).sum())
        resolution += float((share * (true - base) ** 2).sum())
        uncertainty += float(base * (1 - base))
    within = score.value - reliability + resolution - uncertainty
    return Brier(score, reliability, resolution, uncertainty, within)


def log_loss(probabilities: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None, confidence: float = 0.95) -> Interval:
    """Mean of -ln p of the right class, in nats. 0 or more.

    Probabilities below the rounding of their type (1.2e-7 for float32) count as that, as in scikit-learn: a softmax that rounds to 0 does not
    say impossible. One such image costs 16; the mean rests on few of them.
    """
    least = float(np.finfo(probabilities.dtype).eps) if np.issubdtype(probabilities.dtype, np.floating) else 0.0
    probabilities = _checked(probabilities, y, LEAST)
    losses = -np.log(np.clip(probabilities[np.arange(len(y)), y], least, 1 - least))
    return _interval(losses, _members(groups, len(y)), confidence)


def _gaps(probabilities: np.ndarray, y: np.ndarray, bins: int, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence minus right or wrong, the bin, and the group of each answer."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; fix: give 1 or more")
    probabilities = _checked(probabilities, y, LEAST_A_BIN * bins)
    top = probabilities.max(axis=1)
    return top - (probabilities.argmax(axis=1) == y), _bins(top, bins), _members(groups, len(y))


def _bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each value, 0 to bins - 1, equally many in each but for ties, which share the bin of the first."""
    first = np.searchsorted(np.sort(values), values, side="left")
    return first * bins // len(values)


def _by_bin(gap: np.ndarray, bin_of: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin its share of the answers, mean gap, the variance of that mean, and the groups in it; groups vary together."""
    groups, count = int(members.max()) + 1, np.bincount(bin_of)
    mean = np.bincount(bin_of, weights=gap) / np.maximum(count, 1)
    cells, places = np.unique(bin_of * groups + members, return_inverse=True)
    squares = np.bincount(cells // groups, weights=np.bincount(places, weights=gap - mean[bin_of]) ** 2)
    inside = np.bincount(cells // groups)
    variance = np.where(inside > 1, squares * inside / np.maximum(inside - 1, 1) / np.maximum(count, 1) ** 2, gap.var())
    used = count > 0
    return count[used] / len(gap), mean[used], variance[used], inside[used]


def _interval(values: np.ndarray, members: np.ndarray, confidence: float, *, least: float = 0.0, most: float = math.inf) -> Interval:
    """The mean of contributions, from `least` to `most`, with Student's t over groups, which are its n."""
    return replace(one_way(values, confidence=confidence, groups=members, within=(least, most)), n=int(members.max()) + 1)


def _members(groups: np.ndarray | None, n: int) -> np.ndarray:
    return np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]


def _checked(probabilities: np.ndarray, y: np.ndarray, least: int) -> np.ndarray:
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(probabilities) != len(y):
        raise ValueError(f"probabilities have shape {probabilities.shape} for {len(y)} labels; fix: give [images, classes]")
    if len(y) < least:
        raise ValueError(f"needs {least} images, has {len(y)}; fix: give more, or use fewer bins")
    if not (np.isfinite(probabilities).all() and probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1) - 1).max() < 1e-3):
        raise ValueError("probabilities are not finite shares that sum to 1; fix: give the softmax of the logits")
    if y.min() < 0 or y.max() >= probabilities.shape[1]:
        raise ValueError(f"labels run from {y.min()} to {y.max()} for {probabilities.shape[1]} classes; fix: number them from 0")
    return probabilities.astype(np.float64)
