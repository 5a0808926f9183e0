"""Scenes as pixels: exact shapes, antialiased; light, noise and the styles in which a scene can be drawn.

draw(scene, size=32)                         flat and clean
draw(scene, size=64, style="pastel", noise=10)

A style changes the look and not the content. What style is drawn in, how strongly, and how noisy it is are arguments, not parts of a scene, so the same
scenes can be had in two looks: a domain shift and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import gaussian_filter

from mitate.lab.world import ARM, LIGHTS, STAR_INNER, Scene, Thing, extent

PALETTE: Mapping[str, tuple[int, int, int]] = {
    "red": (222, 38, 38), "orange": (245, 135, 22), "yellow": (245, 222, 48), "green": (48, 165, 66),
    "cyan": (52, 205, 215), "blue": (42, 84, 222), "purple": (142, 54, 186), "pink": (250, 132, 188),
}  # fmt: skip
GROUND: Mapping[str, tuple[int, int, int]] = {"white": (245, 245, 245), "grey": (150, 150, 150), "black": (24, 24, 24), "beige": (222, 205, 172)}
DARK = 0.45  # light of a stripe or dot, of its thing's colour
STRIPE, DOT = 0.11, 0.135  # sides from one stripe, or dot, to the next
DOT_RADIUS = 0.3  # of that
TEXTURED = 0.84  # of a thing's radius: its rim is plain, so that its outline is plain too
FINE = 4  # samples a pixel and axis


@dataclass(frozen=True)
class Style:
    """A way to draw. Lengths in sides of the image; `flat` has every field 0."""

    wash: float = 0.0  # share of white in things
    fade: float = 0.0  # share of grey in everything: less contrast
    outline: float = 0.0  # width of a dark rim
    hollow: float = 0.0  # share of the ground that shows through things
    blur: float = 0.0
    shadow: float = 0.0  # share of light that a thing's shadow takes
    grain: float = 0.0  # of paper, in levels of 255: smooth noise
    tint: float = 0.0  # share of a warm brown in everything
    vignette: float = 0.0  # share of light lost in the corners

    def at(self, strength: float) -> Style:
        """The style, more or less of it: 0 is flat, 1 the style."""
        return Style(**{f.name: strength * getattr(self, f.name) for f in fields(self)})


STYLES: Mapping[str, Style] = {
    "flat": Style(),
    "outlined": Style(outline=0.02),
    "pastel": Style(wash=0.4, fade=0.12),
    "soft": Style(blur=0.022, shadow=0.3),
    "sepia": Style(tint=0.28, fade=0.1, vignette=0.25),
    "chalk": Style(hollow=0.2, grain=8.0, blur=0.012),
    "dusk": Style(fade=0.25, vignette=0.35, shadow=0.4, tint=0.08),  # nothing learns from it and no caption names it: for a look that is new
}
SEPIA, MIDDLE = np.array([120.0, 84.0, 48.0]), 128.0


def draw(scene: Scene, *, size: int = 32, style: str | Style = "flat", strength: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """The scene as uint8 [size, size, 3]. noise: standard deviation of what is added to each pixel and channel, in levels of 255."""
    how = (STYLES[style] if isinstance(style, str) else style).at(strength)
    canvas = np.broadcast_to(np.array(GROUND[scene.background], dtype=np.float64), (size, size, 3)).copy()
    if how.shadow:
        for thing in scene.things:
            _under(canvas, thing, size, how.shadow)
    for thing in scene.things:
        _on(canvas, thing, size, how)
    canvas = _light(canvas, scene, size, how)
    if how.blur:
        canvas = gaussian_filter(canvas, (how.blur * size, how.blur * size, 0), mode="nearest")
    canvas += how.tint * (SEPIA - canvas)
    canvas += how.fade * (MIDDLE - canvas)
    if how.grain or noise:
        chance = np.random.default_rng(scene.seed)
        if how.grain:
            paper = gaussian_filter(chance.standard_normal((size, size)), 0.03 * size, mode="wrap")
            canvas += (how.grain * paper / paper.std())[..., None]
        canvas += noise * chance.standard_normal(canvas.shape)
    return np.rint(canvas.clip(0, 255)).astype(np.uint8)


def draw_all(scenes: Sequence[Scene], *, size: int = 32, style: str | Style = "flat", strength: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """uint8 [n, size, size, 3]."""
    return np.stack([draw(scene, size=size, style=style, strength=strength, noise=noise) for scene in scenes])


def inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points lie in the shape whose equal disc has radius 1; x, y: float64 of one shape, y downward, from its centre. Returns bool."""
    wide, up, down = extent(shape)
    if shape == "circle":
        return x * x + y * y <= 1
    if shape == "square":
        return (abs(x) <= wide) & (abs(y) <= wide)
    if shape == "diamond":
        return abs(x) + abs(y) <= wide
    if shape == "triangle":
        return (y <= down) & (abs(x) * (up + down) <= (y + up) * wide)
    if shape == "cross":
        return ((abs(x) <= ARM * wide) & (abs(y) <= wide)) | ((abs(y) <= ARM * wide) & (abs(x) <= wide))
    angle, sector = np.arctan2(x, -y), 2 * np.pi / 5  # from the upper tip
    folded = abs((angle + sector / 2) % sector - sector / 2)
    # The edge from a tip (radius `up`, angle 0) to the next inner corner (half a sector further), as a half plane.
    ex, ey = STAR_INNER * up * np.sin(sector / 2), up - STAR_INNER * up * np.cos(sector / 2)
    radius = np.hypot(x, y)
    return radius * np.sin(folded) * ey + radius * np.cos(folded) * ex <= up * ex


def coverage(shape: str, *, x: float, y: float, r: float, size: int, grow: float = 0.0) -> tuple[tuple[slice, slice], np.ndarray]:
    """The share of each pixel that a shape covers, float64 [h, w] of a window, and where the window lies. x, y, r, grow in sides; grow: a wider radius."""
    reach = (max(extent(shape)) * (r + grow)) * size + 1
    rows = slice(max(0, int(y * size - reach)), min(size, int(y * size + reach) + 2))
    columns = slice(max(0, int(x * size - reach)), min(size, int(x * size + reach) + 2))
    py, px = _points(rows, columns)
    found = inside(shape, (px / size - x) / (r + grow), (py / size - y) / (r + grow))
    return (rows, columns), _pooled(found)


def _points(rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Sample points of a window in pixels: [h * FINE, 1] and [1, w * FINE]."""
    py = (np.arange(rows.start * FINE, rows.stop * FINE) + 0.5) / FINE
    px = (np.arange(columns.start * FINE, columns.stop * FINE) + 0.5) / FINE
    return py[:, None], px[None, :]


def _pooled(fine: np.ndarray) -> np.ndarray:
    h, w = fine.shape
    return fine.reshape(h // FINE, FINE, w // FINE, FINE).mean(axis=(1, 3))


def _on(canvas: np.ndarray, thing: Thing, size: int, how: Style) -> None:
    colour = np.array(PALETTE[thing.colour], dtype=np.float64)
    colour += how.wash * (255 - colour)
    if how.outline:
        place, rim = coverage(thing.shape, x=thing.x, y=thing.y, r=thing.r, size=size, grow=how.outline)
        canvas[place] += (rim * min(1.0, how.outline * size))[..., None] * (0.25 * colour - canvas[place])
    place, cover = coverage(thing.shape, x=thing.x, y=thing.y, r=thing.r, size=size)
    dark = _dark_share(thing, place, size)
    paint = colour * (1 - (1 - DARK) * dark[..., None])
    canvas[place] += ((1 - how.hollow) * cover)[..., None] * (paint - canvas[place])


def _dark_share(thing: Thing, place: tuple[slice, slice], size: int) -> np.ndarray:
    """The share of each pixel that lies on a stripe or dot, float64 [h, w]."""
    py, px = _points(*place)
    y, x = py / size - thing.y, px / size - thing.x
    if thing.texture == "plain":
        return np.zeros((y.shape[0] // FINE, x.shape[1] // FINE))
    within = inside(thing.shape, x / (TEXTURED * thing.r), y / (TEXTURED * thing.r))
    if thing.texture == "striped":
        return _pooled(within & ((y / STRIPE) % 1 < 0.5))
    near_x, near_y = (x / DOT + 0.5) % 1 - 0.5, (y / DOT + 0.5) % 1 - 0.5
    return _pooled(within & (near_x**2 + near_y**2 < DOT_RADIUS**2))


def _under(canvas: np.ndarray, thing: Thing, size: int, share: float) -> None:
    place, cover = coverage(thing.shape, x=thing.x + 0.03, y=thing.y + 0.03, r=thing.r, size=size)
    canvas[place] *= (1 - share * cover)[..., None]


def _light(canvas: np.ndarray, scene: Scene, size: int, how: Style) -> np.ndarray:
    at = (np.arange(size) + 0.5) / size * 2 - 1
    field = LIGHTS[scene.light] * (1 + scene.lean[0] * at[None, :] + scene.lean[1] * at[:, None]) / (1 + abs(scene.lean[0]) + abs(scene.lean[1]))
    if how.vignette:
        field = field * (1 - how.vignette * (at[None, :] ** 2 + at[:, None] ** 2) / 2)
    return canvas * field[..., None]
