"""Membership inference: can an attacker tell the images a model was trained on from others like them?

An attack gives every image a score, higher for "was trained on", and is judged by its ranks: AUC with its interval, and how many members lie
above all but 1 in 100 (1 in 1,000) non-members. Members are the training images, non-members held-out ones drawn in the same way.

Three sorts of attack. On a generator, from its samples only (`sample_scores`): *near*, how near the nearest sample is (the full black-box attack
of Chen et al. 2020); *ratio*, how near beside what is usual around that image (the density ratio of van Breugel et al. 2023, with
nearest-neighbour densities); *votes*, how many samples have it as their nearest real image (after Hilprecht et al. 2019). From a model's loss of
each image: `loss_scores`. On a classifier: offline LiRA (Carlini et al. 2022) from shadow models, beside the plain threshold on its confidence.

All of it stands on one thing: without a leak members and non-members are exchangeable. `told_apart` tests that without the model; where the two
can be told apart blindly (other patients, another camera), an attack's AUC says nothing of a leak (Das et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from mitate.metrics.distances import Distances
from mitate.metrics.intervals import Interval
from mitate.metrics.leakage import checked_groups
from mitate.metrics.nearest import BLOCK
from mitate.metrics.ranks import Tail, separation, smallest_auc, tail
from mitate.runtime import seed_of
from mitate.score import Metric

LEAST = 10  # members, and non-members
LEAST_SHADOWS = 2  # models that did not see an image
K = 5  # neighbours of the blind test
DRAWS = 999  # of its labels
PAIRS = 2**20  # numbers held at once
INTERVAL = "the wider of Brunner and Munzel 2000 (groups: Obuchowski 1997) and Newcombe 2006, method 5"
EXACT = "Clopper and Pearson 1934, for this threshold"

AUC = Metric("membership_auc", "privacy", "lower", LEAST, INTERVAL, "distance to the nearest sample: Chen et al. 2020; 0.5 is chance")
RATIO_AUC = Metric("membership_ratio_auc", "privacy", "lower", LEAST, INTERVAL, "ratio of densities: van Breugel et al. 2023; 0.5 is chance")
VOTES_AUC = Metric("membership_votes_auc", "privacy", "lower", LEAST, INTERVAL, "number of samples nearest to the image: after Hilprecht et al. 2019")
LOSS_AUC = Metric("membership_loss_auc", "privacy", "lower", LEAST, INTERVAL, "loss of the image: Yeom et al. 2018; 0.5 is chance")
LIRA_AUC = Metric("lira_auc", "privacy", "lower", LEAST, INTERVAL, "Carlini et al. 2022, offline; 0.5 is chance")
THRESHOLD_AUC = Metric("threshold_auc", "privacy", "lower", LEAST, INTERVAL, "global threshold on the confidence: Yeom et al. 2018; 0.5 is chance")
CAUGHT_1_IN_100 = Metric("members_caught_at_1_in_100", "privacy", "lower", 100, EXACT, "Carlini et al. 2022; chance is 0.01")
CAUGHT_1_IN_1000 = Metric("members_caught_at_1_in_1000", "privacy", "lower", 1000, EXACT, "Carlini et al. 2022; chance is 0.001")
LOSS_CAUGHT = Metric("loss_caught_at_1_in_100", "privacy", "lower", 100, EXACT, "by the loss of the image; Carlini et al. 2022; chance is 0.01")
LIRA_CAUGHT = Metric("lira_caught_at_1_in_100", "privacy", "lower", 100, EXACT, "by offline LiRA; Carlini et al. 2022; chance is 0.01")

Spread = Literal["shared", "own"]


@dataclass(frozen=True)
class Attack:
    """How well one attack tells members from non-members."""

    name: str
    auc: Interval
    at_1_in_100: Tail | None  # None: too few non-members
    at_1_in_1000: Tail | None
    surest: Tail  # at 1 in 100 non-members above the threshold, or none where there are fewer than 100
    p: float  # one-sided, of no more than chance: twice the smaller of AUC's and the surest's
    n_members: int
    n_others: int
    units: tuple[int, int]  # groups of members and of non-members; images where there are none
    confidence: float

    def smallest_auc(self, *, tests: int = 1) -> float:
        """The smallest AUC that would have been seen four times out of five where p is compared with (1 - confidence) / 2 / tests."""
        return smallest_auc(*self.units, confidence=1 - (1 - self.confidence) / (2 * tests))

    @property
    def notes(self) -> dict[str, str]:
        """What was not measured, and why."""
        found = {metric.name: part for metric, part in ((CAUGHT_1_IN_100, self.at_1_in_100), (CAUGHT_1_IN_1000, self.at_1_in_1000))}
        least = {metric.name: metric.least_n for metric in (CAUGHT_1_IN_100, CAUGHT_1_IN_1000)}
        return {name: f"needs {least[name]:,} non-members, has {self.n_others:,}" for name, part in found.items() if part is None}


@dataclass(frozen=True)
class OnClassifier:
    """Offline LiRA, and the attack it is measured against."""

    lira: Attack
    threshold: Attack


@dataclass(frozen=True)
class Blind:
    """Whether members and non-members can be told apart without the model. p: by `draws` random relabellings, exact."""

    agreement: float  # share of the nearest neighbours that are on the same side
    expected: float  # its mean over relabellings
    p: float
    draws: int


@dataclass(frozen=True)
class SampleScores:
    """Scores of members and non-members, float64 [n] and [h], by each attack on samples."""

    near: tuple[np.ndarray, np.ndarray]
    ratio: tuple[np.ndarray, np.ndarray]
    votes: tuple[np.ndarray, np.ndarray]


def attack(
    name: str,
    members: np.ndarray,
    others: np.ndarray,
    *,
    groups_members: np.ndarray | None = None,
    groups_others: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Attack:
    """How well scores tell members from non-members. members [n], others [h]: scores, higher for "was trained on"; groups: int [n] and [h].

    1 in 100 is measured from 100 non-members on, 1 in 1,000 from 1,000. Raises ValueError below 10 of either.
    """
    if min(len(members), len(others)) < LEAST:
        raise ValueError(f"needs {LEAST} members and non-members, has {len(members)} and {len(others)}; fix: give more training or held-out images")
    groups = {"groups_first": groups_members, "groups_second": groups_others}
    found = separation(members, others, **groups, confidence=confidence)
    surest = tail(members, others, 0.01, **groups, confidence=confidence)
    rare = tail(members, others, 0.001, **groups, confidence=confidence) if len(others) >= CAUGHT_1_IN_1000.least_n else None
    units = [len(x) if g is None else len(np.unique(g)) for x, g in ((members, groups_members), (others, groups_others))]
    return Attack(
        name,
        found.auc,
        surest if len(others) >= CAUGHT_1_IN_100.least_n else None,
        rare,
        surest,
        min(1.0, 2 * min(found.p, surest.p)),
        len(members),
        len(others),
        (units[0], units[1]),
        confidence,
    )


# on a generator, from its samples


def near_scores(candidates: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Minus the distance to the nearest sample, float64 [n]. candidates [n, d], synthetic [m, d]: features of one extractor.

    Copies that were flipped or shifted are far in features that see it: give the samples' features flipped and shifted too (`views`).
    """
    return -_to_nearest(candidates, synthetic)


def ratio_scores(candidates: np.ndarray, synthetic: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """r / (r + s), float64 [n], 0 to 1: distance r to the nearest of `reference`, s to the nearest sample. 1 for a copy, 0.5 where both are 0.

    It rises with r / s, so with the ratio of the densities around the candidate. reference [r, d]: fresh real images, or samples of a generator
    that saw no candidate; never the candidates themselves (`sample_scores` is for those).
    """
    return _ratio(_to_nearest(candidates, reference), _to_nearest(candidates, synthetic))


def sample_scores(
    train: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    *,
    views: np.ndarray | None = None,
    groups_train: np.ndarray | None = None,
    groups_held_out: np.ndarray | None = None,
) -> SampleScores:
    """Scores of all training and held-out images by the three attacks on samples, from one pass over the distances.

    train [n, d], held_out [h, d], synthetic [m, d]: features of one extractor; views [v, d]: those of the samples flipped and shifted, which the
    attacks by distance look at too. The ratio's reference is the nearest other image of both real sets together (of another group): that treats
    members and non-members alike, as a reference from one side would not. Votes: how many samples have the image as their nearest real one.
    """
    pool, n = np.concatenate([train, held_out]), len(train)
    groups = np.concatenate(checked_groups(groups_train, groups_held_out, n, len(held_out)))
    sample = _to_nearest(pool, synthetic if views is None else np.concatenate([synthetic, views]))
    ratio = _ratio(_neighbours(pool, groups, 1)[1][:, 0], sample)
    votes = np.bincount(Distances(pool, synthetic).to_nearest(1, 0, (1,))[1], minlength=len(pool)).astype(np.float64)
    return SampleScores((-sample[:n], -sample[n:]), (ratio[:n], ratio[n:]), (votes[:n], votes[n:]))


def views(images: np.ndarray, *, shift: int = 2) -> np.ndarray:
    """The images flipped left to right and shifted by `shift` pixels in eight directions, edges repeated: uint8 [17 m, h, w, c] from [m, h, w, c].

    Their features beside those of the samples let an attack see through the augmentation that a generator may have learnt.
    """
    if images.ndim != 4 or not 0 < shift < min(images.shape[1:3]):
        raise ValueError(f"images have shape {images.shape}, shift is {shift}; fix: give [images, height, width, channels] and a smaller shift")
    h, w = images.shape[1:3]
    wide = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    steps = [(i, j) for i in (0, shift, 2 * shift) for j in (0, shift, 2 * shift) if (i, j) != (shift, shift)]
    shifted = [wide[:, i : i + h, j : j + w] for i, j in steps]
    return np.concatenate([*shifted, *(x[:, :, ::-1] for x in [images, *shifted])])


# from a loss


def loss_scores(loss: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Minus the loss of each image, float64 [n]: an ELBO or a diffusion loss, [n], or [n, draws] to be averaged.

    reference: the same under a model that saw none of the images; then the difference, which takes out how hard an image is (Watson et al. 2022).
    Average many draws of noise and time: one draw hides most of what a diffusion model learnt by heart.
    """
    own = _averaged(loss)
    if reference is None:
        return -own
    other = _averaged(reference)
    if own.shape != other.shape:
        raise ValueError(f"losses of {len(own)} images, reference losses of {len(other)}; fix: give the same images")
    return other - own


# on a classifier


def log_odds_of_logits(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """phi = log(p / (1 - p)) of the true class, float64 [..., n], from logits [..., n, k] and classes y [n]; no p is ever rounded to 1.

    The true class's logit less the log of the sum of the others' exponentials (Carlini et al. 2022 use the same for numerical reasons).
    """
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] < 2 or logits.shape[-2] != len(y):
        raise ValueError(f"logits have shape {logits.shape} for {len(y)} images; fix: give [..., images, classes] with two classes or more")
    true = np.arange(logits.shape[-1]) == np.asarray(y)[:, None]
    own = np.broadcast_to(true, logits.shape)
    return np.where(own, logits, 0.0).sum(axis=-1) - special.logsumexp(np.where(own, -np.inf, logits), axis=-1)


def log_odds_of_probabilities(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """phi from probabilities [..., n, k]: log p less the log of the sum of the others. Give logits where there are any.

    Probabilities below the least normal float32 count as that, so a confidence that was rounded to 1 ties with others rounded so.
    """
    least = float(np.finfo(np.float32).tiny)
    return log_odds_of_logits(np.log(np.maximum(np.asarray(probabilities, np.float64), least)), y)


def lira_scores(target: np.ndarray, shadow: np.ndarray, inside: np.ndarray, *, spread: Spread = "shared") -> np.ndarray:
    """How far the target model's phi lies above that of models that did not see the image, in their standard deviations. float64 [n].

    target [n]: phi of the model under attack. shadow [models, n]: phi of shadow models; inside: bool [models, n], whether each trained on the image.
    Offline and one-sided: the normal score z = (phi - mean) / deviation, whose Phi(z) is the paper's 1 - Pr[Z > phi] without
    running into 1. spread: "own" takes each image's own deviation, "shared" that of all images, pooled within images; the paper finds
    the shared one better with few models. Raises ValueError where an image has fewer than 2 models that did not see it.
    """
    target, shadow, inside = np.asarray(target, np.float64), np.asarray(shadow, np.float64), np.asarray(inside, bool)
    if shadow.shape != inside.shape or shadow.shape[1:] != target.shape:
        raise ValueError(f"phi of {shadow.shape} shadow models, marks of {inside.shape}, {target.shape} images; fix: give [models, images] and [images]")
    if not (np.isfinite(target).all() and np.isfinite(shadow[~inside]).all()):
        raise ValueError("phi is not finite; fix: take it from logits (log_odds_of_logits)")
    count = (~inside).sum(axis=0)
    if (least := int(count.min())) < LEAST_SHADOWS:
        raise ValueError(f"needs {LEAST_SHADOWS} shadow models that did not see an image, one has {least}; fix: train more shadow models")
    mean = np.where(inside, 0.0, shadow).sum(axis=0) / count
    squares = (np.where(inside, 0.0, shadow - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / (count - 1)) if spread == "own" else np.full(len(target), np.sqrt(squares.sum() / (count - 1).sum()))
    if not (deviation > 0).all():
        raise ValueError("shadow models agree to the last digit on an image; fix: use spread='shared', or shadow models that differ")
    return (target - mean) / deviation


def on_classifier(
    target: np.ndarray,
    members: np.ndarray,
    shadow: np.ndarray,
    inside: np.ndarray,
    *,
    spread: Spread = "shared",
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> OnClassifier:
    """Offline LiRA beside the global threshold on phi. members: bool [n], which images the target model was trained on; the rest as `lira_scores`."""
    members = np.asarray(members, bool)
    scores = lira_scores(target, shadow, inside, spread=spread)

    def of(name: str, values: np.ndarray) -> Attack:
        parts = (None, None) if groups is None else (groups[members], groups[~members])
        return attack(name, values[members], values[~members], groups_members=parts[0], groups_others=parts[1], confidence=confidence)

    return OnClassifier(of("lira", scores), of("threshold", np.asarray(target, np.float64)))


def halves(y: np.ndarray, *, pairs: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Which images each shadow model trains on, bool [2 * pairs, n]: rows 2 i and 2 i + 1 are two halves that make up the whole.

    y: int64 [n], classes; groups: int [n]. Halves hold about as many groups (images) of each class, and whole groups: a patient on both sides
    would make held-out images look known. Every image is out of exactly `pairs` models, so that all have as many to be judged by.
    Raises ValueError where a half would lack a class.
    """
    y = np.asarray(y)
    units, whose = np.unique(np.arange(len(y)) if groups is None else groups, return_inverse=True)
    classes = np.unique(y)
    kind = np.array([np.bincount(np.searchsorted(classes, y[whose == u])).argmax() for u in range(len(units))])  # a group's most frequent class
    found = np.zeros((2 * pairs, len(y)), bool)
    for pair in range(pairs):
        chance = np.random.default_rng(seed_of("halves", seed, pair))
        order = chance.permutation(len(units))
        order = order[np.argsort(kind[order], kind="stable")]
        side = np.zeros(len(units), bool)
        side[order[int(chance.integers(2)) :: 2]] = True  # every other group, class after class
        found[2 * pair], found[2 * pair + 1] = side[whose], ~side[whose]
    if any(len(np.unique(y[half])) < len(classes) for half in found):
        fewest = min(len(np.unique(whose[y == c])) for c in classes)
        raise ValueError(f"needs 2 held-out images (groups) of each class in either half, has {fewest} of one; fix: hold out more images")
    return found


# without a model


def told_apart(
    train: np.ndarray, held_out: np.ndarray, *, seed: int, groups_train: np.ndarray | None = None, groups_held_out: np.ndarray | None = None, k: int = K
) -> Blind:
    """Whether training and held-out images can be told apart without any model: do neighbours sit on the same side more often than chance?

    Nearest-neighbour test of Schilling 1986, by 999 random relabellings of the images (of the groups, whose own images are no neighbours), so p
    holds at every size. Needs more than k images besides an image's own group. Blind to what the features do not see.
    """
    n, h = len(train), len(held_out)
    if min(n, h) < LEAST:
        raise ValueError(f"needs {LEAST} training and held-out images, has {n} and {h}; fix: give more")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n + h)  # equally near neighbours are then taken in an order that knows no side
    pool = np.concatenate([train, held_out])[order]
    numbers = np.unique(np.concatenate(checked_groups(groups_train, groups_held_out, n, h)), return_inverse=True)[1][order]
    nearest = _neighbours(pool, numbers, k)[0]
    count = int(numbers.max()) + 1
    side = np.zeros(count, bool)
    side[numbers[order < n]] = True

    def agreement(sides: np.ndarray) -> float:
        of = sides[numbers]
        return float((of[nearest] == of[:, None]).mean())

    seen = agreement(side)
    drawn = np.array([agreement(side[rng.permutation(count)]) for _ in range(DRAWS)])
    return Blind(seen, float(drawn.mean()), (1 + int((drawn >= seen - 1e-12).sum())) / (DRAWS + 1), DRAWS)


def _neighbours(points: np.ndarray, groups: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest points of other groups, int64 [n, k], and their distances from differences, float64 [n, k], ascending."""
    n = len(points)
    if n - int(np.bincount(groups).max()) < k:
        raise ValueError(f"needs {k} images besides those of a group, has {n - int(np.bincount(groups).max())}; fix: give more groups")
    rows = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)
    norms = np.einsum("ij,ij->i", rows, rows)
    nearest = np.empty((n, k), np.int64)
    for at in range(0, n, BLOCK):
        some = slice(at, at + BLOCK)
        tile = norms[some, None] + norms - 2.0 * (rows[some] @ rows.T)
        tile[groups[some, None] == groups] = np.inf
        nearest[some] = np.argpartition(tile, k - 1, axis=1)[:, :k]
    distances = np.empty((n, k))
    step = max(1, PAIRS // (k * points.shape[1]))
    for at in range(0, n, step):
        some = slice(at, at + step)
        distances[some] = np.linalg.norm(points[some, None].astype(np.float64) - points[nearest[some]], axis=2)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _to_nearest(candidates: np.ndarray, points: np.ndarray) -> np.ndarray:
    for which, some in (("candidates", candidates), ("samples", points)):
        if some.ndim != 2 or some.shape[1] != candidates.shape[1]:
            raise ValueError(f"features of the {which} have shape {some.shape}; fix: give [images, features] of one extractor")
        if len(some) < LEAST:
            raise ValueError(f"needs {LEAST} {which}, has {len(some)}; fix: give more")
    return np.sqrt(Distances(points, candidates).to_nearest(1, 0, (1,))[0][:, 0])


def _ratio(reference: np.ndarray, sample: np.ndarray) -> np.ndarray:
    total = reference + sample
    return np.where(total > 0, reference / np.where(total > 0, total, 1.0), 0.5)


def _averaged(loss: np.ndarray) -> np.ndarray:
    loss = np.asarray(loss, np.float64)
    if loss.ndim not in (1, 2):
        raise ValueError(f"losses have shape {loss.shape}; fix: give [images] or [images, draws]")
    return loss if loss.ndim == 1 else loss.mean(axis=1)
