"""Planning a volume study: read and check the images, probe the speed, fix every integer. Shares its parts with the pilot's planning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mitate import recipe as recipes
from mitate.errors import SettingError
from mitate.images import ImageSet
from mitate.intake.opening import Data, Source, open_data
from mitate.intake.splits import folds
from mitate.metrics import curves, measures
from mitate.progress import clock
from mitate.settings import plain, seconds
from mitate.store import Store
from mitate.studies import budget, gates, planning
from mitate.studies.arms import Cell, overlap_of
from mitate.studies.planning import STEPS, Pilot
from mitate.studies.spending import Prices
from mitate.study import Study

VOLUMES = (0, 50, 100, 200, 500)  # images of each class
MOST_VOLUME = 100_000


@dataclass(frozen=True)
class Volume:
    """What a volume study is asked: command line options and the keys of study.json's `plan` are this record."""

    data: str = ""  # a folder, file or name that mitate.open_images takes
    per_class: int = 0  # real training images of each class; 0 for all there are
    generators: tuple[str, ...] = ("diffusion",)  # kinds, folder:PATH, or kept names
    volumes: tuple[int, ...] = VOLUMES  # synthetic images of each class, increasing; 0 is the baseline and always measured
    arm: str = "balanced+augment"
    measure: str = "accuracy"  # accuracy, balanced, macro-f1, recall:CLASS, or a CSV of costs
    worthwhile: float = 0.01  # smallest gain of the last step worth having, in the measure's unit
    backbone: str = "small"
    budget: str = "10m"
    size: int = 0  # pixels of the working images; 0 for their own, at most 64
    replicates: int = 0  # 0 for what the budget allows
    steps: int = STEPS  # optimiser steps at every volume; fewer where the budget is short
    seed: int = 0


@dataclass(frozen=True, eq=False)
class VolumePlan:
    """A planned volume study: the study, the stored image sets of every cell, and the test images."""

    study: Study
    cells: list[Cell]
    store: Store
    test: ImageSet  # the test split, or with cross-fitting every image
    asked: Volume
    data: Data
    prices: Prices = Prices()  # no part of the question: the same study with other prices is the same look

    def under(self, existing: Study) -> VolumePlan:
        """This plan with the integers of a study that asks the same of the same images; SettingError for another question."""
        return replace(_again(self.asked, self.data, self.store, existing), prices=self.prices)

    def cost(self) -> str:
        """What the study would take and what it could show, in a few lines."""
        sizes, found = self.study.sizes, self.study.detectable
        counts, classes = self.study.data["images"], len(self.study.data["classes"])
        least = planning.said_gain(self.study.plan["worthwhile"], self.study)
        tested = f"{found['test_images']}, each tested once a replicate" if sizes["cross_fit"] else f"{counts['train']} train, {found['test_images']} test"
        lines = [
            f"real images      {tested}; {classes} classes, {sizes['size']} px",
            f"generators       {', '.join(sizes['generators'])}",
            f"volumes          {', '.join(map(str, sizes['volumes']))} synthetic images a class, arm {sizes['arm']}, {sizes['training']['steps']} steps each",
            f"replicates       {sizes['full'][0]}",
            f"time             about {clock(self.study.estimates['wall'])} on {self.study.estimates['workers']:.0f} workers",
            f"can detect       a last step that gains {planning.said_gain(found['gain'], self.study)}, with 80 % power; worthwhile is {least}",
        ]
        if len([v for v in sizes["volumes"] if v]) < curves.LEAST_POINTS:
            lines.append(f"curve            not fitted: it needs {curves.LEAST_POINTS} volumes above 0")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<VolumePlan: {self.study.data['name']!r}, volumes {self.study.sizes['volumes']}, about {clock(self.study.estimates['wall'])}>"


def plan_volume(asked: Volume, source: Source, *, store: Store, workers: int, existing: Study | None = None, prices: Prices | None = None) -> VolumePlan:
    """Read and check the images, fix every integer. With `existing` (a run folder's study) its integers are taken, not derived."""
    return replace(_plan(asked, source, store=store, workers=workers, existing=existing), prices=prices or Prices())


def _plan(asked: Volume, source: Source, *, store: Store, workers: int, existing: Study | None) -> VolumePlan:
    _check(asked)
    data = open_data(source, per_class=asked.per_class or None, seed=asked.seed)
    if existing is not None:
        return _again(asked, data, store, existing)
    return _build(asked, data, store, _new_study(asked, data, store, workers=workers))


def _again(asked: Volume, data: Data, store: Store, existing: Study) -> VolumePlan:
    planning.check_question(existing, asked, data, kind="volume", plan=existing.plan)
    planning.restore(_as_pilot(asked), data, store, existing)
    return _build(asked, data, store, existing)


def _build(asked: Volume, data: Data, store: Store, study: Study) -> VolumePlan:
    cells, rows = planning.cells_of(study, data, store)
    if rows and study.data.get("test_rows") != rows:
        study = Study(study.kind, study.plan, {**study.data, "test_rows": rows}, study.sizes, study.gates, study.detectable, study.estimates)
    wanted = [c for c in cells if c.replicate < sum(study.sizes["full"])]
    return VolumePlan(study, wanted, store, data.train_side if study.sizes["cross_fit"] else data.splits.test, asked, data)


def _as_pilot(asked: Volume) -> Pilot:
    """The pilot's record of the same question: what both studies plan alike is planned once."""
    return Pilot(
        data=asked.data, per_class=asked.per_class, generators=asked.generators, arms=(recipes.BASELINE, asked.arm), measure=asked.measure,
        worthwhile=asked.worthwhile, backbone=asked.backbone, budget=asked.budget, size=asked.size, synthetic_per_class=max(asked.volumes),
        replicates=asked.replicates, steps=asked.steps, seed=asked.seed,
    )  # fmt: skip


def _check(asked: Volume) -> None:
    shown = ", ".join(map(str, asked.volumes))
    if any(v < 0 for v in asked.volumes):
        raise SettingError(f"The volumes {shown} hold a negative number.", fix="give 0 or more images of each class, for instance 0,50,100,200,500")
    if any(b <= a for a, b in zip(asked.volumes, asked.volumes[1:], strict=False)):
        raise SettingError(f"The volumes {shown} do not increase.", fix="give them from small to large, each once, for instance 0,50,100,200,500")
    if len(asked.volumes) < 2:
        raise SettingError(f"{len(asked.volumes)} volumes make no step.", fix="give two or more, for instance 0,50,100,200,500")
    if asked.volumes[-1] > MOST_VOLUME:
        raise SettingError(f"A volume of {asked.volumes[-1]} images of each class is out of range.", fix=f"give at most {MOST_VOLUME}")
    if not asked.generators:
        raise SettingError("No generator was named.", fix="name at least one with --generators, for instance diffusion")
    if not recipes.parse(asked.arm).uses_synthetic:
        raise SettingError(f"The arm {asked.arm} uses no synthetic images.", fix="choose one that does, for instance balanced+augment")
    planning.check_pilot(_as_pilot(asked))


def _new_study(asked: Volume, data: Data, store: Store, *, workers: int) -> Study:
    splits, pilot = data.splits, _as_pilot(asked)
    classes = splits.train.classes
    measure = measures.parse(asked.measure, classes)
    everything = data.train_side if splits.cross_fit else splits.test
    measure.check(everything.y)
    planning.check_sides(splits, everything)
    size, channels = planning.shape_of(data, asked.size)
    volumes = [0, *(v for v in asked.volumes if v)]
    sources = {name: planning.source_for(name, data, store, (size, size, channels)) for name in asked.generators}
    generators = {name: source.facts for name, source in sources.items()}
    for name, facts in generators.items():
        if facts["kind"] == "folder" and facts["least"] < volumes[-1]:
            raise SettingError(
                f"{name} holds {facts['least']} images of its rarest class; {volumes[-1]} were asked for.", fix=f"give volumes up to {facts['least']}"
            )
    backbone = planning.backbone_of(asked.backbone, store)
    if backbone["frozen"]:
        recipes.of_frozen((asked.arm,))
    training = planning.training_of(pilot, data, size=size, channels=channels, pretrained=backbone["name"] != "small")
    n_folds = splits.n_folds if splits.cross_fit else 1
    overlap = overlap_of(folds(data.train_side, 0, n_folds=n_folds, seed=asked.seed, per_class=asked.per_class or None)) if splits.cross_fit else 0.0
    speeds, steps = planning.probe_speeds(generators, backbone, training, store, shape=(size, size, channels), n_classes=len(classes))
    tested = budget.testing(speeds, len(everything) / n_folds, batch=training["batch"])
    rungs = budget.ladder((recipes.BASELINE, asked.arm), steps=asked.steps, replicates=asked.replicates, curve="none")
    work: dict[str, Any] = {"generators": len(generators), "generator_steps": steps, "classes": len(classes), "folds": n_folds, "tested": tested}
    work |= {"real": len(splits.train)}
    chosen, estimates = budget.first_within(
        seconds(asked.budget), rungs, lambda sizes: _estimate(sizes, speeds, volumes, **work), workers=workers, study=planning.KIND_SAID["volume"],
        smaller="fewer generators or volumes, or a smaller --size",
    )  # fmt: skip
    for name, facts in generators.items():
        if "steps" in facts["options"]:
            facts["options"] = {**facts["options"], "steps": budget.share_of(steps[name], chosen)}
    return Study(
        kind="volume",
        plan=plain(asked),
        data=planning.data_facts(data, everything, [s.finding for s in sources.values() if s.finding]),
        sizes={
            "size": size,
            "channels": channels,
            "arm": recipes.parse(asked.arm).name,
            "volumes": volumes,
            "training": {**training, "steps": chosen.steps},
            "long_steps": chosen.steps,
            "generators": generators,
            "synthetic_per_class": volumes[-1],
            "small": 0,
            "full": [chosen.full],
            "folds": n_folds,
            "overlap": overlap,
            "cross_fit": splits.cross_fit,
            "backbone": backbone,
            "measure": measures.freeze(measure),
        },
        gates=_gates(asked),
        detectable=planning.detectable_gain(measure, everything, replicates=chosen.full, overlap=overlap),
        estimates={**estimates, "workers": float(max(1, workers))},
    )


def _gates(asked: Volume) -> tuple[dict[str, Any], ...]:
    """The rules, written down before the run."""
    return (
        {
            "name": "copies",
            "stage": "look",
            "threshold": gates.COPIES_MARGIN,
            "rule": "do not measure a generator whose share of copies is surely more than this above the hold-out's",
        },
        {
            "name": "saturation",
            "stage": "full",
            "threshold": asked.worthwhile,
            "rule": "saturated: the interval of the last step ends below this; not saturated: it starts above 0; else cannot tell",
        },
    )


# the budget -----------------------------------------------------------------------------------------------------------


def _estimate(
    sizes: budget.Sizes,
    speeds: budget.Speeds,
    volumes: Sequence[int],
    *,
    generators: int,
    generator_steps: Mapping[str, int],
    classes: int,
    folds: int,
    tested: float,
    real: int,
) -> dict[str, float]:
    """Seconds of one worker for one job of each verb, and `total` for the whole study, whose volumes are never given up.

    generators: how many, those with nothing to fit too. tested: seconds of testing one model. real: images to train on.
    """
    trained = [budget.training(speeds, sizes.steps, real + volume * classes) for volume in volumes]  # volume 0 has no generator
    found = {"train": trained[-1], "predict": tested, "copies": 0.3, "align": 1.0, "pick": 0.1, "first": 0.05}
    made = 0.0
    for name, (step, image) in speeds.generators.items():
        found[f"fit:{name}"] = budget.share_of(generator_steps[name], sizes) * step
        found[f"sample:{name}"] = max(volumes) * classes * image + 0.1
        made += found[f"fit:{name}"] + found[f"sample:{name}"]
    trainings = 1 + generators * (len(volumes) - 1)
    of_cell = made + trained[0] + generators * sum(trained[1:]) + trainings * tested
    found["total"] = sizes.full * folds * of_cell + generators * found["copies"]
    return found
