"""Copies changed by more than `duplicates` bears: cropped by up to a fifth, mirrored, turned, brightened, re-encoded, resized.

Asked of two sets: which of our images are copies of known (synthetic) ones? Three steps on 32 x 32 grey thumbnails.

1. *Search.* Each image in its eight turns, 8 x 8, against 49 windows of each known one (the whole, nine tenths or four fifths of each side,
   at three places): the 48 known images with the highest correlation go on, with their three best turns each.
2. *Register.* At 16 x 16 the known image is moved and stretched onto the image (Lucas and Kanade 1981, four steps). What it plus its
   square (a tone curve: brightness, contrast, gamma) plus its Laplacian (blur, sharpening) cannot explain, as a share of variance, is
   the `residual`.
3. *Judge.* Images of one class can have small residuals without being copies, so a residual must be small beside two others: the
   `spacing`, to the sixth nearest known image, and the `usual` one, which the image's own look-alikes have to the known set. Each fails
   alone: among ten known garments a pair of trousers is far nearer to the only trousers than to the rest, but not nearer than other
   trousers are; among a thousand, the known ones tell more finely. So weight moves from `usual` to `spacing` as the known set grows. The
   residual must also be small beside the variance within two tones: where a leaf's edge before a white wall is all there is, any other
   edge fits it. Turned copies are rare, so they must be twice as near.

Nearest-neighbour residuals of distinct images grow like rank ** (2 / d) in a set of intrinsic dimension d, so the bound is a ratio and needs
no scale of the data. The bounds were chosen on Fashion-MNIST, blood cells, coffee leaves and Omniglot; benchmarks/scan_quality.py measures them,
there and on sets that had no say, and docs/scan.md has the numbers and the blind spots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mitate.intake.duplicates import FLAT, SIDE
from mitate.progress import Progress, Silent

COARSE, FINE = 8, 16  # pixels at which images are searched and registered
AXIS = ((0.0, 1.0), (0.0, 0.9), (0.05, 0.9), (0.1, 0.9), (0.0, 0.8), (0.1, 0.8), (0.2, 0.8))  # (start, length) of windows, in shares of a side
TURNS = 8  # bit 0: mirrored, bit 1: upside down, bit 2: sides swapped first
CANDIDATES = 48  # known images that go from search to registration
POSES = 3  # turns of a candidate that are tried
FIRST = 72  # candidates in a turn that get one step of registration
LAST = 16  # of them that are registered to the end
STEPS = 4
DOUBT, AGAIN = 0.6, 8  # of the spacing: what stands out so far without being sure is registered again from the 8 best of all windows
SHORTEST, LONGEST = 0.77, 1.1  # length of a window, in shares of the known image's side
LOW = 24  # pixels; an image with a smaller side is compared at its own resolution
RANK = 5  # known images, beside the nearest, to the one that gives the spacing: up to four variants of one known image do no harm
ALIKE = 30  # look-alikes that give the usual residual
FEWEST_ALIKE = 10
RATIO = 0.13  # of what is to be expected; distinct images of one class lie above 0.18, copies below 0.1 as a rule
APART = 3.0  # spacing and usual residual count as at most so many times the other
TURNED_RATIO = 0.065  # the same, for all turns but the plain mirror image
DETAIL = 0.2  # of the variance within two tones; copies lie below 0.05, black and white drawings in strong JPEG below 0.17
LARGEST = 0.02  # share of variance; above this nothing is called a copy
SURE, SURE_RATIO = 0.005, 0.05  # a residual and a share of the spacing that need no look-alikes
ENOUGH = 300  # known images whose spacing may judge alone
BLOCK, CHUNK = 1024, 16  # known images searched at once, images registered at once: they set the memory

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Copy:
    """Image `row` is a copy of the known image `known`: how it was changed, and by how much it passed."""

    row: int
    known: int
    residual: float  # share of variance that the registered known image does not explain
    expected: float  # residual that a distinct image would have, from spacing and look-alikes; nan where neither is known
    turn: int  # 0 to 7, as in TURNS: what was done to the copy, seen from the known image
    window: Window  # top, height, left, width of what is left of the known image, in shares of its sides
    gain: float  # contrast of the copy over that of the known image


def copies(
    suspects: np.ndarray,
    known: np.ndarray,
    *,
    sides: Sequence[int] | np.ndarray | None = None,
    known_shapes: Sequence[tuple[int, int]] | None = None,
    progress: Progress | None = None,
) -> list[Copy]:
    """The images of `suspects` that are copies of one of `known`, in order of their rows, at most one entry each.

    suspects, known: uint8 [n, 32, 32] and [m, 32, 32] thumbnails; sides: the smaller side of each suspect in pixels (default: large);
    known_shapes: height and width of the known originals: of those that are not square the centre square is sought as well.
    Needs memory for 3 kB an image and one block, never n x m; time for n x m x 25,000 multiplications and a few ms an image of `suspects`.
    """
    rows = np.flatnonzero(suspects.std(axis=(1, 2)) >= FLAT)
    kept = np.flatnonzero(known.std(axis=(1, 2)) >= FLAT)
    if len(rows) == 0 or len(kept) == 0:
        return []
    images, theirs = suspects[rows].astype(np.float32), known[kept].astype(np.float32)
    small = np.full(len(rows), LOW) if sides is None else np.minimum(np.asarray(sides)[rows], LOW)
    squares, places, windows = _squares(theirs, kept, known_shapes)
    place = np.concatenate([np.arange(len(kept)), places])
    nearest = _trace(images, np.concatenate([theirs, squares]), place, small, progress or Silent())
    expected = _expected(nearest.residuals, images, len(kept))
    found = []
    for i in np.flatnonzero(_is_copy(nearest, expected, _detail(images))):
        row = int(nearest.rows[i])
        window = nearest.windows[i]
        if row >= len(kept):  # a window of the centre square, told as one of the whole image
            top, height, left, width = windows[row - len(kept)]
            window = np.array([top + height * window[0], height * window[1], left + width * window[2], width * window[3]])
        top, height, left, width = (round(float(v), 3) for v in window)
        found.append(
            Copy(
                int(rows[i]), int(kept[place[row]]), float(nearest.residuals[i, 0]), float(expected[i]), int(nearest.turns[i]),
                (top, height, left, width), float(nearest.gains[i]),
            )
        )  # fmt: skip
    return found


# judge ----------------------------------------------------------------------------------------------------------------


def _is_copy(nearest: _Nearest, expected: np.ndarray, detail: np.ndarray) -> np.ndarray:
    residual = nearest.residuals[:, 0]
    ratio = np.where(nearest.turns > 1, TURNED_RATIO, RATIO)
    return (_sure(nearest.residuals) | ((residual <= LARGEST) & (residual <= ratio * expected))) & (residual <= DETAIL * detail)


def _detail(images: np.ndarray) -> np.ndarray:
    """The share of variance that is left when a picture is put down in its two best tones (Otsu 1979), float64 [n]."""
    flat = np.sort((_FINE @ images @ _FINE.T).reshape(len(images), -1).astype(np.float64), axis=1)
    n = flat.shape[1]
    below, first = np.cumsum(flat, axis=1), np.arange(1, n)
    between = (below[:, :-1] - below[:, -1:] * first / n) ** 2 / (first * (n - first) / n)
    return 1 - between.max(axis=1) / np.maximum(n * flat.var(axis=1), 1e-6)


def _sure(residuals: np.ndarray) -> np.ndarray:
    """Copies that need no look-alikes to be told from."""
    spacing = _spacing(residuals)
    return (residuals[:, 0] <= SURE) & (np.isnan(spacing) | (residuals[:, 0] <= SURE_RATIO * spacing))


def _spacing(residuals: np.ndarray) -> np.ndarray:
    """The residual to the sixth nearest known image, or to the last one where fewer are known; nan with only one."""
    there = np.sum(~np.isnan(residuals), axis=1)
    return np.where(there > 1, residuals[np.arange(len(residuals)), np.minimum(RANK, there - 1)], np.nan)


def _expected(residuals: np.ndarray, images: np.ndarray, m: int) -> np.ndarray:
    """The residual to be expected of a distinct image, float64 [n]; nan where nothing tells.

    m: number of known images. Only images whose residual is small at all are looked at closely; the others get their spacing.
    """
    spacing = _spacing(residuals)
    sure = _sure(residuals)
    expected = spacing if m >= ENOUGH else np.full(len(spacing), np.nan)
    weight = min(1.0, max(0.0, math.log10(m / 10) / 2))
    flat = _unit((_RESAMPLED @ images @ _RESAMPLED.T).reshape(len(images), -1))
    for i in np.flatnonzero((residuals[:, 0] <= LARGEST) & ~sure):
        likeness = flat @ flat[i]
        likeness[i] = -2
        k = min(ALIKE, len(likeness) - 1)
        alike = np.argpartition(likeness, -k)[-k:] if k else np.empty(0, dtype=np.int64)
        others = alike[~sure[alike]]
        if len(others) < max(FEWEST_ALIKE, len(alike) / 2):  # too few, or most of them copies: they say nothing of what is usual
            continue
        usual = float(np.median(residuals[others, 0]))
        near = usual if np.isnan(spacing[i]) else float(spacing[i])
        expected[i] = min(near**weight * usual ** (1 - weight), APART * min(near, usual))
    return expected


# trace ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Nearest:
    """The nearest known image of each suspect, and how near the next ones are."""

    rows: np.ndarray  # int64 [n], of known
    residuals: np.ndarray  # float64 [n, RANK + 1], ascending, of distinct known images; nan where there are fewer
    turns: np.ndarray  # int64 [n]
    windows: np.ndarray  # float64 [n, 4]
    gains: np.ndarray  # float64 [n]


def _trace(images: np.ndarray, known: np.ndarray, place: np.ndarray, small: np.ndarray, progress: Progress) -> _Nearest:
    """place: int64, which known image each row of `known` is (one may stand there whole and as its centre square)."""
    n = len(images)
    seen = np.stack([_unit((_RESAMPLED @ _turned(images, t) @ _RESAMPLED.T).reshape(n, -1)) for t in range(TURNS)])
    candidates = _search(seen, known, progress, n)
    out = _Nearest(np.zeros(n, dtype=np.int64), np.full((n, RANK + 1), np.nan), np.zeros(n, dtype=np.int64), np.zeros((n, 4)), np.zeros(n))
    work = _search_work(n, len(known))
    done = 0
    for side, rows in _chunks(small):
        _register_chunk(images, known, place, candidates, seen, rows, side, out)
        done += len(rows)
        progress.step(work + done, work + n, "comparing closely")
    return out


def _search(seen: np.ndarray, known: np.ndarray, progress: Progress, n: int) -> np.ndarray:
    """The known images most like each image in any turn and window, int64 [n, k], best first. seen: [TURNS, n, COARSE ** 2]."""
    k = min(CANDIDATES, len(known))
    best, rows = np.full((n, k), -2, dtype=np.float32), np.zeros((n, k), dtype=np.int64)
    done, work = 0, _search_work(n, len(known))
    for first in range(0, len(known), BLOCK):
        views = np.ascontiguousarray(_views(known[first : first + BLOCK]).transpose(0, 2, 1))
        for start in range(0, n, BLOCK // 4):
            part = slice(start, start + BLOCK // 4)
            likeness = np.full((len(seen[0, part]), views.shape[2]), -2, dtype=np.float32)
            buffer = np.empty_like(likeness)
            for image in seen[:, part]:
                for view in views:
                    np.matmul(image, view, out=buffer)
                    np.maximum(likeness, buffer, out=likeness)
            top = np.argpartition(likeness, -min(k, likeness.shape[1]), axis=1)[:, -k:]
            both = np.concatenate([best[part], np.take_along_axis(likeness, top, axis=1)], axis=1)
            both_rows = np.concatenate([rows[part], top + first], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :k]
            best[part], rows[part] = np.take_along_axis(both, order, axis=1), np.take_along_axis(both_rows, order, axis=1)
            done += likeness.size
            progress.step(round(work * done / (n * len(known))), work + n, "searching")
    return rows


def _search_work(n: int, m: int) -> int:
    """What searching takes, in images registered: 10,000 pairs cost about as much as one."""
    return n * m // 10_000


def _chunks(small: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows in chunks of one (low) side."""
    for side in np.unique(small):
        rows = np.flatnonzero(small == side)
        for start in range(0, len(rows), CHUNK):
            yield int(side), rows[start : start + CHUNK]


def _register_chunk(
    images: np.ndarray, known: np.ndarray, place: np.ndarray, candidates: np.ndarray, seen: np.ndarray, rows: np.ndarray, side: int, out: _Nearest
) -> None:
    """Fill `out` for the images `rows`, whose smaller side is `side`."""
    n, k = len(rows), candidates.shape[1]
    which = candidates[rows].ravel()  # pairs: k of each image
    likeness = np.repeat(seen[:, rows].transpose(1, 0, 2), k, axis=0) @ _views(known[which]).transpose(1, 2, 0)  # [pairs, TURNS, windows]
    window_of, likeness = likeness.argmax(axis=2), likeness.max(axis=2)
    turns = np.argsort(-likeness, axis=1, kind="stable")[:, :POSES]
    first = np.argsort(-np.take_along_axis(likeness, turns, axis=1).reshape(n, -1), axis=1, kind="stable")[:, :FIRST]  # [n, tries]
    pair = (np.arange(n)[:, None] * k + first // POSES).ravel()
    turn = turns[pair, (first % POSES).ravel()]
    axis = np.array(AXIS, dtype=np.float64)
    vertical, horizontal = np.divmod(window_of[pair, turn], len(AXIS))
    window = np.concatenate([axis[vertical], axis[horizontal]], axis=1)
    turned = np.stack([_turned(images[rows], t) for t in range(TURNS)])
    fine = (_FINE @ turned @ _FINE.T).reshape(TURNS, n, -1)
    fine -= fine.mean(axis=2, keepdims=True)
    target, their = fine[turn, pair // k], known[which[pair]]
    rough = _rough(target, their, window, side).reshape(n, -1)
    several = 1 + int(place.size > 0 and place[-1] < len(place) - 1)  # centre squares stand beside their wholes
    last = np.argsort(rough, axis=1, kind="stable")[:, : LAST * several]
    tries = (np.arange(n)[:, None] * rough.shape[1] + last).ravel()
    residual, window, gain = _registered(target[tries], their[tries], window[tries], side)
    residual, window, gain = residual.reshape(n, -1), window.reshape(n, -1, 4), gain.reshape(n, -1)
    which, turn = which[pair[tries]].reshape(n, -1), turn[tries].reshape(n, -1)
    for i, row in enumerate(rows):
        order = np.argsort(residual[i], kind="stable")
        _, at = np.unique(place[which[i][order]], return_index=True)
        order = order[np.sort(at)][: RANK + 1]  # the best try of each known image
        out.residuals[row, : len(order)] = residual[i][order]
        best = order[0]
        out.rows[row], out.turns[row], out.windows[row], out.gains[row] = which[i][best], turn[i][best], window[i][best], gain[i][best]
    found = out.residuals[rows, 0]
    for row in rows[(found > SURE) & (found < DOUBT * _spacing(out.residuals[rows]))]:
        _look_again(fine[out.turns[row], np.flatnonzero(rows == row)], known[out.rows[row]], int(row), side, out)


def _look_again(target: np.ndarray, known: np.ndarray, row: int, side: int, out: _Nearest) -> None:
    """Register what stands out, but is no clear copy, from every window: one step may lead to a wrong place. target: [1, FINE ** 2]."""
    window = np.array([vertical + horizontal for vertical in AXIS for horizontal in AXIS], dtype=np.float64)
    target, their = np.repeat(target, len(window), axis=0), np.repeat(known[None], len(window), axis=0)
    tries = np.argsort(_rough(target, their, window, side), kind="stable")[:AGAIN]
    residual, window, gain = _registered(target[tries], their[tries], window[tries], side)
    best = int(np.argmin(residual))
    if residual[best] < out.residuals[row, 0]:
        out.residuals[row, 0], out.windows[row], out.gains[row] = residual[best], window[best], gain[best]


# register -------------------------------------------------------------------------------------------------------------


def _rough(target: np.ndarray, known: np.ndarray, window: np.ndarray, side: int) -> np.ndarray:
    """The residual with moves and stretches to first order, float64 [p]; 1 where the picture would be inverted."""
    columns, _ = _columns(_seen_through(known, window, side))
    fit, residual = _fit(columns, target)
    return np.where(fit[:, 0] > 0, residual, 1.0)


def _registered(target: np.ndarray, known: np.ndarray, window: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least residual on the way of STEPS steps of registration, with its window and gain. target: float32 [p, FINE ** 2], mean 0."""
    window = window.astype(np.float64)
    best, best_window, best_gain = np.ones(len(target)), window.copy(), np.zeros(len(target))
    for step in range(STEPS + 1):
        columns, scale = _columns(_seen_through(known, window, side))
        fit, residual = _fit(columns[:, :3], target)  # as it lies: the picture, its Laplacian and its square
        gain = fit[:, 0] / scale[:, 0]
        better = (residual < best) & (gain > 0)
        best[better], best_window[better], best_gain[better] = residual[better], window[better], gain[better]
        if step == STEPS:
            break
        fit = _fit(columns, target)[0] / scale
        down, right, tall, wide = (np.clip(fit[:, j] / np.maximum(fit[:, 0], 0.2) / FINE, -0.08, 0.08) for j in (3, 4, 5, 6))
        moved = np.empty_like(window)
        for start, shift, stretch in ((0, down, tall), (2, right, wide)):  # u -> u + shift + stretch * (u - 1/2), in shares of the copy's side
            moved[:, start] = window[:, start] + window[:, start + 1] * (shift - stretch / 2)
            moved[:, start + 1] = np.clip(window[:, start + 1] * (1 + stretch), SHORTEST, LONGEST)
        window = moved
    return best, best_window, best_gain


def _seen_through(known: np.ndarray, window: np.ndarray, side: int) -> np.ndarray:
    """float32 [p, FINE, FINE]: the windows of known thumbnails, at the resolution of an image of `side` pixels."""
    ways = []
    for start in (0, 2):
        if side < LOW:
            ways.append(_FINE @ _resampler(0.0, 1.0, SIDE, side) @ _resampler(window[:, start], window[:, start + 1], side))
        else:
            ways.append(_resampler(window[:, start], window[:, start + 1], FINE))
    return ways[0] @ known @ ways[1].transpose(0, 2, 1)


def _columns(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a copy is made of, float32 [p, 7, FINE ** 2] of mean 0 and length 1, and the lengths: the picture, its Laplacian and square, and its
    derivatives by shift down and right and by stretch down and right."""
    across = ((np.arange(FINE) + 0.5) / FINE - 0.5).astype(np.float32)
    edge = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    whole = np.empty((len(pictures), 7, FINE, FINE), dtype=np.float32)
    centred, laplacian, square, down, right, tall, wide = whole.transpose(1, 0, 2, 3)
    np.subtract(pictures, pictures.mean(axis=(1, 2), keepdims=True), out=centred)
    np.add(edge[:, :-2, 1:-1], edge[:, 2:, 1:-1], out=laplacian)
    laplacian += edge[:, 1:-1, :-2]
    laplacian += edge[:, 1:-1, 2:]
    laplacian -= 4 * pictures
    np.multiply(centred, centred, out=square)
    np.subtract(edge[:, 2:, 1:-1], edge[:, :-2, 1:-1], out=down)
    np.subtract(edge[:, 1:-1, 2:], edge[:, 1:-1, :-2], out=right)
    whole[:, 3:5] /= 2
    np.multiply(down, across[:, None], out=tall)
    np.multiply(right, across, out=wide)
    columns = whole.reshape(len(pictures), 7, -1)
    columns -= columns.mean(axis=2, keepdims=True)
    scale = np.maximum(np.sqrt(np.einsum("pij,pij->pi", columns, columns)), 1e-6)
    return columns / scale[..., None], scale


def _fit(columns: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of each target by its columns: weights float64 [p, c] and the share of variance that is left, [p]."""
    gram = (columns @ columns.transpose(0, 2, 1)).astype(np.float64)
    with_target = (columns @ target[:, :, None]).astype(np.float64)
    weights = np.linalg.solve(gram + 1e-5 * np.eye(columns.shape[1]), with_target)  # columns may be collinear: a flat picture, a straight edge
    whole = np.maximum((target.astype(np.float64) ** 2).sum(axis=1), 1e-6)
    explained = 2 * (weights * with_target).sum(axis=(1, 2)) - (weights * (gram @ weights)).sum(axis=(1, 2))
    return weights[..., 0], np.maximum(1 - explained / whole, 0.0)


# pictures -------------------------------------------------------------------------------------------------------------


def _turned(images: np.ndarray, turn: int) -> np.ndarray:
    images = np.swapaxes(images, -1, -2) if turn & 4 else images
    images = images[..., ::-1] if turn & 1 else images
    return images[..., ::-1, :] if turn & 2 else images


def _views(known: np.ndarray) -> np.ndarray:
    """Every window of each thumbnail, float32 [windows, m, COARSE ** 2], of length 1 once its mean is taken off.

    The mean stays: what they are compared with has mean 0.
    """
    a = len(AXIS)
    views = (_WINDOWS @ known @ _WINDOWS.T).reshape(len(known), a, COARSE, a, COARSE).transpose(1, 3, 0, 2, 4).reshape(a * a, len(known), -1)
    squares = np.einsum("wmi,wmi->wm", views, views) - views.sum(axis=2) ** 2 / COARSE**2
    return views / np.sqrt(np.maximum(squares, COARSE**2))[..., None]  # a window flatter than one grey level is like nothing


def _squares(thumbs: np.ndarray, kept: np.ndarray, shapes: Sequence[tuple[int, int]] | None) -> tuple[np.ndarray, np.ndarray, list[Window]]:
    """Centre squares of the thumbnails whose originals are not square: [s, SIDE, SIDE], the row of each, its window in the whole."""
    squares, places = [np.empty((0, SIDE, SIDE), dtype=np.float32)], []
    windows: list[Window] = []
    for i, at in enumerate(kept if shapes is not None else ()):
        assert shapes is not None
        height, width = shapes[at]
        if max(height, width) < 1.04 * min(height, width):
            continue
        tall, wide = min(1.0, width / height), min(1.0, height / width)
        down, right = _resampler((1 - tall) / 2, tall, SIDE), _resampler((1 - wide) / 2, wide, SIDE)
        squares.append((down @ thumbs[i] @ right.T)[None])
        places.append(i)
        windows.append(((1 - tall) / 2, tall, (1 - wide) / 2, wide))
    return np.concatenate(squares), np.array(places, dtype=np.int64), windows


def _unit(flat: np.ndarray) -> np.ndarray:
    flat = flat - flat.mean(axis=-1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)


def _resampler(start: np.ndarray | float, length: np.ndarray | float, out: int, side: int = SIDE) -> np.ndarray:
    """float32 [..., out, side]: what samples `out` pixels from a window of `side` ones, bicubic (a = -1/2) and antialiased, edges repeated.

    start, length: the window in shares of the side, one or [p] of them.
    """
    length = np.asarray(length, dtype=np.float32)[..., None, None]
    start = np.clip(np.asarray(start, dtype=np.float32)[..., None, None], -0.15, 1.15 - length)
    at = (start + length * ((np.arange(out, dtype=np.float32) + 0.5) / out)[:, None]) * side - 0.5
    reach = np.maximum(1, length * side / out)
    taps = 2 * int(np.ceil(2 * float(reach.max()))) + 1
    beyond = taps + int(0.15 * side) + 1
    places = np.floor(at).astype(np.int64) + np.arange(-(taps // 2), taps // 2 + 1)
    weights = _cubic((at - places.astype(np.float32)) / reach)
    weights /= weights.sum(axis=-1, keepdims=True)
    spread = np.zeros((*weights.shape[:-1], side + 2 * beyond), dtype=np.float32)
    np.put_along_axis(spread, places + beyond, weights, axis=-1)
    inside = spread[..., beyond:-beyond].copy()
    inside[..., 0] += spread[..., :beyond].sum(axis=-1)
    inside[..., -1] += spread[..., -beyond:].sum(axis=-1)
    return inside


def _cubic(t: np.ndarray) -> np.ndarray:
    t = np.minimum(np.abs(t), 2)
    return np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2)


_RESAMPLED = _resampler(0.0, 1.0, COARSE)
_FINE = _resampler(0.0, 1.0, FINE)
_WINDOWS = np.concatenate([_resampler(start, length, COARSE) for start, length in AXIS])
