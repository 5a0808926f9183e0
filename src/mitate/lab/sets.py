"""Captioned images through one door: the lab's scenes, class folders by their class words, and sets that bring descriptions of their own.

lab_images(200)                                  200 scenes of one thing for each of six shapes, with captions
lab_images(50, style="pastel", noise=6)          the same scenes in another look
by_class_words(open_images("clothes/"))          "a picture of a sandal"
by_descriptions(images, "captions.jsonl")        one line an image: {"file": ..., "text": ...}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mitate.codec import pixel_digest
from mitate.errors import DataError
from mitate.generator import in_words
from mitate.images import ArrayReader, ImageSet
from mitate.lab.captions import SAYABLE, caption
from mitate.lab.drawing import draw
from mitate.lab.world import SHAPES, Scene, World
from mitate.runtime import seed_of
from mitate.settings import parsed

TEMPLATE = "a picture of a {label}"
PLAIN = World(counts=(1.0,))


def lab_images(per_class: int, *, seed: int = 0, size: int = 32, style: str = "flat", noise: float = 0.0, world: World = PLAIN) -> ImageSet:
    """An ImageSet of drawn scenes, as many of each shape; class and caption are those of the scene's first thing and of the whole scene.

    Image i of a class is the same however many are asked for, and shows the same scene in every style. Other shares than those of shapes are the world's.
    """
    if per_class < 1:
        raise DataError(f"{per_class} images of each class were asked for.", fix="ask for 1 or more")
    if missing := [shape for shape, share in world.shares("shape").items() if share <= 0]:
        raise DataError(f"The world has no {missing[0]}.", fix="give a world in which every shape comes")
    rows = [(k, scene) for k, shape in enumerate(SHAPES) for _, scene in zip(range(per_class), _of_shape(world, shape, seed), strict=False)]
    x = np.stack([draw(scene, size=size, style=style, noise=noise) for _, scene in rows])
    return ImageSet(
        name=f"lab-{world.name}" + (f"-{style}" if style != "flat" else ""),
        classes=SHAPES,
        labels=tuple(k for k, _ in rows),
        digests=tuple(pixel_digest(image) for image in x),
        reader=ArrayReader(x),
        names=tuple(f"{SHAPES[k]}/{i}" for i, (k, _) in enumerate(rows)),
        captions=tuple(caption(scene, seed=scene.seed, say=SAYABLE, style=style).text for _, scene in rows),
    )


def write_lab(file: Path, *, per_class: int, tested: int, style: str, seed: int = 0) -> Path:
    """Drawings of one thing in a look, classes by shape, as an .npz file that `open_images` takes: so many of each class to train on, and to test on."""
    parts = {"train": lab_images(per_class, seed=seed, style=style), "test": lab_images(tested, seed=seed + 1, style=style)}
    arrays = {f"x_{split}": images.pixels(size=32, channels=3) for split, images in parts.items()}
    arrays |= {f"y_{split}": images.y for split, images in parts.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file.with_suffix(".tmp"), "wb") as out:
        np.savez(out, classes=np.array(SHAPES), **arrays)  # type: ignore[arg-type]
    file.with_suffix(".tmp").replace(file)
    return file


def by_class_words(images: ImageSet, *, template: str = TEMPLATE, words: Mapping[str, str] | None = None) -> ImageSet:
    """The images with a caption made of their class. template: with {label}; words: what a class is called (default: its name, `-` and `_` as spaces)."""
    if "{label}" not in template:
        raise DataError(f"The template {template!r} has no place for the class.", fix='write {label} into it: "a picture of a {label}"')
    if any(k < 0 for k in images.labels):
        raise DataError(f"{sum(k < 0 for k in images.labels)} of {len(images)} images have no label.", fix="put images into one folder a class")
    called = [(words or {}).get(name, in_words(name)) for name in images.classes]
    return replace(images, captions=tuple(template.replace("{label}", called[k]) for k in images.labels))


def by_descriptions(images: ImageSet, file: Path | str) -> ImageSet:
    """The images with the text that a JSON-lines file gives for each of them, by path below the set's folder. DataError names what has none."""
    texts: dict[str, str] = {}
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as wrong:
        raise DataError(f"{file} cannot be read ({wrong}).", fix="give a file of JSON lines in UTF-8") from wrong
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parsed(line)
            if not isinstance(row["text"], str):
                raise TypeError(f"its text is {type(row['text']).__name__}")
            texts[str(row["file"])] = row["text"]
        except (ValueError, KeyError, TypeError) as wrong:
            raise DataError(f"{file}, line {number} has no file and text ({wrong}).", fix='write one {"file": ..., "text": ...} a line') from wrong
    if missing := [name for name in images.names if name not in texts]:
        raise DataError(f"{len(missing)} of {len(images)} images have no text, the first is {missing[0]}.", fix="add a line for each")
    return replace(images, captions=tuple(texts[name] for name in images.names))


def _of_shape(world: World, shape: str, seed: int) -> Iterator[Scene]:
    """The world's scenes whose first thing has the shape, in order."""
    i = 0
    while True:
        scene = world.scene(i, seed=seed_of("lab images", seed))
        if scene.things[0].shape == shape:
            yield scene
        i += 1
