"""The verbs fit and generate: a generator fitted on real images, kept in the store, and images drawn from it.

leaves = mi.fit(mi.Diffusion(), mi.open_images("leaves/train"), seed=0)
fakes  = mi.generate(leaves, per_class=200, seed=0)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mitate import registry
from mitate.errors import DataError, SettingError
from mitate.images import ArrayReader, ImageSet, Provenance
from mitate.intake.splits import Splits, split
from mitate.progress import Progress
from mitate.settings import from_text, plain, suggest
from mitate.store import Asked, Entry, Store
from mitate.stored import read_pixels
from mitate.verbs import VERBS, keep_images, perform

MOST_SIZE, MOST_ASKED = 64, 256  # pixels, unless asked for more; and whatever is asked for, but of a kind with a `most_size` of its own


@dataclass(frozen=True)
class Fitted:
    """A fitted generator: its place in the store and what it draws."""

    entry: Entry
    kind: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # height, width, channels
    parents: tuple[str, ...]  # digests of the image sets it was fitted on
    settings: dict[str, Any]

    @property
    def digest(self) -> str:
        return self.entry.digest

    def __repr__(self) -> str:
        return f"<Fitted {self.kind}: {len(self.classes)} classes at {self.shape[0]} px, {self.digest[:12]}>"


def fit(
    kind: Any, train: ImageSet, *, seed: int = 0, size: int = 0, name: str | None = None, store: Store | None = None, progress: Progress | None = None
) -> Fitted:
    """Fit a generator kind (`mi.VAE()`, `mi.Diffusion()`, ...) on real images; found in the store when it was fitted before.

    A fifth of each class is set aside to stop in time, and a fifth is never shown to the generator, so that privacy can be measured later. A kind with an
    epsilon is fitted on every image of `train`: it needs no other, and a split would let one image move another across its border; so is a few-shot kind,
    which has none to spare. size: pixels of the images it will draw (0: their own, at most 64). name: keep it under this name.
    """
    if name == "lab":
        raise SettingError("The name lab is taken: it is the text-to-image model that comes with mitate.", fix="keep yours under another name")
    store = store or Store.find()
    kind = kind.bound(train.classes) if hasattr(kind, "bound") else kind
    parts = prepare(kind, train, seed=seed, size=size)
    blind = store.blind(train.digest) if parts.private else ""
    sets = {"train": parts.train, "selection": parts.selection}
    digests = {role: keep_images(store, part, size=parts.size, channels=parts.channels, blind=blind) for role, part in sets.items()}
    asked = fit_question(kind, digests, seed=seed)
    entry = perform(store, asked, progress=progress)
    if name:
        store.keep(name, entry.digest)
    return _fitted(entry, asked)


@dataclass(frozen=True)
class Parts:
    """What a fit reads of real images, and how they are prepared. private: the kind has an epsilon, so nothing is split off."""

    train: ImageSet
    selection: ImageSet
    size: int
    channels: int
    private: bool


def prepare(kind: Any, train: ImageSet, *, seed: int, size: int) -> Parts:
    """The parts of `train` that a fit reads. DataError for images that no generator can be fitted on, SettingError for a size out of range."""
    if train.provenance is not None:
        raise DataError(f"{train.name!r} holds synthetic images.", fix="fit generators on real images")
    if unlabelled := sum(k < 0 for k in train.labels):
        raise DataError(f"{unlabelled} of {len(train)} images have no label.", fix="put images into one folder a class, or name labels in metadata.jsonl")
    most = getattr(kind, "most_size", MOST_ASKED)
    if size != 0 and not 8 <= size <= most:
        raise SettingError(f"A size of {size} pixels is out of range.", fix=f"give 8 to {most}, or 0 for the images' own")
    private = bool(getattr(kind, "epsilon", 0))
    whole = private or getattr(kind, "whole", False)
    splits = Splits(train, train.subset([]), train.subset([]), train.subset([]), seed) if whole else split(train, train.subset([]), seed=seed)
    shapes = [train.reader.read(i).shape for i in range(min(len(train), 50))]
    size = size or max(8, min(MOST_SIZE, min(min(s[:2]) for s in shapes)))
    return Parts(splits.train, splits.selection, size, 3 if any(s[2] == 3 for s in shapes) else 1, private)


def fit_question(kind: Any, digests: dict[str, str], *, seed: int) -> Asked:
    """What a fit of `kind` on stored images (train, selection) asks of the store."""
    version = 1000 * VERBS["fit"].version + kind.version
    on = {"base": kind.base} if getattr(kind, "base", "") else {}  # a stored fit that this one stands on
    return Asked("fit", version, {"kind": kind_name_of(kind), "options": plain(kind), "seed": seed}, {**digests, **on})


def load_generator(name: str, *, store: Store | None = None) -> Fitted:
    """The generator kept under `name` (or its digest). SettingError names the nearest known one."""
    import json

    store = store or Store.find()
    try:
        entry = store.kept(name)
    except DataError:
        entry = None
    entry = entry or (store.get(name) if len(name) == 64 and name.isalnum() else None)
    if entry is None and name in (known := store.refs()):
        raise SettingError(f"What {name!r} names ({known[name][:12]}) is gone from the store.", fix="run the command that made it again")
    if entry is None:
        raise SettingError(
            f"There is no kept generator {name!r}.", fix=suggest(name, store.refs()) if store.refs() else "fit one: mitate fit diffusion FOLDER --as NAME"
        )
    if json.loads(entry.path("asked.json").read_text(encoding="utf-8"))["verb"] != "fit":
        raise SettingError(f"{name!r} is not a generator.", fix="name one that mitate fit made")
    return load_fitted(entry)


def load_fitted(entry: Entry) -> Fitted:
    """The generator behind a finished `fit`."""
    import json

    asked = json.loads(entry.path("asked.json").read_text(encoding="utf-8"))
    return _fitted(entry, Asked(asked["verb"], asked["version"], asked["settings"], asked["inputs"]))


def generate(generator: Fitted, *, per_class: int, seed: int = 0, store: Store | None = None, progress: Progress | None = None) -> ImageSet:
    """`per_class` images of every class, with provenance. The first images are the same however many are asked for."""
    if per_class < 1:
        raise SettingError(f"per_class is {per_class}.", fix="ask for 1 or more images of each class")
    if not isinstance(generator, Fitted):
        raise SettingError(f"{getattr(generator, 'name', generator)!r} paints prompts, not classes.", fix='use mi.paint(..., ["two red circles"])')
    store = store or Store.find()
    inputs = {"generator": generator.digest, "like": generator.parents[0]}
    entry = perform(store, Asked("sample", VERBS["sample"].version, {"per_class": per_class, "seed": seed}, inputs), progress=progress)
    return synthetic_set(entry, generator, name=generator.kind)


def synthetic_set(entry: Entry, generator: Fitted, *, name: str) -> ImageSet:
    """The images of a `sample` result as an ImageSet."""
    from mitate.codec import pixel_digest

    data = read_pixels(entry)
    seeds = np.load(entry.path("seeds.npy"), allow_pickle=False)
    return ImageSet(
        name=name, classes=generator.classes, labels=tuple(int(k) for k in data.y), digests=tuple(pixel_digest(x) for x in data.x),
        reader=ArrayReader(data.x), names=tuple(str(i) for i in range(len(data.y))), split="synthetic",
        provenance=Provenance(generator.kind, generator.digest, generator.settings, (*generator.parents, entry.digest), tuple(int(s) for s in seeds)),
    )  # fmt: skip


def kind_name_of(kind: Any) -> str:
    """The registry's name of a generator kind's class."""
    for name in registry.names("generator"):
        if registry.find("generator", name) is type(kind):
            return name
    raise SettingError(f"{type(kind).__name__} is not a registered generator.", fix='add it under the entry point group "mitate.generator"')


def options_of(kind: Any, shape: tuple[int, int, int], n_train: int, *, epsilon: float = 0.0) -> Any:
    """The preset of a kind's class for images of this shape (and this epsilon, if any), or its plain defaults."""
    if epsilon and hasattr(kind, "private_for"):
        return kind.private_for(shape, n_train, epsilon=epsilon)
    return kind.default_for(shape, n_train) if hasattr(kind, "default_for") else kind()


def epsilon_of(kind: Any, options: Iterable[str], *, where: str) -> float:
    """The epsilon among `name=value` words for a kind's class; 0 for none, and for a kind that has no private fit (it will refuse the word)."""
    if not hasattr(kind, "private_for"):
        return 0.0
    from mitate.generators.private import Private

    return from_text(Private, [o for o in options if o.partition("=")[0] == "epsilon"], where=where).epsilon


def _fitted(entry: Entry, asked: Asked) -> Fitted:
    facts, settings = entry.result, asked.settings
    shape = tuple(int(v) for v in facts["shape"])
    assert len(shape) == 3
    told = {**settings, "privacy": facts["privacy"]} if "privacy" in facts else dict(settings)  # goes into the card of what it draws
    parents = tuple(asked.inputs[role] for role in ("train", "selection", "base") if role in asked.inputs)
    return Fitted(entry, settings["kind"], tuple(facts["classes"]), shape, parents, told)
