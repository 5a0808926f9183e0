"""The learning curve on real images, and what the candidate's images are worth on it.

After the verdict's stage the baseline is trained again on a quarter and on half of each replicate's training images (nested, groups kept
whole), with the same optimiser steps; where the verdict is not `stop`, the candidate too, with a generator fitted on those images alone
(kept generators and folders come from elsewhere: then the baseline only).
The candidate at a quarter and at half is then placed on a curve that reaches further than it had images: nothing is extrapolated there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mitate.engine import Engine
from mitate.metrics.worth import Worth, worth
from mitate.runtime import seed_of
from mitate.store import Store
from mitate.studies import gates
from mitate.studies.arms import Arm, Cell, Predictions
from mitate.studies.stages import Done, State, gain_on_test, interval_of, predictions_on, within
from mitate.verbs import keep_part

SHARES = (0.25, 0.5)  # of the training images, beside all of them
LEAST = 2  # images of each class in the smallest part
TOO_FEW = f"half of the training images leaves a class with fewer than {LEAST}"
ONE_SIZE = "groups of images stay whole, and no part of the training images is smaller than all of them"
NO_TIME = "left out to keep within the budget"
NOT_ASKED = "not asked for"


@dataclass(frozen=True)
class Point:
    """One size of the learning curve: real training images (mean over replicates), and the answers on the test split."""

    images: float
    table: Predictions


def measure(state: State, engine: Engine, done: Done, *, groups: np.ndarray | None, confidence: float) -> None:
    """Train on the parts; `state.curve` holds the points. Does nothing where the plan has no curve or the images are too few."""
    level = state.study.sizes.get("curve", "none")
    if level == "none" or state.test is None or state.candidate is None:
        return
    gain = gain_on_test(state, state.candidate, confidence=confidence, groups=groups)
    stopped = gates.decide(gain, worthwhile=state.worthwhile) == "stop"
    arms = [state.baseline] if level == "real" or stopped or _from_elsewhere(state, state.candidate) else [state.baseline, state.candidate]
    tested = set(state.test.replicates(state.candidate))
    cells = [c for c in state.cells if c.replicate in tested and (state.study.sizes["cross_fit"] or c.replicate >= state.study.sizes["small"])]
    whole = float(np.mean([engine.store.there(c.train).result["images"] for c in cells]))
    sizes: dict[float, list[Cell]] = {}
    why = ONE_SIZE
    for share in SHARES:
        parts, images = _parts(engine.store, cells, share, seed=state.study.plan["seed"])
        if parts is None:
            why = TOO_FEW
        elif images < whole:
            sizes.setdefault(images, parts)  # large groups can make a quarter as large as a half, and either as large as all
    if not sizes:
        state.not_measured.append({"what": "learning_curve", "why": why})
        return
    state.stage = "curve"
    points = [Point(images, predictions_on(state, engine, parts, "test", done, arms=arms)) for images, parts in sizes.items()]
    state.stage = "full"
    state.curve = [*points, Point(whole, state.test)]


def _from_elsewhere(state: State, arm: Arm) -> bool:
    """Whether an arm's images come from before the run: their generator may have seen all training images, so no part is all it had."""
    return arm.generator is not None and state.study.sizes["generators"][arm.generator]["kind"] in ("kept", "folder")


def _parts(store: Store, cells: list[Cell], share: float, *, seed: int) -> tuple[list[Cell] | None, float]:
    """The cells with a part of their training images, and how many those are on average; None where a class has too few."""
    found, images = [], []
    for cell in cells:
        digest = keep_part(store, cell.train, share=share, seed=seed_of("part", seed, cell.replicate, cell.fold))
        result = store.there(digest).result
        if result["least"] < LEAST:
            return None, 0.0
        found.append(replace(cell, train=digest, part=f"{share:g}"))
        images.append(result["images"])
    return found, float(np.mean(images))


# the record -----------------------------------------------------------------------------------------------------------


def record(state: State, *, confidence: float, groups: np.ndarray | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """`learning_curve` and `real_image_equivalent` of decision.json; both None where the curve was not measured."""
    if not state.curve or state.candidate is None:
        return None, None
    arms = [state.baseline, state.candidate]
    points = [_point(state, p, arm, confidence=confidence, groups=groups) for arm in arms for p in state.curve if arm in p.table.arms()]
    found = [_worth(state, p, confidence=confidence, groups=groups) for p in state.curve if state.candidate in p.table.arms()]
    curve = {"points": points, "steps": state.study.sizes["training"]["steps"]}
    whole = next(w for w in found if w.at == state.curve[-1].images)
    return curve, {**asdict(whole), "measured": [asdict(w) for w in found if w is not whole]}


def _point(state: State, point: Point, arm: Arm, *, confidence: float, groups: np.ndarray | None) -> dict[str, Any]:
    score = within(state.measure, interval_of(state, _table(state, point, arm), confidence=confidence, groups=groups, low_share=0.5))
    return {"arm": arm.label, "images": point.images, "value": score.value, "low": score.low, "high": score.high, "n": score.n}


def _table(state: State, point: Point, arm: Arm) -> np.ndarray:
    """Contributions of an arm in the replicates that every point has."""
    shared = set.intersection(*(set(p.table.replicates(state.baseline)) for p in state.curve))
    return point.table.table(arm, only=sorted(shared & set(point.table.replicates(arm))))


def _worth(state: State, point: Point, *, confidence: float, groups: np.ndarray | None) -> Worth:
    assert state.candidate is not None and state.test is not None
    y, measure = state.test.y, state.measure
    curve: Mapping[float, np.ndarray] = {p.images: _table(state, p, state.baseline) for p in state.curve}
    return worth(
        _table(state, point, state.candidate),
        curve,
        at=point.images,
        confidence=confidence,
        groups=groups,
        df_images=measure.df_images(y),
        overlap=float(state.study.sizes["overlap"]),
        least=measure.one_image(y),
        low_share=gates.LOW_SHARE,
    )
