"""A second source of truth: the rule on real answers of forty Fashion-MNIST replicates (experiments/2026-11-22-replay).

    python benchmarks/replay.py [--draws 10000] [--summary]

The truth of an arm is its mean gain over forty replicates and all 10,000 test images. The rule sees draws of a few replicates (with
replacement, so that the forty stand for all there could be) and some of the test images. The worthwhile gain is put where it hurts: at the
truth itself, where every `go` and every `stop` is false, and one and two points to either side. `more` is the baseline with thirty real images
a class instead of twenty: its worth is ten extra images a class by construction, and the interval of the real-image equivalent must hold it.
One JSON line a cell, in results/replay.jsonl, written anew by each run; a minute or two.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from decision_quality import LIMITS
from mitate.metrics.intervals import two_way
from mitate.metrics.worth import possible, worth
from mitate.runtime import seed_of
from mitate.studies import gates
from simulated import rate

KEPT = Path(__file__).parents[1] / "experiments" / "2026-11-22-replay" / "right.npz"
BASELINE, MORE = "real+augment 20", "real+augment 30"
ARMS = (MORE, "real 20", "balanced+augment vae 20", "mixed+augment vae 20", "bridged+++augment vae 20")
TABLES = ((5, 150), (3, 150), (10, 150), (5, 1000))  # replicates, test images
SHIFTS = (-0.02, -0.01, 0.0, 0.01, 0.02)  # of the worthwhile gain from the truth
CLASSES = 10
WHOLE = 300  # draws for which the whole interval of the equivalent is made


def read() -> dict[str, np.ndarray]:
    """Right or wrong, float64 [replicates, images], of every arm."""
    with np.load(KEPT, allow_pickle=False) as kept:
        n = int(kept["images"])
        return {arm: np.unpackbits(kept[arm], axis=1, count=n).astype(np.float64) for arm in kept.files if arm not in ("images", "facts")}


def verdicts(right: dict[str, np.ndarray], arm: str, *, replicates: int, images: int, draws: int) -> dict[str, Any]:
    """Coverage, and answers at each worthwhile gain."""
    rng = np.random.default_rng(seed_of("replay", arm, replicates, images))
    gains = right[arm] - right[BASELINE]
    others = [right[a] - right[BASELINE] for a in ARMS if a != arm]
    truth, covered = float(gains.mean()), 0
    answers = {shift: {"go": 0, "stop": 0, "more evidence": 0} for shift in SHIFTS}
    for _ in range(draws):
        part = np.ix_(rng.integers(0, len(gains), replicates), rng.choice(gains.shape[1], images, replace=False))
        typical = float(np.median([other[part].mean(axis=1).var(ddof=1) for other in others]))
        found = two_way(gains[part], confidence=gates.CONFIDENCE[0], typical=typical, low_share=gates.LOW_SHARE)
        covered += found.low <= truth <= found.high
        for shift, counts in answers.items():
            counts[gates.decide(found, worthwhile=truth + shift)] += 1
    shares = {f"{shift:+.2f}": {k: rate(v, draws) for k, v in counts.items()} for shift, counts in answers.items()}
    skew = float(((gains.mean(axis=1) - truth) ** 3).mean() / gains.mean(axis=1).std() ** 3)
    return {
        "part": "verdict", "arm": arm, "replicates": replicates, "images": images, "draws": draws, "truth": truth,
        "row_sd": float(gains.mean(axis=1).std(ddof=1)), "image_variance": float(gains.mean(axis=0).var(ddof=1)),
        "row_skew": skew, "coverage": rate(covered, draws), "worthwhile_from_truth": shares,
    }  # fmt: skip


def equivalents(right: dict[str, np.ndarray], sizes: tuple[int, ...], *, replicates: int, images: int, draws: int) -> dict[str, Any]:
    """Does the interval hold ten extra images a class? sizes: of the curve, images a class."""
    rng = np.random.default_rng(seed_of("replay worth", sizes, replicates, images))
    settings = {"confidence": gates.CONFIDENCE[0], "low_share": gates.LOW_SHARE}
    covered, says = 0, {}
    for i in range(draws):
        rows, columns = rng.integers(0, len(right[MORE]), replicates), rng.choice(right[MORE].shape[1], images, replace=False)
        part = {arm: table[rows][:, columns] for arm, table in right.items()}
        curve = {float(CLASSES * m): part[f"real+augment {m}"] for m in sizes}
        covered += bool(possible(part[MORE], curve, np.array([CLASSES * 30.0]), **settings)[0])
        if i < WHOLE:
            status = worth(part[MORE], curve, at=CLASSES * 20.0, **settings).status
            says[status] = says.get(status, 0) + 1 / min(WHOLE, draws)
    return {
        "part": "worth", "arm": MORE, "sizes": list(sizes), "replicates": replicates, "images": images, "draws": draws, "truth": 10.0 * CLASSES,
        "coverage": rate(covered, draws), "says": says,
    }  # fmt: skip


def learning_curve(right: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean score of the baseline at each number of real images a class, with the standard error over replicates."""
    sizes = sorted(int(arm.rsplit(" ", 1)[1]) for arm in right if arm.startswith("real+augment "))
    scores = {m: right[f"real+augment {m}"].mean(axis=1) for m in sizes}
    points = {str(m): {"value": float(s.mean()), "se": float(s.std(ddof=1) / np.sqrt(len(s)))} for m, s in scores.items()}
    return {"part": "curve", "replicates": len(right[BASELINE]), "images": right[BASELINE].shape[1], "points": points}


def summary(rows: list[dict[str, Any]]) -> int:
    """Print the tables; the number of cells outside the limits of decision_quality."""
    print("| Arm | Replicates | Test images | True gain | Coverage | At the truth: go, stop | Worthwhile 2 points below: go | 2 points above: stop |")
    print("|---|---|---|---|---|---|---|---|")
    bad = 0
    for r in rows:
        if r["part"] == "verdict":
            at, below, above = (r["worthwhile_from_truth"][k] for k in ("+0.00", "-0.02", "+0.02"))
            go, stop = at["go"]["value"], at["stop"]["value"]
            bad += r["coverage"]["value"] < LIMITS["coverage"] or go > LIMITS["false_go"] or stop > LIMITS["false_stop"]
            head = f"| {r['arm']} | {r['replicates']} | {r['images']:,} | {100 * r['truth']:+.2f} | {r['coverage']['value']:.3f} "
            print(f"{head}| {go:.3f}, {stop:.3f} | {below['go']['value']:.2f} | {above['stop']['value']:.2f} |")
    for r in rows:
        if r["part"] == "curve":
            points = ", ".join(f"{100 * p['value']:.1f} % at {m}" for m, p in r["points"].items())
            print(f"\nReal images and classical augmentation, {r['replicates']} replicates, a class: {points}.")
    print("\n| Curve measured at, a class | Replicates | Test images | Coverage of +10 a class | Says |\n|---|---|---|---|---|")
    for r in rows:
        if r["part"] == "worth":
            says = ", ".join(f"{k} {v:.2f}" for k, v in sorted(r["says"].items(), key=lambda p: -p[1]))
            bad += r["coverage"]["value"] < LIMITS["coverage"]
            print(f"| {', '.join(map(str, r['sizes']))} | {r['replicates']} | {r['images']:,} | {r['coverage']['value']:.3f} | {says} |")
    return bad


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--draws", type=int, default=10_000)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "replay.jsonl")
    options.add_argument("--summary", action="store_true", help="print the table of the kept results; exit code 1 where a cell is outside its limits")
    given = options.parse_args()
    if given.summary:
        sys.exit(1 if summary([json.loads(line) for line in given.out.read_text().splitlines()]) else 0)
    right = read()
    rows = [verdicts(right, arm, replicates=r, images=n, draws=given.draws) for r, n in TABLES for arm in ARMS]
    rows += [equivalents(right, sizes, replicates=r, images=n, draws=given.draws) for sizes in ((10, 20, 40), (10, 20)) for r, n in ((5, 150), (5, 1000))]
    rows.append(learning_curve(right))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sys.exit(1 if summary(rows) else 0)


if __name__ == "__main__":
    main()
