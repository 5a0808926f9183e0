"""Distances from synthetic images to the images a generator was trained on, beside those of fresh real images. No attack, so no verdict.

Four measures, all of features of one extractor: the ratio of the distances to the nearest and second nearest training image; the share
nearer to the training images than to as many held-out ones; authenticity; and C_T, the test of Meehan et al. 2020 within cells. They say
*how* synthetic images lie, and a blurred or a noisy generator moves them as much as a leak does. metrics/membership.py asks what an
attacker learns from that, and the verdict rests on it.

Distances are exact (metrics/nearest.py): a copy is at distance 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from mitate.metrics.distances import Distances
from mitate.metrics.intervals import Interval, clopper_pearson, wilson
from mitate.metrics.neighbours import AUTHENTICITY as AUTHENTICITY
from mitate.metrics.ranks import separation, z_of_ranks
from mitate.metrics.refusals import check_features
from mitate.score import Metric

LEAST = 10  # images on either side
QUANTILE = 0.05
CELLS = 3  # as dgm-eval (Stein et al. 2023)
CELL_SYNTHETIC, CELL_HELD_OUT = 20, 10  # images a cell needs: the first as Meehan et al. 2020; the second so that z is near normal
STARTS, ROUNDS = 5, 100  # of k-means

DISTANCE_RATIO = Metric(
    "distance_ratio",
    "privacy",
    "higher",
    LEAST,
    "order statistics around the quantile (Thompson 1936), for this training set",
    "5 % quantile of the distances to the nearest over the second nearest training image; after the ratio test of Lowe 2004",
)
NEARER = Metric(
    "nearer_to_train",
    "privacy",
    "lower",
    LEAST,
    "Clopper and Pearson 1934 with the effective number of real images (Kish 1965; Korn and Graubard 1998)",
    "share nearer to train than to an equally large hold-out; 0.5 is no leak",
)
C_T = Metric("c_t", "privacy", "neither", LEAST, "normal, by the variance of each cell's ranks, at least 1 (DeLong et al. 1988)", "Meehan et al. 2020")


@dataclass(frozen=True)
class Reach:
    """How far each query is from the training set."""

    first: np.ndarray  # float64 [m], distance to the nearest training image
    second: np.ndarray  # float64 [m], to the second nearest
    nearest: np.ndarray  # int64 [m], row of the nearest; the first of equals

    @property
    def ratios(self) -> np.ndarray:
        """float64 [m], 0 to 1: 0 for a copy, even of an image that the training set holds twice."""
        return np.where(self.first > 0, self.first / np.where(self.second > 0, self.second, 1.0), 0.0)


@dataclass(frozen=True)
class Cell:
    """One cell of the training images. z: below 0 where synthetic images lie nearer to them than held-out ones; None where too few were there."""

    z: float | None
    weight: float  # its part of the whole; 0 where it is left out
    n_train: int
    n_held_out: int
    n_synthetic: int
    note: str = ""


@dataclass(frozen=True)
class DataCopying:
    """C_T and its cells. `value` is None where every cell was left out, and `note` says why."""

    value: Interval | None
    cells: tuple[Cell, ...]
    note: str = ""


def reach(queries: np.ndarray, train: np.ndarray) -> Reach:
    """Distances from each query to its nearest and second nearest training image.

    queries [m, d], train [n, d]: float32 or float64 features of one extractor. Raises ValueError below 10 images on either side.
    """
    check_features(LEAST, queries=queries, training=train)
    squares, nearest = Distances(train, queries).to_nearest(1, 0, (1, 2))
    distances = np.sqrt(squares)
    return Reach(distances[:, 0], distances[:, 1], nearest)


def distance_ratio(found: Reach, *, share: float = QUANTILE, confidence: float = 0.95) -> Interval:
    """The quantile (by default 5 %) of the ratios of distances to the nearest and second nearest training image. 0 to 1; 0 where so many are copies.

    Read it beside that of fresh real images, `distance_ratio(reach(held_out, train))`. A training set with near-duplicates hides copies: their
    two nearest are alike. The low end is 0 where fewer than 1 in 20 cannot be told apart from none (under 72 images at 95 %).
    """
    ordered = np.sort(found.ratios)
    n, spill = len(ordered), (1 - confidence) / 2
    below = special.bdtr(np.arange(n), n, share)  # chance of at most so many below the quantile
    low, high = int((below <= spill).sum()), int((1 - below > spill).sum())
    value = float(ordered[max(0, math.ceil(share * n - 1e-9) - 1)])
    return Interval(value, float(ordered[low - 1]) if low else 0.0, float(ordered[high]) if high < n else 1.0, n)


def authenticity(found: Reach, train: np.ndarray, *, confidence: float = 0.95) -> Interval:
    """Share farther from its nearest training image than that one is from its nearest other training image. 0 to 1; low is bad.

    found: of synthetic images, or of held-out ones for the floor, which is far below 1 too. AuthPct of Stein et al. 2023 is 100 times it.
    """
    gaps = np.sqrt(Distances(train).radii(0, (1,))[:, 0])
    return wilson(int((found.first > gaps[found.nearest]).sum()), len(found.first), confidence=confidence)


def nearer_to_train(
    synthetic: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    seed: int,
    groups_train: np.ndarray | None = None,
    groups_held_out: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Share of synthetic images nearer to the training images than to as many held-out ones; 0.5 when nothing leaks. Ties count half.

    The larger side is thinned to the size of the smaller one, once, by `seed`. groups: int [n] and [h], images of one patient or plant.

    The chance is in the real images: with a few of them a share far from 0.5 is luck, however many synthetic ones agree, so the
    synthetic ones are no trials. Each votes for its nearest real image (or group of them), and which of those were trained on is a coin for
    each. Votes v_i then weigh as (sum v)^2 / sum v^2 coins. It is an interval for the question whether the share is 0.5, no other.
    Raises ValueError below 10 images, or where a group is on both sides.
    """
    check_features(LEAST, synthetic=synthetic, training=train, **{"held-out": held_out})
    own, other = checked_groups(groups_train, groups_held_out, len(train), len(held_out))
    size, rng = min(len(train), len(held_out)), np.random.default_rng(seed)
    some, others = rng.permutation(len(train))[:size], rng.permutation(len(held_out))[:size]
    to_train, to_held_out = reach(synthetic, train[some]), reach(synthetic, held_out[others])
    voices = np.where(to_train.first < to_held_out.first, 1.0, np.where(to_train.first == to_held_out.first, 0.5, 0.0))
    votes = np.bincount(own[some][to_train.nearest], weights=voices, minlength=int(max(own.max(), other.max())) + 1)
    value = float(voices.mean())
    votes += np.bincount(other[others][to_held_out.nearest], weights=1 - voices, minlength=len(votes))
    coins = len(synthetic) ** 2 / float((votes**2).sum())
    return replace(clopper_pearson(value * coins, coins, confidence=confidence), value=value, n=len(synthetic))


def data_copying(synthetic: np.ndarray, train: np.ndarray, held_out: np.ndarray, *, seed: int, cells: int = CELLS, confidence: float = 0.95) -> DataCopying:
    """C_T: do synthetic images lie nearer to the training images than held-out ones do? Below 0: nearer; far above 0: they miss the training images.

    Each cell of a k-means of the training images has a z of Mann and Whitney for its distances, synthetic against held-out; C_T is their
    mean, weighted by the cells' shares of the held-out images. Cells with fewer than 20 synthetic or 10 held-out images are left out and say so.
    Standard normal with variance sum w^2 for fresh images. The paper's C_T takes no ties into account and corrects for continuity, which
    moves z by less than 0.5 of a rank; distances are of the features as they are (dgm-eval first takes 64 principal components).

    Residual noise in the images moves C_T up and blur moves it down, whether or not training images are copied.
    """
    check_features(LEAST, synthetic=synthetic, training=train, **{"held-out": held_out})
    which_train, centres = k_means(train, cells, seed=seed)
    which_held_out, which_synthetic = _assign(held_out, centres), _assign(synthetic, centres)
    found, spreads = [], []
    for c in range(len(centres)):
        mine, fresh, made = train[which_train == c], held_out[which_held_out == c], synthetic[which_synthetic == c]
        if not len(mine) or len(made) < CELL_SYNTHETIC or len(fresh) < CELL_HELD_OUT:
            why = f"needs {CELL_SYNTHETIC} synthetic and {CELL_HELD_OUT} held-out images, has {len(made)} and {len(fresh)}"
            found.append(Cell(None, 0.0, len(mine), len(fresh), len(made), why))
            continue
        near, fresh_near = _nearest(made, mine), _nearest(fresh, mine)
        found.append(Cell(z_of_ranks(near, fresh_near), len(fresh) / len(held_out), len(mine), len(fresh), len(made)))
        null = (len(near) + len(fresh_near) + 1) / (12 * len(near) * len(fresh_near))
        spreads.append(max(1.0, separation(near, fresh_near).auc.se ** 2 / null))
    total = sum(cell.weight for cell in found)
    if not total:
        return DataCopying(None, tuple(found), f"no cell of {len(found)} has {CELL_SYNTHETIC} synthetic and {CELL_HELD_OUT} held-out images; fix: give more")
    found = [replace(cell, weight=cell.weight / total) for cell in found]
    used = [(cell.weight, cell.z) for cell in found if cell.z is not None]
    value = sum(w * z for w, z in used)
    se = math.sqrt(sum(w**2 * spread for (w, _), spread in zip(used, spreads, strict=True)))
    half = float(special.ndtri(0.5 + confidence / 2)) * se
    return DataCopying(Interval(value, value - half, value + half, len(synthetic), se_images=se), tuple(found))


def k_means(points: np.ndarray, k: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each point, int64 [n], and the centres, float64 [k, d]: the best of five starts (k-means++, Arthur and Vassilvitskii 2007)."""
    if not 1 <= k <= len(points):
        raise ValueError(f"{k} cells of {len(points)} images; fix: ask for fewer")
    rng = np.random.default_rng(seed)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(STARTS):
        centres = _spread_out(points, k, rng)
        which = _assign(points, centres)
        for _ in range(ROUNDS):
            for c in np.unique(which):
                centres[c] = points[which == c].mean(axis=0, dtype=np.float64)
            before, which = which, _assign(points, centres)
            if np.array_equal(before, which):
                break
        cost = sum(float(((points[which == c] - centres[c]) ** 2).sum()) for c in range(k))
        if best is None or cost < best[0]:
            best = cost, which, centres
    assert best is not None
    return best[1], best[2]


def checked_groups(train: np.ndarray | None, held_out: np.ndarray | None, n: int, h: int) -> tuple[np.ndarray, np.ndarray]:
    """Group numbers of both sides, int64 [n] and [h]; an image without one is its own. Raises ValueError where a group is on both sides."""
    if train is None and held_out is None:
        return np.arange(n), np.arange(n, n + h)
    if train is None or held_out is None or len(train) != n or len(held_out) != h:
        raise ValueError(f"groups do not fit {n} training and {h} held-out images; fix: give one group an image, for both sets")
    if len(both := np.intersect1d(train, held_out)):
        raise ValueError(f"{len(both)} groups are in both the training and the held-out images, such as {both[0]}; fix: split by group")
    numbers = np.unique(np.concatenate([train, held_out]), return_inverse=True)[1]
    return numbers[:n], numbers[n:]


def _nearest(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.sqrt(Distances(points, queries).to_nearest(1, 0, (1,))[0][:, 0])


def _spread_out(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Starting centres, float64 [k, d]: each drawn with chance in proportion to the squared distance from those before."""
    centres = [points[rng.integers(len(points))].astype(np.float64)]
    apart = np.full(len(points), np.inf)
    for _ in range(k - 1):
        apart = np.minimum(apart, ((points - centres[-1]) ** 2).sum(axis=1))
        total = np.cumsum(apart)
        place = int(np.searchsorted(total, rng.random() * total[-1], side="right")) if total[-1] > 0 else int(rng.integers(len(points)))
        centres.append(points[min(place, len(points) - 1)].astype(np.float64))
    return np.stack(centres)


def _assign(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each point, int64 [n]."""
    middle = centres.mean(axis=0)
    shifted = centres - middle
    return ((shifted**2).sum(axis=1) - 2.0 * ((points - middle) @ shifted.T)).argmin(axis=1)
