"""One mix of classes: parts of several sets of images, drawn without replacement, in which each class has one share.

Sets of one look whose classes are mixed differently can be told apart by what they show. In such parts they cannot: within its class an image is
drawn by chance alone, so a part is a sample, class by class, of what its set would be at that mix, and an interval for it is one for that. (An
interval that treats the images as drawn from the whole mix counts the spread between classes as chance and is wide rather than narrow.)

The mix is each class's least share in any of the sets, over the sum of these. So every set keeps at least that sum of its images, and all of
them where the mixes are the same. A class that some set lacks is in no part, nor is an image without a class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def one_mix(labels: Sequence[np.ndarray], *, seed: int) -> list[np.ndarray]:
    """Rows of each set, int64, ascending, whose classes have the same shares in all of them, up to half an image a class.

    labels: of each set int64 [n], classes from 0, -1 for none. Raises ValueError where the sets have no class in common.
    """
    count = max(int(y.max(initial=-1)) for y in labels) + 1
    counts = np.stack([np.bincount(y[y >= 0], minlength=count) for y in labels])
    if not counts.all(axis=0).any():
        raise ValueError("the sets have no class in common; fix: give labels of the same classes")
    mix = (counts / counts.sum(axis=1, keepdims=True)).min(axis=0)
    mix /= mix.sum()
    there = mix > 0
    size = (counts[:, there] / mix[there]).min(axis=1, keepdims=True)  # the most of each set that has this mix
    rng = np.random.default_rng(seed)
    return [_drawn(y, of_class, rng) for y, of_class in zip(labels, np.floor(mix * size + 0.5).astype(np.int64), strict=True)]


def thinned(labels: np.ndarray, size: int, *, rng: np.random.Generator) -> np.ndarray:
    """Rows of a part of `size` images, int64, ascending, whose classes have the shares of the whole, up to one image a class.

    labels: int64 [n], classes from 0; size at most n.
    """
    wanted = np.bincount(labels) * size / len(labels)
    of_class = np.floor(wanted + 1e-9).astype(np.int64)
    of_class[np.argsort(of_class - wanted, kind="stable")[: size - of_class.sum()]] += 1
    return _drawn(labels, of_class, rng)


def _drawn(labels: np.ndarray, of_class: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """So many rows of each class."""
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == k))[:n] for k, n in enumerate(of_class)]))
