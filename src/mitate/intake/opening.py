"""Open real images from wherever they are, and refuse or clean what would make a later number lie.

open_images("leaves/")                        a folder (class folders, shards, tables, a saved data set), .npz, .parquet, .tar,
open_images("digits:20")                      scikit-learn's digits, "hf:owner/name", arrays, or an ImageSet as it is
open_data("leaves/", per_class=20, seed=0)    checked, cleaned, and split
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mitate import codec
from mitate.errors import DataError, SettingError
from mitate.images import ImageSet
from mitate.intake import arrays, imagefolder, shards, tables
from mitate.intake.checks import Finding, broken, check
from mitate.intake.listing import SPLITS, Listing, Readers, Row, shown, split_of_file
from mitate.intake.seen import Look, look
from mitate.intake.splits import Splits
from mitate.intake.splits import split as split_sets
from mitate.settings import suggest

NAMES = ("train", "selection", "holdout", "test")

Source = str | Path | ImageSet | Listing | Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True)
class Data:
    """Checked images. `selection`, `holdout` and `test` are those the source itself had, else None; `splits` are ready to use."""

    name: str
    train_side: ImageSet
    test: ImageSet | None
    selection: ImageSet | None
    holdout: ImageSet | None
    splits: Splits
    findings: tuple[Finding, ...] = field(default=())

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the images that were left out."""
        return tuple(name for f in self.findings if f.severity == "drop" for name in f.items)


def open_images(source: Source, *, split: str | None = None, name: str | None = None) -> ImageSet:
    """The images of `source`; with `split`, only that split where the source has splits, else all of them under that word.

    Every file is decoded once (and remembered); one that cannot be is an error that names it. Nothing is dropped.
    """
    if isinstance(source, ImageSet):
        return source if split is None and name is None else replace(source, split=split or source.split, name=name or source.name)
    split = SPLITS.get(split.lower(), split) if split else None
    listing, looks = _look(source)
    images = _image_set(listing, looks)
    if name:
        images = replace(images, name=name)
    there = sorted({row.split for row in listing.rows})
    if there == ["all"]:
        return replace(images, split=split) if split else images
    if split is None:
        return replace(images, split=there[0]) if len(there) == 1 else images
    rows = [i for i, row in enumerate(listing.rows) if row.split == split]
    if not rows:
        raise SettingError(f"{shown(listing.name)} has no split {split!r}.", fix=suggest(split, [s for s in there if s != "all"]))
    return images.subset(rows, split=split)


def open_data(source: Source, *, per_class: int | None = None, seed: int = 0) -> Data:
    """The images of `source`, checked, the unusable ones left out by name, and split.

    Raises DataError, one line with a fix, where training on them would lie; `find` gives the findings without raising.
    """
    listing, looks = _look(source)
    findings = check(listing, looks)
    if errors := [f for f in findings if f.severity == "error"]:
        more = f" (Also: {', '.join(dict.fromkeys(f.kind for f in errors[1:]))}.)" if len(errors) > 1 else ""
        raise DataError(errors[0].message + more, fix=errors[0].fix)
    dropped = {name for f in findings if f.severity == "drop" for name in f.items}
    images = source if isinstance(source, ImageSet) else _image_set(listing, looks)
    parts = {s: [i for i, r in enumerate(listing.rows) if r.split == s and r.name not in dropped] for s in NAMES}
    parts["train"] += [i for i, r in enumerate(listing.rows) if r.split == "all" and r.name not in dropped]
    train_side = images.subset(sorted(parts["train"]), split="train")
    given = {s: images.subset(parts[s], split=s) if parts[s] else None for s in NAMES[1:]}
    splits = split_sets(train_side, given["test"], seed=seed, per_class=per_class, selection=given["selection"], holdout=given["holdout"])
    return Data(listing.name, train_side, given["test"], given["selection"], given["holdout"], splits, tuple(findings))


def find(source: Source) -> tuple[Finding, ...]:
    """Everything wrong with `source`, worst included, without raising for it."""
    listing = list_source(source)
    looks, errors = look(listing)
    good = [i for i, a in enumerate(looks) if a is not None]
    readable = replace(listing, rows=tuple(listing.rows[i] for i in good))
    rest = check(readable, [a for a in looks if a is not None]) if good else []
    return (*broken(listing, errors), *rest)


def list_source(source: Source) -> Listing:
    """What `source` says it holds; nothing is decoded."""
    if isinstance(source, Listing):
        return source
    if isinstance(source, ImageSet):
        return _listing_of(source)
    if isinstance(source, Mapping):
        return arrays.list_arrays(source)
    if not isinstance(source, (str, Path)):
        return arrays.list_arrays(arrays.pair(list(source)))
    text = str(source)
    if not text.strip():
        raise DataError("The name of the images is empty.", fix="give a folder, or digits:20 to try")
    if text == "digits" or text.startswith("digits:"):
        if not Path(text).exists():
            return _digits(text)
    if text.startswith("hf:"):
        return tables.list_hub(text[3:])
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return _list_folder(path)
        there = path.exists()
    except PermissionError as wrong:
        raise DataError(f"{shown(text)} cannot be read ({wrong.strerror}).", fix="check its permissions") from wrong
    except (OSError, ValueError) as wrong:  # a name too long for the system, a null byte
        raise DataError(f"{shown(text)} is no path ({getattr(wrong, 'strerror', None) or wrong}).", fix="give a folder of images") from wrong
    if not there:
        raise DataError(f"{shown(text)} is not there.", fix=_nearby(path))
    return _list_file(path)


def joined(train: ImageSet, test: ImageSet) -> Listing:
    """Two sets as one source whose splits they are, so that they are checked against each other. Classes are matched by name."""
    one, two = _listing_of(train, "train"), _listing_of(test, "test")
    classes = train.classes + tuple(c for c in test.classes if c not in train.classes)
    return Listing(train.name, one.rows + two.rows, Readers((one.reader, two.reader), (len(one.rows), len(two.rows))), classes=classes)


def look_all(listing: Listing) -> list[Look]:
    """A Look of every row; DataError names what cannot be decoded."""
    looks, errors = look(listing)
    if found := broken(listing, errors):
        raise DataError(found[0].message, fix=found[0].fix)
    return [a for a in looks if a is not None]


def _look(source: Source) -> tuple[Listing, list[Look]]:
    listing = list_source(source)
    return listing, look_all(listing)


def _list_folder(folder: Path) -> Listing:
    if (folder / "dataset_dict.json").is_file() or ((folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()):
        return tables.list_saved(folder)
    files = []  # that are no images
    for file in _files(folder):
        if file.suffix.lower() in codec.SUFFIXES:
            return imagefolder.list_folder(folder)
        if file.suffix in (*tables.SUFFIXES, ".npz") or file.name.endswith(shards.TAR):
            files.append(file)
    files.sort()
    if found := [p for p in files if p.suffix in tables.SUFFIXES and p.is_file()]:
        return tables.list_tables([(p, split_of_file(p, folder)) for p in found], name=folder.name)
    if found := [p for p in files if p.name.endswith(shards.TAR) and p.is_file()]:
        return shards.list_shards(found, name=folder.name, root=folder)
    if len(found := [p for p in files if p.suffix == ".npz" and p.is_file()]) == 1:
        return arrays.list_npz(found[0])
    return imagefolder.list_folder(folder)


def _files(folder: Path) -> Iterator[Path]:
    """What lies in a folder and below it but for hidden things, one at a time: there may be millions."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _list_file(path: Path) -> Listing:
    kinds: dict[str, Callable[[], Listing]] = {
        ".npz": lambda: arrays.list_npz(path),
        ".parquet": lambda: tables.list_tables([(path, "all")], name=path.stem),
        ".arrow": lambda: tables.list_tables([(path, "all")], name=path.stem),
    }
    if path.suffix in kinds:
        return kinds[path.suffix]()
    if path.name.endswith(shards.TAR):
        return shards.list_shards([path], name=path.name.partition(".")[0])
    if path.suffix.lower() in codec.SUFFIXES:
        raise DataError(f"{shown(str(path))} is one image, not a folder of them.", fix="give the folder that holds one folder a class")
    fix = "unpack it and give the folder" if path.suffix in (".zip", ".7z", ".rar") else "give a folder of images, or a file .npz, .parquet, .arrow, .tar"
    raise DataError(f"{shown(str(path))} is a file, not a folder of images.", fix=fix)


def _digits(text: str) -> Listing:
    _, colon, number = text.partition(":")
    if colon and not number.isdecimal():
        raise DataError(f"{shown(text)!r} is no number of digits.", fix="write digits or digits:20")
    return arrays.list_digits(int(number) if colon else None)


def _nearby(path: Path) -> str:
    try:
        siblings = [p.name for p in path.parent.iterdir() if not p.name.startswith(".")]
    except OSError:
        siblings = []
    near = suggest(path.name, siblings) if siblings else ""
    return near if near.startswith("did you mean") else "check the path, or use digits:20 to try"


def _image_set(listing: Listing, looks: Sequence[Look]) -> ImageSet:
    classes = listing.class_names()
    index = {name: k for k, name in enumerate(classes)}
    rows = listing.rows

    def column(values: list[str | None]) -> tuple[str, ...] | None:
        return tuple(v or "" for v in values) if any(values) else None

    return ImageSet(
        name=listing.name,
        classes=classes,
        labels=tuple(-1 if r.label is None else index[r.label] for r in rows),
        digests=tuple(a.digest for a in looks),
        reader=listing.reader,
        names=tuple(r.name for r in rows),
        groups=_groups(rows),
        captions=column([r.caption for r in rows]),
        licences=column([r.licence for r in rows]),
        consents=column([r.consent for r in rows]),
    )


def _groups(rows: Sequence[Row]) -> tuple[str, ...] | None:
    """Groups, "" where a row has none: such an image is on its own."""
    return tuple(r.group or "" for r in rows) if any(r.group for r in rows) else None


def _listing_of(images: ImageSet, split: str = "all") -> Listing:
    """An ImageSet as a listing, so that the same checks see it; with a split, the names say it."""

    def cell(column: tuple[str, ...] | None, i: int) -> str | None:
        return (column[i] or None) if column is not None else None

    rows = tuple(
        Row(
            name=images.names[i] if split == "all" or images.names[i].startswith(f"{split}/") else f"{split}/{images.names[i]}",
            split=split,
            label=images.classes[k] if k >= 0 else None,
            group=cell(images.groups, i),
            caption=cell(images.captions, i),
            licence=cell(images.licences, i),
            consent=cell(images.consents, i),
        )
        for i, k in enumerate(images.labels)
    )
    return Listing(images.name, rows, images.reader, classes=images.classes)
