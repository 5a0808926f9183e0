"""What the lab's models learn from: drawings with texts, made once and kept in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mitate.lab.captions import OFTEN, SAYABLE, Prompt, caption, place_of, relation_of
from mitate.lab.drawing import draw
from mitate.lab.skills import training
from mitate.lab.world import Scene, World
from mitate.runtime import seed_of

PAIRS = 40_000
STYLED = 0.25  # share of drawings in a named style


def asked(i: int) -> tuple[np.ndarray, str]:
    """For what paints: a clean drawing uint8 [32, 32, 3] and a caption that says some of it."""
    prompt, scene = training(i, seed=0, styled=STYLED)
    return draw(scene, style=prompt.style), prompt.text


SMALL = World(shapes={"cross": 3.0, "diamond": 2.0}, counts=(0.25, 0.25, 0.25, 0.25), large=0.15)  # what is lost first, and what it is taken for
ONE, TWO, MANY = World(counts=(1.0,)), World(counts=(0.0, 1.0), mixed=1.0), World(counts=(0.0, 1.0, 1.0, 1.0), mixed=0.25)
URGED = {"relation": (0.4, TWO), "place": (0.15, ONE), "number": (0.15, MANY), "single": (0.15, ONE), "any": (0.15, World())}  # shares, and worlds


def small(i: int) -> tuple[np.ndarray, str]:
    """For what decodes: mostly small things, with nothing said."""
    return draw(training(i, seed=5, world=SMALL)[1]), ""


def urging(i: int) -> tuple[Prompt, Scene]:
    """For what paints: prompts that say where things are, of two things five times as often as those of `asked` do how they stand to each other, and their
    scenes. Nothing that is left out of `training` is shown."""
    chance = np.random.default_rng(seed_of("lab urging", i))
    kind = list(URGED)[int(chance.choice(len(URGED), p=[share for share, _ in URGED.values()]))]
    for tries in range(1000):  # one in three scenes will do
        prompt, scene = training(1000 * i + tries, seed=6, world=URGED[kind][1], styled=STYLED)
        if kind == "relation" and relation_of(*scene.things) is None or kind == "place" and place_of(scene.things[0]) is None:
            continue
        break
    if kind in ("relation", "place"):
        say = {name for name in sorted(SAYABLE) if chance.random() < OFTEN[name]} | {kind}
        prompt = caption(scene, seed=scene.seed, say=say, long=i % 6 == 0, style=prompt.style)
    return prompt, scene


def urged(i: int) -> tuple[np.ndarray, str]:
    """A clean drawing uint8 [32, 32, 3] and the caption of `urging`."""
    prompt, scene = urging(i)
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
