"""Money and spending: what a pilot cost stage by stage, what its next look would cost and could show, and what that is in money.

`spent` writes down seconds and chances when a pilot ends. `priced` puts money on a decision and can do so again with other prices:
prices are no part of the question, they live in prices.json beside it, and no digest knows of them.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mitate.errors import SettingError
from mitate.files import disk_errors, write_json
from mitate.metrics.intervals import Interval
from mitate.settings import plain, record
from mitate.studies import gates
from mitate.studies.arms import Arm, Cell, arms_of
from mitate.studies.budget import CURVE_POINTS, STARTUP
from mitate.studies.chances import FUTILE, Chances, next_look
from mitate.studies.meeting import meeting
from mitate.studies.stages import BASELINE_LOOK, State, gain_on_test
from mitate.study import Job, Run

FILE = "prices.json"
STEPS = (5, 10)  # replicates that a next look might add
STAGES = ("look", "small", "full", "curve")
MAKING = ("fit", "sample", "align")  # verbs that make a candidate's images
TIMED = ("seconds", "wall_seconds", "machine_seconds", "reused_seconds", "saved_seconds", "stages", "use", "money")  # of a decision's cost


@dataclass(frozen=True)
class Prices:
    """What things cost: one more real labelled image, and one hour of one worker. None: not known. SettingError for what is no price."""

    label_price: float | None = None  # above 0
    machine_price: float | None = None  # 0 or more: a machine that is there anyway
    currency: str = ""

    def __post_init__(self) -> None:
        for name, least in (("label_price", "above 0"), ("machine_price", "0 or more")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (value > 0 or (value == 0 and name == "machine_price"))):
                raise SettingError(f"{name} is {value}.", fix=f"give an amount {least}, or leave it out")
        if len(self.currency) > 12 or not self.currency.isprintable() or self.currency != self.currency.strip():
            raise SettingError(f"{self.currency!r} is not a currency.", fix="write it short, like EUR")

    @property
    def given(self) -> bool:
        """Whether anything was said at all."""
        return self != Prices()

    def over(self, kept: Prices) -> Prices:
        """These prices, and of `kept` what these do not say. SettingError where two currencies would be mixed."""
        found = Prices(
            kept.label_price if self.label_price is None else self.label_price,
            kept.machine_price if self.machine_price is None else self.machine_price,
            self.currency or kept.currency,
        )
        stay = [n for n in ("label_price", "machine_price") if getattr(self, n) is None and getattr(kept, n) is not None]
        if stay and kept.currency and self.currency not in ("", kept.currency):
            other = "--" + stay[0].replace("_", "-")
            raise SettingError(f"{stay[0]} was given in {kept.currency}, not in {self.currency}.", fix=f"give {other} in {self.currency} too")
        if found.currency and found.label_price is None and found.machine_price is None:
            raise SettingError(f"The currency {found.currency} came without a price.", fix="give --label-price, --machine-price or both")
        return found


def prices_of(values: Mapping[str, Any], *, where: str) -> Prices:
    """Prices from plain values, those that are None left out; `where` is named in the error."""
    return record(Prices, {k: v for k, v in values.items() if v is not None}, where=where)


def kept_prices(run: Run) -> Prices:
    """The prices in a run folder; none where it holds none."""
    return prices_of(run.read(FILE), where=str(run.folder / FILE)) if (run.folder / FILE).is_file() else Prices()


def keep_prices(run: Run, prices: Prices) -> Prices:
    """Write new prices into a run folder, over those it holds, and return what now holds."""
    kept = kept_prices(run)
    if not prices.given:
        return kept
    found = prices.over(kept)
    if found != kept:
        with disk_errors(run.folder):
            write_json(run.folder / FILE, found)
    return found


def timeless(decision: Mapping[str, Any]) -> dict[str, Any]:
    """A decision without what depends on how fast the machine was: two runs of one study agree in the rest."""
    found = copy.deepcopy(dict(decision))
    found.pop("meeting", None)
    found["cost"] = {k: v for k, v in found["cost"].items() if k not in TIMED}
    for step in (found["next_step"], *(found.get("next_looks") or {}).get("options", [])):
        for key in ("seconds", "wall_seconds", "money"):
            step.pop(key, None)
    return found


# when a pilot ends ----------------------------------------------------------------------------------------------------


def spent(
    decision: Mapping[str, Any], state: State, stage_of: Mapping[str, str], *, look: int | None, groups: np.ndarray | None, workers: int
) -> dict[str, Any]:
    """The decision with what each stage cost and saved, what one use of the images costs, and what the next look could bring. No money.

    stage_of: digest of a result to the stage that first asked for it. look: of the test split, None while it is closed.
    """
    found = copy.deepcopy(dict(decision))
    rows = _stages(state, stage_of, looks=found["looks"])
    found["cost"] |= {"stages": rows, "saved_seconds": round(sum(r["saved_seconds"] for r in rows), 1), "use": _use(state)}
    found["next_looks"] = _next_looks(state, found, look=look, groups=groups, workers=workers)
    found["next_step"] = _next_step(found)
    found["meeting"] = {"values": {"train": state.study.data["images"]["train"]}}
    return found


def _stages(state: State, stage_of: Mapping[str, str], *, looks: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Seconds of one worker by stage, and what gates saved: the estimate of planned work that was not done."""
    seconds: dict[tuple[str, int | None], float] = {(stage, 1 if stage == "full" else None): 0.0 for stage in STAGES}
    if state.study.sizes["cross_fit"]:
        seconds.pop(("small", None))
    if state.study.sizes.get("curve", "none") == "none":
        seconds.pop(("curve", None))
    done: set[str] = set()
    measured: dict[str, list[float]] = {}
    for job, entry in state.entries.items():
        if entry.digest in done:
            continue
        done.add(entry.digest)
        took = float(entry.result.get("seconds", 0.0))
        key = _key(state, job, stage_of.get(entry.digest, state.stage))
        seconds[key] = seconds.get(key, 0.0) + took
        both = measured.setdefault(job.verb, [0.0, 0.0])
        both[0] += took
        both[1] += job.estimate
    saved = _not_done(state, done, {verb: took / planned for verb, (took, planned) in measured.items() if planned > 0})
    ran = {_key(state, job, stage_of.get(entry.digest, state.stage)) for job, entry in state.entries.items()}
    numbers = [x["look"] for x in looks]
    return [
        {
            "stage": stage, "look": numbers[part - 1] if part is not None and part <= len(numbers) else part, "ran": (stage, part) in ran,
            "seconds": round(took, 1), "saved_seconds": round(saved.get(stage, 0.0) if part in (None, 1) else 0.0, 1),
        }
        for (stage, part), took in seconds.items()
    ]  # fmt: skip


def _key(state: State, job: Job, stage: str) -> tuple[str, int | None]:
    """The stage, and at `full` which look of this run: later looks are the replicates that --continue added.

    What is trained on a part of the images belongs to the learning curve, which follows `full` (studies/curve.py).
    """
    place = re.match(r"[^/]+/r(\d+)(?:/f\d+)?(/part [^/]+)?/", job.name)
    if place and place[2]:
        return "curve", None
    if stage != "full":
        return stage, None
    replicate, end = int(place[1]) if place else 0, state.study.sizes["small"]
    for part, count in enumerate(state.study.sizes["full"], start=1):
        end += count
        if replicate < end:
            return stage, part
    return stage, len(state.study.sizes["full"])


def _not_done(state: State, done: set[str], pace: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage of what was planned and not done, at the measured pace of each kind of work. pace: verb to measured over planned."""
    sizes, first = state.study.sizes, state.study.sizes["small"]
    arms = arms_of(sizes["arms"], list(sizes["generators"]))
    cross = bool(sizes["cross_fit"])
    planned: dict[str, list[Job]] = {"look": [state.jobs.checked(g, state.cells[0]) for g in sizes["generators"]], "small": [], "full": []}
    if not cross:
        planned["look"] += [state.jobs.predicted(Arm(BASELINE_LOOK, g), state.cells[0], "selection") for g in sizes["generators"]]
        planned["small"] = [state.jobs.predicted(a, c, "selection") for c in state.cells if c.replicate < first for a in arms]
    planned["full"] = [state.jobs.predicted(a, c, "test") for c in state.cells if first <= c.replicate < first + sizes["full"][0] for a in arms]
    usual = sum(pace.values()) / len(pace) if pace else 1.0
    seen, found = set(done), {}
    for stage, jobs in planned.items():
        found[stage] = 0.0
        for job in _with_needs(jobs):
            if job.digest not in seen:
                seen.add(job.digest)
                found[stage] += job.estimate * pace.get(job.verb, usual)
    if state.test is None:
        found["curve"] = _curve_planned(state, pace)
    return found


def _curve_planned(state: State, pace: Mapping[str, float]) -> float:
    """Seconds that the learning curve would have taken: the same estimate as the plan's (`budget.estimate`), at the measured pace."""
    sizes, planned = state.study.sizes, {verb: s * pace.get(verb.split(":")[0], 1.0) for verb, s in state.study.estimates.items()}
    trained = planned.get("train", 0.0) + planned.get("predict", 0.0)
    dearest = max((planned.get(f"fit:{g}", 0.0) + planned.get(f"sample:{g}", 0.0) for g in sizes["generators"]), default=0.0)
    once = {"real": trained, "full": 2 * trained + dearest}.get(sizes.get("curve", "none"), 0.0)
    return sizes["full"][0] * sizes["folds"] * CURVE_POINTS * once


def _with_needs(jobs: Iterable[Job]) -> list[Job]:
    """Jobs and everything they need, each once."""
    found: dict[int, Job] = {}
    todo = list(jobs)
    while todo:
        job = todo.pop()
        if id(job) not in found:
            found[id(job)] = job
            todo += [need for need in job.inputs.values() if isinstance(need, Job)]
    return list(found.values())


def _seconds(state: State, jobs: Iterable[Job]) -> dict[str, float]:
    """Measured seconds by verb of `jobs` and what they need, each result once."""
    found: dict[str, float] = {}
    entries = {state.entries[job].digest: (job, state.entries[job]) for job in _with_needs(jobs) if job in state.entries}
    for job, entry in entries.values():
        found[job.verb] = found.get(job.verb, 0.0) + float(entry.result.get("seconds", 0.0))
    return found


def _use(state: State) -> dict[str, float] | None:
    """Seconds by verb of making the candidate's images once. None without a candidate, or where another program made them."""
    arm = state.candidate
    if arm is None or arm.generator is None or state.study.sizes["generators"][arm.generator]["kind"] == "folder":
        return None
    made = [job for c in state.cells if (job := state.jobs.images(arm, c)) in state.entries]
    whole = _seconds(state, made)
    return {verb: round(whole[verb] / len(made), 2) for verb in MAKING if verb in whole} or None


def _next_looks(state: State, decision: Mapping[str, Any], *, look: int | None, groups: np.ndarray | None, workers: int) -> dict[str, Any] | None:
    """What --continue could bring, by replicates added. None where no further look is to be had."""
    if decision["verdict"] != "more evidence" or look is None or look >= len(gates.CONFIDENCE) or state.candidate is None or state.test is None:
        return None
    replicates, confidence = len(state.test.replicates(state.candidate)), gates.CONFIDENCE[look]
    gain = gain_on_test(state, state.candidate, confidence=gates.CONFIDENCE[look - 1], groups=groups)
    overlap = float(state.study.sizes["overlap"])
    tested = [c for c in state.cells if c.replicate >= state.study.sizes["small"]]
    jobs = {job for c in tested for job in _pair(state, c)} | {job for job in state.entries if _key(state, job, "")[0] == "curve"}
    one = sum(_seconds(state, jobs).values()) / replicates
    options: list[dict[str, Any]] = []
    for add in STEPS:
        settings: dict[str, Any] = {"overlap": overlap, "confidence": confidence, "low_share": gates.LOW_SHARE, "worthwhile": state.worthwhile}
        chances = next_look(gain, replicates=replicates, add=add, **settings)
        options.append({
            "add": add, "replicates": replicates + add, "seconds": round(one * add, 1), "wall_seconds": round(one * add / workers + STARTUP, 1),
            "confidence": confidence, "detectable": _detectable(gain, replicates, add, overlap=overlap, confidence=confidence), "chance": _rounded(chances),
        })  # fmt: skip
    futile = all(o["chance"]["go"] + o["chance"]["stop"] < FUTILE for o in options)
    images = [o for o in decision["smallest_detectable_gain"]["smaller_by"] if o["change"] == "test_images"]
    return {"options": options, "futile": futile, "instead": min(images, key=lambda o: o["to"], default=None) if futile else None}


def _pair(state: State, cell: Cell) -> list[Job]:
    assert state.candidate is not None
    return [state.jobs.predicted(arm, cell, "test") for arm in (state.baseline, state.candidate)]


def _detectable(gain: Interval, replicates: int, add: int, *, overlap: float, confidence: float) -> float:
    """The smallest detectable gain with `add` more replicates, from the spread that was measured."""
    shrunk = math.sqrt((1 / (replicates + add) + overlap) / (1 / replicates + overlap))
    return gates.detectable_from(replace(gain, se_replicates=gain.se_replicates * shrunk, df_replicates=replicates + add - 1.0), confidence=confidence)


def _rounded(chances: Chances) -> dict[str, float]:
    return {"go": round(chances.go, 4), "stop": round(chances.stop, 4), "neither": round(chances.neither, 4)}


def _next_step(decision: Mapping[str, Any]) -> dict[str, Any]:
    """The next step with what it takes. After `more evidence` it follows the chances: replicates where they may settle it, else images."""
    step = {**decision["next_step"], "seconds": None, "money": None, "chance": None}
    if step["code"] == "scale_up" and decision["cost"]["use"]:
        step["seconds"] = round(sum(decision["cost"]["use"].values()), 1)
    looks = decision["next_looks"]
    if not looks:
        return step
    if looks["futile"]:
        if instead := looks["instead"]:
            return {**step, "code": "more_test_images", "values": {"test_images": instead["to"], "gain": instead["gain"]}}
        return {**step, "code": "futile", "values": {"replicates": looks["options"][-1]["replicates"]}}
    few, many = looks["options"]
    best = few if _answer(few) > 0.75 * _answer(many) else many
    values = {"add": best["add"], "replicates": best["replicates"], "gain": best["detectable"]}
    return {**step, "code": "more_replicates", "values": values, "seconds": best["seconds"], "wall_seconds": best["wall_seconds"], "chance": _answer(best)}


def _answer(option: Mapping[str, Any]) -> float:
    return round(option["chance"]["go"] + option["chance"]["stop"], 4)


# money ----------------------------------------------------------------------------------------------------------------


def priced(decision: Mapping[str, Any], prices: Prices) -> dict[str, Any]:
    """The decision with money by these prices, or with none where none are known; the sentence for the meeting is told anew."""
    found = copy.deepcopy(dict(decision))
    cost, label = found["cost"], prices.label_price

    def machine(seconds: Any) -> float | None:
        return None if prices.machine_price is None or seconds is None else round(seconds / 3600 * prices.machine_price, 6)

    for row in cost.get("stages", []):
        row |= {"money": machine(row["seconds"]), "saved_money": machine(row["saved_seconds"])}
    looks = found.get("next_looks") or {"options": [], "instead": None}
    for row in looks["options"]:
        row["money"] = machine(row["seconds"])
    step, extra = found.get("next_step"), _more_images(found)
    if isinstance(step, dict):
        step["money"] = machine(step.get("seconds"))
        if step.get("code") == "more_test_images":
            step["money"] = round(extra * label, 6) if extra is not None and label is not None else None
    cost["money"] = None
    if prices.label_price is not None or prices.machine_price is not None:
        use = cost.get("use")
        whole, once = machine(cost.get("machine_seconds")), machine(sum(use.values()) if use else None)
        cost["money"] = {
            **plain(prices), "machine": whole, "saved": machine(cost.get("saved_seconds")), "use": once,
            "equivalent": _equivalent(found.get("real_image_equivalent"), label), "labels": _bought(whole, label), "use_labels": _bought(once, label),
        }  # fmt: skip
    found["meeting"] = meeting(found)
    return found


def _more_images(decision: Mapping[str, Any]) -> float | None:
    """Test images to collect in the next step, beyond those there are."""
    to = ((decision.get("next_step") or {}).get("values") or {}).get("test_images")
    now = (decision.get("smallest_detectable_gain") or {}).get("test_images")
    return None if to is None or now is None else max(0.0, to - now)


def _equivalent(real: Any, label: float | None) -> dict[str, float | None] | None:
    """What the synthetic images would save in labels: the extra real images they stand for, at the price of a label."""
    if label is None or not isinstance(real, Mapping) or real.get("status") == "cannot tell" or all(real.get(k) is None for k in ("value", "low", "high")):
        return None
    return {k: None if real.get(k) is None else round(real[k] * label, 6) for k in ("value", "low", "high")}


def _bought(money: float | None, label: float | None) -> float | None:
    """Real labelled images that the same money would have bought."""
    return None if money is None or label is None else round(money / label, 3)
