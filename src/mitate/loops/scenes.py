"""What is known of a loop in the lab: the world that real pairs come from, what a person would write, and a generation judged against the truth.

Images are read by the oracle, captions by the grammar (lab/reading.py). Each attribute's shares are held against the world's own: total variation, where an
image or caption in which there is no thing counts as one of the value `nothing`. Pairs of shape and colour that are rare in the world are the tail, and how
many things lie on the ground that goes with their shape (`World.bias`) is the bias.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from mitate.errors import SettingError
from mitate.lab.captions import SAYABLE, Prompt, caption
from mitate.lab.drawing import STYLES, draw
from mitate.lab.oracle import UNCLEAR, read
from mitate.lab.questions import answers
from mitate.lab.reading import understand
from mitate.lab.world import BIASED, COLOURS, MOST, Scene, World
from mitate.runtime import seed_of
from mitate.settings import suggest

ATTRIBUTES = ("shape", "colour", "background", "number")
COUNTS = (0.6, 0.25, 0.15)  # weights of 1, 2, 3 things: fewer than in the plain world, since loops are about shares and not about counting
TAIL = 0.25  # of the pairs of shape and colour, those of lowest share
LEAST = 24  # pixels that the oracle reads
TRUTH = 2000  # scenes that the share of things on their own ground is counted in; standard error 0.01
NOTHING = "nothing"
Pair = tuple[str, str]  # shape and colour


def world_of(*, skew: float, bias: float) -> World:
    """The world of a loop: colours by Zipf's law with exponent `skew`, and the ground that goes with a shape in a share `bias` of scenes."""
    if not 0 <= skew <= 5 or not 0 <= bias <= 1:
        raise SettingError(f"skew={skew:g}, bias={bias:g} cannot be.", fix="give a skew from 0 to 5 and a bias from 0 to 1")
    return World("loop", colours={c: float(k**-skew) for k, c in enumerate(COLOURS, 1)}, counts=COUNTS, bias=bias)


def drawn(world: World, n: int, *, size: int, style: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[Scene]]:
    """n real pairs and their scenes: uint8 [n, size, size, 3], full captions [n]; pair i follows from seed and i."""
    check(size, style)
    scenes = [world.scene(i, seed=seed_of("lab loop", seed)) for i in range(n)]
    images = np.stack([draw(scene, size=size, style=style) for scene in scenes])
    return images, np.array([caption(s, seed=s.seed, say=SAYABLE, style=style).text for s in scenes], dtype=np.str_), scenes


def check(size: int, style: str) -> None:
    """SettingError for a style that there is none of, or too few pixels to read."""
    if style not in STYLES:
        raise SettingError(f"There is no style {style!r}.", fix=suggest(style, STYLES))
    if size < LEAST:
        raise SettingError(f"Drawings of {size} pixels cannot be read.", fix=f"give a model that paints {LEAST} pixels or more, or a folder as data")


def written(image: np.ndarray, *, style: str) -> str:
    """What a person would write of an image: all that is clear in it, at most four things."""
    scene = read(image, style=style)
    things = tuple(t for t in scene.things if UNCLEAR not in (t.shape, t.colour))[:MOST]
    if not things:
        return "a picture with nothing on it"
    say = SAYABLE - {"background"} if scene.background == UNCLEAR else SAYABLE
    seed = seed_of("lab loop written", hashlib.sha256(image.tobytes()).hexdigest())
    return caption(Scene(things, scene.background, scene.light), seed=seed, say=say, style=style).text


# a generation against the truth -----------------------------------------------------------------------------------------


class Truth:
    """A world's own shares, counted or known once, and what a generation is off by."""

    def __init__(self, world: World) -> None:
        self.world = world
        pairs, shares = world.pairs()
        order = np.argsort(shares, kind="stable")
        order = order[shares[order] > 0]
        self.tail: set[Pair] = {pairs[i] for i in order[: max(1, round(TAIL * len(order)))]}
        scenes = [world.scene(i, seed=seed_of("lab loop truth")) for i in range(TRUTH)]
        self.on_own_ground = on_own_ground([[(t.shape, t.colour) for t in s.things] for s in scenes], [s.background for s in scenes])

    def of_images(self, scenes: Sequence[Scene]) -> dict[str, float]:
        """Errors of scenes that the oracle read, by name, each with `image_` in front."""
        things = [[(t.shape, t.colour) for t in s.things] for s in scenes]
        return self._errors("image", things, [s.background for s in scenes])

    def of_captions(self, prompts: Sequence[Prompt | None]) -> dict[str, float]:
        """The same of captions as the grammar understood them, with `caption_` in front. None: not understood, so nothing is in it."""
        things = [[(g.shape, g.colour or "unsaid") for g in p.groups for _ in range(g.count)] if p else [] for p in prompts]
        return self._errors("caption", things, [(p.background if p else None) or "unsaid" for p in prompts])

    def _errors(self, what: str, things: Sequence[Sequence[Pair]], grounds: Sequence[str]) -> dict[str, float]:
        values = {
            "shape": [pair[0] for some in things for pair in some or [(NOTHING, NOTHING)]],
            "colour": [pair[1] for some in things for pair in some or [(NOTHING, NOTHING)]],
            "background": list(grounds),
            "number": [str(len(some)) for some in things],
        }
        off = {f"{what}_tv_{name}": _variation(values[name], self.world.shares(name)) for name in ATTRIBUTES}
        came = {pair for some in things for pair in some}
        return {
            **off,
            f"{what}_drift": float(np.mean(list(off.values()))),
            f"{what}_tail": len(self.tail & came) / len(self.tail),
            f"{what}_amplification": on_own_ground(things, grounds) - self.on_own_ground,
        }


def on_own_ground(things: Sequence[Sequence[Pair]], grounds: Sequence[str]) -> float:
    """Share of things that lie on the ground that goes with their shape; where there is no thing, that is one that does not."""
    found = [BIASED.get(shape) == ground for some, ground in zip(things, grounds, strict=True) for shape, _ in some or [(NOTHING, NOTHING)]]
    return float(np.mean(found))


def understood(texts: Sequence[str]) -> list[Prompt | None]:
    """What captions ask for; None for those that say something which is not of the lab, or name no thing."""
    found = [understand(text) for text in texts]
    return [None if one.unknown else one.prompt for one in found]


def right(prompts: Sequence[Prompt | None], scenes: Sequence[Scene]) -> float:
    """Mean share of a caption's questions that its scene answers with yes, 0 to 1; 0 for a caption that is not understood."""
    shares = []
    for prompt, scene in zip(prompts, scenes, strict=True):
        found = answers(prompt, scene) if prompt else [False]
        shares.append(sum(found) / len(found))
    return float(np.mean(shares))


def scenes_of(images: np.ndarray, *, style: str) -> list[Scene]:
    """Images as the oracle reads them."""
    return [read(image, style=style) for image in images]


def _variation(values: Sequence[str], truth: Mapping[str, float]) -> float:
    counts, n = Counter(values), len(values)
    return math.fsum(abs(counts[v] / n - truth.get(v, 0.0)) for v in sorted({*counts, *truth})) / 2
