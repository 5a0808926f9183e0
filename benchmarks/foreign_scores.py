"""Which score of strangeness tells foreign images best, for small models of few real images: the headline of `metrics/detection.py` rests on it.

    MITATE_DATA=folder python benchmarks/foreign_scores.py [--sets coffee_leaf,bccd_cells,...] [--images 300] [--steps 300] [--seeds 2] [--near 2]

A model is trained on at most `--images` images of one set; held-out images of that set stand against images of each other set. With `--near` they
stand against held-out images of their own set, of a class that the model was not shown: each of so many classes of a set is left out in turn. One
JSON line a pair and seed, with the AUROC and the share accepted of each score; then the mean over pairs and how often each was best.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mitate as mi
from mitate.generator import Pixels
from mitate.metrics import detection as de
from mitate.recipe import parse
from mitate.runtime import seed_of, torch_threads
from mitate.training.augmentation import flips_are_safe
from mitate.training.backbones import small
from mitate.training.loop import Training, read_off, train

SETS = ("coffee_leaf", "bccd_cells", "grocery_fruit", "fashion_mnist.npz", "cifar10_lossless.npz")
SIZE, HELD = 64, 300


def taken(data: str, split: str, most: int, seed: int) -> Pixels:
    """At most `most` images of a split, by the seed."""
    source = Path(os.environ["MITATE_DATA"]) / data
    images = mi.open_images(source / split) if source.is_dir() else mi.open_images(source, split=split)
    rows = np.sort(np.random.default_rng(seed_of("taken", data, split, seed)).permutation(len(images))[:most])
    some = images.subset(rows)
    return Pixels(some.pixels(size=SIZE, channels=3), some.y, len(images.classes))


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--sets", default=",".join(SETS))
    asked.add_argument("--images", type=int, default=300)
    asked.add_argument("--steps", type=int, default=300)
    asked.add_argument("--seeds", type=int, default=2)
    asked.add_argument("--near", type=int, default=0, help="classes of each set that are left out in turn; 0: other sets are foreign")
    given = asked.parse_args()
    rows = []
    for seed in range(given.seeds):
        held = {data: taken(data, "test", HELD, seed) for data in given.sets.split(",")}
        for data in held:
            real = taken(data, "train", given.images, seed)
            if given.near:
                order = np.random.default_rng(seed_of("left out", data, seed)).permutation(real.n_classes)
                cases = [(without(real, k), without(held[data], k), {f"class {k}": of_class(held[data], k)}) for k in order[: given.near].tolist()]
            else:
                cases = [(real, held[data], {other: images for other, images in held.items() if other != data})]
            for shown, known, foreign in cases:
                rows += sorted_out(data, shown, known, foreign, steps=given.steps, seed=seed)
    for by in rows[0]["scores"]:
        table = np.array([row["scores"][by] for row in rows])
        best = sum(max(row["scores"], key=lambda name: row["scores"][name][0]) == by for row in rows)
        worst = sum(min(row["scores"], key=lambda name: row["scores"][name][0]) == by for row in rows)
        auroc, accepted = table[:, 0], table[:, 1]
        print(f"{by:12} AUROC {auroc.mean():.3f} (least {auroc.min():.3f}), accepted {accepted.mean():.3f}, best {best}, worst {worst} of {len(rows)}")


def sorted_out(data: str, real: Pixels, known: Pixels, foreign: Mapping[str, Pixels], *, steps: int, seed: int) -> list[dict[str, Any]]:
    """A row for each foreign set of 10 images or more, by one model trained on `real`."""
    started = time.perf_counter()
    training = Training(steps=steps, flip=flips_are_safe(real.x, real.y))
    build: Callable[[], object] = partial(small, shape=real.x.shape[1:], n_classes=real.n_classes)  # type: ignore[arg-type]
    with torch_threads():
        model = train(parse("real+augment"), build, real=real, synthetic=None, training=training, seed=seed)  # type: ignore[arg-type]
        own, seen = (de.Seen(*read_off(model, some.x)) for some in (real, known))
        others = {name: de.Seen(*read_off(model, some.x)) for name, some in foreign.items() if len(some.x) >= de.LEAST}
    accuracy = float((seen.logits.argmax(axis=1) == known.y).mean())
    rows = []
    for other, strangers in others.items():
        found: dict[str, list[float]] = {}
        for by, strange in scores(own, real.y).items():
            pair = strange(seen), strange(strangers)
            found[by] = [round(de.foreign_auroc(*pair).value, 4), round(de.foreign_accepted(*pair).value, 4)]
        rows.append({"what": "foreign_scores", "known": data, "foreign": other, "seed": seed, "accuracy": round(accuracy, 3), "scores": found})
        print(json.dumps(rows[-1] | {"seconds": round(time.perf_counter() - started, 1)}), flush=True)
    return rows


def without(images: Pixels, k: int) -> Pixels:
    """The images of all classes but k, which are numbered anew."""
    kept = images.y != k
    return Pixels(images.x[kept], images.y[kept] - (images.y[kept] > k), images.n_classes - 1)


def of_class(images: Pixels, k: int) -> Pixels:
    return Pixels(images.x[images.y == k], images.y[images.y == k], images.n_classes)


def scores(train: de.Seen, y: np.ndarray) -> dict[str, Callable[[de.Seen], np.ndarray]]:
    """The scores of the package, and the largest logit (Hendrycks et al. 2022), which it does not have."""
    return {
        "energy": lambda seen: de.energy(seen.logits), "doubt": lambda seen: de.doubt(seen.logits), "max_logit": lambda seen: -seen.logits.max(axis=1),
        "far": lambda seen: de.far(seen.features, train.features), "mahalanobis": lambda seen: de.mahalanobis(seen.features, train.features, y),
    }  # fmt: skip


if __name__ == "__main__":
    main()
