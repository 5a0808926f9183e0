"""How often the band of a volume study's curve holds the true curve: simulated tables of answers with known curves.

    python benchmarks/curve_coverage.py [--trials 300] [--out benchmarks/results/curve_coverage.jsonl]

One JSON line a scenario and number of replicates: the share of trials in which the 95 % band holds the truth at each place. Images are
hard or easy for all volumes alike, a replicate has luck of its own at every volume and, where said, luck that all volumes share.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mitate.metrics.curves import Power, fit_band
from mitate.metrics.intervals import two_way

N = np.array([50.0, 100.0, 200.0, 500.0])
AT = np.array([50.0, 75.0, 100.0, 200.0, 350.0, 500.0])
IMAGES = 300
SCENARIOS = {  # curve, spread of a training, spread of a replicate, spread of an image's difficulty
    "falls": (Power(0.15, 0.6, 0.5), 0.02, 0.0, 0.15),
    "flat": (Power(0.2, 0.0, 0.5), 0.02, 0.0, 0.10),
    "rises": (Power(0.3, -0.5, 0.5), 0.02, 0.02, 0.10),
}


def tables_of(truth: Power, rng: np.random.Generator, *, replicates: int, training: float, replicate: float, image: float) -> np.ndarray:
    """Wrong answers, float64 [volumes, replicates, images]."""
    luck = rng.normal(0, training, (len(N), replicates, 1)) + rng.normal(0, replicate, (1, replicates, 1))
    wrong = np.clip(truth.at(N)[:, None, None] + luck + rng.normal(0, image, IMAGES), 0, 1)
    return (rng.random(wrong.shape) < wrong).astype(np.float64)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--trials", type=int, default=300)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    lines = []
    for name, (truth, training, replicate, image) in SCENARIOS.items():
        for replicates in (3, 5, 8):
            rng, hits, width = np.random.default_rng(0), np.zeros(len(AT)), 0.0
            for trial in range(options.trials):
                tables = tables_of(truth, rng, replicates=replicates, training=training, replicate=replicate, image=image)
                se = np.array([two_way(t, confidence=0.95).se for t in tables])
                band = fit_band(tables, N, se=se, at=AT, confidence=0.95, seed=trial)
                hits += (band.low <= truth.at(AT)) & (truth.at(AT) <= band.high)
                width += float((band.high - band.low).mean())
            found = {
                "what": "curve_coverage", "scenario": name, "replicates": replicates, "images": IMAGES, "trials": options.trials, "at": AT.tolist(),
                "coverage": [round(float(h), 3) for h in hits / options.trials], "width": round(width / options.trials, 4),
            }  # fmt: skip
            print(json.dumps(found), flush=True)
            lines.append(json.dumps(found))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
