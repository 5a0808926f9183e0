"""From what a volume study saw to `volume.json` (docs/run-folder.md says what each key holds).

The verdict of a generator looks at one interval: that of the paired gain of the last step, from the second largest to the largest
volume, with s the smallest gain worth having.

    saturated       the interval ends below s: more images of this kind are not worth making, whether they help a little or hurt
    not saturated   the interval starts above 0, and reaches s: the last step still helped
    cannot tell     neither

All other intervals are shown, and none of them can change it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mitate.metrics import curves
from mitate.metrics.intervals import Interval, holm, p_value
from mitate.recipe import BASELINE
from mitate.runtime import seed_of
from mitate.score import Score
from mitate.settings import plain
from mitate.studies import gates
from mitate.studies.arms import Arm
from mitate.studies.spending import Prices
from mitate.studies.stages import State, interval_of, within
from mitate.study import Job

PLACES = 41  # of the curve and its band, evenly in the logarithm of the volume
HUNDRED = 100  # images of each class, the unit of the marginal gain


def arms_of_study(state: State) -> list[Arm]:
    """The baseline, and each generator that is left at each volume."""
    return [Arm(BASELINE), *(arm for g in state.alive for arm in _arms(state, g))]


def answer(state: State, *, confidence: float, groups: np.ndarray | None, look: int | None = None) -> tuple[dict[str, Any], list[Score]]:
    """The answer as a record, but for its cost and its looks, and every score of the study. look: number of the opening of the test split."""
    rows = [_generator(state, g, confidence=confidence, groups=groups) for g in state.study.sizes["generators"]]
    _adjust(rows, confidence=confidence)
    for row in rows:
        if row["points"]:
            row |= _verdict(state, row, confidence=confidence, last=look is not None and look >= len(gates.CONFIDENCE))
    verdicts = [row["verdict"] for row in rows if row["verdict"] is not None]
    verdict = "not measured" if not verdicts else verdicts[0] if len(set(verdicts)) == 1 else "mixed"
    baseline = _score(state, Arm(BASELINE), confidence=confidence, groups=groups) if state.test is not None else None
    scores = list(state.scores)
    if state.test is not None:
        for arm in arms_of_study(state):
            found = _score(state, arm, confidence=confidence, groups=groups)
            scores.append(
                Score(state.measure.name, "utility", arm.label, found.value, found.low, found.high, found.n, confidence=confidence, note="test split")
            )
    return {
        "study": state.study.digest,
        "verdict": verdict,
        "reason": " ".join(row["reason"] for row in rows),
        "measure": state.measure.name,
        "worthwhile": state.worthwhile,
        "confidence": confidence,
        "arm": state.study.sizes["arm"],
        "baseline": BASELINE,
        "volumes": state.study.sizes["volumes"],
        "baseline_score": baseline.record if baseline is not None else None,
        "generators": rows,
        "gates": state.gates,
        "not_measured": [*state.not_measured, *_not_measured(state, rows)],
    }, scores


def decide(low: float, high: float, *, worthwhile: float) -> str:
    """The verdict on the interval of the last step."""
    if high < worthwhile:
        return "saturated"
    return "not saturated" if low > 0 else "cannot tell"


def priced(decision: Mapping[str, Any], prices: Prices) -> dict[str, Any]:
    """The answer with money by these prices; null where the machine has no price. Can be done again with other prices."""

    def money(seconds: float | None) -> float | None:
        return None if prices.machine_price is None or seconds is None else seconds / 3600 * prices.machine_price

    told: dict[str, Any] = copy.deepcopy(dict(decision))
    for row in told["generators"]:
        row["cost"] |= {"money_per_100": money(row["cost"]["seconds_per_100"]), "fit_money": money(row["cost"]["fit_seconds"])}
        for step in row["steps"]:
            step["money"] = money(step["seconds"])
    whole = money(told["cost"]["machine_seconds"])
    told["cost"]["money"] = None if whole is None else {**plain(prices), "machine": whole}
    return told


# a generator ----------------------------------------------------------------------------------------------------------


def _arms(state: State, generator: str) -> list[Arm]:
    return [Arm(state.study.sizes["arm"], generator, v) for v in state.study.sizes["volumes"] if v]


def _generator(state: State, generator: str, *, confidence: float, groups: np.ndarray | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": generator, "verdict": None, "reason": "", "reason_code": "", "reason_values": {}, "points": [], "steps": [], "curve": None,
        "curve_missing": None, "hurts": [], "next_step": None, "cost": _cost(state, generator),
    }  # fmt: skip
    dropped = state.dropped_generators.get(generator)
    if dropped is not None:
        why = f"{generator} was not measured: {dropped.why}."
        return {**row, "reason": why, "reason_code": dropped.code, "reason_values": dict(dropped.values), "curve_missing": why}
    assert state.test is not None, "the test split is open where a generator is left"
    baseline, arms = Arm(BASELINE), _arms(state, generator)
    row["points"] = [
        {
            "volume": arm.volume or 0,
            "score": _score(state, arm, confidence=confidence, groups=groups).record,
            "gain": (gain := _gain(state, arm, baseline, confidence=confidence, groups=groups)).record,
            "p_holm": None,
            "_p": p_value(gain),
        }
        for arm in arms
    ]
    row |= _curve(state, generator, arms, confidence=confidence, groups=groups)
    places = [baseline, *arms]
    for before, after in zip(places, places[1:], strict=False):
        gain = _gain(state, after, before, confidence=confidence, groups=groups)
        row["steps"].append(_step(before.volume or 0, after.volume or 0, gain, row["cost"], last=after is arms[-1]))
    return row


def _gain(state: State, arm: Arm, other: Arm, *, confidence: float, groups: np.ndarray | None) -> Interval:
    assert state.test is not None
    return interval_of(state, state.test.paired(arm, other), confidence=confidence, groups=groups)


def _score(state: State, arm: Arm, *, confidence: float, groups: np.ndarray | None) -> Interval:
    """Interval of an arm's measure, cut to what it can be: 0 to 1 for shares, at most 0 for costs."""
    assert state.test is not None
    return within(state.measure, interval_of(state, state.test.table(arm), confidence=confidence, groups=groups, low_share=0.5))


def _adjust(rows: Sequence[dict[str, Any]], *, confidence: float) -> None:
    """Holm over every gain over the baseline, all volumes of all generators; `hurts` are volumes that are surely worse than none."""
    tested = [point for row in rows for point in row["points"]]
    for point, p in zip(tested, holm([point.pop("_p") for point in tested]), strict=True):
        point["p_holm"] = p
    for row in rows:
        row["hurts"] = [p["volume"] for p in row["points"] if p["gain"]["value"] < 0 and p["p_holm"] < 1 - confidence]


def _curve(state: State, generator: str, arms: Sequence[Arm], *, confidence: float, groups: np.ndarray | None) -> dict[str, Any]:
    """The fitted curve in the error (1 less the measure, or the cost) and its band, or why there is none."""
    assert state.test is not None
    if len(arms) < curves.LEAST_POINTS:
        why = f"a curve of three parameters needs {curves.LEAST_POINTS} volumes above 0 to be checked; there are {len(arms)}"
        return {"curve": None, "curve_missing": why}
    top = 1.0 if state.measure.points else 0.0
    tables = np.stack([top - state.test.table(arm) for arm in arms])
    n = np.array([float(arm.volume or 0) for arm in arms])
    se = np.array([interval_of(state, table, confidence=confidence, groups=groups, low_share=0.5).se for table in tables])
    at = np.exp(np.linspace(math.log(n[0]), math.log(n[-1]), PLACES))
    at[0], at[-1] = n[0], n[-1]
    seed = seed_of("curve", int(state.study.plan["seed"]), generator)
    overlap = float(state.study.sizes["overlap"])
    band = curves.fit_band(tables, n, se=se, at=at, confidence=confidence, seed=seed, groups=groups, overlap=overlap)
    points = zip(band.n, band.value, band.low, band.high, strict=True)
    return {
        "curve": {
            **plain(band.power),
            "a_low": band.a[0], "a_high": band.a[1], "c_low": band.c[0], "c_high": band.c[1],
            "misfit": float(np.abs(tables.mean(axis=(1, 2)) - band.power.at(n)).max()),
            "band": [{"volume": float(v), "value": float(y), "low": float(low), "high": float(high)} for v, y, low, high in points],
        },
        "curve_missing": None,
    }  # fmt: skip


def _step(start: int, end: int, gain: Interval, cost: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    share = HUNDRED / (end - start)
    seconds = cost["image_seconds"]
    return {
        "from": start, "to": end, "decides": last, "gain": gain.record,
        "gain_per_100": {"value": gain.value * share, "low": gain.low * share, "high": gain.high * share, "n": gain.n},
        "seconds": seconds * cost["classes"] * (end - start) if seconds is not None else None, "money": None,
    }  # fmt: skip


def _cost(state: State, generator: str) -> dict[str, Any]:
    """Seconds of a fit and of an image, means over the replicates; null for images made elsewhere and generators fitted before."""
    made = [(j, e) for j, e in state.entries.items() if j.verb == "sample" and _of(state, j, generator)]
    fits = [float(e.result["seconds"]) for j, e in state.entries.items() if j.verb == "fit" and _of(state, j, generator)]
    image = float(np.mean([float(e.result["seconds"]) / int(e.result["images"]) for _, e in made])) if made else None
    classes = len(state.study.data["classes"])
    return {
        "fit_seconds": float(np.mean(fits)) if fits else None,
        "image_seconds": image,
        "classes": classes,
        "seconds_per_100": image * HUNDRED * classes if image is not None else None,
        "fit_money": None,
        "money_per_100": None,
    }


def _of(state: State, job: Job, generator: str) -> bool:
    return any(job in (state.jobs.synthetic(generator, cell), *_fits(state, generator, cell)) for cell in state.cells)


def _fits(state: State, generator: str, cell: Any) -> list[Job]:
    kind = state.study.sizes["generators"][generator]["kind"]
    return [] if kind in ("folder", "kept") else [state.jobs.fitted(generator, cell)]


# verdict --------------------------------------------------------------------------------------------------------------


def _verdict(state: State, row: Mapping[str, Any], *, confidence: float, last: bool) -> dict[str, Any]:
    """Verdict, reason and next step of a generator. last: these test images may not be looked at again."""
    step = row["steps"][-1]
    gain = step["gain"]
    verdict = decide(gain["low"], gain["high"], worthwhile=state.worthwhile)
    values = {
        "generator": row["name"], "from": step["from"], "to": step["to"], "worthwhile": state.worthwhile,
        "gain": gain["value"], "low": gain["low"], "high": gain["high"],
    }  # fmt: skip
    span = f"{state.show(gain['value'])} ({confidence * 100:.3g} % interval {state.show(gain['low'])} to {state.show(gain['high'])})"
    least = state.show(state.worthwhile)
    means = {
        "saturated": f"even the upper end is below the worthwhile {least}",
        "not saturated": "all of it lies above 0",
        "cannot tell": f"the interval holds both 0 and the worthwhile {least}",
    }[verdict]
    reason = f"{row['name']}: {verdict}. From {step['from']} to {step['to']} images a class it gains {span}: {means}."
    total = row["points"][-1]["gain"]
    reason += f" Against no synthetic images, {step['to']} images a class gain {state.show(total['value'])} ({state.show(total['low'])} to"
    reason += f" {state.show(total['high'])})."
    if row["hurts"]:
        reason += f" Worse than no synthetic images, beyond chance: at {', '.join(map(str, row['hurts']))} images a class."
    coming = _next(verdict, row, last=last)
    return {"verdict": verdict, "reason": reason, "reason_code": verdict.replace(" ", "_"), "reason_values": values, "next_step": coming}


def _next(verdict: str, row: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    step, values = row["steps"][-1], {"generator": row["name"], "from": row["steps"][-1]["from"], "to": row["steps"][-1]["to"]}
    helps = any(point["gain"]["low"] > 0 for point in row["points"])
    if step["to"] in row["hurts"] and not helps:
        return {"code": "do_not_use", "values": values}
    if verdict == "saturated":
        return {"code": "make_no_more" if step["from"] else "not_worth", "values": values}
    if last:
        return {"code": "looks_used_up", "values": values}
    if verdict == "not saturated":
        return {"code": "ask_for_more", "values": {**values, "twice": 2 * step["to"]}}
    return {"code": "more_proof", "values": values}


def _not_measured(state: State, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "what": f"utility of {name}", "what_code": "utility", "what_values": {"generator": name},
            "why": dropped.why, "why_code": dropped.code, "why_values": dict(dropped.values),
        }
        for name, dropped in state.dropped_generators.items()
    ]  # fmt: skip
    if state.test is None:
        found.append({"what": "gain on the test split", "why": "every generator copied its training images, so the test split stayed closed"})
    for row in rows:
        if row["curve"] is None and row["points"]:
            values = {"least": curves.LEAST_POINTS, "volumes": len(row["points"])}
            found.append({
                "what": f"curve of {row['name']}", "what_code": "curve", "what_values": {"generator": row["name"]},
                "why": row["curve_missing"], "why_code": "curve", "why_values": values,
            })  # fmt: skip
        if row["cost"]["image_seconds"] is None and row["points"]:
            found.append({
                "what": f"time of an image of {row['name']}", "what_code": "image_time", "what_values": {"generator": row["name"]},
                "why": "the images were made elsewhere",
            })  # fmt: skip
    if state.study.data["groups"] is None:
        found.append({"what": "spread between groups", "why": "the images name no groups (patient, plant, photograph)"})
    return found
