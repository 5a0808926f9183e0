"""What a chain made, generation by generation: the same rows of pictures with captions, or points where images are points; and what is said most often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from mitate.report.loop_drawn import box_of, cloud
from mitate.report.loop_run import Pairs
from mitate.report.pictures import data_uri

ROWS = 6  # pictures of a generation
COLUMNS = 8  # generations at most; the first, the last, and others evenly between
SAID = 5  # captions of generation 1 and of the last that are told
LONGEST = 160  # letters of a caption that are shown

Name = Callable[[object], str]  # a caption as the page writes it


@dataclass(frozen=True)
class Shot:
    """A picture as a data URI, and its caption."""

    uri: str
    caption: str


@dataclass(frozen=True)
class Column:
    """A generation: pictures, or a drawing of its points. Generation 0 is real."""

    generation: int
    shots: tuple[Shot, ...] = ()
    points: Markup | None = None


def is_picture(images: np.ndarray) -> bool:
    """Whether images are pixels [n, h, w, c]: uint8, or numbers from 0 to 1."""
    return images.ndim == 4 and images.shape[-1] in (1, 3) and (images.dtype == np.uint8 or (images.dtype.kind == "f" and _within(images)))


def is_point(images: np.ndarray) -> bool:
    return images.ndim == 2 and images.dtype.kind == "f" and bool(np.isfinite(images).all())


def columns(pairs: Sequence[Pairs], *, name: Name, kind: Callable[[np.ndarray], np.ndarray] | None, title: Callable[[int], str]) -> list[Column]:
    """The generations of a chain; empty where images are neither pictures nor points.

    name: of a caption. kind: of captions, int [n], for the shapes of points; one shape where not given. title: of a generation, for a drawing.
    """
    shown = [pairs[k] for k in np.unique(np.linspace(0, len(pairs) - 1, min(COLUMNS, len(pairs))).astype(np.int64))]
    if not shown or any(not len(p.images) for p in shown):
        return []
    if all(is_picture(p.images) for p in shown):
        least = min(len(p.images) for p in shown)
        rows = np.unique(np.linspace(0, least - 1, min(ROWS, least)).astype(np.int64))
        return [Column(p.generation, tuple(Shot(_uri(p.images[r], synthetic=bool(p.painted[r])), _cut(name(p.captions[r]))) for r in rows)) for p in shown]
    if all(is_point(p.images) for p in shown):
        box = box_of([p.images for p in shown])
        kinds = [np.zeros(len(p.captions), dtype=np.int64) if kind is None else kind(p.captions) for p in shown]
        return [Column(p.generation, points=cloud(p.images, k, box, title=title(p.generation))) for p, k in zip(shown, kinds, strict=True)]
    return []


def said(pairs: Sequence[Pairs], *, name: Name) -> list[tuple[str, list[float]]]:
    """(caption, its share of each generation from 1) of those said most often in generation 1 or in the last one."""
    made = [p for p in pairs if p.generation > 0 and len(p.captions)]
    if not made:
        return []
    chosen: dict[object, None] = {}
    for p in (made[0], made[-1]):
        values, counts = np.unique(p.captions, return_counts=True)
        chosen |= dict.fromkeys(values[np.argsort(-counts, kind="stable")[:SAID]].tolist())
    return [(_cut(name(caption)), [float((p.captions == caption).mean()) for p in made]) for caption in chosen]


def _within(images: np.ndarray) -> bool:
    return bool(np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _uri(image: np.ndarray, *, synthetic: bool) -> str:
    """A picture [h, w, c] as PNG; a synthetic one keeps its mark."""
    pixels = image if image.dtype == np.uint8 else np.rint(np.asarray(image, dtype=np.float64) * 255).astype(np.uint8)
    return data_uri(pixels, synthetic=synthetic)
