"""Are images worth more where the classifier is wrong or unsure? The same number of synthetic images, chosen in several ways, for the same training.

    MITATE_DATA=folder python run.py [--sets fashion_mnist] [--replicates 6] [--work runs/for-the-task]
    python run.py --summary

A replicate: 20 real images of each class (and 10 for selection), the diffusion generator of the preset fitted on them, a pool of 300 drawn for each class,
and a first classifier (real images, strong augmentation) that says where it is wrong. Every arm then trains anew on the real images and on 1,000 of the
pool, half and half in a batch (`balanced+augment`):

    plain       the first 100 of each class: what a pilot does
    by-class    more for the classes that the first classifier gets wrong on the selection split: in proportion to its error there plus 0.1, from 20 to
                300 of a class (what a bound takes away goes nowhere: so a little under 1,000 in all where a class is very wrong)
    hard        the 100 of each class with the highest loss under the first classifier
    unsure      the 100 of each class with the highest entropy
    easy        the 100 of each class with the lowest loss: a filter by label
    middling    the hardest 100 once a third is left out as wrongly labelled, the third with the highest loss

Accuracy on 2,000 test images; `cells.jsonl` holds a line for each replicate with the test images that each arm got wrong, so it goes on where it was.
Differences to `plain` are paired by replicate and test image; the interval carries both (`two_way`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mitate.generator import Pixels, image_seeds
from mitate.generators.diffusion import Diffusion
from mitate.metrics.intervals import two_way
from mitate.progress import Silent
from mitate.recipe import parse
from mitate.runtime import seed_of, torch_threads
from mitate.training.backbones import small
from mitate.training.loop import Training, predict, train

HERE = Path(__file__).parent
REAL, CHOSEN, POOL, GIVEN, TEST = 20, 10, 300, 100, 2000  # of each class, the test of all
ARMS = ("plain", "by-class", "hard", "unsure", "easy", "middling")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default="fashion_mnist")
    options.add_argument("--replicates", type=int, default=6)
    options.add_argument("--work", type=Path, default=Path("runs/for-the-task"))
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    kept = HERE / "cells.jsonl"
    if not given.summary:
        for replicate in range(given.replicates):
            for name in given.sets.split(","):
                rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
                if any(r["set"] == name and r["replicate"] == replicate for r in rows):
                    continue
                row = measure(name, replicate, given.work)
                with open(kept, "a") as out:
                    out.write(json.dumps(row) + "\n")
                print(name, replicate, {arm: round(1 - len(wrong) / TEST, 4) for arm, wrong in row["wrong"].items()}, flush=True)
    print(summary([json.loads(line) for line in kept.read_text().splitlines()]))


def measure(name: str, replicate: int, work: Path) -> dict[str, object]:
    with np.load(Path(os.environ["MITATE_DATA"]) / f"{name}.npz", allow_pickle=False) as data:
        x, y, test_x, test_y = (np.asarray(data[key]) for key in ("x_train", "y_train", "x_test", "y_test"))
    x, test_x = (a if a.ndim == 4 else a[..., None] for a in (x, test_x))
    chance = np.random.default_rng(seed_of("for the task", name, replicate))
    order = chance.permutation(len(y))
    classes = int(y.max()) + 1
    parts = []
    for low, high in ((0, REAL), (REAL, REAL + CHOSEN)):
        rows = np.concatenate([order[y[order] == k][low:high] for k in range(classes)])
        parts.append(Pixels(x[rows], y[rows].astype(np.int64), classes))
    real, selection = parts
    test = np.random.default_rng(seed_of("for the task test", name)).permutation(len(test_y))[:TEST]
    started = time.process_time()
    pool = drawn(real, selection, seed=seed_of("for the task fit", name, replicate), place=work / f"{name}-{replicate}")
    training = Training(flip=name == "cifar10")
    seed = seed_of("for the task train", name, replicate)

    def trained(arm: str, synthetic: Pixels | None) -> object:
        with torch_threads():
            return train(parse(arm), lambda: small(shape=real.x.shape[1:], n_classes=classes, weights=None, frozen=False), real=real, synthetic=synthetic,
                         training=training, seed=seed)  # fmt: skip

    def answers(model: object, pixels: np.ndarray) -> np.ndarray:
        with torch_threads():
            return predict(model, pixels)  # type: ignore[arg-type]

    first = trained("real+augment", None)
    said, looked = answers(first, pool.x), answers(first, selection.x)
    wrong = {"real": np.flatnonzero(answers(first, test_x[test]).argmax(1) != test_y[test]).tolist()}
    error = np.array([(looked[selection.y == k].argmax(1) != k).mean() for k in range(classes)])
    for arm in ARMS:
        rows = np.concatenate([picked(arm, np.flatnonzero(pool.y == k), said, k, error) for k in range(classes)])
        model = trained("balanced+augment", Pixels(pool.x[rows], pool.y[rows], classes))
        wrong[arm] = np.flatnonzero(answers(model, test_x[test]).argmax(1) != test_y[test]).tolist()
    right = float((said.argmax(1) == pool.y).mean())
    return {"set": name, "replicate": replicate, "pool_recognised": round(right, 4), "core_seconds": round(time.process_time() - started), "wrong": wrong}


def drawn(real: Pixels, selection: Pixels, *, seed: int, place: Path) -> Pixels:
    """POOL images of each class from the preset's diffusion generator, fitted on the real ones."""
    kind = Diffusion.default_for(real.x.shape[1:], len(real.x))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        kind.fit(real, selection, seed=seed % 2**31, folder=Path(folder), checkpoint=place, progress=Silent())
        y = np.repeat(np.arange(real.n_classes), POOL)
        seeds = np.concatenate([image_seeds(seed % 2**31, POOL, condition=k) for k in range(real.n_classes)])
        return Pixels(kind.load(Path(folder)).sample(seeds, y), y, real.n_classes)


def picked(arm: str, rows: np.ndarray, said: np.ndarray, k: int, error: np.ndarray) -> np.ndarray:
    """The rows of a class that an arm trains on."""
    loss = -np.log(np.maximum(said[rows, k], 1e-12))
    if arm == "plain":
        return rows[:GIVEN]
    if arm == "by-class":
        shares = (error + 0.1) / (error + 0.1).sum()
        return rows[: int(np.clip(round(shares[k] * GIVEN * len(error)), 20, POOL))]
    if arm == "hard":
        return rows[np.argsort(-loss, kind="stable")[:GIVEN]]
    if arm == "unsure":
        entropy = -(said[rows] * np.log(np.maximum(said[rows], 1e-12))).sum(1)
        return rows[np.argsort(-entropy, kind="stable")[:GIVEN]]
    if arm == "easy":
        return rows[np.argsort(loss, kind="stable")[:GIVEN]]
    return rows[np.argsort(-loss, kind="stable")[len(rows) // 3 : len(rows) // 3 + GIVEN]]


def summary(rows: list[dict[str, object]]) -> str:
    lines = ["| Set | Arm | Accuracy, % | Against plain, points (95 %) | Replicates |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(r["set"] for r in rows):
        mine = [r["wrong"] for r in rows if r["set"] == name]
        tables = {arm: np.stack([right(w, arm) for w in mine]) for arm in ("real", *ARMS)}  # type: ignore[arg-type]
        for arm, table in tables.items():
            told = "" if arm == "plain" or len(mine) < 2 else "{:+.2f} ({:+.2f} to {:+.2f})".format(*difference(table, tables["plain"]))
            lines.append(f"| {name} | {arm} | {100 * table.mean():.1f} | {told} | {len(mine)} |")
    return "\n".join(lines)


def right(wrong: Mapping[str, list[int]], arm: str) -> np.ndarray:
    found = np.ones(TEST)
    found[wrong[arm]] = 0
    return found


def difference(one: np.ndarray, two: np.ndarray) -> tuple[float, float, float]:
    found = two_way(one - two, confidence=0.95)
    return 100 * found.value, 100 * found.low, 100 * found.high


if __name__ == "__main__":
    main()
