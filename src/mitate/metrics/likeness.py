"""Fidelity and diversity of one synthetic set: every metric of features at equal n, beside what held-out real images score in its place.

Most of these numbers move with how many images there are, so the larger of the synthetic and the held-out set is thinned to the size of
the smaller, once, by the seed; the real images stay whole. Two metrics are unbiased at every n and use all images: the kernel distance and
nothing else here. Intervals are by parts drawn without replacement (metrics/subsampling.py) or the metric's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mitate.metrics import frechet as fr
from mitate.metrics import kernel as ke
from mitate.metrics import neighbours as nb
from mitate.metrics import vendi as ve
from mitate.metrics.intervals import Interval
from mitate.metrics.subsampling import subsampled
from mitate.score import Metric

VENDI_CLASS = Metric("vendi_within_class", "diversity", "higher", ve.LEAST, "none: grows with n; compare at equal n", "the same within each class, the mean")


@dataclass(frozen=True)
class Line:
    """One metric of a set: its value and its floor, or why there is none. An interval of no width has not been measured, and is none."""

    metric: Metric
    value: Interval | None
    floor: Interval | None = None
    note: str = ""


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
    held_groups [h]: real images that vary together. Metrics that need more images than there are say so in their note.
    """
    size = len(fake) if held_out is None else min(len(fake), len(held_out))
    some = np.sort(np.random.default_rng(seed).permutation(len(fake))[:size])
    value = _measured(real, fake[some], seed=seed, labels=None if labels is None else labels[some], groups=groups, confidence=confidence)
    floor: Mapping[str, Interval | str] = {}
    if held_out is not None:
        held = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:size])
        theirs = None if held_labels is None else held_labels[held]
        floor = _measured(real, held_out[held], seed=seed, labels=theirs, groups=groups, confidence=confidence)
    distances = _kernel(real, fake, confidence), _kernel(real, held_out, confidence) if held_out is not None else None
    lines = [_line(ke.KERNEL_DISTANCE, *distances)]
    return (*lines, *(_line(metric, value[metric.name], floor.get(metric.name)) for metric in METRICS))


METRICS = (fr.FRECHET, fr.FRECHET_INFINITY, nb.PRECISION, nb.DENSITY, nb.RECALL, nb.COVERAGE, ve.VENDI, VENDI_CLASS, nb.INTRA_CLUSTER)


def _measured(
    real: np.ndarray, fake: np.ndarray, *, seed: int, labels: np.ndarray | None, groups: np.ndarray | None, confidence: float
) -> dict[str, Interval | str]:
    """An Interval (of no width where the metric has none), or why it was not measured, by the metric's name."""
    names = (nb.PRECISION.name, nb.DENSITY.name, nb.RECALL.name, nb.COVERAGE.name)
    found: dict[str, Interval | str]
    try:
        found = dict(subsampled(_by_neighbours, real, fake, seed=seed, groups=groups, confidence=confidence))
    except ValueError as few:
        found = dict.fromkeys(names, str(few))
    found[fr.FRECHET.name] = _number(lambda: fr.frechet(real, fake), len(fake))
    found[fr.FRECHET_INFINITY.name] = _number(lambda: fr.frechet_infinity(real, fake, seed=seed).value, len(fake))
    found[ve.VENDI.name] = _number(lambda: ve.vendi(fake), len(fake))
    found[VENDI_CLASS.name] = "the images have no labels" if labels is None or (labels < 0).all() else _number(lambda: _within(fake, labels), len(fake))
    found[nb.INTRA_CLUSTER.name] = _number(lambda: nb.intra_cluster(fake, nb.neighbourhood(real, fake).nearest_real), len(fake))
    return found


def _by_neighbours(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    found = nb.neighbourhood(real, fake)
    shares = (nb.PRECISION, nb.precision(found)), (nb.DENSITY, nb.density(found)), (nb.RECALL, nb.recall(found))
    return {**{metric.name: interval.value for metric, interval in shares}, nb.COVERAGE.name: nb.coverage(found)}


def _within(fake: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the Vendi scores of the classes that have two images."""
    scores = [score for k, score in ve.vendi_by_class(fake, labels).items() if k >= 0 and score is not None]
    if not scores:
        raise ValueError("needs 2 images of a class, has none; fix: give more")
    return float(np.mean(scores))


def _kernel(real: np.ndarray, other: np.ndarray, confidence: float) -> Interval | str:
    try:
        return ke.kernel_distance(real, other, confidence=confidence)
    except ValueError as few:
        return str(few)


def _number(measure: Callable[[], float], n: int) -> Interval | str:
    try:
        value = measure()
    except ValueError as few:
        return str(few)
    return Interval(value, value, value, n)


def _line(metric: Metric, value: Interval | str, floor: Interval | str | None) -> Line:
    if isinstance(value, str):
        return Line(metric, None, note=value)
    return Line(metric, value, floor if isinstance(floor, Interval) else None)
