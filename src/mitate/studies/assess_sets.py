"""The sets of an assessment: opened, checked against each other, and what was found in them.

Nothing held out may be among the real or the synthetic images, and nothing foreign among any. A kept generator draws its images here,
and tells what it was fitted on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mitate.errors import DataError
from mitate.images import ImageSet
from mitate.intake.opening import Source, list_source, look_all, open_images
from mitate.store import Entry, Store
from mitate.studies.sources import fitted_on

DRAWN = 200  # images of each class that a kept generator draws
LEAST = 20  # images of a set
MIXED = 0.001  # chance below which two mixes of classes are told as different


@dataclass(frozen=True)
class Sets:
    """The three sets as images, and what was found in them. held_out may be None; generator is a kept one's digest, or None."""

    fakes: ImageSet
    real: ImageSet
    held_out: ImageSet | None
    generator: str | None
    findings: tuple[str, ...]
    fitted_on: str | None = None  # the stored images that the generator was fitted on, where some of them are among the real ones
    members: tuple[int, ...] | None = None  # rows of the real images among those; None: all count, since nothing better is known
    foreign: ImageSet | None = None


def open_sets(fakes: Source, *, real: Source, held_out: Source | None, foreign: Source | None = None, per_class: int = 0, seed: int = 0, store: Store) -> Sets:
    """The sets, checked against each other: nothing held out may be among the real or the synthetic images, nothing foreign among any.

    per_class, seed: of the images that a kept generator draws; 0 of each class: 200.
    """
    findings: list[str] = []
    seen = _real(real, "real")
    held = _real(held_out, "held-out") if held_out is not None else None
    if held is not None:
        both = set(seen.digests)
        if shared := [i for i, d in enumerate(held.digests) if d in both]:
            if len(shared) == len(held):
                raise DataError("Every held-out image is one of the real ones.", fix="hold out images that the generator has not seen")
            findings.append(f"{len(shared)} held-out images are also among the real ones ({held.names[shared[0]]}, ...); they were left out")
            held = held.subset(np.setdiff1d(np.arange(len(held)), shared))
    made, generator = _synthetic(fakes, seen, held, per_class=per_class or DRAWN, seed=seed, store=store)
    if held is not None and (stolen := len(set(made.digests) & set(held.digests))):
        raise DataError(f"{stolen} of the synthetic images are held-out images: the generator has seen them.", fix="hold out images that it has not seen")
    if twins := len(made) - len(set(made.digests)):
        findings.append(f"{twins} synthetic images repeat another one")
    if unknown := len(made) - len(of_known_class(made)):
        findings.append(f"{unknown} synthetic images have no label or a class that no real image has; models are trained without them")
    others = open_images(foreign) if foreign is not None else None
    if others is not None:
        _check_foreign(others, {"real": seen, "held-out": held, "synthetic": made})
    for which, images in (("synthetic", made), ("real", seen), ("held-out", held), ("foreign", others)):
        if images is not None and len(images) < LEAST:
            raise DataError(f"There are {len(images)} {which} images.", fix=f"give {LEAST} or more")
    _tell_mixes(made, seen, held, findings)
    fitted, members = _members(generator, seen, store, findings)
    return Sets(made, seen, held, generator, tuple(findings), fitted, members, others)


def _real(source: Source, which: str) -> ImageSet:
    images = open_images(source)
    if isinstance(source, ImageSet):
        if source.provenance is not None:
            raise DataError(f"The {which} images {source.name!r} are synthetic.", fix="give real images there")
        return images
    marked = [i for i, a in enumerate(look_all(list_source(source))) if a.mark is not None]
    if marked:
        raise DataError(
            f"{len(marked)} of the {which} images carry a mark that says they were made by a model ({images.names[marked[0]]}, ...).",
            fix="take them out: mitate scan lists them",
        )
    return images


def _check_foreign(foreign: ImageSet, sets: Mapping[str, ImageSet | None]) -> None:
    """DataError where foreign images are among the others: a model would be blamed for knowing what it was taught."""
    there = set(foreign.digests)
    for which, images in sets.items():
        if shared := len(there & set(images.digests)) if images is not None else 0:
            raise DataError(f"{shared} of the foreign images are among the {which} ones.", fix="give images of other things, which a model must not accept")


def _synthetic(source: Source, real: ImageSet, held: ImageSet | None, *, per_class: int, seed: int, store: Store) -> tuple[ImageSet, str | None]:
    """The synthetic images with the real classes, and the digest of the kept generator that drew them."""
    entry = _kept(source, store)
    if entry is None:
        images = open_images(source)
        known = _known(images, store)
        if known is not None:
            _check_unseen(known, held, images.name, store)
        return _with_classes(images, real.classes), known.digest if known else None
    from mitate.fitted import generate, load_generator

    _check_unseen(entry, held, str(source), store)
    generator = load_generator(str(source), store=store)
    images = generate(generator, per_class=per_class, seed=seed, store=store)
    return _with_classes(replace(images, name=str(source)), real.classes), entry.digest


def _kept(source: Source, store: Store) -> Entry | None:
    """The kept generator of that name; None where the name is a path, or no name."""
    if not isinstance(source, str) or "/" in source or "." in source:
        return None
    if Path(source).exists():
        return None
    try:
        return store.kept(source)
    except DataError:
        return None


def _known(images: ImageSet, store: Store) -> Entry | None:
    """The generator that made these images, where the images say so and the store still has it."""
    entry = store.get(images.provenance.digest) if images.provenance is not None else None
    return entry if entry is not None and json.loads(entry.path("asked.json").read_text(encoding="utf-8"))["verb"] == "fit" else None


def _check_unseen(generator: Entry, held: ImageSet | None, name: str, store: Store) -> None:
    """DataError where a generator has seen held-out images."""
    if held is not None:
        trained, chosen = fitted_on(generator, store)
        if shared := len((trained | chosen) & set(held.digests)):
            raise DataError(f"The generator {name!r} was fitted on {shared} of the held-out images.", fix="hold out images that it has not seen")


def _members(generator: str | None, real: ImageSet, store: Store, findings: list[str]) -> tuple[str | None, tuple[int, ...] | None]:
    """The stored images that a kept generator was fitted on, and the rows of the real images among them; None for both where none is."""
    entry = store.get(generator) if generator is not None else None
    if entry is None:
        return None, None
    trained = fitted_on(entry, store)[0]
    rows = tuple(i for i, digest in enumerate(real.digests) if digest in trained)
    if not rows:
        findings.append(f"the generator was fitted on none of the {len(real)} real images; all of them are attacked, though none was learnt from")
        return None, None
    if len(rows) < len(real):
        findings.append(f"the generator was fitted on {len(rows)} of the {len(real)} real images; only those are attacked")
    return str(json.loads(entry.path("asked.json").read_text(encoding="utf-8"))["inputs"]["train"]), rows


def _with_classes(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """The same images with labels among the real classes; -1 where a class is not one of them."""
    ours = {c.strip().casefold(): k for k, c in enumerate(classes)}
    place = [ours.get(c.strip().casefold(), -1) for c in images.classes]
    return replace(images, classes=classes, labels=tuple(place[k] if k >= 0 else -1 for k in images.labels), split="synthetic", groups=None)


def _tell_mixes(made: ImageSet, real: ImageSet, held: ImageSet | None, findings: list[str]) -> None:
    """Say where sets are grey beside colour, or mix their classes differently: then they differ for that reason alone."""
    from scipy.stats import chi2_contingency

    named = {"synthetic": made, "real": real, **({"held-out": held} if held is not None else {})}
    colour = {name: in_colour(images) for name, images in named.items()}
    if len(set(colour.values())) > 1:
        grey = " and ".join(name for name, has in colour.items() if not has)
        findings.append(f"the {grey} images are grey and the others are not: they differ for that reason alone")
    for name in ("synthetic", "held-out"):
        if name not in named:
            continue
        counts = np.array([list(images.counts().values()) for images in (named[name], real)])
        counts = counts[:, counts.sum(axis=0) > 0]
        if counts.shape[1] > 1 and counts.sum(axis=1).all() and chi2_contingency(counts).pvalue < MIXED:
            shares = " / ".join(" ".join(f"{100 * share:.0f}" for share in row / row.sum()) for row in counts)
            findings.append(
                f"{name} and real images mix their classes differently ({shares} %): style, precision, density and labels are compared at one mix, "
                "other scores see the difference"
            )


def of_known_class(images: ImageSet) -> ImageSet:
    """The images that a model can learn from: those whose class the real ones have."""
    known = [i for i, k in enumerate(images.labels) if k >= 0]
    return images if len(known) == len(images) else images.subset(known)


def in_colour(images: ImageSet) -> bool:
    """Whether any of the images has colours."""
    return any(images.reader.read(i).shape[2] == 3 for i in range(len(images)))
