"""The verb relabel: a frozen model and filters go through a synthetic set, and the set's ledger says what they decided, and why.

found = mi.relabel("fakes/", model="real:leaves/train", rules=mi.Rules(keep=0.8), copies_of="leaves/train")
found.table; found.counts; export("fakes/", "kept/")

The set itself is never changed. The same call again appends nothing: a filter that says what it said before has said it. A filter that is asked with another
rule first takes back what it no longer says. Filters that are not asked for are left as they were; labels and confidence are asked for together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.curation import filters
from mitate.curation.agreement import OPEN, agreed
from mitate.curation.choosing import variety
from mitate.curation.filters import NAMES, Rules, changes, groups_of
from mitate.curation.labellers import Labeller
from mitate.curation.ledger import FILTER, Decision, Ledger, Standing, checked
from mitate.curation.review import list_set
from mitate.errors import DataError, SettingError
from mitate.files import locked
from mitate.frozen import classes_of, described, opened, probabilities, working
from mitate.images import ImageSet
from mitate.intake.listing import shown
from mitate.intake.opening import look_all, open_images
from mitate.intake.seen import Look, near_pairs
from mitate.metrics import privacy
from mitate.metrics.intervals import Interval
from mitate.progress import Progress, Silent
from mitate.settings import digest, plain, suggest
from mitate.store import Asked, Store
from mitate.verbs import VERBS, keep_extractor, keep_images, perform

if TYPE_CHECKING:
    from mitate.captioners.writers import Captioner


@dataclass(frozen=True)
class CopiesFound:
    """What the filter of copies rests on. floor and excess: of fresh real images; None where none were given."""

    real: str
    dropped: int
    n: int
    floor: Interval | None
    excess: Interval | None


@dataclass(frozen=True)
class ClassRow:
    """One class of the set as it came. dropped: by filter, the first one that drops; relabelled: kept, under another class. gained: came from others.

    variety: Vendi scores of the images that now stand in this class, and of as many by chance of all that would stand in it unfiltered; None where it was not
    measured, and `why` says why.
    """

    label: str
    images: int
    kept: int
    relabelled: int
    gained: int
    dropped: Mapping[str, int]
    variety: tuple[float, float] | None
    why: str = ""


@dataclass(frozen=True)
class Relabelled:
    """What the filters of one call decided. confusion: int [k, k'], the model's class by row, the set's by column; None without a labeller."""

    folder: Path
    images: int
    model: str
    digest: str  # of the model, or ""
    filters: tuple[str, ...]  # those that were asked
    rules: Rules
    classes: tuple[str, ...]  # among which the model chose: the set's, then others that it knows
    rows: tuple[ClassRow, ...]
    differing: int  # images to which the model gives another class
    sure: int  # of them, those where it is sure
    captions: int  # rewritten into other words
    confusion: np.ndarray | None
    copies: CopiesFound | None
    appended: int  # lines in the ledger
    stand: Mapping[str, int]  # of the whole ledger, people included: keep, drop, relabel, open, and unsaid: images of which nothing is said
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """kept, relabelled (among the kept), and dropped by filter, over all classes."""
        dropped: Counter[str] = Counter()
        for row in self.rows:
            dropped.update(row.dropped)
        return {"kept": sum(r.kept for r in self.rows), "relabelled": sum(r.relabelled for r in self.rows), **dropped}

    @property
    def record(self) -> dict[str, Any]:
        """All of it, as JSON."""
        told = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__ if name not in ("folder", "confusion", "copies")}
        told |= {"set": self.folder.name, "counts": self.counts, "confusion": None, "copies": None}
        if (c := self.copies) is not None:
            fresh = {name: part.record if part is not None else None for name, part in (("floor", c.floor), ("excess", c.excess))}
            told["copies"] = {"real": c.real, "dropped": c.dropped, "of": c.n, **fresh}
        if self.confusion is not None:
            folders = [row.label for row in self.rows]
            told["confusion"] = {"model": list(self.classes), "set": folders, "images": self.confusion.tolist()}
        return told


def relabel(
    folder: Path | str, *, model: str | Labeller | Captioner | None = None, rules: Rules | None = None, copies_of: Path | str | None = None,
    held_out: Path | str | None = None, near_duplicates: bool = False, undo: Sequence[str] = (), template: str = "", seed: int = 0,
    store: Store | None = None, progress: Progress | None = None,
) -> Relabelled:  # fmt: skip
    """Ask a frozen model and filters about the synthetic set in `folder`, and write what they say into its ledger: one append a filter.

    model: as `mitate relabel --with` takes it, or a Labeller or Captioner. copies_of: real images, of which none may be copied; held_out: others, which say how
    many fresh ones the rule calls copies. undo: filters that take back all they said. Everything is decided before the first line is written.
    """
    folder, store, told = Path(folder), store or Store.find(), progress or Silent()
    rules = rules or Rules()
    rules.check()
    _check_asked(model, rules, copies_of, held_out, near_duplicates, undo)
    listing = list_set(folder)
    looks = look_all(listing)
    images = open_images(listing)
    if len(images) == 0:
        raise DataError(f"{shown(str(folder))} holds no images.", fix="give a folder of images, as mitate generate writes it")
    labeller, captioner, notes = opened(model, images, template, seed, store, told)
    if captioner is not None and rules != Rules():
        raise SettingError("A captioner gives no probabilities to keep by.", fix="leave out --keep, --confidence, --sure and --no-relabel")
    work = _Work(images, labeller, rules)
    said: dict[str, tuple[Decision, ...]] = {name: () for name in undo}
    if captioner is not None:
        said["captions"] = _captions(images, described(images, captioner, store, told))
    if labeller is not None:
        work.found = probabilities(images, labeller, store, told)
        said["labels"] = work.take(filters.by_labels(images.names, work.folders, work.found, work.classes, rules, model=labeller.name))
    copies: CopiesFound | None = None
    if copies_of is not None:
        decisions, copies = _copies(images, looks, copies_of, held_out, work.left)
        said["copies"] = work.take(decisions)
    if near_duplicates:
        said["near-duplicates"] = work.take(_near(images, looks, work, store))
    if labeller is not None:
        left = work.left
        standing, p = [work.standing[i] for i in left], work.own()[left]
        said["confidence"] = work.take(filters.by_confidence([images.names[i] for i in left], standing, p, rules, model=labeller.name))
    for decisions in said.values():
        for d in decisions:
            checked(d)
    appended, ledger = _written(folder, said, store)
    there = Standing(ledger)
    stand = Counter(held.state if (held := agreed(there.of(name))) is not None else "unsaid" for name in images.names)
    return Relabelled(
        folder, len(images), labeller.name if labeller else captioner.name if captioner else "",
        labeller.digest if labeller else captioner.digest if captioner else "", tuple(n for n in NAMES if n in said and n not in undo), rules,
        work.classes, _rows(work, looks, store, told), work.differing, work.sure, _reworded(images, said.get("captions", ())), work.confusion, copies,
        appended, {state: stand[state] for state in ("keep", "drop", "relabel", OPEN, "unsaid")}, notes,
    )  # fmt: skip


# the filters, one after another ---------------------------------------------------------------------------------------


class _Work:
    """What is known while the filters run: the class that stands for each image, and which filter dropped it."""

    def __init__(self, images: ImageSet, labeller: Labeller | None, rules: Rules) -> None:
        self.names = images.names
        self.rules = rules
        self.labels = images.classes
        self.folders = [images.classes[k] if k >= 0 else "" for k in images.labels]
        self.standing = list(self.folders)
        self.dropped: dict[int, str] = {}
        self.found: np.ndarray | None = None
        self.classes = () if labeller is None else classes_of(images, labeller)
        self._row = {name: i for i, name in enumerate(images.names)}
        self.images = images

    @property
    def left(self) -> list[int]:
        return [i for i in range(len(self.names)) if i not in self.dropped]

    def take(self, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
        for d in decisions:
            if d.decision == "drop":
                self.dropped[self._row[d.file]] = d.by.removeprefix(FILTER)
            elif d.label is not None:
                self.standing[self._row[d.file]] = d.label
        return decisions

    def own(self) -> np.ndarray:
        """The model's probability of the class that now stands, float [n]."""
        assert self.found is not None
        index = {label: k for k, label in enumerate(self.classes)}
        return np.array([row[index[label]] for row, label in zip(self.found, self.standing, strict=True)])

    @property
    def _differs(self) -> np.ndarray:
        if self.found is None:
            return np.zeros(len(self.names), bool)
        return np.array([self.classes[k] != own for k, own in zip(self.found.argmax(1), self.folders, strict=True)], bool)

    @property
    def differing(self) -> int:
        return int(self._differs.sum())

    @property
    def sure(self) -> int:
        return 0 if self.found is None else int((self._differs & (self.found.max(1) >= self.rules.sure)).sum())

    @property
    def confusion(self) -> np.ndarray | None:
        if self.found is None:
            return None
        table = np.zeros((len(self.classes), len(self.labels)), np.int64)
        np.add.at(table, (self.found.argmax(1), self.images.y), 1)
        return table


def _check_asked(model: Any, rules: Rules, copies_of: Path | str | None, held_out: Path | str | None, near_duplicates: bool, undo: Sequence[str]) -> None:
    if unknown := [name for name in undo if name not in NAMES]:
        raise SettingError(f"There is no filter {unknown[0]!r}.", fix=suggest(unknown[0], NAMES))
    if model is None and rules != Rules():
        raise SettingError("Shares and probabilities are those of a model.", fix="give --with MODEL as well")
    if held_out is not None and copies_of is None:
        raise SettingError("Held-out images say how many fresh ones are called copies.", fix="give --copies-of REAL as well")
    if model is None and copies_of is None and not near_duplicates and not undo:
        raise SettingError("No filter is asked for.", fix="give --with MODEL, --copies-of REAL or --near-duplicates")
    asked = {*(("labels", "confidence", "captions") if model is not None else ()), *(("copies",) if copies_of is not None else ())}
    asked |= {"near-duplicates"} if near_duplicates else set()
    if both := [name for name in undo if name in asked]:
        raise SettingError(f"The filter {both[0]} is asked, and asked to take back what it said.", fix="do one of the two")


def _captions(images: ImageSet, found: Sequence[str]) -> tuple[Decision, ...]:
    from mitate.prompts.rouge import rouge_l, words

    assert images.captions is not None
    return filters.by_captions(images.names, found, [rouge_l(words(a), words(b)) for a, b in zip(images.captions, found, strict=True)])


def _copies(
    images: ImageSet, looks: Sequence[Look], copies_of: Path | str, held_out: Path | str | None, left: Sequence[int]
) -> tuple[tuple[Decision, ...], CopiesFound]:
    real, fresh = open_images(copies_of), open_images(held_out) if held_out is not None else None
    for which, some in (("real", real), ("held-out", fresh)):
        if some is not None and len(some) < privacy.LEAST:
            raise DataError(f"There are {len(some)} {which} images.", fix=f"give {privacy.LEAST} or more: a copy is near to one and far from the next ten")
    side, channels = working([*(a.shape for a in looks), *(real.reader.read(i).shape for i in range(min(len(real), 50)))])
    at = {"size": side, "channels": channels}
    ours, theirs = (privacy.features(some.pixels(**at)) for some in (images.subset(left), real))
    ratios, nearest = privacy.ratio_to_nearest(ours, theirs)
    floor = excess = None
    if fresh is not None and len(left) >= privacy.LEAST:
        found = privacy.copies(ours, theirs, privacy.features(fresh.pixels(**at)))
        floor, excess = found.floor, found.excess
    name = Path(str(copies_of)).name or str(copies_of)
    decisions = filters.by_copies([images.names[i] for i in left], ratios, [real.names[int(i)] for i in nearest], real=name)
    return decisions, CopiesFound(name, sum(d.decision == "drop" for d in decisions), len(left), floor, excess)


def _near(images: ImageSet, looks: Sequence[Look], work: _Work, store: Store) -> tuple[Decision, ...]:
    """Among what is left: near-duplicates of intake/duplicates.py, and images that are the same pixel for pixel (also flat ones, which it passes over)."""
    left = work.left
    place = {row: i for i, row in enumerate(left)}
    pairs = [(place[p.a], place[p.b]) for p in near_pairs(looks, store=store) if p.a in place and p.b in place]
    seen: dict[str, int] = {}
    for row, i in place.items():
        pairs.append((seen.setdefault(looks[row].digest, i), i))
    score = work.own()[left] if work.found is not None else None
    return filters.by_near_duplicates([images.names[i] for i in left], groups_of(pairs, len(left)), score)


def _written(folder: Path, said: Mapping[str, Sequence[Decision]], store: Store) -> tuple[int, tuple[Decision, ...]]:
    """Append what the ledger does not say yet, one append a filter; how many lines, and all that the ledger then says."""
    ledger, count = Ledger(folder), 0
    lock = store.root / "relabel" / f"{digest('mitate.relabel', str(folder.resolve()))[:16]}.lock"
    with locked(lock):  # two calls at once would both find the same line missing
        whole = ledger.read()
        for name in NAMES:
            if name in said and (new := changes(whole, said[name], name)):
                whole += ledger.append(new).decisions
                count += len(new)
    return count, whole


# what is told ---------------------------------------------------------------------------------------------------------


def _rows(work: _Work, looks: Sequence[Look], store: Store, told: Progress) -> tuple[ClassRow, ...]:
    labels = [*work.labels, *sorted(set(work.standing) - set(work.labels) - {""}), *([""] if "" in work.folders else [])]
    features = _features(work, looks, store, told) if work.dropped else None
    rows = []
    for label in labels:
        mine = [i for i, own in enumerate(work.folders) if own == label]
        kept = [i for i in mine if i not in work.dropped]
        gained = sum(work.standing[i] == label != work.folders[i] and i not in work.dropped for i in range(len(work.names)))
        dropped = Counter(work.dropped[i] for i in mine if i in work.dropped)
        spread, why = _variety(work, label, features)
        changed = sum(work.standing[i] != label for i in kept)
        rows.append(ClassRow(label, len(mine), len(kept), changed, gained, {n: dropped[n] for n in NAMES if dropped[n]}, spread, why))
    return tuple(rows)


def _variety(work: _Work, label: str, features: np.ndarray | None) -> tuple[tuple[float, float] | None, str]:
    here = [i for i, own in enumerate(work.standing) if own == label]
    kept = np.array([i not in work.dropped for i in here], bool)
    if features is None or kept.all():
        return None, "nothing was dropped"
    if kept.sum() < 2:
        return None, f"{int(kept.sum())} kept"
    try:
        return variety(features[here], kept, seed=0), ""
    except ValueError as wrong:
        return None, str(wrong)


def _features(work: _Work, looks: Sequence[Look], store: Store, told: Progress) -> np.ndarray:
    """Rows of the package's own extractor, float32 [n, width], from the store."""
    side, channels = working([a.shape for a in looks])
    settings, weights = keep_extractor(store, "mitate-small")
    inputs = {"images": keep_images(store, work.images, size=side, channels=channels)} | ({"weights": weights} if weights else {})
    entry = perform(store, Asked("features", VERBS["features"].version, {"extractor": settings}, inputs), progress=told)
    return np.load(entry.path("features.npy"), allow_pickle=False)


def _reworded(images: ImageSet, decisions: Sequence[Decision]) -> int:
    """How many captions became other words."""
    return sum(d.decision == "keep" and d.reason != " ".join(old.split()) for d, old in zip(decisions, images.captions or (), strict=False))
