"""From arms to jobs, and from predictions to tables: the bookkeeping of a study of recipes.

A *cell* is one replicate (and, with cross-fitting, one fold of it): its own training subset, generator fit, initialisation and
order. All arms of a cell share its seed, which is what makes replicates paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mitate import recipe as recipes
from mitate import registry
from mitate.intake.splits import Splits
from mitate.metrics.measures import Measure
from mitate.runtime import seed_of
from mitate.store import Entry
from mitate.study import Job
from mitate.verbs import VERBS


@dataclass(frozen=True)
class Arm:
    """A recipe as typed and the generator whose images it uses (None for arms of real images only).

    volume: use the first so many images of each class; None for all there are.
    """

    recipe: str
    generator: str | None = None
    volume: int | None = None

    @property
    def label(self) -> str:
        return " · ".join(str(part) for part in (self.recipe, self.generator, self.volume) if part is not None)

    @property
    def synthetic(self) -> bool:
        return self.generator is not None


@dataclass(frozen=True)
class Cell:
    """One replicate (and fold): digests of its stored image sets."""

    replicate: int
    fold: int
    train: str
    selection: str
    holdout: str
    test: str
    part: str = ""  # share of the training images, where it is not all of them


def arms_of(typed: Sequence[str], generators: Sequence[str]) -> list[Arm]:
    """Every arm: a recipe that uses synthetic images stands once for each generator. The baseline is always there, first."""
    names = [recipes.BASELINE, *(n for n in (recipes.parse(t).name for t in typed) if n != recipes.BASELINE)]
    arms: list[Arm] = []
    for name in dict.fromkeys(names):
        uses = recipes.parse(name).uses_synthetic
        arms += [Arm(name, g) for g in generators] if uses else [Arm(name)]
    return arms


class Jobs:
    """Builds the jobs of a study; the same arguments give the same job object, so shared work is shared."""

    def __init__(self, sizes: Mapping[str, Any], estimates: Mapping[str, float], *, seed: int) -> None:
        self._sizes, self._seconds, self._seed = sizes, estimates, seed
        self._made: dict[tuple[Any, ...], Job] = {}

    def synthetic(self, generator: str, cell: Cell) -> Job:
        """The synthetic images of a cell."""
        source = self._sizes["generators"][generator]
        n = self._sizes["synthetic_per_class"]
        seed = seed_of("sample", self._seed, cell.replicate, cell.fold)
        if source["kind"] == "folder":
            return self._job("pick", generator, cell, {"per_class": n, "seed": seed}, {"source": source["images"]})
        fitted = source["digest"] if source["kind"] == "kept" else self.fitted(generator, cell)
        return self._job("sample", generator, cell, {"per_class": n, "seed": seed}, {"generator": fitted, "like": cell.train})

    def fitted(self, generator: str, cell: Cell) -> Job:
        source = self._sizes["generators"][generator]
        settings = {"kind": source["kind"], "options": source["options"], "seed": seed_of("fit", self._seed, cell.replicate, cell.fold)}
        version = 1000 * VERBS["fit"].version + registry.find("generator", source["kind"]).version
        on = {"base": source["base"]} if "base" in source else {}  # a stored fit that this one stands on
        return self._job("fit", generator, cell, settings, {"train": cell.train, "selection": cell.selection, **on}, version=version)

    def aligned(self, generator: str, cell: Cell) -> Job:
        version = 1000 * VERBS["align"].version + registry.find("adapter", "alignment").version
        return self._job("align", generator, cell, {}, {"synthetic": self.synthetic(generator, cell), "train": cell.train}, version=version)

    def images(self, arm: Arm, cell: Cell) -> Job:
        """The synthetic images that an arm trains on. Alignment comes before the choice, so that smaller volumes stay part of larger ones."""
        assert arm.generator is not None, "an arm of real images has no synthetic ones"
        align = recipes.parse(arm.recipe).align
        whole = self.aligned(arm.generator, cell) if align else self.synthetic(arm.generator, cell)
        if arm.volume is None or arm.volume == self._sizes["synthetic_per_class"]:
            return whole
        what = f"{arm.generator}{'/aligned' if align else ''}/{arm.volume}"
        return self._job("first", what, cell, {"per_class": arm.volume}, {"synthetic": whole})

    def checked(self, generator: str, cell: Cell) -> Job:
        """The copies gate of a generator."""
        inputs: dict[str, Job | str] = {"synthetic": self.synthetic(generator, cell), "train": cell.train, "holdout": cell.holdout}
        return self._job("copies", generator, cell, {}, inputs)

    def trained(self, arm: Arm, cell: Cell) -> Job:
        recipe = recipes.parse(arm.recipe)
        training = {**self._sizes["training"]}
        if recipe.compute_matched:
            training["steps"] = self._sizes["long_steps"]
        inputs: dict[str, Job | str] = {"real": cell.train}
        if arm.generator is not None:
            inputs["synthetic"] = self.images(arm, cell)
        settings = {"arm": arm.recipe, "training": training, "backbone": self._backbone, "seed": seed_of("train", self._seed, cell.replicate, cell.fold)}
        factor = training["steps"] / self._sizes["training"]["steps"]
        return self._job("train", arm.label, cell, settings, self._with_weights(inputs), factor=factor)

    def predicted(self, arm: Arm, cell: Cell, split: str) -> Job:
        """Predictions of an arm on `selection` or `test`."""
        inputs: dict[str, Job | str] = {"model": self.trained(arm, cell), "images": getattr(cell, split)}
        return self._job("predict", f"{arm.label}/{split}", cell, {"backbone": self._backbone}, self._with_weights(inputs))

    @property
    def _backbone(self) -> dict[str, Any]:
        return {k: self._sizes["backbone"][k] for k in ("name", "variant", "frozen")}

    def _with_weights(self, inputs: dict[str, Job | str]) -> dict[str, Job | str]:
        weights = self._sizes["backbone"]["weights"]
        return {**inputs, "weights": weights} if weights else inputs

    def _job(
        self, verb: str, what: str, cell: Cell, settings: Mapping[str, Any], inputs: Mapping[str, Job | str], *, version: int = 0, factor: float = 1.0
    ) -> Job:
        key = (verb, what, cell)
        if key not in self._made:
            place = f"r{cell.replicate}" + (f"/f{cell.fold}" if self._sizes["folds"] > 1 else "") + (f"/part {cell.part}" if cell.part else "")
            seconds = self._seconds.get(f"{verb}:{what}", self._seconds.get(verb, 0.05)) * factor
            self._made[key] = Job(f"{verb}/{place}/{what}", verb, version or VERBS[verb].version, settings, inputs, seconds)
        return self._made[key]


# tables ---------------------------------------------------------------------------------------------------------------


def answers(measure: Measure, entry: Entry) -> np.ndarray:
    """Answers, int64 [n], of a `predict` job."""
    return measure.decide(np.load(entry.path("probabilities.npy"), allow_pickle=False))


class Predictions:
    """Answers of every arm in every replicate on one split. With folds, a replicate's answers are put together over its folds."""

    def __init__(self, measure: Measure, y: np.ndarray) -> None:
        self.measure, self.y = measure, y
        self._answers: dict[Arm, dict[int, np.ndarray]] = {}

    def add(self, arm: Arm, replicate: int, rows: np.ndarray, said: np.ndarray) -> None:
        """Answers `said` of an arm for the images `rows`."""
        table = self._answers.setdefault(arm, {})
        table.setdefault(replicate, np.full(len(self.y), -1, np.int64))[rows] = said

    def arms(self) -> list[Arm]:
        return list(self._answers)

    def replicates(self, arm: Arm) -> list[int]:
        return sorted(self._answers[arm])

    def table(self, arm: Arm, measure: Measure | None = None, *, only: Sequence[int] | None = None) -> np.ndarray:
        """Contributions of an arm, float64 [replicates, images]."""
        measure = measure or self.measure
        chosen = self.replicates(arm) if only is None else only
        said = [self._answers[arm][r] for r in chosen]
        if any((a < 0).any() for a in said):
            raise ValueError(f"{arm.label} has not answered for every image")
        return np.stack([measure.contributions(self.y, a) for a in said])

    def paired(self, arm: Arm, baseline: Arm, measure: Measure | None = None) -> np.ndarray:
        """Contributions of an arm minus the baseline's in the same replicates, float64 [replicates, images]."""
        shared = [r for r in self.replicates(arm) if r in self._answers[baseline]]
        return self.table(arm, measure, only=shared) - self.table(baseline, measure, only=shared)


# what makes images and replicates dependent ---------------------------------------------------------------------------

ALONE = "image "  # what the name of a group begins with that is one image without a group


def group_numbers(groups: Sequence[str] | None, names: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """Group numbers int64 [n] and their names; an image without a group ("") is on its own."""
    if groups is None:
        return None, []
    keys = [g or f"{ALONE}{name}" for g, name in zip(groups, names, strict=True)]
    found = sorted(set(keys))
    index = {name: i for i, name in enumerate(found)}
    return np.asarray([index[k] for k in keys], dtype=np.int64), found


def overlap_of(parts: Sequence[Splits]) -> float:
    """Test images over training images of one repetition's folds; training is what selection and hold-out leave of the other folds."""
    return sum(len(part.test) for part in parts) / sum(len(part.train) for part in parts)
