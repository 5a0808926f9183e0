"""Is the verdict right as often as it says? The pilot's own rule on simulated worlds whose truth is known.

    python benchmarks/decision_quality.py [--worlds 10000] [--only-part verdict,choice,interval] [--summary]

A world has test images of differing difficulty, on which the candidate helps some and hurts others; replicates whose gains differ;
answers that are right or wrong. Five kinds of world:

    normal     replicates and images differ normally, in logits
    heavy      a replicate's gain has Student's t with 3 degrees of freedom, and one generator fit in ten fails by a whole logit
    discrete   images are hopeless, open or easy; a replicate is lucky, plain or unlucky
    grouped    test images come in groups of ten (plants, patients) that the candidate helps or hurts together
    shared     one generator for all replicates, as with a folder of images: its own luck is in every row. The truth is that of this generator

The true gain is fixed by calibration on 400,000 draws. Every world is judged by `two_way` and `decide` as a pilot does it, at up to three
looks, each with five more replicates on the same test images; the candidate's spread borrows from two other arms of the first look.
`verdict` cells: coverage of the first interval, rates of each answer after one look and after three, at no effect, the worthwhile gain
itself (the worst place for a false go and a false stop), harm, a large gain, and 1 to 3 smallest detectable gains above the worthwhile
one. `choice` cells: the whole chain, from six arms on a selection split through the reach gate to the verdict. `interval` cells: the
verdict's interval beside the textbook's (worth_quality.py has the real-image equivalent's).

False go: `go` while the true gain is at most the worthwhile one. False stop: `stop` while it is above (at the edge itself: as if just above).
One JSON line a cell, in results/decision_quality.jsonl: rates with their Monte Carlo standard error. Resumable: finished cells are skipped.
`--summary` prints the table of docs/statistics.md and ends with exit code 1 where a cell is outside its limits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cells
from mitate.metrics.intervals import ends, pooled_row_se, quantile_t, two_way
from mitate.runtime import seed_of
from mitate.studies import gates
from mitate.studies.arms import Arm
from mitate.studies.stages import additive
from simulated import KINDS, Draw, Truth, World, groups_of, rate, sigmoid

WORTHWHILE = 0.01
MORE = 5  # replicates that a further look adds
GAINS = {"none": 0.0, "worthwhile": WORTHWHILE, "harm": -0.05, "large": 0.15}
STEPS = (1, 2, 3)  # smallest detectable gains above the worthwhile one
LIMITS = {"false_go": 0.05, "false_stop": 0.10, "coverage": 0.94, "mean_coverage": 0.97, "power": 0.8}


# the verdict ----------------------------------------------------------------------------------------------------------


def verdict_cell(world: World, truth: Truth, place: str, gain: float, *, replicates: int, images: int, worlds: int) -> dict[str, Any]:
    """Rates over `worlds` worlds of one kind at one true gain."""
    rng = np.random.default_rng(seed_of("worlds", world.kind, place, replicates, images))
    shift = truth.shift_for(gain)
    assert shift is not None
    groups = groups_of(world, images)
    covered = covered_mean = false_go = false_stop = 0
    answers = {look: {"go": 0, "stop": 0, "more evidence": 0} for look in (1, 3)}
    printed = []
    for _ in range(worlds):
        drawn = Draw(rng, world, images, shift)
        true = truth.of(drawn.shift) if world.kind == "shared" else gain
        table, verdict = drawn.rows(replicates), "more evidence"
        typical = drawn.typical()
        for look, confidence in enumerate(gates.CONFIDENCE):
            if look:
                table = np.concatenate([table, drawn.rows(MORE)])
            found = two_way(table, confidence=confidence, groups=groups, typical=typical, low_share=gates.LOW_SHARE)
            if look == 0:
                covered += found.low <= true <= found.high
                covered_mean += found.low <= gain <= found.high
                printed.append(gates.detectable_from(found, confidence=confidence))
            verdict = gates.decide(found, worthwhile=WORTHWHILE)
            if look == 0:
                answers[1][verdict] += 1
            if verdict != "more evidence":
                break
        answers[3][verdict] += 1
        false_go += verdict == "go" and true <= WORTHWHILE + 1e-12
        false_stop += verdict == "stop" and true >= WORTHWHILE - 1e-12
    return {
        "part": "verdict", "kind": world.kind, "place": place, "gain": gain, "replicates": replicates, "images": images, "worlds": worlds,
        "coverage": rate(covered, worlds), "coverage_over_generators": rate(covered_mean, worlds) if world.kind == "shared" else None,
        "false_go": rate(false_go, worlds), "false_stop": rate(false_stop, worlds), "detectable": float(np.median(printed)),
        "one_look": {k: rate(v, worlds) for k, v in answers[1].items()}, "three_looks": {k: rate(v, worlds) for k, v in answers[3].items()},
    }  # fmt: skip


def verdict_cells(worlds: int) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """(what names the cell, what computes it). The power cells of a world need its printed smallest detectable gain, so they come after."""
    for images, kind in itertools.product((30, 150, 1000, 10_000), KINDS):
        if kind == "grouped" and images < 150:
            continue  # three groups of plants: nobody's test split
        world = World(kind)
        truth = Truth(world)
        for replicates in (3, 5, 10):
            sizes = {"replicates": replicates, "images": images}
            steps: list[float] = []
            for place in (*GAINS, *(f"{k} steps above" for k in STEPS)):
                name = {"part": "verdict", "kind": kind, "place": place, **sizes}

                def compute(place: str = place, world: World = world, truth: Truth = truth, sizes: dict[str, int] = sizes, steps: list[float] = steps) -> Any:
                    if place in GAINS:
                        gain = GAINS[place]
                    else:
                        if not steps:
                            steps.append(_printed(world, truth, **sizes))
                        gain = WORTHWHILE + int(place.split()[0]) * steps[0]
                    if truth.shift_for(gain) is None:
                        return None
                    return verdict_cell(world, truth, place, gain, worlds=worlds, **sizes)

                yield name, compute


def _printed(world: World, truth: Truth, *, replicates: int, images: int) -> float:
    """The smallest detectable gain that a run prints: median over worlds at the worthwhile gain."""
    rng = np.random.default_rng(seed_of("printed", world.kind, replicates, images))
    shift = truth.shift_for(WORTHWHILE)
    assert shift is not None
    worlds = (Draw(rng, world, images, shift) for _ in range(500))
    settings: dict[str, Any] = {"confidence": 0.95, "groups": groups_of(world, images), "low_share": gates.LOW_SHARE}
    found = (two_way(w.rows(replicates), typical=w.typical(), **settings) for w in worlds)
    return float(np.median([gates.detectable_from(f, confidence=0.95) for f in found]))


# the interval ---------------------------------------------------------------------------------------------------------

WAYS = (
    "one t for the sum, equal tails",
    "own t for each part, equal tails",
    "own t for each part, the low end careful",
    "the same, the spread borrowing from other arms",
)


def interval_cell(kind: str, *, replicates: int, images: int, worlds: int) -> dict[str, Any]:
    """The verdict's interval beside the textbook's, at no effect: share of worlds where each ends above and below the truth."""
    rng = np.random.default_rng(seed_of("interval", kind, replicates, images))
    world = World(kind)
    shift = Truth(world).shift_for(0.0)
    assert shift is not None
    missed, widths = {way: [0, 0] for way in WAYS}, {way: 0.0 for way in WAYS}
    for _ in range(worlds):
        drawn = Draw(rng, world, images, shift)
        table, groups = drawn.rows(replicates), groups_of(world, images)
        even = two_way(table, confidence=0.95, groups=groups)
        careful = ends(even, confidence=0.95, low_share=gates.LOW_SHARE)
        lent = two_way(table, confidence=0.95, groups=groups, typical=drawn.typical(), low_share=gates.LOW_SHARE)
        satterthwaite = even.se**4 / (even.se_replicates**4 / even.df_replicates + even.se_images**4 / even.df_images)
        half = quantile_t(0.975, satterthwaite) * even.se
        spans = ((even.value - half, even.value + half), *((found.low, found.high) for found in (even, careful, lent)))
        for way, (low, high) in zip(WAYS, spans, strict=True):
            missed[way][0] += low > 0
            missed[way][1] += high < 0
            widths[way] += (high - low) / worlds
    ways = {
        way: {"above": rate(a, worlds), "below": rate(b, worlds), "coverage": rate(worlds - a - b, worlds), "width": widths[way]}
        for way, (a, b) in missed.items()
    }
    return {"part": "interval", "kind": kind, "replicates": replicates, "images": images, "worlds": worlds, "ways": ways}


def interval_cells(worlds: int) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    for (replicates, images), kind in itertools.product(
        ((3, 150), (3, 1000), (5, 1000), (10, 1000), (3, 10_000), (10, 10_000)), ("normal", "heavy", "discrete")
    ):
        sizes = {"replicates": replicates, "images": images}
        yield {"part": "interval", "kind": kind, **sizes}, lambda kind=kind, sizes=sizes: interval_cell(kind, worlds=worlds, **sizes)


# the choice -----------------------------------------------------------------------------------------------------------

ARMS = tuple(Arm(r, g) for r in ("mixed+augment", "balanced+augment", "bridged+++augment") for g in ("vae", "diffusion"))
CHOICES = {
    "all useless": [0.0] * 6,
    "all worthwhile": [WORTHWHILE] * 6,
    "one good": [0.05] + [0.0] * 5,
    "all good": [0.05] * 6,
    "all harmful": [-0.05] * 6,
    "all very harmful": [-0.15] * 6,
}
SELECTION = 100  # images of the selection split
SMALL = 2  # replicates on it


def choice_cell(kind: str, place: str, *, replicates: int, images: int, worlds: int) -> dict[str, Any]:
    """From six arms on the selection split to the verdict on fresh replicates, as a pilot does it."""
    rng = np.random.default_rng(seed_of("choice", kind, place, replicates, images))
    world = World(kind)
    truth = Truth(world)
    gains = dict(zip(ARMS, CHOICES[place], strict=True))
    shifts = {arm: float(truth.shift_for(gain)) for arm, gain in gains.items()}  # type: ignore[arg-type]
    counts = {"go": 0, "stop": 0, "more evidence": 0, "futile": 0}
    false_go = false_stop = missed = on_same = 0
    for _ in range(worlds):
        tables = _selection(rng, world, shifts)
        pooled = pooled_row_se(list(tables.values()))
        intervals = {arm: two_way(t, confidence=gates.SCREEN, se_replicates=pooled) for arm, t in tables.items()}
        alive = [arm for arm in ARMS if intervals[arm].high >= WORTHWHILE]
        if not alive:
            counts["futile"] += 1
            false_stop += max(gains.values()) >= WORTHWHILE
            continue
        smooth = additive({arm: float(t.mean()) for arm, t in tables.items()})
        best = max(alive, key=smooth.__getitem__)
        drawn, verdict = Draw(rng, world, images, shifts[best]), "more evidence"
        table, typical, groups = drawn.rows(replicates), drawn.typical(), groups_of(world, images)
        for look, confidence in enumerate(gates.CONFIDENCE):
            if look:
                table = np.concatenate([table, drawn.rows(MORE)])
            found = two_way(table, confidence=confidence, groups=groups, typical=typical, low_share=gates.LOW_SHARE)
            verdict = gates.decide(found, worthwhile=WORTHWHILE)
            if verdict != "more evidence":
                break
        counts[verdict] += 1
        false_go += verdict == "go" and gains[best] <= WORTHWHILE
        false_stop += verdict == "stop" and gains[best] >= WORTHWHILE
        missed += verdict == "stop" and gains[best] < max(gains.values())
        lucky = max(ARMS, key=lambda arm: intervals[arm].low)
        on_same += intervals[lucky].low > WORTHWHILE and gains[lucky] <= WORTHWHILE
    return {
        "part": "choice", "kind": kind, "place": place, "replicates": replicates, "images": images, "worlds": worlds,
        "false_go": rate(false_go, worlds), "false_stop": rate(false_stop, worlds), "stopped_with_a_better_arm_left": rate(missed, worlds),
        "false_go_if_judged_where_chosen": rate(on_same, worlds), "three_looks": {k: rate(v, worlds) for k, v in counts.items()},
    }  # fmt: skip


def _selection(rng: np.random.Generator, world: World, shifts: dict[Arm, float]) -> dict[Arm, np.ndarray]:
    """Paired differences of every arm on one selection split: the arms share its images and the baseline's answers."""
    base = world.images(rng, SELECTION)
    baseline = rng.random((SMALL, SELECTION)) < sigmoid(base + rng.normal(0, 0.5 * world.row_sd, (SMALL, 1)))
    tables = {}
    for arm, shift in shifts.items():
        help_ = rng.normal(0, world.image_sd, SELECTION)
        said = rng.random((SMALL, SELECTION)) < sigmoid(base + help_ + world.rows(rng, (SMALL, 1)) + shift)
        tables[arm] = said.astype(np.float64) - baseline
    return tables


def choice_cells(worlds: int) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    for images, kind, replicates, place in itertools.product((150, 1000), ("normal", "heavy"), (3, 5), CHOICES):
        sizes = {"replicates": replicates, "images": images}
        yield (
            {"part": "choice", "kind": kind, "place": place, **sizes},
            lambda kind=kind, place=place, sizes=sizes: choice_cell(kind, place, worlds=worlds, **sizes),
        )


# the table ------------------------------------------------------------------------------------------------------------


def outside(row: dict[str, Any]) -> list[str]:
    """Which limits a cell breaks: by more than two Monte Carlo standard errors it is surely outside, by less it may be."""
    broken = [f"{k} {row[k]['value']:.4f} (se {row[k]['se']:.4f})" for k in ("false_go", "false_stop") if k in row and row[k]["value"] > LIMITS[k]]
    if "coverage" in row and row["coverage"]["value"] < LIMITS["coverage"]:
        broken.append(f"coverage {row['coverage']['value']:.4f} (se {row['coverage']['se']:.4f})")
    if row.get("place") == "2 steps above" and row["one_look"]["go"]["value"] < LIMITS["power"]:
        broken.append(f"power {row['one_look']['go']['value']:.4f}")
    return broken


def summary(rows: list[dict[str, Any]]) -> int:
    """Print the table; the number of cells outside their limits."""
    verdicts = [r for r in rows if r["part"] == "verdict"]
    keys = sorted({(r["images"], r["replicates"], KINDS.index(r["kind"])) for r in verdicts})
    print("| Test images | Replicates | World | Coverage, least of its cells | False go | False stop | Detectable, points | go at 1, 2, 3 steps |")
    print("|---|---|---|---|---|---|---|---|")
    for images, replicates, k in keys:
        mine = {r["place"]: r for r in verdicts if (r["images"], r["replicates"], r["kind"]) == (images, replicates, KINDS[k])}
        power = ", ".join(f"{mine[p]['one_look']['go']['value']:.2f}" if p in mine else "-" for p in (f"{s} steps above" for s in STEPS))
        worst = {name: max(r[name]["value"] for r in mine.values()) for name in ("false_go", "false_stop")}
        step = mine["worthwhile"]["detectable"] * 100 if "worthwhile" in mine else math.nan
        least = min(r["coverage"]["value"] for r in mine.values())
        print(f"| {images:,} | {replicates} | {KINDS[k]} | {least:.3f} | {worst['false_go']:.3f} | {worst['false_stop']:.3f} | {step:.1f} | {power} |")
    if verdicts:
        print(f"\nMean coverage over {len(verdicts)} cells: {np.mean([r['coverage']['value'] for r in verdicts]):.4f}")
    choices = [r for r in rows if r["part"] == "choice"]
    if choices:
        print("\n| Test images | Replicates | World | Arms | False go | False stop | go / stop / futile / more | False go if judged where chosen |")
        print("|---|---|---|---|---|---|---|---|")
    for r in choices:
        shares = " / ".join(f"{r['three_looks'][k]['value']:.2f}" for k in ("go", "stop", "futile", "more evidence"))
        where = r["false_go_if_judged_where_chosen"]["value"]
        rates = f"{r['false_go']['value']:.3f} | {r['false_stop']['value']:.3f}"
        print(f"| {r['images']:,} | {r['replicates']} | {r['kind']} | {r['place']} | {rates} | {shares} | {where:.3f} |")
    intervals = [r for r in rows if r["part"] == "interval"]
    if intervals:
        print("\n| Test images | Replicates | World | Interval | Coverage | Ends above the truth | Ends below | Width, points |")
        print("|---|---|---|---|---|---|---|---|")
    for r in intervals:
        for way, found in r["ways"].items():
            shares = " | ".join(f"{found[k]['value']:.3f}" for k in ("coverage", "above", "below"))
            print(f"| {r['images']:,} | {r['replicates']} | {r['kind']} | {way} | {shares} | {100 * found['width']:.1f} |")
    bad = [(r, found) for r in rows if (found := outside(r))]
    for r, found in bad:
        print("OUTSIDE", {k: r[k] for k in ("part", "kind", "place", "replicates", "images") if k in r}, "; ".join(found))
    if verdicts and np.mean([r["coverage"]["value"] for r in verdicts]) > LIMITS["mean_coverage"]:
        print("OUTSIDE mean coverage")
        return len(bad) + 1
    return len(bad)


PARTS: dict[str, Callable[[int], Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]]] = {
    "verdict": verdict_cells,
    "choice": choice_cells,
    "interval": interval_cells,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--worlds", type=int, default=10_000)
    options.add_argument("--only-part", default=",".join(PARTS))
    options.add_argument("--most-images", type=int, default=10_000)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "decision_quality.jsonl")
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if given.summary:
        sys.exit(1 if summary(cells.read(given.out)) else 0)
    wanted = (cell for part in given.only_part.split(",") for cell in PARTS[part](given.worlds) if cell[0]["images"] <= given.most_images)
    cells.fill(given.out, wanted, tell=lambda name, row: f"{json.dumps(name)} {'; '.join(outside(row)) or 'inside'}")


if __name__ == "__main__":
    main()
