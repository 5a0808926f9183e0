"""What an assessment says: each axis with its state, the scores below it, as text and as one JSON file; and which of it a condition may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mitate import __version__
from mitate.files import write_json, writing
from mitate.images import ImageSet
from mitate.score import Assessment, Score
from mitate.settings import plain
from mitate.store import Entry
from mitate.studies import utility
from mitate.studies.assess_planning import AXES, ELSEWHERE, Assess, AssessPlan
from mitate.studies.assess_sets import Sets, of_known_class
from mitate.studies.conditions import Condition, check, parse
from mitate.study import Job

HEADLINES = {  # the scores that an axis's state rests on; privacy's rests on an attack
    "fidelity": ("precision", "density"),  # precision alone is fooled by large balls around odd real images; one such ball adds little to density
    "diversity": ("recall", "coverage"),
    "style": ("told_apart",),
    "utility": ("gain", "recognised"),
    "robustness": ("robust_accuracy", "corrupted_accuracy"),
}
UNLIKE = ("intra_cluster",)  # diversity's where fidelity is worse: images that do not look real are near no real one, however varied they are
STATES = ("worse", "better", "not told apart", "not measured")
PRIVACY_STATES = ("leaks", "no leak found", "not measured")
AXIS_STATES = {axis: PRIVACY_STATES if axis == "privacy" else ("measured", "not measured") if axis == "efficiency" else STATES for axis in AXES}


def answer(asked: Assess, sets: Sets, plan: AssessPlan, found: Mapping[Job, Entry]) -> Assessment:
    """The scores that the jobs found, and the facts around them. found: what each job of the plan left in the store."""
    subject = sets.fakes.name
    scores: list[Score] = []
    privacy: dict[str, Any] = {"state": "not measured", "why": plan.why_no_privacy}
    for name, job in plan.axes.items():
        result = found[job].result
        scores += [Score(subject=subject, **row) for row in result["scores"] if row["axis"] in asked.axes]
        if name == "leakage":
            privacy = result["verdict"]
    if plan.use is not None and sets.held_out is not None:
        if "utility" in asked.axes:
            scores += utility.utility(plan.use, found, fakes=of_known_class(sets.fakes), real=sets.real, held_out=sets.held_out, subject=subject)
        if "robustness" in asked.axes:
            scores += utility.robustness(plan.use, found, subject=subject)
    why = {
        "privacy": plan.why_no_privacy,
        "utility": plan.why_no_use,
        "robustness": plan.why_no_use,
        "efficiency": ELSEWHERE,
    }
    axes: dict[str, dict[str, Any]] = {}
    for axis in AXES:
        if axis not in asked.axes:
            continue
        mine = [s for s in scores if s.axis == axis]
        heads = headlines_of(axis, scores)
        state = {"state": state_of(axis, mine, heads), "why": why.get(axis, "") if not mine else "", "rests_on": list(heads)}
        axes[axis] = privacy if axis == "privacy" else state
    facts = {
        "asked": plain(asked), "subject": subject, "size": plan.size, "channels": plan.channels, "features": dict(plan.extractor),
        "sets": {
            role: _told(images)
            for role, images in (("synthetic", sets.fakes), ("real", sets.real), ("held_out", sets.held_out), ("foreign", sets.foreign))
            if images is not None
        },
        "generator": sets.generator, "findings": list(sets.findings), "axes": axes, "stored": dict(plan.digests),
    }  # fmt: skip
    order = {axis: i for i, axis in enumerate(AXES)}
    return Assessment(subject, tuple(sorted(scores, key=lambda s: order[s.axis])), facts)


def headlines_of(axis: str, scores: Sequence[Score]) -> tuple[str, ...]:
    """The scores that an axis's state rests on."""
    unlike = any(s.beside == "worse" for s in scores if s.axis == "fidelity" and s.metric in HEADLINES["fidelity"])
    return UNLIKE if axis == "diversity" and unlike else HEADLINES.get(axis, ())


def state_of(axis: str, scores: Sequence[Score], heads: Sequence[str]) -> str:
    """What an axis comes to: worse where a headline is, better where all are. `not told apart` is no proof of likeness.

    Of utility the gain decides, where it can be told from none; wrong labels count where it cannot.
    """
    if not any(s.value is not None for s in scores):
        return "not measured"
    if axis == "efficiency":
        return "measured"
    found = {s.metric: s.beside for s in scores if s.metric in heads and s.beside is not None}
    if not found:
        return "not measured"
    if found.get(utility.GAIN.name) in ("better", "worse"):
        return str(found[utility.GAIN.name])
    if axis == "utility":
        return "worse" if "worse" in found.values() else "not told apart"
    return "worse" if "worse" in found.values() else "better" if set(found.values()) == {"better"} else "not told apart"


def _told(images: ImageSet) -> dict[str, Any]:
    groups = None if images.groups is None else len({g for g in images.groups if g})
    return {"name": images.name, "images": len(images), "classes": images.counts(), "groups": groups, "digest": images.digest}


def conditions_of(texts: Sequence[str]) -> list[Condition]:
    """The conditions of `--fail-if`, checked against the metrics and axes there are."""
    found = [parse(text) for text in texts]
    known = known_metrics() if found else {}
    for condition in found:
        check(condition, metrics=known, axes=AXIS_STATES)
    return found


def known_metrics() -> dict[str, str]:
    """Every metric that an assessment may hold, and its axis: those that its jobs and studies/utility.py make scores of."""
    from mitate.metrics import detection, efficiency, exposure, kernel, leakage, likeness, looks, privacy, robustness, told_apart, transfer

    held = (
        *(*exposure.NEED_HELD_OUT, leakage.DISTANCE_RATIO, leakage.AUTHENTICITY, privacy.COPIES),
        *(*likeness.METRICS, kernel.KERNEL_DISTANCE),
        *(told_apart.TOLD_APART, told_apart.TOLD_APART_RIGHT, looks.EARLY_FRECHET, *looks.GAPS.values(), *looks.SPREADS.values()),
        *(utility.TRAINED_ON_SYNTHETIC, utility.RECOGNISED, utility.GAIN, transfer.LEEP),
        *(*robustness.METRICS, detection.FOREIGN_AUROC, detection.FOREIGN_ACCEPTED, *detection.BESIDE.values()),
        *(efficiency.IMAGES_PER_SECOND, efficiency.LATENCY, efficiency.LATENCY_TAIL, efficiency.TRAINING, efficiency.MEMORY),
        *(efficiency.PARAMETERS, efficiency.EVALUATIONS),
    )
    return {metric.name: metric.axis for metric in held}


def table(assessment: Assessment) -> list[str]:
    """The assessment as lines of text: each axis with its state, below it its scores."""
    lines = [f"{assessment.subject}: {assessment.facts['sets']['synthetic']['images']} synthetic images beside {_beside(assessment)}"]
    lines += [f"note: {finding}" for finding in assessment.facts["findings"]]
    for axis, facts in assessment.facts["axes"].items():
        lines.append(f"{axis:12}{facts['state']}" + (f" ({facts['why']})" if facts.get("why") else ""))
        for score in (s for s in assessment.scores if s.axis == axis):
            lines.append(f"  {score.metric:28}{_cells(score)}")
    return lines


def write(assessment: Assessment, path: Path) -> None:
    """The whole record as one JSON file."""
    with writing(path):
        write_json(path, {"version": __version__, **assessment.facts, "scores": [plain(s) for s in assessment.scores]})


def _beside(assessment: Assessment) -> str:
    sets = assessment.facts["sets"]
    held = f" and {sets['held_out']['images']} held-out ones" if "held_out" in sets else "; nothing held out"
    return f"{sets['real']['images']} real{held}"


def _cells(score: Score) -> str:
    if score.value is None:
        return f"not measured: {score.note}"
    span = f" [{score.low:.3g}, {score.high:.3g}]" if score.low is not None and score.high is not None else ""
    floor = f"floor {score.floor:.3g}" if score.floor is not None else ""
    return f"{f'{score.value:.3g}{span}':32}{floor:16}{score.beside or ''}".rstrip()
