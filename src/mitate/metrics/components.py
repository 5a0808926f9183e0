"""Variance components of a nested design: how much of a number's spread comes from the images that were drawn, the fit, and the training.

    value[i, j, k] = mean + subset i + fit j within it + training k within that

Restricted maximum likelihood with no component below 0. In a balanced design that is the mean squares, neighbours pooled by their degrees of
freedom until none is smaller than the one inside it, taken apart by their expectations (Thompson 1962).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SOURCES = ("data", "generator", "classifier")  # of a table's three axes, outermost first


@dataclass(frozen=True)
class Component:
    """The part of one source, or of several that this design cannot tell apart."""

    sources: tuple[str, ...]
    variance: float  # of one draw from this source
    share: float  # of the sum of all variances; 0 where nothing varies
    df: int
    at_zero: bool  # its mean square was not above that of the source inside it

    @property
    def sd(self) -> float:
        return math.sqrt(self.variance)


def components(table: np.ndarray, sources: Sequence[str] = SOURCES) -> tuple[Component, ...]:
    """The components of a balanced nested design, outermost first. table: float64, an axis a source, each nested in those before it.

    A source with one draw each cannot be told from the one around it: their parts come as one component. ValueError with fewer than two draws of
    the outermost source. With five subsets a component is known within a factor of about three: read shares, not digits.
    """
    if table.ndim != len(sources) or table.size == 0:
        raise ValueError(f"a table of {table.ndim} axes does not fit {len(sources)} sources")
    if table.shape[0] < 2:
        raise ValueError(f"needs 2 or more of {sources[0]}, has {table.shape[0]}")
    kept = [axis for axis, size in enumerate(table.shape) if size > 1]
    ends = [*kept[1:], table.ndim]
    squares, df, inside = [], [], []
    for axis in kept:
        inner = tuple(range(axis + 1, table.ndim))
        means = table.mean(axis=inner, keepdims=True)
        around = table.mean(axis=(axis, *inner), keepdims=True)
        inside.append(math.prod(table.shape[axis + 1 :]))
        squares.append(inside[-1] * float(((means - around) ** 2).sum()))
        df.append(math.prod(table.shape[:axis]) * (table.shape[axis] - 1))
    fitted = _falling([ss / d for ss, d in zip(squares, df, strict=True)], df)
    variances = [max(0.0, one - inner) / n for one, inner, n in zip(fitted, [*fitted[1:], 0.0], inside, strict=True)]
    total = sum(variances)
    return tuple(
        Component(tuple(sources[axis:end]), v, v / total if total else 0.0, d, v == 0) for axis, end, v, d in zip(kept, ends, variances, df, strict=True)
    )


def _falling(squares: Sequence[float], df: Sequence[int]) -> list[float]:
    """Mean squares as they are, but pooled with weights `df` where an outer one is below an inner one (pool adjacent violators)."""
    blocks: list[tuple[float, int, int]] = []  # mean square, df, how many
    for square, d in zip(squares, df, strict=True):
        blocks.append((square, d, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, da, na), (b, db, nb) = blocks[-2:]
            blocks[-2:] = [((a * da + b * db) / (da + db), da + db, na + nb)]
    return [square for square, _, n in blocks for _ in range(n)]
