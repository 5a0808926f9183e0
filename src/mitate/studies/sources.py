"""What a generator's name stands for: a kind to be fitted, images made elsewhere, or a kept generator. None may have seen the test.

Images made elsewhere are compared with every image that is held back: one that *is* a test image is an error, a copy of another
held-back image is left out and named. A kept generator knows which images it was fitted on; one of them among those held back is
an error, since both the gain and the copies gate would be measured on images it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mitate import registry
from mitate.errors import DataError, SettingError
from mitate.images import ImageSet
from mitate.intake.duplicates import SIDE, near_copies, near_duplicates, thumbnail
from mitate.intake.opening import open_images
from mitate.settings import plain, suggest
from mitate.store import Entry, Store
from mitate.stored import read_facts
from mitate.verbs import keep_images

PLACE = "folder:"


@dataclass(frozen=True)
class Source:
    """facts: what study.json keeps of a generator. finding: a line about what was left out, or None."""

    facts: dict[str, Any]
    finding: str | None = None


def source_of(name: str, *, train: ImageSet, shape: tuple[int, int, int], test: ImageSet, held: Sequence[ImageSet], store: Store) -> Source:
    """The source behind a generator's name. test: images the verdict rests on; held: the others the generator must not have seen."""
    if name == "folder":
        raise SettingError("The generator folder needs a path.", fix="write it as folder:PATH")
    if name.startswith(PLACE):
        return _outside(name, train.classes, shape, test, held, store)
    if name in registry.ON_TOP:
        raise SettingError(f"A {name} generator needs its model.", fix="name a kept generator, a folder that diffusers saved, or owner/name of the hub")
    if (few := few_shot_on(name, train.classes, store)) is not None:
        base = _base(name, few.base, shape, [test, *held], store)
        return Source({"kind": "shots", "options": plain(few), "base": base, "shots": len(train)})
    if (paints := _painter(name, train.classes)) is not None:
        return Source({"kind": "text-to-image", "options": plain(paints)})
    if name in registry.names("generator"):
        kind = registry.find("generator", name)
        return Source({"kind": name, "options": plain(kind.default_for(shape, len(train)) if hasattr(kind, "default_for") else kind())})
    return Source(_kept(name, train.classes, shape, [test, *held], store))


def few_shot_on(name: str, classes: tuple[str, ...], store: Store) -> Any:
    """The few-shot generator behind a name like letters+shots or letters+noised, on a kept diffusion generator; None for other names.

    Its dials are its defaults: a pilot chooses on no image of its own.
    """
    base, plus, method = name.rpartition("+")
    if not plus or base not in store.refs():
        return None
    from mitate.generators.few_shot import METHODS
    from mitate.shots import Shots, kind_on

    if method != "shots" and method not in METHODS:
        raise SettingError(f"There is no few-shot method {method!r}.", fix=suggest(method, ["shots", *METHODS]))
    if method == "base" and len(classes) > 1:
        raise SettingError("The base alone draws no classes.", fix=f"name {base}+noised, or {base}+shots")
    return kind_on(base, Shots(method="crdi" if method == "shots" else method), store, classes=classes)[0]


def _base(name: str, digest: str, shape: tuple[int, int, int], unseen: Sequence[ImageSet], store: Store) -> str:
    """The digest of a few-shot generator's base, which has seen none of the images that are held back and draws images of this shape."""
    entry = store.get(digest)
    assert entry is not None
    if tuple(entry.result["shape"]) != shape:
        told = "{} px, {} channels".format(entry.result["shape"][0], entry.result["shape"][2])
        raise SettingError(f"The base of {name} draws {told}; the images are {shape[0]} px, {shape[2]}.", fix=f"give --size {entry.result['shape'][0]}")
    held = {digest for images in unseen for digest in images.digests}
    if shared := len(held & set().union(*fitted_on(entry, store))):
        raise DataError(f"The base of {name} was fitted on {shared} of the images that this study holds back from it.", fix="fit it on other images")
    return digest


def _painter(name: str, classes: tuple[str, ...]) -> Any:
    """The text-to-image generator behind a name like lab+style, or None."""
    if "/" not in name and not name.startswith("lab") and not Path(name.partition("+")[0].partition("@")[0]).is_dir():
        return None  # so that diffusers is not imported for a name that cannot be one
    from mitate.generators.text_to_image import TextToImage, named

    found = named(name)
    return None if found is None else TextToImage.of(found[0], classes, style=found[1], guidance=found[2])


def _kept(name: str, classes: tuple[str, ...], shape: tuple[int, int, int], unseen: Sequence[ImageSet], store: Store) -> dict[str, Any]:
    try:
        entry = store.kept(name)
    except DataError:  # not even a possible name
        entry = None
    if entry is None:
        known = [*(kind for kind in registry.names("generator") if kind not in registry.ON_TOP), f"{PLACE}PATH", *store.refs()]
        raise SettingError(f"There is no generator {name!r}.", fix=suggest(name, known))
    facts = entry.result
    if list(facts.get("classes", [])) != list(classes) or tuple(facts.get("shape", ())) != shape:
        drawn = f"{facts.get('shape', ['?'])[0]} px, classes {', '.join(facts.get('classes', []))}"
        same = list(facts.get("classes", [])) == list(classes) and tuple(facts.get("shape", ()))[2:] == shape[2:]
        fix = f"give --size {facts['shape'][0]}, or fit one at {shape[0]} px" if same else "fit one on these images: mitate fit"
        raise SettingError(f"The generator {name!r} draws other images ({drawn}).", fix=fix)
    trained, chosen = fitted_on(entry, store)
    test, selection, holdout = [set(images.digests) for images in unseen] + [set()] * (3 - len(unseen))
    if shared := len(trained & (test | selection | holdout)) + len(chosen & (test | holdout)):
        raise DataError(
            f"The generator {name!r} was fitted on {shared} of the images that this pilot holds back from it.",
            fix="fit it on the training folder with the pilot's own --seed, or name its kind and let the pilot fit it",
        )
    return {"kind": "kept", "digest": entry.digest, "options": {}}


def fitted_on(entry: Entry, store: Store) -> tuple[set[str], set[str]]:
    """Digests of the images a kept generator was trained on, and of those that stopped it in time; DataError when the store forgot."""
    import json

    inputs = json.loads(entry.path("asked.json").read_text())["inputs"]
    found = []
    for role in ("train", "selection"):
        images = store.get(inputs[role])
        if images is None:
            raise DataError("The store no longer knows which images a kept generator was fitted on.", fix="fit it again: mitate fit")
        found.append(set(read_facts(images)["digests"]))
    if "base" in inputs:  # what a generator stands on has seen images, too
        if (base := store.get(inputs["base"])) is None:
            raise DataError("The store no longer knows which images a kept generator was fitted on.", fix="fit it again: mitate fit")
        for seen, more in zip(found, fitted_on(base, store), strict=True):
            seen |= more
    return found[0], found[1]


def _outside(name: str, classes: tuple[str, ...], shape: tuple[int, int, int], test: ImageSet, held: Sequence[ImageSet], store: Store) -> Source:
    images = open_images(name.removeprefix(PLACE))
    ours = {c.strip().casefold(): k for k, c in enumerate(classes)}
    place = [ours.get(c.strip().casefold(), -1) for c in images.classes]
    known = [i for i, k in enumerate(images.labels) if k >= 0 and place[k] >= 0]
    if stolen := sum(images.digests[i] in set(test.digests) for i in known):
        raise DataError(f"{name} holds {stolen} of the test images.", fix="leave them out: what the test asks about cannot be trained on")
    copies = _copies_of(images, known, [test, *held])
    rows = [i for i in known if i not in copies]
    chosen = images.subset(rows, split="synthetic", name=name)
    chosen = replace(chosen, classes=classes, labels=tuple(place[k] for k in chosen.labels), groups=None)
    counts = chosen.counts()
    if missing := [c for c, n in counts.items() if n == 0]:
        raise DataError(f"{name} has no images of {', '.join(missing[:5])}.", fix="name its class folders like those of the real images")
    finding = f"{name}: {len(copies)} images left out, copies of images held back from generators ({images.names[min(copies)]}, ...)" if copies else None
    digest = keep_images(store, chosen, size=shape[0], channels=shape[2])
    return Source({"kind": "folder", "images": digest, "options": {}, "least": min(counts.values())}, finding)


def _copies_of(images: ImageSet, rows: Sequence[int], held: Sequence[ImageSet]) -> set[int]:
    """Rows of `images` that are copies, exact or near, of a held-back image."""
    exact = {d for h in held for d in h.digests}
    found = {i for i in rows if images.digests[i] in exact}
    ours, our_sides = _thumbnails([images.reader.read(i) for i in rows])
    theirs, their_sides = _thumbnails([h.reader.read(i) for h in held for i in range(len(h))])
    found.update(rows[pair.a] for pair in near_copies(ours, theirs, our_sides, their_sides))
    both, sides = np.concatenate([ours, theirs]), np.concatenate([our_sides, their_sides])
    found.update(rows[pair.a] for pair in near_duplicates(both, sides) if pair.a < len(rows) <= pair.b)
    return found


def _thumbnails(pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    thumbs = np.array([thumbnail(p) for p in pictures], dtype=np.uint8).reshape(-1, SIDE, SIDE)
    return thumbs, np.array([min(p.shape[:2]) for p in pictures], dtype=np.int64)
