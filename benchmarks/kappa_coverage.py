"""Does the interval of two reviewers' kappa hold the truth? Simulated reviewers of two classes, equally common, who agree by a known kappa.

    python benchmarks/kappa_coverage.py [--draws 250]
    python benchmarks/kappa_coverage.py --summary

Both give each class half of the images; they say the same of a share (1 + kappa) / 2. One JSON line a cell in results/kappa_coverage.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cells
from mitate.curation.agreement import kappa

OUT = Path(__file__).parent / "results" / "kappa_coverage.jsonl"
IMAGES, KAPPAS = (20, 50, 200), (0.5, 0.8, 0.95)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--draws", type=int, default=250)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [{"images": n, "kappa": k, "draws": given.draws} for n in IMAGES for k in KAPPAS]
        cells.fill(
            given.out, [(name, partial(measure, name)) for name in names], tell=lambda n, row: f"{n['images']} images, kappa {n['kappa']}: {row['held']}"
        )
    print(summary(cells.read(given.out)))


def measure(name: Mapping[str, Any]) -> cells.Row:
    chance = np.random.default_rng([name["images"], int(100 * name["kappa"])])
    shares = np.array([[1 + name["kappa"], 1 - name["kappa"]], [1 - name["kappa"], 1 + name["kappa"]]]) / 4
    held = counted = 0
    for draw in range(name["draws"]):
        found = kappa(chance.multinomial(name["images"], shares.ravel()).reshape(2, 2), seed=draw)
        if found is not None:  # both gave every image the same answer
            counted += 1
            held += found.low <= name["kappa"] <= found.high
    return {**name, "held": cells.share(held, counted, digits=3), "counted": counted}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Images | Kappa | Holds the truth, % (95 %) |", "|---|---|---|"]
    for row in rows:
        value, low, high = (100 * v for v in row["held"])
        lines.append(f"| {row['images']} | {row['kappa']:g} | {value:.1f} ({low:.1f} to {high:.1f}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
