"""Arrays: NumPy `.npz` archives, arrays in memory, and scikit-learn's bundled digits.

    x_train y_train [x_test y_test] [classes]      or  x y [classes] [groups]      or  images labels [classes]

Archives are read without unpickling, always: an object array could run code.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mitate.codec import pixel_digest
from mitate.errors import DataError
from mitate.images import ArrayReader
from mitate.intake.listing import Listing, Row, label_name
from mitate.runtime import memory, seed_of

PAIRS = (("x_train", "y_train", "train"), ("x_test", "y_test", "test"), ("x", "y", "all"), ("images", "labels", "all"))


def list_npz(path: Path) -> Listing:
    """The images of an `.npz` archive."""
    known = {name for pair in PAIRS for name in pair[:2]} | {"classes", "groups", "groups_train", "groups_test"}
    arrays: dict[str, np.ndarray] = {}
    try:
        with open(path, "rb") as data, np.load(data, allow_pickle=False) as archive:
            _refuse_bomb(path, archive.zip)
            for name in sorted(known & set(archive.files)):
                try:
                    arrays[name] = archive[name]
                except ValueError as wrong:
                    if "allow_pickle" not in str(wrong):
                        raise
                    fix = f"save it again with plain text: numpy.asarray({name}, dtype=str)" if name == "classes" else f"save {name} again with a plain dtype"
                    raise DataError(f"{path.name}: the array {name} needs unpickling, which could run code.", fix=fix) from wrong
            there = ", ".join(archive.files) or "nothing"
    except DataError:
        raise
    except Exception as wrong:  # zipfile, zlib and NumPy raise what they like: BadZipFile, NotImplementedError, RuntimeError, MemoryError, ...
        raise DataError(f"{path.name} cannot be read as .npz ({wrong}).", fix="save it again with numpy.savez_compressed") from wrong
    try:
        return list_arrays(arrays, name=path.stem)
    except DataError as wrong:
        raise DataError(f"{path.name} holds {there}. {wrong.message}", fix=wrong.fix) from wrong


def list_arrays(arrays: Mapping[str, Any], *, name: str = "arrays") -> Listing:
    """The images of arrays in memory, by the names at the top of this file. x: uint8 [n, h, w] or [n, h, w, 1 or 3]."""
    pairs = [(x, y, split) for x, y, split in PAIRS if arrays.get(x) is not None]
    if not pairs:
        raise DataError("There is no array of images.", fix="name the arrays x_train, y_train, x_test, y_test, or x, y, or images, labels")
    classes = tuple(str(c) for c in _column(arrays["classes"], "classes")) if arrays.get("classes") is not None else None
    rows: list[Row] = []
    images: list[np.ndarray] = []
    for x, y, split in pairs:
        block = _uint8(np.asarray(arrays[x]), x)
        if arrays.get(y) is None:
            raise DataError(f"There is no {y} beside {x}.", fix=f"add the labels of {x} as {y}")
        labels = np.asarray(arrays[y])
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1 or len(labels) != len(block):
            raise DataError(f"{x} holds {len(block)} images but {y} is {list(labels.shape)}.", fix="give one label an image")
        if labels.dtype.kind not in "iuUb":
            raise DataError(f"{y} is {labels.dtype}.", fix="give whole numbers from 0, or text")
        _check_letters(labels, y)
        name_of_groups = "groups" if split == "all" else f"groups_{split}"
        groups = _column(arrays[name_of_groups], name_of_groups) if arrays.get(name_of_groups) is not None else None
        if groups is not None and len(groups) != len(block):
            raise DataError(f"{x} holds {len(block)} images but there are {len(groups)} groups.", fix="give one group an image")
        head = "" if split == "all" else f"{split}/"
        for i, value in enumerate(labels.tolist()):
            group = None if groups is None else str(groups[i])
            rows.append(Row(name=f"{head}{i}", label=label_name(value, classes), split=split, group=group))
        images.append(block)
    if classes is None and all(np.asarray(arrays[y]).dtype.kind in "iu" for _, y, _ in pairs):
        classes = tuple(str(k) for k in sorted({int(r.label) for r in rows if r.label is not None}))
    if not rows:
        raise DataError("The array of images is empty.", fix="give at least 5 images of each class")
    if len({block.shape[1:] for block in images}) > 1:
        raise DataError(
            f"Train and test images differ in shape: {', '.join(str(list(b.shape[1:])) for b in images)}.", fix="give both the same height, width and channels"
        )
    return Listing(name, tuple(rows), ArrayReader(images[0] if len(images) == 1 else np.concatenate(images)), classes=classes)


def list_digits(n: int | None = None) -> Listing:
    """Scikit-learn's bundled digits: 1,797 scans of 8x8, values 0 to 16 stretched to 0 to 255.

    With `n`, `n` of each class are train and the rest are test; without, there are no splits. The scans come writer by writer, so the
    `n` are drawn across the whole file (by content): the first ones would all be in the hands of few people.
    """
    table = _digits_table()
    x = np.rint(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    y = table[:, 64].astype(np.int64)
    classes = [str(k) for k in range(10)]
    if n is None:
        return list_arrays({"x": x, "y": y, "classes": classes}, name="digits")
    least = int(np.bincount(y).min())
    if not 1 <= n < least:
        raise DataError(f"digits:{n} asks for {n} images of each class for training.", fix=f"ask for 1 to {least - 1}")
    few = np.zeros(len(y), dtype=bool)
    for k in range(10):
        rows = sorted(np.flatnonzero(y == k), key=lambda i: seed_of("digits", pixel_digest(x[i][..., None])))
        few[rows[:n]] = True
    return list_arrays({"x_train": x[few], "y_train": y[few], "x_test": x[~few], "y_test": y[~few], "classes": classes}, name=f"digits-{n}")


def pair(source: Sequence[Any]) -> dict[str, Any]:
    """(x, y) or (x_train, y_train, x_test, y_test) as named arrays."""
    names = {2: ("x", "y"), 4: ("x_train", "y_train", "x_test", "y_test")}.get(len(source))
    if names is None:
        raise DataError(f"{len(source)} arrays were given.", fix="give (x, y) or (x_train, y_train, x_test, y_test)")
    return dict(zip(names, source, strict=True))


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """DataError for an archive that unpacks to more than the machine has memory: a few bytes can be written so that they do."""
    size = sum(member.file_size for member in archive.infolist())
    if size > memory():
        raise DataError(f"{path.name} unpacks to {size / 1e9:.0f} GB.", fix="give a folder of images, or fewer of them")


def _column(values: Any, name: str) -> Any:
    if np.ndim(values) != 1:
        raise DataError(f"{name} is {list(np.shape(values))}.", fix="give one value an image, or of classes one name each")
    _check_letters(np.asarray(values), name)
    return values


def _check_letters(values: np.ndarray, name: str) -> None:
    """DataError for text with what is no letter of Unicode: NumPy reads it, and Python fails on it, sooner or later."""
    if values.dtype.kind == "U" and values.size and values.dtype.itemsize:
        points = np.ascontiguousarray(values).view(f"{values.dtype.byteorder}u4")
        if ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any():
            raise DataError(f"{name} holds text that is none.", fix="save it again with plain text: numpy.asarray(..., dtype=str)")


def _uint8(x: np.ndarray, name: str) -> np.ndarray:
    if x.ndim == 3:
        x = x[..., None]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3) or 0 in x.shape[1:]:
        fix = "scale to 0 to 255 and convert: x.round().astype('uint8')" if x.dtype != np.uint8 else "give uint8 [n, h, w] or [n, h, w, 1 or 3]"
        raise DataError(f"{name} is {x.dtype} {list(x.shape)}.", fix=fix)
    return np.ascontiguousarray(x)


def _digits_table() -> np.ndarray:
    """The 1,797 x 65 numbers of scikit-learn's digits; from its file where it has always been, since its import takes a second."""
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
