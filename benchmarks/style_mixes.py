"""How often style blames a set for its mix of classes, as the sets come and at one mix (metrics/mixes.py).

    python benchmarks/style_mixes.py [--worlds 200] [--out benchmarks/results/style_mixes.jsonl]

Worlds of Gaussian classes (deviation 1 in every column, means N(0, 3^2)); the real and the held-out set have equal classes, the synthetic one the mix
that is named, and the same look but for the shift of every column. One JSON line a case and way: how often `told_apart` is worse than its
floor, how often value, floor and the gap of the first column hold what is true without a shift (0.5, 0.5) or with it (the gap), and the share of the
synthetic images that is kept. 200 worlds leave a Monte Carlo error of 0.015 at 0.95.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mitate.metrics.looks import gaps
from mitate.metrics.mixes import one_mix
from mitate.metrics.told_apart import ApartBeside, told_apart_beside
from mitate.score import Score

RAMP = tuple(0.01 + 0.02 * k for k in range(10))  # from 1 to 19 % of the images
CASES = {  # images of the real, synthetic and held-out set, columns, mix of the synthetic one, shift
    "2 classes, 50/50": ((200, 200, 200), 8, (0.5, 0.5), 0.0),
    "2 classes, 90/10": ((200, 200, 200), 8, (0.9, 0.1), 0.0),
    "2 classes, 80/20, few": ((80, 80, 60), 8, (0.8, 0.2), 0.0),
    "10 classes, equal": ((200, 200, 100), 16, (0.1,) * 10, 0.0),
    "10 classes, 1 to 19 %": ((200, 200, 100), 16, RAMP, 0.0),
    "2 classes, 50/50, another look": ((200, 200, 200), 8, (0.5, 0.5), 0.25),
    "2 classes, 90/10, another look": ((200, 200, 200), 8, (0.9, 0.1), 0.25),
    "10 classes, equal, another look": ((200, 200, 100), 16, (0.1,) * 10, 0.2),
}


def world(sizes: tuple[int, ...], columns: int, mix: tuple[float, ...], shift: float, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features and classes of the three sets."""
    rng, k = np.random.default_rng(seed), len(mix)
    means = 3.0 * np.random.default_rng(7).normal(size=(k, columns))
    labels = [rng.choice(k, size=n, p=p) for n, p in zip(sizes, (None, mix, None), strict=True)]
    points = [means[y] + rng.normal(size=(len(y), columns)) for y in labels]
    points[1] += shift
    return points, labels


def blamed(found: ApartBeside) -> bool:
    value, floor = found.value.auc, found.floor.auc
    told = {"low": value.low, "high": value.high, "n": value.n, "floor": floor.value, "floor_low": floor.low, "floor_high": floor.high}
    return Score("told_apart", "style", "", value.value, better="lower", **told).beside == "worse"  # type: ignore[arg-type]


def case(name: str, worlds: int) -> list[dict[str, object]]:
    sizes, columns, mix, shift = CASES[name]
    table = np.zeros((2, 6))
    for seed in range(worlds):
        points, labels = world(sizes, columns, mix, shift, seed)
        rows = one_mix(labels, seed=seed)
        some = [x[r] for x, r in zip(points, rows, strict=True)]
        of = labels[0][rows[0]], labels[1][rows[1]], labels[2][rows[2]]
        for line, sets, told in ((table[0], points, None), (table[1], some, of)):
            found = told_apart_beside(*sets, seed=seed, labels=told)  # type: ignore[call-arg]
            value, floor = found.value.auc, found.floor.auc
            gap = gaps({"lightness": sets[0][:, 0]}, {"lightness": sets[1][:, 0]})["lightness"].gap
            holds = value.low <= 0.5 <= value.high, floor.low <= 0.5 <= floor.high, gap.low <= shift <= gap.high
            line += [blamed(found), value.value, *holds, len(sets[1]) / len(points[1])]
    names = ("worse", "auc", "value holds 0.5", "floor holds 0.5", "gap holds", "kept")
    return [
        {"what": "style_mixes", "case": name, "way": way, "worlds": worlds} | {key: round(float(v), 3) for key, v in zip(names, line / worlds, strict=True)}
        for way, line in zip(("as they come", "at one mix"), table, strict=True)
    ]


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--worlds", type=int, default=200)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    lines = []
    for name in CASES:
        for line in case(name, options.worlds):
            lines.append(json.dumps(line))
            print(lines[-1], flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
