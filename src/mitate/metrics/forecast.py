"""How long metrics of large sets of features will take, before they begin: their operations over this machine's speed at a product of matrices.

    seconds(operations(1_000_000, 1_000_000, 512), rates())

What is beside the products (picking neighbours from tiles, turning to float64) is in the factors below, measured by benchmarks/large_sets.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mitate.metrics import kernel, moments
from mitate.metrics.frechet import LARGEST_DRAWN, LEAST_INFINITY, SIZES

TRIED = 1024  # side of the product that is timed
TURNS = 5
BESIDE = {"kernel_distance": 1.25, "neighbours": 1.6, "sets": 1.2}  # seconds over those of the products alone
SHORT = 0.85  # and for neighbours, where most products are of bfloat16 (metrics/coarse.py)


@dataclass(frozen=True)
class Operations:
    """Multiplications and additions of products of matrices."""

    float64: float = 0.0
    float32: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Operations a second of a product of matrices, with the threads that are allowed now."""

    float64: float
    float32: float


def operations(real: int, others: Sequence[int], d: int, *, most: int) -> dict[str, Operations]:
    """Of each part of the likeness of sets to the real one. others: images of the synthetic and of the held-out set; most: as in `likeness`."""
    lengths, n = (real, *others), min(others)
    pairs = real**2 / 2 + sum(m**2 / 2 + real * m for m in others)
    by_moments = moments.pays(lengths, kernel.LEFT_OUT, d)
    share = min(1.0, most / max(real, n))
    near = len(others) * 2 * d * share**2 * (real**2 / 2 + n**2 / 2 + real * n)
    gaussians = d * min(d, max(real, n)) * (2 * len(others) * (real + n) + len(others) * SIZES * min(n, LARGEST_DRAWN) * 0.55)
    return {
        "kernel_distance": Operations(float64=moments.cost(lengths, kernel.LEFT_OUT, d) if by_moments else (2 * d + moments.OF_A_PAIR) * pairs),
        "neighbours": Operations(float32=near),
        "sets": Operations(float64=gaussians + len(others) * (2 + SIZES * (n >= LEAST_INFINITY)) * 20 * min(n, d) ** 3),
    }


def rates() -> Rates:
    """Measured now, in some tenths of a second: the fastest of a few products of each kind."""
    return Rates(*(_rate(dtype) for dtype in (np.float64, np.float32)))


def seconds(work: Mapping[str, Operations], at: Rates, *, short: bool = False) -> dict[str, float]:
    """Of each part, on one of the workers that the rates were measured on. short: `coarse.worth_trying` of these sets."""
    beside = BESIDE | ({"neighbours": SHORT} if short else {})
    return {part: beside[part] * (of.float64 / at.float64 + of.float32 / at.float32) for part, of in work.items()}


def _rate(dtype: type) -> float:
    square: np.ndarray = np.random.default_rng(0).random((TRIED, TRIED)).astype(dtype)
    out, best = np.empty_like(square), np.inf
    for _ in range(TURNS):
        started = time.perf_counter()
        np.matmul(square, square, out=out)
        best = min(best, time.perf_counter() - started)
    return 2 * TRIED**3 / best
