"""Sums of the cubic kernel over all pairs of images, without a pass over the pairs: time grows with the number of images, not with its square.

With x' = (x / sqrt d, 1) the kernel (x.y / d + 1)^3 is (x'.y')^3, the inner product of x' (x) x' (x) x' and the same of y. So the sum over all
pairs of two sets is the inner product of their third moments, T = sum over images of x' (x) x' (x) x', and the sum over one image with a whole
set is T met three times by x'. T is symmetric: of its (d + 1)^3 numbers those whose first index is the smallest are made, slice by slice,
and a slice is a weighted product of the features with themselves. No slice outlives its group, so memory does not grow with the images.

Exact but for rounding, float64 throughout. Pays from about 70,000 images of 512 features on, 800,000 of 2,048 (`pays`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mitate.progress import Progress, Silent

CHUNK = 512  # images of a set turned to float64 at a time
ROWS = 64  # of a slice made by one product: what lies below the diagonal is left out as far as whole such panels go
MEMORY = 1 << 28  # bytes that the slices of a group may take, of all sets together
OF_AN_IMAGE = 0.4  # operations over (d + 1)^3: what lies below the diagonal is made in part
OF_A_PAIR = 200  # operations that a kernel value takes beside its product


@dataclass(frozen=True)
class Sums:
    """Of the kernel over pairs of images. s, t: which of the sets; a pair of an image with itself is in it where s is t."""

    total: np.ndarray  # float64 [s, t], over all pairs
    rows: tuple[tuple[np.ndarray, ...], ...]  # [s][t]: float64, of each asked image of s with all of t
    own: tuple[np.ndarray, ...]  # [s]: float64, of each asked image with itself
    alone: np.ndarray  # float64 [s], over all images, of each with itself


def cubic_sums(sets: Sequence[np.ndarray], asked: Sequence[np.ndarray], *, memory: int = MEMORY, progress: Progress | None = None) -> Sums:
    """All sums of the kernel within and between sets [n, d] of finite features. asked: of each set the rows whose own sums are wanted."""
    told, count, width = progress or Silent(), len(sets), sets[0].shape[1] + 1
    some = [_lifted(points[rows]) for points, rows in zip(sets, asked, strict=True)]
    total, rows = np.zeros((count, count)), [[np.zeros(len(x)) for _ in sets] for x in some]
    own = tuple(np.einsum("ij,ij->i", x, x) ** 3 for x in some)
    alone = np.array([sum(float((np.einsum("ij,ij->i", x, x) ** 3).sum()) for x in _chunks(points)) for points in sets])
    for first, last in _groups(width, count, memory):
        groups = [_slices(points, first, last) for points in sets]
        for at, a in enumerate(range(first, last)):
            slices = [group[at] for group in groups]
            for s in range(count):
                for t in range(s, count):
                    total[s, t] += _inner(slices[s], slices[t])
            for t, weighted in enumerate(_weighted(m) for m in slices):
                for s, x in enumerate(some):
                    rows[s][t] += x[:, a] * np.einsum("ij,ij->i", x[:, a:] @ weighted, x[:, a:])
            told.step(a + 1, width, "kernel distance")
        del groups, slices  # before the next are made
    return Sums(np.triu(total) + np.triu(total, 1).T, tuple(tuple(r) for r in rows), own, alone)


def pays(lengths: Sequence[int], asked: int, d: int) -> bool:
    """Whether moments of sets of such lengths are sooner made than the pairs of the first with itself and the others, and of each other with itself.

    By counts alone, so that the way, and with it the last digits, does not hang on the machine. Never where all images would be asked.
    """
    first, *others = lengths
    pairs = first * first / 2 + sum(n * n / 2 + first * n for n in others)
    return max(lengths) > asked and cost(lengths, asked, d) < (2 * d + OF_A_PAIR) * pairs


def cost(lengths: Sequence[int], asked: int, d: int) -> float:
    """Operations (multiplications and additions of float64) that `cubic_sums` takes; asked: rows of a set."""
    return (d + 1) ** 3 * (OF_AN_IMAGE * sum(lengths) + 2 / 3 * len(lengths) * sum(min(asked, n) for n in lengths))


def _lifted(points: np.ndarray) -> np.ndarray:
    """x' of each row, float64 [n, d + 1]."""
    lifted = np.ones((len(points), points.shape[1] + 1))
    np.divide(points, np.sqrt(points.shape[1]), out=lifted[:, :-1])
    return lifted


def _chunks(points: np.ndarray) -> Iterator[np.ndarray]:
    return (_lifted(points[i : i + CHUNK]) for i in range(0, len(points), CHUNK))


def _groups(width: int, sets: int, memory: int) -> list[tuple[int, int]]:
    """First and last slice of each group that fits into the memory."""
    found, first, held = [], 0, 0
    for a in range(width):
        size = 8 * sets * (width - a) ** 2
        if held and held + size > memory:
            found.append((first, a))
            first, held = a, 0
        held += size
    return [*found, (first, width)]


def _slices(points: np.ndarray, first: int, last: int) -> list[np.ndarray]:
    """T[a, a:, a:] for a from first to before last, each float64 and symmetric."""
    width = points.shape[1] + 1
    slices = [np.zeros((width - a, width - a)) for a in range(first, last)]
    panel = np.empty((ROWS, CHUNK))
    for x in _chunks(points):
        x = np.ascontiguousarray(x.T)
        for a, made in zip(range(first, last), slices, strict=True):
            for b in range(a, width, ROWS):
                some = x[b : b + ROWS]
                weighted = np.multiply(some, x[a], out=panel[: len(some), : some.shape[1]])
                made[b - a : b - a + ROWS, b - a :] += weighted @ x[b:].T
    for made in slices:
        for k in range(1, len(made)):  # what was left out is the mirror image
            made[k, :k] = made[:k, k]
    return slices


def _inner(m: np.ndarray, other: np.ndarray) -> float:
    """The part of the inner product of two whole moments whose smallest index is a slice's own: once, twice or thrice."""
    return float(3 * np.vdot(m[1:, 1:], other[1:, 1:]) + 3 * np.vdot(m[0, 1:], other[0, 1:]) + m[0, 0] * other[0, 0])


def _weighted(m: np.ndarray) -> np.ndarray:
    """Q with x_a x^T Q x = what `_inner` has, for the moment of a single image."""
    weighted = 3 * m
    weighted[0, 1:] /= 2
    weighted[1:, 0] /= 2
    weighted[0, 0] = m[0, 0]
    return weighted
