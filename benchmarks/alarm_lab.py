"""How often the alarm rings wrongly in the lab, and how soon rightly: models that learn, on drawings whose truth is known.

    python benchmarks/alarm_lab.py [--nulls 260] [--chains 8]
    python benchmarks/alarm_lab.py --summary

Drawings of one large thing each, its colour the class, 8 px; a Gaussian a class and a classifier, fitted in a second, so that hundreds of loops can be had;
150 pairs a generation, six generations. One JSON line a chain in results/alarm_lab.jsonl, as soon as it is finished: `null`, loops that do not recurse (each
generation learns from new drawings), and loops that do, some chains of each setting. What these lose is utility (accuracy on fresh drawings of a classifier
that learnt from the generation's pairs); the alarm does without it.

The summary: an alarm of 5 % a run whose limits come from the generations of the first 60 null runs, made into 20,000 runs, is tried on the other 200, with the
exact interval, beside alarms of one indicator made alike, and a pair of alarms at half the rate each: of all indicators and of the kernel distance. `from 19`:
alarms as the product makes them for models that learn, from 19 null runs each, each tried on the null runs that it was not made from, with Student's interval
over alarms (too narrow: they are tried on much the same runs). Then how many chains of each setting are stopped, when, and what was lost by then and at the
end.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cells
from alarm_rate import mean_of, stop_of
from mitate.lab.drawing import draw
from mitate.lab.world import COLOURS, World
from mitate.loops.agents import Decode
from mitate.loops.alarm import Monitor, Run
from mitate.loops.chains import collapse
from mitate.loops.labelled import EXACT, Labelled
from mitate.loops.loop import Loop
from mitate.loops.watch import NULL_SEED
from mitate.metrics.intervals import clopper_pearson

OUT = Path(__file__).parent / "results" / "alarm_lab.jsonl"
DATA = Path("runs") / "alarm-lab" / "lab.npz"
PLAIN = World("colours", counts=(1.0,), large=1.0, textured=0.0, dim=0.0, backgrounds={"grey": 0.0, "beige": 0.0})
PER_CLASS, TESTED, SIZE, N, GENERATIONS = 400, 150, 8, 150, 6
CLASSIFIER_STEPS = 80
RATE, BANK, RESAMPLES, FEW = 0.05, 60, 20_000, 19
SETTINGS: dict[str, dict[str, Any]] = {
    "replace": {},
    "budget": {"policy": "budget"},
    "accumulate": {"policy": "accumulate"},
    "fresh:0.25": {"policy": "fresh:0.25"},
    "relabel frozen": {"relabel": "frozen"},
    "search 4": {"images": Decode(search=4, depth=1), "captions": Decode(search=4, depth=1)},
}
ALONE = ("kernel_distance", "precision", "recall", "alignment")  # alarms of one indicator, beside that of all


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nulls", type=int, default=260)
    options.add_argument("--chains", type=int, default=8)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        ground = lab()
        names = [{"setting": "null", "seed": i} for i in range(given.nulls)]
        names += [{"setting": setting, "seed": i} for i in range(given.chains) for setting in SETTINGS]
        cells.fill(given.out, [(name, partial(chain, ground, name)) for name in names], tell=lambda n, r: f"{n['setting']} {n['seed']}: {r['seconds']} s")
    print("\n".join(summary(cells.read(given.out))))


def lab() -> Labelled:
    if not DATA.exists():
        DATA.parent.mkdir(parents=True, exist_ok=True)
        fresh = DATA.with_name(f"{os.getpid()}.npz")
        parts = {"train": drawings(PER_CLASS, seed=0), "test": drawings(TESTED, seed=1)}
        arrays = {f"{what}_{split}": part[at] for split, part in parts.items() for at, what in enumerate("xy")}
        np.savez(fresh, classes=np.array(COLOURS), **arrays)  # type: ignore[arg-type]
        fresh.replace(DATA)
    ground = Labelled(str(DATA), "gaussian", size=SIZE, classifier_steps=CLASSIFIER_STEPS)
    _ = ground.held, ground._scorer, ground._cells  # made once for all chains: not a chain's time
    return ground


def drawings(per_class: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 32, 32, 3] and the colours' numbers, int64 [n]."""
    x, y, i = [], [], 0
    counts = dict.fromkeys(COLOURS, 0)
    while min(counts.values()) < per_class:
        scene = PLAIN.scene(i, seed=seed)
        colour, i = scene.things[0].colour, i + 1
        if counts[colour] < per_class:
            counts[colour] += 1
            x.append(draw(scene))
            y.append(COLOURS.index(colour))
    return np.stack(x), np.array(y, dtype=np.int64)


def chain(ground: Labelled, name: cells.Row) -> cells.Row:
    """Indicators of every generation, and seconds of one core; or why it broke off."""
    started, null = time.process_time(), name["setting"] == "null"
    plain: Loop = ground.loop(n=N, generations=GENERATIONS)
    loop = replace(plain, policy="real") if null else replace(plain, **SETTINGS[name["setting"]])
    seed = NULL_SEED + name["seed"] if null else name["seed"]
    found = collapse(ground, loop, seeds=[seed], exact=not null)
    told = {"blocked": found.blocked[seed]} if found.blocked else {"run": [{k: round(v, 6) for k, v in g.items()} for g in found.chains[seed]]}
    return {**name, **told, "seconds": round(time.process_time() - started, 1)}


def summary(rows: list[cells.Row]) -> list[str]:
    nulls: list[Run] = [row["run"] for row in sorted(rows, key=lambda r: r["seed"]) if row["setting"] == "null" and "run" in row]
    broken = sum("blocked" in row for row in rows)
    lines = [f"{len(nulls)} null runs, {sum(r['setting'] != 'null' for r in rows)} others, {broken} of them broken off"]
    if len(nulls) < 2 * BANK:
        return [*lines, "too few null runs for the rest"]
    calibrated = partial(Monitor.calibrated, nulls[:BANK], rate=RATE, looks=GENERATIONS, resamples=RESAMPLES)
    alarms = {"all": [calibrated()]} | {name: [calibrated(names=(name,))] for name in ALONE}
    alarms["pair"] = [calibrated(rate=RATE / 2), calibrated(rate=RATE / 2, names=ALONE[:1])]
    for name, some in alarms.items():
        rings = sum(first_stop(some, run) is not None for run in nulls[BANK:])
        exact = clopper_pearson(rings, tried := len(nulls) - BANK)
        lines.append(f"{name}: {RATE:.0%} asked, {rings} of {tried} null runs rang: {rings / tried:.1%} ({exact.low:.1%} to {exact.high:.1%})")
    lines.append(f"from {FEW} null runs: {RATE:.0%} asked, " + "{:.1%} ({:.1%} to {:.1%})".format(*few(nulls)) + f" over {len(nulls) // FEW} alarms")
    for setting in SETTINGS:
        runs = [row["run"] for row in rows if row["setting"] == setting and "run" in row]
        if len(runs) < 2:  # one chain says nothing of others
            continue
        utility = np.array([[g["utility"] for g in run] for run in runs])
        watched = [[{k: v for k, v in g.items() if k not in EXACT} for g in run] for run in runs]
        at_end = mean_of(utility[:, 0] - utility[:, -1])
        lines.append(f"{setting}, {len(runs)} chains: lost at the end {at_end[0]:+.3f} ({at_end[1]:+.3f} to {at_end[2]:+.3f})")
        for name, some in alarms.items():
            stops = [first_stop(some, run) for run in watched]
            rang = [s for s in stops if s is not None]
            at = np.array([s or GENERATIONS for s in stops]) - 1
            lost = float(np.mean(utility[:, 0] - utility[np.arange(len(at)), at]))
            lines.append(f"  {name:16} stops {len(rang)} of {len(runs)}, generation {float(np.median(rang)) if rang else '-'}, lost by then {lost:+.3f}")
    return lines


def first_stop(alarms: list[Monitor], run: Run) -> int | None:
    """The first generation at which any of them rings; None where none does."""
    return min((at for alarm in alarms if (at := stop_of(alarm, run)) is not None), default=None)


def few(nulls: list[Run]) -> list[float]:
    """Share of other null runs at which an alarm from FEW of them rings: mean over alarms, low, high."""
    rates = []
    for first in range(0, len(nulls) - FEW + 1, FEW):
        alarm = Monitor.calibrated(nulls[first : first + FEW], rate=RATE)
        rates.append(np.mean([stop_of(alarm, run) is not None for run in nulls[:first] + nulls[first + FEW :]]))
    return mean_of(np.array(rates))


if __name__ == "__main__":
    main()
