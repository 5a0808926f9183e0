"""Images from any outside tool as a generator: a folder that holds one folder a class.

A folder is finite and seeds are not, so no map from seeds to images can be pure and free of repeats at once. What holds instead:
the images of a class have an order fixed by their content; seed i points at a place in it; where that image is taken by an earlier
row of the same call, the next free one is. So a call never shows an image twice, and image i of a class depends on seeds 0 to i:
asking for more keeps the first ones. Only splitting one call in two may show an image twice; draw a folder in one call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from mitate import codec
from mitate.errors import DataError
from mitate.generator import Pixels
from mitate.progress import Progress
from mitate.runtime import seed_of
from mitate.settings import digest


@dataclass(frozen=True)
class Folder:
    """Settings of the folder generator. The path names no content: use `content()` where a result is named."""

    version: ClassVar[int] = 1

    path: str = ""  # a folder with class folders, named as the real classes are; upper and lower case do not matter

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        """Copy the images, centre squares at the size of `train`, so that nothing depends on the outside folder any more.

        `selection`, `seed` and `checkpoint` are not used: nothing is learnt.
        """
        height, _, channels = train.x.shape[1:]
        found = self._files()
        classes = train.classes or tuple(sorted(found))
        if not train.classes and len(found) != train.n_classes:
            raise DataError(f"{self.path} has {len(found)} class folders, the real images {train.n_classes} classes.", fix="keep one folder a class")
        missing = [name for name in classes if name.casefold() not in found]
        if missing:
            raise DataError(f"{self.path} has no folder for class {missing[0]!r}.", fix=f"add {missing[0]}/ with images; there are " + ", ".join(sorted(found)))
        total, done, twice = sum(len(found[name.casefold()]) for name in classes), 0, 0
        pixels, labels = [], []
        for k, name in enumerate(classes):
            images: dict[str, np.ndarray] = {}
            for file in found[name.casefold()]:
                picture = codec.decode(file)
                twice += picture.digest in images
                images[picture.digest] = codec.resize(picture.pixels, height, channels)
                done += 1
                progress.step(done, total)
            for key in sorted(images, key=lambda key: seed_of("folder", key)):
                pixels.append(images[key])
                labels.append(k)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"x": np.stack(pixels), "y": np.array(labels, dtype=np.int64)}, folder / "images.safetensors")
        (folder / "generator.json").write_text(json.dumps({"classes": list(classes)}, sort_keys=True, ensure_ascii=False) + "\n")
        counts = np.bincount(labels, minlength=len(classes))
        facts: dict[str, Any] = {"parameters": 0, "steps": 0, "best_step": 0, "best_loss": None, "curve": []}
        return facts | {"images": {name: int(counts[k]) for k, name in enumerate(classes)}, "repeated_files": twice}

    def load(self, folder: Path) -> Shelf:
        tensors = load_file(folder / "images.safetensors")
        return Shelf(tensors["x"], tensors["y"], tuple(json.loads((folder / "generator.json").read_text())["classes"]))

    def content(self) -> str:
        """Digest of what is in the folder: class names and pixels, not paths. Reads every image."""
        found = self._files()
        return digest("mitate.folder", {name: sorted(codec.decode(file).digest for file in files) for name, files in found.items()})

    @classmethod
    def default_for(cls, shape: tuple[int, int, int], n_train: int) -> Folder:
        raise DataError("A folder generator needs a folder.", fix="write it as folder:PATH")

    def _files(self) -> dict[str, list[Path]]:
        """Image files of each class folder, by the folder's name in lower case."""
        root = Path(self.path)
        if not self.path or not root.is_dir():
            raise DataError(f"There is no folder {self.path!r}.", fix="give a folder that holds one folder of images a class")
        found: dict[str, list[Path]] = {}
        for inner in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
            files = [path for path in sorted(inner.rglob("*")) if path.suffix.lower() in codec.SUFFIXES and path.is_file()]
            if files:
                found.setdefault(inner.name.casefold(), []).extend(files)
        if not found:
            raise DataError(f"{self.path} has no class folder with images.", fix="put the images of each class into a folder of that name")
        return found


class Shelf:
    """Images on a shelf, those of a class in an order fixed by their content."""

    def __init__(self, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> None:
        self.classes, self.n_classes = classes, len(classes)
        self.shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
        self._x = x
        self._rows = [np.flatnonzero(y == k) for k in range(len(classes))]

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """Images without replacement; raises DataError where more are asked for than there are."""
        seeds, conditions = np.asarray(seeds), np.asarray(conditions)
        for k, wanted in enumerate(np.bincount(conditions, minlength=self.n_classes)):
            if wanted > len(self._rows[k]):
                message = f"{wanted} images of class {self.classes[k]!r} are wanted, the folder has {len(self._rows[k])} different ones."
                raise DataError(message, fix=f"ask for at most {len(self._rows[k])} a class, or add images")
        taken: set[int] = set()
        out = np.empty((len(seeds), *self.shape), dtype=np.uint8)
        for i, (seed, k) in enumerate(zip(seeds, conditions, strict=True)):
            rows = self._rows[k]
            place = seed_of("place", int(seed)) % len(rows)
            while int(rows[place]) in taken:
                place = (place + 1) % len(rows)
            taken.add(int(rows[place]))
            out[i] = self._x[rows[place]]
        return out
