"""Does an assessment catch what a buyer would expect it to catch, on the right axis and only there?

    MITATE_DATA=folder python benchmarks/assess_sanity.py [--sets coffee_leaf,bccd_cells] [--which ...] [--axes ...] [--repeats 1] [--summary]

Real photographs are cut in two halves: one is the real set, the other plays the synthetic one, spoilt in one known way. The test images are
held out. Eight sets:

    fresh            nothing spoilt: every flag is a false alarm
    copies           images of the real half
    noisy copies     the same in noise of 4 grey levels
    collapsed        a dozen images again and again, each time a little lighter or darker
    blurred          a Gaussian of 1.5 pixels
    shifted          warmer colours
    mislabelled      every label another one
    foreign          photographs of another kind

One JSON line a set and repeat, in results/assess_sanity.jsonl; finished rows are skipped. `--which fresh --axes privacy,fidelity,diversity,style
--repeats 20` counts false alarms without any training.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import cells
import mitate as mi
from mitate.images import ImageSet
from mitate.runtime import seed_of
from mitate.store import Store

AXES = ("privacy", "fidelity", "diversity", "style", "utility")
EXPECTED = {
    "fresh": set(), "copies": {"privacy"}, "noisy copies": {"privacy", "style"}, "collapsed": {"diversity"}, "blurred": {"fidelity", "style"},
    "shifted": {"style"}, "mislabelled": {"utility"}, "foreign": {"fidelity", "style"},
}  # fmt: skip
FOREIGN = {"coffee_leaf": "bccd_cells", "bccd_cells": "coffee_leaf"}
SIZE, KEPT, STEPS = 64, 12, 150  # pixels; images that a collapsed set repeats; optimiser steps of each training
BAD = {"worse", "leaks"}


def opened(data: str, split: str) -> ImageSet:
    return mi.open_images(Path(os.environ["MITATE_DATA"]) / data / split)


def spoilt(which: str, data: str, pool: ImageSet, real: ImageSet, seed: int) -> ImageSet:
    """The synthetic set of one row, as large as the pool."""
    rng = np.random.default_rng(seed)
    x, y = pool.pixels(size=SIZE, channels=3), pool.y
    if which == "foreign":
        other = opened(FOREIGN[data], "train")
        x = other.subset(rng.permutation(len(other))[: len(pool)]).pixels(size=SIZE, channels=3)
        y = y[: len(x)]
    if which in ("copies", "noisy copies"):
        rows = rng.permutation(len(real))[: len(pool)]
        x, y = real.pixels(size=SIZE, channels=3)[rows], real.y[rows]
    if which == "collapsed":
        rows = np.concatenate([rng.choice(np.flatnonzero(y == k), max(1, KEPT // len(pool.classes)), replace=False) for k in range(len(pool.classes))])
        rows = np.resize(rows, len(pool))
        gain, shift = rng.uniform(0.95, 1.05, (len(rows), 1, 1, 1)), rng.uniform(-5, 5, (len(rows), 1, 1, 1))
        x, y = np.clip(x[rows] * gain + shift, 0, 255).round().astype(np.uint8), y[rows]
    if which == "noisy copies":
        x = np.clip(x + rng.normal(0, 4, x.shape), 0, 255).round().astype(np.uint8)
    if which == "blurred":
        x = ndimage.gaussian_filter(x.astype(np.float32), (0, 1.5, 1.5, 0)).round().astype(np.uint8)
    if which == "shifted":
        x = np.clip(x.astype(np.float32) * (1.12, 1.0, 0.88) + (8, 0, -8), 0, 255).round().astype(np.uint8)
    if which == "mislabelled":
        y = (y + rng.integers(1, len(pool.classes), len(y))) % len(pool.classes)
    return mi.from_arrays(x, y, classes=pool.classes, name=which)


def row(data: str, which: str, repeat: int, features: str, axes: tuple[str, ...]) -> dict[str, Any]:
    whole, held = opened(data, "train"), opened(data, "test")
    order = np.random.default_rng(seed_of("halves", data, repeat)).permutation(len(whole))
    real, pool = whole.subset(np.sort(order[::2])), whole.subset(np.sort(order[1::2]))
    fakes = spoilt(which, data, pool, real, seed_of("spoilt", data, which, repeat))
    found = mi.assess(fakes, real=real, held_out=held, features=features, axes=axes, size=SIZE, steps=STEPS, store=Store.find())
    states = {axis: facts["state"] for axis, facts in found.facts["axes"].items()}
    sizes = {role: facts["images"] for role, facts in found.facts["sets"].items()}
    scores = {
        f"{s.axis}.{s.metric}": {k: v if v is None or isinstance(v, str) else float(f"{v:.4g}") for k, v in (
            ("value", s.value), ("low", s.low), ("high", s.high), ("floor", s.floor), ("beside", s.beside)) if v is not None}
        for s in found.scores if s.value is not None
    }  # fmt: skip
    return {"data": data, "which": which, "repeat": repeat, "features": features, "axes": list(axes), "images": sizes, "states": states, "scores": scores}


def summary(rows: list[dict[str, Any]]) -> int:
    """Print how often each axis was flagged; the number of rows in which an expected axis was missed."""
    print("| Data | Set | " + " | ".join(AXES) + " | expected |")
    print("|---|---|" + "---|" * (len(AXES) + 1))
    missed = 0
    for data, which in dict.fromkeys((r["data"], r["which"]) for r in rows):
        mine = [r for r in rows if (r["data"], r["which"]) == (data, which)]
        shown = []
        for axis in AXES:
            asked = [r for r in mine if axis in r["axes"]]
            flags = sum(r["states"][axis] in BAD for r in asked)
            missed += (len(asked) - flags) * (axis in EXPECTED[which])
            shown.append((f"**{flags}** of {len(asked)}" if flags else f"0 of {len(asked)}") if asked else "")
        print(f"| {data} | {which} | {' | '.join(shown)} | {', '.join(a for a in AXES if a in EXPECTED[which]) or 'nothing'} |")
    return missed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default="coffee_leaf,bccd_cells")
    options.add_argument("--which", default=",".join(EXPECTED))
    options.add_argument("--axes", default=",".join(AXES))
    options.add_argument("--features", default="mitate-small")
    options.add_argument("--repeats", type=int, default=1)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "assess_sanity.jsonl")
    options.add_argument("--summary", action="store_true", help="print the table of the kept results; exit code 1 where an expected flag is missing")
    given = options.parse_args()
    if given.summary:
        sys.exit(1 if summary(cells.read(given.out)) else 0)
    axes = tuple(given.axes.split(","))
    wanted = [(data, which, r) for r in range(given.repeats) for data in given.sets.split(",") for which in given.which.split(",")]
    names = [{"data": d, "which": w, "repeat": r, "features": given.features, "axes": list(axes)} for d, w, r in wanted]
    jobs = [(name, lambda name=name: row(name["data"], name["which"], name["repeat"], name["features"], axes)) for name in names]
    cells.fill(given.out, jobs, tell=lambda _, row: f"{row['data']} {row['which']}: {row['states']}")
    summary(cells.read(given.out))


if __name__ == "__main__":
    main()
