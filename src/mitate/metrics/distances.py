"""The passes over all distances between sets of features, tile by tile: exact radii, nearest neighbours and who lies in whose ball.

    passes = Distances(real, fake)
    squares = passes.radii(0, (5,))

Two ways to make a tile, with one answer: bfloat16 products where the processor is quick at them (`coarse`), float32 products everywhere
(`nearest`). Memory beside the input: O(n k) for the answer and a few blocks; no n x n matrix. How many threads a product takes is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from mitate.metrics import coarse
from mitate.metrics.nearest import BLOCK, Cloud, Floats, clouds, places

T = TypeVar("T")


@dataclass(frozen=True)
class Across:
    """What the tiles between two sets tell; distances are squared. ks: columns of the radii that were given."""

    real_balls: np.ndarray  # int64 [m, ks], points of the first set whose radius reaches further than to this one of the second
    in_fake_ball: np.ndarray  # bool [n, ks], some point of the second set reaches further than to this one of the first
    to_real: np.ndarray  # float64 [m], squared
    nearest_real: np.ndarray  # int64 [m], its row; the first of equals, of many copies any
    to_fake: np.ndarray  # float64 [n], squared


class Found(Protocol):
    """The nearest of each point, found tile by tile. rows: take in a tile whose rows are the points `at` and after; mask: a buffer."""

    def rows(self, tile: np.ndarray, mask: np.ndarray, at: int, others_at: int) -> None: ...

    def columns(self, tile: np.ndarray, mask: np.ndarray, at: int, others_at: int) -> None: ...

    def nearest(self, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]: ...


class Way(Protocol):
    """How tiles are made and what their values tell for certain. left and right are what it makes of rows; only it reads them."""

    block: int

    def panels(self, cloud: Cloud) -> Iterator[tuple[range, Any]]: ...

    def right(self, cloud: Cloud, which: slice) -> Any: ...

    def tile(self, a: Cloud, rows: slice, left: Any, b: Cloud, columns: slice, right: Any) -> np.ndarray: ...

    def mask(self, tile: np.ndarray, which: int = 0) -> np.ndarray: ...

    def finder(self, a: Cloud, b: Cloud, k: int) -> Found: ...

    def edges(self, cloud: Cloud, other: Cloud, square: np.ndarray) -> np.ndarray: ...

    def nearer(self, a: Cloud, b: Cloud, i: np.ndarray, j: np.ndarray, square: np.ndarray) -> np.ndarray: ...


class Distances:
    """Sets of features [n, d] of one extractor, and the passes over the distances between them, in the features' own units, squared.

    Every value is what float64 differences give: ties are ties, and copies are at distance 0. block changes time and memory, never an answer.
    Raises ValueError on features that are not finite.
    """

    def __init__(self, *sets: np.ndarray, block: int = BLOCK) -> None:
        self.clouds, self.block = clouds(*sets, block=block), block
        d = sets[0].shape[1]
        self.short = coarse.Shorts(min(block, max(map(len, sets)))) if coarse.worth_trying(max(map(len, sets)), d) else None
        self.floats: Floats | None = None

    def radii(self, which: int, ks: tuple[int, ...]) -> np.ndarray:
        """From each point of a set to its k-th nearest other one, float64 [n, ks]. Each pair is computed once."""
        cloud = self.clouds[which]

        def run(way: Way) -> np.ndarray:
            found = way.finder(cloud, cloud, max(ks))
            for i, j, tile in _tiles(way, cloud, cloud):
                found.rows(tile, way.mask(tile), i, j)
                if i != j:
                    found.columns(tile, way.mask(tile), j, i)
            return found.nearest(ks)[0]

        return self._either(run)

    def to_nearest(self, which: int, other: int, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """From each point of a set to its k-th nearest of another, float64 [n, ks], and the row of the nearest, int64 [n]."""
        a, b = self.clouds[which], self.clouds[other]

        def run(way: Way) -> tuple[np.ndarray, np.ndarray]:
            found = way.finder(a, b, max(ks))
            for i, j, tile in _tiles(way, a, b):
                found.rows(tile, way.mask(tile), i, j)
            squares, nearest = found.nearest((1, *ks))
            return squares[:, 1:], nearest

        return self._either(run)

    def across(self, which: int, other: int, real: np.ndarray, fake: np.ndarray) -> Across:
        """The tiles between two sets, each used for both directions. real, fake: their squared radii, float64 [n, ks] and [m, ks]."""
        a, b = self.clouds[which], self.clouds[other]
        return self._either(lambda way: _across(way, a, b, real, fake))

    def _either(self, run: Callable[[Way], T]) -> T:
        if self.short is not None:
            try:
                return run(self.short)
            except coarse.TooClose:
                self.short = None
        self.floats = self.floats or Floats(self.clouds[0].points.shape[1], max(map(len, self.clouds)), self.block)
        return run(self.floats)


def _tiles(way: Way, a: Cloud, b: Cloud) -> Iterator[tuple[int, int, np.ndarray]]:
    """Where each tile begins, and the tile; of a set with itself the lower half, and a point is infinitely far from itself."""
    for panel, left in way.panels(a):
        for j in range(panel.start if a is b else 0, len(b), way.block):
            columns = slice(j, min(j + way.block, len(b)))
            right = way.right(b, columns)
            for i in range(panel.start, min(panel.stop, j + 1) if a is b else panel.stop, way.block):
                rows = slice(i, min(i + way.block, panel.stop))
                yield i, j, way.tile(a, rows, left[i - panel.start :][: way.block], b, columns, right)


def _across(way: Way, a: Cloud, b: Cloud, real: np.ndarray, fake: np.ndarray) -> Across:
    balls, inside = np.zeros((len(b), real.shape[1]), np.int64), np.zeros((len(a), real.shape[1]), bool)
    to_fake, to_real = way.finder(a, b, 1), way.finder(b, a, 1)
    real_edges, fake_edges = way.edges(a, b, real), way.edges(b, a, fake)
    for i, j, tile in _tiles(way, a, b):
        rows, columns = slice(i, i + tile.shape[0]), slice(j, j + tile.shape[1])
        to_fake.rows(tile, way.mask(tile), i, j)
        to_real.columns(tile, way.mask(tile), j, i)
        for c in range(real.shape[1]):
            low, high = real_edges[:, rows, c]
            mask = np.less(tile, high[:, None], out=way.mask(tile))
            balls[columns, c] += _column_counts(mask)
            row, column = places(_unsure(tile, mask, low, way.mask(tile, 1)), tile.shape[1])
            outside = column[~way.nearer(a, b, row + i, column + j, real[row + i, c])]
            np.subtract.at(balls, (outside + j, c), 1)

            low, high = fake_edges[:, columns, c]
            mask = np.less(tile, high, out=way.mask(tile))
            undecided = np.flatnonzero(mask.any(axis=1) & ~inside[rows, c])
            sure = (tile[undecided] < low).any(axis=1)
            inside[i + undecided[sure], c] = True
            undecided = undecided[~sure]
            row, column = np.nonzero(mask[undecided])
            row = undecided[row]
            inside[i + row[way.nearer(a, b, row + i, column + j, fake[column + j, c])], c] = True
    nearest, which = to_real.nearest((1,))
    return Across(balls, inside, nearest[:, 0], which, to_fake.nearest((1,))[0][:, 0])


def _column_counts(mask: np.ndarray) -> np.ndarray:
    """True values of each column; sums of bytes, 255 rows at a time, are several times as fast as sums of booleans."""
    counts = np.zeros(mask.shape[1], np.int64)
    for start in range(0, len(mask), 255):
        counts += np.add.reduce(mask[start : start + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return counts


def _unsure(tile: np.ndarray, mask: np.ndarray, low: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Flat places where the mask holds and the tile's value is not below `low` of its row."""
    if 16 * np.count_nonzero(mask) < mask.size:
        where = np.flatnonzero(mask)
        return where[tile.reshape(-1)[where] >= low[where // tile.shape[1]]]
    again = np.greater_equal(tile, low[:, None], out=buffer)
    return np.flatnonzero(np.logical_and(again, mask, out=again))
