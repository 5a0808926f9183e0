"""Worlds whose truth is known: test images that a candidate helps or hurts, replicates whose gains differ, answers that are right or wrong.

decision_quality.py says what kinds there are, and judges them as a pilot does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

OTHERS = 2  # arms beside the candidate on the test split; a pilot has up to sixteen
POOL = 2**25  # numbers
PLAYED = 400_000  # draws of (image, replicate) by which a world's true gain is set
KINDS = ("normal", "heavy", "discrete", "grouped", "shared")
GROUP = 10


@dataclass(frozen=True)
class World:
    """One kind of world, in logits."""

    kind: str
    row_sd: float = 0.35  # spread of a replicate's gain: about 4 points
    image_sd: float = 0.8  # spread of the gain over images
    difficulty: float = 2.0  # spread of difficulty
    level: float = 1.2  # mean of the baseline

    def rows(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """What a replicate adds to the candidate; the calibration sees its mean."""
        if self.kind == "heavy":
            return self.row_sd * rng.standard_t(3, shape) / math.sqrt(3) - (rng.random(shape) < 0.1)
        if self.kind == "discrete":
            return rng.integers(-1, 2, shape) * 0.45
        return rng.normal(0, self.row_sd, shape)

    def shared(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """What one generator adds to all its replicates."""
        return rng.normal(0, 0.25, shape) if self.kind == "shared" else np.zeros(shape)

    def images(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Baseline logit of n images."""
        if self.kind == "discrete":
            return rng.choice(np.asarray([-6.0, 0.0, 6.0]), n, p=[0.1, 0.4, 0.5])
        return self.level + self.difficulty * rng.standard_normal(n, dtype=np.float32)

    def help(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """What an arm adds to each of n images."""
        if self.kind == "grouped":
            together = rng.normal(0, 0.6, -(-n // GROUP)).repeat(GROUP)[:n]
            return together + rng.normal(0, math.sqrt(self.image_sd**2 - 0.36), n)
        return self.image_sd * rng.standard_normal(n, dtype=np.float32)


def groups_of(world: World, n: int) -> np.ndarray | None:
    return np.arange(n) // GROUP if world.kind == "grouped" else None


class Truth:
    """The true gain of a world as a function of the candidate's mean logit above the baseline, and its inverse."""

    def __init__(self, world: World) -> None:
        rng = np.random.default_rng(0)
        self._base = world.images(rng, PLAYED)
        self._extra = world.help(rng, PLAYED) + world.rows(rng, (PLAYED,))
        self._shared = world.shared(rng, (PLAYED,))
        self._level = sigmoid(self._base + rng.normal(0, 0.5 * world.row_sd, PLAYED)).mean()
        self._shifts = np.linspace(-4, 4, 65)
        self._gains = np.asarray([sigmoid(self._base + self._extra + s).mean() - self._level for s in self._shifts])

    def of(self, shift: float) -> float:
        """True gain of a generator whose candidate stands `shift` logits above the baseline."""
        return float(np.interp(shift, self._shifts, self._gains))

    def shift_for(self, gain: float) -> float | None:
        """The shift that gives this gain on average over generators; None where no shift can."""
        low, high = -4.0, 4.0
        if not self._mean(low) < gain < self._mean(high):
            return None
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self._mean(middle) < gain else (low, middle)
        return (low + high) / 2

    def _mean(self, shift: float) -> float:
        if not self._shared.any():
            return self.of(shift)
        return float(np.interp(shift + self._shared[:20_000], self._shifts, self._gains).mean())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Draw:
    """One world: its test images are fixed, replicates are drawn as they are asked for."""

    def __init__(self, rng: np.random.Generator, world: World, n: int, shift: float) -> None:
        self._rng, self._world, self._n = rng, world, n
        self.shift = shift + float(world.shared(rng, (1,))[0])
        self._base = world.images(rng, n).astype(np.float32)
        self._help = self._base + world.help(rng, n).astype(np.float32)

    def rows(self, replicates: int) -> np.ndarray:
        """Paired differences, float64 [replicates, n]."""
        rng, shape = self._rng, (replicates, self._n)
        first = self._right(self._help, shape)
        baseline = rng.normal(0, 0.5 * self._world.row_sd, (replicates, 1)).astype(np.float32)
        second = self._base + baseline > noise(rng, shape)
        self._baseline = second.mean(axis=1)
        return first.astype(np.float64) - second

    def typical(self) -> float:
        """Variance of a row mean in the other arms, which share test images, replicates and baseline with the rows drawn last."""
        shape = (len(self._baseline), self._n)
        logits = (self._base + self._world.help(self._rng, self._n).astype(np.float32) for _ in range(OTHERS))
        return float(np.median([(self._right(arm, shape).mean(axis=1) - self._baseline).var(ddof=1) for arm in logits]))

    def _right(self, logits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        rows = (self._world.rows(self._rng, (shape[0], 1)) + self.shift).astype(np.float32)
        return logits + rows > noise(self._rng, shape)


@cache
def pool() -> np.ndarray:
    u = np.random.default_rng(1).random(POOL)
    return np.log(u / (1 - u)).astype(np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Logistic noise, float32: an answer is right where its logit is above it. A stretch of one large pool from a random start, which is
    three times as fast as drawing it; two worlds seldom meet in the pool, and then with other images and replicates."""
    start = int(rng.integers(0, POOL - shape[0] * shape[1]))
    return pool()[start : start + shape[0] * shape[1]].reshape(shape)


def rate(hits: float, worlds: int) -> dict[str, float]:
    share = hits / worlds
    return {"value": share, "se": math.sqrt(max(share * (1 - share), 1 / worlds) / worlds)}
