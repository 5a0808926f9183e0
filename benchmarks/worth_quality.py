"""Is "worth N (low..high) extra real images" right as often as it says? Simulated learning curves whose truth is known.

    python benchmarks/worth_quality.py [--worlds 10000] [--summary]

A world has a baseline whose mean accuracy at m real images is 1 - (0.1 + b m^-c), 0.80 at 200 images, measured at 50, 100 and 200; a candidate
that had 100 or 200 of them and scores what the baseline would with N more; test images of differing difficulty that learn at differing
speed; replicates that differ by a part shared over the sizes (the same images) and a part of their own. The interval covers where it holds N.

c from 0 to 2 is what the interval promises. One JSON line a cell, in
results/worth_quality.jsonl; finished cells are skipped. `--summary` prints the table, exit code 1 where a cell covers less than 0.94.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cells
from mitate.metrics.worth import possible, worth
from mitate.runtime import seed_of
from mitate.studies import gates
from simulated import rate, sigmoid

SIZES = (50.0, 100.0, 200.0)
FLOOR, ERROR = 0.1, 0.2  # error without end, and at the largest size
SHAPES = (0.3, 1.0, 1.5)
PLACES = ((100, -0.4), (100, 0.5), (200, -0.4), (200, 0.0), (200, 0.5), (200, 2.0))  # images that the candidate had, N as a multiple of them
TABLES = ((3, 150), (5, 150), (10, 150), (3, 1000), (5, 1000), (10, 1000), (5, 10_000))  # replicates, test images
PLAYED = 200_000
WHOLE = 100  # worlds of a cell for which the whole interval is made: its status and width
LEAST = 0.94


class World:
    """Mean logits that give the curve, and the spread around them."""

    def __init__(self, shape: float, at: int, extra: float) -> None:
        b = (ERROR - FLOOR) / SIZES[-1] ** -shape
        rng = np.random.default_rng(0)
        self._play = self._images(rng, PLAYED)
        self._noise = rng.normal(0, np.hypot(0.2, 0.25), PLAYED)
        self.levels = {m: self._level(1 - (FLOOR + b * m**-shape), 0.3) for m in SIZES}
        self.candidate = self._level(1 - (FLOOR + b * (at * (1 + extra)) ** -shape), 0.8)

    def _images(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.normal(0, 2.0, n)

    def _level(self, accuracy: float, spread: float) -> float:
        """The mean logit of this accuracy, for an arm whose effect on images has this spread."""
        fixed = self._play + self._noise + np.random.default_rng(1).normal(0, spread, PLAYED)
        low, high = -12.0, 12.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if sigmoid(fixed + middle).mean() < accuracy else (low, middle)
        return (low + high) / 2

    def draw(self, rng: np.random.Generator, replicates: int, n: int) -> tuple[np.ndarray, dict[float, np.ndarray]]:
        """Right answers, float64 [replicates, n]: of the candidate, and of the baseline at every size."""
        base, together = self._images(rng, n), rng.normal(0, 0.2, (replicates, 1))

        def arm(level: float, spread: float) -> np.ndarray:
            logits = (base + rng.normal(0, spread, n) + together + rng.normal(0, 0.25, (replicates, 1)) + level).astype(np.float32)
            return (rng.random((replicates, n), dtype=np.float32) < sigmoid(logits)).astype(np.float64)

        return arm(self.candidate, 0.8), {m: arm(level, 0.3) for m, level in self.levels.items()}


def cell(shape: float, at: int, extra: float, *, replicates: int, images: int, worlds: int) -> dict[str, Any]:
    """Coverage over `worlds` worlds; status and width of the whole interval over the first of them."""
    rng = np.random.default_rng(seed_of("worth", shape, at, extra, replicates, images))
    world = World(shape, at, extra)
    settings = {"confidence": gates.CONFIDENCE[0], "low_share": gates.LOW_SHARE}
    covered, statuses, widths = 0, Counter[str](), []
    for i in range(worlds):
        candidate, curve = world.draw(rng, replicates, images)
        covered += possible(candidate, curve, np.asarray([at * (1 + extra)]), **settings)[0]
        if i < WHOLE:
            found = worth(candidate, curve, at=at, **settings)
            statuses[found.status] += 1
            widths.append(np.inf if found.low is None or found.high is None else (found.high - found.low) / at)
    return {
        "shape": shape, "at": at, "extra": extra, "replicates": replicates, "images": images, "worlds": worlds, "coverage": rate(covered, worlds),
        "status": {k: v / min(WHOLE, worlds) for k, v in statuses.items()}, "width": float(w) if np.isfinite(w := np.median(widths)) else None,
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> int:
    """Print the table; the number of promised cells that cover too little."""
    print("| c | Had | N | Replicates | Test images | Coverage | Median width, of the images it had | Says |")
    print("|---|---|---|---|---|---|---|---|")
    for r in sorted(rows, key=lambda r: (r["shape"], r["at"], r["extra"], r["images"], r["replicates"])):
        says = ", ".join(f"{k} {v:.2f}" for k, v in sorted(r["status"].items(), key=lambda p: -p[1]) if v >= 0.005)
        width = "open" if r["width"] is None else f"{r['width']:.2f}"
        coverage = f"{r['coverage']['value']:.3f}"
        print(f"| {r['shape']} | {r['at']} | {r['extra'] * r['at']:+.0f} | {r['replicates']} | {r['images']:,} | {coverage} | {width} | {says} |")
    bad = [r for r in rows if r["coverage"]["value"] < LEAST]
    if rows:
        values = [r["coverage"]["value"] for r in rows]
        print(f"\n{len(rows)} cells: coverage {min(values):.4f} at least, {np.mean(values):.4f} on average; {len(bad)} below {LEAST}")
    return len(bad)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--worlds", type=int, default=10_000)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "worth_quality.jsonl")
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if given.summary:
        sys.exit(1 if summary(cells.read(given.out)) else 0)
    names: list[dict[str, Any]] = [
        {"shape": shape, "at": at, "extra": extra, "replicates": replicates, "images": images}
        for (replicates, images), shape, (at, extra) in itertools.product(TABLES, SHAPES, PLACES)
    ]
    wanted = ((name, partial(cell, **name, worlds=given.worlds)) for name in names)
    cells.fill(given.out, wanted, tell=lambda name, row: json.dumps({**name, "coverage": row["coverage"]["value"]}))


if __name__ == "__main__":
    main()
