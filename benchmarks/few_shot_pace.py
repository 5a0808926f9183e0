"""How long a few-shot adaptation takes: the closed form's fit on ten shots, and the choice of its dials.

    MITATE_DATA=folder python benchmarks/few_shot_pace.py [--sets kmnist,lab-near] [--rounds 3]
    python benchmarks/few_shot_pace.py --summary

Bases and shots as in few_shot.py, ten shots of one class: `kmnist` on a base of ours at 28 px, `lab-near` on the lab's text-to-image model at 32 px. Core
seconds on one thread; the base is fitted before and not counted. One JSON line a round in results/few_shot_pace.jsonl; finished ones are skipped.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import cells
import mitate as mi
from few_shot import PIXELS, STEPS, _base_images, base_of, linked, task
from mitate.fitted import fit
from mitate.shots import choose, kind_on
from mitate.store import Store

OUT = Path(__file__).parent / "results" / "few_shot_pace.jsonl"
SHOTS = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default="kmnist,lab-near")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [{"set": name, "round": r} for r in range(given.rounds) for name in given.sets.split(",")]
        cells.fill(given.out, [(n, partial(measure, n)) for n in names], tell=lambda n, r: f"{n}: fit {r['fit']} s, dials {r['dials']} s")
    print(summary(cells.read(given.out)))


def measure(name: cells.Row) -> cells.Row:
    t, seed, base = task(name["set"]), name["round"], base_of(name["set"])
    rows = np.flatnonzero(t.y == 0)
    shots = mi.from_arrays(t.shots[rows], t.y[rows], classes=["one"], name=name["set"]).few(SHOTS, seed=seed)
    with tempfile.TemporaryDirectory() as place:
        store = Store(place)
        if base is not None:
            mi.fit(mi.Diffusion(steps=STEPS, shift=0.25), _base_images(name["set"]), seed=0, size=PIXELS, store=linked(store, base), name="base")
        started = time.process_time()
        kind, size = kind_on("base" if base is not None else "lab", mi.Shots(), store, classes=shots.classes)
        fitted = fit(kind, train=shots, seed=seed, size=size, store=store)
        between = time.process_time()
        chosen = choose(fitted, seed=seed, store=store)
        ended = time.process_time()
    assert chosen is not None
    return {**name, "shots": len(shots), "fit": round(between - started, 2), "dials": round(ended - between, 2), "tried": len(chosen.scores)}


def summary(rows: Sequence[cells.Row]) -> str:
    lines = ["| Set | Fit, core s, median (range) | Dials | Together | Rounds |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(r["set"] for r in rows):
        own = [r for r in rows if r["set"] == name]
        parts = [[r["fit"] for r in own], [r["dials"] for r in own], [r["fit"] + r["dials"] for r in own]]
        lines.append(f"| {name} | " + " | ".join(f"{statistics.median(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in parts) + f" | {len(own)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
