"""The cells of a comparison and their jobs. A cell is one family, one number of real images, one subset of that size, one fit on it.

    subset   of `n` images of each class, groups whole; that of 10 lies in that of 25 of the same replicate
    fit      on the subset, stopped by the selection split; synthetic images drawn from it, the same number at every n
    leakage  attacks: the subset are members, the hold-out is not
    likeness synthetic beside hold-out images; floor: the selection split in the place of the synthetic ones, so all cells share one ruler
    use      small models trained on the subset alone and with synthetic images, tested on the hold-out; several trainings a fit
    stress   the first of these models under attack and corruption
    pace     how fast the generator draws

All jobs of a plan have names before anything has run; families of one subset share its real-only models and their seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mitate import registry
from mitate.runtime import seed_of
from mitate.studies.utility import BACKBONE, BOTH, MADE, REAL, model_job, prediction
from mitate.study import Job, Study
from mitate.verbs import VERBS

AXES = ("privacy", "fidelity", "diversity", "utility", "robustness", "efficiency")  # privacy first: the gate
NO_LOSS_ELSEWHERE = "these images came from elsewhere, so there is no generator to ask"
LOSS_SEED = 0  # of the noise in a generator's loss
STRESS: Mapping[str, Any] = {"most": 128, "eps": [2 / 255], "headline": 2 / 255}  # fewer images and sizes than an assessment: cells are many


@dataclass(frozen=True)
class Cell:
    """One family, number of images a class, subset (replicate) and fit."""

    family: str
    n: int
    replicate: int
    fit: int

    @property
    def label(self) -> str:
        return f"{self.family} · {self.n} · r{self.replicate} · f{self.fit}"

    @property
    def point(self) -> tuple[str, int]:
        return self.family, self.n


def cells_of(study: Study) -> list[Cell]:
    """Every cell, family by family, small numbers first."""
    sizes = study.sizes
    return [
        Cell(family, n, r, f)
        for family in sizes["families"] for n in sizes["per_class"] for r in range(sizes["seeds"]) for f in range(sizes["fits"])
    ]  # fmt: skip


def counted(n: int, what: str) -> str:
    """`1 family`, `2 families`."""
    return f"{n} {what}" if n == 1 else f"{n} {what[:-1]}ies" if what.endswith("y") else f"{n} {what}s"


class CellJobs:
    """Builds the jobs of cells; the same arguments give the same job object, so shared work is shared."""

    def __init__(
        self, study: Study, *, sets: Mapping[str, str], subsets: Mapping[tuple[int, int], str], blind: Mapping[tuple[int, int], str], weights: str
    ) -> None:
        self._sizes, self._seconds, self._seed = study.sizes, study.estimates, int(study.plan["seed"])
        self._sets, self._subsets, self._blind, self._weights = sets, subsets, blind, weights
        self._made: dict[tuple[Any, ...], Job] = {}

    def fitted(self, cell: Cell) -> Job | None:
        """The fit; None where images came from elsewhere."""
        facts = self._sizes["families"][cell.family]
        if facts["kind"] == "folder":
            return None
        inputs = {"train": self._subsets[cell.n, cell.replicate], "selection": self._sets["selection"]}
        if facts["epsilon"]:  # a split would let one image decide what another is used for, which epsilon does not cover
            inputs = {"train": self._blind[cell.n, cell.replicate], "selection": self._sets["empty"]}
        settings = {"kind": facts["kind"], "options": facts["options"][str(cell.n)], "seed": seed_of("compare fit", self._seed, cell.replicate, cell.fit)}
        version = 1000 * VERBS["fit"].version + registry.find("generator", facts["kind"]).version
        return self._job("fit", cell, settings, inputs, version=version, seconds=f"fit:{cell.family}:{cell.n}")

    def synthetic(self, cell: Cell) -> Job:
        """The synthetic images."""
        facts, seed = self._sizes["families"][cell.family], seed_of("compare sample", self._seed, cell.replicate, cell.fit)
        settings = {"per_class": self._sizes["synthetic_per_class"], "seed": seed}
        fitted = self.fitted(cell)
        if fitted is None:
            return self._job("pick", cell, settings, {"source": facts["images"]})
        inputs: dict[str, Job | str] = {"generator": fitted, "like": self._subsets[cell.n, cell.replicate]}
        return self._job("sample", cell, settings, inputs, seconds=f"sample:{cell.family}:{cell.n}")

    # the gate ---------------------------------------------------------------------------------------------------------

    def leakage(self, cell: Cell) -> Job:
        """Every attack; its verdict is the gate's."""
        subset, fitted = self._subsets[cell.n, cell.replicate], self.fitted(cell)
        inputs: dict[str, Job | str] = {"synthetic": self.synthetic(cell), "real": subset, "held_out": self._sets["holdout"]}
        inputs |= {"synthetic_features": self._features_of(cell), "real_features": self._subset_features(cell), "held_out_features": self._of_set("holdout")}
        settings: dict[str, Any] = {"seed": seed_of("leakage", self._seed), "no_model": "not part of a comparison: mitate assess --shadows 8"}
        if fitted is None:
            settings["no_loss"] = NO_LOSS_ELSEWHERE
        else:
            for role, images in (("member_losses", subset), ("held_out_losses", self._sets["holdout"])):
                inputs[role] = self._job("losses", cell, {"seed": LOSS_SEED}, {"generator": fitted, "images": images}, what=role)
        return self._job("leakage", cell, settings, inputs)

    def copies(self, cell: Cell) -> Job:
        """Which training image is nearest to each synthetic one, for the pictures."""
        inputs: dict[str, Job | str] = {
            "synthetic": self.synthetic(cell), "train": self._subsets[cell.n, cell.replicate], "holdout": self._sets["holdout"],
        }  # fmt: skip
        return self._job("copies", cell, {}, inputs)

    # the other axes ---------------------------------------------------------------------------------------------------

    def likeness(self, cell: Cell) -> Job:
        """Fidelity and diversity."""
        inputs: dict[str, Job | str] = {
            "synthetic": self.synthetic(cell), "real": self._sets["holdout"], "held_out": self._sets["selection"],
            "synthetic_features": self._features_of(cell), "real_features": self._of_set("holdout"), "held_out_features": self._of_set("selection"),
        }  # fmt: skip
        return self._job("likeness", cell, {"seed": seed_of("likeness", self._seed)}, inputs)

    def pace(self, cell: Cell) -> Job | None:
        """Efficiency; None where images came from elsewhere."""
        fitted = self.fitted(cell)
        return None if fitted is None else self._job("pace", cell, {}, {"generator": fitted})

    def predicted(self, cell: Cell, arm: str, training: int) -> Job:
        """Predictions of the hold-out by a model of this arm."""
        model = self._trained(cell, arm, training)
        return self._kept(
            ("predict", model.digest), lambda: _named(prediction("", model, self._sets["holdout"]), f"predict/{model.name}", self._told("predict"))
        )

    def stressed(self, cell: Cell, arm: str) -> Job:
        """The first model of this arm under stress; every cell tries the same hold-out images."""
        model = self._trained(cell, arm, 0)
        settings = {"backbone": BACKBONE, **STRESS, "seed": seed_of("stress", self._seed)}
        inputs: dict[str, Job | str] = {"model": model, "images": self._sets["holdout"]}
        made = Job(f"stress/{model.name}", "stress", VERBS["stress"].version, settings, inputs, self._told("stress"))
        return self._kept(("stress", model.digest), lambda: made)

    def arms(self) -> dict[str, int]:
        """Trainings of each arm that the axes need; the model of synthetic images alone is trained once, for TSTR."""
        axes, most = set(self._sizes["axes"]), int(self._sizes["trainings"])
        if "utility" in axes:
            return {REAL: most, BOTH: most, MADE: 1}
        return {REAL: 1, BOTH: 1} if "robustness" in axes else {}

    def measures(self, cell: Cell) -> list[Job]:
        """Every job of a cell that passed the gate."""
        axes, found = set(self._sizes["axes"]), []
        if axes & {"fidelity", "diversity"}:
            found.append(self.likeness(cell))
        if "utility" in axes:
            found += [self.predicted(cell, arm, k) for arm, most in self.arms().items() for k in range(most)]
        if "robustness" in axes:
            found += [self.stressed(cell, arm) for arm in (REAL, BOTH)]
        if "efficiency" in axes and (pace := self.pace(cell)) is not None:
            found.append(pace)
        return found

    # their parts ------------------------------------------------------------------------------------------------------

    def _trained(self, cell: Cell, arm: str, training: int) -> Job:
        digests: dict[str, Any] = {"real": self._subsets[cell.n, cell.replicate], "synthetic": self.synthetic(cell)}
        seed = seed_of("compare train", self._seed, cell.replicate, cell.fit)
        made = model_job(digests, arm, training, training=self._sizes["training"], seed=seed)
        place = f"{cell.n}/r{cell.replicate}/f{cell.fit}" if arm == REAL else _place(cell)
        return self._kept(("train", made.digest), lambda: _named(made, f"train/{place}/{arm}/t{training}", self._told("train")))

    def _features_of(self, cell: Cell) -> Job:
        return self._job("features", cell, {"extractor": self._sizes["extractor"]}, self._with_weights(self.synthetic(cell)))

    def _subset_features(self, cell: Cell) -> Job:
        return self._real_features(self._subsets[cell.n, cell.replicate], f"{cell.n}/r{cell.replicate}")

    def _of_set(self, role: str) -> Job:
        return self._real_features(self._sets[role], role)

    def _real_features(self, images: str, what: str) -> Job:
        settings = {"extractor": self._sizes["extractor"]}
        made = Job(f"features/{what}", "features", VERBS["features"].version, settings, self._with_weights(images), self._told("features"))
        return self._kept(("features", what), lambda: made)

    def _with_weights(self, images: Job | str) -> dict[str, Job | str]:
        return {"images": images, **({"weights": self._weights} if self._weights else {})}

    def _job(
        self, verb: str, cell: Cell, settings: Mapping[str, Any], inputs: Mapping[str, Job | str], *, version: int = 0, what: str = "", seconds: str = ""
    ) -> Job:
        name = f"{verb}/{_place(cell)}" + (f"/{what}" if what else "")
        return self._kept((name,), lambda: Job(name, verb, version or VERBS[verb].version, settings, inputs, self._told(seconds or verb)))

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Job]) -> Job:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _told(self, what: str) -> float:
        return float(self._seconds.get(what, 0.1))


def _place(cell: Cell) -> str:
    return f"{cell.family}/{cell.n}/r{cell.replicate}/f{cell.fit}"


def _named(job: Job, name: str, estimate: float) -> Job:
    return replace(job, name=name, estimate=estimate)
