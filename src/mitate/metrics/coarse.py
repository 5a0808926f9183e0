"""Distances by a product of short floats first: most pairs are ruled out in bfloat16, the few left are computed from differences.

A point x, centred and scaled, is rounded to bfloat16; how far it moved, e, is known. By the triangle inequality the distance of two points
lies within e_i + e_j of that of the rounded ones, D. Their squared distance comes from a product whose dot is rounded to bfloat16 once
more (u) and summed in float32 (v): it is wrong by at most w = u |2 x.y| + v |x||y|. Since |y| <= |x| + D, |2 x.y| is at most
2 |x| (|x| + D) or D^2, whichever is more, and w needs the norm of one point only. Pairs which these bounds cannot rule out are computed
in float32 and, where that leaves a doubt, in float64: every distance is that of float32 tiles (`nearest`), to the last bit. Where too many
pairs are left, as in noise of many dimensions or with many ties, `TooClose` is raised.

Processors with dot products of bfloat16 take this product about twice as fast as one of float32; `quick` measures that.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mitate.metrics.nearest import PANEL, TINY, Cloud, Lists, pairs, places, rounded, up

if TYPE_CHECKING:
    from torch import Tensor

UNIT = 2.0**-8  # rounding of bfloat16
KEPT = 2**22  # numbers of a set that are kept rounded; larger sets are rounded again as they are met
MOST = 32  # pairs left for each point, on average; beyond it float32 tiles are quicker
LEAST = 1000  # points; fewer are done in no time
LEAST_FEATURES, MOST_FEATURES = 128, 2**14  # beyond, sums of float32 would need wider bounds
PAIRS = 2**17  # numbers held at once where single pairs are computed
MODERATE = 2.0**-40  # scale of features, and one over it, whose squares float32 holds
GAIN = 1.5  # times as fast as float32 the product must be


class TooClose(Exception):
    """Too many pairs are left to compute."""


@functools.cache
def quick() -> bool:
    """Whether a product of bfloat16 is faster here, and as exact as its bound says. The answer changes the time of a pass, never its result."""
    import torch

    chance = np.random.default_rng(0)
    a, b = (chance.normal(size=(512, 512)).astype(np.float32) for _ in range(2))
    short, other, out = torch.from_numpy(a).bfloat16(), torch.from_numpy(b).bfloat16(), torch.empty(512, 512, dtype=torch.bfloat16)
    whole, shorts, floats = np.empty((512, 512), np.float32), [], []
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(short, other.T, out=out)
        middle = time.perf_counter()
        np.matmul(a, b.T, out=whole)
        shorts.append(middle - started)
        floats.append(time.perf_counter() - middle)
    true = short.double() @ other.double().T
    bound = 1.01 * UNIT * true.abs() + _summing(512) * short.double().norm(dim=1)[:, None] * other.double().norm(dim=1)
    return GAIN * min(shorts) < min(floats) and bool(((out.double() - true).abs() <= bound).all())


def worth_trying(n: int, d: int) -> bool:
    """Whether sets of up to n points of d features gain by it here."""
    return n >= LEAST and LEAST_FEATURES <= d <= MOST_FEATURES and quick()


def _summing(d: int) -> float:
    """What float32 sums of d products lose, as a share of |x||y|, in any order."""
    return 2.0 * (d + 8) * 2.0**-24


class Rounded:
    """A set in bfloat16: norms float32 [n] of the rounded points, squared, and how far they lie from the true ones, float64 [n]."""

    def __init__(self, cloud: Cloud, block: int) -> None:
        import torch

        self.cloud = cloud
        self.norms, self.off = np.empty(len(cloud), np.float32), np.empty(len(cloud))
        self.kept = torch.empty(cloud.points.shape, dtype=torch.bfloat16) if cloud.points.size <= KEPT else None
        for at in range(0, len(cloud), block):
            rows = slice(at, at + block)
            true = self._scaled(rows)
            short_rows = torch.from_numpy(true).bfloat16()
            if self.kept is not None:
                self.kept[rows] = short_rows
            short = short_rows.float().numpy()
            self.norms[rows] = np.einsum("ij,ij->i", short, short, dtype=np.float64)
            size = np.sqrt(np.einsum("ij,ij->i", true, true))
            true -= short
            self.off[rows] = np.sqrt(np.einsum("ij,ij->i", true, true)) * 1.001 + 2.0**-22 * size
        self.sizes = np.sqrt(self.norms.astype(np.float64)) * (1 + 1e-6) + TINY
        self.widest = float(self.off.max())

    def __len__(self) -> int:
        return len(self.cloud)

    def _scaled(self, which: slice) -> np.ndarray:
        some = self.cloud.points[which]
        return rounded(some, self.cloud.centre, self.cloud.scale, np.empty((len(some), some.shape[1] + 2), np.float32))[:, :-2]

    def rows(self, which: slice) -> Tensor:
        import torch

        return torch.from_numpy(self._scaled(which)).bfloat16() if self.kept is None else self.kept[which]

    def wrong(self, apart: np.ndarray, which: slice = slice(None)) -> np.ndarray:
        """How far a tile's value may be from the squared distance of rounded points that are at most `apart` from these."""
        size = self.sizes[which].reshape(-1, *[1] * (apart.ndim - 1))
        product, square = size * (size + apart), np.square(apart)
        summed = 2 * _summing(self.cloud.points.shape[1]) * product + 2.0**-21 * (product + square)
        return 1.01 * UNIT * np.maximum(2 * product, square) + summed + self.cloud.nothing


class Shorts:
    """One way to walk the tiles: bfloat16 products. Holds the buffers of a tile, and each set as it is rounded."""

    def __init__(self, block: int) -> None:
        import torch

        self.block = block
        self.short, self.flat, self.masks = torch.empty(block**2, dtype=torch.bfloat16), np.empty(block**2, np.float32), np.empty((2, block**2), bool)
        self.sets: dict[int, Rounded] = {}

    def of(self, cloud: Cloud) -> Rounded:
        if id(cloud) not in self.sets:
            self.sets[id(cloud)] = Rounded(cloud, self.block)
        return self.sets[id(cloud)]

    def panels(self, cloud: Cloud) -> Iterator[tuple[range, Tensor]]:
        """A few blocks of rows at a time, and which points they are."""
        import torch

        for start in range(0, len(cloud), PANEL * self.block):
            points = range(start, min(start + PANEL * self.block, len(cloud)))
            blocks = [self.right(cloud, slice(i, min(i + self.block, points.stop))) for i in points[:: self.block]]
            yield points, torch.cat(blocks)

    def right(self, cloud: Cloud, which: slice) -> Tensor:
        return self.of(cloud).rows(which)

    def tile(self, a: Cloud, rows: slice, left: Tensor, b: Cloud, columns: slice, right: Tensor) -> np.ndarray:
        """Squared distances of rounded points, scaled, within `Rounded.wrong` of the truth; overwritten by the next tile."""
        import torch

        shape = (len(left), len(right))
        size = shape[0] * shape[1]
        short, tile = self.short[:size].view(shape), self.flat[:size].reshape(shape)
        torch.mm(left, right.T, out=short)
        torch.mul(short, -2.0, out=torch.from_numpy(tile))
        tile += self.of(a).norms[rows, None]
        tile += self.of(b).norms[columns]
        if a is b and rows == columns:
            np.fill_diagonal(tile, np.inf)
        return tile

    def mask(self, tile: np.ndarray, which: int = 0) -> np.ndarray:
        return self.masks[which, : tile.size].reshape(tile.shape)

    def finder(self, a: Cloud, b: Cloud, k: int) -> Finder:
        return Finder(self.of(a), self.of(b), k)

    def edges(self, cloud: Cloud, other: Cloud, square: np.ndarray) -> np.ndarray:
        """float32 [2, n, ks]: a tile's value below the first is surely less than `square`, one from the second on surely is not."""
        points = self.of(cloud)
        radius, wide = np.sqrt(square) * cloud.scale, (points.off + self.of(other).widest)[:, None]
        near, far = (radius - wide) * (1 - 1e-9), (radius + wide) * (1 + 1e-9)
        low = np.where(near > 2 * UNIT * points.sizes[:, None], np.square(near) - points.wrong(np.abs(near)), -np.inf)
        edges = np.stack([np.nextafter(low.astype(np.float32), np.float32(-np.inf)), up(np.square(far) + points.wrong(far))])
        edges[:, square == 0] = -np.inf  # nothing is nearer than 0
        return edges

    def nearer(self, a: Cloud, b: Cloud, i: np.ndarray, j: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Whether the exact squared distance of each pair is less than `square`. bool [pairs]."""
        if 16 * len(i) > self.block**2:
            raise TooClose
        about, wrong, hidden = _about(a, b, i, j)
        less = about < square
        unsure = np.flatnonzero(np.abs(about - square) <= wrong * square + hidden)
        less[unsure] = pairs(a, b, i[unsure], j[unsure]) < square[unsure]
        return less


class Finder:
    """The exact k nearest of each point of a set, from all pairs that may be among them, gathered tile by tile."""

    def __init__(self, own: Rounded, other: Rounded, k: int) -> None:
        self.near = Lists(len(own), k)
        self.own, self.other = own, other
        self.wide = own.off + other.widest
        self.pool: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.held, self.full = 0, 8 * len(own)  # pairs in the pool, and how many are let in before it is gone through

    def _reach(self, bound: np.ndarray, at: int) -> np.ndarray:
        """What a tile's value of one of the k nearest may be at most, where the k-th smallest value is at most `bound`. float32 [points]."""
        which = slice(at, at + len(bound))
        square = np.maximum(bound.astype(np.float64), 0.0)
        kth = np.sqrt(square + 2.0 * self.own.wrong(np.sqrt(square), which))  # twice: the bound holds at the distance, the value is only near it
        farthest = (kth + 2.0 * self.wide[which]) * (1 + 1e-9)
        return up(np.square(farthest) + self.own.wrong(farthest, which))

    def rows(self, tile: np.ndarray, mask: np.ndarray, at: int, others_at: int) -> None:
        bound = self.near.bound(tile, at, axis=1)
        where = np.flatnonzero(np.less_equal(tile, self._reach(bound, at)[:, None], out=mask))
        point, other = places(where, tile.shape[1])
        self._take(point, other, tile.reshape(-1)[where], bound, at, others_at, ordered=True)

    def columns(self, tile: np.ndarray, mask: np.ndarray, at: int, others_at: int) -> None:
        bound = self.near.bound(tile, at, axis=0)
        where = np.flatnonzero(np.less_equal(tile, self._reach(bound, at), out=mask))
        other, point = places(where, tile.shape[1])
        self._take(point, other, tile.reshape(-1)[where], bound, at, others_at, ordered=False)

    def _take(self, point: np.ndarray, other: np.ndarray, square: np.ndarray, bound: np.ndarray, at: int, others_at: int, *, ordered: bool) -> None:
        if not len(point):
            return
        self.pool.append(((point + at).astype(np.int32), (other + others_at).astype(np.int32), square))
        self.held += len(point)
        closer = np.flatnonzero(square < bound[point])
        if len(closer):
            if not ordered:
                closer = closer[np.argsort(point[closer], kind="stable")]
            self.near.merge(at, point[closer], other[closer] + others_at, square[closer])
        if self.held > self.full:
            self.prune()

    def prune(self) -> tuple[np.ndarray, np.ndarray]:
        point, other, square = (np.concatenate(part) for part in zip(*self.pool, strict=True))
        stays = square <= self._reach(self.near.square[:, -1], 0)[point]
        point, other, square = point[stays], other[stays], square[stays]
        if len(point) > MOST * len(self.own):
            raise TooClose
        self.pool, self.held, self.full = [(point, other, square)], len(point), 2 * len(point) + 8 * len(self.own)
        return point, other

    def nearest(self, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Exact squared distances to the k-th nearest, float64 [n, ks], and the row of the first k's, int64 [n]."""
        point, other = self.prune()
        square, wrong, hidden = _about(self.own.cloud, self.other.cloud, point, other)
        order = np.lexsort((square, point))
        point, other, square = point[order], other[order], square[order]
        first = np.searchsorted(point, np.arange(len(self.own)))
        exact, nearest = [], np.empty(0, np.int64)
        for k in ks:
            kth = square[first + k - 1][point]
            maybe = np.flatnonzero(np.abs(square - kth) <= 2 * (wrong * kth + hidden))
            some, rival = point[maybe], other[maybe]
            begin = np.searchsorted(some, np.arange(len(self.own)))
            true = pairs(self.own.cloud, self.other.cloud, some, rival)
            by = np.lexsort((rival, true, some))
            place = begin + k - 1 - (maybe[begin] - first)
            exact.append(true[by][place])
            nearest = nearest if len(exact) > 1 else rival[by][place].astype(np.int64)
        return np.stack(exact, axis=1), nearest


def _about(a: Cloud, b: Cloud, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Squared distances of single pairs by differences in float32, in the features' own units; what share of them, and what besides, may be wrong."""
    if not (a.points.dtype == b.points.dtype == np.float32 and MODERATE < a.scale < 1 / MODERATE):
        return pairs(a, b, i, j), 0.0, 0.0
    d = a.points.shape[1]
    step = max(1, PAIRS // d)
    left, right, squares = np.empty((step, d), np.float32), np.empty((step, d), np.float32), np.empty(len(i), np.float32)
    for start in range(0, len(i), step):
        count = min(step, len(i) - start)
        some, other = left[:count], right[:count]
        np.take(a.points, i[start : start + count], axis=0, out=some, mode="clip")
        np.take(b.points, j[start : start + count], axis=0, out=other, mode="clip")
        some -= other
        np.einsum("ij,ij->i", some, some, out=squares[start : start + count])
    return squares, (d + 4) * 2.0**-23, 4 * d * TINY
