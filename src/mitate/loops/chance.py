"""Chance by name and number: draw i follows from seed i alone, for thousands of samples at once.

A seed and a count go through the mixing function of SplitMix64 (Steele, Lea and Flood 2014), so no generator is made for each sample and no draw depends on
how many came before it.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from mitate.runtime import seed_of

_GOLDEN = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)  # 2^64 over the golden ratio, odd
_FIRST, _SECOND = np.array([0xBF58476D1CE4E5B9], dtype=np.uint64), np.array([0x94D049BB133111EB], dtype=np.uint64)


def seeds_of(n: int, *parts: int | str) -> np.ndarray:
    """Seeds of n samples, uint64 [n]: seed i follows from `parts` and i, not from n."""
    start = np.array([seed_of(*parts)], dtype=np.uint64)
    return _mixed(start + np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN)


def uniforms(seeds: np.ndarray, k: int, *, stream: int = 0) -> np.ndarray:
    """Between 0 and 1, both left out: float64 [n, k]. stream: draws of one seed for different purposes."""
    own = _mixed(seeds ^ _mixed(np.array([stream + 1], dtype=np.uint64) * _GOLDEN))
    bits = _mixed(own[:, None] + np.arange(1, k + 1, dtype=np.uint64) * _GOLDEN)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normals(seeds: np.ndarray, k: int, *, stream: int = 0) -> np.ndarray:
    """Standard normal, float64 [n, k]."""
    return special.ndtri(uniforms(seeds, k, stream=stream))


def chosen(n: int, count: int, *parts: int | str) -> np.ndarray:
    """`count` of n places without replacement, in rising order, int64; all of them where count is n or more."""
    if count >= n:
        return np.arange(n)
    return np.sort(np.argsort(seeds_of(n, *parts), kind="stable")[:count])


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))
