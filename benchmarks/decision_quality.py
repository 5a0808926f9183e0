"""Is the verdict right as often as it says? The pilot's own rule on simulated worlds whose truth is known.

    python benchmarks/decision_quality.py [--worlds 10000] [--out benchmarks/results/decision_quality.jsonl]

A world has test images of differing difficulty, on which the candidate helps some and hurts others; replicates whose gains differ
(normal, or heavy-tailed with a generator that sometimes fails); answers that are right or wrong. The true gain is fixed by
calibration: it is the mean over images and replicates that the world is drawn from. Every world is judged by `two_way` and `decide`
as a pilot does it, at one look and at three (five more replicates each, on the same test images). Several candidates: the best of six
arms on a selection split of 100 images and two replicates is judged on fresh replicates.

One JSON line a cell: rates with their Monte Carlo standard error. Resumable: finished cells of the file are skipped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mitate.metrics.intervals import two_way
from mitate.runtime import seed_of
from mitate.studies import gates

WORTHWHILE = 0.01
MORE = 5  # replicates that a further look adds
ARMS = 6
PLAYED = 400_000  # draws of (image, replicate) by which a world's true gain is set


@dataclass(frozen=True)
class Cell:
    """One kind of world."""

    gain: float  # true gain of the candidate, share of images
    replicates: int
    images: int
    tails: str  # normal, heavy
    row_sd: float = 0.35  # spread of a replicate's gain, in logits: about 4 points
    image_sd: float = 0.8  # spread of the gain over images, in logits
    difficulty: float = 2.0  # spread of difficulty, in logits
    level: float = 1.2  # mean logit of the baseline


def rows(rng: np.random.Generator, cell: Cell, shape: tuple[int, ...]) -> np.ndarray:
    """What a replicate adds to the candidate's logit; mean 0 is not needed, the calibration sees it."""
    if cell.tails == "normal":
        return rng.normal(0, cell.row_sd, shape)
    failed = rng.random(shape) < 0.1
    return cell.row_sd * rng.standard_t(3, shape) / math.sqrt(3) - failed * 1.0


def shift_for(cell: Cell) -> float:
    """The candidate's mean logit above the baseline that gives the cell's true gain, by bisection on one large fixed draw."""
    rng = np.random.default_rng(0)
    base = cell.level + rng.normal(0, cell.difficulty, PLAYED)
    extra = rng.normal(0, cell.image_sd, PLAYED) + rows(rng, cell, (PLAYED,))
    noise = rng.normal(0, 0.5 * cell.row_sd, PLAYED)
    target = (1 / (1 + np.exp(-(base + noise)))).mean() + cell.gain
    low, high = -8.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(base + extra + middle)))).mean() < target else (low, middle)
    return (low + high) / 2


def draw(rng: np.random.Generator, cell: Cell, shift: float, replicates: int) -> np.ndarray:
    """Paired differences, int8 [replicates, images], of one world."""
    n = cell.images
    base = (cell.level + rng.normal(0, cell.difficulty, n)).astype(np.float32)
    help_ = rng.normal(0, cell.image_sd, n).astype(np.float32)
    candidate = rows(rng, cell, (replicates, 1)).astype(np.float32) + np.float32(shift)
    baseline = rng.normal(0, 0.5 * cell.row_sd, (replicates, 1)).astype(np.float32)
    first = rng.random((replicates, n), dtype=np.float32) < 1 / (1 + np.exp(-(base + help_ + candidate)))
    second = rng.random((replicates, n), dtype=np.float32) < 1 / (1 + np.exp(-(base + baseline)))
    return first.astype(np.int8) - second.astype(np.int8)


def judge(cell: Cell, worlds: int) -> dict[str, object]:
    """Rates over `worlds` worlds of one kind."""
    rng = np.random.default_rng(seed_of("worlds", json.dumps(asdict(cell), sort_keys=True)))
    shift = shift_for(cell)
    most = cell.replicates + 2 * MORE
    covered = above = 0
    first: dict[str, int] = {"go": 0, "stop": 0, "more evidence": 0}
    after: dict[str, int] = {"go": 0, "stop": 0, "more evidence": 0}
    printed = []
    for _ in range(worlds):
        table = draw(rng, cell, shift, most).astype(np.float64)
        verdict = "more evidence"
        for look, confidence in enumerate(gates.CONFIDENCE):
            found = two_way(table[: cell.replicates + look * MORE], confidence=confidence)
            if look == 0:
                covered += found.low <= cell.gain <= found.high
                above += found.low > cell.gain
                printed.append(gates.detectable_from(found, confidence=confidence))
            verdict = gates.decide(found, worthwhile=WORTHWHILE)
            if look == 0:
                first[verdict] += 1
            if verdict != "more evidence":
                break
        after[verdict] += 1

    def rate(hits: int) -> dict[str, float]:
        share = hits / worlds
        return {"value": share, "se": math.sqrt(max(share * (1 - share), 1 / worlds) / worlds)}

    return {
        **asdict(cell), "worlds": worlds, "coverage": rate(covered), "missed_above": rate(above), "detectable": float(np.median(printed)),
        "one_look": {k: rate(v) for k, v in first.items()}, "three_looks": {k: rate(v) for k, v in after.items()},
    }  # fmt: skip


def choose_and_judge(images: int, replicates: int, worlds: int, *, fresh: bool) -> dict[str, object]:
    """False `go` when the best of six useless arms on the selection split is judged, on fresh replicates or on the ones that chose it."""
    cell = Cell(0.0, replicates, images, "normal")
    small = Cell(0.0, 2, 100, "normal")
    rng = np.random.default_rng(seed_of("choice", images, replicates, int(fresh)))
    shift = shift_for(cell)
    goes = 0
    for _ in range(worlds):
        luck = [rows(rng, cell, (2, 1)) for _ in range(ARMS)]
        seen = [_with_rows(rng, small, shift, one).mean() for one in luck]
        best = luck[int(np.argmax(seen))]
        table = draw(rng, cell, shift, replicates) if fresh else _with_rows(rng, cell, shift, np.concatenate([best, rows(rng, cell, (replicates - 2, 1))]))
        goes += gates.decide(two_way(table.astype(np.float64), confidence=gates.CONFIDENCE[0]), worthwhile=0.0) == "go"
    share = goes / worlds
    return {
        "choice": "fresh replicates" if fresh else "the replicates that chose", "images": images, "replicates": replicates, "worlds": worlds,
        "false_go": {"value": share, "se": math.sqrt(max(share * (1 - share), 1 / worlds) / worlds)},
    }  # fmt: skip


def _with_rows(rng: np.random.Generator, cell: Cell, shift: float, candidate: np.ndarray) -> np.ndarray:
    base = cell.level + rng.normal(0, cell.difficulty, cell.images)
    help_ = rng.normal(0, cell.image_sd, cell.images)
    baseline = rng.normal(0, 0.5 * cell.row_sd, candidate.shape)
    first = rng.random((len(candidate), cell.images)) < 1 / (1 + np.exp(-(base + help_ + candidate + shift)))
    second = rng.random((len(candidate), cell.images)) < 1 / (1 + np.exp(-(base + baseline)))
    return first.astype(np.float64) - second


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--worlds", type=int, default=10_000)
    options.add_argument("--most-images", type=int, default=10_000)
    options.add_argument("--out", type=Path, default=Path("benchmarks/results/decision_quality.jsonl"))
    given = options.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows_done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    keys = ("gain", "replicates", "images", "tails")
    done = {tuple(row[k] for k in keys) for row in rows_done if "gain" in row}
    chosen = {(row["choice"], row["images"]) for row in rows_done if "choice" in row}
    with open(given.out, "a") as out:

        def keep(row: dict[str, object]) -> None:
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(json.dumps(row), flush=True)

        for images, replicates, tails, gain in itertools.product((30, 150, 1000, 10_000), (3, 5, 10), ("normal", "heavy"), (-0.05, 0.0, 0.01, 0.05, 0.15)):
            if images <= given.most_images and (gain, replicates, images, tails) not in done:
                keep(judge(Cell(gain, replicates, images, tails), given.worlds))
        for images, fresh in itertools.product((150, 1000), (True, False)):
            if images <= given.most_images and ("fresh replicates" if fresh else "the replicates that chose", images) not in chosen:
                keep(choose_and_judge(images, 5, given.worlds, fresh=fresh))


if __name__ == "__main__":
    main()
