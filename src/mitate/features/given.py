"""Features that the user has already, of whatever extractor: `.npy` files with a row an image, read in place and never unpickled.

given = open_features("fakes.npy")        # a mapped array, checked
keep(store, given)                        # the digest that jobs read it by
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError
from mitate.store import Asked, Store

LEAST = 20  # images
LARGEST = 1e15  # beyond it sums of cubes lose their digits, and then their range
BLOCK = 4096  # rows read at a time
SIGNED = {2: "float16", 4: "float32", 8: "float32"}  # by bytes of a number, the type whose signs stand for it
SUFFIX = ".npy"


@dataclass(frozen=True, eq=False)
class Given:
    """Features [n, d] of a file, in place. digest: of their values."""

    name: str
    points: np.ndarray  # float16, float32 or float64 [n, d], mapped
    digest: str
    signs: dict[str, np.ndarray]  # by type of number, uint64 [n]: rows that are equal as such have equal signs, others hardly ever

    def __len__(self) -> int:
        return len(self.points)

    def shared_with(self, other: Given) -> np.ndarray:
        """Rows of these that are among the other's, value for value in the coarser of the two types; ascending, int64."""
        coarser = min((self.points.dtype, other.points.dtype), key=lambda dtype: dtype.itemsize)
        ours, theirs = self.signs[SIGNED[coarser.itemsize]], other.signs[SIGNED[coarser.itemsize]]
        rows = np.flatnonzero(np.isin(ours, theirs))
        places: dict[int, list[int]] = {}
        for place in np.flatnonzero(np.isin(theirs, ours[rows])):
            places.setdefault(int(theirs[place]), []).append(int(place))
        with np.errstate(over="ignore"):
            return np.array([
                i for i in rows if any(np.array_equal(self.points[i].astype(coarser), other.points[j].astype(coarser)) for j in places[int(ours[i])])
            ], np.int64)  # fmt: skip


def is_given(source: object) -> bool:
    """Whether the source is a file of features, not of images."""
    return isinstance(source, (str, Path)) and str(source).lower().endswith(SUFFIX)


def open_features(path: str | Path) -> Given:
    """The features of a `.npy` file: float16, float32 or float64 [n, d], n at least 20, all finite. DataError says what is wrong with it."""
    path = Path(path).expanduser()
    name = "".join(c if c.isprintable() else "?" for c in path.name)
    if path.is_dir():
        raise DataError(f"{name} is a folder.", fix="give a file of features, as numpy.save writes it")
    if not path.is_file():
        raise DataError(f"{name} is not there.", fix="give a file of features, as numpy.save writes it")
    try:
        points = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, MemoryError, OverflowError, SyntaxError) as wrong:
        first = (str(wrong).splitlines() or [type(wrong).__name__])[0]
        told = "it is no array, or one of objects" if "pickle" in first else first[:120]  # numpy's own advice is to trust it
        raise DataError(f"{name} cannot be read as features ({told}).", fix="write it with numpy.save, as an array of float32") from wrong
    if not isinstance(points, np.ndarray):
        points.close()
        raise DataError(f"{name} holds an archive of arrays.", fix="save the one that has a row an image with numpy.save")
    if points.ndim != 2 or points.dtype.kind != "f" or points.dtype.itemsize not in SIGNED or points.shape[1] < 1:
        raise DataError(f"{name} holds {points.dtype} {list(points.shape)}.", fix="give float32 [images, features]")
    if len(points) < LEAST:
        raise DataError(f"{name} has {len(points)} rows.", fix=f"give {LEAST} images or more")
    return Given(path.stem, points, *_read(points, name))


def keep(store: Store, given: Given) -> str:
    """Put the features into the store, once, and return the digest that jobs read them by."""

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        dtype = np.float64 if given.points.dtype.itemsize == 8 else np.float32
        kept = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype, given.points.shape)
        for i in range(0, len(kept), BLOCK):
            kept[i : i + BLOCK] = given.points[i : i + BLOCK]
        kept.flush()
        return {"images": len(kept), "columns": kept.shape[1], "seconds": 0.0}

    return store.make(Asked("given", 1, {}, {"features": given.digest}), build).digest


def _read(points: np.ndarray, name: str) -> tuple[str, dict[str, np.ndarray]]:
    """The digest of the values, and signs of each row; DataError where a value is not finite, or too large to be measured."""
    plain = points.dtype.newbyteorder("<")
    found = hashlib.sha256(f"mitate.features {plain.str[1:]} {points.shape}".encode())
    factors = np.random.default_rng(0).integers(0, 2**64, points.shape[1], np.uint64) | np.uint64(1)
    signs = {kind: np.empty(len(points), np.uint64) for kind in set(SIGNED.values())}
    for i in range(0, len(points), BLOCK):
        some = np.ascontiguousarray(points[i : i + BLOCK], plain) + 0  # -0 is 0
        good = (np.abs(some.astype(np.float64)) <= LARGEST).all(axis=1)
        if not good.all():
            row, finite = i + int(np.argmin(good)), bool(np.isfinite(some[int(np.argmin(good))]).all())
            what, do = (f"values above {LARGEST:g}", "scale them") if finite else ("values that are not finite", "drop the rows with NaN or infinity")
            raise DataError(f"{name} has {what} (row {row}).", fix=do)
        found.update(some.tobytes())
        for kind, column in signs.items():
            with np.errstate(over="ignore"):
                bits = (some.astype(f"<{np.dtype(kind).str[1:]}") + 0).view(f"<u{np.dtype(kind).itemsize}")
            column[i : i + BLOCK] = (bits.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    return found.hexdigest(), signs
