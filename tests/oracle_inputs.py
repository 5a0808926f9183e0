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


def guesses(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and fair coins of 120 canaries, for the audits of oracles/privacy.py: float64 [120] and bool [120]."""
    rng = np.random.default_rng(seed)
    included = rng.random(120) < 0.5
    return rng.normal(size=120) + seed % 4 * included, included


STYLE_NAMES = ("alike", "apart", "wide")


def style_features(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Real and synthetic features to be told apart, float64 [n, d] and [m, d]."""
    rng = np.random.default_rng([7, STYLE_NAMES.index(name)])
    if name == "alike":
        return _cloud(rng, 90, 12), _cloud(rng, 70, 12)
    if name == "apart":
        return _cloud(rng, 80, 12), _cloud(rng, 80, 12) + 0.4
    return _cloud(rng, 40, 120), 0.8 * _cloud(rng, 50, 120) + 0.1  # fewer images than columns


def style_folds(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Five folds of either side, int64 [n] and [m]."""
    return np.arange(n) % 5, np.arange(m) % 5


def transfer_features(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Features float64 [60, d] and their labels int64 [60], three classes that a part of the columns tell."""
    rng = np.random.default_rng([8, d])
    y = np.arange(60) % 3
    return rng.normal(size=(60, d)) + 0.5 * np.eye(3)[y] @ rng.normal(size=(3, d)), y


def picture_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of pictures whose likeness oracles/similarity.py knows: uint8 [n, h, w, c] each."""
    found = {}
    for name, shape in (("grey", (4, 28, 28, 1)), ("colour", (3, 17, 32, 3))):
        rng = np.random.default_rng([9, shape[0]])
        smooth = rng.normal(size=shape).cumsum(axis=1).cumsum(axis=2)
        a = (128 + 100 * np.tanh(smooth / smooth.std())).astype(np.uint8)
        noise = rng.normal(size=shape) * np.array([0, 5, 40, 90])[: shape[0], None, None, None]
        found[name] = a, np.clip(a + noise, 0, 255).astype(np.uint8)
    return found
