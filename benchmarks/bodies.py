"""What a body that was trained before is worth with few images: `small` from scratch, and mitate-small, frozen and trained on.

    MITATE_DATA=folder python benchmarks/bodies.py [--sets coffee_leaf,bccd_cells,cifar10] [--per-class 10,50] [--replicates 5]
    python benchmarks/bodies.py --summary

The arm real+augment at 300 steps of 32, as a pilot trains its baseline; 64 px (CIFAR-10 at its own 32); accuracy on the whole test split (CIFAR-10: 2,000
images of it), core seconds of the training. Replicates differ by the images drawn and the seed, and are paired between bodies. mitate-small saw none of these
sets (src/mitate/weights/mitate-small.md). One JSON line a training in results/bodies.jsonl; finished ones are skipped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

import cells
from mitate import registry
from mitate.generator import Pixels
from mitate.intake.opening import open_images
from mitate.recipe import parse
from mitate.runtime import torch_threads
from mitate.training.augmentation import flips_are_safe
from mitate.training.loop import Training, predict, train

OUT = Path(__file__).parent / "results" / "bodies.jsonl"
SIZE, TESTED = 64, 2000
BODIES = {"small": ("small", False), "mitate-small+frozen": ("mitate-small", True), "mitate-small": ("mitate-small", False)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default="coffee_leaf,bccd_cells,cifar10")
    options.add_argument("--per-class", default="10,50")
    options.add_argument("--replicates", type=int, default=5)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [
            {"set": name, "per_class": int(n), "replicate": r, "body": body}
            for r in range(given.replicates) for name in given.sets.split(",") for n in given.per_class.split(",") for body in BODIES
        ]  # fmt: skip
        cells.fill(given.out, [(name, partial(measure, name)) for name in names], tell=lambda n, r: f"{n}: {r['accuracy']}, {r['seconds']} s")
    print(summary(cells.read(given.out)))


@cache
def task(name: str) -> tuple[Pixels, Pixels]:
    """Images to draw from, and the test split."""
    folder = Path(os.environ["MITATE_DATA"])
    if name == "cifar10":
        data = np.load(folder / "cifar10_lossless.npz", allow_pickle=False)
        train_, test = ((data[f"x_{part}"], data[f"y_{part}"].astype(np.int64)) for part in ("train", "test"))
        return Pixels(*train_, 10), Pixels(test[0][:TESTED], test[1][:TESTED], 10)
    parts = [open_images(folder / name / part) for part in ("train", "test")]
    found = [Pixels(p.pixels(size=SIZE, channels=3), p.y, len(p.classes)) for p in parts]
    return found[0], found[1]


def measure(name: cells.Row) -> cells.Row | None:
    pool, test = task(name["set"])
    chance = np.random.default_rng([name["replicate"], name["per_class"]])
    rows = [chance.permutation(np.flatnonzero(pool.y == k))[: name["per_class"]] for k in range(pool.n_classes)]
    if min(map(len, rows)) < name["per_class"]:
        return None
    mine = np.concatenate(rows)
    shots = Pixels(pool.x[mine], pool.y[mine], pool.n_classes)
    kind, frozen = BODIES[name["body"]]
    build = partial(registry.find("backbone", kind), shape=shots.x.shape[1:], n_classes=shots.n_classes, frozen=frozen)
    training = Training(flip=flips_are_safe(shots.x, shots.y))
    with torch_threads():
        started = time.process_time()
        net = train(parse("real+augment"), build, real=shots, synthetic=None, training=training, seed=name["replicate"], pretrained=kind != "small")
        seconds = time.process_time() - started
        right = float((predict(net, test.x).argmax(axis=1) == test.y).mean())
    return {**name, "accuracy": round(right, 4), "seconds": round(seconds, 1)}


def summary(rows: Sequence[cells.Row]) -> str:
    lines = ["| Set | A class | Body | Accuracy, % (95 %) | Less `small`, points (95 %) | Core s | n |", "|" + "---|" * 7]
    for key in dict.fromkeys((r["set"], r["per_class"], r["body"]) for r in rows):
        own, rival = ({r["replicate"]: r for r in rows if (r["set"], r["per_class"], r["body"]) == (*key[:2], body)} for body in (key[2], "small"))
        both = sorted(set(own) & set(rival))
        gap = cells.interval([100 * (own[r]["accuracy"] - rival[r]["accuracy"]) for r in both], 1) if key[2] != "small" and both else ""
        seconds = statistics.median(r["seconds"] for r in own.values())
        right = cells.interval([100 * r["accuracy"] for r in own.values()], 1)
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {right} | {gap} | {seconds:.1f} | {len(own)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
