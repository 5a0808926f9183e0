"""The oracle: reads an image back into a scene by segmentation and geometry. Nothing is learnt.

read(image) -> Scene, which carries `unclear` where a shape, a colour or the ground is none of ours.

1. ground     the frame of the image, then a plane a channel through all that looks like it: lean and dim light stay in it
2. things     what differs from the ground, in connected pieces; how much of each pixel a piece covers, to a tenth
3. colour     the hue of a piece's bright part beside the palette's, so that dim light does not matter
4. shape      drawn again at the piece's centre of gravity and area: the one most like it, by the cosine of what they cover
5. texture    dark rows (stripes) or dark spots inside a piece
6. light      from how bright the colours are beside the palette's; then which ground it is in that light
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, label, uniform_filter

from mitate.lab.drawing import DARK, GROUND, MIDDLE, PALETTE, SEPIA, STYLES, Style, coverage, inside
from mitate.lab.world import COLOURS, LIGHTS, SHAPES, SIZES, Scene, Thing

UNCLEAR = "unclear"
LEAST_LIKENESS = 0.93  # cosine of a piece and its shape drawn again; below, the shape is unclear
LEAST_HUE = 0.985  # cosine of a thing's colour and the palette's; below, the colour is unclear
MIXED = 0.25  # share of a thing's pixels of another hue, from which on its colour is unclear
FAR_GROUND = 34.0  # levels from a ground in every light; beyond, the ground is unclear (a vignette adds to it)
LEAST_AREA = 0.3  # of the smallest thing's: smaller pieces are specks
SPLIT_SIZE = float(np.sqrt(SIZES["small"] * SIZES["large"]))
SCALES = (0.94, 1.0, 1.06)  # of a piece's radius, when its shape is drawn again
RIM = 0.25  # of a piece's distance to the ground: less is the halo of a blurred rim
TINTED = 0.88  # darkest channel of the ground over the brightest: below, it is beige
NOISY = 3.0  # levels; above, pixels are smoothed before they are told apart
SMOOTH = 0.6  # pixels
FAINT = 14.0  # levels from the ground: less is ground
SIGMAS = 4.5  # of what noise leaves in a pixel's distance
GRAINS = 4.5  # of a style's grain, which is in all channels at once


@dataclass(frozen=True)
class Piece:
    """One connected piece of what is not ground. cover: float64 [h, w], 0 to 1; x, y, r in sides: centre of gravity, radius of the disc of its area."""

    cover: np.ndarray
    x: float
    y: float
    r: float


def read(image: np.ndarray, *, style: str | Style = "flat") -> Scene:
    """The scene in an image, uint8 [h, h, 3], h from 24, drawn in `style`. Things come from left to right; noise, grain and lean are not told."""
    size, how = image.shape[0], STYLES[style] if isinstance(style, str) else style
    pixels = image.astype(np.float64)
    pixels = (pixels - how.fade * MIDDLE) / (1 - how.fade)
    pixels = (pixels - how.tint * SEPIA) / (1 - how.tint)
    smooth = SMOOTH * size / 32 if _noise(pixels) > NOISY else 0.0
    if smooth:
        pixels = gaussian_filter(pixels, (smooth, smooth, 0), mode="nearest")
    ground, left = _ground(pixels)
    blurred = float(np.hypot(smooth, how.blur * size))
    gain, off = _gain(ground), _off(pixels, ground, how.shadow)
    things, lights = [], []
    for mask in _masks(off, max(FAINT, SIGMAS * left, GRAINS * how.grain)):
        if (piece := _piece(off * mask, mask, blurred)) is None:
            continue
        shape, inner = _shape(piece, size, blurred, how.outline)
        values = (pixels[inner] - how.hollow * ground[inner]) / (1 - how.hollow)
        colour, bright = _colour(values, how.wash)
        r = piece.r - how.outline
        wide = "small" if r < SPLIT_SIZE else "large"
        texture = "plain" if wide == "small" else _texture(values.max(axis=1), np.nonzero(inner)[0])
        things.append(Thing(shape, colour, wide, texture, piece.x, piece.y, r))
        if colour != UNCLEAR:
            lights.append(bright / float(gain[inner].mean()))
    background, light = _background(np.median(ground / gain[..., None], axis=(0, 1)), lights, FAR_GROUND + 120 * how.vignette)
    return Scene(tuple(sorted(things, key=lambda t: (t.x, t.y))), background, light)


# ground ---------------------------------------------------------------------------------------------------------------


def _noise(pixels: np.ndarray) -> float:
    """Standard deviation of noise in levels, from second differences of neighbours, which smooth pictures hardly have (Immerkaer 1996's idea)."""
    d = pixels[:-1, :-1] - pixels[1:, :-1] - pixels[:-1, 1:] + pixels[1:, 1:]
    return float(np.median(np.abs(d)) / 0.6745 / 2)


def _ground(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """The ground as it would be without things, float64 [h, w, 3], and what is left of noise in it (levels)."""
    size = pixels.shape[0]
    frame = np.zeros((size, size), dtype=bool)
    edge = max(1, size // 16)
    frame[:edge] = frame[-edge:] = frame[:, :edge] = frame[:, -edge:] = True
    plane = _planes(size)
    middle = np.median(pixels[frame], axis=0)
    there = np.linalg.norm(pixels - middle, axis=2) < 45
    found = np.broadcast_to(middle, pixels.shape)
    for limit in (40.0, 25.0, 20.0):
        if there.sum() < 20:
            break
        weights, *_ = np.linalg.lstsq(plane[there], pixels[there], rcond=None)
        found = plane @ weights
        off = np.linalg.norm(pixels - found, axis=2)
        spread = float(np.median(off[there])) if there.any() else 0.0
        there = off < max(limit, 3 * spread)
    off = np.linalg.norm(pixels - found, axis=2)
    return found, float(np.median(off[there]) / 1.54) if there.any() else 0.0  # 1.54: median length of a normal vector in three dimensions


@cache
def _planes(size: int) -> np.ndarray:
    """1, x, y and their squares and product, of every pixel: float64 [h, w, 6]."""
    at = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(at, at, indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=2)


def _gain(ground: np.ndarray) -> np.ndarray:
    """The light of each pixel, beside that of the brightest spot, as the ground tells it: float64 [h, w], at most 1. Even where it is too dark to tell."""
    bright = ground.max(axis=2)
    return np.clip(bright / max(1e-9, float(bright.max())), 0.5, 1.0) if np.median(bright) > 40 else np.full(bright.shape, 0.9)


def _off(pixels: np.ndarray, ground: np.ndarray, shadow: float) -> np.ndarray:
    """How far each pixel is from its ground, float64 [h, w], in levels; ground in a shadow that takes so much light is ground."""
    lit = np.clip((pixels * ground).sum(axis=2) / np.maximum((ground * ground).sum(axis=2), 1e-9), 1 - shadow, 1)
    return np.linalg.norm(pixels - lit[..., None] * ground, axis=2)


def _masks(off: np.ndarray, faint: float) -> list[np.ndarray]:
    """Connected pieces of what is not ground, bool [h, w] each; specks left out. off: float64 [h, w], distance to the ground."""
    least = LEAST_AREA * np.pi * (SIZES["small"] * len(off)) ** 2
    found = []
    for mask in _connected(off > faint):
        if mask.sum() >= least:  # things whose blurred rims touch come apart where the ground shines through
            full = float(np.median(np.sort(off[mask])[-max(4, mask.sum() // 2) :]))
            found += [part for part in _connected(mask & (off > RIM * full)) if part.sum() >= least]
    return found


def _connected(mask: np.ndarray) -> list[np.ndarray]:
    pieces, count = label(mask)
    return [pieces == k + 1 for k in range(count)]


def _piece(off: np.ndarray, mask: np.ndarray, blur: float) -> Piece | None:
    """How much of each pixel a piece covers, and its centre and radius. off: float64 [h, w], distance to the ground, 0 beyond the piece."""
    size = len(off)
    core = _shrunk(mask)
    core = core if core.sum() >= 4 else mask
    full = float(np.median(np.sort(off[core])[-max(4, core.sum() // 2) :]))
    solid = binary_fill_holes(off > RIM * full)
    cover = np.clip(off / full, 0, 1)
    if np.sqrt(solid.sum() / np.pi) / size > SPLIT_SIZE:  # large, so perhaps with a texture: dark spots are no gaps
        deep = _shrunk(_shrunk(solid) if blur else solid)
        beside = uniform_filter(deep.astype(np.float64), 3)
        local = np.where(beside > 1e-9, uniform_filter(off * deep, 3) / np.maximum(beside, 1e-9), full)
        cover = np.where(deep, 1.0, np.clip(off / np.clip(local, FAINT, full), 0, 1))
    area = cover.sum()
    if area <= 0:
        return None
    at = np.arange(size) + 0.5
    x, y = float((cover.sum(axis=0) * at).sum() / area), float((cover.sum(axis=1) * at).sum() / area)
    return Piece(cover, x / size, y / size, float(np.sqrt(area / np.pi) / size))


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """The mask without its outermost pixels (four neighbours)."""
    wide = np.pad(mask, 1)
    return mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]


# things ---------------------------------------------------------------------------------------------------------------


def _colour(values: np.ndarray, wash: float) -> tuple[str, float]:
    """The palette's colour of the nearest hue, and how bright that is beside it. values: float64 [n, 3] of pixels inside a thing."""
    value = values.max(axis=1)
    bright = np.median(values[value >= np.quantile(value, 0.6)], axis=0)
    palette = np.array([PALETTE[name] for name in COLOURS], dtype=np.float64)
    palette += wash * (255 - palette)
    hues = palette / np.linalg.norm(palette, axis=1, keepdims=True)
    likeness = hues @ (bright / max(1e-9, float(np.linalg.norm(bright))))
    nearest = int(np.argmax(likeness))
    each = (values / np.maximum(1e-9, np.linalg.norm(values, axis=1, keepdims=True))) @ hues.T
    clear = likeness[nearest] >= LEAST_HUE and (each.argmax(axis=1) != nearest).mean() < MIXED
    return (COLOURS[nearest] if clear else UNCLEAR), float(bright.max() / palette[nearest].max())


def _shape(piece: Piece, size: int, blur: float, rim: float) -> tuple[str, np.ndarray]:
    """The shape that, drawn again, is most like the piece, or `unclear`; and the pixels well inside of it, bool [h, w]."""
    best, shape, at = 0.0, SHAPES[0], (piece.x, piece.y)
    seen = piece.cover / np.linalg.norm(piece.cover)
    for candidate in SHAPES:
        x, y = piece.x, piece.y - _low(candidate) * piece.r
        for scale in SCALES:
            drawn = _drawn(candidate, x, y, piece.r * scale, size)
            if blur:
                drawn = gaussian_filter(drawn, blur, mode="nearest")
            likeness = float((drawn * seen).sum() / np.linalg.norm(drawn))
            if likeness > best:
                best, shape, at = likeness, candidate, (x, y)
    inner = _drawn(shape, *at, piece.r - rim - (0.5 + blur) / size, size) > 0.99
    if best < LEAST_LIKENESS:
        inner = piece.cover > 0.9
    if inner.sum() < 4:
        inner = piece.cover >= np.sort(piece.cover, axis=None)[-4]
    return (shape if best >= LEAST_LIKENESS else UNCLEAR), inner


def _drawn(shape: str, x: float, y: float, r: float, size: int) -> np.ndarray:
    drawn = np.zeros((size, size))
    place, cover = coverage(shape, x=x, y=y, r=max(r, 1e-3), size=size)
    drawn[place] = cover
    return drawn


@cache
def _low(shape: str) -> float:
    """How far below its centre a shape's centre of gravity lies, in radii: 0, but for shapes that are cut unevenly."""
    fine = (np.arange(400) + 0.5) / 400 * 4 - 2
    x, y = np.meshgrid(fine, fine)
    found = inside(shape, x, y)
    return float(y[found].mean())


def _texture(value: np.ndarray, rows: np.ndarray) -> str:
    """Plain, or dark in rows, or dark in spots. value: float64 [n], brightness of the pixels inside a thing; rows: int [n], the row of each."""
    dark = (float(np.quantile(value, 0.8)) - value) / max(1e-9, (1 - DARK) * float(np.quantile(value, 0.8)))  # 0: bright, 1: wholly dark
    if np.sort(dark)[-max(2, int(0.12 * len(dark))) :].mean() < 0.45:
        return "plain"
    between = sum((rows == row).sum() * (dark[rows == row].mean() - dark.mean()) ** 2 for row in np.unique(rows))
    return "striped" if between >= 0.6 * ((dark - dark.mean()) ** 2).sum() else "dotted"


def _background(ground: np.ndarray, lights: list[float], reach: float) -> tuple[str, str]:
    """Ground and light that explain the ground's colour in full light, float64 [3], and the brightness of things, where there are any."""
    tinted = float(ground.min()) < TINTED * float(ground.max()) and float(ground.max()) > 60
    names = ["beige"] if tinted else [name for name in GROUND if name != "beige"]
    seen = float(np.median(lights)) if lights else None

    def off(name: str, light: str) -> float:
        wrong = abs(float(ground.max()) - LIGHTS[light] * max(GROUND[name])) / 40
        return wrong + (abs(seen - LIGHTS[light]) / 0.15 if seen is not None else 0.0)

    name, light = min(((name, light) for name in names for light in LIGHTS), key=lambda pair: off(*pair))
    far = min(float(np.linalg.norm(ground - level * np.array(GROUND[name]))) for level in LIGHTS.values())
    return (name if far < reach else UNCLEAR), light
