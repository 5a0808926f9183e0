"""Near-duplicate finding: recall on made copies, false alarms on real sets. One JSON line a data set.

    MITATE_DATA=folder python benchmarks/bench_near_duplicates.py [digits fashion_mnist ...]

A false alarm is a pair found in the set as it came (looked at by eye, some are real copies: the names are printed). Recall adds
copies of up to 100 images, one kind at a time, and asks for the pair (copy, original).
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mitate import codec
from mitate.intake.duplicates import near_duplicates, thumbnail


def main() -> None:
    root = Path(os.environ["MITATE_DATA"])
    for name in sys.argv[1:] or ["digits", "fashion_mnist", "fashion_20", "coffee_leaf", "bccd_cells", "kmnist", "cifar10", "omniglot", "grocery_fruit"]:
        images, names = load(root, name)
        thumbs, sides = np.stack([thumbnail(p) for p in images]), np.array([min(p.shape[:2]) for p in images])
        started = time.perf_counter()
        found = near_duplicates(thumbs, sides)
        seconds = time.perf_counter() - started
        already = {(p.a, p.b) for p in found}
        pick = np.random.default_rng(0).choice(len(images), min(100, len(images)), replace=False)
        some = np.random.default_rng(1).permutation(len(images))[:3000]
        keep = np.unique(np.concatenate([pick, some]))
        where = {int(i): k for k, i in enumerate(keep)}
        recall = {}
        for kind, change in COPIES.items():
            copies = [change(images[i]) for i in pick]
            more = np.stack([thumbnail(c) for c in copies])
            pairs = near_duplicates(np.concatenate([thumbs[keep], more]), np.concatenate([sides[keep], [min(c.shape[:2]) for c in copies]]))
            hits = {(p.a, p.b) for p in pairs}
            recall[kind] = round(float(np.mean([(where[int(i)], len(keep) + k) in hits for k, i in enumerate(pick)])), 3)
        examples = [[names[p.a], names[p.b], round(p.residual, 5), round(p.residual / p.spacing, 4)] for p in found[:6]]
        line = {"what": "near duplicates", "data": name, "n": len(images), "pairs": len(already), "recall": recall}
        print(json.dumps({**line, "seconds": round(seconds, 3), "examples": examples}), flush=True)


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        out = io.BytesIO()
        codec.to_image(pixels).save(out, "JPEG", quality=quality)
        return codec.decode(out.getvalue()).pixels

    return change


def scale(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        image = codec.to_image(pixels)
        return _array(image.resize((max(8, round(image.width * factor)), max(8, round(image.height * factor))), Image.Resampling.BICUBIC))

    return change


def crop(left: float, right: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        image = codec.to_image(pixels)
        w, h = image.size
        return _array(image.resize((w, h), Image.Resampling.BICUBIC, box=(left * w, left * h, w - right * w, h - right * h)))

    return change


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg90": jpeg(90),
    "jpeg75": jpeg(75),
    "jpeg50": jpeg(50),
    "half size": scale(0.5),
    "three quarters": scale(0.75),
    "double size": scale(2),
    "crop 1% a side": crop(0.01, 0.01),
    "crop 2% of one corner": crop(0.02, 0.0),
    "crop 1% a side + jpeg75": lambda p: jpeg(75)(crop(0.01, 0.01)(p)),
    "brighter": lambda p: np.clip(p * 1.1 + 5, 0, 255).astype(np.uint8),
}


def load(root: Path, name: str) -> tuple[list[np.ndarray], list[str]]:
    if name == "digits":
        from sklearn.datasets import load_digits

        x = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
    elif name == "fashion_mnist":
        with np.load(root / "fashion_mnist.npz") as d:
            x = np.concatenate([d["x_train"], d["x_test"]])[..., None]
    elif name == "fashion_20":
        with np.load(root / "fashion_mnist.npz") as d:
            x = np.concatenate([d["x_train"][np.flatnonzero(d["y_train"] == k)[:20]] for k in range(10)])[..., None]
    elif name == "cifar10":
        with np.load(root / "cifar10_lossless.npz") as d:
            x = np.concatenate([d["x_train"], d["x_test"]])
    elif name in ("kmnist", "omniglot"):
        file = "kmnist_reference.npz" if name == "kmnist" else "omniglot_greek_reference.npz"
        with np.load(root / "few_shot" / file) as d:
            x = (d["x"] * (255 if d["x"].max() <= 1 else 1)).astype(np.uint8)[..., None]
    else:
        files = [f for f in sorted((root / name).rglob("*")) if f.suffix in codec.SUFFIXES]
        return [codec.decode(f).pixels for f in files], [f.relative_to(root / name).as_posix() for f in files]
    return list(x), [str(i) for i in range(len(x))]


def _array(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


if __name__ == "__main__":
    main()
