"""A listing: what a source says it holds, before anything is decoded. Each kind of source (folder, table, shard, array) makes one.

Row i says what is known of image i; the reader gives its pixels later. Columns of metadata go by several names in the wild;
`COLUMNS` says which ones are read as what.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mitate import codec
from mitate.errors import DataError
from mitate.images import BytesReader, FileReader, Reader, _Rows

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "selection", "valid": "selection", "validation": "selection", "dev": "selection", "selection": "selection",
    "eval": "selection", "evaluation": "selection",
    "holdout": "holdout", "hold_out": "holdout", "hold-out": "holdout", "heldout": "holdout", "held_out": "holdout", "held-out": "holdout",
}  # fmt: skip
COLUMNS = {
    "file": ("file_name", "file", "filename"),
    "label": ("label", "class", "labels", "cls", "target", "y"),
    "group": ("group", "groups", "patient", "subject"),
    "caption": ("caption", "text"),
    "licence": ("licence", "license"),
    "consent": ("consent",),
    "split": ("split",),
}


class SourceError(DataError):
    """A file that holds many images is damaged, or is not what was listed any more: it tells nothing of one image, but of all of them."""


@runtime_checkable
class BlobReader(Protocol):
    """A reader whose images are encoded bytes."""

    def blob(self, i: int) -> bytes:
        """The encoded bytes of image `i`."""
        ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where an image's bytes lie and when they last changed: the same stamp means the same pixels."""

    place: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one image. `name` is unique in its listing."""

    name: str
    label: str | None = None
    split: str = "all"
    group: str | None = None
    caption: str | None = None
    licence: str | None = None
    consent: str | None = None
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Listing:
    """A source's rows and the reader of their pixels. `notes` are (kind, message, fix) that the user should hear."""

    name: str
    rows: tuple[Row, ...]
    reader: Reader
    classes: tuple[str, ...] | None = None  # in the source's own order; None: sorted labels
    notes: tuple[tuple[str, str, str], ...] = ()

    def class_names(self) -> tuple[str, ...]:
        """Every class, named by the source or found among the labels (then sorted)."""
        found = {row.label for row in self.rows if row.label is not None}
        if self.classes is None:
            return tuple(sorted(found))
        return self.classes + tuple(sorted(found - set(self.classes)))

    def picture(self, i: int) -> codec.Picture:
        """Image `i`, decoded, with its mark. Raises DataError that names it."""
        return _picture(self.reader, i, shown(self.rows[i].name))


def _picture(reader: Reader, i: int, name: str) -> codec.Picture:
    if isinstance(reader, _Rows):  # look through to the file, where the mark is
        return _picture(reader.reader, reader.rows[i], name)
    if isinstance(reader, Readers):
        return _picture(*reader.place(i), name)
    if isinstance(reader, FileReader):
        return codec.decode(reader.root / reader.files[i], name=name)
    if isinstance(reader, BytesReader):
        return codec.decode(reader.blobs[i], name=name)
    if isinstance(reader, BlobReader):
        return codec.decode(reader.blob(i), name=name)
    pixels = reader.read(i)
    return codec.Picture(pixels, codec.pixel_digest(pixels), None)


@dataclass(frozen=True)
class Readers:
    """The images of one reader after those of another."""

    readers: tuple[Reader, ...]
    lengths: tuple[int, ...]

    def place(self, i: int) -> tuple[Reader, int]:
        """The reader that has image `i`, and its number there."""
        for reader, n in zip(self.readers, self.lengths, strict=True):
            if i < n:
                return reader, i
            i -= n
        raise IndexError(i)

    def read(self, i: int) -> np.ndarray:
        reader, row = self.place(i)
        return reader.read(row)


def check_unchanged(path: Path, size: int, mtime_ns: int) -> None:
    """SourceError where a file is another one than when it was listed with this size and time."""
    try:
        stat = path.stat()
        same = (stat.st_size, stat.st_mtime_ns) == (size, mtime_ns)
    except OSError:
        same = False
    if not same:
        raise SourceError(f"{shown(path.name)} has changed while it was being read.", fix="wait until nobody writes to it, and run the same command again")


def fields(values: Mapping[str, Any], classes: tuple[str, ...] | None = None) -> dict[str, str]:
    """The known columns among `values` (any case), as text; empty cells are left out. Numbers are looked up in `classes`."""
    lower = {str(k).strip().lower(): v for k, v in values.items() if k is not None}
    out: dict[str, str] = {}
    for column, spellings in COLUMNS.items():
        value = next((lower[s] for s in spellings if lower.get(s) is not None), None)
        if value is None or str(value).strip() == "":
            continue
        if column == "label":
            value = label_name(value, classes)
        if value is not None:
            out[column] = str(value)
    return out


def label_name(value: Any, classes: tuple[str, ...] | None) -> str | None:
    """The class that a label cell means: a name as it stands (Unicode NFC), a number as an index into `classes`. -1 is no label."""
    if isinstance(value, bool) or not isinstance(value, int):
        return unicodedata.normalize("NFC", str(value))
    if value == -1:
        return None
    if classes is None:
        return str(value)
    if not 0 <= value < len(classes):
        raise DataError(f"A label is {value} but there are {len(classes)} classes.", fix="number the classes from 0 and name them all")
    return classes[value]


def split_name(word: str) -> str | None:
    """The split that a folder or file name means (`train-00000-of-00002` is train), or None."""
    lower = word.lower()
    return SPLITS.get(lower) or SPLITS.get(re.split(r"[-.]", lower, maxsplit=1)[0]) or SPLITS.get(re.split(r"[-_.]", lower, maxsplit=1)[0])


def split_of_file(file: Path, root: Path) -> str:
    """The split that a shard's own name or its folder below `root` means, or "all"."""
    inside = file.relative_to(root).parts if file.is_relative_to(root) else (file.name,)
    return split_name(file.name) or next((s for part in inside[:-1] if (s := split_name(part))), "all")


def said_split(word: str, where: str) -> str:
    """The split that a metadata cell means; DataError for a word that means none, since its images would go to training."""
    word = word.strip()
    if split := SPLITS.get(word.lower()):
        return split
    if word.lower() == "all":
        return "all"
    raise DataError(f"{where} names an unknown split {shown(word)!r}.", fix="write train, selection (val, dev, eval), holdout or test, or leave the cell empty")


def shown(name: str, limit: int = 90) -> str:
    """A name fit for one line: no control characters, the middle of a long one left out."""
    line = "".join(c if c.isprintable() else "?" for c in name)
    return line if len(line) <= limit else f"{line[: limit // 2 - 1]}...{line[-(limit // 2 - 2) :]}"
