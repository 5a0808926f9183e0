"""The pictures that mitate-small learns from: drawn by rules, and cut from the train splits of three sets with an MIT licence.

Picture i depends on i and the seed only. Drawn ones follow the idea that statistics of natural images are enough to learn features from
(Baradad et al. 2021, "Learning to see by looking at noise"); cutting a few photographs into many pieces is that of Asano and Saeed 2021
("The augmented image prior"). Every picture is 64 x 64 colour and half of them are degraded by a known amount, which is a target too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from mitate.codec import decode, resize
from mitate.runtime import seed_of

SIDE = 64
DEGRADED = ("blur", "noise", "jpeg", "pixelated")
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE


@dataclass(frozen=True)
class Sources:
    """Train splits that pictures are cut from, with their classes."""

    grocery: np.ndarray  # uint8 [160, 128, 128, 3]
    grocery_y: np.ndarray
    fashion: np.ndarray  # uint8 [20000, 28, 28]
    fashion_y: np.ndarray
    letters: np.ndarray  # uint8 [n, 105, 105], 1 is ink
    letters_y: np.ndarray

    @property
    def n_classes(self) -> int:
        """Kinds of drawn pictures, then the classes of each set."""
        return len(DRAWN) + sum(int(y.max()) + 1 for y in (self.grocery_y, self.fashion_y, self.letters_y))


@dataclass(frozen=True)
class Drawn:
    """A picture and what is known of it. label: its class, -1 for a mixture. degraded: how much of each degradation, 0 to 1."""

    pixels: np.ndarray  # uint8 [64, 64, 3]
    label: int
    degraded: np.ndarray  # float32 [4]


def read_sources(data: Path) -> Sources:
    """The train splits in the folder `data`; nothing else of it is opened."""
    rows = [r for r in map(json.loads, (data / "grocery_fruit/captions.jsonl").read_text(encoding="utf-8").splitlines()) if r["split"] == "train"]
    names = sorted({r["name"] for r in rows})
    grocery = np.stack([resize(decode(data / "grocery_fruit" / r["file"]).pixels, 128, 3) for r in rows])
    fashion = np.load(data / "fashion_mnist.npz")
    greek = np.load(data / "few_shot/omniglot_greek_reference.npz")
    shots = sorted((data / "few_shot/omniglot_greek_10shot").rglob("*.png"))
    folders = sorted({p.parent.name for p in shots})
    ink = [resize(decode(p).pixels, 105, 1)[..., 0] for p in shots]
    shots_x = np.stack([(image > 127) == (image.mean() < 127) for image in ink]).astype(np.uint8)  # the rarer value is ink
    source_y = greek["source_y"].astype(np.int64)
    return Sources(
        grocery, np.array([names.index(r["name"]) for r in rows]), fashion["x_train"], fashion["y_train"].astype(np.int64),
        np.concatenate([greek["source_x"], shots_x]),
        np.concatenate([source_y, source_y.max() + 1 + np.array([folders.index(p.parent.name) for p in shots])]),
    )  # fmt: skip


def draw(i: int, sources: Sources, *, seed: int) -> Drawn:
    """Picture i of the endless sequence that `seed` names."""
    rng = np.random.default_rng(seed_of("mitate-small", seed, i))
    if rng.random() < 0.16:
        (a, _), (b, _), label = _plain(rng, sources), _plain(rng, sources), -1
        mask = _box(rng) if rng.random() < 0.4 else _soft(_field(rng, rng.uniform(1.5, 3.0)), rng)
        picture = mask[..., None] * a + (1 - mask[..., None]) * b
    else:
        picture, label = _plain(rng, sources)
    if rng.random() < 0.5:
        picture = (picture - 0.5) * rng.uniform(0.5, 1.4) + 0.5 + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.12:
        picture = np.repeat(picture @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)
    pixels, degraded = _degrade(np.clip(picture, 0, 1), rng)
    return Drawn(pixels, label, degraded)


def _plain(rng: Generator, sources: Sources) -> tuple[np.ndarray, int]:
    """One picture, float [64, 64, 3] around 0 to 1, with its label."""
    chance = rng.random()
    if chance < 0.28:
        j = int(rng.integers(len(sources.grocery)))
        return _piece(sources.grocery[j], rng), len(DRAWN) + int(sources.grocery_y[j])
    if chance < 0.44:
        j = int(rng.integers(len(sources.fashion)))
        mask = _placed(sources.fashion[j].astype(np.float32) / 255, rng)[..., None]
        label = len(DRAWN) + int(sources.grocery_y.max()) + 1 + int(sources.fashion_y[j])
        if rng.random() < 0.35:
            return np.repeat(mask, 3, axis=2) if rng.random() < 0.8 else 1 - np.repeat(mask, 3, axis=2), label
        return _ground(rng) * (1 - np.minimum(2 * mask, 1)) + np.minimum(2 * mask, 1) * (0.35 + mask) * _ground(rng), label
    if chance < 0.52:
        j = int(rng.integers(len(sources.letters)))
        mask = _placed(ndimage.zoom(sources.letters[j].astype(np.float32), 0.6, order=1), rng)[..., None]
        return mask * _ground(rng) + (1 - mask) * _ground(rng), sources.n_classes - 1 - int(sources.letters_y.max()) + int(sources.letters_y[j])
    kind = DRAWN[int(rng.integers(len(DRAWN)))]
    return kind(rng), DRAWN.index(kind)


# pieces of photographs ------------------------------------------------------------------------------------------------


def _piece(photograph: np.ndarray, rng: Generator) -> np.ndarray:
    """A square of 20 to 100 % of the area, turned or mirrored, its colours mixed a little."""
    side = int(round(128 * np.sqrt(rng.uniform(0.2, 1.0))))
    top, left = rng.integers(0, 129 - side, size=2)
    image = Image.fromarray(photograph[top : top + side, left : left + side])
    if rng.random() < 0.3:
        image = image.rotate(float(rng.uniform(0, 360)), Image.Resampling.BILINEAR)
        edge = int(side * 0.15)
        image = image.crop((edge, edge, side - edge, side - edge))
    picture = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 255
    picture = picture[:, ::-1] if rng.random() < 0.5 else picture
    mix = np.eye(3) + rng.normal(0, 0.12, (3, 3)) if rng.random() < 0.6 else rng.dirichlet((0.7, 0.7, 0.7), 3)
    return picture @ mix.T.astype(np.float32)


def _placed(mask: np.ndarray, rng: Generator) -> np.ndarray:
    """A grey picture turned a little, scaled and moved: float32 [64, 64], 0 to 1."""
    scale, turn = len(mask) / SIDE * rng.uniform(0.9, 1.5), rng.normal(0, 0.15)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix[:, 1] *= -1 if rng.random() < 0.5 else 1
    offset = len(mask) / 2 - matrix @ (SIDE / 2 + rng.uniform(-6, 6, 2))
    return np.clip(ndimage.affine_transform(mask, matrix, offset, (SIDE, SIDE), order=1), 0, 1).astype(np.float32)


# drawn pictures -------------------------------------------------------------------------------------------------------


def _colours(rng: Generator, n: int) -> np.ndarray:
    """float32 [n, 3]: near each other or far apart, strong or pale."""
    colours = rng.random((n, 3)) if rng.random() < 0.5 else rng.random((1, 3)) + rng.normal(0, rng.uniform(0.05, 0.3), (n, 3))
    grey = colours.mean(axis=1, keepdims=True)
    return np.clip(grey + rng.uniform(0.2, 1.2) * (colours - grey), 0, 1).astype(np.float32)


def _field(rng: Generator, slope: float) -> np.ndarray:
    """A random field with power 1 / f^slope, float32 [64, 64], mean 0, deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1
    waves = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency ** (slope / 2)
    waves[0, 0] = 0
    field = np.fft.irfft2(waves, (SIDE, SIDE)).astype(np.float32)
    return field / field.std()


def _soft(field: np.ndarray, rng: Generator) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(rng.choice([1.0, 4.0, 40.0]) * (field - rng.normal(0, 0.5)), -50, 50)))


def _box(rng: Generator) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.float32)
    top, left, height, width = (*rng.integers(0, 40, 2), *rng.integers(16, 56, 2))
    mask[top : top + height, left : left + width] = 1
    return mask


def _ground(rng: Generator) -> np.ndarray:
    """A plain colour, a gradient or a texture."""
    chance = rng.random()
    if chance < 0.4:
        return np.broadcast_to(_colours(rng, 1)[0], (SIDE, SIDE, 3))
    return _gradient(rng) if chance < 0.6 else _cloud(rng) if chance < 0.8 else _waves(rng)


def _cloud(rng: Generator) -> np.ndarray:
    """Noise of any slope, its three channels alike or not."""
    slope, own = rng.uniform(0.0, 3.5), rng.uniform(0, 1)
    shared, colour = _field(rng, slope), rng.uniform(-1, 1, 3)
    picture = np.stack([colour[c] * shared + own * _field(rng, slope) for c in range(3)], axis=2)
    return rng.random(3) + rng.uniform(0.05, 0.3) * picture


def _gradient(rng: Generator) -> np.ndarray:
    angle, colours = rng.uniform(0, 2 * np.pi), _colours(rng, int(rng.integers(2, 5)))
    along = np.cos(angle) * ROWS + np.sin(angle) * COLUMNS if rng.random() < 0.5 else np.hypot(ROWS - rng.random(), COLUMNS - rng.random())
    along = (along - along.min()) / np.ptp(along) * (len(colours) - 1)
    return np.stack([np.interp(along, np.arange(len(colours)), colours[:, c]) for c in range(3)], axis=2)


def _waves(rng: Generator) -> np.ndarray:
    """Gratings, plaids and checks, sharp or soft."""
    sharp, value = rng.choice([1.0, 3.0, 30.0]), np.zeros((SIDE, SIDE), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        angle, frequency = rng.uniform(0, np.pi), 2 * np.pi * rng.uniform(1, 16)
        wave = np.tanh(sharp * np.sin(frequency * (np.cos(angle) * ROWS + np.sin(angle) * COLUMNS) + rng.uniform(0, 6)))
        value = value * wave if rng.random() < 0.4 and value.any() else value + wave
    low, high = _colours(rng, 2)
    value = (value - value.min()) / max(float(np.ptp(value)), 1e-6)
    return low + value[..., None] * (high - low)


def _leaves(rng: Generator) -> np.ndarray:
    """Dead leaves: shapes that cover each other, their sizes by a power law (Lee, Mumford and Huang 2001)."""
    image, n = Image.fromarray(_uint8(_ground(rng))).resize((2 * SIDE, 2 * SIDE)), int(rng.integers(30, 200))
    pen, colours, sides = ImageDraw.Draw(image), _colours(rng, n), rng.integers(3, 9, n)
    for j, radius in enumerate(np.sort(rng.uniform(3, 12) / rng.power(2.0, n))[::-1].clip(2, 70)):
        x, y = rng.uniform(0, 2 * SIDE, 2)
        _shape(pen, x, y, radius, int(sides[j]), colours[j], rng)
    return _halved(image)


def _shapes(rng: Generator) -> np.ndarray:
    """A few shapes on a ground, each with a texture of its own."""
    picture = _ground(rng)
    for _ in range(int(rng.integers(1, 6))):
        image = Image.new("L", (2 * SIDE, 2 * SIDE))
        x, y = rng.uniform(0.2, 1.8, 2) * SIDE
        _shape(ImageDraw.Draw(image), x, y, rng.uniform(8, 60), int(rng.integers(3, 9)), np.ones(1), rng)
        mask = np.asarray(image.reduce(2), np.float32)[..., None] / 255
        picture = picture * (1 - mask) + mask * _ground(rng)
    return picture


def _shape(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, sides: int, colour: np.ndarray, rng: Generator) -> None:
    """A disc or ellipse (8 sides), or a polygon whose corners may wander."""
    fill: tuple[int, ...] | int = tuple(int(255 * v) for v in colour) if len(colour) == 3 else 255
    if sides == 8:
        flat = rng.uniform(0.4, 1)
        pen.ellipse((x - radius, y - flat * radius, x + radius, y + flat * radius), fill=fill)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, sides)) if rng.random() < 0.5 else np.arange(sides) * 2 * np.pi / sides + rng.uniform(0, 6)
    far = radius * rng.uniform(0.5, 1.3, sides)
    pen.polygon([(x + f * np.cos(a), y + f * np.sin(a)) for f, a in zip(far, angles, strict=True)], fill=fill)


def _tiles(rng: Generator) -> np.ndarray:
    """Voronoi tiles with or without seams."""
    points = rng.random((int(rng.integers(5, 60)), 2))
    distance, which = cKDTree(points).query(np.stack([ROWS, COLUMNS], axis=2).reshape(-1, 2), k=2)
    picture = _colours(rng, len(points))[which[:, 0]].reshape(SIDE, SIDE, 3)
    if rng.random() < 0.5:
        return picture
    seam = np.clip((distance[:, 1] - distance[:, 0]).reshape(SIDE, SIDE, 1) * rng.uniform(15, 60), 0, 1)
    return seam * picture + (1 - seam) * _colours(rng, 1)[0]


def _cells(rng: Generator) -> np.ndarray:
    """Round soft bodies with a rim or a kernel on a pale ground."""
    picture = 1 - 0.4 * (1 - _ground(rng)) if rng.random() < 0.6 else _ground(rng)
    body, kernel = _colours(rng, 2)
    for _ in range(int(rng.integers(1, 14))):
        (y, x), radius, flat = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.05, 0.4), rng.uniform(0.7, 1.4)
        wobble = 1 + 0.05 * _field(rng, 3.0)
        away = np.hypot((ROWS - y) * flat, COLUMNS - x) / radius * wobble
        edge, inner = rng.uniform(5, 30), rng.uniform(0.2, 0.8)
        mask = 1 / (1 + np.exp(np.clip(edge * (away - 1), -50, 50)))[..., None]
        core = 1 / (1 + np.exp(np.clip(edge * (away - inner), -50, 50)))[..., None]
        picture = picture * (1 - mask) + mask * np.clip(body + rng.normal(0, 0.05, 3), 0, 1)
        picture = picture * (1 - 0.8 * core) + 0.8 * core * kernel
    return picture


def _blade(rng: Generator) -> np.ndarray:
    """One long leaf with ribs and spots."""
    turn, wide = rng.uniform(0, np.pi), rng.uniform(0.12, 0.5)
    u = np.cos(turn) * (ROWS - 0.5) + np.sin(turn) * (COLUMNS - 0.5) + rng.normal(0, 0.05)
    v = np.cos(turn) * (COLUMNS - 0.5) - np.sin(turn) * (ROWS - 0.5) + rng.normal(0, 0.05)
    outline = wide * np.clip(1 - (2 * u / rng.uniform(0.8, 1.6)) ** 2, 0, None) - np.abs(v + rng.uniform(-0.3, 0.3) * u**2)
    mask = (1 / (1 + np.exp(np.clip(-60 * outline, -50, 50))))[..., None]
    blade, rib, spot = _colours(rng, 3)
    ribs = np.exp(-((v / 0.012) ** 2)) + 0.5 * np.clip(np.sin(rng.uniform(30, 90) * (u - np.abs(v) * rng.uniform(0.3, 1.2))), 0.8, 1) - 0.4
    leaf = blade + 0.06 * _field(rng, 2.0)[..., None] + np.clip(ribs, 0, 1)[..., None] * (rib - blade) * 0.6
    spots = _soft(_field(rng, rng.uniform(1.5, 2.5)) - rng.uniform(0.8, 2.5), rng)[..., None]
    return (1 - mask) * _ground(rng) + mask * (leaf * (1 - spots) + spots * spot)


def _marble(rng: Generator) -> np.ndarray:
    """Bands bent by noise."""
    bend = rng.uniform(0.5, 4) * _field(rng, rng.uniform(2, 3.5))
    value = 0.5 + 0.5 * np.sin(rng.uniform(3, 40) * (np.cos(turn := rng.uniform(0, 6)) * ROWS + np.sin(turn) * COLUMNS) + bend)
    low, high = _colours(rng, 2)
    return low + (value ** rng.uniform(0.5, 3))[..., None] * (high - low)


def _islands(rng: Generator) -> np.ndarray:
    """Regions of a thresholded field, filled with two grounds."""
    mask = _soft(_field(rng, rng.uniform(1.0, 3.5)), rng)[..., None]
    return mask * _ground(rng) + (1 - mask) * _ground(rng)


def _strokes(rng: Generator) -> np.ndarray:
    """Bent lines on a ground."""
    image, n = Image.new("L", (2 * SIDE, 2 * SIDE)), int(rng.integers(1, 25))
    pen, t = ImageDraw.Draw(image), np.linspace(0, 1, 14)[:, None]
    for _ in range(n):
        a, b, c = rng.uniform(-10, 2 * SIDE + 10, (3, 2))
        path = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        pen.line([tuple(p) for p in path], fill=255, width=int(rng.integers(2, 10)), joint="curve")
    mask = np.asarray(image.reduce(2), np.float32)[..., None] / 255
    return mask * _ground(rng) + (1 - mask) * _ground(rng)


def _net(rng: Generator) -> np.ndarray:
    """Colours as an untrained network of the coordinates (Stanley 2007)."""
    x, y = COLUMNS - rng.random(), ROWS - rng.random()
    h = np.stack([x, y, np.hypot(x, y), np.ones_like(x)], axis=2).reshape(-1, 4) * rng.uniform(1, 8)
    for width in (12, 12, 12):
        h = (np.tanh, np.sin, np.abs)[int(rng.integers(3))](h @ rng.normal(0, 1.4 / np.sqrt(h.shape[1]), (h.shape[1], width)))
    return (0.5 + 0.5 * np.sin(h @ rng.normal(0, 0.6, (12, 3)) + rng.uniform(0, 6, 3))).reshape(SIDE, SIDE, 3)


def _halved(image: Image.Image) -> np.ndarray:
    return np.asarray(image.reduce(2), np.float32) / 255


DRAWN: tuple[Callable[[Generator], np.ndarray], ...] = (
    _cloud, _gradient, _waves, _leaves, _leaves, _shapes, _shapes, _tiles, _cells, _blade, _marble, _islands, _strokes, _net,
)  # fmt: skip


# degradations ---------------------------------------------------------------------------------------------------------


def _degrade(picture: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pixels after none, one or two degradations, and how much of each, 0 to 1."""
    much = np.zeros(len(DEGRADED), np.float32)
    for which in rng.permutation(len(DEGRADED))[: rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15])]:
        much[which] = amount = rng.uniform(0.05, 1)
        name = DEGRADED[which]
        if name == "blur":
            picture = ndimage.gaussian_filter(picture, (0.3 + 2.7 * amount, 0.3 + 2.7 * amount, 0))
        elif name == "noise":
            picture = picture + rng.standard_normal(picture.shape) * 0.2 * amount
        elif name == "pixelated":
            small = Image.fromarray(_uint8(picture)).resize((int(SIDE / (1 + 4 * amount)),) * 2, Image.Resampling.BICUBIC)
            picture = np.asarray(small.resize((SIDE, SIDE), Image.Resampling(int(rng.choice([0, 2, 3])))), np.float64) / 255
        else:
            out = io.BytesIO()
            Image.fromarray(_uint8(picture)).save(out, "JPEG", quality=int(round(70 - 62 * amount)))
            picture = np.asarray(Image.open(out), np.float64) / 255
    return _uint8(picture), much


def _uint8(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
