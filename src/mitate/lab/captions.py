"""What is said of a scene: prompts from a grammar, with what they ask for kept beside the words.

caption(scene, seed=7)                       some of what can be said, in one of many wordings
caption(scene, seed=7, say={"colour"})       only these attributes (and always shape and number)

Every thing is mentioned, not every attribute: what a prompt leaves open, a picture may fill as it likes, but it may not add things.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from mitate.lab.world import Scene, Thing
from mitate.runtime import seed_of

ATTRIBUTES = ("colour", "size", "texture")  # of things, in the order of their words
SAYABLE = frozenset({*ATTRIBUTES, "place", "relation", "background", "light"})
OFTEN = {"colour": 0.9, "size": 0.45, "texture": 0.7, "place": 0.4, "relation": 0.6, "background": 0.35, "light": 0.35}  # a caption says it, if it can

WORDS = {
    "circle": ("circle", "circle", "disc"), "square": ("square", "square", "box"), "triangle": ("triangle",), "diamond": ("diamond", "diamond", "rhombus"),
    "cross": ("cross", "cross", "plus sign"), "star": ("star",), "purple": ("purple", "purple", "violet"), "small": ("small", "small", "little", "tiny"),
    "large": ("large", "large", "big"), "striped": ("striped",), "dotted": ("dotted", "spotted"), "plain": ("plain",), "grey": ("grey", "gray"),
}  # fmt: skip
PLURAL = {"cross": "crosses", "box": "boxes", "rhombus": "rhombuses"}
NUMBERS = {1: ("a", "a", "a", "one", "a single"), 2: ("two", "two", "a pair of"), 3: ("three",), 4: ("four",)}
RELATIONS = {
    "left": ("to the left of", "left of", "on the left of"), "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"), "below": ("below", "under", "beneath"),
}  # fmt: skip
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PLACES = {
    "left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom", "middle": "in the middle",
    "top left": "in the top left corner", "top right": "in the top right corner",
    "bottom left": "in the bottom left corner", "bottom right": "in the bottom right corner",
}  # fmt: skip
FRAMES = ("{}", "{}", "{}", "a picture of {}", "an image of {}", "there {is} {}", "a drawing that shows {}", "here {is} {}")
DIM = ("in dim light", "dimly lit", "in the dark")
BRIGHT = ("in bright light", "well lit")
LOOKS = {  # how a style is called; flat, the usual one, and dusk are not named
    "outlined": ("with dark outlines", "outlined in black"), "pastel": ("in pastel colours", "in pastel"), "soft": ("soft and blurred", "out of focus"),
    "sepia": ("in sepia", "like an old photograph"), "chalk": ("in chalk", "as a chalk drawing"),
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Like things that a prompt asks for. None: left open."""

    count: int
    shape: str
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    place: str | None = None

    def fits(self, thing: Thing) -> bool:
        """Whether a thing has every attribute that is asked for; its place apart."""
        return all(getattr(self, name) in (None, getattr(thing, name)) for name in ("shape", *ATTRIBUTES))


@dataclass(frozen=True)
class Prompt:
    """A text and what it asks for: groups of things, how the first stands to the second, ground and light."""

    text: str
    groups: tuple[Wanted, ...]
    relation: str | None = None
    background: str | None = None
    light: str | None = None
    style: str = "flat"


def caption(scene: Scene, *, seed: int, say: Set[str] | None = None, long: bool = False, style: str = "flat") -> Prompt:
    """A prompt that the scene, drawn in `style`, fulfils.

    say: what is said where it can be (default: each of SAYABLE as often as OFTEN has it); long: in sentences.
    """
    chance = np.random.default_rng(seed_of("lab caption", seed))
    told = frozenset(name for name in sorted(SAYABLE) if chance.random() < OFTEN[name]) if say is None else frozenset(say)
    groups = _told_apart([_wanted(thing_kind, count, told) for thing_kind, count in scene.groups()], scene)
    relation = None
    if "relation" in told and len(scene.things) == 2 and len(groups) == 2 and (relation := relation_of(*_in_order(scene))) is not None:
        if chance.random() < 0.5:
            groups, relation = groups[::-1], OPPOSITE[relation]
    elif "place" in told and len(scene.things) == 1:
        groups = [Wanted(g.count, g.shape, g.colour, g.size, g.texture, place_of(scene.things[0])) for g in groups]
    background = scene.background if "background" in told else None
    light = scene.light if "light" in told else None
    text = (_sentences if long else _phrase)(groups, relation, background, light, chance)
    if style in LOOKS:
        text += ", " * (not long) + " " * long + LOOKS[style][int(chance.integers(len(LOOKS[style])))]
    return Prompt(text, tuple(groups), relation, background, light, style)


def place_of(thing: Thing) -> str | None:
    """The word for where a thing is; None between two words."""

    def third(at: float, low: str, high: str) -> str | None:
        return low if at < 0.36 else high if at > 0.64 else "" if 0.42 <= at <= 0.58 else None

    across, down = third(thing.x, "left", "right"), third(thing.y, "top", "bottom")
    if across is None or down is None:
        return None
    return f"{down} {across}".strip() or "middle"


def relation_of(one: Thing, two: Thing) -> str | None:
    """How one thing stands to another: left, right, above, below; None where that is not plain."""
    dx, dy = two.x - one.x, two.y - one.y
    if max(abs(dx), abs(dy)) < 0.2 or max(abs(dx), abs(dy)) < 1.5 * min(abs(dx), abs(dy)):
        return None
    if abs(dx) > abs(dy):
        return "left" if dx > 0 else "right"
    return "above" if dy > 0 else "below"


def _in_order(scene: Scene) -> tuple[Thing, Thing]:
    first = scene.groups()[0][0]
    one = next(t for t in scene.things if t.kind == first)
    return one, next(t for t in scene.things if t is not one)


def _wanted(kind: tuple[str, str, str, str], count: int, told: Set[str]) -> Wanted:
    shape, colour, size, texture = kind
    rough = texture if texture != "plain" else None  # that a thing is plain is said only to tell it from another
    return Wanted(count, shape, colour if "colour" in told else None, size if "size" in told else None, rough if "texture" in told else None)


def _told_apart(groups: list[Wanted], scene: Scene) -> list[Wanted]:
    """Where one group's words would fit another group's things, every attribute of both is said."""
    kinds = [next(t for t in scene.things if t.kind == kind) for kind, _ in scene.groups()]
    full = [Wanted(g.count, t.shape, t.colour, t.size, t.texture) for g, t in zip(groups, kinds, strict=True)]
    mixed = {i for i, g in enumerate(groups) for j, t in enumerate(kinds) if i != j and g.fits(t)}
    mixed |= {j for i, g in enumerate(groups) for j, t in enumerate(kinds) if i != j and g.fits(t)}
    return [full[i] if i in mixed else g for i, g in enumerate(groups)]


# words ----------------------------------------------------------------------------------------------------------------


def _word(value: str, chance: np.random.Generator) -> str:
    options = WORDS.get(value, (value,))
    return options[int(chance.integers(len(options)))]


def _group(g: Wanted, chance: np.random.Generator) -> str:
    number = NUMBERS[g.count][int(chance.integers(len(NUMBERS[g.count])))]
    noun = _word(g.shape, chance)
    if g.count > 1:
        noun = PLURAL.get(noun, noun + "s")
    attributes = [_word(v, chance) for v in (g.size, g.texture, g.colour) if v]
    if number == "a" and (attributes or [noun])[0][0] in "aeiou":
        number = "an"
    place = f" {PLACES[g.place]}" if g.place else ""
    return " ".join([number, *attributes, noun]) + place


def _phrase(groups: list[Wanted], relation: str | None, background: str | None, light: str | None, chance: np.random.Generator) -> str:
    parts = [_group(g, chance) for g in groups]
    text = _joined(parts, relation, chance)
    frame = FRAMES[int(chance.integers(len(FRAMES)))]
    text = frame.format(text, **{"is": "is" if groups[0].count == 1 else "are"})
    if background:
        ground = _word(background, chance)
        text += (f" on a {ground} background", f" on {ground}", f", {ground} background")[int(chance.integers(3))]
    if light:
        words = DIM if light == "dim" else BRIGHT
        text += ", " + words[int(chance.integers(len(words)))]
    return text


def _sentences(groups: list[Wanted], relation: str | None, background: str | None, light: str | None, chance: np.random.Generator) -> str:
    ground = f"a {_word(background, chance)} background" if background else "an even background"
    words = (DIM if light == "dim" else BRIGHT)[int(chance.integers(2))] if light else ""
    opening = f"this picture has {ground}" + (f", {words}" if words else "")
    total = sum(g.count for g in groups)
    number = ("one thing", "two things", "three things", "four things")[total - 1]
    return f"{opening}. it shows {number}: {_joined([_group(g, chance) for g in groups], relation, chance)}, and nothing else."


def _joined(parts: list[str], relation: str | None, chance: np.random.Generator) -> str:
    if relation:
        words = RELATIONS[relation]
        return f"{parts[0]} {words[int(chance.integers(len(words)))]} {parts[1]}"
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}"
