"""What differential privacy costs: accuracy of a classifier trained on synthetic images alone, against the epsilon of their generator.

    MITATE_DATA=folder python benchmarks/dp_price.py [--per-class 500] [--arms real,0,8,3,1] [--replicates 0,1,2] [--summary]

Fashion-MNIST, of which a replicate draws its own images for the generator (disjoint from those of the other replicates). All epsilons of a
replicate have the same images; 0 (no privacy) sets a fifth of them aside to stop in time, as `mitate fit` does, and has the preset of
such a fit; a private fit uses all, with the preset of private fits. Then 200 images a class are drawn and a small network is trained on
them with `synthetic+augment`; it is judged on the 10,000 test images. `real` is the same network on the real images themselves, with
`real+augment`. The presets of private fits were tried out on images of this kind, so elsewhere the price may be higher.

One JSON line a cell in results/dp_price.jsonl; finished cells are skipped, so a run that was broken off goes on. Seconds are those of one processor
core, as others may share it. `right` has one bit a test image, so that `--summary` can pair the answers: it prints the table, with the 95 % interval
of each difference over replicates and test images. These images are public, so noise comes from the replicate's seed: a new run gives the same.
"""

from __future__ import annotations

import argparse
import base64
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cells
from mitate.generator import Pixels, image_seeds
from mitate.generators.private import plant_key
from mitate.generators.vae import VAE
from mitate.metrics.intervals import Interval, two_way
from mitate.progress import Silent
from mitate.recipe import parse
from mitate.runtime import seed_of, torch_threads
from mitate.settings import digest
from mitate.training.backbones import small
from mitate.training.loop import Training, predict, train

OUT = Path(__file__).parent / "results" / "dp_price.jsonl"
SHAPE, CLASSES = (28, 28, 1), 10
MADE = 200  # synthetic images of a class
REAL = "real"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--per-class", default="500")
    options.add_argument("--arms", default="real,0,8,3,1", help="real, and epsilons; 0 is no privacy")
    options.add_argument("--replicates", default="0,1,2")
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if given.summary:
        print(summary(cells.read(given.out)))
        return
    if hasattr(os, "nice"):
        os.nice(3)
    images = Images(Path(os.environ["MITATE_DATA"]) / "fashion_mnist.npz")
    arms: list[float | str] = [arm if arm == REAL else float(arm) for arm in given.arms.split(",")]
    todo = [
        ({"per_class": n, "arm": arm, "replicate": r}, partial(measure, images, n, arm, r))
        for r in (int(r) for r in given.replicates.split(","))
        for n in (int(n) for n in given.per_class.split(","))
        for arm in arms
    ]
    cells.fill(given.out, todo, tell=lambda name, row: f"{name}: accuracy {row['accuracy']:.3f}, {row['fit_seconds']:.0f} + {row['train_seconds']:.0f} s")


class Images:
    """Fashion-MNIST, its training images in an order fixed by a seed."""

    def __init__(self, path: Path) -> None:
        data = np.load(path, allow_pickle=False)
        self.x, self.y = data["x_train"][..., None], data["y_train"].astype(np.int64)
        self.test_x, self.test_y = data["x_test"][..., None], data["y_test"].astype(np.int64)
        order = np.random.default_rng(seed_of("dp price")).permutation(len(self.y))
        self._of_class = [order[self.y[order] == k] for k in range(CLASSES)]

    def part(self, per_class: int, replicate: int) -> list[np.ndarray]:
        """Rows of each class that belong to this replicate and to no other."""
        found = [rows[replicate * per_class : (replicate + 1) * per_class] for rows in self._of_class]
        if min(len(rows) for rows in found) < per_class:
            raise SystemExit(f"There are not {replicate + 1} x {per_class} images of every class.")
        return found

    def pixels(self, parts: list[np.ndarray]) -> Pixels:
        rows = np.sort(np.concatenate(parts))
        return Pixels(self.x[rows], self.y[rows], CLASSES)


def measure(images: Images, per_class: int, arm: float | str, replicate: int) -> cells.Row:
    """One generator (or none) and one classifier."""
    parts, seed = images.part(per_class, replicate), seed_of("dp price", per_class, replicate)
    started = time.process_time()
    made, facts = (None, {}) if arm == REAL else draw(images, parts, float(arm), seed)
    fitted = time.process_time()
    real = images.pixels(parts)
    with torch_threads():
        model = train(
            parse("real+augment" if made is None else "synthetic+augment"), lambda: small(shape=SHAPE, n_classes=CLASSES),
            real=real, synthetic=made, training=Training(), seed=seed,
        )  # fmt: skip
        right = predict(model, images.test_x).argmax(axis=1) == images.test_y
    return {
        "per_class": per_class, "arm": arm, "replicate": replicate, "accuracy": float(right.mean()),
        "fit_seconds": round(fitted - started, 1), "train_seconds": round(time.process_time() - fitted, 1), **facts,
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
    }  # fmt: skip


def draw(images: Images, parts: list[np.ndarray], epsilon: float, seed: int) -> tuple[Pixels, dict[str, Any]]:
    """Images of a VAE fitted on these rows, and what is told of its fit."""
    n = sum(len(rows) for rows in parts)
    if epsilon:
        kind, train_rows, selection_rows = VAE.private_for(SHAPE, n, epsilon=epsilon), parts, [rows[:0] for rows in parts]
    else:
        kind, fifth = VAE.default_for(SHAPE, n), len(parts[0]) // 5
        train_rows, selection_rows = [rows[fifth:] for rows in parts], [rows[:fifth] for rows in parts]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plant_key(folder / "checkpoint", bytes.fromhex(digest("mitate.dp-price", [epsilon, seed])))  # only private fits look at it
        facts = kind.fit(
            images.pixels(train_rows), images.pixels(selection_rows), seed=seed, folder=folder / "fit", checkpoint=folder / "checkpoint", progress=Silent()
        )
        generator = kind.load(folder / "fit")
    y = np.repeat(np.arange(CLASSES, dtype=np.int64), MADE)
    x = generator.sample(np.concatenate([image_seeds(seed, MADE, condition=k) for k in range(CLASSES)]), y)
    told = {key: facts[key] for key in ("parameters", "steps")}
    if "privacy" in facts:
        told["privacy"] = {key: value for key, value in facts["privacy"].items() if isinstance(value, (int, float))}
    return Pixels(x, y, CLASSES), told


def summary(rows: list[cells.Row]) -> str:
    """A Markdown table: accuracy of each arm, its difference to the generator without privacy, seconds of a fit."""
    lines = [
        "| Images | Trained on images of | Replicates | Accuracy | Against no privacy | Delta | Noise | Fit, s |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for n in sorted({row["per_class"] for row in rows}):
        arms = {row["arm"] for row in rows if row["per_class"] == n}
        for arm in (a for a in (REAL, *sorted(arms - {REAL}, key=lambda e: -(e or np.inf))) if a in arms):
            mine = {row["replicate"]: row for row in rows if row["per_class"] == n and row["arm"] == arm}
            base = {row["replicate"]: row for row in rows if row["per_class"] == n and row["arm"] == 0.0}
            both = sorted(mine.keys() & base.keys()) if arm not in (REAL, 0.0) else []
            paired = say(answers(mine, both) - answers(base, both), sign=True) if both else ""
            told = next(iter(mine.values())).get("privacy")
            noise = f"{told['delta']:.1g} | {told['noise_multiplier']:.2f}" if told else " | "
            name = "real images" if arm == REAL else "VAE, no privacy" if arm == 0 else f"VAE, epsilon {arm:g}"
            seconds = "" if arm == REAL else f"{np.median([row['fit_seconds'] for row in mine.values()]):.0f}"
            lines.append(f"| {n * CLASSES:,} | {name} | {len(mine)} | {say(answers(mine, sorted(mine)))} | {paired} | {noise} | {seconds} |")
    return "\n".join(lines)


def answers(rows: dict[int, cells.Row], replicates: list[int]) -> np.ndarray:
    """Right or wrong, float64 [replicates, test images]."""
    return np.stack([np.unpackbits(np.frombuffer(base64.b64decode(rows[r]["right"]), np.uint8)) for r in replicates]).astype(np.float64)


def say(table: np.ndarray, *, sign: bool = False) -> str:
    """The mean with its 95 % interval over replicates and test images; of one replicate over test images alone, for that one generator."""
    form = "+.3f" if sign else ".3f"
    if len(table) < 2:
        half = 1.96 * table.std() / table.size**0.5
        return f"{table.mean():{form}} ({table.mean() - half:{form}} to {table.mean() + half:{form}})"
    found: Interval = two_way(table, confidence=0.95)
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


if __name__ == "__main__":
    main()
