"""Frozen models asked about a set of images: opened by name or trained from real images, and what they answer, kept in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.curation.labellers import Classifier, Labeller, ZeroShot, named
from mitate.errors import DataError, SettingError
from mitate.images import ImageSet
from mitate.intake.listing import shown
from mitate.intake.opening import open_data
from mitate.lab.sets import TEMPLATE
from mitate.progress import Progress
from mitate.runtime import seed_of
from mitate.sets import UNLABELLED
from mitate.settings import plain, suggest
from mitate.store import Asked, Entry, Store
from mitate.stored import block, build_classifier
from mitate.verbs import VERBS, keep_images, perform

if TYPE_CHECKING:
    from mitate.captioners.writers import Captioner

BACKBONE = {"name": "small", "variant": "", "frozen": False}
RECIPE = "real+augment"
STEPS = 300  # of training the classifier: a pilot's own
SIDES = (8, 64)  # pixels, least and most, of images that are compared or that the classifier sees
VERSION = 1  # of what labellers and captioners are asked
BLOCK = 256  # images labelled between two checkpoints


def opened(
    model: str | Labeller | Captioner | None, images: ImageSet, template: str, seed: int, store: Store, told: Progress
) -> tuple[Labeller | None, Captioner | None, tuple[str, ...]]:
    """The model as a labeller or a captioner, held against the set, and what must be told of its making."""
    from mitate.captioners.writers import Captioner, open_captioner

    name = named(model) if isinstance(model, str) else None
    if template and (name is None or name.kind != "similarity"):
        raise SettingError("A template is for sentences of classes.", fix="give it with --with similarity:MODEL")
    if model is None:
        return None, None, ()
    if isinstance(model, Captioner) or (name is not None and name.kind == "caption"):
        if images.captions is None:
            what = "The set has no captions, and a captioner gives no classes."
            raise DataError(what, fix="relabel classes with real:FOLDER or similarity:MODEL")
        return None, model if isinstance(model, Captioner) else open_captioner(name.place if name is not None else ""), ()
    if missing := sum(k < 0 or images.classes[k] == UNLABELLED for k in images.labels):
        fix = "put images into one folder a class" + ("; captions are rewritten by lab or caption:FOLDER" if images.captions is not None else "")
        raise DataError(f"{missing} of {len(images)} images have no class.", fix=fix)
    notes: tuple[str, ...] = ()
    if name is None:
        assert not isinstance(model, str)
        labeller: Labeller = model
    elif name.kind == "similarity":
        labeller = ZeroShot(name.place, template or TEMPLATE)
        labeller.sentences(images.classes)
    else:
        labeller, notes = trained(name.place, seed=seed, store=store, progress=told)
    known = labeller.classes
    if known is not None and (strange := [c for c in images.classes if c not in known]):
        what = f"{labeller.name} knows no class {shown(strange[0], 60)!r}, which the set has."
        raise DataError(what, fix=f"give it the same classes: {suggest(strange[0], [shown(c, 60) for c in known])}")
    if len(known or images.classes) < 2:
        raise DataError("There is one class: a model has nothing to tell apart.", fix="give sets of two classes or more")
    return labeller, None, notes


def trained(folder: Path | str, *, seed: int = 0, store: Store | None = None, progress: Progress | None = None) -> tuple[Classifier, tuple[str, ...]]:
    """A classifier of the real images of `folder` (their training split, where they have one), and what was left out of them; found in the store when it was
    trained before. The recipe is that of a pilot's baseline: the small network, 300 steps, strong augmentation."""
    from mitate.training.augmentation import flips_are_safe
    from mitate.training.loop import Training

    store = store or Store.find()
    data = open_data(folder)
    real = data.train_side
    if len(real.classes) < 2:
        raise DataError(f"{shown(str(folder))} has one class.", fix="give real images of two classes or more: there is nothing to tell apart")
    side, channels = working([real.reader.read(i).shape for i in range(min(len(real), 50))])
    training = Training(steps=STEPS, flip=flips_are_safe(real.pixels(size=min(side, 32), channels=channels), real.y))
    settings = {"arm": RECIPE, "training": plain(training), "backbone": BACKBONE, "seed": seed_of("relabel", seed)}
    kept = keep_images(store, real, size=side, channels=channels)
    entry = perform(store, Asked("train", VERBS["train"].version, settings, {"real": kept}), progress=progress)
    network = _network(entry, (side, side, channels), len(real.classes))
    name = f"real:{shown(Path(folder).expanduser().resolve().name or str(folder))}"
    return Classifier(name, entry.digest, real.classes, (side, channels), network), tuple(str(f) for f in data.findings if f.severity == "drop")


def probabilities(images: ImageSet, labeller: Labeller, store: Store, told: Progress) -> np.ndarray:
    """Float64 [n, k], a column for each of `classes_of`; from the store where the same was asked before, in blocks that outlive a kill."""
    classes, (side, channels) = classes_of(images, labeller), labeller.shape

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        parts = []
        for start in range(0, len(images), BLOCK):
            some = images.subset(range(start, min(start + BLOCK, len(images))))
            make = lambda some=some: labeller.probabilities(some.pixels(size=side, channels=channels), classes)  # noqa: E731
            parts.append(block(checkpoint / f"p{start}.npy", make))
            told.step(start + len(some), len(images), "images")
        np.save(folder / "probabilities.npy", np.concatenate(parts), allow_pickle=False)
        return {"images": len(images)}

    asked = Asked("labelled", VERSION, {"classes": list(classes), "shape": [side, channels]}, {"images": images.digest, "labeller": labeller.digest})
    found = np.load(store.make(asked, build).path("probabilities.npy"), allow_pickle=False)
    if found.shape != (len(images), len(classes)) or not np.isfinite(found).all():
        raise DataError(f"{labeller.name} gave numbers that are no probabilities.", fix="check the model")
    return found


def classes_of(images: ImageSet, labeller: Labeller) -> tuple[str, ...]:
    """The classes among which the labeller chooses: the set's, in its order, then others that it knows."""
    return tuple(dict.fromkeys((*images.classes, *(labeller.classes or ()))))


def described(images: ImageSet, captioner: Captioner, store: Store, told: Progress) -> list[str]:
    """A caption for each image; from the store where the same was asked before, in blocks that outlive a kill."""

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        parts = []
        for start in range(0, len(images), BLOCK):
            some = images.subset(range(start, min(start + BLOCK, len(images))))
            make = lambda some=some: np.array(json.dumps(captioner.describe(some.pixels(size=captioner.size, channels=3))))  # noqa: E731
            parts += json.loads(str(block(checkpoint / f"captions{start}.npy", make)))
            told.step(start + len(some), len(images), "images")
        (folder / "captions.json").write_text(json.dumps(parts), encoding="utf-8")
        return {"images": len(images)}

    asked = Asked("described", VERSION, {}, {"images": images.digest, "captioner": captioner.digest})
    found: list[str] = json.loads(store.make(asked, build).path("captions.json").read_text(encoding="utf-8"))
    return found


def working(shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Pixels of a side and channels at which sets are looked at."""
    side = min(min(shape[:2]) for shape in shapes)
    return max(SIDES[0], min(SIDES[1], int(side))), 3 if any(shape[2] == 3 for shape in shapes) else 1


def _network(entry: Entry, shape: tuple[int, int, int], n_classes: int) -> Any:
    import torch
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]):
        network = build_classifier(BACKBONE, shape, n_classes, None)
    network.load_state_dict(load_file(entry.path("model.safetensors")))
    return network.eval()
