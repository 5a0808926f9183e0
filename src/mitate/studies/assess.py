"""The assessment: what a set of synthetic images is worth on six axes and in style, for a folder from any tool or a kept generator.

    assess(Assess(fakes="fakes/", real="leaves/train", held_out="leaves/holdout"), store=Store.find()) -> Assessment

Every number that can have one stands beside its *floor*: what held-out real images score in the place of the synthetic ones, at as many
images. Without a held-out set there is no floor and no privacy. Each axis is one or more jobs of the store, so a second call computes
nothing. An assessment is a measurement, not a verdict on a purchase: that is the pilot's.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mitate import __version__, metrics
from mitate.engine import Engine, in_order
from mitate.errors import DataError, SettingError
from mitate.images import ImageSet
from mitate.intake.opening import Source, list_source, look_all, open_images
from mitate.leaks import NO_CLASS
from mitate.progress import Line
from mitate.runtime import seed_of
from mitate.score import Assessment, Metric, Score
from mitate.settings import QUIET, plain, suggest
from mitate.store import Entry, Store, disk_errors, write_json
from mitate.studies import shadows, utility
from mitate.studies.conditions import Condition, check, parse
from mitate.studies.sources import fitted_on
from mitate.study import Job
from mitate.verbs import VERBS, keep_extractor, keep_images

AXES = ("privacy", "fidelity", "diversity", "style", "utility", "robustness", "efficiency")  # privacy first: the gate
FREE = ("privacy", "fidelity", "diversity", "style", "efficiency")  # need no training
MOST_SIZE = 64  # pixels, unless asked for more
DRAWN = 200  # images of each class that a kept generator draws
LEAST = 20  # images of a set
MIXED = 0.001  # chance below which two mixes of classes are told as different
LOSS_SEED = 0  # of the noise in a generator's loss
LEAST_MEMBERS = 10  # real images that a generator was fitted on, for an attack
NO_HELD = "no held-out images were given: --held-out FOLDER"
ELSEWHERE = "these images came from elsewhere; name a kept generator"


@dataclass(frozen=True)
class Assess:
    """What the user asks. fakes: a folder, file or kept generator; real: images the generator may have seen; held_out: ones it never saw;
    foreign: images of other things, which a model must not accept."""

    fakes: str
    real: str
    held_out: str = ""
    features: str = "mitate-small"
    axes: tuple[str, ...] = AXES
    size: int = 0  # working pixels; 0: the images' own, at most 64
    per_class: int = 0  # images that a kept generator draws; 0: 200
    replicates: int = 3  # of each training
    steps: int = 300  # of each training
    shadows: int = field(default=0, metadata=QUIET)  # shadow models of the attack on a trained model; 0: no such attack
    foreign: str = field(default="", metadata=QUIET)
    seed: int = 0


@dataclass(frozen=True)
class Sets:
    """The three sets as images, and what was found in them. held_out may be None; generator is a kept one's digest, or None."""

    fakes: ImageSet
    real: ImageSet
    held_out: ImageSet | None
    generator: str | None
    findings: tuple[str, ...]
    fitted_on: str | None = None  # the stored images that the generator was fitted on, where some of them are among the real ones
    members: tuple[int, ...] | None = None  # rows of the real images among those; None: all count, since nothing better is known
    foreign: ImageSet | None = None


def check_asked(asked: Assess) -> None:
    """SettingError for what cannot be asked, before anything is read."""
    if not asked.axes:
        raise SettingError("No axis was named.", fix=f"name some of {', '.join(AXES)}")
    for axis in asked.axes:
        if axis not in AXES:
            raise SettingError(f"There is no axis {axis!r}.", fix=suggest(axis, AXES))
    if asked.shadows and "privacy" not in asked.axes:
        raise SettingError("Shadow models attack privacy, which is not among the axes.", fix="add privacy to --axes, or leave --shadows out")
    for name, least in (("per_class", 0), ("replicates", 2), ("steps", 1), ("size", 0)):
        if getattr(asked, name) < least:
            raise SettingError(f"{name} is {getattr(asked, name)}.", fix=f"give {least} or more")
    shadows.check_shadows(asked.shadows)
    if asked.foreign and "robustness" not in asked.axes:
        raise SettingError("Foreign images tell of robustness, which was not asked for.", fix="add robustness to --axes, or leave --foreign out")
    if 0 < asked.size < 8 or asked.size > 256:
        raise SettingError(f"A working size of {asked.size} pixels is out of range.", fix="give 8 to 256, or 0")


def open_sets(asked: Assess, *, fakes: Source, real: Source, held_out: Source | None, foreign: Source | None = None, store: Store) -> Sets:
    """The sets, checked against each other: nothing held out may be among the real or the synthetic images, nothing foreign among any."""
    findings: list[str] = []
    seen = _real(real, "real")
    held = _real(held_out, "held-out") if held_out is not None else None
    if held is not None:
        both = set(seen.digests)
        if shared := [i for i, d in enumerate(held.digests) if d in both]:
            if len(shared) == len(held):
                raise DataError("Every held-out image is one of the real ones.", fix="hold out images that the generator has not seen")
            findings.append(f"{len(shared)} held-out images are also among the real ones ({held.names[shared[0]]}, ...); they were left out")
            held = held.subset([i for i in range(len(held)) if i not in set(shared)])
    made, generator = _synthetic(asked, fakes, seen, held, store)
    if held is not None and (stolen := len(set(made.digests) & set(held.digests))):
        raise DataError(f"{stolen} of the synthetic images are held-out images: the generator has seen them.", fix="hold out images that it has not seen")
    if twins := len(made) - len(set(made.digests)):
        findings.append(f"{twins} synthetic images repeat another one")
    if unknown := len(made) - len(_of_known_class(made)):
        findings.append(f"{unknown} synthetic images have no label or a class that no real image has; models are trained without them")
    others = open_images(foreign) if foreign is not None else None
    if others is not None:
        _check_foreign(others, {"real": seen, "held-out": held, "synthetic": made})
    for which, images in (("synthetic", made), ("real", seen), ("held-out", held), ("foreign", others)):
        if images is not None and len(images) < LEAST:
            raise DataError(f"There are {len(images)} {which} images.", fix=f"give {LEAST} or more")
    _tell_mixes(made, seen, held, findings)
    fitted, members = _members(generator, seen, store, findings)
    return Sets(made, seen, held, generator, tuple(findings), fitted, members, others)


def assess(
    asked: Assess,
    *,
    store: Store,
    fakes: Source | None = None,
    real: Source | None = None,
    held_out: Source | None = None,
    foreign: Source | None = None,
    workers: int | None = None,
) -> Assessment:
    """The scores of a synthetic set. fakes, real, held_out, foreign: anything `open_images` takes, in place of the names in `asked`."""
    check_asked(asked)
    fakes, real = fakes if fakes is not None else asked.fakes, real if real is not None else asked.real
    held_out, foreign = held_out if held_out is not None else asked.held_out or None, foreign if foreign is not None else asked.foreign or None
    sets = open_sets(asked, fakes=fakes, real=real, held_out=held_out, foreign=foreign, store=store)
    plan = _plan(asked, sets, store)
    line = Line(sum(job.estimate for job in in_order(plan.all)), title="assess")
    with Engine(store, workers=workers) as engine:
        found = engine.run(plan.all, done=lambda job, entry, reused: line.advance(job.estimate, job.name))
    line.close()
    return _assessment(asked, sets, plan, found)


# the sets -------------------------------------------------------------------------------------------------------------


def _real(source: Source, which: str) -> ImageSet:
    images = open_images(source)
    if isinstance(source, ImageSet):
        if source.provenance is not None:
            raise DataError(f"The {which} images {source.name!r} are synthetic.", fix="give real images there")
        return images
    marked = [i for i, a in enumerate(look_all(list_source(source))) if a.mark is not None]
    if marked:
        raise DataError(
            f"{len(marked)} of the {which} images carry a mark that says they were made by a model ({images.names[marked[0]]}, ...).",
            fix="take them out: mitate scan lists them",
        )
    return images


def _check_foreign(foreign: ImageSet, sets: Mapping[str, ImageSet | None]) -> None:
    """DataError where foreign images are among the others: a model would be blamed for knowing what it was taught."""
    there = set(foreign.digests)
    for which, images in sets.items():
        if shared := len(there & set(images.digests)) if images is not None else 0:
            raise DataError(f"{shared} of the foreign images are among the {which} ones.", fix="give images of other things, which a model must not accept")


def _synthetic(asked: Assess, source: Source, real: ImageSet, held: ImageSet | None, store: Store) -> tuple[ImageSet, str | None]:
    """The synthetic images with the real classes, and the digest of the kept generator that drew them."""
    entry = _kept(source, store)
    if entry is None:
        images = open_images(source)
        known = _known(images, store)
        if known is not None:
            _check_unseen(known, held, images.name, store)
        return _with_classes(images, real.classes), known.digest if known else None
    from mitate.fitted import generate, load_generator

    _check_unseen(entry, held, str(source), store)
    generator = load_generator(str(source), store=store)
    images = generate(generator, per_class=asked.per_class or DRAWN, seed=asked.seed, store=store)
    return _with_classes(replace(images, name=str(source)), real.classes), entry.digest


def _kept(source: Source, store: Store) -> Entry | None:
    """The kept generator of that name; None where the name is a path, or no name."""
    if not isinstance(source, str) or "/" in source or "." in source:
        return None
    if Path(source).exists():
        return None
    try:
        return store.kept(source)
    except DataError:
        return None


def _known(images: ImageSet, store: Store) -> Entry | None:
    """The generator that made these images, where the images say so and the store still has it."""
    entry = store.get(images.provenance.digest) if images.provenance is not None else None
    return entry if entry is not None and json.loads(entry.path("asked.json").read_text(encoding="utf-8"))["verb"] == "fit" else None


def _check_unseen(generator: Entry, held: ImageSet | None, name: str, store: Store) -> None:
    """DataError where a generator has seen held-out images."""
    if held is not None:
        trained, chosen = fitted_on(generator, store)
        if shared := len((trained | chosen) & set(held.digests)):
            raise DataError(f"The generator {name!r} was fitted on {shared} of the held-out images.", fix="hold out images that it has not seen")


def _members(generator: str | None, real: ImageSet, store: Store, findings: list[str]) -> tuple[str | None, tuple[int, ...] | None]:
    """The stored images that a kept generator was fitted on, and the rows of the real images among them; None for both where none is."""
    entry = store.get(generator) if generator is not None else None
    if entry is None:
        return None, None
    trained = fitted_on(entry, store)[0]
    rows = tuple(i for i, digest in enumerate(real.digests) if digest in trained)
    if not rows:
        findings.append(f"the generator was fitted on none of the {len(real)} real images; all of them are attacked, though none was learnt from")
        return None, None
    if len(rows) < len(real):
        findings.append(f"the generator was fitted on {len(rows)} of the {len(real)} real images; only those are attacked")
    return str(json.loads(entry.path("asked.json").read_text(encoding="utf-8"))["inputs"]["train"]), rows


def _with_classes(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """The same images with labels among the real classes; -1 where a class is not one of them."""
    ours = {c.strip().casefold(): k for k, c in enumerate(classes)}
    place = [ours.get(c.strip().casefold(), -1) for c in images.classes]
    return replace(images, classes=classes, labels=tuple(place[k] if k >= 0 else -1 for k in images.labels), split="synthetic", groups=None)


def _tell_mixes(made: ImageSet, real: ImageSet, held: ImageSet | None, findings: list[str]) -> None:
    """Say where sets are grey beside colour, or mix their classes differently: then they differ for that reason alone."""
    from scipy.stats import chi2_contingency

    named = {"synthetic": made, "real": real, **({"held-out": held} if held is not None else {})}
    colour = {name: _in_colour(images) for name, images in named.items()}
    if len(set(colour.values())) > 1:
        grey = " and ".join(name for name, has in colour.items() if not has)
        findings.append(f"the {grey} images are grey and the others are not: they differ for that reason alone")
    for name in ("synthetic", "held-out"):
        if name not in named:
            continue
        counts = np.array([list(images.counts().values()) for images in (named[name], real)])
        counts = counts[:, counts.sum(axis=0) > 0]
        if counts.shape[1] > 1 and counts.sum(axis=1).all() and chi2_contingency(counts).pvalue < MIXED:
            shares = " / ".join(" ".join(f"{100 * share:.0f}" for share in row / row.sum()) for row in counts)
            findings.append(f"{name} and real images mix their classes differently ({shares} %): part of what tells them apart is that mix")


def _of_known_class(images: ImageSet) -> ImageSet:
    """The images that a model can learn from: those whose class the real ones have."""
    known = [i for i, k in enumerate(images.labels) if k >= 0]
    return images if len(known) == len(images) else images.subset(known)


# the jobs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    size: int
    channels: int
    extractor: Mapping[str, Any]
    axes: Mapping[str, Job]  # jobs whose result holds finished scores
    use: utility.Trainings | None
    why_no_use: str
    why_no_privacy: str
    digests: Mapping[str, str]  # stored image sets

    @property
    def all(self) -> list[Job]:
        return [*self.axes.values(), *(self.use.jobs if self.use else [])]


def _plan(asked: Assess, sets: Sets, store: Store) -> _Plan:
    size, channels = _shape(asked, sets)
    given = {"synthetic": sets.fakes, "real": sets.real, "held_out": sets.held_out}
    digests = {role: keep_images(store, images, size=size, channels=channels) for role, images in given.items() if images is not None}
    extractor, weights = keep_extractor(store, asked.features)
    features = {role: _features(digest, role, extractor, weights, len(given[role] or ())) for role, digest in digests.items()}
    inputs: dict[str, Job | str] = {**{f"{role}_features": job for role, job in features.items()}, **digests}
    pairs = len(sets.fakes) * (len(sets.real) + len(sets.held_out or ())) * 1e-7
    jobs: dict[str, Job] = {}
    for verb, wanted, seconds in (("likeness", ("fidelity", "diversity"), 20.0), ("look", ("style",), 5.0)):
        if set(wanted) & set(asked.axes):
            jobs[verb] = Job(verb, verb, VERBS[verb].version, {"seed": seed_of(verb, asked.seed)}, inputs, seconds * (1 + pairs))
    trained = {"utility", "robustness"} & set(asked.axes) or ("privacy" in asked.axes and asked.shadows)
    why = utility.why_not(sets.fakes, sets.real, sets.held_out) if trained else ""
    training = utility.training_of(sets.real, shape=(size, size, channels), steps=asked.steps) if trained and not why else {}
    trained_on = {**digests, "synthetic": keep_images(store, _of_known_class(sets.fakes), size=size, channels=channels)} if trained and not why else digests
    why_no_privacy = _why_no_privacy(sets)
    if "privacy" in asked.axes and not why_no_privacy:
        settings, more = _attacks(asked, sets, trained_on, training, why, store)
        settings = {"seed": seed_of("leakage", asked.seed), **settings}
        jobs["leakage"] = Job("leakage", "leakage", VERBS["leakage"].version, settings, {**inputs, **more}, 2.0 * (1 + pairs))
    if "efficiency" in asked.axes and sets.generator is not None:
        jobs["pace"] = Job("pace", "pace", VERBS["pace"].version, {}, {"generator": sets.generator}, 5.0)
    use = None
    if sets.foreign is not None and not why:
        digests, trained_on = ({**d, "foreign": keep_images(store, sets.foreign, size=size, channels=channels)} for d in (digests, trained_on))
    if {"utility", "robustness"} & set(asked.axes) and not why:
        use = utility.plan(trained_on, training=training, replicates=asked.replicates, seed=asked.seed, stress="robustness" in asked.axes)
    return _Plan(size, channels, extractor, jobs, use, why, why_no_privacy, digests)


def _why_no_privacy(sets: Sets) -> str:
    """Why nothing can be attacked; "" where something can."""
    if sets.held_out is None:
        return NO_HELD
    if sets.members is not None and len(sets.members) < LEAST_MEMBERS:
        return f"needs {LEAST_MEMBERS} real images that the generator was fitted on, has {len(sets.members)}"
    both = {g for g in sets.real.groups or () if g} & {g for g in sets.held_out.groups or () if g}
    if both:
        return f"{len(both)} groups are both among the real and the held-out images, such as {min(both)}: split by group"
    return ""


def _attacks(
    asked: Assess, sets: Sets, digests: Mapping[str, str], training: Mapping[str, Any], why_no_training: str, store: Store
) -> tuple[dict[str, Any], dict[str, Job | str]]:
    """Settings and inputs of the attacks beside that on samples: on the generator by its loss, on a trained model by shadow models."""
    settings: dict[str, Any] = {}
    inputs: dict[str, Job | str] = {"fitted_on": sets.fitted_on} if sets.fitted_on is not None else {}
    assert sets.held_out is not None
    if sets.generator is None:
        settings["no_loss"] = ELSEWHERE
    elif min(*sets.real.labels, *sets.held_out.labels) < 0:
        settings["no_loss"] = NO_CLASS
    else:
        members = sets.real if sets.members is None else sets.real.subset(sets.members)
        inputs |= {"member_losses": _losses(sets.generator, members, store), "held_out_losses": _losses(sets.generator, sets.held_out, store)}
    why = why_no_training if asked.shadows else shadows.NOT_ASKED
    why = why or shadows.why_not(digests, shadows=asked.shadows, seed=asked.seed, store=store)
    if why:
        return settings | {"no_model": why}, inputs
    jobs = shadows.plan(digests, training, shadows=asked.shadows, seed=asked.seed)
    return settings | {"pairs": asked.shadows // 2}, {**inputs, **jobs}


def _losses(generator: str, images: ImageSet, store: Store) -> Job:
    """The generator's loss of each image, prepared as those it was fitted on."""
    entry = store.get(generator)
    assert entry is not None
    size, _, channels = entry.result["shape"]
    inputs: dict[str, Job | str] = {"generator": generator, "images": keep_images(store, images, size=size, channels=channels)}
    return Job("losses", "losses", VERBS["losses"].version, {"seed": LOSS_SEED}, inputs, 1.0 + 0.03 * len(images))


def _shape(asked: Assess, sets: Sets) -> tuple[int, int]:
    """Working size and channels: the real images' own, their smaller side, at most 64 pixels; grey when every image of every set is."""
    sides = sorted(min(sets.real.reader.read(i).shape[:2]) for i in range(min(len(sets.real), 50)))
    colour = any(_in_colour(images) for images in (sets.real, sets.fakes, sets.held_out, sets.foreign) if images is not None)
    return asked.size or max(8, min(MOST_SIZE, sides[len(sides) // 2])), 3 if colour else 1


def _in_colour(images: ImageSet) -> bool:
    """Whether any of the images has colours."""
    return any(images.reader.read(i).shape[2] == 3 for i in range(len(images)))


def _features(digest: str, role: str, extractor: Mapping[str, Any], weights: str, n: int) -> Job:
    inputs = {"images": digest, **({"weights": weights} if weights else {})}
    return Job(f"features/{role}", "features", VERBS["features"].version, {"extractor": dict(extractor)}, inputs, 0.5 + n * 2e-3)


# the answer -----------------------------------------------------------------------------------------------------------

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


def _assessment(asked: Assess, sets: Sets, plan: _Plan, found: Mapping[Job, Entry]) -> Assessment:
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
            scores += utility.utility(plan.use, found, fakes=_of_known_class(sets.fakes), real=sets.real, held_out=sets.held_out, subject=subject)
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
        heads = _headlines(axis, scores)
        state = {"state": _state(axis, mine, heads), "why": why.get(axis, "") if not mine else "", "rests_on": list(heads)}
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


def _headlines(axis: str, scores: Sequence[Score]) -> tuple[str, ...]:
    """The scores that an axis's state rests on."""
    unlike = any(s.beside == "worse" for s in scores if s.axis == "fidelity" and s.metric in HEADLINES["fidelity"])
    return UNLIKE if axis == "diversity" and unlike else HEADLINES.get(axis, ())


def _state(axis: str, scores: Sequence[Score], heads: Sequence[str]) -> str:
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


# what is said ---------------------------------------------------------------------------------------------------------


def conditions_of(texts: Sequence[str]) -> list[Condition]:
    """The conditions of `--fail-if`, checked against the metrics and axes there are."""
    found = [parse(text) for text in texts]
    known = known_metrics() if found else {}
    for condition in found:
        check(condition, metrics=known, axes=AXIS_STATES)
    return found


def known_metrics() -> dict[str, str]:
    """Every metric that an assessment may hold, and its axis."""
    rooms = [importlib.import_module(f"mitate.metrics.{room.name}") for room in pkgutil.iter_modules(metrics.__path__)]
    things = [thing for room in [*rooms, utility] for thing in vars(room).values()]
    things += [part for thing in things if isinstance(thing, dict) for part in thing.values()]
    return {thing.name: thing.axis for thing in things if isinstance(thing, Metric)}


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
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
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
