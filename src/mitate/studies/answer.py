"""From what a pilot saw to `decision.json` (docs/run-folder.md says what each key holds)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mitate.metrics.intervals import Interval, holm, p_value
from mitate.metrics.measures import Measure
from mitate.recipe import parse
from mitate.score import Score
from mitate.studies import curve, gates
from mitate.studies.arms import ALONE, Arm, Predictions, arms_of
from mitate.studies.stages import Dropped, State, gain_on_test, interval_of, on_selection, within

EMPTY = "a frozen body keeps nothing of the synthetic images in it: its head is drawn anew after them"

GROUP_LEAST = 5  # test images below which a group's gain has no interval
GROUPS_SHOWN = 30


def decision(
    state: State, *, look: int | None, looks: Sequence[Mapping[str, Any]], groups: np.ndarray | None, group_names: Sequence[str], cost: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer as a record. look: number of the opening of the test split, None while it is closed."""
    confidence = gates.CONFIDENCE[(look or 1) - 1]
    rows = [_arm_row(state, arm, confidence=confidence, groups=groups, group_names=group_names) for arm in _all_arms(state)]
    _adjust(rows)
    verdict, code, values, reason = _verdict(state, confidence=confidence, groups=groups)
    detectable = _detectable(state, confidence=confidence, groups=groups)
    learning, equivalent = curve.record(state, confidence=confidence, groups=groups)
    return {
        "study": state.study.digest,
        "verdict": verdict,
        "reason": reason,
        "reason_code": code,
        "reason_values": values,
        "measure": state.measure.name,
        "worthwhile": state.worthwhile,
        "stage": state.stage,
        "confidence": confidence,
        "baseline": state.baseline.label,
        "candidate": state.candidate.label if state.candidate else None,
        "arms": [{k: v for k, v in row.items() if k != "_p"} for row in rows],
        "gates": state.gates,
        "looks": list(looks),
        "smallest_detectable_gain": detectable,
        "learning_curve": learning,
        "real_image_equivalent": equivalent,
        "cost": dict(cost),
        "next_step": _next_step(state, verdict, code, look=look, detectable=detectable),
        "not_measured": [*state.not_measured, *_not_measured(state)],
    }


def scores(state: State, *, confidence: float, groups: np.ndarray | None) -> list[Score]:
    """Every score of the pilot: those of the gates, and each arm's measure on the split it was last measured on."""
    found = list(state.scores)
    for arm in _all_arms(state):
        split, table = _table(state, arm)
        if table is None:
            continue
        value = _interval(state, split, _scores(table), arm, confidence=confidence, groups=groups)
        cut = within(state.measure, value)
        found.append(Score(state.measure.name, "utility", arm.label, cut.value, cut.low, cut.high, cut.n, confidence=confidence, note=f"{split} split"))
    return found


# arms -----------------------------------------------------------------------------------------------------------------


def _all_arms(state: State) -> list[Arm]:
    return arms_of(state.study.sizes["arms"], list(state.study.sizes["generators"]))


def _table(state: State, arm: Arm) -> tuple[str, Predictions | None]:
    if state.test is not None and arm in state.test.arms():
        return "test", state.test
    if state.selection is not None and arm in state.selection.arms():
        return "selection", state.selection
    return "", None


def _interval(state: State, split: str, tables: Mapping[Arm, np.ndarray], arm: Arm, *, confidence: float, groups: np.ndarray | None) -> Interval:
    """Interval of one arm's score; on the selection split the same as in the gate. groups: of the test split."""
    if split == "test":
        return interval_of(state, tables[arm], confidence=confidence, groups=groups, low_share=0.5)
    return on_selection(state, tables, arm, confidence=confidence)


def _scores(table: Predictions) -> dict[Arm, np.ndarray]:
    return {arm: table.table(arm) for arm in table.arms()}


def _gain(state: State, split: str, table: Predictions, arm: Arm, *, confidence: float, groups: np.ndarray | None) -> Interval:
    if split == "test":
        return gain_on_test(state, arm, confidence=confidence, groups=groups)
    return on_selection(state, _gains(state, table), arm, confidence=confidence)


def _gains(state: State, table: Predictions) -> dict[Arm, np.ndarray]:
    return {arm: table.paired(arm, state.baseline) for arm in table.arms() if arm != state.baseline}


def _arm_row(state: State, arm: Arm, *, confidence: float, groups: np.ndarray | None, group_names: Sequence[str]) -> dict[str, Any]:
    split, table = _table(state, arm)
    dropped = _why_dropped(state, arm)
    role = "baseline" if arm == state.baseline else "candidate" if arm == state.candidate and split == "test" else "dropped" if dropped else "exploratory"
    row: dict[str, Any] = {
        "name": arm.recipe,
        "generator": arm.generator,
        "label": arm.label,
        "role": role,
        "stage": {"test": "full", "selection": "small", "": "look"}[split],
        "split": split or None,
        "score": None,
        "gain": None,
        "p_holm": None,
        "gain_per_class": {},
        "gain_per_group": {},
        "dropped": dropped.why if dropped else None,
        "dropped_code": dropped.code if dropped else None,
        "dropped_values": dict(dropped.values) if dropped else None,
        "_p": None,
    }
    if table is None:
        return row
    row["score"] = within(state.measure, _interval(state, split, _scores(table), arm, confidence=confidence, groups=groups)).record
    if arm == state.baseline:
        return row
    gain = _gain(state, split, table, arm, confidence=confidence, groups=groups)
    row["gain"] = gain.record
    if split == "test":
        row["_p"] = p_value(gain) if role == "exploratory" else None
        row["gain_per_class"] = _per_class(state, arm, confidence=confidence, groups=groups)
        row["gain_per_group"] = _per_group(state, arm, confidence=confidence, groups=groups, names=group_names)
    return row


def _why_dropped(state: State, arm: Arm) -> Dropped | None:
    if arm.generator in state.dropped_generators:
        return state.dropped_generators[arm.generator]
    return state.dropped_arms.get(arm)


def _adjust(rows: list[dict[str, Any]]) -> None:
    tested = [row for row in rows if row["_p"] is not None]
    for row, p in zip(tested, holm([row["_p"] for row in tested]), strict=True):
        row["p_holm"] = p


def _per_class(state: State, arm: Arm, *, confidence: float, groups: np.ndarray | None) -> dict[str, Any]:
    """Gain in recall of each class; no interval for a class with fewer than five test images."""
    assert state.test is not None
    y = state.test.y
    return {name: _part(state, arm, rows=np.flatnonzero(y == k), confidence=confidence, groups=groups) for k, name in enumerate(state.measure.classes)}


def _per_group(state: State, arm: Arm, *, confidence: float, groups: np.ndarray | None, names: Sequence[str]) -> dict[str, Any]:
    """Gain in the share right, for the groups with the most test images. Groups are whole, so images vary on their own here.

    Images without a group are no groups and are left out.
    """
    if groups is None:
        return {}
    counts = np.bincount(groups, minlength=len(names))
    shown = [g for g in np.argsort(-counts, kind="stable") if counts[g] and not (counts[g] == 1 and names[g].startswith(ALONE))][:GROUPS_SHOWN]
    return {names[g]: _part(state, arm, rows=np.flatnonzero(groups == g), confidence=confidence, groups=None) for g in sorted(shown)}


def _part(state: State, arm: Arm, *, rows: np.ndarray, confidence: float, groups: np.ndarray | None) -> dict[str, Any]:
    """Gain in the share right among the test images `rows`."""
    assert state.test is not None
    if len(rows) == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    plain = Measure("accuracy", state.measure.classes)
    table = state.test.paired(arm, state.baseline, plain)
    if len(rows) < GROUP_LEAST or (groups is not None and len(np.unique(groups[rows])) < 2):
        return {"value": float(table[:, rows].mean()), "low": None, "high": None, "n": len(rows)}
    return interval_of(state, table, confidence=confidence, groups=groups, measure=plain, rows=rows).record


# verdict --------------------------------------------------------------------------------------------------------------


def _verdict(state: State, *, confidence: float, groups: np.ndarray | None) -> tuple[str, str, dict[str, Any], str]:
    """Verdict, reason code, its values, and the English sentence."""
    if state.test is None or state.candidate is None:
        return _early(state)
    gain = gain_on_test(state, state.candidate, confidence=confidence, groups=groups)
    verdict = gates.decide(gain, worthwhile=state.worthwhile)
    values = {
        "gain": gain.value, "low": gain.low, "high": gain.high, "worthwhile": state.worthwhile,
        "candidate": state.candidate.label, "measure": state.measure.name,
    }  # fmt: skip
    span = f"{state.show(gain.value)} ({confidence * 100:.3g} % interval {state.show(gain.low)} to {state.show(gain.high)})"
    least = state.show(state.worthwhile)
    if verdict == "go":
        return verdict, "go", values, f"{state.candidate.label} gains {span} over the baseline: all of it lies above the worthwhile {least}."
    if verdict == "stop":
        return verdict, "stop_small", values, f"{state.candidate.label} gains {span}: even the upper end is below the worthwhile {least}."
    return verdict, "more_evidence", values, f"{state.candidate.label} gains {span}: the interval holds the worthwhile {least}, so the test cannot tell."


def _early(state: State) -> tuple[str, str, dict[str, Any], str]:
    codes = {d.code for d in state.dropped_generators.values()}
    names = ", ".join(state.dropped_generators)
    if not state.alive and codes == {"copies"}:
        return "stop", "stop_privacy", {"generators": names}, f"Every generator copied its training images ({names})."
    if not state.alive and codes == {"useless_labels"}:
        return (
            "stop",
            "stop_useless",
            {"generators": names},
            f"A model trained on the synthetic images alone does no better than chance on real ones ({names}).",
        )
    if not state.alive:
        return "stop", "no_generator", {}, "No generator passed the gates."
    best = state.best_high if state.best_high is not None else 0.0
    values = {"arms": len(state.dropped_arms), "worthwhile": state.worthwhile, "best": best, "high": best}
    least, most = state.show(state.worthwhile), state.show(best)
    return "stop", "stop_futile", values, f"No arm could reach the worthwhile {least} on the selection split (at best {most}); the test split stays closed."


def _detectable(state: State, *, confidence: float, groups: np.ndarray | None) -> dict[str, Any]:
    before = dict(state.study.detectable)
    found: dict[str, Any] = {
        "before": before["gain"], "after": None, "test_images": before["test_images"], "replicates": before["replicates"], "smaller_by": before["smaller_by"],
    }  # fmt: skip
    if state.test is not None and state.candidate is not None:
        gain = gain_on_test(state, state.candidate, confidence=confidence, groups=groups)
        replicates = len(state.test.replicates(state.candidate))
        overlap = float(state.study.sizes["overlap"])
        row_sd = gain.se_replicates / math.sqrt(1 / replicates + overlap)
        spread = {"row_sd": row_sd, "image_variance": gain.se_images**2 * gain.n, "confidence": confidence, "overlap": overlap}
        found |= {
            "after": gates.detectable_from(gain, confidence=confidence),
            "replicates": replicates,
            "smaller_by": gates.smaller_by(test_images=gain.n, replicates=replicates, **spread),
        }
    return found


def _next_step(state: State, verdict: str, code: str, *, look: int | None, detectable: Mapping[str, Any]) -> dict[str, Any]:
    if verdict == "go":
        return {"code": "scale_up", "values": {"images": state.study.sizes["synthetic_per_class"]}}
    if code == "stop_privacy":
        return {"code": "fix_privacy", "values": {}}
    if verdict == "stop":
        return {"code": "try_other", "values": {}}
    if look is not None and look >= len(gates.CONFIDENCE):
        return {"code": "looks_used_up", "values": {}}
    options = sorted(detectable["smaller_by"], key=lambda o: o["gain"])
    if options and options[0]["change"] == "test_images":
        return {"code": "more_test_images", "values": {"test_images": options[0]["to"], "gain": options[0]["gain"]}}
    rounds = next((o for o in options if o["change"] == "replicates"), {"to": detectable["replicates"] + 5, "gain": detectable["after"]})
    return {"code": "more_replicates", "values": {"replicates": rounds["to"], "gain": rounds["gain"]}}


def _not_measured(state: State) -> list[dict[str, str]]:
    found = []
    if state.test is None:
        found.append({"what": "real_image_equivalent", "why": "the pilot ended before the test split was opened"})
    elif not state.curve and all(row["what"] != "learning_curve" for row in state.not_measured):
        asked = state.study.plan.get("curve", "none")
        found.append({"what": "real_image_equivalent", "why": curve.NOT_ASKED if asked == "none" else curve.NO_TIME})
    if state.test is None:
        found.append({"what": "gain on the test split", "why": "the pilot ended before the test split was opened"})
    elif state.study.sizes["cross_fit"]:
        found.append(
            {"what": "choice of the candidate", "why": "too few images for a selection that the test does not see; the candidate was fixed before the run"}
        )
    sizes = state.study.sizes
    for arm in sizes["left_out"]:
        empty = sizes["backbone"]["frozen"] and parse(arm).forgets
        found.append({"what": arm, "why": EMPTY if empty else "left out to keep within the budget"})
    if state.study.data["groups"] is None:
        found.append({"what": "gain per group", "why": "the images name no groups (patient, plant, photograph)"})
    found.append({"what": "membership inference", "why": "the pilot's privacy gate looks for copies only; an attack is a part of the six-axis assessment"})
    return found
