"""What an assessment asks, and its plan: the jobs of the store that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mitate.errors import SettingError
from mitate.images import ImageSet
from mitate.leaks import NO_CLASS
from mitate.runtime import seed_of
from mitate.settings import QUIET, suggest
from mitate.store import Store
from mitate.studies import shadows, utility
from mitate.studies.assess_sets import Sets, in_colour, of_known_class
from mitate.study import Job
from mitate.verbs import VERBS, keep_extractor, keep_images

AXES = ("privacy", "fidelity", "diversity", "style", "utility", "robustness", "efficiency")  # privacy first: the gate
MOST_SIZE = 64  # pixels, unless asked for more
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
    most: int = field(default=0, metadata=QUIET)  # images of a set whose neighbours are looked for; 0: 200,000
    seed: int = 0


def check_asked(asked: Assess) -> None:
    """SettingError for what cannot be asked, before anything is read."""
    if not asked.axes:
        raise SettingError("No axis was named.", fix=f"name some of {', '.join(AXES)}")
    for axis in asked.axes:
        if axis not in AXES:
            raise SettingError(f"There is no axis {axis!r}.", fix=suggest(axis, AXES))
    if asked.shadows and "privacy" not in asked.axes:
        raise SettingError("Shadow models attack privacy, which is not among the axes.", fix="add privacy to --axes, or leave --shadows out")
    for name, least in (("per_class", 0), ("replicates", 2), ("steps", 1), ("size", 0), ("most", 0)):
        if getattr(asked, name) < least:
            raise SettingError(f"{name} is {getattr(asked, name)}.", fix=f"give {least} or more")
    shadows.check_shadows(asked.shadows)
    if asked.foreign and "robustness" not in asked.axes:
        raise SettingError("Foreign images tell of robustness, which was not asked for.", fix="add robustness to --axes, or leave --foreign out")
    if 0 < asked.size < 8 or asked.size > 256:
        raise SettingError(f"A working size of {asked.size} pixels is out of range.", fix="give 8 to 256, or 0")


@dataclass(frozen=True)
class AssessPlan:
    """The jobs of an assessment, and why some axes have none."""

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


def plan_assess(asked: Assess, sets: Sets, *, store: Store) -> AssessPlan:
    """The plan of what was asked of these sets; the sets and the extractor are kept in the store on the way."""
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
            settings = {"seed": seed_of(verb, asked.seed), **({"most": asked.most} if asked.most and verb == "likeness" else {})}
            jobs[verb] = Job(verb, verb, VERBS[verb].version, settings, inputs, seconds * (1 + pairs))
    trained = {"utility", "robustness"} & set(asked.axes) or ("privacy" in asked.axes and asked.shadows)
    why = utility.why_not(sets.fakes, sets.real, sets.held_out) if trained else ""
    training = utility.training_of(sets.real, shape=(size, size, channels), steps=asked.steps) if trained and not why else {}
    trained_on = {**digests, "synthetic": keep_images(store, of_known_class(sets.fakes), size=size, channels=channels)} if trained and not why else digests
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
    return AssessPlan(size, channels, extractor, jobs, use, why, why_no_privacy, digests)


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
    size, _, channels = store.there(generator).result["shape"]
    inputs: dict[str, Job | str] = {"generator": generator, "images": keep_images(store, images, size=size, channels=channels)}
    return Job("losses", "losses", VERBS["losses"].version, {"seed": LOSS_SEED}, inputs, 1.0 + 0.03 * len(images))


def _shape(asked: Assess, sets: Sets) -> tuple[int, int]:
    """Working size and channels: the real images' own, their smaller side, at most 64 pixels; grey when every image of every set is."""
    sides = sorted(min(sets.real.reader.read(i).shape[:2]) for i in range(min(len(sets.real), 50)))
    colour = any(in_colour(images) for images in (sets.real, sets.fakes, sets.held_out, sets.foreign) if images is not None)
    return asked.size or max(8, min(MOST_SIZE, sides[len(sides) // 2])), 3 if colour else 1


def _features(digest: str, role: str, extractor: Mapping[str, Any], weights: str, n: int) -> Job:
    inputs = {"images": digest, **({"weights": weights} if weights else {})}
    return Job(f"features/{role}", "features", VERBS["features"].version, {"extractor": dict(extractor)}, inputs, 0.5 + n * 2e-3)
