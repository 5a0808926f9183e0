"""How far are pictures from the world they should be of? Frequencies that the oracle read, beside the true ones.

errors = distribution_errors([read(image) for image in images], World())
errors["colour"].value, errors["colour"].floor

The error of an attribute is the total variation distance between its frequencies and the truth: the share of things (or scenes) that would have to change.
It is never 0 for a finite set, so each is told with its floor: what as many scenes drawn from the world itself score, median and 95 % range.

What a model trained on is a world less what was left out (skills.held_out), and its shares are others: give `among=lambda scene: not held_out(scene)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from mitate.errors import DataError
from mitate.lab.world import Scene, Thing, World
from mitate.runtime import seed_of

OF_THINGS, OF_SCENES = ("shape", "colour", "pair", "size", "texture"), ("number", "background", "light")
DRAWS = 100  # of the world, for the floor


@dataclass(frozen=True)
class DistributionError:
    """value: 0 to 1. floor, low, high: median and 95 % range of what the world itself scores at this n. n: things or scenes; worst: value that is most
    off, and by how much its share is too high (positive) or too low."""

    value: float
    floor: float
    low: float
    high: float
    n: int
    worst: tuple[str, float]

    @property
    def sure(self) -> bool:
        """Whether it is above what the world itself scores in 97.5 of 100 draws."""
        return self.value > self.high


def distribution_errors(
    scenes: Sequence[Scene], world: World, *, among: Callable[[Scene], bool] | None = None, seed: int = 0, draws: int = DRAWS
) -> dict[str, DistributionError]:
    """The error of each attribute, by its name. among: the truth is the world's scenes that this holds of; their shares are counted over all draws, without
    it they are exact. DataError where there are no things to count.
    """
    if not scenes or not any(scene.things for scene in scenes):
        raise DataError(f"{len(scenes)} scenes hold no things.", fix="give images of the lab, in their style")
    fresh = [list(islice(filter(among, (world.scene(i, seed=seed_of("lab truth", seed, k)) for i in count())), len(scenes))) for k in range(draws)]
    found = {}
    for name in (*OF_THINGS, *OF_SCENES):
        truth = world.shares(name) if among is None else _shares([scene for some in fresh for scene in some], name)
        value, worst, n = _error(scenes, name, truth)
        floors = [_error(some, name, truth)[0] for some in fresh]
        low, middle, high = (float(v) for v in np.quantile(floors, (0.025, 0.5, 0.975)))
        found[name] = DistributionError(value, middle, low, high, n, worst)
    return found


def _error(scenes: Sequence[Scene], name: str, truth: dict[str, float]) -> tuple[float, tuple[str, float], int]:
    shares = _shares(scenes, name)
    off = {value: shares.get(value, 0.0) - truth.get(value, 0.0) for value in sorted({*shares, *truth})}
    worst = max(sorted(off), key=lambda value: abs(off[value]))
    n = sum(len(scene.things) for scene in scenes) if name in OF_THINGS else len(scenes)
    return sum(abs(v) for v in off.values()) / 2, (worst, off[worst]), n


def _shares(scenes: Sequence[Scene], name: str) -> dict[str, float]:
    counts = Counter(_value(scene, thing, name) for scene in scenes for thing in (scene.things if name in OF_THINGS else (None,)))
    return {value: k / counts.total() for value, k in counts.items()}


def _value(scene: Scene, thing: Thing | None, name: str) -> str:
    if name == "number":
        return str(len(scene.things))
    if name == "pair":
        assert thing is not None
        return f"{thing.colour} {thing.shape}"
    return str(getattr(scene if name in OF_SCENES else thing, name))
