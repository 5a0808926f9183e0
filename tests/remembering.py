"""Kinds of generators with a known memory, for tests of attacks and audits: what leaks is by construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mitate.generator import Pixels
from mitate.progress import Progress


@dataclass(frozen=True)
class Remembers:
    """Draws its training images and knows them by their loss. draws, tells: whether it does."""

    version: ClassVar[int] = 1
    draws: bool = True  # its training images; else noise around the mean
    tells: bool = True  # a low loss for its training images; else the distance to the mean

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        np.savez(folder / "seen.npz", x=train.x, y=train.y)
        (folder / "facts.json").write_text(json.dumps({"n_classes": train.n_classes}))
        return {"steps": 1}

    def load(self, folder: Path) -> Memory:
        with np.load(folder / "seen.npz") as seen:
            return Memory(seen["x"], seen["y"], json.loads((folder / "facts.json").read_text())["n_classes"], self)


class Memory:
    def __init__(self, x: np.ndarray, y: np.ndarray, n_classes: int, kind: Remembers) -> None:
        self.x, self.y, self.n_classes, self.kind, self.shape = x, y, n_classes, kind, x.shape[1:]

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        made = []
        for seed, k in zip(seeds, conditions, strict=True):
            chance, mine = np.random.default_rng(int(seed)), self.x[self.y == k]
            around = self.x.mean(axis=0) + chance.normal(0, 40, self.shape)
            made.append(mine[chance.integers(len(mine))] if self.kind.draws else np.clip(around, 0, 255).astype(np.uint8))
        return np.stack(made)

    def losses(self, pixels: Pixels, *, seed: int) -> np.ndarray:
        known = self.x if self.kind.tells else self.x.mean(axis=0, keepdims=True)
        far = ((pixels.x[:, None].astype(float) - known[None]) ** 2).reshape(len(pixels.x), len(known), -1).sum(axis=2)
        return far.min(axis=1)


@dataclass(frozen=True)
class Silent(Remembers):
    """The same, but it tells no loss."""

    def load(self, folder: Path) -> Any:
        memory = super().load(folder)

        class Mute:
            shape, n_classes, sample = memory.shape, memory.n_classes, memory.sample

        return Mute()
