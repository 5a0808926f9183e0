"""The toy pair through every setting, policy and dial: which claims about multi-modal loops hold where the truth is known, and what each dial repairs.

    python benchmarks/toy_loops.py [--out benchmarks/results/toy_loops.jsonl]

One JSON line a cell (`what` = cell): 5 chains of 8 generations, n = 200; indicators of the last generation with 95 % intervals over chains (Student's t), and
paired differences to the plain replace arm of the same setting and world. Real-only retraining (policy real) is the floor. `what` = claim: the paired
difference of one indicator in two cells, 20 chains, with Holm's correction over all of them: holds, does not hold, cannot tell. Results are ours; the
paper's figures are not known.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from cells import Cell, Row, fill, read
from mitate.loops.agents import Decode
from mitate.loops.chains import Loops, collapse
from mitate.loops.loop import Loop
from mitate.loops.toy import Toy
from mitate.metrics.intervals import holm, quantile_t

REPLICATES, GENERATIONS = 5, 8
CLAIMED = 20  # replicates of the cells that claims are about
WORLDS = {  # biased: every architecture has an error of its own that more samples do not repair; half: a fit goes half the way from where it stands
    "exact": Toy(),
    "biased": Toy(bias=0.1),
    "half": Toy(step=0.5),
}
SETTINGS = ("images", "captions", "both")
POLICIES = ("replace", "accumulate", "budget", "fresh:0.1", "fresh:0.25", "fresh:0.5", "real")
DIALS: dict[str, dict[str, Any]] = {
    "none": {},
    "base": {"start": "base"},
    "samples 4": {"images": Decode(samples=4), "captions": Decode(samples=4)},
    "search 4": {"images": Decode(search=4), "captions": Decode(search=4)},
    "depth 3": {"images": Decode(depth=3), "captions": Decode(depth=3)},
    "temperature 0.8": {"images": Decode(temperature=0.8), "captions": Decode(temperature=0.8)},
    "temperature 1.2": {"images": Decode(temperature=1.2), "captions": Decode(temperature=1.2)},
    "relabel frozen": {"relabel": "frozen"},
    "2x2": {"captioners": 2, "generators": 2},
    "4x4": {"captioners": 4, "generators": 4},
    "2x2 mixed": {"captioners": 2, "generators": 2},
    "4x4 mixed": {"captioners": 4, "generators": 4},
    "2x2 half frozen": {"captioners": 2, "generators": 2, "frozen_captioners": 1, "frozen_generators": 1},
    "frozen generator": {"frozen_generators": 1},
    "frozen captioner": {"frozen_captioners": 1},
}
KEPT = (
    "variance",
    "within_variance",
    "alignment",
    "entropy",
    "distinct",
    "caption_variance",
    "tail",
    "utility",
    "drift",
    "amplification",
    "caption_tv",
    "image_w2",
)

# claim, what must move which way: (indicator, direction, cell, against), cells as (world, setting, policy, dial)
BOTH, REAL = ("exact", "both", "replace", "none"), ("exact", "both", "real", "none")
CLAIMS: dict[str, list[tuple[str, int, tuple[str, str, str, str], tuple[str, str, str, str]]]] = {
    "quality falls without new data": [(name, way, BOTH, REAL) for name, way in (("caption_tv", 1), ("image_w2", 1), ("utility", -1), ("tail", -1))],
    "alignment rises while quality falls": [("alignment", 1, BOTH, REAL)],
    "alignment rises while quality falls, where a scorer selects (asked after the cells were seen)": [
        (name, 1, ("exact", "both", "replace", "search 4"), ("exact", "both", "real", "search 4")) for name in ("alignment", "caption_tv", "image_w2")
    ],
    "caption variance rises": [("caption_variance", 1, BOTH, REAL)],
    "caption variance rises at temperature 1.2, and is no health": [
        ("caption_variance", 1, ("exact", "both", "replace", "temperature 1.2"), REAL),
        ("caption_tv", 1, ("exact", "both", "replace", "temperature 1.2"), REAL),
    ],
    "attributes drift": [("drift", 1, BOTH, REAL)],
    "bias is amplified": [("amplification", 1, BOTH, REAL)],
    "more samples help": [(name, -1, ("exact", "both", "replace", "samples 4"), BOTH) for name in ("caption_tv", "image_w2")],
    "more samples help where models are biased": [
        (name, -1, ("biased", "both", "replace", "samples 4"), ("biased", "both", "replace", "none")) for name in ("caption_tv", "image_w2")
    ],
    "search speeds collapse up": [(name, 1, ("exact", "both", "replace", "search 4"), BOTH) for name in ("caption_tv", "image_w2")],
    "less depth hurts": [(name, 1, ("exact", "both", "replace", "depth 3"), BOTH) for name in ("caption_tv", "image_w2")],
    "frozen relabelling helps captions": [("caption_tv", -1, ("exact", "captions", "replace", "relabel frozen"), ("exact", "captions", "replace", "none"))],
    "frozen relabelling helps images": [("image_w2", -1, ("exact", "images", "replace", "relabel frozen"), ("exact", "images", "replace", "none"))],
    "frozen relabelling helps both": [(name, -1, ("exact", "both", "replace", "relabel frozen"), BOTH) for name in ("caption_tv", "image_w2")],
    "different models help more than alike ones": [
        (name, -1, ("biased", "both", "replace", "4x4 mixed"), ("biased", "both", "replace", "4x4")) for name in ("caption_tv", "image_w2")
    ],
    "more trainable models are worse": [(name, 1, ("exact", "both", "replace", "4x4"), BOTH) for name in ("caption_tv", "image_w2")],
    "freezing half of the models helps": [
        (name, -1, ("exact", "both", "replace", "2x2 half frozen"), ("exact", "both", "replace", "2x2")) for name in ("caption_tv", "image_w2")
    ],
    "accumulating helps": [(name, -1, ("exact", "both", "accumulate", "none"), BOTH) for name in ("caption_tv", "image_w2")],
    "a restart from the base holds collapse up": [
        (name, -1, ("half", "both", "replace", "base"), ("half", "both", "replace", "none")) for name in ("caption_tv", "image_w2")
    ],
    "a quarter of new real pairs helps": [(name, -1, ("exact", "both", "fresh:0.25", "none"), BOTH) for name in ("caption_tv", "image_w2")],
}  # fmt: skip

Name = tuple[str, str, str, str]


def sensible(world: str, setting: str, dial: str) -> bool:
    """Whether a dial turns anything there; in the third world only where a fit starts is asked."""
    if world == "half":
        return dial in ("none", "base")
    return setting == "both" or dial not in ("frozen generator", "frozen captioner", "2x2 half frozen")


def mean_of(values: np.ndarray) -> list[float]:
    half = quantile_t(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [round(float(v), 4) for v in (values.mean(), values.mean() - half, values.mean() + half)]


def p_of(values: np.ndarray) -> float:
    """Two-sided p of Student's t for a mean of zero; 1 where nothing differs."""
    se = values.std(ddof=1) / np.sqrt(len(values))
    return 1.0 if not se else float(2 * special.stdtr(len(values) - 1, -abs(values.mean() / se)))


class Runs:
    """Loops by cell, each run once."""

    def __init__(self, replicates: int) -> None:
        self.replicates = replicates
        self.found: dict[Name, Loops] = {}

    def of(self, name: Name) -> Loops:
        if name not in self.found:
            world, setting, policy, dial = name
            ground = replace(WORLDS[world], mixed=dial.endswith("mixed"))
            loop = Loop(setting=setting, policy=policy, generations=GENERATIONS, **DIALS[dial])
            self.found[name] = collapse(ground, loop, seeds=self.replicates)
        return self.found[name]

    def last(self, name: Name, indicator: str) -> np.ndarray:
        return self.of(name).table(indicator)[:, -1]

    def cell(self, name: Name) -> Row:
        found, plain = self.of(name), (name[0], name[1], "replace", "none")
        kept = [k for k in KEPT if k in found.lines[0]["indicators"]]
        costs = [line["cost"]["per_kept"] for line in found.lines]
        row: Row = {"replicates": len(found.table(kept[0])), "blocked": len(found.blocked), "cost": round(float(np.mean(costs)), 2)}
        row |= {"last": {k: mean_of(self.last(name, k)) for k in kept}}
        if name != plain and not found.blocked:
            row |= {"against_replace": {k: mean_of(self.last(name, k) - self.last(plain, k)) for k in kept}}
        return row


def claims() -> list[Row]:
    """Every part of every claim: it holds where the difference is on its side beyond chance, and does not where it is surely on the other."""
    runs = Runs(CLAIMED)
    parts = [(claim, *part) for claim, those in CLAIMS.items() for part in those]
    differences = [runs.last(cell, indicator) - runs.last(against, indicator) for _, indicator, _, cell, against in parts]
    rows = []
    for (claim, indicator, way, cell, against), d, p in zip(parts, differences, holm([p_of(d) for d in differences]), strict=True):
        verdict = "cannot tell" if p >= 0.05 else "holds" if way * d.mean() > 0 else "does not hold"
        told = {"indicator": indicator, "expected": "up" if way > 0 else "down", "cell": " | ".join(cell), "against": " | ".join(against)}
        rows.append({"what": "claim", "claim": claim, **told, "replicates": CLAIMED, "difference": mean_of(d), "p_holm": round(p, 5), "verdict": verdict})
    return rows


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=Path, default=Path("benchmarks/results/toy_loops.jsonl"))
    options = asked.parse_args()
    runs = Runs(REPLICATES)

    def cell(name: Name) -> Cell:
        told = {"what": "cell", "world": name[0], "setting": name[1], "policy": name[2], "dial": name[3]}
        return told, lambda: {**told, **runs.cell(name)}

    names = [(w, s, p, d) for w in WORLDS for s in SETTINGS for p in POLICIES for d in DIALS if sensible(w, s, d)]
    fill(options.out, (cell(name) for name in names), tell=lambda name, row: f"{' | '.join(str(v) for v in name.values())}: cost {row['cost']}")
    if not any(row["what"] == "claim" for row in read(options.out)):
        with open(options.out, "a") as out:
            for row in claims():
                out.write(json.dumps(row) + "\n")
                print(row["claim"], "|", row["indicator"], row["difference"], row["p_holm"], "->", row["verdict"])


if __name__ == "__main__":
    main()
