"""The first real table: three data sets x 10 and 50 real images a class x five replicates x every arm with a VAE and a diffusion model.

    MITATE_DATA=folder python run.py [--sets coffee_leaf,bccd_cells,fashion_mnist] [--size 32] [--workers 2] [--store folder]

No gate drops an arm here and no candidate is chosen: every arm is measured on the whole test split in every replicate. Which test images
each model got right goes to right/<set>-<n>-<size>.npz (bits), so that the table can be made again without training; `table.py` does that.
Resumable twice over: finished jobs are in the store, and a finished part is a file of bits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np

from mitate.engine import Engine
from mitate.recipe import DEFAULT_ARMS
from mitate.store import Store
from mitate.studies.arms import Arm, Jobs, answers, arms_of, group_numbers
from mitate.studies.planning import Pilot, Plan, plan_pilot
from mitate.studies.stages import open_state

HERE = Path(__file__).parent
SETS = {"coffee_leaf": "coffee_leaf", "bccd_cells": "bccd_cells", "fashion_mnist": "fashion_mnist.npz"}
ARMS = (*DEFAULT_ARMS, "balanced+augment+align")
REPLICATES = 5
STEPS = 200  # of an arm; what a pilot of half an hour has at these sizes


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default=",".join(SETS))
    options.add_argument("--per-class", default="10,50")
    options.add_argument("--size", type=int, default=32)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--store", type=Path, default=Path("runs/first-table/.mitate"))
    given = options.parse_args()
    (HERE / "right").mkdir(exist_ok=True)
    for per_class in (int(n) for n in given.per_class.split(",")):
        for name in given.sets.split(","):
            size = 28 if name == "fashion_mnist" else given.size
            out = HERE / "right" / f"{name}-{per_class}-{size}.npz"
            if not out.exists():
                measure(name, per_class, size, out, store=Store(given.store), workers=given.workers)


def measure(name: str, per_class: int, size: int, out: Path, *, store: Store, workers: int) -> None:
    """Every arm of one set at one number of images, replicate by replicate."""
    source = str(Path(os.environ["MITATE_DATA"]) / SETS[name])
    asked = Pilot(data=name, per_class=per_class, arms=ARMS, replicates=REPLICATES, steps=STEPS, size=size, budget="1000h")
    plan = plan_pilot(asked, source, store=store, workers=1)
    state = open_state(plan.study, plan.cells)
    jobs = Jobs(plan.study.sizes, plan.study.estimates, seed=0)
    arms = arms_of(plan.study.sizes["arms"], list(plan.study.sizes["generators"]))
    cells = [c for c in plan.cells if c.replicate >= plan.study.sizes["small"]]
    right: dict[str, list[np.ndarray]] = {arm.label: [] for arm in arms}
    copied: dict[str, list[dict[str, object]]] = {g: [] for g in plan.study.sizes["generators"]}
    started = time.perf_counter()
    with Engine(store, workers=workers) as engine:
        for cell in cells:
            wanted: dict[Arm | str, object] = {arm: jobs.predicted(arm, cell, "test") for arm in arms}
            checks = {g: jobs.checked(g, cell) for g in copied}
            found = engine.run([*wanted.values(), *checks.values()])
            for arm in arms:
                right[arm.label].append(answers(state.measure, found[wanted[arm]]) == plan.test.y)
            for generator, job in checks.items():
                copied[generator].append({k: found[job].result.get(k) for k in ("measured", "share", "floor")})
            print(f"{name} {per_class} {size}px: replicate {len(right[arms[0].label])} of {REPLICATES}, {time.perf_counter() - started:.0f} s", flush=True)
    facts = {**about(plan, copied), "set": name, "per_class": per_class, "wall_seconds": round(time.perf_counter() - started)}
    groups, _ = group_numbers(plan.test.groups, plan.test.names)
    part = out.with_suffix(".tmp.npz")
    np.savez_compressed(
        part, images=len(plan.test), groups=np.zeros(0, np.int64) if groups is None else groups, facts=np.asarray(json.dumps(facts)),
        **{k: np.packbits(np.stack(v), axis=1) for k, v in right.items()},
    )  # fmt: skip
    part.replace(out)


def about(plan: Plan, copied: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    """What the row was made of."""
    sizes = plan.study.sizes
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    return {
        "code": commit, "classes": plan.study.data["classes"], "images": plan.study.data["images"], "size": sizes["size"], "channels": sizes["channels"],
        "steps": sizes["training"]["steps"], "long_steps": sizes["long_steps"], "synthetic_per_class": sizes["synthetic_per_class"],
        "generators": {k: v["options"] for k, v in sizes["generators"].items()}, "copies": copied,
    }  # fmt: skip


if __name__ == "__main__":
    main()
