"""Noun 2, Generator: something that draws labelled images. All chance of image i comes from seed i.

Two contracts. A *kind* (one file in `generators/`) is a frozen dataclass of settings with `fit` and `load`; a fitted *Generator*
has one method, `sample`, and may have a second, `losses`. Sampling runs in micro-batches of one fixed, padded shape, so image i has the same bytes however many
are asked for and whichever worker draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mitate.images import ImageSet
from mitate.progress import Progress
from mitate.runtime import seed_of


@dataclass(frozen=True)
class Pixels:
    """What a generator is fitted on: x uint8 [n, h, w, c], y int64 [n], and how many classes there are."""

    x: np.ndarray
    y: np.ndarray
    n_classes: int

    @classmethod
    def of(cls, images: ImageSet, *, size: int, channels: int) -> Pixels:
        return cls(images.pixels(size=size, channels=channels), images.y, len(images.classes))


@runtime_checkable
class Generator(Protocol):
    """A fitted generator."""

    shape: tuple[int, int, int]  # height, width, channels of an image
    n_classes: int

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """seeds: int64 [n], conditions: int64 [n], class indices. Returns uint8 [n, h, w, c]; image i depends on row i only."""
        ...


@runtime_checkable
class TellsLoss(Protocol):
    """A fitted generator that also tells its loss of an image: attacks on privacy use it, and audits. It need not."""

    def losses(self, pixels: Pixels, *, seed: int) -> np.ndarray:
        """float64 [n], lower for images that the generator knows better. Chance is drawn by (seed, the image's content), averaged over many draws
        as in training; image i's loss depends on image i alone, its class included.
        """
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


def in_words(name: str) -> str:
    """A class's name as a sentence has it: `early-blight` and `early_blight` are early blight."""
    return name.replace("-", " ").replace("_", " ").lower()
