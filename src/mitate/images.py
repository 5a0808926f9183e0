"""Noun 1, ImageSet: images with what is known of them. Real and synthetic sets are one type.

A set holds no pixels; it reads them when asked. Its `digest` is of content (pixels, labels, groups, captions), so the same
images in another folder or another container are the same set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from mitate import codec
from mitate.errors import DataError
from mitate.runtime import seed_of
from mitate.settings import digest

_T = TypeVar("_T")


class Reader(Protocol):
    """Where pixels come from."""

    def read(self, i: int) -> np.ndarray:
        """Image `i` as uint8 [h, w, c], c = 1 or 3."""
        ...


@dataclass(frozen=True)
class ArrayReader:
    """Images that are one array already: uint8 [n, h, w, c]."""

    array: np.ndarray

    def read(self, i: int) -> np.ndarray:
        return np.asarray(self.array[i])


@dataclass(frozen=True)
class FileReader:
    """Images that are files, opened when asked."""

    root: Path
    files: tuple[str, ...]

    def read(self, i: int) -> np.ndarray:
        return codec.decode(self.root / self.files[i]).pixels


@dataclass(frozen=True)
class BytesReader:
    """Images that are encoded bytes: rows of a parquet file, members of a tar shard."""

    blobs: Sequence[bytes]

    def read(self, i: int) -> np.ndarray:
        return codec.decode(self.blobs[i]).pixels


@dataclass(frozen=True)
class _Rows:
    """Some rows of another reader."""

    reader: Reader
    rows: tuple[int, ...]

    def read(self, i: int) -> np.ndarray:
        return self.reader.read(self.rows[i])


@dataclass(frozen=True)
class Provenance:
    """Where synthetic images come from. A set without one is real."""

    generator: str  # kind, for people
    digest: str  # of the fitted generator, or of the folder's content for images made elsewhere
    settings: dict[str, object] = field(default_factory=dict)
    parents: tuple[str, ...] = ()  # digests of the image sets and generators it was made from
    seeds: tuple[int, ...] = ()  # one an image; empty for images made elsewhere


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and what is known of them; row i of every tuple belongs to image i."""

    name: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]  # index into classes; -1 where there is none
    digests: tuple[str, ...]  # of each image's pixels (codec.pixel_digest)
    reader: Reader
    names: tuple[str, ...]  # for people: a path inside the set, or a row number
    groups: tuple[str, ...] | None = None  # patient, plant, photograph: what must not be split
    captions: tuple[str, ...] | None = None
    licences: tuple[str, ...] | None = None
    consents: tuple[str, ...] | None = None
    split: str = "all"
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        for column in (self.digests, self.names, self.groups, self.captions, self.licences, self.consents):
            if column is not None and len(column) != len(self.labels):
                raise ValueError("columns of an ImageSet have different lengths")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        kind = "synthetic" if self.provenance else "real"
        return f"<ImageSet {self.name!r}: {len(self)} {kind} images, {len(self.classes)} classes, split {self.split!r}>"

    @cached_property
    def digest(self) -> str:
        """Name of the content: pixels, labels, groups, captions, in order. Not of paths."""
        return digest("mitate.images", [self.classes, self.labels, self.digests, self.groups, self.captions])

    @cached_property
    def y(self) -> np.ndarray:
        """Labels as int64 [n]."""
        return np.asarray(self.labels, dtype=np.int64)

    def counts(self) -> dict[str, int]:
        """Images of each class, in class order."""
        found = np.bincount(self.y[self.y >= 0], minlength=len(self.classes))
        return {name: int(found[k]) for k, name in enumerate(self.classes)}

    def subset(self, rows: Sequence[int] | np.ndarray, *, split: str | None = None, name: str | None = None) -> ImageSet:
        """The images `rows`, in that order."""
        rows = tuple(int(i) for i in rows)

        def take(column: tuple[_T, ...]) -> tuple[_T, ...]:
            return tuple(column[i] for i in rows)

        def maybe(column: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return None if column is None else take(column)

        provenance = self.provenance
        if provenance is not None and provenance.seeds:
            provenance = replace(provenance, seeds=take(provenance.seeds))
        return replace(
            self,
            name=name or self.name,
            labels=take(self.labels),
            digests=take(self.digests),
            reader=_Rows(self.reader, rows),
            names=take(self.names),
            groups=maybe(self.groups),
            captions=maybe(self.captions),
            licences=maybe(self.licences),
            consents=maybe(self.consents),
            split=split or self.split,
            provenance=provenance,
        )

    def few(self, n: int, *, seed: int) -> ImageSet:
        """At most `n` images of each class, chosen by content and `seed`; fewer are always part of more (nested)."""
        of_class: list[list[int]] = [[] for _ in self.classes]
        for i, k in enumerate(self.labels):
            if k >= 0:
                of_class[k].append(i)
        rows: list[int] = []
        for mine in of_class:
            rows += sorted(mine, key=lambda i: (seed_of("few", seed, self.digests[i]), i))[:n]
        return self.subset(sorted(rows))

    def pixels(self, *, size: int, channels: int) -> np.ndarray:
        """All images as uint8 [n, size, size, channels]: centre square, antialiased bicubic."""
        out = np.empty((len(self), size, size, channels), dtype=np.uint8)
        for i in range(len(self)):
            image = self.reader.read(i)
            out[i] = image if image.shape == (size, size, channels) else codec.resize(image, size, channels)
        return out


def from_arrays(
    x: np.ndarray,
    y: Sequence[int] | np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    name: str = "arrays",
    split: str = "all",
    provenance: Provenance | None = None,
) -> ImageSet:
    """An ImageSet of an array.

    x: uint8 [n, h, w] or [n, h, w, c], c = 1 or 3. y: n labels from 0. classes: names, default "0", "1", ...
    """
    x = np.asarray(x)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)):
        raise DataError(f"The array is {x.dtype} {list(x.shape)}.", fix="give uint8 [n, h, w] or [n, h, w, 1 or 3]")
    x = np.ascontiguousarray(x[..., None] if x.ndim == 3 else x)
    labels = tuple(int(k) for k in y)
    if len(labels) != len(x):
        raise DataError(f"{len(x)} images have {len(labels)} labels.", fix="give one label an image")
    count = max(labels, default=-1) + 1
    names = tuple(classes) if classes is not None else tuple(str(k) for k in range(count))
    if labels and (min(labels) < -1 or count > len(names)):
        raise DataError(f"Labels reach {min(labels)} to {count - 1} but there are {len(names)} classes.", fix="number the classes from 0 and name them all")
    return ImageSet(
        name=name,
        classes=names,
        labels=labels,
        digests=tuple(codec.pixel_digest(image) for image in x),
        reader=ArrayReader(x),
        names=tuple(str(i) for i in range(len(x))),
        groups=tuple(str(g) for g in groups) if groups is not None else None,
        split=split,
        provenance=provenance,
    )
