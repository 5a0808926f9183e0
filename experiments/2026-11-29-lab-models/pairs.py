"""What the lab's models learn from: pairs of a caption and a drawing, made once and kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mitate.lab.captions import Prompt
from mitate.lab.drawing import draw
from mitate.lab.skills import training

STYLED = 0.25  # share of pairs in a named style


def pair(i: int, *, seed: int, size: int = 32, noisy: float = 0.0) -> tuple[np.ndarray, Prompt]:
    """Drawing uint8 [size, size, 3] and prompt. noisy: share of drawings with noise, up to 12 levels."""
    prompt, scene = training(i, seed=seed, styled=STYLED)
    chance = np.random.default_rng(scene.seed + 1)
    noise = float(chance.uniform(2, 12)) if chance.random() < noisy else 0.0
    return draw(scene, size=size, style=prompt.style, noise=noise), prompt


def kept(place: Path, n: int, *, seed: int, noisy: float = 0.0) -> tuple[np.ndarray, list[str]]:
    """uint8 [n, 32, 32, 3] and n texts, read from `place` where they were made before."""
    if not place.exists():
        made = [pair(i, seed=seed, noisy=noisy) for i in range(n)]
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.with_suffix(".tmp"), "wb") as out:
            np.savez(out, x=np.stack([image for image, _ in made]), text=np.array([prompt.text for _, prompt in made]))
        place.with_suffix(".tmp").rename(place)
    with np.load(place, allow_pickle=False) as data:
        return data["x"], [str(t) for t in data["text"]]
