"""An assessment of features that the user has: fidelity and diversity, for sets of up to millions of images.

    assess_given(Assess(fakes="fakes.npy", real="real.npy", held_out="held.npy"), store=Store.find()) -> Assessment

Three jobs, one a part of `likeness`, so that a kill loses one at most and two workers share them. What takes all pairs of images is measured on
parts of sets above `most` (metrics/likeness.py). How long it will take is told before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np

from mitate.engine import Engine, Workers
from mitate.errors import DataError, SettingError
from mitate.features.given import LEAST, Given, is_given, keep, open_features
from mitate.metrics import coarse, forecast
from mitate.metrics.likeness import MOST, PARTS
from mitate.progress import Line, clock
from mitate.runtime import seed_of
from mitate.score import Assessment, Score
from mitate.settings import plain
from mitate.store import Store
from mitate.studies.assess_answer import headlines_of, known_metrics, state_of
from mitate.studies.assess_planning import AXES, Assess, check_asked
from mitate.studies.conditions import Condition
from mitate.study import Job
from mitate.verbs import VERBS

MEASURED = ("fidelity", "diversity")
IDLE = ("features", "size", "per_class", "replicates", "steps", "shadows", "foreign")  # what images alone can be asked with
ONLY_FEATURES = "features alone were given; give the images"
WORTH_TELLING = 20.0  # seconds
NAMES = {"kernel_distance": "kernel distance", "neighbours": "neighbours", "sets": "the rest"}


def assess_given(asked: Assess, *, store: Store, workers: Workers = None, tell: Callable[[str], None] = lambda line: None) -> Assessment:
    """The scores of features beside real ones. tell: takes a line on how long it will take, before it begins.

    Raises DataError for files that hold no such features, SettingError for axes that features alone cannot answer.
    """
    check_asked(asked)
    axes = _axes(asked)
    sets = _opened(asked)
    kept = {role: keep(store, given) for role, given in sets.items()}
    estimates = _estimates(sets, asked.most or MOST)
    settings = {"seed": seed_of("likeness", asked.seed), "most": asked.most or MOST}
    inputs = {f"{role}_features": digest for role, digest in kept.items()}
    jobs = {
        part: Job(f"likeness/{part}", "likeness_given", VERBS["likeness_given"].version, {**settings, "part": part}, inputs, estimates[part]) for part in PARTS
    }
    left = {NAMES[part]: job.estimate for part, job in jobs.items() if store.get(job.digest) is None}
    if sum(left.values()) >= WORTH_TELLING:
        tell(f"about {clock(sum(left.values()))} of one core: " + ", ".join(f"{name} {clock(seconds)}" for name, seconds in left.items()))
    line = Line(sum(estimates.values()), title="assess")
    with Engine(store, workers=workers) as engine:
        found = engine.run(list(jobs.values()), done=lambda job, entry, reused: line.advance(job.estimate, job.name))
    line.close()
    subject = sets["synthetic"].name
    scores = [Score(subject=subject, **row) for job in jobs.values() for row in found[job].result["scores"] if row["axis"] in axes]
    scores.sort(key=lambda score: AXES.index(score.axis))
    states = {}
    for axis in axes:
        heads = headlines_of(axis, scores)
        states[axis] = {"state": state_of(axis, [s for s in scores if s.axis == axis], heads), "why": "", "rests_on": list(heads)}
    for axis in AXES:
        if axis in asked.axes and axis not in axes:
            states[axis] = {"state": "not measured", "why": ONLY_FEATURES, "rests_on": []}
    facts = {
        "asked": plain(replace(asked, features="given")), "subject": subject, "features": {"kind": "given", "columns": sets["real"].points.shape[1]},
        "sets": {role: {"name": s.name, "images": len(s), "classes": {}, "groups": None, "digest": s.digest} for role, s in sets.items()},
        "generator": None, "findings": _findings(sets, asked.most or MOST), "axes": {axis: states[axis] for axis in AXES if axis in states}, "stored": kept,
    }  # fmt: skip
    return Assessment(subject, tuple(scores), facts)


def check_conditions(wanted: Sequence[Condition]) -> None:
    """SettingError for a condition on what features alone never tell: it would fail after hours."""
    axis_of = known_metrics() if wanted else {}
    for condition in wanted:
        axis = condition.subject if condition.state is not None else axis_of[condition.subject.rpartition(".")[2]]
        if axis not in MEASURED:
            raise SettingError(f"{condition.text!r}: features alone do not tell of {axis}.", fix="give folders of images, or leave it out")


def _axes(asked: Assess) -> tuple[str, ...]:
    """The axes that features can answer, of those that were asked."""
    if asked.axes == AXES:
        return MEASURED
    if other := [axis for axis in asked.axes if axis not in MEASURED]:
        raise SettingError(f"Features alone do not tell of {' and '.join(other)}.", fix="give folders of images, or leave --axes out")
    return tuple(asked.axes)


def _opened(asked: Assess) -> dict[str, Given]:
    named = {"synthetic": asked.fakes, "real": asked.real, **({"held_out": asked.held_out} if asked.held_out else {})}
    if idle := [field.name for field in fields(asked) if field.name in IDLE and getattr(asked, field.name) != field.default]:
        raise SettingError(f"Features have no use for {' and '.join(idle)}.", fix=f"leave out {' and '.join('--' + name.replace('_', '-') for name in idle)}")
    if 0 < asked.most < LEAST:
        raise SettingError(f"most is {asked.most}.", fix=f"give {LEAST} or more")
    if images := [source for source in named.values() if not is_given(source)]:
        raise SettingError(f"{images[0]} holds images, and the others are features.", fix="give .npy files of one extractor for all, or images for all")
    sets = {role: open_features(source) for role, source in named.items()}
    columns = {role: given.points.shape[1] for role, given in sets.items()}
    if len(set(columns.values())) > 1:
        told = ", ".join(f"{role.replace('_', '-')} {count}" for role, count in columns.items())
        raise DataError(f"The features have different numbers of columns ({told}).", fix="use one extractor for all")
    if (held := sets.get("held_out")) is not None:
        for role, why in (("real", "hold out images that the generator has not seen"), ("synthetic", "the generator has seen them: hold out others")):
            if len(rows := held.shared_with(sets[role])):
                raise DataError(f"{len(rows)} held-out rows are also among the {role} ones (row {rows[0]}, ...).", fix=why)
    return sets


def _findings(sets: dict[str, Given], most: int) -> list[str]:
    made, real = sets["synthetic"], sets["real"]
    copied, twins = len(made.shared_with(real)), len(made) - len(np.unique(made.signs["float32"]))
    n = min(len(given) for role, given in sets.items() if role != "real")
    found = [f"{copied} of {len(made)} synthetic rows are among the real ones, value for value"] if copied else []
    found += [f"{twins} synthetic images repeat another one"] if twins else []
    return [*found, f"metrics of neighbours are of parts of the sets, at most {most} images of each"] if max(len(real), n) > most else found


def _estimates(sets: dict[str, Given], most: int) -> dict[str, float]:
    others = [len(given) for role, given in sets.items() if role != "real"]
    real, d = sets["real"].points.shape
    work = forecast.operations(real, others, d, most=most)
    return forecast.seconds(work, forecast.rates(), short=coarse.worth_trying(min(real, most), d))
