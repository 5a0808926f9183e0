"""Models, images, answers and scores of the robustness oracle, made again from seeds on either side: by oracles/robustness.py and by its tests.

The models are two convolutions with a head fitted by least squares: smooth, float64, quick, right on most images, and not robust.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = {"two": 2, "three": 3, "ten": 10}
SIDE = 10
EPS = {"two": {"linf": 0.12, "l2": 0.9}, "three": {"linf": 0.07, "l2": 0.55}, "ten": {"linf": 0.05, "l2": 0.4}}


def model_and_images(name: str, *, n: int = 24) -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 model, n images [n, 1, 10, 10] in 0 to 1 that it gets right, and their classes."""
    rng, k = np.random.default_rng(list(CLASSES).index(name)), CLASSES[name]
    prototypes = _smooth(rng, k)
    model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3), nn.Softplus(), nn.Flatten(), nn.Linear(72, k))
    model = model.double().eval()
    for layer in (model[0], model[3]):
        _set(layer.weight, rng.normal(0, 1.5, layer.weight.shape))
        _set(layer.bias, rng.normal(0, 0.5, layer.bias.shape))
    x, y = _images(rng, prototypes, 40 * k)
    with torch.no_grad():
        features = model[:-1](torch.from_numpy(x)).numpy()
    centre = features.mean(axis=0)
    truth = 8.0 * (np.eye(k)[y] - 1 / k)
    weight = np.linalg.solve((features - centre).T @ (features - centre) + 0.3 * np.eye(72), (features - centre).T @ truth)
    _set(model[6].weight, weight.T)
    _set(model[6].bias, -centre @ weight)
    x, y = _images(rng, prototypes, 4 * n)
    with torch.no_grad():
        right = np.flatnonzero(model(torch.from_numpy(x)).argmax(1).numpy() == y)[:n]
    assert len(right) == n
    return model, torch.from_numpy(x[right]), torch.from_numpy(y[right])


def noise(name: str, norm: str) -> np.ndarray:
    """Where APGD starts before it is scaled: float64 [24, 1, 10, 10], even in 0 to 1 (linf) or normal (l2)."""
    rng = np.random.default_rng([7, list(CLASSES).index(name), len(norm)])
    return rng.random((24, 1, SIDE, SIDE)) if norm == "linf" else rng.normal(size=(24, 1, SIDE, SIDE))


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Weights for sums that stand for a whole array."""
    return np.random.default_rng(11).normal(size=shape)


def answered(*, levels: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [300, 4] of an overconfident model, and classes; with `levels` the top one is one of five values, 60 images each."""
    rng = np.random.default_rng(5)
    scores = rng.normal(0, 1.5, (300, 4))
    true = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(4, p=row) for row in true])
    said = np.exp(2 * scores) / np.exp(2 * scores).sum(axis=1, keepdims=True)
    if levels:
        top = rng.permutation(np.repeat([0.4, 0.55, 0.7, 0.85, 0.95], 60))
        rest = (1 - top)[:, None] / 3
        said = np.where(np.eye(4, dtype=bool)[said.argmax(axis=1)], top[:, None], rest)
    return said, y


def scored(*, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 120 known and 90 foreign images."""
    rng = np.random.default_rng(6)
    known, foreign = rng.normal(0, 1, 120), rng.normal(1.3, 1.2, 90)
    return (np.round(known), np.round(foreign)) if ties else (known, foreign)


def featured() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 40 images and of 150 training images, 12 columns, and the training classes."""
    rng = np.random.default_rng(8)
    y = np.arange(150) % 3
    turn = rng.normal(size=(12, 12))
    return 1 + rng.normal(size=(40, 12)) @ turn, 1 + (rng.normal(size=(150, 12)) + rng.normal(size=(3, 12))[y]) @ turn, y


def photograph(side: int = 224) -> np.ndarray:
    """A made picture with edges, texture and colour: uint8 [side, side, 3]."""
    rng = np.random.default_rng(9)
    down, across = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    picture = np.stack([0.35 + 0.3 * down, 0.45 + 0.2 * across, 0.6 - 0.3 * down], axis=2)
    for _ in range(40):
        row, column, size = rng.uniform(0, 1, 2).tolist() + [rng.uniform(0.02, 0.15)]
        inside = (np.abs(down - row) < size) & (np.abs(across - column) < size * rng.uniform(0.3, 2))
        picture[inside] = 0.4 * picture[inside] + 0.6 * rng.uniform(0.05, 0.95, 3)
    picture += 0.05 * np.sin(60 * across + 25 * down)[..., None]
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _images(rng: np.random.Generator, prototypes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % len(prototypes)
    return np.clip(prototypes[y] + 0.12 * rng.normal(size=(n, 1, SIDE, SIDE)), 0, 1), y


def _smooth(rng: np.random.Generator, k: int) -> np.ndarray:
    """k smooth patterns around grey."""
    ways = np.linspace(0, np.pi, SIDE)
    waves = np.stack([np.cos(i * ways)[:, None] * np.cos(j * ways) for i in range(3) for j in range(3)])
    return 0.5 + 0.12 * np.einsum("kw,whv->khv", rng.normal(size=(k, 9)), waves)[:, None]


def _set(parameter: Tensor, values: np.ndarray) -> None:
    parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    parameter.requires_grad_(False)
