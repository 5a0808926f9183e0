"""Which family for how few images? Three data sets, three families at their presets, six axes: `mitate compare`, twice a set.

    MITATE_DATA=folder python run.py [--sets bccd_cells,fashion_mnist,coffee_leaf] [--parts main,more] [--workers 1] [--work runs/scarcity]

`main` has 10 and 50 images a class and five subsets of each; `more` has 25 (Fashion-MNIST also 100) and two. Families are measured past the gate, since
the published ordering is about families, not about what may be released. Leaves and cells at 32 px, from all images that the source gives: `compare`
cuts its own hold-out and leaves its own test split closed. Killed, it goes on; what a finished comparison says is copied to `found/<set>-<part>/`
(study, answer, scores, machine: no image). `table.py` reads that.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SETS = {"bccd_cells": 32, "fashion_mnist": 28, "coffee_leaf": 32}
PARTS = {"main": ("10,50", 5), "more": ("25", 2)}
MORE_OF_FASHION = "25,100"
KEPT = ("study.json", "compare.json", "scores.jsonl", "machine.json")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default=",".join(SETS))
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--work", type=Path, default=Path("runs/scarcity"))
    given = options.parse_args()
    for part in given.parts.split(","):
        for name in given.sets.split(","):
            measure(name, part, given.work, given.workers)


def measure(name: str, part: str, work: Path, workers: int) -> None:
    """One comparison, unless its answer is here."""
    found, run = HERE / "found" / f"{name}-{part}", work / f"{name}-{part}"
    if (found / "compare.json").exists():
        return
    per_class, seeds = PARTS[part]
    if name == "fashion_mnist" and part == "more":
        per_class = MORE_OF_FASHION
    command = [
        sys.executable, "-m", "mitate", "compare", str(images(name, work)), "--generators", "vae,gan,diffusion", "--per-class", per_class,
        "--seeds", str(seeds), "--trainings", "1", "--synthetic", "100", "--size", str(SETS[name]), "--past-the-gate",
        "--engine", f"local:{workers}", "--out", str(run),
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "MITATE_HOME": str(work / f"store-{name}")})
    found.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(run / file, found / file)


def images(name: str, work: Path) -> Path:
    """The whole set: an archive, or its two class folders in one."""
    source = Path(os.environ["MITATE_DATA"]) / name
    if not source.is_dir():
        return source.with_suffix(".npz")
    whole = work / "images" / name
    for file in sorted(p for split in ("train", "test") for p in (source / split).rglob("*") if p.is_file()):
        place = whole / file.parent.name / file.name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return whole


if __name__ == "__main__":
    main()
