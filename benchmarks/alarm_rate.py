"""How often the alarm rings wrongly, and how soon rightly: the toy pair, an alarm of all indicators beside alarms of one.

    python benchmarks/alarm_rate.py [--out benchmarks/results/alarm_rate.jsonl]

One JSON line a cell. `null`: 5,000 loops that do not recurse, 1 % a run, with the exact interval. `few`: 5 % a run from the fewest null runs that can promise
it, 19, on independent normal indicators; 600 calibrations, each tried on 4 other runs. `collapse`: 40 chains of a setting, each alarm calibrated on
299 null runs of its own; the generation of STOP, and the accuracy on real images lost by then against generation 1 and against the end.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cells import Cell, Row, fill
from mitate.loops.agents import Decode
from mitate.loops.alarm import STOP, Monitor, Run
from mitate.loops.chains import collapse
from mitate.loops.loop import Loop
from mitate.loops.toy import EXACT, Toy
from mitate.loops.watch import null_runs
from mitate.metrics.intervals import clopper_pearson, quantile_t

RATE = 0.01
ALARMS: dict[str, tuple[str, ...] | None] = {"all": None, "variance": ("variance",), "alignment": ("alignment",), "recall": ("tail",)}
BANK, RUNS, RESAMPLES = 1500, 5000, 20_000  # null runs that limits come from, null runs that they are tried on, runs drawn from the first
CHAINS, NULLS = 40, 299
FEW, FEW_RATE, CALIBRATIONS, EACH, LOOKS = 19, 0.05, 600, 4, 6
LONG = Loop(n=60, generations=10)
SETTINGS: dict[str, dict[str, Any]] = {
    "both": {},
    "images": {"setting": "images"},
    "captions": {"setting": "captions"},
    "budget": {"policy": "budget"},
    "accumulate": {"policy": "accumulate"},
    "fresh:0.1": {"policy": "fresh:0.1"},
    "fresh:0.5": {"policy": "fresh:0.5"},
    "2x2": {"captioners": 2, "generators": 2},
    "frozen relabel": {"relabel": "frozen"},
    "search 4": {"images": Decode(search=4), "captions": Decode(search=4)},
    "temperature 0.8": {"images": Decode(temperature=0.8), "captions": Decode(temperature=0.8)},
    "temperature 1.2": {"images": Decode(temperature=1.2), "captions": Decode(temperature=1.2)},
    "depth 3": {"images": Decode(depth=3), "captions": Decode(depth=3)},
}


def monitors(null: list[Run], **told: Any) -> dict[str, Monitor]:
    """One alarm a set of indicators; those that never move in null runs cannot be watched alone."""
    moving = {n for n in null[0][0] if any(abs(g[n] - run[0][n]) > 1e-12 for run in null for g in run)}
    return {name: Monitor.calibrated(null, rate=RATE, names=names, **told) for name, names in ALARMS.items() if names is None or set(names) <= moving}


def stop_of(monitor: Monitor, run: Run) -> int | None:
    """The generation at which the alarm says STOP."""
    own = monitor.fresh()
    return next((s.generation for s in (own.update(g) for g in run) if s.name == STOP), None)


def null_cell() -> Row:
    loop, ground = Loop(), Toy()
    runs = null_runs(ground, loop, runs=BANK + RUNS)
    alarms = monitors(runs[:BANK], looks=loop.generations, resamples=RESAMPLES)  # prompts follow from new pairs, so null generations are alike
    rates = {}
    for name, alarm in alarms.items():
        rings = sum(stop_of(alarm, run) is not None for run in runs[BANK:])
        exact = clopper_pearson(rings, RUNS)
        rates[name] = {"rings": rings, "rate": rings / RUNS, "low": round(exact.low, 5), "high": round(exact.high, 5), "holds": exact.low <= RATE <= exact.high}
    return {"stated": RATE, "runs": RUNS, "generations": loop.generations, "n": loop.n, "bank": BANK, "alarms": rates}


def few_cell(indicators: int) -> Row:
    chance = np.random.default_rng([11, indicators])

    def runs(n: int) -> list[Run]:
        return [[{f"i{j}": float(v) for j, v in enumerate(row)} for row in chance.normal(size=(LOOKS, indicators))] for _ in range(n)]

    rates = []
    for _ in range(CALIBRATIONS):
        alarm = Monitor.calibrated(runs(FEW), rate=FEW_RATE)
        rates.append(np.mean([stop_of(alarm, run) is not None for run in runs(EACH)]))
    return {"stated": FEW_RATE, "nulls": FEW, "generations": LOOKS, "runs": CALIBRATIONS * EACH, "rate": mean_of(np.array(rates))}


def mean_of(values: np.ndarray) -> list[float]:
    """Mean, low and high of Student's 95 % interval."""
    half = quantile_t(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [round(float(v), 4) for v in (values.mean(), values.mean() - half, values.mean() + half)]


def collapse_cell(told: dict[str, Any], kept: dict[Loop, list[Run]]) -> Row:
    loop = replace(LONG, **told)
    null = replace(loop, policy="real", start="continue")
    if null not in kept:
        kept[null] = null_runs(Toy(), null, runs=NULLS)
    found = collapse(Toy(), loop, seeds=CHAINS)
    utility = found.table("utility")
    runs = [[{k: v for k, v in g.items() if k not in EXACT} for g in run] for run in found.chains.values() if len(run) == loop.generations]
    out: Row = {
        "n": loop.n,
        "generations": loop.generations,
        "chains": len(runs),
        "blocked": len(found.blocked),
        "lost_at_end": mean_of(utility[:, 0] - utility[:, -1]),
    }
    for name, alarm in monitors(kept[null]).items():
        stops = [stop_of(alarm, run) for run in runs]
        at = np.array([s if s is not None else loop.generations for s in stops])
        rang = [s for s in stops if s is not None]
        out[name] = {
            "stopped": len(rang) / len(runs), "generation": float(np.median(rang)) if rang else None,
            "lost": mean_of(utility[:, 0] - utility[np.arange(len(at)), at - 1]),
        }  # fmt: skip
    return out


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=Path, default=Path("benchmarks/results/alarm_rate.jsonl"))
    options = asked.parse_args()
    kept: dict[Loop, list[Run]] = {}

    def cell(name: str, told: dict[str, Any]) -> Cell:
        asked_of = {"what": "collapse", "setting": name}
        return asked_of, lambda: {**asked_of, **collapse_cell(told, kept)}

    cells: list[Cell] = [({"what": "null"}, lambda: {"what": "null", **null_cell()}), *(cell(name, told) for name, told in SETTINGS.items())]
    for indicators in (3, 10, 15):
        few = {"what": "few", "indicators": indicators}
        cells.append((few, lambda few=few: {**few, **few_cell(few["indicators"])}))  # type: ignore[misc]
    fill(options.out, cells, tell=lambda name, row: str(row))


if __name__ == "__main__":
    main()
