"""Near-duplicates: copies that were re-encoded, resized, brightened or cropped by up to 2 %, among images that all look alike.

Images of one class can be closer than 0.98 in plain correlation without being copies, so the rule has two parts. (1) One image
is fitted by the other plus its first-order shift, stretch and brightness (Lucas and Kanade 1981); what is left, as a share of
variance, is the `residual`. (2) The residual must be tiny beside the data's own spacing: the residual to the 8th neighbour.
Bursts of 8 copies and more narrow that spacing and hide themselves, so whether images copy held-back ones is asked with the
spacing of the held-back ones alone (`near_copies`).

Measured by benchmarks/bench_near_duplicates.py; recall of 100 made copies each (among at most 3,100
images), in percent, and pairs found in the whole set as it came:

    data              n   jpeg 90/75/50   half/double size   crop 1 % a side (+ jpeg 75)   2 % off a corner   pairs, of them false
    fashion_20       200   100 100  98       96 100            100 (100)                        96               0
    coffee_leaf      690   100 100  99      100 100             99 (97)                        95               0
    bccd_cells       779   100  99  95      100 100            100 (99)                       100               2, 0
    grocery_fruit    260   100 100 100      100 100            100 (100)                        80               0
    omniglot         240   100 100 100      100 100            100 (100)                        91               0
    digits          1797   100  96  11      100 100            100 (91)                       100               0
    kmnist          3000   100 100 100       96 100            100 (100)                       100               0
    cifar10         3000   100  99  93      100 100            100 (99)                       100               6, 0
    fashion_mnist  30000   100 100  81       65 100            100 (99)                        78               24, 2 in doubt

Every pair was looked at: one garment photographed or coloured anew (in doubt: one with another print, one pair of trousers), one
cell photographed twice (one of them in train and in test), the known repeats of CIFAR-10. Blind spots: JPEG 50 of 8 x 8 images,
half size of 28 x 28 ones, mirrored and turned copies, copies that differ in colour alone are called copies.

`near_copies`, a random share of a set held back (measured once, not by the benchmark): recall in percent on bursts of 12 copies of
20 held images (crop to 1.2 % a side, half of them brighter, JPEG 70 to 94); then the other images called copies, and in brackets
those that `near_duplicates` called so:

    data                   n   half held       a fifth        a twentieth (at least 10)
    fashion_20           200   100, 0 (0)     100, 0 (0)     100, 0 (0)
    coffee_leaf          690   100, 0 (0)      95, 0 (0)     100, 0 (0)
    bccd_cells           779   100, 1 (1)     100, 1 (1)     100, 0 (0)
    grocery_fruit        260   100, 0 (0)     100, 0 (0)      98, 0 (0)
    digits              1797    86, 0 (0)      81, 0 (0)      97, 0 (0)
    fashion_mnist       4000   100, 2 (1)     100, 0 (0)     100, 0 (0)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mitate import codec

SIDE = 32  # thumbnails are 32 x 32 grey
NEIGHBOURS = 8
HELD_A_NEIGHBOUR = 100  # held images a neighbour, at least 2 neighbours: few images lie far apart and would call look-alikes copies
RATIO = 0.06  # of the spacing; copies lie below 0.03 as a rule, images of one class above 0.1
GLOBAL_RATIO = 0.02  # of the median spacing, so that a burst of more than 8 copies does not hide itself
LARGEST = 0.06  # share of variance; above this no pair is called a copy, however lonely both images are
HOPE = 6.0  # a candidate whose first-order residual is within so many bounds is registered in full
FLAT = 3.0  # grey levels of standard deviation; a flatter image has nothing to compare
BLOCK, COLUMNS = 1024, 65_536  # images that are compared at once, and with how many others: they set the memory


@dataclass(frozen=True)
class Pair:
    """Two images that are one picture: rows a < b, the residual and the spacing that it was judged by."""

    a: int
    b: int
    residual: float
    spacing: float


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 [32, 32] grey of uint8 [h, w, c]; box filter where much is thrown away, else bicubic."""
    image = codec.to_image(pixels)
    if min(image.size) >= 2 * SIDE:
        image = image.reduce(max(1, min(image.size) // (4 * SIDE)))
    filter = Image.Resampling.BOX if min(image.size) >= 2 * SIDE else Image.Resampling.BICUBIC
    return np.asarray(image.convert("L").resize((SIDE, SIDE), filter))


def near_duplicates(thumbs: np.ndarray, sides: np.ndarray | None = None) -> list[Pair]:
    """Pairs of copies among thumbnails, best first.

    thumbs: uint8 [n, 32, 32]. sides: the smaller side of each original in pixels; a small copy of a small image is compared at
    the coarser of the two. Needs memory for 2 kB an image and a block of 1,024 x 65,536 floats, and time for n x n x 256 multiplications.
    """
    rows = _detailed(thumbs)
    if len(rows) < 2:
        return []
    images = thumbs[rows]
    sides = np.full(len(rows), SIDE) if sides is None else np.asarray(sides)[rows]
    near = _neighbours(images, images, min(NEIGHBOURS, len(rows) - 1), itself=True)
    forward = _forward(images, sides, images, sides, near)
    spacing = np.maximum(forward.max(axis=1), 1e-4)
    typical = float(np.median(spacing))
    pairs = {}
    local = np.minimum(spacing[:, None], spacing[near])
    bound = np.minimum(LARGEST, np.maximum(RATIO * local, GLOBAL_RATIO * typical))
    for i, slot in zip(*np.nonzero(forward <= HOPE * bound), strict=True):
        j = int(near[i, slot])
        residual = _both_ways(_float(images[i]), int(sides[i]), _float(images[j]), int(sides[j]), float(bound[i, slot]))
        if residual <= bound[i, slot]:
            a, b = sorted((int(rows[i]), int(rows[j])))
            pairs[a, b] = Pair(a, b, residual, float(local[i, slot]))
    return sorted(pairs.values(), key=lambda p: (p.residual / p.spacing, p.a, p.b))


def near_copies(outside: np.ndarray, held: np.ndarray, outside_sides: np.ndarray | None = None, held_sides: np.ndarray | None = None) -> list[Pair]:
    """Images of `outside` (row a) that are copies of an image of `held` (row b), best first.

    outside, held: uint8 [n, 32, 32] and [m, 32, 32]; sides as in `near_duplicates`. The spacing is that of the held images among
    themselves, so that a burst of copies cannot narrow it, however many there are. Fewer than 3 held images have no spacing: none.
    """
    rows, kept = _detailed(outside), _detailed(held)
    if len(rows) == 0 or len(kept) < 3:
        return []
    ours, theirs = outside[rows], held[kept]
    our_sides = np.full(len(rows), SIDE) if outside_sides is None else np.asarray(outside_sides)[rows]
    their_sides = np.full(len(kept), SIDE) if held_sides is None else np.asarray(held_sides)[kept]
    among = _neighbours(theirs, theirs, max(2, min(NEIGHBOURS, len(kept) // HELD_A_NEIGHBOUR)), itself=True)
    spacing = np.maximum(_forward(theirs, their_sides, theirs, their_sides, among).max(axis=1), 1e-4)
    near = _neighbours(ours, theirs, min(NEIGHBOURS, len(kept)))
    forward = _forward(ours, our_sides, theirs, their_sides, near)
    bound = np.minimum(LARGEST, np.maximum(RATIO * spacing, GLOBAL_RATIO * float(np.median(spacing))))
    pairs = []
    for i, slot in zip(*np.nonzero(forward <= HOPE * bound[near]), strict=True):
        j = int(near[i, slot])
        residual = _both_ways(_float(ours[i]), int(our_sides[i]), _float(theirs[j]), int(their_sides[j]), float(bound[j]))
        if residual <= bound[j]:
            pairs.append(Pair(int(rows[i]), int(kept[j]), residual, float(spacing[j])))
    return sorted(pairs, key=lambda p: (p.residual / p.spacing, p.a, p.b))


def _both_ways(one: np.ndarray, side: int, other: np.ndarray, other_side: int, bound: float) -> float:
    """The larger of the two registered residuals, at the coarser of the two sizes; the first alone where it is above `bound`."""
    small = min(side, other_side) if side != other_side else SIDE
    if small < SIDE:
        one, other = _at(one, small), _at(other, small)
    residual = _registered(one, other)
    return residual if residual > bound else max(residual, _registered(other, one))


def _forward(images: np.ndarray, sides: np.ndarray, others: np.ndarray, other_sides: np.ndarray, near: np.ndarray) -> np.ndarray:
    """float64 [n, k]: the share of each neighbour among `others` that the image cannot explain."""
    forward = np.empty(near.shape, dtype=np.float64)
    for start in range(0, len(images), BLOCK // 2):
        block = slice(start, start + BLOCK // 2)
        unit = _unit(_float(others[near[block]]).reshape(-1, SIDE * SIDE)).reshape(*near[block].shape, -1)
        forward[block] = 1 - (np.matmul(unit, _basis(_float(images[block]))) ** 2).sum(axis=2)
    # where two originals differ in size and one is under 32 pixels, compare both at the smaller size
    small = np.minimum(other_sides[near], sides[:, None])
    for i, slot in zip(*np.nonzero((other_sides[near] != sides[:, None]) & (small < SIDE)), strict=True):
        side = int(small[i, slot])
        forward[i, slot] = _residual(_at(_float(others[near[i, slot]]), side), _at(_float(images[i]), side))
    return forward


def _detailed(thumbs: np.ndarray) -> np.ndarray:
    """Rows of thumbnails that are not flat, int64."""
    return np.flatnonzero(np.concatenate([thumbs[i : i + BLOCK].std(axis=(1, 2)) for i in range(0, len(thumbs), BLOCK)] or [np.empty(0)]) >= FLAT)


def _float(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)


def _unit(flat: np.ndarray) -> np.ndarray:
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _neighbours(images: np.ndarray, others: np.ndarray, k: int, *, itself: bool = False) -> np.ndarray:
    """The k of `others` most correlated with each image at 16 x 16, int64 [n, k], in no order; blocked. itself: `others` are the images."""
    ours = _coarse(images)
    theirs = ours if itself else _coarse(others)
    near = np.empty((len(images), k), dtype=np.int64)
    for start in range(0, len(images), BLOCK):
        unit = ours[start : start + BLOCK]
        best: list[tuple[np.ndarray, np.ndarray]] = []
        for first in range(0, len(theirs), COLUMNS):
            block = unit @ theirs[first : first + COLUMNS].T
            if itself:
                mine = np.arange(max(start, first), max(start, first, min(start + len(unit), first + block.shape[1])))
                block[mine - start, mine - first] = -2
            found = _largest(block, min(k, block.shape[1]))
            best.append((np.take_along_axis(block, found, axis=1), found + first))
        likeness, found = (np.concatenate(parts, axis=1) for parts in zip(*best, strict=True))
        near[start : start + BLOCK] = found if found.shape[1] == k else np.take_along_axis(found, _largest(likeness, k), axis=1)
    return near


def _coarse(images: np.ndarray) -> np.ndarray:
    """Unit vectors of images at 16 x 16, float32 [n, 256]."""
    out = np.empty((len(images), (SIDE // 2) ** 2), dtype=np.float32)
    for start in range(0, len(images), BLOCK):
        some = _float(images[start : start + BLOCK])
        out[start : start + BLOCK] = _unit(some.reshape(len(some), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4)).reshape(len(some), -1))
    return out


def _largest(block: np.ndarray, k: int, width: int = 64) -> np.ndarray:
    """Columns of the k largest values of each row, in no order. Only the k stretches with the largest maxima can hold them."""
    n = block.shape[1]
    if n <= 4 * k * width:
        return np.argpartition(block, -k, axis=1)[:, -k:]
    whole = n - n % width
    peaks = block[:, :whole].reshape(len(block), -1, width).max(axis=2)
    stretches = np.argpartition(peaks, -k, axis=1)[:, -k:]
    columns = (stretches[:, :, None] * width + np.arange(width)).reshape(len(block), -1)
    columns = np.concatenate([columns, np.broadcast_to(np.arange(whole, n), (len(block), n - whole))], axis=1)
    best = np.argpartition(np.take_along_axis(block, columns, axis=1), -k, axis=1)[:, -k:]
    return np.take_along_axis(columns, best, axis=1)


def _basis(images: np.ndarray) -> np.ndarray:
    """Orthonormal [n, 1024, 5] spanning the columns of each image, without their means."""
    columns = _columns(images)
    columns = columns - columns.mean(axis=1, keepdims=True)
    return np.linalg.qr(columns.astype(np.float64))[0].astype(np.float32)


def _columns(images: np.ndarray) -> np.ndarray:
    """[n, 1024, 5]: each image and its derivatives by shift and stretch, across and down: what a copy is made of."""
    dy, dx = np.gradient(images, axis=(1, 2))
    across = np.linspace(-1, 1, SIDE, dtype=np.float32)
    return np.stack([images, dx, dy, across[None, None, :] * dx, across[None, :, None] * dy], axis=-1).reshape(len(images), SIDE * SIDE, 5)


def _registered(image: np.ndarray, by: np.ndarray) -> float:
    """The residual of `image` by `by` as it is, and after up to two steps of registration (then without the border, which may
    have been cropped); the least of them."""
    best = 1.0
    for edge in (0, 2, 2):
        inner = slice(edge, SIDE - edge)
        basis = _columns(by[None])[0].reshape(SIDE, SIDE, 5)[inner, inner].reshape(-1, 5).astype(np.float64)
        target = image[inner, inner].reshape(-1).astype(np.float64)
        basis, target = basis - basis.mean(axis=0), target - target.mean()
        fit = np.linalg.lstsq(basis, target, rcond=None)[0]
        left = float(((target - basis @ fit) ** 2).sum() / max(float((target**2).sum()), 1e-6))
        if left >= best or fit[0] <= 0.3:  # no better, or not the same picture (faint, inverted)
            break
        best = left
        by = _warped(by, *(fit[1:] / fit[0]))
    return best


def _warped(image: np.ndarray, right: float, down: float, wide: float, high: float) -> np.ndarray:
    """`image` moved and stretched by the fitted pixels, at most 2; edges are repeated."""
    right, down, wide, high = (float(np.clip(v, -2, 2)) for v in (right, down, wide, high))
    pad = 6
    a, e = 1 + 2 * wide / (SIDE - 1), 1 + 2 * high / (SIDE - 1)
    c, f = right - wide + 0.5 - 0.5 * a + pad, down - high + 0.5 - 0.5 * e + pad
    padded = Image.fromarray(np.pad(image, pad, mode="edge"))
    return np.asarray(padded.transform((SIDE, SIDE), Image.Transform.AFFINE, (a, 0, c, 0, e, f), Image.Resampling.BICUBIC), dtype=np.float32)


def _residual(image: np.ndarray, by: np.ndarray) -> float:
    unit = _unit(image.reshape(1, -1))[0]
    return float(1 - ((unit @ _basis(by[None])[0]) ** 2).sum())


def _at(image: np.ndarray, side: int) -> np.ndarray:
    """A thumbnail as an original of `side` pixels would have given it."""
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
