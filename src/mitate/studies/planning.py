"""Planning a pilot: read and check the images, probe the speed, fix every integer. Nothing is trained but a few steps for the probe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mitate import recipe as recipes
from mitate import registry
from mitate.errors import DataError, SettingError
from mitate.files import file_digest
from mitate.images import ImageSet
from mitate.intake.opening import Data, Source, open_data
from mitate.intake.splits import Splits, folds
from mitate.metrics import measures
from mitate.progress import clock
from mitate.runtime import MITATE_SMALL, seed_of
from mitate.settings import canonical, plain, record, seconds, suggest
from mitate.store import Store
from mitate.stored import try_classifier
from mitate.studies import budget, gates
from mitate.studies.arms import Cell, overlap_of
from mitate.studies.meeting import money_text
from mitate.studies.sources import Source as GeneratorSource
from mitate.studies.sources import source_of
from mitate.studies.spending import Prices
from mitate.study import Study
from mitate.verbs import keep_file, keep_images

MOST_SYNTHETIC = 200  # images a class, unless asked for more
TIMES_REAL = 5  # synthetic images for each real one, unless asked for more
MOST_SIZE = 64  # pixels, unless asked for more
SHIPPED = {"mitate-small": MITATE_SMALL}  # backbones that come with the package
CURVE_SAID = {"none": "not measured", "real": "of the baseline", "full": "of the baseline and the candidate"}
KIND_SAID = {"pilot": "pilot", "volume": "volume study", "compare": "comparison"}
CURVES = ("auto", "none", "real", "full")
STEPS = 300  # optimiser steps of an arm, unless the budget is short


@dataclass(frozen=True)
class Pilot:
    """What a pilot is asked: the TOML plan, the command line options and the keys of study.json's `plan` are this record."""

    data: str = ""  # a folder, file or name that mitate.open_images takes
    per_class: int = 0  # real training images of each class; 0 for all there are
    generators: tuple[str, ...] = ("vae", "diffusion")  # kinds, folder:PATH, or kept names
    arms: tuple[str, ...] = recipes.DEFAULT_ARMS
    measure: str = "accuracy"  # accuracy, balanced, macro-f1, recall:CLASS, or a CSV of costs
    worthwhile: float = 0.01  # smallest gain worth having, in the measure's unit
    backbone: str = "small"  # small, mitate-small, mobilenet_v2:FILE, resnet_cifar:FILE, timm:NAME; +frozen trains the head alone
    budget: str = "10m"
    size: int = 0  # pixels of the working images; 0 for their own, at most 64
    synthetic_per_class: int = 0  # 0 for five for each real image, at most 200
    replicates: int = 0  # at full; 0 for what the budget allows
    steps: int = STEPS  # optimiser steps of an arm; fewer where the budget is short
    curve: str = "auto"  # learning curve: none, real (of the baseline), full (of the candidate too), auto for what the budget allows
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Plan:
    """A planned pilot: its study, the stored image sets of every cell, and the test split's groups."""

    study: Study
    cells: list[Cell]
    store: Store
    test: ImageSet  # the test split, or with cross-fitting every image
    asked: Pilot
    data: Data
    prices: Prices = Prices()  # no part of the question: the same study with other prices is the same look

    def under(self, existing: Study) -> Plan:
        """This plan with the integers of a study that asks the same of the same images; SettingError for another question."""
        return replace(_plan(self.asked, self.data, self.store, existing), prices=self.prices)

    def cost(self) -> str:
        """What the pilot would take and what it could show, in a few lines."""
        sizes, found = self.study.sizes, self.study.detectable
        gain, least = said_gain(found["gain"], self.study), said_gain(self.study.plan["worthwhile"], self.study)
        generators = ", ".join(sizes["generators"])
        lines = [
            f"real images      {self._images(sizes, found['test_images'])}; {len(self.study.data['classes'])} classes, {sizes['size']} px",
            f"generators       {generators}; {sizes['synthetic_per_class']} images a class",
            f"arms             {len(sizes['arms'])} recipes, {sizes['training']['steps']} steps each; {sizes['small']} + {sum(sizes['full'])} replicates",
            f"learning curve   {CURVE_SAID[sizes['curve']]}",
            f"time             about {clock(self.study.estimates['wall'])} on {self.study.estimates['workers']:.0f} workers",
            *self._money(),
            *self._look(),
            f"can detect       a gain {gain} above the worthwhile {least}, with 80 % power",
        ]
        lines += [f"  smaller with   {o['to']} {o['change'].replace('_', ' ')}: {said_gain(o['gain'], self.study)}" for o in found["smaller_by"]]
        return "\n".join(lines)

    def _look(self) -> list[str]:
        """Which look at the test images it would be, where it is not the first."""
        try:
            look = gates.look_number(self.store, study=self.study.digest, images=tuple(d[:16] for d in self.test.digests))
        except DataError:
            return ["look             none is left at these test images, but for a run that has begun: collect new ones"]
        share = gates.CONFIDENCE[look - 1]
        return [f"look             {look} of {len(gates.CONFIDENCE)} at these test images: the interval is {share:.1%}"] if look > 1 else []

    def _money(self) -> list[str]:
        """What the machine time would cost, where a price is known."""
        if self.prices.machine_price is None:
            return []
        return [f"money            about {money_text(self.study.estimates['total'] / 3600 * self.prices.machine_price, self.prices.currency)} of machine time"]

    def _images(self, sizes: Mapping[str, Any], tested: int) -> str:
        counts = self.study.data["images"]
        parts = f"{counts['train']} train, {counts['selection']} selection, {counts['holdout']} hold-out"
        if sizes["cross_fit"]:
            return f"{tested}, each tested once a replicate ({sizes['folds']} folds of about {parts})"
        return f"{parts}, {tested} test"

    def __repr__(self) -> str:
        return f"<Plan: pilot of {self.study.data['name']!r}, {len(self.study.sizes['arms'])} recipes, about {clock(self.study.estimates['wall'])}>"


# planning -------------------------------------------------------------------------------------------------------------


def plan_pilot(asked: Pilot, source: Source, *, store: Store, workers: int, existing: Study | None = None) -> Plan:
    """Read and check the images, fix every integer. With `existing` (a run folder's study) its integers are taken, not derived."""
    check_pilot(asked)
    data = open_data(source, per_class=asked.per_class or None, seed=asked.seed)
    if existing is not None:
        return _plan(asked, data, store, existing)
    size, channels = shape_of(data, asked.size)
    return _build(asked, data, store, _new_study(asked, data, store, size=size, channels=channels, workers=workers))


def _plan(asked: Pilot, data: Data, store: Store, existing: Study) -> Plan:
    plan = {k: v for k, v in asked_of(existing).items() if k != "continued_with"}
    check_question(existing, asked, data, kind="pilot", plan=plan)
    restore(asked, data, store, existing)
    return _build(asked, data, store, existing)


def restore(asked: Pilot, data: Data, store: Store, existing: Study) -> None:
    """Put outside images and weights back into a store that has forgotten them (mitate clean)."""
    lost = [name for name, facts in existing.sizes["generators"].items() if facts["kind"] == "folder" and store.get(facts["images"]) is None]
    for name in lost:
        shape = (existing.sizes["size"], existing.sizes["size"], existing.sizes["channels"])
        found = source_for(name, data, store, shape)
        if found.facts["images"] != existing.sizes["generators"][name]["images"]:
            raise SettingError(f"The images of {name} changed since this run was started.", fix="choose another folder with --out, or put the images back")
    weights = existing.sizes["backbone"]["weights"]
    if weights and store.get(weights) is None and backbone_of(asked.backbone, store)["weights"] != weights:
        raise SettingError("The weights file changed since this run was started.", fix="choose another folder with --out, or put the file back")


def source_for(name: str, data: Data, store: Store, shape: tuple[int, int, int]) -> GeneratorSource:
    splits = data.splits
    test, held = (data.train_side, []) if splits.cross_fit else (splits.test, [splits.selection, splits.holdout])
    return source_of(name, train=splits.train, shape=shape, test=test, held=held, store=store)


def _build(asked: Pilot, data: Data, store: Store, study: Study) -> Plan:
    cells, rows = cells_of(study, data, store)
    if rows and study.data.get("test_rows") != rows:
        study = Study(study.kind, study.plan, {**study.data, "test_rows": rows}, study.sizes, study.gates, study.detectable, study.estimates)
    return Plan(study, cells, store, data.train_side if study.sizes["cross_fit"] else data.splits.test, asked, data)


def check_pilot(asked: Pilot) -> None:
    for arm in asked.arms:
        recipes.parse(arm)
    if not asked.generators:
        raise SettingError("No generator was named.", fix="name at least one with --generators, for instance vae")
    if not any(recipes.parse(a).uses_synthetic for a in asked.arms):
        raise SettingError("None of the arms uses synthetic images.", fix="add one, for instance balanced+augment")
    for name, least in (("per_class", 0), ("size", 0), ("synthetic_per_class", 0), ("replicates", 0), ("steps", 1), ("worthwhile", 0)):
        if not least <= getattr(asked, name) < math.inf:
            raise SettingError(f"{name} is {getattr(asked, name)}.", fix=f"give {least} or more")
    if asked.curve not in CURVES:
        raise SettingError(f"There is no curve {asked.curve!r}.", fix=suggest(asked.curve, CURVES))
    if asked.replicates in (1, 2):
        raise SettingError(f"{asked.replicates} replicates cannot show how far replicates differ.", fix="give 3 or more, or 0 for what the budget allows")
    if 0 < asked.size < 8 or asked.size > 256:
        raise SettingError(f"A working size of {asked.size} pixels is out of range.", fix="give 8 to 256, or 0")


def asked_of(study: Study) -> dict[str, Any]:
    """The `plan` of a study; one made before there were learning curves has none."""
    return {"curve": "none", **study.plan}


def check_question(existing: Study, asked: Any, data: Data, *, kind: str, plan: Mapping[str, Any]) -> None:
    """SettingError where a run folder's study is of another kind, was asked something else, or has other images.

    asked: the record of what is asked now. plan: what `existing` was asked, in the same keys.
    """
    if existing.kind != kind:
        held = KIND_SAID.get(existing.kind, existing.kind)
        raise SettingError(f"The run folder holds a {held}, not a {KIND_SAID[kind]}.", fix="choose another folder with --out")
    if canonical(plan) != canonical(asked):
        changed = sorted(k for k, v in plain(asked).items() if canonical(plan.get(k)) != canonical(v))
        raise SettingError(
            f"The run folder holds another {KIND_SAID[kind]} (it differs in {', '.join(changed)}).",
            fix="choose another folder with --out, or give the command that made it",
        )
    if existing.data["digests"] != digests_of(data):
        raise SettingError("The images changed since this run was started.", fix="choose another folder with --out, or put the images back")


def _new_study(asked: Pilot, data: Data, store: Store, *, size: int, channels: int, workers: int) -> Study:
    splits = data.splits
    classes = splits.train.classes
    measure = measures.parse(asked.measure, classes)
    everything = data.train_side if splits.cross_fit else splits.test
    measure.check(everything.y)
    check_sides(splits, everything)
    least = min(splits.train.counts().values())
    images = asked.synthetic_per_class or max(10, min(MOST_SYNTHETIC, TIMES_REAL * least))
    sources = {name: source_for(name, data, store, (size, size, channels)) for name in asked.generators}
    generators = {name: source.facts for name, source in sources.items()}
    for facts in generators.values():
        if facts["kind"] == "folder":
            images = min(images, facts["least"]) if not asked.synthetic_per_class else images
    backbone = backbone_of(asked.backbone, store)
    training = training_of(asked, data, size=size, channels=channels, pretrained=backbone["name"] != "small")
    arms = tuple(dict.fromkeys([recipes.BASELINE, *(recipes.parse(a).name for a in asked.arms)]))
    arms = recipes.DEFAULT_ARMS if set(arms) == set(recipes.DEFAULT_ARMS) else arms
    asked_arms = arms
    arms = recipes.of_frozen(arms) if backbone["frozen"] else arms
    n_folds = splits.n_folds if splits.cross_fit else 1
    per_class = asked.per_class or None
    overlap = overlap_of(folds(data.train_side, 0, n_folds=n_folds, seed=asked.seed, per_class=per_class)) if splits.cross_fit else 0.0
    small = 0 if splits.cross_fit else budget.SMALL
    speeds, steps = probe_speeds(generators, backbone, training, store, shape=(size, size, channels), n_classes=len(classes))
    chosen, long_steps, estimates = budget.choose(
        arms, speeds, budget=seconds(asked.budget), steps=asked.steps, replicates=asked.replicates, generator_steps=steps,
        images=images * len(classes), small=max(1, small), folds=n_folds, workers=max(1, workers), curve=asked.curve, real=len(splits.train),
        tested=budget.testing(speeds, len(everything) / n_folds, batch=training["batch"]),
    )  # fmt: skip
    for name, facts in generators.items():
        if "steps" in facts["options"]:
            facts["options"] = {**facts["options"], "steps": budget.share_of(steps[name], chosen)}
    return Study(
        kind="pilot",
        plan=plain(asked),
        data=data_facts(data, everything, [s.finding for s in sources.values() if s.finding]),
        sizes={
            "size": size,
            "channels": channels,
            "arms": list(chosen.arms),
            "left_out": [a for a in asked_arms if a not in chosen.arms],
            "training": {**training, "steps": chosen.steps},
            "long_steps": long_steps if any(recipes.parse(a).compute_matched for a in chosen.arms) else chosen.steps,
            "generators": generators,
            "synthetic_per_class": images,
            "small": small,
            "full": [chosen.full],
            "curve": chosen.curve,
            "folds": n_folds,
            "overlap": overlap,
            "cross_fit": splits.cross_fit,
            "candidate": _fixed_candidate(chosen.arms),
            "backbone": backbone,
            "measure": measures.freeze(measure),
        },  # fmt: skip
        gates=_gates(asked, cross_fit=splits.cross_fit),
        detectable=detectable_gain(measure, everything, replicates=chosen.full, overlap=overlap),
        estimates={**estimates, "workers": float(max(1, workers))},
    )


def data_facts(data: Data, everything: ImageSet, held_back: Sequence[str]) -> dict[str, Any]:
    """What study.json says of the images. everything: the images the verdict rests on; held_back: lines about outside images left out."""
    splits = data.splits
    return {
        "name": data.name,
        "classes": list(splits.train.classes),
        "digests": digests_of(data),
        "image_digests": {s: list(getattr(splits, s).digests) for s in ("train", "selection", "holdout", "test")},
        "images": {s: len(getattr(splits, s)) for s in ("train", "selection", "holdout", "test")},
        "per_class": splits.train.counts(),
        "labels": [int(k) for k in everything.labels] if splits.cross_fit else None,
        "groups": len(set(everything.groups)) if everything.groups else None,
        "licences": sorted(set(everything.licences or ())),
        "consents": sorted(set(everything.consents or ())),
        "findings": [{"kind": f.kind, "severity": f.severity, "message": f.message} for f in data.findings]
        + [{"kind": "held back", "severity": "drop", "message": line} for line in held_back],
    }


def check_sides(splits: Splits, tested: ImageSet) -> None:
    """DataError where the selection split lacks a class, or the test images are all of one group: seen now, not after the run."""
    if missing := [c for c, n in splits.selection.counts().items() if n == 0]:
        raise DataError(f"The selection split has no image of {', '.join(missing[:5])}.", fix="add some, or leave out your own selection folder")
    if tested.groups is not None and len({g or f"alone {i}" for i, g in enumerate(tested.groups)}) < 2:
        raise DataError("All test images are of one group.", fix="test on images of at least two groups (patients, plants, photographs)")


def _gates(asked: Pilot, *, cross_fit: bool) -> tuple[dict[str, Any], ...]:
    """The rules, written down before the run."""
    rules: list[dict[str, Any]] = [
        {
            "name": "copies",
            "stage": "look",
            "threshold": gates.COPIES_MARGIN,
            "rule": "drop a generator whose share of copies is surely more than this above the hold-out's",
        }
    ]
    if not cross_fit:
        rules += [
            {"name": "labels", "stage": "look", "threshold": None, "rule": "drop a generator from whose images alone a model learns no better than chance"},
            {
                "name": "reach",
                "stage": "small",
                "threshold": asked.worthwhile,
                "rule": "drop an arm whose gain on the selection split surely stays below this; stop when none is left",
            },
        ]
    rules.append(
        {
            "name": "verdict",
            "stage": "full",
            "threshold": asked.worthwhile,
            "rule": "go: the candidate's interval on the test split lies above this; stop: below it; else more evidence",
        }
    )
    return tuple(rules)


def detectable_gain(measure: measures.Measure, test: ImageSet, *, replicates: int, overlap: float) -> dict[str, Any]:
    """The smallest detectable gain from planning values. A recall counts its own class alone; costs scale with their own mean."""
    n = measure.counted(test.y)
    unit = 1.0
    if measure.costs is not None:
        wrong = [v for i, row in enumerate(measure.costs) for j, v in enumerate(row) if i != j]
        unit = abs(sum(wrong) / len(wrong)) or 1.0
    spread = {
        "row_sd": gates.PLAN_ROW_SD * unit, "image_variance": gates.PLAN_IMAGE_VARIANCE * unit**2, "confidence": gates.CONFIDENCE[0], "overlap": overlap,
    }  # fmt: skip
    gain = gates.detectable(test_images=n, replicates=replicates, **spread)
    return {"gain": gain, "test_images": n, "replicates": replicates, "smaller_by": gates.smaller_by(test_images=n, replicates=replicates, **spread)}


def _fixed_candidate(arms: Sequence[str]) -> str:
    """The arm that is the candidate where none can be chosen: balanced batches where that is one of the arms."""
    synthetic = [a for a in arms if recipes.parse(a).uses_synthetic]
    return "balanced+augment" if "balanced+augment" in synthetic else synthetic[0]


def shape_of(data: Data, size: int) -> tuple[int, int]:
    """Working size and channels: the images' own, their smaller side, at most 64 pixels; grey when every image is."""
    images = data.splits.train
    shapes = {images.reader.read(i).shape for i in range(min(len(images), 200))}
    channels = 3 if any(s[2] == 3 for s in shapes) else 1
    sides = sorted(min(s[:2]) for s in shapes)
    return size or max(8, min(MOST_SIZE, sides[len(sides) // 2])), channels


def digests_of(data: Data) -> dict[str, str]:
    parts = {s: getattr(data.splits, s).digest for s in ("train", "selection", "holdout", "test")}
    return {**parts, "train_side": data.train_side.digest}


def backbone_of(text: str, store: Store) -> dict[str, Any]:
    """`small`, `mitate-small+frozen`, `mobilenet_v2:FILE.safetensors`, `timm:resnet18`: name, variant, frozen, and the stored weights."""
    text, _, dial = text.partition("+")
    if dial not in ("", "frozen"):
        raise SettingError(f"The backbone has no dial {dial!r}.", fix="write +frozen, or nothing")
    name, _, rest = text.partition(":")
    if name not in registry.names("backbone"):
        raise SettingError(f"There is no backbone {name!r}.", fix=suggest(name, registry.names("backbone")))
    variant = ""
    if name == "timm":
        variant, _, rest = rest.partition(":")
    path = Path(rest).expanduser() if rest else SHIPPED.get(name)
    if path is not None and not path.is_file():
        raise SettingError(f"There is no weights file {rest or str(path)!r}.", fix="check the path" if rest else "install mitate again")
    facts = {"name": name, "variant": variant, "frozen": dial == "frozen"}
    try_classifier(facts, path)
    return {**facts, "weights": keep_file(store, path, digest=file_digest(path)) if path is not None else ""}


def training_of(asked: Pilot, data: Data, *, size: int, channels: int, pretrained: bool) -> dict[str, Any]:
    from mitate.training.augmentation import flips_are_safe
    from mitate.training.loop import Training

    train = data.splits.train
    flip = flips_are_safe(train.pixels(size=min(size, 32), channels=channels), train.y)
    return plain(Training(steps=asked.steps, flip=flip))


def probe_speeds(
    generators: Mapping[str, Mapping[str, Any]],
    backbone: Mapping[str, Any],
    training: Mapping[str, Any],
    store: Store,
    *,
    shape: tuple[int, int, int],
    n_classes: int,
) -> tuple[budget.Speeds, dict[str, int]]:
    from mitate.stored import kind_of
    from mitate.training.loop import Training

    kinds = {n: kind_of(f["kind"], f["options"]) for n, f in generators.items() if f["kind"] not in ("folder", "kept")}
    weights = store.get(backbone["weights"]) if backbone["weights"] else None
    bases = {name: (entry.folder, f["shots"]) for name, f in generators.items() if "base" in f and (entry := store.get(f["base"])) is not None}
    settings = record(Training, training, where="training")
    speeds = budget.probe(shape, n_classes, backbone=backbone, weights=weights, training=settings, kinds=kinds, bases=bases)
    return speeds, {name: int(getattr(kind, "steps", 1)) for name, kind in kinds.items()}


def cells_of(study: Study, data: Data, store: Store) -> tuple[list[Cell], dict[str, list[int]]]:
    """The stored image sets of every replicate (and fold), and with folds which images each tests."""
    sizes, seed = study.sizes, study.plan["seed"]
    total = max(1, sizes["small"]) * (not sizes["cross_fit"]) + sum(sizes["full"])

    def keep(images: ImageSet) -> str:
        return keep_images(store, images, size=sizes["size"], channels=sizes["channels"])

    if sizes["cross_fit"]:
        cells, rows = [], {}
        place = {name: i for i, name in enumerate(data.train_side.names)}
        for r in range(total):
            for f, part in enumerate(folds(data.train_side, r, n_folds=sizes["folds"], seed=seed, per_class=study.plan["per_class"] or None)):
                cells.append(Cell(r, f, keep(part.train), keep(part.selection), keep(part.holdout), keep(part.test)))
                rows[f"{r}/{f}"] = [place[name] for name in part.test.names]
        return cells, rows
    splits = data.splits
    selection, holdout, test = keep(splits.selection), keep(splits.holdout), keep(splits.test)
    if not study.plan["per_class"]:
        train = keep(splits.train)
        return [Cell(r, 0, train, selection, holdout, test) for r in range(total)], {}
    taken = {*splits.selection.names, *splits.holdout.names, *splits.test.names}
    pool = data.train_side.subset([i for i, name in enumerate(data.train_side.names) if name not in taken])
    draws = [pool.few(study.plan["per_class"], seed=seed_of("subset", seed, r)) for r in range(total)]
    return [Cell(r, 0, keep(draw), selection, holdout, test) for r, draw in enumerate(draws)], {}


def said_gain(value: float, study: Study) -> str:
    return f"{value:.3g}" if study.sizes["measure"]["costs"] else f"{value * 100:.3g} points"
