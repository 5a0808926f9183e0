"""Transferability before training, and utility from answers: which features or source model will serve these labels?

LEEP asks a source model's class probabilities, LogME and the accuracy of nearest neighbours ask features. Each needs one pass over the images
and no training. They rank sources on *one* set of labelled images; values on two sets are not compared. `tested` turns the answers of a
trained model into a measure with its interval: trained on synthetic images and tested on real ones, or the reverse.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg, optimize

from mitate.metrics.intervals import Interval, quantile_t, two_way
from mitate.metrics.measures import Measure
from mitate.metrics.subsampling import HALF, subsampled_alone
from mitate.score import Metric

LEAST = 10  # images
K = 5
LISTED = 8  # times k neighbours are listed, so that in a draw of half the images (nearly) always k of them are drawn
BLOCK = 1024
RATIOS = np.geomspace(1e-10, 1e10, 201)  # of noise to weights, times the largest eigenvalue: where the evidence is looked for first

LEEP = Metric("leep", "utility", "higher", LEAST, "infinitesimal jackknife over images or groups (Efron 1982), Student's t", "Nguyen et al. 2020, eq. 2")
LOGME = Metric("logme", "utility", "higher", LEAST, "none: compare sources on the same images", "You et al. 2021, eq. 2 and algorithm 1")
NEIGHBOUR_ACCURACY = Metric(
    "neighbour_accuracy",
    "utility",
    "higher",
    20,
    "draws of half the images without replacement, in Wilson's form",
    "accuracy of k nearest neighbours, each image left out",
)
WITH_ONE_MODEL = "two-way interval over trainings and images; of one training, over images"
TRAINED_ON_SYNTHETIC = Metric("trained_on_synthetic", "utility", "higher", LEAST, WITH_ONE_MODEL, "TSTR: trained on synthetic images, tested on real ones")
RECOGNISED = Metric("recognised", "utility", "higher", LEAST, WITH_ONE_MODEL, "TRTS: trained on real images, tested on synthetic ones")


def leep(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Mean log probability of the labels under the source model's classes read as labels; at most 0.

    probabilities: float [n, source classes], rows that sum to 1; y: int [n]. Nguyen et al. 2020, eq. 2: each source class stands for the
    mixture of labels it was seen with. Minus the entropy of the labels where the source knows nothing. It learns that mixture from
    the images it scores, so it is too high by about (source classes x labels) / 2n. Raises ValueError below 10 images.
    """
    return float(np.log(_expected(*_answers(probabilities, y))[0]).mean())


def leep_interval(probabilities: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None, confidence: float = 0.95) -> Interval:
    """`leep` with an interval over images, or over groups of images [n] that vary together; for this source model.

    An image's part is the derivative of LEEP in its weight: its own log probability, and what it changes for all others through the
    mixtures. Raises ValueError below 10 images or groups.
    """
    theta, labels = _answers(probabilities, y)
    expected, joint, marginal = _expected(theta, labels)
    logs = np.log(expected)
    pull = np.zeros_like(joint)
    np.add.at(pull, labels, theta / expected[:, None])
    through = (theta / marginal * pull[labels]).sum(axis=1) - theta @ ((pull * joint).sum(axis=0) / marginal**2)
    value = float(logs.mean())
    se, df = _spread(logs - value + through, groups)
    half = quantile_t(0.5 + confidence / 2, df) * se
    return Interval(value, value - half, value + half, len(labels), se_images=se, df_images=df)


def logme(features: np.ndarray, y: np.ndarray) -> float:
    """Largest log evidence of a linear model from features to the labels, per image, averaged over the classes that occur.

    features [n, d], y int [n]. You et al. 2021: label k or not, as 1 or 0, is a Gaussian around features times weights, which are Gaussian around
    0; the two precisions are chosen to maximise the evidence. No intercept and no centring, as in the paper; a factor of all features
    changes nothing. The paper iterates to a fixed point and may stop short of it; here one precision is solved for, and the
    ratio of the two is searched over twenty decades, so the maximum is the global one within them. Features from which the labels follow
    exactly, with more images than rank, have evidence without bound: there the value is that of the end of the range.
    Raises ValueError below 10 images, of one class, and on features that are all 0.
    """
    x = _features(features, y)
    n, d = x.shape
    gram = x @ x.T if n <= d else x.T @ x
    eigenvalues, vectors = linalg.eigh(gram, check_finite=False)
    top = float(eigenvalues[-1])
    if top <= 0:
        raise ValueError("features are all 0; fix: use an extractor that sees these images")
    real = eigenvalues > top * max(n, d) * 2.0**-52
    eigenvalues, vectors = eigenvalues[real] / top, vectors[:, real]
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError("labels name 1 class; fix: give images of two or more")
    found = []
    for k in classes:
        target = (y == k).astype(np.float64)
        along = vectors.T @ target if n <= d else (vectors.T @ (x.T @ target)) / np.sqrt(eigenvalues * top)
        squares = along**2
        found.append(_evidence(eigenvalues, squares, max(0.0, float(target.sum() - squares.sum())), n))
    return float(np.mean(found)) / n


def neighbour_accuracy(features: np.ndarray, y: np.ndarray, *, seed: int, k: int = K, groups: np.ndarray | None = None, confidence: float = 0.95) -> Interval:
    """Share of images whose label most of their k nearest neighbours have; of equals, the label whose neighbours are nearer. 0 to 1.

    features [n, d], y int [n]. The image itself, and all of its group where groups [n] are given, are not its neighbours: copies and
    pictures of one patient would make any features look good. Read it beside the share of the commonest label. Images are each other's
    neighbours, so an interval over images alone is a fifth too narrow (it held the truth in 0.89 of worlds); draws of half the images
    (metrics/subsampling.py) are not. Raises ValueError below 20 images, or where k neighbours are not left.
    """
    x = _features(features, y)
    n, own = len(x), np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if (left := n - int(np.bincount(own).max())) < k:
        raise ValueError(f"needs {k} neighbours outside the group, has {left}; fix: give more images or a smaller k")
    labels = np.unique(y, return_inverse=True)[1]
    near, distances = _neighbours(x, own, min(left, LISTED * k))

    def accuracy(rows: np.ndarray) -> dict[str, float]:
        drawn = np.zeros(n, bool)
        drawn[rows] = True
        counts = drawn[near[rows]]
        counts &= np.cumsum(counts, axis=1) <= k
        votes, lengths = np.zeros((len(rows), int(labels.max()) + 1)), np.zeros((len(rows), int(labels.max()) + 1))
        line, place = np.nonzero(counts)
        np.add.at(votes, (line, labels[near[rows]][line, place]), 1.0)
        np.add.at(lengths, (line, labels[near[rows]][line, place]), distances[rows][line, place])
        best = np.where(votes == votes.max(axis=1, keepdims=True), lengths, np.inf).argmin(axis=1)
        return {"neighbour_accuracy": float((best == labels[rows]).mean())}

    return subsampled_alone(accuracy, np.arange(n), seed=seed, share=HALF, most=n, groups=groups, confidence=confidence)["neighbour_accuracy"]


def tested(probabilities: np.ndarray, y: np.ndarray, *, measure: Measure, groups: np.ndarray | None = None, confidence: float = 0.95) -> Interval:
    """A measure of one or more trained models on the images they were tested on.

    probabilities: [n, k], or [replicates, n, k] of trainings tested on the same images; y int [n]. Trained on synthetic and tested on real
    images (TSTR) it says what the set is worth alone; trained on real and tested on synthetic ones (TRTS), whether its labels can
    be recognised: a set of few easy images does well there. With one training the interval is for that model alone.
    """
    table = probabilities[None] if probabilities.ndim == 2 else probabilities
    if table.ndim != 3 or table.shape[1] != len(y) or table.shape[2] != len(measure.classes):
        wanted = f"[trainings, {len(y)}, {len(measure.classes)}]"
        raise ValueError(f"probabilities have shape {list(probabilities.shape)}; fix: give {wanted}, the last axis the measure's classes")
    if len(y) < LEAST:
        raise ValueError(f"needs {LEAST} test images, has {len(y)}; fix: give more")
    measure.check(y)
    answers = np.stack([measure.contributions(y, measure.decide(p)) for p in table])
    alone = (0.0, math.inf) if len(table) == 1 else None
    return two_way(answers, confidence=confidence, groups=groups, df_images=measure.df_images(y), least=measure.one_image(y), se_replicates=alone)


def _answers(probabilities: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the source classes that any image was given, float64 [n, classes], and labels counted from 0."""
    if probabilities.ndim != 2 or len(probabilities) != len(y):
        raise ValueError(f"probabilities have shape {list(probabilities.shape)} for {len(y)} labels; fix: give [images, source classes]")
    if len(y) < LEAST:
        raise ValueError(f"needs {LEAST} images, has {len(y)}; fix: give more")
    theta = probabilities.astype(np.float64)
    if not (theta >= 0).all() or np.abs(theta.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("rows are no probabilities (0 or more, with sum 1); fix: give the source model's softmax")
    return theta[:, theta.sum(axis=0) > 0], np.unique(y, return_inverse=True)[1]


def _expected(theta: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of each image's label [n]; sums of the probabilities by label and source class [labels, classes], and by class."""
    joint = np.zeros((int(labels.max()) + 1, theta.shape[1]))
    np.add.at(joint, labels, theta)
    marginal = joint.sum(axis=0)
    return (theta * (joint / marginal)[labels]).sum(axis=1), joint, marginal


def _evidence(eigenvalues: np.ndarray, squares: np.ndarray, rest: float, n: int) -> float:
    """Largest log density of a label vector under N(0, (F F^T + ratio I) / alpha) over ratio and alpha, but for a constant that scale takes away.

    eigenvalues: of F F^T, above 0, the largest 1; squares: of the label vector along their directions; rest: of what lies outside them.
    """

    def at(ratio: np.ndarray) -> np.ndarray:
        both = eigenvalues + ratio[:, None]
        size = (squares / both).sum(axis=1) + rest / ratio  # n / alpha at its best
        spread = np.log(both).sum(axis=1) + (n - len(eigenvalues)) * np.log(ratio)
        return -0.5 * (n * np.log(2 * np.pi * size / n) + spread + n)

    coarse = at(RATIOS)
    i = int(coarse.argmax())
    bounds = np.log(RATIOS[[max(i - 1, 0), min(i + 1, len(RATIOS) - 1)]])
    fine = optimize.minimize_scalar(lambda log: -float(at(np.exp([log]))[0]), bounds=tuple(bounds), method="bounded", options={"xatol": 1e-9})
    return max(float(coarse[i]), -float(fine.fun))


def _neighbours(x: np.ndarray, own: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the nearest images of another group, ascending, and how far they are: int64 and float64 [n, count]."""
    x = x - x.mean(axis=0)
    norms = np.einsum("ij,ij->i", x, x)
    near, distances = np.empty((len(x), count), np.int64), np.empty((len(x), count))
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        square = np.maximum(norms[rows, None] + norms - 2.0 * (x[rows] @ x.T), 0.0)
        square[own[rows, None] == own] = np.inf
        near[rows] = np.argsort(square, axis=1, kind="stable")[:, :count]
        distances[rows] = np.sqrt(np.take_along_axis(square, near[rows], axis=1))
    return near, distances


def _spread(moves: np.ndarray, groups: np.ndarray | None) -> tuple[float, float]:
    """Standard error of a mean whose images move it by moves / n, and its degrees of freedom."""
    n = len(moves)
    members = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(members, weights=moves)
    if (count := len(sums)) < LEAST:
        raise ValueError(f"needs {LEAST} images or groups, has {count}; fix: give more")
    return math.sqrt(float((sums**2).sum()) * count / (count - 1)) / n, count - 1.0


def _features(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    if features.ndim != 2 or len(features) != len(y):
        raise ValueError(f"features have shape {list(features.shape)} for {len(y)} labels; fix: give [images, features]")
    if len(y) < LEAST:
        raise ValueError(f"needs {LEAST} images, has {len(y)}; fix: give more")
    x = features.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError("features are not finite; fix: drop the rows with NaN or infinity")
    return x
