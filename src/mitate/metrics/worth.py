"""What synthetic images are worth in real ones: how many extra real images would have given the same score.

The learning curve of the baseline is measured at a few nested sizes. Between two of them, and beyond the last, it is taken to follow
error = a + b m^-c with c between 0 (straight in log m) and 2: for a fixed c that is a weighted mean of the two measured scores, so
"candidate at m images minus baseline at m + N" is a table of paired differences like any other, with an interval like any other. The
interval of N holds every N at which that difference may be zero, for c = 0 or c = 2. Nothing is divided by a slope, so a flat curve gives a
wide interval rather than a wild one (the idea is Fieller's, 1954).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mitate.metrics.intervals import along

SHAPES = (0.0, 2.0)  # exponents c between which the curve is trusted to lie
MIDDLE = 0.5  # exponent of the value itself
MOST = 3.0  # extra real images, as a multiple of those that the candidate had: beyond that nothing is told but "more"
NOTHING = 0.1  # an interval that stays within this share of the images on both sides of zero is called none
GRID = 120  # numbers of images that are tried

Status = Literal["worth", "more", "none", "negative", "cannot tell"]


@dataclass(frozen=True)
class Worth:
    """Extra real images that give the candidate's score. None for low, high or value: beyond what was looked at on that side."""

    status: Status
    at: float  # real images that the candidate had
    value: float | None
    low: float | None
    high: float | None
    least: float  # the smallest extra number looked at (negative: the smallest size measured)
    most: float  # the largest
    extrapolated: bool  # whether value or an end lies beyond the largest size measured


def weights(sizes: Sequence[float], at: float, *, shape: float) -> np.ndarray:
    """Weights, float64 [sizes], of the measured scores that give the curve's at `at` images; sizes strictly increasing, at least two.

    shape: the exponent c of error = a + b m^-c through the two sizes around `at` (the last two where it lies beyond them); 0 is the
    limit that is straight in log m.
    """
    found = np.zeros(len(sizes))
    right = int(np.clip(np.searchsorted(sizes, at), 1, len(sizes) - 1))
    first, second = sizes[right - 1], sizes[right]
    place = [np.log(m) if shape == 0 else -(m**-shape) for m in (first, second, at)]
    share = (place[2] - place[0]) / (place[1] - place[0])
    found[right - 1], found[right] = 1 - share, share
    return found


def worth(candidate: np.ndarray, curve: Mapping[float, np.ndarray], *, at: float, confidence: float, **settings: Any) -> Worth:
    """What the candidate's images were worth when it had `at` real ones.

    candidate: contributions, float64 [replicates, images]; curve: the baseline's at each number of real images, the same replicates
    and test images. settings: of `two_way` (groups, least, df_images, overlap, low_share).
    """
    sizes = sorted(curve)
    if len(sizes) < 2:
        raise ValueError("one size is no learning curve")
    tried = np.unique(np.concatenate([np.geomspace(sizes[0], at * (1 + MOST), GRID), [at]]))

    middle = _gaps(candidate, curve, tried, MIDDLE, confidence=confidence, **settings)[0]
    value = _crossing(tried, middle, at)
    inside = np.flatnonzero(possible(candidate, curve, tried, confidence=confidence, **settings))
    if not len(inside) and middle[0] > 0 >= middle[-1]:  # the interval lies between two of the numbers tried
        turn = int(np.flatnonzero(middle > 0)[-1])
        low, high = tried[turn], tried[turn + 1]
    elif not len(inside):  # the candidate lies outside the whole range that was looked at
        better = middle[-1] > 0
        low, high = (tried[-1], None) if better else (None, tried[0])
    else:
        low = None if inside[0] == 0 else tried[inside[0] - 1]  # outwards to the neighbour that was ruled out
        high = None if inside[-1] == len(tried) - 1 else tried[inside[-1] + 1]
    gain = _gaps(candidate, curve, np.asarray([at]), MIDDLE, confidence=confidence, **settings)[:, 0]
    if (low is not None and low > at and gain[2] < 0) or (high is not None and high < at and gain[1] > 0):
        value = low = high = None  # a curve that falls: what gives the same score lies on the wrong side of the gain
    ends = [None if m is None else float(m - at) for m in (value, low, high)]
    beyond = any(m is not None and m > sizes[-1] for m in (value, low, high)) or high is None
    return Worth(_status(ends[1], ends[2], at=at), at, ends[0], ends[1], ends[2], float(tried[0] - at), float(tried[-1] - at), bool(beyond))


def possible(candidate: np.ndarray, curve: Mapping[float, np.ndarray], tried: np.ndarray, *, confidence: float, **settings: Any) -> np.ndarray:
    """For every number of real images in `tried` (ascending) whether the baseline with so many may score what the candidate does, bool."""
    gaps = np.stack([_gaps(candidate, curve, tried, shape, confidence=confidence, **settings) for shape in SHAPES])
    above, below = (gaps[:, 1] > 0).all(axis=0), (gaps[:, 2] < 0).all(axis=0)
    return np.logical_not(above | below)  # where one shape is above and the other below, one between them fits


def _gaps(candidate: np.ndarray, curve: Mapping[float, np.ndarray], tried: np.ndarray, shape: float, **settings: Any) -> np.ndarray:
    """Candidate minus curve at every number of images tried: value, low, high, float64 [3, tried]. In one stretch only a share changes."""
    sizes = sorted(curve)
    stretch = np.clip(np.searchsorted(sizes, tried), 1, len(sizes) - 1)
    found = np.empty((3, len(tried)))
    for right in np.unique(stretch):
        mine = stretch == right
        shares = np.asarray([weights(sizes, m, shape=shape)[right] for m in tried[mine]])
        left, far = curve[sizes[right - 1]], curve[sizes[right]]
        found[:, mine] = along(candidate - left, left - far, shares, **settings)
    return found


def _crossing(tried: np.ndarray, middle: np.ndarray, at: float) -> float | None:
    """Where the estimated difference turns from above zero to below, straight in log m between two of the sizes tried; None where it does not.

    On the side that the gain at `at` points to: to the right of it where the candidate is better there, else to the left.
    """
    here, turns = int(np.searchsorted(tried, at)), np.flatnonzero((middle[:-1] > 0) & (middle[1:] <= 0) | (middle[:-1] >= 0) & (middle[1:] < 0))
    better = middle[here] > 0
    mine = turns[turns >= here] if better else turns[turns < here + (middle[here] == 0)]
    if not len(mine):
        return None
    i = int(mine[0] if better else mine[-1])
    share = middle[i] / (middle[i] - middle[i + 1])
    return float(np.exp(np.log(tried[i]) + share * (np.log(tried[i + 1]) - np.log(tried[i]))))


def _status(low: float | None, high: float | None, *, at: float) -> Status:
    if low is not None and low >= MOST * at * 0.999:
        return "more"
    if low is not None and low > 0:
        return "worth"
    if high is not None and high < 0:
        return "negative"
    if low is not None and high is not None and -NOTHING * at <= low and high <= NOTHING * at:
        return "none"
    return "cannot tell"
