"""Fidelity and diversity of one synthetic set: every metric of features at equal n, beside what held-out real images score in its place.

Most of these numbers move with how many images there are, so the synthetic and the held-out set are measured at the number of the smaller one
(metrics/subsampling.at_equal_n); the real images stay whole. Intervals are by parts drawn without replacement, value and floor sharing each
draw, so that their difference has an interval of its own. Two go other ways: the kernel distance is unbiased at every n, uses all images
and has its own interval; Frechet distance at infinity has none.

Where the two mix their classes differently, precision and density of the held-out images are weighted to the synthetic ones' mix: both are
means over images, and a class that is hard to draw well, or has few real images, is so for either. The other numbers see whole sets, where a
class that is lacking or too common is a difference like any other.

Who is whose neighbour takes all pairs of images. Of sets above `MOST` images the metrics of neighbours are therefore those of parts that are drawn by the
seed, all sets in one proportion: their value, floor and interval are for sets of that size, and their note says so. The other metrics take time in
proportion to the images and use all of them. Nothing of the size of the features is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mitate.metrics import clusters as cl
from mitate.metrics import frechet as fr
from mitate.metrics import kernel as ke
from mitate.metrics import neighbours as nb
from mitate.metrics import vendi as ve
from mitate.metrics.intervals import Interval
from mitate.metrics.line import Line
from mitate.metrics.subsampling import SUBSAMPLED, at_equal_n, subsampled
from mitate.progress import Progress
from mitate.score import Metric

VENDI_CLASS = Metric("vendi_within_class", "diversity", "higher", ve.LEAST, SUBSAMPLED, "the same within each class, the mean")
BY_NEIGHBOURS = (nb.PRECISION, nb.DENSITY, nb.RECALL, nb.COVERAGE, cl.INTRA_CLUSTER)
BY_SET = (fr.FRECHET, ve.VENDI, VENDI_CLASS)
PARTS = ("kernel_distance", "neighbours", "sets")
MOST = 200_000  # images of a set whose neighbours are looked for
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
    most: int = MOST,
    parts: Sequence[str] = PARTS,
    progress: Progress | None = None,
) -> tuple[Line, ...]:
    """Every metric of fidelity and diversity, the synthetic images in one column and held-out real ones, in their place, in the other.

    real [n, d], fake [m, d], held_out [h, d] or None: features of one extractor, in memory or mapped. labels [m], held_labels [h]: classes, -1 for
    none; groups [n], held_groups [h]: real images that vary together. most: images of a set for the metrics of neighbours. parts: of
    `PARTS`, to measure them one by one. Metrics that need more images than there are say so in their note; below 20 images of a set or 5 groups
    there are values without intervals.
    """
    told = [_known(labels, len(fake)), *([] if held_out is None else [_known(held_labels, len(held_out))])]
    whole = _Sets(real, [fake] if held_out is None else [fake, held_out], told, groups, held_groups)
    part = whole.thinned(most, seed)
    wanted = {"neighbours": BY_NEIGHBOURS if "neighbours" in parts else (), "sets": BY_SET if "sets" in parts else ()}
    measured = [(whole, (*wanted["neighbours"], *wanted["sets"]))] if part is whole else [(part, wanted["neighbours"]), (whole, wanted["sets"])]
    found: dict[str, Line] = {}
    if "kernel_distance" in parts:
        found[ke.KERNEL_DISTANCE.name] = _kernel(real, whole.others, confidence, progress)
    for sets, metrics in measured:
        if metrics:
            found |= {line.metric.name: line for line in _measured(sets, metrics, whole, seed=seed, confidence=confidence)}
    if "sets" in parts:
        found[fr.FRECHET_INFINITY.name] = _infinity(whole, seed=seed)
    return tuple(found[metric.name] for metric in (ke.KERNEL_DISTANCE, *METRICS) if metric.name in found)


@dataclass(frozen=True)
class _Sets:
    """The real images and what stands beside them: the synthetic ones and, in their place, the held-out ones, where there are any."""

    real: np.ndarray
    others: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]  # of the others; -1 for none
    groups: np.ndarray | None
    held_groups: np.ndarray | None

    @property
    def n(self) -> int:
        """Images that the others are compared at."""
        return min(len(other) for other in self.others)

    def thinned(self, most: int, seed: int) -> _Sets:
        """All sets in one proportion, so that no comparison has more than `most` images of a set; these very ones where none has."""
        share = most / max(len(self.real), self.n)
        if share >= 1:
            return self
        rng = np.random.default_rng(seed)
        real, *others = (np.sort(rng.permutation(n)[: max(1, round(share * n))]) for n in (len(self.real), *map(len, self.others)))

        def taken(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
            return None if column is None else column[rows]

        return _Sets(
            self.real[real],
            [points[rows] for points, rows in zip(self.others, others, strict=True)],
            [labels[rows] for labels, rows in zip(self.labels, others, strict=True)],
            taken(self.groups, real),
            taken(self.held_groups, others[-1]),
        )


def _measured(sets: _Sets, metrics: Sequence[Metric], whole: _Sets, *, seed: int, confidence: float) -> list[Line]:
    """A line of each of the metrics. whole: what the sets were drawn from, or they themselves."""
    numbers = _Numbers(sets, metrics)
    ends = np.cumsum([0, *map(len, sets.others)])
    ours, theirs = np.arange(ends[1]), np.arange(ends[1], ends[-1])
    try:
        value, floor, apart = _with_intervals(numbers, ours, theirs, seed=seed, groups=sets.groups, held_groups=sets.held_groups, confidence=confidence)
        why = ""
    except ValueError as few:
        value, floor, apart, why = *_without(numbers, ours, theirs, seed), {}, str(few)
    if sets is not whole:
        counts = zip((sets.real, *sets.others), (whole.real, *whole.others), ("real", "synthetic", "held-out"), strict=False)
        drawn = "of " + ", ".join(f"{len(some):,} of {len(of):,} {which}" for some, of, which in counts) + " images, drawn by the seed"
        why = f"{drawn}; {why}" if why else drawn
    lines = []
    for metric in metrics:
        mine, beside = value[metric.name], floor.get(metric.name)
        if np.isnan(mine.value):
            lines.append(Line(metric, None, note=numbers.why.get(metric.name, "some part of the images has no such number; fix: give more")))
            continue
        lines.append(Line(metric, _plain(mine), _plain(beside) if beside and not np.isnan(beside.value) else None, why, _spanned(apart.get(metric.name))))
    return lines


class _Numbers:
    """Metrics of rows of the real images and rows of others, by name; nan where there are too few, and the first reason for it in `why`.

    Rows of others are all synthetic ones, before row `held_from`, or all held-out ones.
    """

    def __init__(self, sets: _Sets, metrics: Sequence[Metric]) -> None:
        self.sets, self.held_from, self.labels = sets, len(sets.others[0]), np.concatenate(list(sets.labels))
        self.near = [metric.name for metric in metrics if metric in BY_NEIGHBOURS]
        self.alone = [metric for metric in metrics if metric in BY_SET]
        made = sets.labels[0]
        self.mix = np.bincount(made[made >= 0], minlength=self.labels.max() + 2)  # synthetic images of each class; 0 for label -1, the last
        self.why: dict[str, str] = {}

    def __call__(self, real_rows: np.ndarray, rows: np.ndarray) -> Mapping[str, float]:
        real, some = _taken(self.sets.real, real_rows), self._other(rows)
        found = {**self._neighbours(real, some, rows), **dict.fromkeys((metric.name for metric in self.alone), np.nan)}
        by_set = {fr.FRECHET: lambda: fr.frechet(real, some), ve.VENDI: lambda: ve.vendi(some), VENDI_CLASS: lambda: self._within(some, rows)}
        for metric in self.alone:
            try:
                found[metric.name] = by_set[metric]()
            except ValueError as few:
                self.why.setdefault(metric.name, str(few))
        return found

    def _neighbours(self, real: np.ndarray, some: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        found = dict.fromkeys(self.near, np.nan)
        if not found:
            return found
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
        return found

    def _other(self, rows: np.ndarray) -> np.ndarray:
        return _taken(self.sets.others[0], rows) if rows[0] < self.held_from else _taken(self.sets.others[1], rows - self.held_from)

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
    real = np.arange(len(numbers.sets.real))
    if not len(theirs):
        return subsampled(numbers, real, ours, seed=seed, groups=groups, confidence=confidence), {}, {}
    found = at_equal_n(numbers, real, ours, theirs, seed=seed, groups=groups, held_groups=held_groups, confidence=confidence)
    return found.value, found.floor, found.excess


def _without(numbers: _Numbers, ours: np.ndarray, theirs: np.ndarray, seed: int) -> tuple[Named, Named]:
    """The same at equal n, as intervals of no width."""
    real, n = np.arange(len(numbers.sets.real)), min(len(ours), len(theirs) or len(ours))
    sides = [{name: Interval(v, v, v, n) for name, v in numbers(real, _some(side, n, seed)).items()} if len(side) else {} for side in (ours, theirs)]
    return sides[0], sides[1]


def _infinity(sets: _Sets, *, seed: int) -> Line:
    found: list[Interval | None] = []
    for side in sets.others:
        try:
            value = fr.frechet_infinity(sets.real, _taken(side, _some(np.arange(len(side)), sets.n, seed)), seed=seed).value
        except ValueError as few:
            if side is sets.others[0]:
                return Line(fr.FRECHET_INFINITY, None, note=str(few))
            found.append(None)
        else:
            found.append(Interval(value, value, value, sets.n))
    return Line(fr.FRECHET_INFINITY, found[0], found[1] if len(found) > 1 else None)


def _kernel(real: np.ndarray, others: Sequence[np.ndarray], confidence: float, progress: Progress | None) -> Line:
    try:
        found = ke.kernel_distances(real, others, confidence=confidence, progress=progress)
        return Line(ke.KERNEL_DISTANCE, found[0], found[1] if len(found) > 1 else None)
    except ValueError as few:
        return Line(ke.KERNEL_DISTANCE, None, note=str(few))


def _taken(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows, which are ascending: the points themselves where they are all."""
    return points if len(rows) == len(points) else points[rows]


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
