"""Splits: train, selection, hold-out for privacy, test; stratified, never through a group, fixed by content.

The place of an image follows from the digest of its pixels (or its group) and the seed, by rank within its class: renaming or
reordering files changes nothing, and one more image moves about one image of its class across each border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mitate.errors import DataError
from mitate.images import ImageSet
from mitate.intake.checks import LEAST_TRAIN
from mitate.intake.listing import shown
from mitate.runtime import seed_of

TEST_SHARE = 0.25
CARVED_SHARE = 0.2  # of a class's train side, for selection and again for the hold-out
MOST_CARVED = 50  # images of a class; more would only take from training
LEAST_TEST = 50  # images; below this the test is repeated by cross-fitting


@dataclass(frozen=True)
class Splits:
    """Disjoint sets of one data set. `cross_fit`: the test set is too small to stand alone, use `folds`."""

    train: ImageSet
    selection: ImageSet
    holdout: ImageSet
    test: ImageSet
    seed: int
    per_class: int | None = None
    cross_fit: bool = False
    n_folds: int = 1


@dataclass
class _Unit:
    """What moves as one: a group, or the images of one digest."""

    key: str
    rows: list[int] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)  # images by class


def split(
    images: ImageSet,
    test: ImageSet | None = None,
    *,
    seed: int,
    per_class: int | None = None,
    selection: ImageSet | None = None,
    holdout: ImageSet | None = None,
) -> Splits:
    """The splits of `images`; sets that the user gave (test, selection, hold-out) are taken as they are.

    per_class: at most so many train images of each class, nested (fewer are part of more); the rest feed selection and hold-out.
    """
    if per_class is not None and per_class < 1:
        raise DataError(f"per_class is {per_class}.", fix="ask for 1 or more images of each class")
    cross_fit = False
    if test is None:
        images, test = _carve_test(images, seed)
        cross_fit = len(test) < LEAST_TEST
    parts = _carve(images, seed, per_class, given=(selection, holdout))
    train, chosen, held = (images.subset(parts[s], split=s) for s in ("train", "selection", "holdout"))
    return Splits(
        train=train,
        selection=selection if selection is not None else chosen,
        holdout=holdout if holdout is not None else held,
        test=test.subset(range(len(test)), split="test"),
        seed=seed,
        per_class=per_class,
        cross_fit=cross_fit,
        n_folds=5 if cross_fit else 1,
    )


def folds(images: ImageSet, repeat: int, *, n_folds: int = 5, seed: int, per_class: int | None = None) -> tuple[Splits, ...]:
    """Cross-fitting, repetition `repeat`: `n_folds` splits whose test sets together are every image once."""
    if n_folds < 2:
        raise DataError(f"n_folds is {n_folds}.", fix="ask for 2 or more folds")
    units = _units(images, "fold", seed, repeat)
    filled: list[dict[int, int]] = [{} for _ in range(n_folds)]
    size = [0] * n_folds
    fold_of: dict[int, int] = {}
    for unit in units:
        turn = seed_of("fold turn", seed, repeat, unit.key)  # ties fall to a different fold for each unit

        def load(f: int, unit: _Unit = unit, turn: int = turn) -> tuple[int, int, int]:
            return (sum(filled[f].get(k, 0) * n for k, n in unit.counts.items()), size[f], (f + turn) % n_folds)

        best = min(range(n_folds), key=load)
        for k, n in unit.counts.items():
            filled[best][k] = filled[best].get(k, 0) + n
        size[best] += len(unit.rows)
        fold_of.update({i: best for i in unit.rows})
    out = []
    for f in range(n_folds):
        test = images.subset([i for i in range(len(images)) if fold_of[i] == f], split="test")
        rest = images.subset([i for i in range(len(images)) if fold_of[i] != f])
        one = split(rest, test, seed=seed_of("fold", seed, repeat, f), per_class=per_class)
        out.append(Splits(one.train, one.selection, one.holdout, one.test, seed, per_class, True, n_folds))
    return tuple(out)


def nested(images: ImageSet, per_class: int, *, seed: int) -> ImageSet:
    """Of each class the first whole groups that hold `per_class` images, in an order fixed by content and seed: fewer are always part of more.

    An image without a group is on its own. Groups are never cut, so a class can get a few images more. DataError where a class has too few.
    """
    small = {c: n for c, n in images.counts().items() if n < per_class}
    if small:
        said = ", ".join(f"{shown(c)} ({n})" for c, n in list(small.items())[:5])
        raise DataError(f"{per_class} training images a class are more than there are: {said}.", fix=f"ask for at most {min(small.values())}, or give more")
    units = _units(images, "nested", seed)
    rows: list[int] = []
    for k in range(len(images.classes)):
        got = 0
        for unit in units:
            if got >= per_class:
                break
            mine = [i for i in unit.rows if images.labels[i] == k]
            rows += mine
            got += len(mine)
    return images.subset(sorted(rows))


def _carve_test(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    counts = _counts(images)
    need = {k: max(1, round(n * TEST_SHARE)) if n > LEAST_TRAIN else 0 for k, n in counts.items()}
    units = _units(images, "test", seed)
    chosen = _fill(units, need, leave=2)
    rows = {i for unit in chosen for i in unit.rows}
    _refuse_missing(images, need, rows, "test")
    return images.subset([i for i in range(len(images)) if i not in rows]), images.subset(sorted(rows), split="test")


def _carve(images: ImageSet, seed: int, per_class: int | None, given: tuple[ImageSet | None, ImageSet | None]) -> dict[str, list[int]]:
    """Rows of train, selection and hold-out. Selection and hold-out fill from one end of each class, train from the other."""
    counts = _counts(images)
    if small := [k for k, n in counts.items() if n < LEAST_TRAIN]:
        said = ", ".join(f"{shown(images.classes[k])} ({counts[k]})" for k in small[:5])
        raise DataError(
            f"Classes with under {LEAST_TRAIN} train images: {said}.", fix=f"give at least {LEAST_TRAIN} train images a class, or leave these classes out"
        )
    need = {k: _carved(n, per_class) for k, n in counts.items()}
    left = _units(images, "carve", seed)
    parts: dict[str, list[int]] = {"selection": [], "holdout": []}
    wanted = [s for s, set_ in zip(("selection", "holdout"), given, strict=True) if set_ is None]
    want = {s: dict(need) for s in wanted}
    if wanted:
        chosen = _fill_in_turn(left, want, leave=1)
        for name, units in chosen.items():
            parts[name] = sorted(i for unit in units for i in unit.rows)
            _refuse_missing(images, need, set(parts[name]), name)
        taken = {id(unit) for units in chosen.values() for unit in units}
        left = [unit for unit in left if id(unit) not in taken]
    train: list[int] = []
    got = {k: 0 for k in counts}
    for unit in reversed(left):
        for i in unit.rows:
            k = images.labels[i]
            if per_class is None or got[k] < per_class:
                got[k] += 1
                train.append(i)
    _refuse_missing(images, {k: 1 for k in counts}, set(train), "train")
    return {**parts, "train": sorted(train)}


def _carved(n: int, per_class: int | None) -> int:
    """Images of a class of `n` for selection, and as many for the hold-out."""
    usual = min(MOST_CARVED, max(1, round(n * CARVED_SHARE)))
    if per_class is None:
        return usual
    return min(max(10, per_class), max(usual, (n - per_class) // 2))


def _units(images: ImageSet, *seeds: int | str) -> list[_Unit]:
    """Groups (or single digests) in an order that their content and the seed fix; larger groups first, they are hard to place."""
    units: dict[str, _Unit] = {}
    owner: dict[str, str] = {}
    order = sorted(range(len(images)), key=lambda i: (images.digests[i], images.names[i]))
    for i in order:
        if images.labels[i] < 0:
            continue
        group = images.groups[i] if images.groups is not None else ""
        key = owner.setdefault(images.digests[i], f"group {group}" if group else f"image {images.digests[i]}")
        unit = units.setdefault(key, _Unit(key))
        unit.rows.append(i)
        unit.counts[images.labels[i]] = unit.counts.get(images.labels[i], 0) + 1
    return sorted(units.values(), key=lambda u: seed_of(*seeds, u.key))


def _fill(units: Sequence[_Unit], need: dict[int, int], *, leave: int) -> list[_Unit]:
    return _fill_in_turn(units, {"": need}, leave=leave)[""]


def _fill_in_turn(units: Sequence[_Unit], need: dict[str, dict[int, int]], *, leave: int) -> dict[str, list[_Unit]]:
    """Units for each part until its need is met, the neediest part first; at least `leave` units of each class stay behind.

    A unit that would overshoot by more than it helps is passed over at first; a class that is then still without any image
    gets its smallest unit.
    """
    need = {name: dict(wanted) for name, wanted in need.items()}
    chosen: dict[str, list[_Unit]] = {name: [] for name in need}
    behind: dict[int, int] = {}
    for unit in units:
        for k in unit.counts:
            behind[k] = behind.get(k, 0) + 1
    taken: set[int] = set()

    def take(unit: _Unit, name: str) -> None:
        chosen[name].append(unit)
        taken.add(id(unit))
        for k, n in unit.counts.items():
            need[name][k] = need[name].get(k, 0) - n
            behind[k] -= 1

    def free(unit: _Unit) -> bool:
        return id(unit) not in taken and all(behind[k] > leave for k in unit.counts)

    for unit in units:
        helps = {name: sum(min(n, max(0, wanted.get(k, 0))) for k, n in unit.counts.items()) for name, wanted in need.items()}
        missing = {name: sum(max(0, wanted.get(k, 0)) for k in unit.counts) for name, wanted in need.items()}
        name = max(need, key=lambda s: (helps[s], missing[s]))
        if helps[name] * 2 >= len(unit.rows) and helps[name] > 0 and free(unit):
            take(unit, name)
    for name, wanted in need.items():
        for k in sorted(wanted):
            if wanted[k] > 0 and not any(k in unit.counts for unit in chosen[name]):
                options = [unit for unit in units if k in unit.counts and free(unit)]
                if options:
                    take(min(options, key=lambda u: len(u.rows)), name)
    return chosen


def _counts(images: ImageSet) -> dict[int, int]:
    out = {k: 0 for k in range(len(images.classes))}
    for k in images.labels:
        if k >= 0:
            out[k] += 1
    return out


def _refuse_missing(images: ImageSet, need: dict[int, int], rows: set[int], part: str) -> None:
    there = {images.labels[i] for i in rows}
    lacking = [k for k, n in need.items() if n > 0 and k not in there]
    if lacking:
        word = "groups" if images.groups is not None else "images"
        names = ", ".join(shown(images.classes[k]) for k in lacking[:5])
        least = math.ceil(1 / TEST_SHARE) + 1
        raise DataError(
            f"Classes with too few {word} to give one to {part}: {names}.", fix=f"give at least {least} {word} of each class, or a test folder of your own"
        )
