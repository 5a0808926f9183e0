"""Noun 2, Generator: something that draws labelled images. All chance of image i comes from seed i.

Two contracts. A *kind* (one file in `generators/`) is a frozen dataclass of settings with `fit` and `load`; a fitted *Generator*
has one method, `sample`. Sampling runs in micro-batches of one fixed, padded shape, so image i has the same bytes however many
are asked for and whichever worker draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mitate.images import ImageSet, Provenance, from_arrays
from mitate.progress import Progress
from mitate.runtime import seed_of


@dataclass(frozen=True)
class Pixels:
    """What a generator is fitted on: x uint8 [n, h, w, c], y int64 [n], how many classes there are, and what they are called."""

    x: np.ndarray
    y: np.ndarray
    n_classes: int
    classes: tuple[str, ...] = ()  # names, in label order; only `folder` needs them

    @classmethod
    def of(cls, images: ImageSet, *, size: int, channels: int) -> Pixels:
        return cls(images.pixels(size=size, channels=channels), images.y, len(images.classes), images.classes)


@runtime_checkable
class Generator(Protocol):
    """A fitted generator."""

    shape: tuple[int, int, int]  # height, width, channels of an image
    n_classes: int

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """seeds: int64 [n], conditions: int64 [n], class indices. Returns uint8 [n, h, w, c]; image i depends on row i only."""
        ...


class GeneratorKind(Protocol):
    """A kind of generator: a frozen dataclass of settings. `version` rises when what `fit` or `sample` computes changes."""

    version: int

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        """Fit, write the weights into `folder` and return facts for the record (parameters, steps, loss curve).

        Stops early when the loss on `selection` stops falling, and keeps the best. Continues from `checkpoint` after a kill and
        comes to the same bytes.
        """
        ...

    def load(self, folder: Path) -> Generator:
        """The fitted generator in `folder`."""
        ...


def draw_padded(draw: Callable[[np.ndarray, np.ndarray], np.ndarray], seeds: np.ndarray, conditions: np.ndarray, *, batch: int) -> np.ndarray:
    """Call `draw` on micro-batches of exactly `batch` rows, the last one padded with its own last row, and cut the padding off."""
    parts = []
    for start in range(0, len(seeds), batch):
        s, c = seeds[start : start + batch], conditions[start : start + batch]
        short = batch - len(s)
        if short:
            s, c = np.append(s, np.repeat(s[-1:], short)), np.append(c, np.repeat(c[-1:], short))
        parts.append(draw(s, c)[: batch - short])
    return np.concatenate(parts)


def image_seeds(seed: int, n: int, *, condition: int) -> np.ndarray:
    """The seeds of images 0 to n - 1 of a class, int64 [n]: image i's does not depend on n."""
    return np.array([seed_of("image", seed, condition, i) for i in range(n)], dtype=np.int64)


def sample_set(
    generator: Generator,
    *,
    classes: tuple[str, ...],
    per_class: int,
    seed: int,
    name: str,
    kind: str,
    digest: str,
    parents: tuple[str, ...],
    settings: dict[str, Any],
) -> ImageSet:
    """`per_class` images of every class as an ImageSet with its provenance."""
    labels = np.repeat(np.arange(len(classes)), per_class)
    seeds = np.concatenate([image_seeds(seed, per_class, condition=k) for k in range(len(classes))]) if per_class else np.zeros(0, np.int64)
    x = generator.sample(seeds, labels) if per_class else np.zeros((0, *generator.shape), np.uint8)
    return from_arrays(
        x, labels, classes=classes, name=name, split="synthetic",
        provenance=Provenance(kind, digest, settings, parents, tuple(int(s) for s in seeds)),
    )  # fmt: skip
