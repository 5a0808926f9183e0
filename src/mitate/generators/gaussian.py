"""A Gaussian for each class, fitted in closed form: the instant generator that tests and first looks use.

Class means, one within-class covariance shared by all: the leading directions of the pooled residuals, and an even remainder so
that no direction is empty. Directions are shrunk towards that remainder (after Ledoit & Wolf 2004), which matters with few images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from mitate.generator import Pixels, draw_padded
from mitate.generators.packing import check
from mitate.progress import Progress

MICRO_BATCH = 32


@dataclass(frozen=True)
class Gaussian:
    """Settings of the Gaussian generator."""

    version: ClassVar[int] = 1

    rank: int = 64  # directions kept; fewer where there are fewer images

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        """Exact, so `seed` and `checkpoint` are not used; `selection` only tells how likely held-out images are."""
        shape = check(train, selection)
        flat = train.x.reshape(len(train.x), -1).astype(np.float64)
        means = np.stack([flat[train.y == k].mean(axis=0) for k in range(train.n_classes)])
        rest = flat - means[train.y]
        n, d = rest.shape
        freedom = max(1, n - train.n_classes)
        scales, directions = _leading(rest, min(self.rank, freedom, d))
        variances = scales**2 / freedom
        total = float((rest**2).sum()) / freedom
        even = max(0.0, total - float(variances.sum())) / max(1, d - len(variances))  # what the directions leave, spread evenly
        variances = variances + (total / d - variances) * min(1.0, 1 / np.sqrt(freedom))  # towards a ball
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"means": means, "directions": directions * np.sqrt(variances)[:, None], "even": np.array([np.sqrt(even)])}
        save_file({name: np.ascontiguousarray(t, dtype=np.float64) for name, t in tensors.items()}, folder / "gaussian.safetensors")
        (folder / "generator.json").write_text(json.dumps({"shape": list(shape), "n_classes": train.n_classes}, sort_keys=True) + "\n")
        progress.step(1, 1)
        facts: dict[str, Any] = {"parameters": int(sum(t.size for t in tensors.values())), "steps": 1, "best_step": 1, "best_loss": None, "curve": []}
        if len(selection.x):
            held = selection.x.reshape(len(selection.x), -1) - means[selection.y]
            facts["best_loss"] = float((held**2).mean())
            facts["curve"] = [(1, facts["best_loss"])]
        return facts

    def load(self, folder: Path) -> Normals:
        facts = json.loads((folder / "generator.json").read_text())
        return Normals(load_file(folder / "gaussian.safetensors"), tuple(facts["shape"]), facts["n_classes"])

    @classmethod
    def default_for(cls, shape: tuple[int, int, int], n_train: int) -> Gaussian:
        """Settings for such images and so many of them."""
        return cls(rank=min(64, max(1, n_train // 4)))


class Normals:
    """A fitted Gaussian."""

    def __init__(self, tensors: dict[str, np.ndarray], shape: tuple[int, int, int], n_classes: int) -> None:
        self.means, self.directions, self.even = tensors["means"], tensors["directions"], float(tensors["even"][0])
        self.shape, self.n_classes = shape, n_classes

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        return draw_padded(self._draw, np.asarray(seeds), np.asarray(conditions), batch=MICRO_BATCH)

    def _draw(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        rank, d = self.directions.shape
        chance = np.stack([np.random.Generator(np.random.PCG64(int(s))).standard_normal(rank + d) for s in seeds])
        flat = self.means[conditions] + chance[:, :rank] @ self.directions + self.even * chance[:, rank:]
        return np.clip(np.rint(flat), 0, 255).astype(np.uint8).reshape(-1, *self.shape)


def _leading(rest: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The `rank` largest singular values [rank] and right singular vectors [rank, d] of `rest` [n, d], through the smaller Gram matrix."""
    n, d = rest.shape
    if d <= n:
        values, vectors = np.linalg.eigh(rest.T @ rest)
        keep = np.argsort(values)[::-1][:rank]
        return np.sqrt(np.clip(values[keep], 0, None)), vectors[:, keep].T
    values, vectors = np.linalg.eigh(rest @ rest.T)
    keep = np.argsort(values)[::-1][:rank]
    scales = np.sqrt(np.clip(values[keep], 0, None))
    return scales, (vectors[:, keep].T @ rest) / np.maximum(scales, 1e-9)[:, None]
