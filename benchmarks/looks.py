"""Do the from-scratch generators look right, and how fast? Each family at its preset, by images a class.

    MITATE_DATA=folder python benchmarks/looks.py [--sets fashion_mnist,coffee_leaf,bccd_cells] [--per-class 10,20,100,1000] [--families vae,gan,diffusion]
    python benchmarks/looks.py --summary

`recognised` is the share of 100 images a class that a judge labels as asked. The judge is one small network a set, trained with augmentation on real
images: of Fashion-MNIST on 9,000 that no generator sees, of the small sets on all there are. Its share of held-out images is the ceiling beside it.
`copies` is the gate of a pilot (nearest training image less than half as far as its next ten on average) beside the same share of fresh real images,
with the interval of the difference. `kernel` is the kernel distance of 1,000 images to fresh real ones in mitate-small's features, beside that of
training images. Seconds are those of one processor core. A grid of each cell goes to --grids. One JSON line a cell; finished cells are skipped.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import cells
from mitate import registry
from mitate.features.extractor import extractor
from mitate.fitted import options_of
from mitate.generator import Pixels, image_seeds
from mitate.intake.opening import open_images
from mitate.metrics import neighbours, privacy
from mitate.metrics.intervals import Interval, wilson
from mitate.metrics.kernel import kernel_distance
from mitate.progress import Silent
from mitate.recipe import parse
from mitate.runtime import seed_of, torch_threads
from mitate.settings import from_text
from mitate.studies.evidence import write_picture
from mitate.training.backbones import small
from mitate.training.loop import Training, predict, train

OUT = Path(__file__).parent / "results" / "looks.jsonl"
SETS = {"fashion_mnist": 28, "coffee_leaf": 64, "bccd_cells": 64}
MADE = 100  # images of a class
JUDGE_STEPS = 3000
SHOWN = 10  # images of a class in a grid


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default=",".join(SETS))
    options.add_argument("--per-class", default="10,20,100,1000")
    options.add_argument("--families", default="vae,gan,diffusion")
    options.add_argument("--replicates", default="0")
    options.add_argument("--option", action="append", default=[], help="name=value of the family's settings; names the cell")
    options.add_argument("--grids", type=Path, default=Path("runs/looks"))
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if given.summary:
        print(summary(cells.read(given.out)))
        return
    given.grids.mkdir(parents=True, exist_ok=True)
    todo = [
        (
            {"set": name, "per_class": n, "family": family, "replicate": r, "options": given.option},
            partial(measure, name, n, family, r, given.option, given.grids),
        )
        for name in given.sets.split(",")
        for n in (int(n) for n in given.per_class.split(","))
        for r in (int(r) for r in given.replicates.split(","))
        for family in given.families.split(",")
    ]
    cells.fill(
        given.out,
        todo,
        tell=lambda name, row: f"{name}: recognised {row['recognised'][0]:.3f}, fit {row['fit_seconds']:.0f} s, {row['images_a_second']:.0f} images/s",
    )


class Real:
    """The real images of a set: train in an order fixed by a seed, and fresh ones that no generator sees."""

    def __init__(self, name: str) -> None:
        size, folder = SETS[name], Path(os.environ["MITATE_DATA"])
        if name == "fashion_mnist":
            data = np.load(folder / "fashion_mnist.npz", allow_pickle=False)
            order = np.random.default_rng(seed_of("looks", name)).permutation(len(data["x_train"]))
            x, y = data["x_train"][order][..., None], data["y_train"][order].astype(np.int64)
            self.train, self.others = Pixels(x[:11000], y[:11000], 10), Pixels(x[11000:], y[11000:], 10)
            self.fresh = Pixels(data["x_test"][:4000][..., None], data["y_test"][:4000].astype(np.int64), 10)
        else:
            parts = [open_images(folder / name / part) for part in ("train", "test")]
            self.train, self.fresh = (Pixels(p.pixels(size=size, channels=3), p.y, len(p.classes)) for p in parts)
            self.others = Pixels(np.concatenate([self.train.x, self.fresh.x]), np.concatenate([self.train.y, self.fresh.y]), self.train.n_classes)
        order = np.random.default_rng(seed_of("looks rows", name)).permutation(len(self.train.y))
        self.rows = [order[self.train.y[order] == k] for k in range(self.train.n_classes)]

    @functools.cached_property
    def judge(self) -> nn.Module:
        """A classifier trained on images that no generator of these sizes sees; of the small sets on all there are."""
        with torch_threads():
            return train(
                parse("real+augment"), lambda: small(shape=self.others.x.shape[1:], n_classes=self.others.n_classes), real=self.others, synthetic=None,
                training=Training(steps=JUDGE_STEPS, batch=64), seed=0,
            )  # fmt: skip

    @functools.cached_property
    def ceiling(self) -> float:
        with torch_threads():
            return float((predict(self.judge, self.fresh.x).argmax(axis=1) == self.fresh.y).mean())

    def parts(self, per_class: int, replicate: int) -> tuple[Pixels, Pixels]:
        """Images for the fit and a fifth of them to stop by, as `mitate fit` keeps."""
        fifth = max(1, per_class // 5)
        found = []
        for low, high in ((fifth, per_class), (0, fifth)):
            rows = np.concatenate([np.roll(mine, -replicate * per_class)[low:high] for mine in self.rows])
            found.append(Pixels(self.train.x[rows], self.train.y[rows], self.train.n_classes))
        return found[0], found[1]


@functools.cache
def real(name: str) -> Real:
    return Real(name)


def measure(name: str, per_class: int, family: str, replicate: int, options: list[str], grids: Path) -> cells.Row | None:
    """One fit and its images; None where the set has too few."""
    images = real(name)
    if min(map(len, images.rows)) < per_class:
        return None
    fitted, selection = images.parts(per_class, replicate)
    shape = fitted.x.shape[1:]
    kind = options_of(registry.find("generator", family)(), shape, len(fitted.y))
    if options:
        kind = replace(kind, **{o.partition("=")[0]: getattr(from_text(type(kind), options, where="--option"), o.partition("=")[0]) for o in options})
    seed = seed_of("looks", name, per_class, replicate)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "fitted"
        place.mkdir()
        started = time.process_time()
        facts = kind.fit(fitted, selection, seed=seed, folder=place, checkpoint=Path(folder) / "checkpoint", progress=Silent())
        fit_seconds = time.process_time() - started
        drawn = kind.load(place)
        y = np.repeat(np.arange(fitted.n_classes), MADE)
        drawn.sample(image_seeds(1, 32, condition=0), y[:32])
        seeds = np.concatenate([image_seeds(seed, MADE, condition=k) for k in range(fitted.n_classes)])
        started = time.process_time()
        x = drawn.sample(seeds, y)
        draw_seconds = time.process_time() - started
    with torch_threads():
        right = predict(images.judge, x).argmax(axis=1) == y
    copied = privacy.copies(privacy.features(x), privacy.features(fitted.x), privacy.features(images.fresh.x))
    grid(x, fitted, grids / f"{name}-{per_class}-{family}{'-'.join(['', *options])}-{replicate}.png")
    chance = np.random.default_rng(0)
    some, fresh, old = (chance.permutation(n)[:1000] for n in (len(x), len(images.fresh.x), len(fitted.x)))
    look = extractor()
    seen, own, true = (look(part) for part in (x[some], fitted.x[old], images.fresh.x[fresh]))
    return {
        "set": name, "per_class": per_class, "family": family, "replicate": replicate, "options": options,
        "recognised": told(wilson(int(right.sum()), len(right))), "ceiling": round(images.ceiling, 4),
        "by_class": [round(float(right[y == k].mean()), 3) for k in range(fitted.n_classes)],
        "copies": told(copied.share), "copies_floor": told(copied.floor), "copies_excess": told(copied.excess),
        "kernel": told(kernel_distance(true, seen)), "kernel_train": told(kernel_distance(true, own)),
        **varied(true, seen), **varied(true, own, "_train"),
        "fit_seconds": round(fit_seconds, 1), "images_a_second": round(len(y) / draw_seconds, 1),
        "steps": facts.get("steps"), "best_step": facts.get("best_step"), "parameters": facts.get("parameters"),
    }  # fmt: skip


def varied(true: np.ndarray, seen: np.ndarray, suffix: str = "") -> cells.Row:
    found = neighbours.neighbourhood(true, seen)
    return {f"coverage{suffix}": round(neighbours.coverage(found), 4), f"recall{suffix}": round(neighbours.recall(found).value, 4)}


def told(value: Interval) -> list[float]:
    return [round(v, 5) for v in (value.value, value.low, value.high)]


def grid(x: np.ndarray, fitted: Pixels, path: Path) -> None:
    """A row a class: generated images, and two of those fitted on at the left; `alone-...` without these and marked as synthetic, as the docs show them."""
    made = [np.concatenate(list(x[k * MADE : k * MADE + SHOWN]), axis=1) for k in range(fitted.n_classes)]
    gap = np.full((x.shape[1], 4, x.shape[3]), 255, np.uint8)
    sheet = np.concatenate([np.concatenate([*fitted.x[fitted.y == k][:2], gap, row], axis=1) for k, row in enumerate(made)])
    write_picture(path, sheet, synthetic=False)
    write_picture(path.with_name(f"alone-{path.name}"), np.concatenate(made), synthetic=True)


def summary(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| Set | n a class | Family | Recognised, % | Ceiling | Copies, % (fresh) | Kernel (training) | Coverage (training) | Recall | Core-s | Images/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda r: (r["set"], r["per_class"], r["family"], r["replicate"])):
        value, low, high = (100 * v for v in row["recognised"])
        copies, fresh, ceiling = (100 * v for v in (row["copies"][0], row["copies_floor"][0], row["ceiling"]))
        name = row["family"] + "".join(f" {o}" for o in row["options"])
        lines.append(
            f"| {row['set']} | {row['per_class']:,} | {name} | {value:.1f} ({low:.1f} to {high:.1f}) | {ceiling:.1f} | {copies:.1f} ({fresh:.1f}) "
            f"| {row['kernel'][0]:.4f} ({row['kernel_train'][0]:.4f}) "
            f"| {row['coverage']:.2f} ({row['coverage_train']:.2f}) | {row['recall']:.2f} | {row['fit_seconds']:.0f} | {row['images_a_second']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
