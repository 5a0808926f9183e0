"""Loops on real images: a VAE and a classifier that train on what they made, one dial changed at a time. What holds the damage off, and at what cost?

    MITATE_DATA=folder python benchmarks/image_loops.py [--arms replace,accumulate] [--seeds 0,1,2,3,4] [--summary]

Fashion-MNIST at 12 px, 600 pairs, 6 generations. The base case is `replace`: both models, each generation learns from the last one's pairs alone. Every other
arm changes one thing of it; `real` (new real pairs each time) is the floor. A chain of an arm has the real pairs and the seeds of the same chain of `replace`,
so arms are compared in pairs. `samples 4` keeps four images of each prompt, but features are compared at 500 pairs in every arm.

One JSON line a chain in results/image_loops.jsonl: indicators by generation, evaluations of models a kept pair, seconds of one core. Finished chains are
skipped, so a run that was broken off goes on; chains come seed by seed, so that all arms soon have as many. `--summary` prints the damage of `replace` (last
generation less its own first), and of every arm the difference to `replace` at the last generation and as mean over generations, with 95 % intervals over
chains (Student's t), and a verdict for those of CLAIMED after Holm's correction over all arms and all of them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from cells import Cell, Row, fill, read
from mitate.loops.agents import Decode
from mitate.loops.chains import collapse
from mitate.loops.labelled import Labelled
from mitate.metrics.intervals import holm, quantile_t

OUT = Path(__file__).parent / "results" / "image_loops.jsonl"
SIZE, N, GENERATIONS = 12, 600, 6
VAE = {"steps": 250, "width": 16, "codes": 16}
CLASSIFIER_STEPS = 100
ARMS: dict[str, dict[str, Any]] = {
    "replace": {},
    "accumulate": {"policy": "accumulate"},
    "budget": {"policy": "budget"},
    "fresh:0.25": {"policy": "fresh:0.25"},
    "real": {"policy": "real"},
    "relabel frozen": {"relabel": "frozen"},
    "samples 4": {"images": Decode(samples=4, depth=1)},
    "search 4": {"images": Decode(search=4, depth=1), "captions": Decode(search=4, depth=1)},
    "2x2": {"captioners": 2, "generators": 2},
    "images alone": {"setting": "images"},
    "captions alone": {"setting": "captions"},
}
SHOWN = (
    "utility", "recall", "coverage", "tail", "class_drift", "precision", "kernel_distance", "variance", "within_variance", "alignment", "entropy"
)  # fmt: skip
CLAIMED = {"utility": 1, "recall": 1, "coverage": 1, "tail": 1, "class_drift": -1}  # what must rise, or fall, for an arm to help
LEAST = 3  # pairs of chains that a difference is told from


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--arms", default=",".join(ARMS), help="comma-separated")
    asked.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated numbers of chains")
    asked.add_argument("--out", type=Path, default=OUT)
    asked.add_argument("--summary", action="store_true", help="print what the rows say, run nothing")
    options = asked.parse_args()
    if options.summary:
        print("\n".join(summary(read(options.out))))
        return
    arms, seeds = options.arms.split(","), [int(s) for s in options.seeds.split(",")]
    if unknown := sorted(set(arms) - set(ARMS)):
        asked.error(f"there is no arm {unknown[0]!r}, only {', '.join(ARMS)}")
    if "MITATE_DATA" not in os.environ:
        asked.error("MITATE_DATA names no folder of real images")
    data = str(Path(os.environ["MITATE_DATA"]) / "fashion_mnist.npz")
    ground = Labelled(data, "vae", VAE, size=SIZE, classifier_steps=CLASSIFIER_STEPS)
    fill(options.out, (cell(ground, arm, seed) for seed in seeds for arm in arms), tell=told)


def named(arm: str, seed: int) -> Row:
    """What a chain is called: its settings too, so that chains of others are not taken for it."""
    return {"what": "chain", "set": "fashion_mnist", "size": SIZE, "n": N, "vae": VAE, "classifier_steps": CLASSIFIER_STEPS, "arm": arm, "seed": seed}


def cell(ground: Labelled, arm: str, seed: int) -> Cell:
    return named(arm, seed), lambda: {**named(arm, seed), **chain(ground, arm, seed)}


def chain(ground: Labelled, arm: str, seed: int) -> Row:
    """Indicators of every generation, cost, and seconds; or why it broke off."""
    _ = ground.held, ground._scorer, ground._cells  # made once for all chains: not a chain's time
    started = time.process_time()
    loop = replace(ground.loop(n=N, generations=GENERATIONS), **ARMS[arm])
    found = collapse(ground, loop, seeds=[seed])
    seconds = round(time.process_time() - started, 1)
    if found.blocked:
        return {"blocked": found.blocked[seed], "seconds": seconds}
    indicators = {name: [round(g[name], 5) for g in found.chains[seed]] for name in found.lines[0]["indicators"]}
    costs, learnt = ([line[what] for line in found.lines] for what in ("cost", "learnt_from"))
    per_kept = round(float(np.mean([c["per_kept"] for c in costs])), 2)
    return {"indicators": indicators, "per_kept": per_kept, "real": sum(one["real"] for one in learnt), "seconds": seconds}


def told(name: Row, row: Row) -> str:
    said = row["blocked"] if "blocked" in row else f"utility {row['indicators']['utility'][0]:.3f} -> {row['indicators']['utility'][-1]:.3f}"
    return f"{name['arm']} | {name['seed']}: {said}, {row['seconds']} s"


def summary(rows: Sequence[Row]) -> list[str]:
    """Lines of text: damage of replace, and each arm against it."""
    tables: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row["what"] == "chain" and row == {**row, **named(row["arm"], row["seed"])} and "indicators" in row:
            tables.setdefault(row["arm"], {})[row["seed"]] = row
    plain = tables.get("replace", {})
    if len(plain) < LEAST:
        return [f"{len(plain)} chains of replace are too few, {LEAST} are needed"]
    lines = [f"replace, {len(plain)} chains: last generation less the first"]
    for name in SHOWN:
        values = np.array([row["indicators"][name] for row in plain.values()])
        lines.append(f"  {name:16} {values[:, 0].mean():8.3f} -> {values[:, -1].mean():8.3f}   {interval(values[:, -1] - values[:, 0])}")
    compared = {arm: sorted(set(table) & set(plain)) for arm, table in tables.items() if arm != "replace"}
    compared = {arm: seeds for arm, seeds in compared.items() if len(seeds) >= LEAST}
    parts = [(arm, name) for arm in compared for name in CLAIMED]
    last = {(arm, name): differences(tables[arm], plain, compared[arm], name)[0] for arm in compared for name in SHOWN}
    corrected = dict(zip(parts, holm([p_of(last[part]) for part in parts]), strict=True)) if parts else {}
    for arm, seeds in compared.items():
        own = [tables[arm][seed] for seed in seeds]
        cost, seconds = (float(np.mean([row[what] for row in own])) for what in ("per_kept", "seconds"))
        lines.append(
            f"{arm} less replace, {len(seeds)} pairs of chains; {cost:.2f} evaluations a kept pair, {seconds:.0f} s a chain, "
            f"{own[0]['real']} real pairs learnt from, counted anew in every generation"
        )
        for name in SHOWN:
            mean = differences(tables[arm], plain, seeds, name)[1]
            verdict = verdict_of(name, last[arm, name], corrected[arm, name]) if name in CLAIMED else ""
            lines.append(f"  {name:16} last {interval(last[arm, name])}   mean {interval(mean)}   {verdict}".rstrip())
    blocked = [row for row in rows if "blocked" in row]
    return lines + [f"blocked: {row['arm']} {row['seed']}: {row['blocked']}" for row in blocked]


def differences(table: dict[int, Row], plain: dict[int, Row], seeds: Sequence[int], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the last generation and of the mean over generations, float64 [seeds] both."""
    d = np.array([table[s]["indicators"][name] for s in seeds]) - np.array([plain[s]["indicators"][name] for s in seeds])
    return d[:, -1], d.mean(axis=1)


def verdict_of(name: str, d: np.ndarray, p: float) -> str:
    """helps or hurts where the difference is beyond chance, else cannot tell."""
    return f"cannot tell (p {p:.3f})" if p >= 0.05 else f"{'helps' if CLAIMED[name] * d.mean() > 0 else 'hurts'} (p {p:.3f})"


def interval(values: np.ndarray) -> str:
    half = quantile_t(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


def p_of(values: np.ndarray) -> float:
    """Two-sided p of Student's t for a mean of zero; 1 where nothing differs."""
    se = values.std(ddof=1) / np.sqrt(len(values))
    return 1.0 if not se else float(2 * special.stdtr(len(values) - 1, -abs(values.mean() / se)))


if __name__ == "__main__":
    main()
