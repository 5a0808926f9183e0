"""Forty real replicates on Fashion-MNIST, kept right or wrong: the second source of truth for the verdict (benchmarks/replay.py).

    MITATE_DATA=folder python run.py [--replicates 40] [--workers 2] [--store folder]

A replicate draws its own 40 training images a class (nested: 10, 20, 30, 40), fits a VAE on the first 20, and trains every arm from its
own start. All arms answer all 10,000 test images. `more` is the baseline with 30 real images a class: a perfect generator, whose worth at
20 a class is 10 extra images by construction. Right or wrong goes to right.npz: for each arm bits [replicates, images / 8]. Resumable.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import numpy as np

from mitate.engine import Engine
from mitate.intake.opening import open_data
from mitate.runtime import seed_of
from mitate.settings import plain
from mitate.store import Store
from mitate.study import Job
from mitate.training.loop import Training
from mitate.verbs import VERBS, keep_images

HERE = Path(__file__).parent
SIZES = (10, 20, 30, 40)  # real images a class
BASE = 20
STEPS = 150
GENERATOR_STEPS = 200
SYNTHETIC = 100  # a class
BACKBONE = {"name": "small", "variant": "", "frozen": False}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--replicates", type=int, default=40)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--store", type=Path, default=Path("runs/replay/.mitate"))
    given = options.parse_args()
    store = Store(given.store)
    data = open_data(str(Path(os.environ["MITATE_DATA"]) / "fashion_mnist.npz"))
    splits = data.splits
    kept = {split: keep_images(store, getattr(splits, split), size=28, channels=1) for split in ("selection", "test")}
    right: dict[str, list[np.ndarray]] = {}
    with Engine(store, workers=given.workers) as engine:
        for r in range(given.replicates):
            draw = splits.train.few(max(SIZES), seed=seed_of("replay", r))
            train = {n: keep_images(store, draw.few(n, seed=seed_of("replay part", r)), size=28, channels=1) for n in SIZES}
            jobs = arms(r, train, kept)
            found = engine.run(jobs.values())
            for arm, job in jobs.items():
                said = np.load(found[job].path("probabilities.npy"), allow_pickle=False).argmax(axis=1)
                right.setdefault(arm, []).append(said == splits.test.y)
            print(f"replicate {r + 1} of {given.replicates}", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    facts = {"code": commit, "sizes": SIZES, "base": BASE, "steps": STEPS, "generator_steps": GENERATOR_STEPS, "synthetic_per_class": SYNTHETIC}
    bits = {k: np.packbits(np.stack(v), axis=1) for k, v in right.items()}
    np.savez_compressed(HERE / "right.npz", images=len(splits.test), facts=np.asarray(json.dumps(facts)), **bits)


def arms(r: int, train: dict[int, str], kept: dict[str, str]) -> dict[str, Job]:
    """The predictions of every arm in replicate r."""

    def job(verb: str, settings: dict[str, object], inputs: dict[str, Job | str]) -> Job:
        return Job(f"{verb}/r{r}", verb, VERBS[verb].version, settings, inputs, 1.0)

    fit = job("fit", {"kind": "vae", "options": {"steps": GENERATOR_STEPS}, "seed": seed_of("fit", r)}, {"train": train[BASE], "selection": kept["selection"]})
    synthetic = job("sample", {"per_class": SYNTHETIC, "seed": seed_of("sample", r)}, {"generator": fit, "like": train[BASE]})

    def arm(recipe: str, n: int, images: Job | None = None) -> Job:
        inputs: dict[str, Job | str] = {"real": train[n]} if images is None else {"real": train[n], "synthetic": images}
        settings = {"arm": recipe, "training": plain(Training(steps=STEPS, flip=False)), "backbone": BACKBONE, "seed": seed_of("train", r)}
        return job("predict", {"backbone": BACKBONE}, {"model": job("train", settings, inputs), "images": kept["test"]})

    return {
        **{f"real+augment {n}": arm("real+augment", n) for n in SIZES},
        "real 20": arm("real", BASE),
        "balanced+augment vae 20": arm("balanced+augment", BASE, synthetic),
        "mixed+augment vae 20": arm("mixed+augment", BASE, synthetic),
        "bridged+++augment vae 20": arm("bridged+++augment", BASE, synthetic),
    }


if __name__ == "__main__":
    main()
