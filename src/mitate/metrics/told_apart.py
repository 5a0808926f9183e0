"""Told apart: can a classifier, trained on features of some images, tell real from synthetic among the others? Half right is not at all.

The folds of a cross-validation train on each other's test images. That the same images decide in each other's classifiers doubles the variance of
the mean AUC where the sets are alike; an interval that forgets it (DeLong's, fold by fold) held 0.5 in 84 % of worlds. Ours adds Nadeau
and Bengio's term (2003, eq. 3: test share over training share), which is that doubling and a little more.

Sets that mix their classes differently are told apart by what they show, which is no style. Told the classes, `told_apart_beside` compares parts of
one mix (metrics/mixes.py), in folds that each have that mix. Both are needed: where two whole sets have the same number of each class and
a fold has not, what it has too much of the training lacks, and the classifier learns the opposite of what it is asked (ten classes alike: an AUC below
0.47 on average, tests/test_mixes.py). What is left over where a class does not divide by the folds still costs up to 0.02.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, special
from scipy.spatial import distance

from mitate.metrics.intervals import Interval
from mitate.metrics.mixes import thinned
from mitate.metrics.neighbours import radii
from mitate.metrics.refusals import check_features
from mitate.metrics.subsampling import wilson_form
from mitate.score import Metric

FOLDS = 5
LEAST = 20  # images on either side
LEAST_GROUPS = 10  # patients, plants, or different images, on either side
NOUGHT = 1e-9  # a score nearer to 0 is rounding
NEAR = 0.5  # of the median distance of a real image to its nearest other, as the pilot's copies
PAIRED = 300  # synthetic images whose distances tell how far two of them lie apart
PENALTY = 1.0  # of the squared length of the coefficients, beside the sum of the losses (scikit-learn's 1 / C)
BLOCK = 256  # images at a time

CROSS_FITTED = "DeLong by fold, times 1 + 5/4 for shared training images (Nadeau and Bengio 2003), in Wilson's form"
TOLD_APART = Metric("told_apart", "style", "lower", LEAST, CROSS_FITTED, "AUC of cross-validated logistic regression, real against synthetic; 0.5: cannot tell")
TOLD_APART_RIGHT = Metric(
    "told_apart_right", "style", "lower", LEAST, CROSS_FITTED, "balanced accuracy of the same, a classifier two-sample test (Lopez-Paz and Oquab 2017)"
)


@dataclass(frozen=True)
class Apart:
    """How well real and synthetic images can be told apart by their features; 0.5 is not at all."""

    auc: Interval
    balanced_accuracy: Interval
    real_scores: np.ndarray  # float64 [n], log odds of being synthetic, from a classifier that has not seen the image
    fake_scores: np.ndarray  # float64 [m]
    real_folds: np.ndarray  # int64 [n]
    fake_folds: np.ndarray  # int64 [m]

    @property
    def twins(self) -> bool:
        """Whether the AUC is surely below 0.5: synthetic images have near copies among the real ones, which mislead the classifier."""
        return self.auc.high < 0.5


@dataclass(frozen=True)
class ApartBeside:
    """The synthetic images, and held-out real ones in their place, told apart from the real ones; both at `n` images."""

    n: int
    value: Apart
    floor: Apart


def told_apart(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    fake_groups: np.ndarray | None = None,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
    folds: int = FOLDS,
    confidence: float = 0.95,
) -> Apart:
    """Cross-validated AUC and balanced accuracy of logistic regression between two sets of features. 0 to 1, 0.5 when it cannot tell.

    real [n, d], fake [m, d]: features of one extractor. groups [n], fake_groups [m]: numbers of what came from one patient or plant; equal
    numbers on the two sides are one group. A group stays in one fold, and so do near copies: images nearer to each other than half of what lies
    between a real image and its nearest other (the median), and than a quarter of what lies between two synthetic ones. Else a few images
    drawn again and again would be known by heart, which is a lack of diversity and no style, and an image tested by a classifier that
    learnt its copy under the other name would score far below 0.5 (as copies that escape this still do: `Apart.twins`); that is no praise.

    labels int64 [n] and [m]: classes of two sets of one mix (`mixes.one_mix`); every fold has that mix, too, as far as whole groups allow. Leave
    them out where the sets differ in their mix: folds that are as unlike as the sets teach the classifier that difference.

    The AUC is the mean of those within the folds: scores of two classifiers are not compared. Columns are standardised by the training
    folds, both sides weigh the same, the penalty is fixed. A number above 0.5 says that something differs, not that anybody sees it.
    Raises ValueError below 20 images, or 10 groups or different images, on a side.
    """
    check_features(LEAST, real=real, synthetic=fake)
    n, m = len(real), len(fake)
    clusters = _clusters(real, fake, groups, fake_groups)
    sides = clusters[:n], clusters[n:]
    counts = [len(np.unique(side)) for side in sides]
    for which, count in zip(("real", "synthetic"), counts, strict=True):
        if count < LEAST_GROUPS:
            raise ValueError(f"needs {LEAST_GROUPS} different {which} images or groups, has {count}; fix: give more")
    fold = _folds(clusters, _strata(n, m, labels), folds, np.random.default_rng(seed))
    real_folds, fake_folds = fold[:n], fold[n:]
    real_scores, fake_scores = np.empty(n), np.empty(m)
    for k in range(folds):
        weights = _Classifier.fit(real[real_folds != k], fake[fake_folds != k])
        real_scores[real_folds == k], fake_scores[fake_folds == k] = weights.scores(real[real_folds == k]), weights.scores(fake[fake_folds == k])
    auc, by_image = _auc(real_scores, fake_scores, real_folds, fake_folds, folds)
    right, right_by_image = _right(real_scores, fake_scores)
    return Apart(
        _bounded(auc, by_image, clusters, counts, m, folds, confidence),
        _bounded(right, right_by_image, clusters, counts, m, folds, confidence),
        real_scores,
        fake_scores,
        real_folds,
        fake_folds,
    )


def told_apart_beside(
    real: np.ndarray,
    fake: np.ndarray,
    held_out: np.ndarray,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    held_groups: np.ndarray | None = None,
    labels: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    confidence: float = 0.95,
) -> ApartBeside:
    """`told_apart` of the synthetic images, and of held-out real ones in their place, at equal n.

    The larger of `fake` [m, d] and `held_out` [h, d] is thinned to the size of the smaller, once, by `seed`, class by class where labels are given; the
    real images stay whole. Groups as in `told_apart`, those of the two real sets numbered alike; labels of the three sets, of one mix.
    """
    size, rng = min(len(fake), len(held_out)), np.random.default_rng(seed)
    ours, theirs = labels[1:] if labels else (np.zeros(len(side), np.int64) for side in (fake, held_out))
    some, held = thinned(ours, size, rng=rng), thinned(theirs, size, rng=rng)
    value = told_apart(real, fake[some], seed=seed, groups=groups, labels=(labels[0], ours[some]) if labels else None, confidence=confidence)
    floor = told_apart(
        real, held_out[held], seed=seed, groups=groups, fake_groups=None if held_groups is None else held_groups[held],
        labels=(labels[0], theirs[held]) if labels else None, confidence=confidence,
    )  # fmt: skip
    return ApartBeside(size, value, floor)


@dataclass(frozen=True)
class _Classifier:
    """Logistic regression on standardised columns; positive scores say synthetic."""

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray  # [d]
    intercept: float

    @classmethod
    def fit(cls, real: np.ndarray, fake: np.ndarray) -> _Classifier:
        """The minimum of 1/2 penalty |w|^2 + the sum of the log losses, each side's weighing half of all; the intercept is free."""
        x = np.concatenate([real, fake]).astype(np.float64)
        n, m = len(real), len(fake)
        x, centre, scale = _standardised(x)
        side = np.repeat([-1.0, 1.0], [n, m])
        share = np.repeat([(n + m) / (2 * n), (n + m) / (2 * m)], [n, m])

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            margin = side * (x @ at[:-1] + at[-1])
            pull = -share * side * special.expit(-margin)
            value = float(share @ np.logaddexp(0.0, -margin)) + 0.5 * PENALTY * float(at[:-1] @ at[:-1])
            return value, np.append(x.T @ pull + PENALTY * at[:-1], pull.sum())

        found = optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-6}).x
        return cls(centre, scale, found[:-1], float(found[-1]))

    def scores(self, points: np.ndarray) -> np.ndarray:
        return ((points - self.centre) / self.scale) @ self.weights + self.intercept


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns less their means and over their deviations, and these; a column of one value is only centred. x: float64, overwritten."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale <= 1e-12 * np.abs(centre)] = 1.0
    scale[scale == 0] = 1.0
    x -= centre
    x /= scale
    return x, centre, scale


def _clusters(real: np.ndarray, fake: np.ndarray, groups: np.ndarray | None, fake_groups: np.ndarray | None) -> np.ndarray:
    """A number for each image, real ones first: the same for images of one group and for near copies. int64 [n + m]."""
    total = len(real) + len(fake)
    first: dict[object, int] = {}
    edges = []
    for i, point in enumerate((*real, *fake)):
        edges.append((i, first.setdefault(point.astype(np.float64).tobytes(), i)))
        given, j = (groups, i) if i < len(real) else (fake_groups, i - len(real))
        if given is not None:
            edges.append((i, first.setdefault(int(given[j]), i)))
    a, b = np.concatenate([np.array(edges), _near(real, fake)]).T
    links = sparse.coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(total, total))
    return sparse.csgraph.connected_components(links, directed=False)[1].astype(np.int64)


def _near(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Pairs of near copies, int64 [pairs, 2]."""
    points = _standardised(np.concatenate([real, fake]).astype(np.float64))[0]
    made = points[len(real) :][:: max(1, len(fake) // PAIRED)]
    within = NEAR * min(float(np.median(radii(points[: len(real)], ks=(1,)))), 0.5 * float(np.median(distance.pdist(made))))
    squares = np.einsum("ij,ij->i", points, points)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(points), BLOCK):
        some = slice(start, start + BLOCK)
        apart = squares[some, None] + squares[None] - 2.0 * points[some] @ points.T
        found.append(np.argwhere(apart < within * within) + (start, 0))
    return np.concatenate(found)


def _strata(n: int, m: int, labels: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """What each fold must have its share of: each class of either side. Numbers int64 [n + m], even for the real ones; 2 k + 1 is 2 k of the other side."""
    classes = np.zeros(n + m, np.int64) if labels is None else np.unique(np.concatenate(labels), return_inverse=True)[1]
    return 2 * classes + np.repeat([0, 1], [n, m])


def _folds(clusters: np.ndarray, strata: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each image, int64 [n + m]: clusters whole, the largest first, each to the fold that has least of the strata it brings; of such folds
    to one that has more of the same classes of the other side, so that what is left over meets its like; of such to that of the smallest sides."""
    count, size = int(clusters.max()) + 1, np.bincount(strata)
    shares = sparse.csr_array((1 / size[strata], (clusters, strata)), shape=(count, len(size) + len(size) % 2))
    order = rng.permutation(count)
    order = order[np.argsort(-shares.max(axis=1).toarray().ravel()[order], kind="stable")]
    sides = np.stack([np.bincount(clusters[strata % 2 == side], minlength=count) / (strata % 2 == side).sum() for side in (0, 1)], axis=1)
    filled, total, fold = np.zeros((folds, shares.shape[1])), np.zeros((folds, 2)), np.empty(count, np.int64)
    for cluster in order:
        part = slice(*shares.indptr[cluster : cluster + 2])
        brings, share = shares.indices[part], shares.data[part]
        most, others = (filled[:, brings] + share).max(axis=1), filled[:, brings ^ 1].sum(axis=1)
        fullest = (total + sides[cluster])[:, sides[cluster] > 0].max(axis=1)
        fold[cluster] = k = np.lexsort((fullest.round(9), -others.round(9), most.round(9)))[0]
        filled[k, brings] += share
        total[k] += sides[cluster]
    return fold[clusters]


def _auc(real: np.ndarray, fake: np.ndarray, real_folds: np.ndarray, fake_folds: np.ndarray, folds: int) -> tuple[float, np.ndarray]:
    """Mean AUC of the folds, and how far each image moves it (DeLong et al. 1988: its placement among the other side), [n + m]."""
    value, moves = 0.0, np.zeros(len(real) + len(fake))
    for k in range(folds):
        a, b = np.flatnonzero(real_folds == k), np.flatnonzero(fake_folds == k)
        above = (fake[b] > real[a, None]) + 0.5 * (fake[b] == real[a, None])
        mine = float(above.mean())
        value += mine / folds
        moves[a] = (above.mean(axis=1) - mine) / (folds * len(a))
        moves[len(real) + b] = (above.mean(axis=0) - mine) / (folds * len(b))
    return value, moves


def _right(real: np.ndarray, fake: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of the two sides' shares of right answers, a score of nought half right, and how far each image moves it, [n + m]."""
    sides = [0.5 + 0.5 * np.sign(np.where(np.abs(scores) < NOUGHT, 0.0, scores)) for scores in (-real, fake)]
    moves = [(side - side.mean()) / (2 * len(side)) for side in sides]
    return float(sides[0].mean() + sides[1].mean()) / 2, np.concatenate(moves)


def _bounded(value: float, moves: np.ndarray, clusters: np.ndarray, counts: list[int], m: int, folds: int, confidence: float) -> Interval:
    """A number in 0 to 1 with its interval. moves [n + m]: how far each image moves it; clusters: which vary together; counts of these on either side."""
    variance = float((np.bincount(clusters, weights=moves) ** 2).sum()) * min(counts) / (min(counts) - 1) * (1 + folds / (folds - 1))
    units, df = round(2 / (1 / counts[0] + 1 / counts[1])), min(counts) - 1.0
    low, high = wilson_form(value, variance, units=units, df=df, confidence=confidence)
    return Interval(value, low, high, m, se_images=math.sqrt(variance), df_images=df)
