"""Does relabelling find wrong labels, and only those? Fashion-MNIST as class folders; a tenth of the labels of a "synthetic" set are wrong on purpose.

    MITATE_DATA=folder python benchmarks/relabel_quality.py [--replicates 5]
    python benchmarks/relabel_quality.py --summary

A replicate draws other real images (20 or 100 a class), 50 other images a class that play the synthetic ones, other labels to falsify (each to another class,
evenly), and another training. `mitate relabel` goes through it with each `--sure`, with `--no-relabel` and with `--keep 0.8`. These "synthetic" images are real
ones, so there is no gap between what the labeller learnt and what it judges: real generators will do worse.

of a --sure:  right    of the images that it relabels, the share that then has the true class (precision)
              found    of the wrong labels, the share that it turns into the true class (recall)
              error    share of wrong labels in the whole set afterwards (0.1 before)
of --keep:    error    share of wrong labels among the images that are kept, after relabelling at 0.9; and the same of keeping alone (--sure 1)
model:        accuracy of the labeller on all images, and its mean confidence

Each is a mean over replicates with its 95 % interval (Student's t; cut to 0 to 1). One JSON line a number of real images in results/relabel_quality.jsonl.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cells
from mitate.curation.filters import Rules
from mitate.curation.ledger import Decision, Ledger, Standing
from mitate.images import Provenance, from_arrays
from mitate.metrics.intervals import quantile_t
from mitate.relabelled import relabel
from mitate.sets import write_images
from mitate.store import Store

OUT = Path(__file__).parent / "results" / "relabel_quality.jsonl"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SURE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
FAKES, WRONG = 50, 0.1  # of each class; share of wrong labels


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--replicates", type=int, default=5)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [{"set": "fashion_mnist", "real": n, "fakes": FAKES, "wrong": WRONG, "replicates": given.replicates} for n in (20, 100)]
        tell = lambda name, row: f"{name['real']} a class: right {row['0.9']['right'][0]}, found {row['0.9']['found'][0]}"  # noqa: E731
        cells.fill(given.out, [(name, partial(measure, name)) for name in names], tell=tell)
    print(summary(cells.read(given.out)))


def measure(name: cells.Row) -> cells.Row:
    with np.load(Path(os.environ["MITATE_DATA"]) / "fashion_mnist.npz") as data:
        x, y = data["x_train"], data["y_train"].astype(np.int64)
    started = time.process_time()
    rows = [replicate(x, y, name["real"], r) for r in range(name["replicates"])]
    merged = {key: {inner: interval([row[key][inner] for row in rows]) for inner in rows[0][key]} for key in rows[0]}
    return {**name, **merged, "core_seconds": round(time.process_time() - started, 1)}


def replicate(x: np.ndarray, y: np.ndarray, real: int, r: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng([real, r])
    order = rng.permutation(len(y))
    mine = {k: order[y[order] == k] for k in range(len(CLASSES))}
    fakes = np.concatenate([rows[real : real + FAKES] for rows in mine.values()])
    truth, told = y[fakes], y[fakes].copy()
    wrong = rng.choice(len(told), round(WRONG * len(told)), replace=False)
    told[wrong] = (told[wrong] + rng.integers(1, len(CLASSES), len(wrong))) % len(CLASSES)
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place) / "store")
        for k, rows in mine.items():
            (Path(place) / "real" / CLASSES[k]).mkdir(parents=True)
            for row in rows[:real]:
                Image.fromarray(x[row]).save(Path(place) / "real" / CLASSES[k] / f"{row}.png")
        by_label = np.argsort(told, kind="stable")
        truth, told = truth[by_label], told[by_label]
        made = Provenance("fashion", "f" * 64)
        folder = write_images(from_arrays(x[fakes][by_label], told, classes=CLASSES, name="fakes", provenance=made), Path(place) / "fakes")
        ask = partial(_asked, folder, Path(place) / "real", store, r, truth, told)
        found: dict[str, dict[str, float]] = {}
        for sure in SURE:
            found[f"{sure:g}"] = _relabelling(ask(Rules(sure=sure)), truth, told)
        found["drop 0.9"] = _kept(ask(Rules(sure=0.9, differing="drop")), truth, told)
        found["keep 0.8"] = _kept(ask(Rules(sure=0.9, keep=0.8)), truth, told)
        found["keep 0.8 alone"] = _kept(ask(Rules(sure=1.0, keep=0.8)), truth, told)
        found["model"] = _model(ask(Rules()), truth, told)
    return found


def _asked(folder: Path, real: Path, store: Store, r: int, truth: np.ndarray, told: np.ndarray, rules: Rules) -> list[dict[str, Decision]]:
    """What the filters say of each image, in the order of the set."""
    relabel(folder, model=f"real:{real}", rules=rules, seed=r, store=store)
    standing = Standing(Ledger(folder).read())
    return [dict(standing.of(f"{CLASSES[k]}/{i:06d}.png")) for i, k in enumerate(told)]


def _relabelling(said: Sequence[dict[str, Decision]], truth: np.ndarray, told: np.ndarray) -> dict[str, float]:
    after = _after(said, told)
    changed, wrong = after != told, told != truth
    return {
        "right": float((after == truth)[changed].mean()) if changed.any() else math.nan,
        "found": float((after == truth)[wrong].mean()),
        "error": float((after != truth).mean()),
        "relabelled": float(changed.mean()),
    }


def _kept(said: Sequence[dict[str, Decision]], truth: np.ndarray, told: np.ndarray) -> dict[str, float]:
    stands = np.array([not any(d.decision == "drop" for d in of.values()) for of in said])
    return {"error": float((_after(said, told) != truth)[stands].mean()), "kept": float(stands.mean())}


def _model(said: Sequence[dict[str, Decision]], truth: np.ndarray, told: np.ndarray) -> dict[str, float]:
    d = [of["filter:labels"] for of in said]
    best = [CLASSES.index(one.reason.split(" says ")[1].split(" (")[0]) for one in d]
    return {"accuracy": float((np.array(best) == truth).mean()), "confidence": float(np.mean([one.score or 0.0 for one in d]))}


def _after(said: Sequence[dict[str, Decision]], told: np.ndarray) -> np.ndarray:
    labels = [of["filter:labels"].label for of in said]
    return np.array([k if label is None else CLASSES.index(label) for label, k in zip(labels, told, strict=True)])


def interval(values: Sequence[float]) -> list[float]:
    """Mean, low, high over replicates."""
    half = quantile_t(0.975, len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return [round(v, 4) for v in (mean, max(0.0, mean - half), min(1.0, mean + half))]


def summary(rows: list[dict[str, Any]]) -> str:
    def told(v: list[float]) -> str:
        return f"{100 * v[0]:.1f} ({100 * v[1]:.1f} to {100 * v[2]:.1f})"

    out = []
    for row in rows:
        out += [f"{row['real']} real images a class: model {told(row['model']['accuracy'])} accurate, {told(row['model']['confidence'])} confident"]
        out += ["| `--sure` | relabelled | right | found | wrong labels left |", "|---|---|---|---|---|"]
        out += [f"| {sure:g} | " + " | ".join(told(row[f"{sure:g}"][key]) for key in ("relabelled", "right", "found", "error")) + " |" for sure in SURE]
        out += [f"{key}: kept {told(row[key]['kept'])}, wrong labels among them {told(row[key]['error'])}" for key in row if key.startswith(("keep", "drop"))]
    return "\n".join(out)


if __name__ == "__main__":
    main()
