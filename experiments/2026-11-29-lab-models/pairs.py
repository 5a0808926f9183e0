"""What the lab's models learn from: drawings with texts, made once and kept in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mitate.lab.captions import SAYABLE, caption
from mitate.lab.drawing import draw
from mitate.lab.skills import training

PAIRS = 40_000
STYLED = 0.25  # share of drawings in a named style


def asked(i: int) -> tuple[np.ndarray, str]:
    """For what paints: a clean drawing uint8 [32, 32, 3] and a caption that says some of it."""
    prompt, scene = training(i, seed=0, styled=STYLED)
    return draw(scene, style=prompt.style), prompt.text


def described(i: int) -> tuple[np.ndarray, str]:
    """For what looks: a drawing, half of them noisy and half in a named style, and a caption that says all that can be said."""
    prompt, scene = training(i, seed=2, styled=2 * STYLED)
    chance = np.random.default_rng(scene.seed + 1)
    noise = float(chance.uniform(2, 12)) if chance.random() < 0.5 else 0.0
    return draw(scene, style=prompt.style, noise=noise), caption(scene, seed=scene.seed + 2, say=SAYABLE, style=prompt.style).text


def kept(place: Path, make: Callable[[int], tuple[np.ndarray, str]]) -> tuple[np.ndarray, list[str]]:
    """uint8 [PAIRS, 32, 32, 3] and as many texts, read from `place` where they were made before."""
    if not place.exists():
        made = [make(i) for i in range(PAIRS)]
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.with_suffix(".tmp"), "wb") as out:
            np.savez(out, x=np.stack([image for image, _ in made]), text=np.array([text for _, text in made]))
        place.with_suffix(".tmp").rename(place)
    with np.load(place, allow_pickle=False) as data:
        return data["x"], [str(t) for t in data["text"]]
