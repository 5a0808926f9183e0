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
BLOCK = 4096  # rows read at a time
SUFFIX = ".npy"


@dataclass(frozen=True, eq=False)
class Given:
    """Features [n, d] of a file, in place. digest: of their values."""

    name: str
    points: np.ndarray  # float32 or float64 [n, d], mapped
    digest: str
    signs: np.ndarray  # uint64 [n]: equal rows have equal signs, others hardly ever

    def __len__(self) -> int:
        return len(self.points)

    def shared_with(self, other: Given) -> np.ndarray:
        """Rows of these that are among the other's, value for value; ascending."""
        rows = np.flatnonzero(np.isin(self.signs, other.signs))
        if not len(rows):
            return rows
        places: dict[int, list[int]] = {}
        for place in np.flatnonzero(np.isin(other.signs, self.signs[rows])):
            places.setdefault(int(other.signs[place]), []).append(int(place))
        return np.array([i for i in rows if any(np.array_equal(self.points[i], other.points[j]) for j in places[int(self.signs[i])])], np.int64)


def is_given(source: object) -> bool:
    """Whether the source is a file of features, not of images."""
    return isinstance(source, (str, Path)) and str(source).lower().endswith(SUFFIX)


def open_features(path: str | Path) -> Given:
    """The features of a `.npy` file: float16, float32 or float64 [n, d], n at least 20, all finite. DataError says what is wrong with it."""
    path = Path(path).expanduser()
    name = "".join(c if c.isprintable() else "?" for c in path.name)
    if not path.is_file():
        raise DataError(f"{name} is not there.", fix="give a file of features, as numpy.save writes it")
    try:
        points = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, MemoryError, OverflowError, SyntaxError) as wrong:
        first = (str(wrong).splitlines() or [type(wrong).__name__])[0]
        raise DataError(f"{name} cannot be read as features ({first[:120]}).", fix="write it with numpy.save, as an array of float32") from wrong
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.dtype not in (np.float16, np.float32, np.float64) or points.shape[1] < 1:
        shape = f"{points.dtype} {list(points.shape)}" if isinstance(points, np.ndarray) else "an archive"
        raise DataError(f"{name} holds {shape}.", fix="give float32 [images, features]")
    if len(points) < LEAST:
        raise DataError(f"{name} has {len(points)} rows.", fix=f"give {LEAST} images or more")
    return Given(path.stem, points, *_read(points, name))


def keep(store: Store, given: Given) -> str:
    """Put the features into the store, once, and return the digest that jobs read them by."""

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        dtype = np.float64 if given.points.dtype == np.float64 else np.float32
        kept = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype, given.points.shape)
        for i in range(0, len(kept), BLOCK):
            kept[i : i + BLOCK] = given.points[i : i + BLOCK]
        kept.flush()
        return {"images": len(kept), "columns": kept.shape[1], "seconds": 0.0}

    return store.make(Asked("given", 1, {}, {"features": given.digest}), build).digest


def _read(points: np.ndarray, name: str) -> tuple[str, np.ndarray]:
    """The digest of the values, and a sign of each row; DataError where a value is not finite."""
    found = hashlib.sha256(f"mitate.features {points.dtype.str[1:]} {points.shape}".encode())
    factors = np.random.default_rng(0).integers(0, 2**64, points.shape[1], np.uint64) | np.uint64(1)
    signs = np.empty(len(points), np.uint64)
    for i in range(0, len(points), BLOCK):
        some = np.ascontiguousarray(points[i : i + BLOCK], points.dtype.newbyteorder("<")) + 0  # -0 is 0
        if not np.isfinite(some).all():
            row = i + int(np.argmin(np.isfinite(some).all(axis=1)))
            raise DataError(f"{name} has values that are not finite (row {row}).", fix="drop the rows with NaN or infinity")
        found.update(some.tobytes())
        signs[i : i + BLOCK] = (some.view(f"<u{some.dtype.itemsize}").astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    return found.hexdigest(), signs
