"""Skills: kinds of prompts, each with the world its scenes come from and what its prompts say.

prompts("counting", 200, seed=1)      200 prompts; prompt i depends on i only

What a model trains on leaves some content out (`held_out`): the pairs of WITHHELD, and a fifth of all combinations of things: of one thing by shape,
colour and size, of several by shapes, colours and how many there are of each. Prompts of a skill ask for content that was left out, so no training picture
fulfils them; `rare` alone asks for what was shown, a tenth as often as the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mitate.errors import SettingError
from mitate.lab.captions import LOOKS, Prompt, caption, place_of, relation_of
from mitate.lab.world import RARE, WITHHELD, Scene, World
from mitate.runtime import seed_of
from mitate.settings import suggest

SHARE_OUT = 5  # one combination of so many is left out of training
MOST_TRIES = 10_000  # scenes that are looked through for one that suits


@dataclass(frozen=True)
class Skill:
    """world: of its scenes; say: what its prompts say where it can be said; must: what a scene must allow; long: in sentences."""

    world: World
    say: frozenset[str]
    must: str = ""  # relation, place, texture, apart
    left_out: bool = True  # whether its prompts ask for what training does not show
    long: bool = False


_ONE, _TWO = (1.0,), (0.0, 1.0)
SKILLS = {
    "single": Skill(World(counts=_ONE), frozenset({"colour", "size", "texture"})),
    "texture": Skill(World(counts=_ONE, large=1.0, textured=1.0), frozenset({"colour", "texture"}), must="texture"),
    "place": Skill(World(counts=_ONE), frozenset({"colour", "place"}), must="place"),
    "counting": Skill(World(counts=(0.0, 1.0, 1.0, 1.0), mixed=0.0), frozenset({"colour"})),
    "binding": Skill(World(counts=_TWO, mixed=1.0), frozenset({"colour"}), must="apart"),
    "relation": Skill(World(counts=_TWO, mixed=1.0), frozenset({"colour", "relation"}), must="relation"),
    "rare": Skill(World(counts=_ONE, only=RARE), frozenset({"colour"}), left_out=False),
    "counterfactual": Skill(World(counts=_ONE, only=WITHHELD), frozenset({"colour"})),
    "long": Skill(World(counts=(0.0, 1.0, 1.0), mixed=1.0), frozenset({"colour", "size", "texture", "relation", "background", "light"}), long=True),
}


def prompts(skill: str, n: int, *, seed: int) -> list[Prompt]:
    """n prompts of a skill."""
    return [prompt for prompt, _ in pairs(skill, n, seed=seed)]


def pairs(skill: str, n: int, *, seed: int) -> Iterator[tuple[Prompt, Scene]]:
    """n prompts of a skill, each with a scene that fulfils it."""
    if skill not in SKILLS:
        raise SettingError(f"There is no skill {skill!r}.", fix=suggest(skill, SKILLS))
    how = SKILLS[skill]
    for i in range(n):
        tries = 0
        while not _suits(scene := how.world.scene(tries, seed=seed_of("lab skill", skill, seed, i)), how):
            tries += 1
        yield caption(scene, seed=seed_of("lab skill", skill, seed, i), say=how.say, long=how.long), scene


def training(i: int, *, seed: int, world: World | None = None, styled: float = 0.0) -> tuple[Prompt, Scene]:
    """Pair `i` of a caption and a scene to train on: nothing that was left out, one of six captions long, a share `styled` in a named style."""
    for tries in range(MOST_TRIES):
        if not held_out(scene := (world or World()).scene(tries, seed=seed_of("lab training", seed, i))):
            break
    else:
        raise SettingError("Everything in this world is left out of training.", fix="allow pairs of shape and colour that are not among WITHHELD")
    words = seed_of("lab training words", seed, i)
    chance = np.random.default_rng(words)
    style = list(LOOKS)[int(chance.integers(len(LOOKS)))] if chance.random() < styled else "flat"
    return caption(scene, seed=words, long=words % 6 == 0, style=style), scene


def held_out(scene: Scene) -> bool:
    """Whether this content is left out of training."""
    pairs = [(thing.shape, thing.colour) for thing in scene.things]
    if any(pair in WITHHELD for pair in pairs):
        return True
    if len(scene.things) == 1:
        key = ["/".join((*pairs[0], scene.things[0].size))]
    else:
        key = sorted(f"{shape}/{colour}x{count}" for (shape, colour), count in Counter(pairs).items())
    return seed_of("lab held out", *key) % SHARE_OUT == 0


def _suits(scene: Scene, how: Skill) -> bool:
    kinds = [kind for kind, _ in scene.groups()]
    if how.left_out and not held_out(scene):
        return False
    if how.must == "texture":
        return kinds[0][3] != "plain"
    if how.must == "place":
        return place_of(scene.things[0]) is not None
    if how.must in ("apart", "relation") and not (len(kinds) == 2 and kinds[0][0] != kinds[1][0] and kinds[0][1] != kinds[1][1]):
        return False
    return how.must != "relation" or relation_of(scene.things[0], scene.things[1]) is not None
