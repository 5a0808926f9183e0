"""Near misses: a scene with one thing, or itself, changed in one attribute. What tells a scene from its foils knows that attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mitate.lab.world import BACKGROUNDS, COLOURS, LIGHTS, SHAPES, SIZES, TEXTURES, Scene

OF_THING: dict[str, Sequence[str]] = {"shape": SHAPES, "colour": COLOURS, "size": tuple(SIZES), "texture": TEXTURES}
OF_SCENE: dict[str, Sequence[str]] = {"background": BACKGROUNDS, "light": tuple(LIGHTS)}
ATTRIBUTES = (*OF_THING, *OF_SCENE, "number")


def foil(scene: Scene, attribute: str, chance: np.random.Generator) -> Scene | None:
    """The scene with one attribute of ATTRIBUTES changed (`number`: one thing taken away); None where the world has no such change.

    Places and sizes in pixels stay, so it is for what is told of a scene and not for drawing: a large thing may lie as a small one did.
    """
    if attribute in OF_SCENE:
        changed: dict[str, Any] = {attribute: _other(OF_SCENE[attribute], getattr(scene, attribute), chance)}
        return replace(scene, **changed)
    at = int(chance.integers(len(scene.things)))
    thing, rest = scene.things[at], (scene.things[:at], scene.things[at + 1 :])
    if attribute == "number":
        return replace(scene, things=(*rest[0], *rest[1])) if len(scene.things) > 1 else None
    if (attribute == "texture" and thing.size == "small") or (attribute == "size" and thing.texture != "plain"):
        return None  # small things are plain
    changed = {attribute: _other(OF_THING[attribute], getattr(thing, attribute), chance)}
    return replace(scene, things=(*rest[0], replace(thing, **changed), *rest[1]))


def _other(values: Sequence[str], value: str, chance: np.random.Generator) -> str:
    rest = [v for v in values if v != value]
    return rest[int(chance.integers(len(rest)))]
