"""Tiles of squared distances in float32, and exact nearest neighbours from them.

Precision. A tile is a float32 matrix product of centred, scaled features, with the squared norms as two more columns. Its rounding is
at most c (|x|^2 + |y|^2) with c = 2 (d + 8) 2^-24, whatever the order of summation, and since |y|^2 <= 2 |x|^2 + 2 D^2 a comparison of the
squared distance D^2 with t is certain outside t -+ 4c (|x|^2 + t) even beside outliers. What falls inside is computed again from the
differences of the features in float64; where that is much, as in collapsed sets, a float64 product narrows it first. So every radius
and every comparison is what float64 differences give: ties are ties, and copies are at distance 0. Many ties (features of few distinct
values) cost time, never the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

BLOCK = 1024  # rows and columns of a tile
PANEL = 4  # blocks of rows that meet one block of columns while it is at hand
SPARE = 4  # neighbours kept beyond k, so that the k-th is certain without a second look
GROUP = 8  # columns whose minimum stands for them where a first bound is looked for
PAIRS = 2**16  # numbers held at once where single pairs are computed again
UNIT, UNIT_WIDE = 2.0**-24, 2.0**-53  # rounding of float32 and float64
TINY = 2.0**-126  # least normal float32
LEAST_REACH = 1e-20  # spread of features, and one over it, that float32 holds with all its digits


@dataclass(frozen=True)
class Cloud:
    """Points as they are, and how they become float32: (point - centre) * scale, scale a power of two."""

    points: np.ndarray
    centre: np.ndarray
    scale: float
    norms: np.ndarray  # float64 [n], squared, of the float32 points

    def __len__(self) -> int:
        return len(self.points)

    @property
    def rounding(self) -> float:
        return 2.0 * (self.points.shape[1] + 8) * UNIT

    def width(self, square: np.ndarray, norm: np.ndarray, other: np.ndarray | float) -> np.ndarray:
        """How far a scaled squared distance `square` of a point with this norm may be from the truth; `other`: norms at the far end, or their largest."""
        return self.rounding * np.minimum(norm + other, 4.0 * (norm + np.maximum(square, 0.0))) + self.nothing

    @property
    def nothing(self) -> float:
        """What underflow may hide."""
        return 8.0 * len(self.centre) * TINY


class Floats:
    """One way to walk the tiles: float32 products. Holds the buffers of two blocks of points and the tile between them."""

    def __init__(self, d: int, n: int, block: int) -> None:
        self.block = block = min(block, n)
        self.left_rows, self.right_rows = np.empty((min(PANEL * block, n), d + 2), np.float32), np.empty((block, d + 2), np.float32)
        self.flat, self.masks = np.empty(block * block, np.float32), np.empty((2, block * block), bool)

    def panels(self, cloud: Cloud) -> Iterator[tuple[range, np.ndarray]]:
        """A few blocks of rows [x, |x|^2, 1] at a time, and which points they are."""
        for start in range(0, len(cloud), PANEL * self.block):
            points = range(start, min(start + PANEL * self.block, len(cloud)))
            yield points, self.left(cloud, slice(points.start, points.stop))

    def left(self, cloud: Cloud, which: slice) -> np.ndarray:
        rows = rounded(cloud.points[which], cloud.centre, cloud.scale, self.left_rows)
        rows[:, -2], rows[:, -1] = cloud.norms[which], 1.0
        return rows

    def right(self, cloud: Cloud, which: slice) -> np.ndarray:
        """Rows [-2 y, 1, |y|^2]: their product with the left ones is the squared distance."""
        rows = rounded(cloud.points[which], cloud.centre, -2.0 * cloud.scale, self.right_rows)
        rows[:, -2], rows[:, -1] = 1.0, cloud.norms[which]
        return rows

    def tile(self, a: Cloud, rows: slice, left: np.ndarray, b: Cloud, columns: slice, right: np.ndarray) -> np.ndarray:
        """Squared distances, scaled, within `Cloud.width` of the truth; overwritten by the next tile. left, right: of those rows and columns."""
        if a is b and rows == columns:
            return self.square(left)
        return np.matmul(left, right.T, out=self.flat[: len(left) * len(right)].reshape(len(left), len(right)))

    def square(self, left: np.ndarray) -> np.ndarray:
        """The tile of a block with itself; a product with its own transpose takes half the multiply-adds."""
        points, norms = left[:, :-2], left[:, -2]
        tile = np.matmul(points, points.T, out=self.flat[: len(left) ** 2].reshape(len(left), len(left)))
        tile *= -2.0
        tile += norms[:, None]
        tile += norms
        np.fill_diagonal(tile, np.inf)
        return tile

    def mask(self, tile: np.ndarray, which: int = 0) -> np.ndarray:
        return self.masks[which, : tile.size].reshape(tile.shape)

    def finder(self, a: Cloud, b: Cloud, k: int) -> Finder:
        return Finder(a, b, k, self.block)

    def edges(self, cloud: Cloud, other: Cloud, square: np.ndarray) -> np.ndarray:
        """float32 [2, n, ks]: a tile's value below the first is surely less than `square`, one from the second on surely is not."""
        scaled = square * cloud.scale**2
        width = cloud.width(scaled, cloud.norms[:, None], float(other.norms.max()))
        edges = np.stack([np.nextafter((scaled - width).astype(np.float32), np.float32(-np.inf)), up(scaled + width)])
        edges[:, square == 0] = -np.inf  # nothing is nearer than 0
        return edges

    def nearer(self, a: Cloud, b: Cloud, i: np.ndarray, j: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Whether the exact squared distance of each pair is less than `square`. bool [pairs]."""
        return pairs(a, b, i, j) < square


def clouds(*sets: np.ndarray, block: int) -> tuple[Cloud, ...]:
    """The sets around the mean of the first, in one scale; blockwise, so nothing of the size of the features is copied."""
    with np.errstate(invalid="ignore", over="ignore"):
        centre = sets[0].mean(axis=0, dtype=np.float64)
        if any(s.dtype == np.float32 for s in sets):
            centre = centre.astype(np.float32).astype(np.float64)  # one centre for both types
        reach = float(np.max([np.abs(end - centre.astype(s.dtype)).max() for s in sets for end in (s.min(axis=0), s.max(axis=0))]))
    if not math.isfinite(reach):
        raise ValueError("features are not finite; fix: drop the rows with NaN or infinity")
    if reach and not LEAST_REACH < reach < 1 / LEAST_REACH:
        raise ValueError(f"features reach {reach:.3g} from their mean, where float32 loses digits; fix: scale them")
    scale = 2.0 ** -(math.frexp(reach)[1] + math.ceil(math.log2(sets[0].shape[1]) / 2)) if reach else 1.0  # no norm is above 1
    found = []
    for s in sets:
        rows, norms = np.empty((min(block, len(s)), s.shape[1] + 2), np.float32), np.empty(len(s))
        for i in range(0, len(s), block):
            some = rounded(s[i : i + block], centre, scale, rows)[:, :-2]
            norms[i : i + block] = np.einsum("ij,ij->i", some, some, dtype=np.float64)
        found.append(Cloud(s, centre, scale, norms))
    return tuple(found)


def rounded(points: np.ndarray, centre: np.ndarray, scale: float, out: np.ndarray) -> np.ndarray:
    rows = out[: len(points)]
    np.subtract(points, centre.astype(points.dtype), out=rows[:, :-2], casting="same_kind")  # one rounding, whichever the type
    rows[:, :-2] *= np.float32(scale)
    return rows


# exact squared distances of single pairs, in the features' own units


def pairs(a: Cloud, b: Cloud, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """float64 [pairs], from differences; the same from either side."""
    step = max(1, PAIRS // a.points.shape[1])
    squares = np.empty(len(i))
    for start in range(0, len(i), step):
        some = slice(start, start + step)
        apart = a.points[i[some]].astype(np.float64) - b.points[j[some]]
        squares[some] = np.einsum("ij,ij->i", apart, apart)
    return squares


# the nearest of each point


class Lists:
    """The `keep` smallest squared distances of each point, ascending, and whose they are, kept over tiles. What is left out is no smaller."""

    def __init__(self, n: int, keep: int, dtype: type = np.float32) -> None:
        self.square: np.ndarray = np.full((n, keep), np.inf, dtype)
        self.other = np.full((n, keep), -1, np.int64)

    def rows(self, tile: np.ndarray, mask: np.ndarray, at: int, others_at: int) -> None:
        """Take in a tile whose rows are the points `at` and after. mask: a buffer."""
        point, other, square = self.entering(tile, mask, at)
        self.merge(at, point, other + others_at, square)

    def entering(self, tile: np.ndarray, mask: np.ndarray | None = None, at: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bound = self.bound(tile, at, axis=1)
        where = np.flatnonzero(np.less(tile, bound[:, None], out=mask))
        return *places(where, tile.shape[1]), tile.reshape(-1)[where]

    def columns(self, tile: np.ndarray, mask: np.ndarray, at: int, others_at: int) -> None:
        """Take in a tile whose columns are the points `at` and after."""
        bound = self.bound(tile, at, axis=0)
        where = np.flatnonzero(np.less(tile, bound[None], out=mask))
        other, point = places(where, tile.shape[1])
        order = np.argsort(point.astype(np.uint16) if tile.shape[1] < 2**16 else point, kind="stable")  # by counting, where 16 bits do
        self.merge(at, point[order], other[order] + others_at, tile.reshape(-1)[where[order]])

    def bound(self, tile: np.ndarray, at: int, axis: int) -> np.ndarray:
        """Below it lies all that may enter: the worst kept, or at first the keep-th smallest of the minima of groups of columns."""
        count, keep = tile.shape[1 - axis], self.square.shape[1]
        bound = self.square[at : at + count, -1]
        if not np.isinf(bound).any() or tile.shape[axis] < keep:
            return bound
        groups = tile.shape[axis] // GROUP
        least = tile
        if groups >= 2 * keep:
            shape = (count, GROUP, groups) if axis else (GROUP, groups, count)
            least = (tile[:, : GROUP * groups] if axis else tile[: GROUP * groups]).reshape(shape).min(axis=axis if axis else 0)
        least = np.partition(least if axis else np.ascontiguousarray(least.T), keep - 1, axis=1)[:, keep - 1]
        return np.minimum(bound, np.nextafter(least, np.float32(np.inf)))

    def merge(self, at: int, point: np.ndarray, other: np.ndarray, square: np.ndarray) -> None:
        """Let pairs in; `point` is ascending and counted from `at`."""
        if not len(point):
            return
        keep = self.square.shape[1]
        counts = np.bincount(point)
        who = np.flatnonzero(counts)
        first = np.cumsum(counts) - counts
        slot = (np.cumsum(counts > 0) - 1)[point]
        place = keep + np.arange(len(point)) - first[point]
        squares = np.full((len(who), keep + int(counts.max())), np.inf, self.square.dtype)
        others = np.full(squares.shape, -1, np.int64)
        squares[:, :keep], others[:, :keep] = self.square[at + who], self.other[at + who]
        squares[slot, place], others[slot, place] = square, other
        best = np.argsort(squares, axis=1, kind="stable")[:, :keep]
        self.square[at + who] = np.take_along_axis(squares, best, axis=1)
        self.other[at + who] = np.take_along_axis(others, best, axis=1)


class Finder(Lists):
    """The exact k nearest of each point of `a` among those of `b`, found tile by tile."""

    def __init__(self, a: Cloud, b: Cloud, k: int, block: int) -> None:
        super().__init__(len(a), min(len(b) - (a is b), k + SPARE))
        self.a, self.b, self.block = a, b, block

    def nearest(self, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances to the k-th nearest, float64 [n, ks], and the row of the first k's, int64 [n]: the first of equals, of many copies any."""
        found = {k: _kth(self, k, self.a, self.b, self.block) for k in set(ks)}
        return np.stack([found[k][0] for k in ks], axis=1), found[ks[0]][1]


def _kth(near: Lists, k: int, a: Cloud, b: Cloud, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact squared distance from each point of `a` to its k-th nearest of `b`, and that one's row: float64 [n], int64 [n].

    Points whose lists float32 leaves unsure get new ones from a float64 product, against each value of `b` a few times at most; where
    even that is unsure (ties), all pairs that may matter are computed from differences.
    """
    squares, others, unsure = np.empty(len(a)), np.empty(len(a), np.int64), np.zeros(len(a), bool)
    for at in range(0, len(a), block):
        rows = slice(at, at + block)
        which = np.arange(at, min(at + block, len(a)))
        squares[rows], others[rows], _, unsure[rows] = _settle(near.square[rows], near.other[rows], which, k, a, b, UNIT, len(b) - (a is b))
    again = np.flatnonzero(unsure)
    columns = _first_copies(b.points, k + 1) if len(again) else again
    for start in range(0, len(again), block):
        which = again[start : start + block]
        finer = Lists(len(which), min(k + SPARE, len(columns)), np.float64)
        for some, tile in _wide(which, columns, a, b, block):
            point, other, square = finer.entering(tile)
            finer.merge(0, point, some[other], square)
        squares[which], others[which], top, still = _settle(finer.square, finer.other, which, k, a, b, UNIT_WIDE, len(columns))
        which, top = which[still], top[still, None] + a.nothing
        last = Lists(len(which), k, np.float64)
        for some, tile in _wide(which, columns, a, b, block) if len(which) else ():
            row, column = np.nonzero(tile <= top + a.rounding * UNIT_WIDE / UNIT * (a.norms[which, None] + b.norms[some]))
            last.merge(0, row, some[column], pairs(a, b, which[row], some[column]))
        squares[which], others[which] = last.square[:, k - 1], last.other[:, k - 1]
    return squares, others


def _settle(
    square: np.ndarray, other: np.ndarray, which: np.ndarray, k: int, a: Cloud, b: Cloud, unit: float, total: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """From rounded lists the exact k-th and whose it is; what it is at most, as rounded; and where something left out may be nearer.

    Only what may be the k-th is computed: neighbours surely nearer are counted. square, other: [rows, keep], ascending, of `total`.
    """
    finer = unit / UNIT
    square = square.astype(np.float64)
    width = a.width(square, a.norms[which, None], b.norms[other]) * finer
    most, least = square + width, square - width
    left_out = np.full(len(which), np.inf)
    full = np.isfinite(square[:, -1]) & (square.shape[1] < total)
    left_out[full] = square[full, -1] - a.width(square[full, -1], a.norms[which[full]], float(b.norms.max())) * finer
    top = most[:, :k].max(axis=1)  # the k-th is no farther, and no nearer than `bottom`
    bottom = np.minimum(least[:, k - 1 :].min(axis=1), left_out)
    below = most < bottom[:, None]
    maybe = ~below & (least <= top[:, None])
    exact = np.full(square.shape, np.inf)
    exact[maybe] = pairs(a, b, which[np.nonzero(maybe)[0]], other[maybe])
    value = np.sort(exact, axis=1)[np.arange(len(which)), k - 1 - below.sum(axis=1)]
    found = np.where(exact == value[:, None], other, len(b)).min(axis=1)
    return value, found, top, (left_out <= top) & (value > 0)  # k at distance 0 are nearest for certain


def _wide(which: np.ndarray, columns: np.ndarray, a: Cloud, b: Cloud, block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """float64 tiles of squared distances from some points of `a` to some of `b`, scaled; a point is infinitely far from itself."""
    left = (a.points[which] - a.centre) * a.scale
    norms = np.einsum("ij,ij->i", left, left)
    for at in range(0, len(columns), block):
        some = columns[at : at + block]
        right = (b.points[some] - b.centre) * b.scale
        tile = left @ right.T
        tile *= -2.0
        tile += norms[:, None]
        tile += np.einsum("ij,ij->i", right, right)
        if a is b:
            tile[which[:, None] == some] = np.inf
        yield some, tile


def _first_copies(points: np.ndarray, most: int) -> np.ndarray:
    """Rows that repeat fewer than `most` earlier ones: further copies of a point cannot change who its k nearest are. int64, ascending."""
    seen: dict[bytes, int] = {}
    keep = []
    for i, row in enumerate(points):
        name = blake2b(row.tobytes(), digest_size=16).digest()
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= most:
            keep.append(i)
    return np.array(keep, np.int64)


def places(flat: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of flat places; several times as fast as divmod."""
    row = flat // columns
    return row, flat - row * columns


def up(bound: np.ndarray) -> np.ndarray:
    return np.nextafter(bound.astype(np.float32), np.float32(np.inf))
