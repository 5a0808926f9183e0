"""What a comparison is asked, and its plan: families of generators, numbers of real images, replicates; every integer and rule fixed first.

The test split stays closed. Utility and robustness are measured on the hold-out, which no generator and no early stop has seen, so a pilot with
the same images and seed can still confirm what a comparison suggests (unless it has fewer than 50 test images and uses all in turn).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from mitate import registry
from mitate.errors import DataError, SettingError
from mitate.images import ImageSet
from mitate.intake.opening import Data, Source, open_data
from mitate.intake.splits import nested
from mitate.progress import clock
from mitate.runtime import seed_of
from mitate.settings import from_text, plain, suggest
from mitate.store import Store
from mitate.studies import budget, planning, utility
from mitate.studies.compare_cells import AXES, STRESS, Cell, cells_of, counted
from mitate.studies.sources import PLACE, source_of
from mitate.study import Study
from mitate.verbs import keep_extractor, keep_images

PER_CLASS = (10, 25, 50, 100)
SEEDS = 5
LEAST_INTERVAL = 3  # replicates: with fewer no interval is told
SYNTHETIC = 200  # images of each class that a generator draws
LEAST_HELD = 20  # hold-out images
CASES: Mapping[str, Mapping[str, float]] = {  # what matters to whom; `own` is the user's --weights
    "privacy": {"privacy": 0.5, "utility": 0.3, "fidelity": 0.1, "diversity": 0.1},
    "utility": {"utility": 0.7, "robustness": 0.3},
    "speed": {"efficiency": 0.7, "utility": 0.3},
}
SECONDS = {"leakage": 1.0, "losses": 2.0, "pace": 2.0, "copies": 0.3, "pick": 0.2}  # guesses of one job; _guessed adds those that grow


@dataclass(frozen=True)
class Compare:
    """What a comparison is asked: command line options and the keys of study.json's `plan` are this record."""

    data: str = ""  # a folder, file or name that mitate.open_images takes
    generators: tuple[str, ...] = ("vae", "gan", "diffusion")  # kinds, or folder:PATH
    per_class: tuple[int, ...] = PER_CLASS  # real training images of each class, increasing
    seeds: int = SEEDS  # subsets of each size: replicates
    fits: int = 1  # of each generator on each subset; 2 or more tell the fit from the subset
    trainings: int = 3  # of each classifier on each fit's images
    axes: tuple[str, ...] = AXES
    weights: Mapping[str, float] = field(default_factory=dict)  # of one's own use case, by axis
    epsilon: float = 0.0  # above 0: each family that can is also fitted with this much differential privacy
    past_the_gate: bool = False  # measure what leaks too
    options: tuple[str, ...] = ()  # KIND.name=value
    features: str = "mitate-small"
    synthetic_per_class: int = SYNTHETIC
    steps: int = 300  # optimiser steps of each classifier
    size: int = 0  # pixels of the working images; 0 for their own, at most 64
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ComparePlan:
    """A planned comparison: the study, and the stored image sets of its cells."""

    study: Study
    store: Store
    asked: Compare
    data: Data
    sets: Mapping[str, str]  # selection, holdout, empty
    subsets: Mapping[tuple[int, int], str]  # by images of each class and replicate
    blind: Mapping[tuple[int, int], str]  # the same for private fits
    weights: str = ""  # stored weights of the feature extractor

    @property
    def cells(self) -> list[Cell]:
        return cells_of(self.study)

    def cost(self) -> str:
        """What the comparison would take, in a few lines."""
        sizes, counts, found = self.study.sizes, self.study.data["images"], self.study.estimates
        shared = ", ".join(f"{100 * facts['shared']:.0f} % at {n}" for n, facts in sizes["subsets"].items() if facts["shared"] is not None)
        told = [f"{name} {clock(found[f'family:{name}'])}" for name in sizes["families"]]
        lines = [
            f"real images      {counts['holdout']} hold-out, {counts['selection']} selection, {counts['test']} test (stay closed); "
            f"{len(self.study.data['classes'])} classes, {sizes['size']} px",
            f"families         {', '.join(sizes['families'])}; {sizes['synthetic_per_class']} synthetic images a class",
            f"images a class   {', '.join(map(str, sizes['per_class']))}",
            f"replicates       {counted(sizes['seeds'], 'subset')}, {counted(sizes['fits'], 'fit')} each, {counted(sizes['trainings'], 'training')} a fit"
            + (f"; of their images two subsets share {shared}" if sizes["seeds"] > 1 else ""),
            f"axes             {', '.join(sizes['axes'])}" + ("" if "privacy" in sizes["axes"] else "; without privacy there is no gate"),
            f"cells            {len(self.cells)}",
            f"time             about {clock(found['wall'])} on {found['workers']:.0f} workers, if nothing leaks; one after another: {', '.join(told)}",
        ]
        if sizes["seeds"] < LEAST_INTERVAL:
            lines.append(f"no intervals     they need {LEAST_INTERVAL} replicates: nothing can be told apart (--seeds {SEEDS})")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ComparePlan: {self.study.data['name']!r}, {', '.join(self.study.sizes['families'])}, {len(self.cells)} cells>"


def plan_compare(asked: Compare, source: Source, *, store: Store, workers: int, existing: Study | None = None) -> ComparePlan:
    """Read and check the images, fix everything. With `existing` (a run folder's study) it is taken as it is; SettingError for another question."""
    check_asked(asked)
    data = open_data(source, per_class=max(asked.per_class), seed=asked.seed)
    if existing is not None:
        return under(existing, asked, data, store)
    return _with_sets(_new_study(asked, data, store, workers=workers), asked, data, store)


def under(existing: Study, asked: Compare, data: Data, store: Store) -> ComparePlan:
    """The plan with the integers and rules of a study that asks the same of the same images; SettingError for another question."""
    planning.check_question(existing, asked, data, kind="compare", plan=existing.plan)
    _restore(data, store, existing)
    return _with_sets(existing, asked, data, store)


def check_asked(asked: Compare) -> None:
    """SettingError for what cannot be asked, before anything is read."""
    shown = ", ".join(map(str, asked.per_class))
    if not asked.per_class or any(n < 2 for n in asked.per_class):
        raise SettingError(f"The numbers of images a class ({shown}) are out of range.", fix="give 2 or more, for instance 10,25,50,100")
    if any(b <= a for a, b in zip(asked.per_class, asked.per_class[1:], strict=False)):
        raise SettingError(f"The numbers of images a class ({shown}) do not increase.", fix="give them from small to large, for instance 10,25,50,100")
    if not asked.generators:
        raise SettingError("No generator was named.", fix="name at least one with --generators, for instance vae,diffusion")
    if twice := sorted({g for g in asked.generators if asked.generators.count(g) > 1}):
        raise SettingError(f"The generator {twice[0]!r} was named twice.", fix="name each once")
    if not asked.axes:
        raise SettingError("No axis was named.", fix=f"name some of {', '.join(AXES)}")
    for axis in (*asked.axes, *asked.weights):
        if axis not in AXES:
            raise SettingError(f"There is no axis {axis!r}.", fix=suggest(axis, AXES))
    if idle := [axis for axis in asked.weights if axis not in asked.axes]:
        raise SettingError(f"The axis {idle[0]!r} has a weight and is not measured.", fix="add it to --axes, or leave its weight out")
    if any(not 0 <= w < math.inf for w in asked.weights.values()) or (asked.weights and not sum(asked.weights.values())):
        raise SettingError("Weights are 0 or more, and one is above 0.", fix="write them like utility=0.5,privacy=0.3")
    for name, least in (("seeds", 1), ("fits", 1), ("trainings", 1), ("steps", 1), ("synthetic_per_class", 2), ("size", 0)):
        if getattr(asked, name) < least:
            raise SettingError(f"{name} is {getattr(asked, name)}.", fix=f"give {least} or more")
    if 0 < asked.size < 8 or asked.size > 256:
        raise SettingError(f"A working size of {asked.size} pixels is out of range.", fix="give 8 to 256, or 0")
    if not 0 <= asked.epsilon < math.inf:
        raise SettingError(f"epsilon is {asked.epsilon:g}.", fix="give 0.01 to 100, like 8, or leave it out")
    for option in asked.options:
        kind, dot, rest = option.partition(".")
        if not dot or "=" not in rest:
            raise SettingError(f"The option {option!r} names no setting of a generator.", fix="write it like vae.steps=400")
        if kind not in asked.generators:
            raise SettingError(f"The option {option!r} is for {kind!r}, which is not compared.", fix=suggest(kind, asked.generators))


# the study ------------------------------------------------------------------------------------------------------------


def _new_study(asked: Compare, data: Data, store: Store, *, workers: int) -> Study:
    splits, pool = data.splits, _pool(data)
    classes = splits.train.classes
    _check_data(asked, data, pool)
    size, channels = planning.shape_of(data, asked.size)
    shape = (size, size, channels)
    families, findings, notes = _families(asked, data, store, shape)
    training = utility.training_of(splits.train, shape=shape, steps=asked.steps)
    sizes: dict[str, Any] = {
        "size": size,
        "channels": channels,
        "families": families,
        "per_class": list(asked.per_class),
        "seeds": asked.seeds,
        "fits": asked.fits,
        "trainings": asked.trainings,
        "axes": [axis for axis in AXES if axis in asked.axes],
        "synthetic_per_class": asked.synthetic_per_class,
        "training": training,
        "extractor": keep_extractor(store, asked.features)[0],
        "past_the_gate": asked.past_the_gate,
        "cases": {**{case: dict(weights) for case, weights in CASES.items()}, **({"own": dict(asked.weights)} if asked.weights else {})},
        "subsets": _told_subsets(asked, pool),
    }
    facts = planning.data_facts(data, splits.holdout, findings)
    facts["findings"] += [{"kind": "no epsilon", "severity": "warning", "message": line} for line in notes]
    study = Study("compare", plain(asked), facts, sizes, _rules(asked), {})
    estimates = _estimates(study, store, n_classes=len(classes), workers=max(1, workers))
    return Study(study.kind, study.plan, study.data, study.sizes, study.gates, study.detectable, estimates)


def _check_data(asked: Compare, data: Data, pool: ImageSet) -> None:
    splits = data.splits
    nested(pool, max(asked.per_class), seed=asked.seed)  # says which class has too few
    if len(splits.holdout) < LEAST_HELD:
        raise DataError(f"The hold-out has {len(splits.holdout)} images.", fix=f"give more images, so that {LEAST_HELD} or more can be held out")
    if wants := {"utility", "robustness"} & set(asked.axes):
        if why := utility.why_not(pool, pool, splits.holdout):
            raise DataError(f"{' and '.join(sorted(wants))} cannot be measured: {why}.", fix="change the images, or leave these axes out with --axes")
    parts = {"the training images": pool, "the selection split": splits.selection, "the hold-out": splits.holdout, "the test images": splits.test}
    for (a, one), (b, two) in combinations(parts.items(), 2):
        if both := {g for g in one.groups or () if g} & set(two.groups or ()):
            said = "1 group is" if len(both) == 1 else f"{len(both)} groups are"
            raise DataError(f"{said} both in {a} and in {b}, such as {min(both)}.", fix="keep all images of a group in one split")


def _pool(data: Data) -> ImageSet:
    """The images that subsets are drawn from: all that are in no other split."""
    splits = data.splits
    taken = {*splits.selection.names, *splits.holdout.names, *splits.test.names}
    return data.train_side.subset([i for i, name in enumerate(data.train_side.names) if name not in taken], split="train")


def _families(asked: Compare, data: Data, store: Store, shape: tuple[int, int, int]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Facts of each family by its name, outside images that were left out, and families without a private fit."""
    found: dict[str, Any] = {}
    findings: list[str] = []
    notes: list[str] = []
    private: dict[str, Any] = {}
    for name in asked.generators:
        if name in registry.names("generator") and name not in registry.ON_TOP:
            found[name] = {"kind": name, "epsilon": 0.0, "options": _options(asked, name, data, shape, epsilon=0.0)}
            if asked.epsilon and hasattr(registry.find("generator", name), "private_for"):
                options = _options(asked, name, data, shape, epsilon=asked.epsilon)
                private[f"{name} epsilon={asked.epsilon:g}"] = {"kind": name, "epsilon": asked.epsilon, "options": options}
            elif asked.epsilon:
                notes.append(f"{name} has no private fit, so it has no row with epsilon")
            continue
        if not name.startswith(PLACE) and name != PLACE.rstrip(":"):
            known = [*(kind for kind in registry.names("generator") if kind not in registry.ON_TOP), f"{PLACE}PATH"]
            fix = "name its kind, which is fitted anew on every subset" if name in store.refs() else suggest(name, known)
            raise SettingError(f"{name!r} is no family of generators.", fix=fix)
        splits = data.splits
        source = source_of(name, train=_pool(data), shape=shape, test=splits.test, held=[splits.selection, splits.holdout], store=store)
        if source.facts["least"] < asked.synthetic_per_class:
            least = source.facts["least"]
            raise SettingError(
                f"{name} holds {least} images of its rarest class; {asked.synthetic_per_class} were asked for.", fix=f"give --synthetic {least}, or more images"
            )
        found[name] = {**source.facts, "epsilon": 0.0}
        findings += [source.finding] if source.finding else []
    if asked.epsilon and not private:
        raise SettingError("None of the generators has a private fit.", fix="add vae or diffusion to --generators, or leave --epsilon out")
    return {**found, **private}, findings, notes


def _options(asked: Compare, name: str, data: Data, shape: tuple[int, int, int], *, epsilon: float) -> dict[str, Any]:
    """The settings of a family at each number of images: its preset, with what the user changed."""
    from mitate.fitted import options_of

    kind = registry.find("generator", name)
    mine = [option.partition(".")[2] for option in asked.options if option.partition(".")[0] == name]
    changed = {option.partition("=")[0] for option in mine}
    if "epsilon" in changed:
        raise SettingError("epsilon is no option of a family here.", fix=f"give --epsilon {epsilon or 8:g}: it adds a row to every family that can")
    found = {}
    for n in asked.per_class:
        preset = plain(options_of(kind, shape, n * len(data.splits.train.classes), epsilon=epsilon))
        words = [f"{key}={value}" for key, value in preset.items() if key not in changed]
        found[str(n)] = plain(from_text(kind, [*words, *mine], where=f"generator {name}"))
    return found


def _told_subsets(asked: Compare, pool: ImageSet) -> dict[str, Any]:
    """By number of images a class: how many images the subsets hold on average, and how much two of them share."""
    found = {}
    for n in asked.per_class:
        drawn = [set(_subset(pool, n, r, seed=asked.seed).names) for r in range(asked.seeds)]
        pairs = [len(a & b) / min(len(a), len(b)) for i, a in enumerate(drawn) for b in drawn[:i]]
        found[str(n)] = {"images": sum(map(len, drawn)) / len(drawn), "shared": sum(pairs) / len(pairs) if pairs else None}
    return found


def _subset(pool: ImageSet, n: int, replicate: int, *, seed: int) -> ImageSet:
    return nested(pool, n, seed=seed_of("subset", seed, replicate))


def _rules(asked: Compare) -> tuple[dict[str, Any], ...]:
    """The rules, written down before the run."""
    rules: list[tuple[str, str, str]] = []
    if "privacy" in asked.axes:
        rules.append((
            "leaks", "gate",
            "a family leaks at a number of images where the attack beats chance in one of its cells, p times the number of its cells at most 0.025; "
            + ("it is measured all the same and marked" if asked.past_the_gate else "all its cells there stop at the gate"),
        ))  # fmt: skip
    rules += [
        (
            "told_apart",
            "measure",
            "two families differ on an axis where the 95 % interval of their paired differences lies on one side of 0; on privacy only where the 95 % "
            "interval over replicates of the attack on the worse one lies above chance too",
        ),
        ("dominated", "measure", "a family is dominated where another one is better, by that interval, on every axis that either was measured on"),
        ("hurts", "measure", "synthetic images hurt where the 95 % interval of the gain lies below 0"),
        (
            "advice",
            "measure",
            "families are ordered by weight times the share of the others they surely beat less the share that surely beats them; what hurts is never "
            "advised, where utility comes first only what surely gains is, and where privacy matters neither is what leaks, was not attacked, or whose "
            "attack's 95 % interval over replicates lies above chance; nor is a family that one of those left dominates",
        ),
    ]
    # report/words.*.json keeps the words of every code that a study was ever written with: who changes a rule gives it a new one
    codes = {"told_apart": "told_apart_above_chance", "advice": "advice_front", "leaks": "leaks_past" if asked.past_the_gate else "leaks"}
    return tuple({"name": name, "rule_code": codes.get(name, name), "stage": stage, "threshold": None, "rule": rule} for name, stage, rule in rules)


# stored sets ----------------------------------------------------------------------------------------------------------


def _with_sets(study: Study, asked: Compare, data: Data, store: Store) -> ComparePlan:
    sizes, pool, splits = study.sizes, _pool(data), data.splits
    shape = {"size": sizes["size"], "channels": sizes["channels"]}
    private = any(facts["epsilon"] for facts in sizes["families"].values())
    subsets, blind = {}, {}
    for n in sizes["per_class"]:
        for r in range(sizes["seeds"]):
            drawn = _subset(pool, n, r, seed=study.plan["seed"])
            subsets[n, r] = keep_images(store, drawn, **shape)
            if private:
                blind[n, r] = keep_images(store, drawn, **shape, blind=store.blind(drawn.digest))
    sets = {"selection": splits.selection, "holdout": splits.holdout, "empty": pool.subset([])}
    kept = {role: keep_images(store, images, **shape) for role, images in sets.items()}
    weights = keep_extractor(store, asked.features)[1]
    return ComparePlan(study, store, asked, data, kept, subsets, blind, weights)


def _restore(data: Data, store: Store, existing: Study) -> None:
    """Put outside images back into a store that has forgotten them."""
    shape = (existing.sizes["size"], existing.sizes["size"], existing.sizes["channels"])
    for name, facts in existing.sizes["families"].items():
        if facts["kind"] == "folder" and store.get(facts["images"]) is None:
            splits = data.splits
            found = source_of(name, train=_pool(data), shape=shape, test=splits.test, held=[splits.selection, splits.holdout], store=store)
            if found.facts["images"] != facts["images"]:
                raise SettingError(f"The images of {name} changed since this run was started.", fix="choose another folder with --out, or put the images back")


# what it takes --------------------------------------------------------------------------------------------------------


def _estimates(study: Study, store: Store, *, n_classes: int, workers: int) -> dict[str, float]:
    """Seconds of one worker for one job of each verb (`fit:vae:10`), for all of a family (`family:vae`), `total`, and `wall` from start to end."""
    sizes = study.sizes
    shape = (sizes["size"], sizes["size"], sizes["channels"])
    most = str(sizes["per_class"][-1])
    probed = {name: {"kind": f["kind"], "options": f["options"][most]} for name, f in sizes["families"].items() if f["kind"] != "folder"}
    backbone = {**utility.BACKBONE, "weights": ""}
    speeds, _ = planning.probe_speeds(probed, backbone, sizes["training"], store, shape=shape, n_classes=n_classes)
    train = sizes["training"]["steps"] * speeds.step + 0.1
    predict = budget.testing(speeds, study.data["images"]["holdout"], batch=sizes["training"]["batch"])
    guessed = _guessed(study, n_classes)
    found = {"train": train, "predict": predict, **guessed}
    axes, cells = set(sizes["axes"]), sizes["seeds"] * sizes["fits"]
    trainings = (2 * sizes["trainings"] + 1 if "utility" in axes else 2) if axes & {"utility", "robustness"} else 0
    each = guessed["features"] + (guessed["likeness"] if axes & {"fidelity", "diversity"} else 0) + (guessed["stress"] if "robustness" in axes else 0)
    each += (guessed["leakage"] if "privacy" in axes else 0) + (trainings - sizes["trainings"]) * (train + predict)
    for name, facts in sizes["families"].items():
        whole = 0.0
        for n in sizes["per_class"]:
            fitted = drawn = 0.2
            own = 0.0
            if facts["kind"] != "folder":
                step, image = speeds.generators[name]
                fitted, drawn = facts["options"][str(n)].get("steps", 1) * step, sizes["synthetic_per_class"] * n_classes * image + 0.1
                own = (2 * guessed["losses"] if "privacy" in axes else 0) + (guessed["pace"] if "efficiency" in axes else 0)
            found[f"fit:{name}:{n}"], found[f"sample:{name}:{n}"] = fitted, drawn
            whole += cells * (fitted + drawn + each + own)
        found[f"family:{name}"] = whole
    real = cells * len(sizes["per_class"]) * (sizes["trainings"] * (train + predict) if trainings else 0)
    real += cells * len(sizes["per_class"]) * guessed["stress"] if "robustness" in axes else 0
    found["total"] = real + sum(found[f"family:{name}"] for name in sizes["families"])
    return {**found, "workers": float(workers), "wall": found["total"] / workers * budget.HEADROOM + budget.STARTUP}


def _guessed(study: Study, n_classes: int) -> dict[str, float]:
    """Seconds of jobs that are not probed, from one core at 28 px and 1,000 images."""
    sizes, counts = study.sizes, study.data["images"]
    pixels, tried = (sizes["size"] / 28) ** 2, min(STRESS["most"], counts["holdout"]) / STRESS["most"]
    drawn = sizes["synthetic_per_class"] * n_classes
    return {
        **SECONDS, "features": 0.3 + 1.5e-3 * drawn, "stress": 1.0 + 15.0 * tried * (0.3 + 0.7 * pixels),
        "likeness": 1.0 + 8e-3 * min(drawn, counts["selection"]),
    }  # fmt: skip
