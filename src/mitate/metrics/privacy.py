"""Privacy: are synthetic images copies of training images?

The gate of a pilot looks at one thing: an image is a *copy* when its nearest training image is less than half as far as its next
ten are on average (the ratio of Carlini et al. 2023, "Extracting training data from diffusion models", section 4.1, on pixels). A
blurred average is near to many images and is no copy; a copy is near to one only. Fresh real images set the floor: the hold-out's
own share. This is a first gate, not an attack: passing it does not prove privacy. metrics/exposure.py has attacks and a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mitate.metrics.intervals import Interval, newcombe, wilson
from mitate.metrics.leakage import NEARER as NEARER
from mitate.metrics.leakage import nearer_to_train as nearer_to_train
from mitate.score import Metric
from mitate.settings import digest

NEIGHBOURS = 10
COPY = 0.5  # ratio below which an image is a copy
LEAST = 10  # images on either side
SIDE = 16  # pixels: images are compared at this size, each with its own brightness and contrast taken out
BLOCK = 1024

COPIES = Metric("copies", "privacy", "lower", LEAST, "Newcombe 1998, method 10, for the difference to the floor", "after Carlini et al. 2023, section 4.1")
FEATURES = digest("mitate.features", {"kind": "pixels", "side": SIDE, "filter": "area", "normalised": "mean and norm of each image"})


@dataclass(frozen=True)
class Copies:
    """Shares of copies among synthetic and among fresh real images, and the ratios they rest on."""

    share: Interval
    floor: Interval
    excess: Interval  # share minus floor
    ratios: np.ndarray  # float64 [m], of the synthetic images
    nearest: np.ndarray  # int64 [m], row of the nearest training image


def features(x: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] as float32 [n, d] for comparing pictures: at most 16 x 16, without brightness and contrast."""
    n, h, w, c = x.shape
    small = x.astype(np.float32)
    if h > SIDE:
        edges = np.linspace(0, h, SIDE + 1).round().astype(int)[:-1]
        counts = np.diff(np.append(edges, h)).astype(np.float32)
        small = np.add.reduceat(np.add.reduceat(small, edges, axis=1), edges, axis=2) / (counts[:, None] * counts[None, :])[None, :, :, None]
    flat = small.reshape(n, -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def copies(synthetic: np.ndarray, train: np.ndarray, fresh: np.ndarray, *, confidence: float = 0.95) -> Copies:
    """How many synthetic images are copies of training images, beside fresh real ones.

    synthetic [m, d], train [n, d], fresh [h, d]: `features` of the images; `fresh` are real images that the generator never saw.
    Raises ValueError below 10 images on any side.
    """
    if min(len(synthetic), len(train), len(fresh)) < LEAST:
        raise ValueError(f"needs {LEAST} synthetic, training and hold-out images")
    ratios, nearest = ratio_to_nearest(synthetic, train)
    floor_ratios, _ = ratio_to_nearest(fresh, train)
    hits, floor_hits = int((ratios < COPY).sum()), int((floor_ratios < COPY).sum())
    return Copies(
        wilson(hits, len(ratios), confidence=confidence),
        wilson(floor_hits, len(floor_ratios), confidence=confidence),
        newcombe(hits, len(ratios), floor_hits, len(floor_ratios), confidence=confidence),
        ratios,
        nearest,
    )


def ratio_to_nearest(queries: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest training image over the mean distance to the next ten; and which one it is.

    queries [m, d], train [n, d] with n of at least 3. Returns float64 [m] in 0 to 1 and int64 [m].
    """
    k = min(NEIGHBOURS + 1, len(train))
    ratios, nearest = np.empty(len(queries)), np.empty(len(queries), np.int64)
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        distance = _distances(queries[rows], train)
        places = np.argpartition(distance, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(distance, places, axis=1)
        first = near.argmin(axis=1)
        nearest[rows] = np.take_along_axis(places, first[:, None], axis=1)[:, 0]
        closest = near[np.arange(len(near)), first]
        others = (near.sum(axis=1) - closest) / (k - 1)
        ratios[rows] = np.where(others > 0, closest / np.where(others > 0, others, 1), 1.0)
    return ratios, nearest


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * (a @ b.T)
    return np.sqrt(np.maximum(square, 0.0))
