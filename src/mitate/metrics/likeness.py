"""Fidelity and diversity of one synthetic set: every metric of features at equal n, beside what held-out real images score in its place.

Most of these numbers move with how many images there are, so the synthetic and the held-out set are measured at the number of the smaller one
(metrics/subsampling.at_equal_n); the real images stay whole. Intervals are by parts drawn without replacement, value and floor sharing each
draw, so that their difference has an interval of its own. Two go other ways: the kernel distance is unbiased at every n, uses all images
and has its own interval; Frechet distance at infinity has none.

Where the two mix their classes differently, precision and density of the held-out images are weighted to the synthetic ones' mix: both are
means over images, and a class that is hard to draw well, or has few real images, is so for either. The other numbers see whole sets, where a
class that is lacking or too common is a difference like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mitate.metrics import clusters as cl
from mitate.metrics import frechet as fr
from mitate.metrics import kernel as ke
from mitate.metrics import neighbours as nb
from mitate.metrics import vendi as ve
from mitate.metrics.intervals import Interval
from mitate.metrics.line import Line
from mitate.metrics.subsampling import SUBSAMPLED, at_equal_n, subsampled
from mitate.score import Metric

VENDI_CLASS = Metric("vendi_within_class", "diversity", "higher", ve.LEAST, SUBSAMPLED, "the same within each class, the mean")
BY_NEIGHBOURS = (nb.PRECISION, nb.DENSITY, nb.RECALL, nb.COVERAGE, cl.INTRA_CLUSTER)
METRICS = (fr.FRECHET, fr.FRECHET_INFINITY, nb.PRECISION, nb.DENSITY, nb.RECALL, nb.COVERAGE, ve.VENDI, VENDI_CLASS, cl.INTRA_CLUSTER)


def likeness(
    real: np.ndarray,
    fake: np.ndarray,
    held_out: np.ndarray | None,
    *,
    seed: int,
    labels: np.ndarray | None = None,
    held_labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    held_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> tuple[Line, ...]:
    """Every metric of fidelity and diversity, the synthetic images in one column and held-out real ones, in their place, in the other.

    real [n, d], fake [m, d], held_out [h, d] or None: features of one extractor. labels [m], held_labels [h]: classes, -1 for none; groups [n],
    held_groups [h]: real images that vary together. Metrics that need more images than there are say so in their note; below 20 images of a
    set or 5 groups there are values without intervals.
    """
    others = fake if held_out is None else np.concatenate([fake, held_out])
    told = np.concatenate([_known(labels, len(fake)), *([] if held_out is None else [_known(held_labels, len(held_out))])])
    numbers = _Numbers(real, others, told, len(fake))
    ours, theirs = np.arange(len(fake)), np.arange(len(fake), len(others))
    try:
        value, floor, apart = _with_intervals(numbers, ours, theirs, seed=seed, groups=groups, held_groups=held_groups, confidence=confidence)
        why = ""
    except ValueError as few:
        value, floor, apart, why = *_without(numbers, ours, theirs, seed), {}, str(few)
    lines = [_kernel(real, fake, held_out, confidence)]
    for metric in METRICS:
        if metric is fr.FRECHET_INFINITY:
            lines.append(_infinity(real, *(others[_some(side, min(len(ours), len(theirs) or len(ours)), seed)] for side in (ours, theirs)), seed=seed))
            continue
        mine = value[metric.name]
        if np.isnan(mine.value):
            lines.append(Line(metric, None, note=numbers.why.get(metric.name, "some part of the images has no such number; fix: give more")))
            continue
        beside = floor.get(metric.name)
        lines.append(Line(metric, _plain(mine), _plain(beside) if beside and not np.isnan(beside.value) else None, why, _spanned(apart.get(metric.name))))
    return tuple(lines)


class _Numbers:
    """All metrics of rows of the real images and rows of others, by name; nan where there are too few, and the first reason for it in `why`.

    Rows of others are all synthetic ones, before row `held_from`, or all held-out ones.
    """

    def __init__(self, real: np.ndarray, others: np.ndarray, labels: np.ndarray, held_from: int) -> None:
        self.real, self.others, self.labels, self.held_from = real, others, labels, held_from
        made = labels[:held_from]
        self.mix = np.bincount(made[made >= 0], minlength=labels.max() + 2)  # synthetic images of each class; 0 for label -1, the last
        self.why: dict[str, str] = {}

    def __call__(self, real_rows: np.ndarray, rows: np.ndarray) -> Mapping[str, float]:
        real, some = self.real[real_rows], self.others[rows]
        found = {metric.name: np.nan for metric in BY_NEIGHBOURS}
        try:
            near = nb.neighbourhood(real, some)
            balls, weights = near.real_balls[:, near.column(nb.K)], self._weights(rows)
            found[nb.PRECISION.name], found[nb.DENSITY.name] = np.average(balls > 0, weights=weights), np.average(balls / nb.K, weights=weights)
            found[nb.RECALL.name] = nb.recall(near).value
            found[nb.COVERAGE.name] = nb.coverage(near)
            found[cl.INTRA_CLUSTER.name] = cl.intra_cluster(some, near.nearest_real, n_real=len(real)).value
        except ValueError as few:
            for name in (name for name, value in found.items() if np.isnan(value)):
                self.why.setdefault(name, str(few))
        for metric, measure in (
            (fr.FRECHET, lambda: fr.frechet(real, some)),
            (ve.VENDI, lambda: ve.vendi(some)),
            (VENDI_CLASS, lambda: self._within(some, rows)),
        ):
            try:
                found[metric.name] = measure()
            except ValueError as few:
                found[metric.name] = np.nan
                self.why.setdefault(metric.name, str(few))
        return found

    def _weights(self, rows: np.ndarray) -> np.ndarray | None:
        """What each held-out image counts: by how common its class is among the synthetic ones. None where all images count alike."""
        labels = self.labels[rows]
        weights = self.mix[labels] / np.bincount(labels + 1)[labels + 1]
        return weights if rows[0] >= self.held_from and weights.any() else None

    def _within(self, some: np.ndarray, rows: np.ndarray) -> float:
        """Mean of the Vendi scores of the classes that have two images."""
        labels = self.labels[rows]
        if (labels < 0).all():
            raise ValueError("the images have no labels")
        scores = [score for k, score in ve.vendi_by_class(some, labels).items() if k >= 0 and score is not None]
        if not scores:
            raise ValueError("needs 2 images of a class, has none; fix: give more")
        return float(np.mean(scores))


Named = Mapping[str, Interval]


def _with_intervals(
    numbers: _Numbers, ours: np.ndarray, theirs: np.ndarray, *, seed: int, groups: np.ndarray | None, held_groups: np.ndarray | None, confidence: float
) -> tuple[Named, Named, Named]:
    """Value, floor, and how far the first lies above the second. ours, theirs: rows of the others; theirs may be empty."""
    real = np.arange(len(numbers.real))
    if not len(theirs):
        return subsampled(numbers, real, ours, seed=seed, groups=groups, confidence=confidence), {}, {}
    found = at_equal_n(numbers, real, ours, theirs, seed=seed, groups=groups, held_groups=held_groups, confidence=confidence)
    return found.value, found.floor, found.excess


def _without(numbers: _Numbers, ours: np.ndarray, theirs: np.ndarray, seed: int) -> tuple[Named, Named]:
    """The same at equal n, as intervals of no width."""
    real, n = np.arange(len(numbers.real)), min(len(ours), len(theirs) or len(ours))
    sides = [{name: Interval(v, v, v, n) for name, v in numbers(real, _some(side, n, seed)).items()} if len(side) else {} for side in (ours, theirs)]
    return sides[0], sides[1]


def _infinity(real: np.ndarray, fake: np.ndarray, held_out: np.ndarray, *, seed: int) -> Line:
    found: list[Interval | None] = []
    for side in (fake, held_out):
        try:
            value = fr.frechet_infinity(real, side, seed=seed).value
        except ValueError as few:
            if side is fake:
                return Line(fr.FRECHET_INFINITY, None, note=str(few))
            found.append(None)
        else:
            found.append(Interval(value, value, value, len(side)))
    return Line(fr.FRECHET_INFINITY, found[0], found[1])


def _kernel(real: np.ndarray, fake: np.ndarray, held_out: np.ndarray | None, confidence: float) -> Line:
    try:
        value = ke.kernel_distance(real, fake, confidence=confidence)
        return Line(ke.KERNEL_DISTANCE, value, ke.kernel_distance(real, held_out, confidence=confidence) if held_out is not None else None)
    except ValueError as few:
        return Line(ke.KERNEL_DISTANCE, None, note=str(few))


def _known(labels: np.ndarray | None, n: int) -> np.ndarray:
    return np.full(n, -1, dtype=np.int64) if labels is None else labels


def _some(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most n of the rows, by the seed, in order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:n])


def _plain(found: Interval) -> Interval:
    """The interval; of no width where a draw had no such number."""
    return found if np.isfinite([found.low, found.high]).all() else Interval(found.value, found.value, found.value, found.n)


def _spanned(found: Interval | None) -> Interval | None:
    return found if found is not None and np.isfinite([found.low, found.high]).all() else None
