"""How long a few-shot adaptation takes: the closed form's fit on ten shots, and the choice of its dials; and whether drawing is as cheap with many shots.

    MITATE_DATA=folder python benchmarks/few_shot_pace.py [--sets kmnist,lab-near] [--counts 1,10,100,1000] [--rounds 3]
    python benchmarks/few_shot_pace.py --summary

Bases and shots as in few_shot.py, ten shots of one class: `kmnist` on a base of ours at 28 px, `lab-near` on the lab's text-to-image model at 32 px. Core
seconds on one thread; the base is fitted before and not counted. Counts: so many shots of one garment on the base `fashion`, dials given; core seconds of the
fit and of drawing 128 images, and the process's largest memory while it draws, each in a process of its own. One JSON line a round in
results/few_shot_pace.jsonl; finished ones are skipped.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import cells
import mitate as mi
from few_shot import PIXELS, STEPS, _base_images, base_of, linked, task
from mitate.fitted import fit
from mitate.shots import choose, kind_on
from mitate.store import Store
from mitate.stored import load_fitted

OUT = Path(__file__).parent / "results" / "few_shot_pace.jsonl"
SHOTS, IMAGES = 10, 128


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default="kmnist,lab-near")
    options.add_argument("--counts", default="1,10,100,1000")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [{"set": name, "round": r} for r in range(given.rounds) for name in given.sets.split(",")]
        cells.fill(given.out, [(n, partial(measure, n)) for n in names], tell=lambda n, r: f"{n}: fit {r['fit']} s, dials {r['dials']} s")
        names = [{"set": "fashion", "shots": int(n), "round": r} for r in range(given.rounds) for n in given.counts.split(",")]
        cells.fill(given.out, [(n, partial(alone, n)) for n in names], tell=lambda n, r: f"{n}: {r['draw']} s, {r['megabytes']} MB")
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
    return {**name, "shots": len(shots), "fit": round(between - started, 2), "dials": round(ended - between, 2), "tried": len(chosen.tried)}


def alone(name: cells.Row) -> cells.Row:
    """`drawn` in a process of its own, so that memory is its own."""
    base_of(name["set"])  # fitted here, where it is not yet kept
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(drawn, name).result()


def drawn(name: cells.Row) -> cells.Row:
    t, base = task(name["set"]), base_of(name["set"])
    assert base is not None
    rows = np.flatnonzero(t.y == 0)[: name["shots"]]
    shots = mi.from_arrays(t.shots[rows], t.y[rows], classes=["one"], name=name["set"])
    seeds, y = np.arange(IMAGES) + name["round"], np.zeros(IMAGES, np.int64)
    with tempfile.TemporaryDirectory() as place:
        store = Store(place)
        mi.fit(mi.Diffusion(steps=STEPS, shift=0.25), _base_images(name["set"]), seed=0, size=PIXELS, store=linked(store, base), name="base")
        started = time.process_time()
        kind, size = kind_on("base", mi.Shots(diversity=0.5), store, classes=shots.classes)
        drawer = load_fitted(fit(kind, train=shots, seed=name["round"], size=size, store=store).entry)
        fitted = time.process_time()
        drawer.sample(seeds[:16], y[:16])
        _reset_peak()
        before = time.process_time()
        drawer.sample(seeds, y)
        ended = time.process_time()
    return {**name, "fit": round(fitted - started, 2), "draw": round(ended - before, 2), "images": IMAGES, "megabytes": _peak()}


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The largest memory since then, MB (Linux)."""
    told = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(told.split()[1]) // 1024


def summary(rows: Sequence[cells.Row]) -> str:
    lines = ["| Set | Fit, core s, median (range) | Dials | Together | Rounds |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(r["set"] for r in rows if "dials" in r):
        own = [r for r in rows if r["set"] == name and "dials" in r]
        parts = [[r["fit"] for r in own], [r["dials"] for r in own], [r["fit"] + r["dials"] for r in own]]
        lines.append(f"| {name} | " + " | ".join(f"{statistics.median(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in parts) + f" | {len(own)} |")
    lines += ["", "| Shots | Fit, core s | Drawing an image, core s | Largest memory, MB | Rounds |", "|---|---|---|---|---|"]
    for n in dict.fromkeys(r["shots"] for r in rows if "draw" in r):
        own = [r for r in rows if r["shots"] == n and "draw" in r]
        parts = [[r["fit"] for r in own], [r["draw"] / r["images"] for r in own], [float(r["megabytes"]) for r in own]]
        told = [f"{statistics.median(v):.{d}f} ({min(v):.{d}f} to {max(v):.{d}f})" for v, d in zip(parts, (2, 4, 0), strict=True)]
        lines.append(f"| {n:,} | " + " | ".join(told) + f" | {len(own)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
