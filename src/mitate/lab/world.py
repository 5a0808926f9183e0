"""Scenes and the worlds they are drawn from: things by shape, colour, size, texture and place; how often each comes is known exactly.

scene = World().scene(7)                 scene 7 of the world, whoever asks, however many are asked for
World("skewed", colours={"red": 8})      red things come eight times as often as others
World("biased", bias=0.9)                nine of ten circles lie on white, nine of ten squares on grey, ... (BIASED)

A scene is one to three kinds of things, at most four things, none touching another. Pairs of shape and colour in RARE come at a tenth of the rate
of others; those in WITHHELD never come, and whoever draws one has put together what it has never seen together (`only=WITHHELD` draws them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mitate.errors import SettingError
from mitate.runtime import seed_of
from mitate.settings import suggest

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = {"small": 0.085, "large": 0.135}  # radius of the disc of the same area, in sides of the image
TEXTURES = ("plain", "striped", "dotted")  # small things are plain: at 32 px nothing else could be seen on them
BACKGROUNDS = ("white", "grey", "black", "beige")
LIGHTS = {"normal": 1.0, "dim": 0.6}  # share of the light that comes back
MOST = 4  # things in a scene
GAP = 0.065  # sides between two things
MARGIN = 0.03  # sides between a thing and the border
JITTER = 0.06  # of a radius, to either side

RARE = (("star", "green"), ("circle", "purple"), ("square", "orange"), ("triangle", "cyan"), ("diamond", "red"), ("cross", "yellow"))
WITHHELD = (("star", "blue"), ("circle", "cyan"), ("square", "pink"), ("triangle", "red"), ("diamond", "green"), ("cross", "purple"))
RARITY = 0.1
BIASED = dict(zip(SHAPES, ("white", "grey", "black", "beige", "white", "grey"), strict=True))  # the background that goes with a shape under `bias`

STAR_INNER = 0.5  # of the outer radius
ARM = 0.4  # half width of a cross's arm, of its half length


@dataclass(frozen=True)
class Thing:
    """One thing. x, y: its centre in sides of the image, y downward; r: radius of the disc of its area, in sides."""

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    r: float

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """What makes things alike."""
        return self.shape, self.colour, self.size, self.texture


@dataclass(frozen=True)
class Scene:
    """What a picture shows. lean: how much more light the right and the lower edge get than the middle, as shares."""

    things: tuple[Thing, ...]
    background: str
    light: str = "normal"
    lean: tuple[float, float] = (0.0, 0.0)
    seed: int = 0  # of grain and noise

    def groups(self) -> list[tuple[tuple[str, str, str, str], int]]:
        """Kinds of things and how many there are of each, in order of first appearance."""
        found: dict[tuple[str, str, str, str], int] = {}
        for thing in self.things:
            found[thing.kind] = found.get(thing.kind, 0) + 1
        return list(found.items())


@dataclass(frozen=True)
class World:
    """How often what comes. Weights need not sum to one; what is not named has weight 1."""

    name: str = "plain"
    shapes: Mapping[str, float] = field(default_factory=dict)
    colours: Mapping[str, float] = field(default_factory=dict)
    backgrounds: Mapping[str, float] = field(default_factory=dict)
    large: float = 0.6  # share of things
    textured: float = 0.35  # share of large things, half striped, half dotted
    dim: float = 0.15  # share of scenes
    counts: tuple[float, ...] = (0.4, 0.25, 0.2, 0.15)  # weights of 1, 2, ... things
    mixed: float = 0.65  # of scenes of several things, those with more than one kind
    bias: float = 0.0  # of scenes, those whose background is that of BIASED for the first thing's shape
    lean: float = 0.12  # most light that one edge has over the middle
    only: tuple[tuple[str, str], ...] = ()  # pairs of shape and colour; empty: all but WITHHELD
    same: tuple[str, ...] = ()  # what all things of a scene share: "shape", "colour", "size", "texture"

    def __post_init__(self) -> None:
        for given, known in ((self.shapes, SHAPES), (self.colours, COLOURS), (self.backgrounds, BACKGROUNDS)):
            for name, weight in given.items():
                if name not in known:
                    raise SettingError(f"The lab has no {name!r}.", fix=suggest(name, known))
                if not 0 <= weight < math.inf:
                    raise SettingError(f"The weight {weight} of {name} is out of range.", fix="give 0 or more")
        for shape, colour in self.only:
            if shape not in SHAPES or colour not in COLOURS:
                raise SettingError(f"The lab has no {colour} {shape}.", fix="write pairs as (shape, colour), for instance ('star', 'blue')")
        shares = (self.large, self.textured, self.dim, self.mixed, self.bias)
        if not all(0 <= v <= 1 for v in shares) or not 0 <= self.lean < 1 or not set(self.same) <= {"shape", "colour", "size", "texture"}:
            raise SettingError("Settings of a world are out of range.", fix="give shares from 0 to 1, and `same` of shape, colour, size, texture")
        if not 1 <= len(self.counts) <= MOST or min(self.counts) < 0 or sum(self.counts) <= 0:
            raise SettingError(f"The counts {self.counts} are out of range.", fix=f"give weights of 1 to {MOST} things, 0 or more, not all 0")
        if not self.pairs()[1].sum() > 0:
            raise SettingError("No pair of shape and colour is left in this world.", fix="give one of them a weight above 0")

    def pairs(self) -> tuple[list[tuple[str, str]], np.ndarray]:
        """Pairs of shape and colour that come, and the share of each among things, float64 [n], sum 1."""
        there = list(self.only) or [(s, c) for s in SHAPES for c in COLOURS if (s, c) not in WITHHELD]
        weights = np.array([self.shapes.get(s, 1.0) * self.colours.get(c, 1.0) * (RARITY if (s, c) in RARE and not self.only else 1.0) for s, c in there])
        return there, weights / max(1e-300, float(weights.sum()))

    def scene(self, i: int, *, seed: int = 0) -> Scene:
        """Scene `i` of `seed`; no other scene has a part in it."""
        chance = np.random.default_rng(seed_of("lab scene", seed, i))
        things = self._things(chance)
        background = _one(chance, BACKGROUNDS, self.backgrounds)
        if chance.random() < self.bias:
            background = BIASED[things[0].shape]
        light = "dim" if chance.random() < self.dim else "normal"
        lean = tuple(float(v) for v in chance.uniform(-self.lean, self.lean, 2))
        return Scene(things, background, light, (lean[0], lean[1]), seed_of("lab grain", seed, i))

    def _things(self, chance: np.random.Generator) -> tuple[Thing, ...]:
        count = 1 + int(chance.choice(len(self.counts), p=_shares(self.counts)))
        kinds = [self._kind(chance, None)]
        if count > 1 and chance.random() < self.mixed:
            kinds += [self._kind(chance, kinds[0]) for _ in range(int(chance.integers(1, min(count, 3))))]
        members = [*kinds, *(kinds[int(chance.integers(len(kinds)))] for _ in range(count - len(kinds)))]
        return place(sorted(members, key=kinds.index), chance)

    def _kind(self, chance: np.random.Generator, like: tuple[str, str, str, str] | None) -> tuple[str, str, str, str]:
        pairs, shares = self.pairs()
        if like is not None and (kept := {"shape", "colour"} & set(self.same)):
            shares = shares * [all(like[i] == pair[i] for i, name in enumerate(("shape", "colour")) if name in kept) for pair in pairs]
            shares /= shares.sum()
        shape, colour = pairs[int(chance.choice(len(pairs), p=shares))]
        size = "large" if chance.random() < self.large else "small"
        rough = chance.random() < self.textured
        texture = TEXTURES[1 + int(chance.integers(2))] if rough else "plain"
        if like is not None:
            size = like[2] if {"size", "texture"} & set(self.same) else size  # what is small is plain
            texture = like[3] if "texture" in self.same else texture
        return shape, colour, size, "plain" if size == "small" else texture

    def shares(self, attribute: str) -> dict[str, float]:
        """The true share of each value: of shape, colour, size, texture and pair (`red circle`) among things; of background, light and number (`3`)
        among scenes. Exact where `same` is empty.

        Kinds of a scene are drawn independently, and its further things are of one of its kinds: so each thing, alone, follows the shares of a kind.
        """
        if attribute in ("shape", "colour"):
            pairs, shares = self.pairs()
            at = ("shape", "colour").index(attribute)
            return {v: float(sum(p for pair, p in zip(pairs, shares, strict=True) if pair[at] == v)) for v in (SHAPES, COLOURS)[at]}
        if attribute == "pair":
            pairs, shares = self.pairs()
            return {f"{colour} {shape}": float(p) for (shape, colour), p in zip(pairs, shares, strict=True)}
        if attribute == "number":
            return {str(i + 1): float(p) for i, p in enumerate(_shares(self.counts))}
        if attribute == "size":
            return {"small": 1 - self.large, "large": self.large}
        if attribute == "texture":
            rough = self.large * self.textured
            return {"plain": 1 - rough, "striped": rough / 2, "dotted": rough / 2}
        if attribute == "light":
            return {"normal": 1 - self.dim, "dim": self.dim}
        if attribute == "background":
            plain = dict(zip(BACKGROUNDS, _shares([self.backgrounds.get(b, 1.0) for b in BACKGROUNDS]), strict=True))
            first = self.shares("shape")
            return {b: float((1 - self.bias) * plain[b] + self.bias * sum(p for s, p in first.items() if BIASED[s] == b)) for b in BACKGROUNDS}
        raise KeyError(attribute)


def extent(shape: str) -> tuple[float, float, float]:
    """Half width, reach above and reach below the centre, of the shape whose equal disc has radius 1."""
    if shape == "circle":
        return 1.0, 1.0, 1.0
    if shape == "square":
        half = math.sqrt(math.pi) / 2
        return half, half, half
    if shape == "diamond":
        half = math.sqrt(math.pi / 2)
        return half, half, half
    if shape == "triangle":  # its centre is that of gravity
        outer = math.sqrt(4 * math.pi / (3 * math.sqrt(3)))
        return outer * math.sqrt(3) / 2, outer, outer / 2
    if shape == "cross":
        half = math.sqrt(math.pi / (4 * (2 * ARM - ARM**2)))
        return half, half, half
    outer = math.sqrt(math.pi / (5 * STAR_INNER * math.sin(math.pi / 5)))
    return outer * math.sin(2 * math.pi / 5), outer, outer * math.cos(math.pi / 5)


def place(kinds: list[tuple[str, str, str, str]], chance: np.random.Generator) -> tuple[Thing, ...]:
    """Things of these kinds (at most four), none touching another or the border: anywhere, or each in a quarter where that does not come about."""
    radii = [SIZES[size] * float(chance.uniform(1 - JITTER, 1 + JITTER)) for _, _, size, _ in kinds]
    reach = [tuple(r * v for v in extent(kind[0])) for kind, r in zip(kinds, radii, strict=True)]
    spots = _anywhere(reach, chance) or _quarters(reach, chance)
    return tuple(Thing(*kind, x, y, r) for kind, r, (x, y) in zip(kinds, radii, spots, strict=True))


def _anywhere(reach: list[tuple[float, ...]], chance: np.random.Generator) -> list[tuple[float, float]] | None:
    boxes: list[tuple[float, float, float, float]] = []
    spots: list[tuple[float, float]] = []
    for wide, up, down in reach:
        for _ in range(20):
            x = float(chance.uniform(MARGIN + wide, 1 - MARGIN - wide))
            y = float(chance.uniform(MARGIN + up, 1 - MARGIN - down))
            box = (x - wide - GAP / 2, y - up - GAP / 2, x + wide + GAP / 2, y + down + GAP / 2)
            if all(box[0] > b[2] or box[2] < b[0] or box[1] > b[3] or box[3] < b[1] for b in boxes):
                break
        else:
            return None
        boxes.append(box)
        spots.append((x, y))
    return spots


def _quarters(reach: list[tuple[float, ...]], chance: np.random.Generator) -> list[tuple[float, float]]:
    """A quarter holds the widest thing (a large triangle at its largest, 0.39 sides) with half a gap on either inner side."""
    spots = []
    for (wide, up, down), quarter in zip(reach, chance.permutation(4), strict=False):
        left, top = 0.5 * (quarter % 2), 0.5 * (quarter // 2)
        low_x, high_x = left + (GAP / 2 if left else MARGIN) + wide, left + 0.5 - (MARGIN if left else GAP / 2) - wide
        low_y, high_y = top + (GAP / 2 if top else MARGIN) + up, top + 0.5 - (MARGIN if top else GAP / 2) - down
        spots.append((float(chance.uniform(low_x, high_x)), float(chance.uniform(low_y, high_y))))
    return spots


def _shares(weights: Any) -> np.ndarray:
    w = np.asarray(weights, dtype=np.float64)
    return w / w.sum()


def _one(chance: np.random.Generator, values: tuple[str, ...], weights: Mapping[str, float]) -> str:
    return values[int(chance.choice(len(values), p=_shares([weights.get(v, 1.0) for v in values])))]
