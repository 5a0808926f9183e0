"""Feature sets of the oracle tests, made again from seeds on either side: by oracles/make.py and by tests/test_fidelity.py."""

from __future__ import annotations

import numpy as np

NAMES = ("plain", "unequal", "wide", "deficient", "ties")


def features(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Real and synthetic features, float64 [n, d] and [m, d]."""
    rng = np.random.default_rng(NAMES.index(name))
    if name == "plain":
        return _cloud(rng, 300, 64), 0.9 * _cloud(rng, 300, 64) + 0.1
    if name == "unequal":
        return _cloud(rng, 300, 64) + 20.0, 0.7 * _cloud(rng, 240, 64) + 20.2
    if name == "wide":  # fewer images than columns
        return _cloud(rng, 200, 300), 0.9 * _cloud(rng, 200, 300) + 0.05
    if name == "deficient":  # more images than columns, covariance of rank 20
        turn = rng.normal(size=(20, 64))
        return rng.normal(size=(300, 20)) @ turn, (0.9 * rng.normal(size=(300, 20)) + 0.1) @ turn
    return rng.integers(0, 3, (300, 6)).astype(np.float64), rng.integers(0, 3, (260, 6)).astype(np.float64)


def _cloud(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Correlated Gaussian features whose spread falls from column to column, turned so that no column is special."""
    turn, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(d, d)))
    return (rng.normal(size=(n, d)) * np.linspace(2.0, 0.2, d)) @ turn
