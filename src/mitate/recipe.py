"""Noun 5, Recipe of Phases: how a downstream model is trained, as data. Every recipe gets the same number of optimiser steps.

An arm is named the way it is typed: a recipe and its dials joined by `+`, for instance `balanced+augment+align`.

    real              real images only
    real-long         real images only, with the generator's own computing time given back as extra steps (compute-matched)
    synthetic         synthetic images only
    mixed             one pool of both, drawn uniformly
    balanced          half of each batch real
    bridged           synthetic, then real                                            (Li et al. 2024, arXiv 2403.19866)
    bridged-fresh     the same, with a fresh head for the real phase
    bridged++         the same, with mixup in the synthetic phase
    +augment          strong classical augmentation in every phase
    +mixup            mixup in every phase
    +align            synthetic images brought to the look of the real training split first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mitate.errors import SettingError
from mitate.settings import suggest

VIEWS = 8  # augmented views of each image whose features a frozen body computes, once a training
MIXUP = 0.2  # Beta(a, a); ImageNet practice, the bridged-transfer paper does not give its own
BASELINE = "real+augment"


@dataclass(frozen=True)
class Phase:
    """One stretch of training."""

    source: Literal["real", "synthetic", "both"]
    share: float = 1.0  # of the recipe's optimiser steps
    real_share: float | None = None  # of each batch, for source "both"; None draws uniformly from the joint pool
    fresh_head: bool = False  # draw a new head before this phase
    mixup: float = 0.0  # Beta(a, a); 0 for none
    augment: bool = False  # strong classical augmentation


@dataclass(frozen=True)
class Recipe:
    """How a downstream model is trained. `steps_factor` is 1 for all but the compute-matched recipe."""

    name: str
    phases: tuple[Phase, ...]
    align: bool = False
    compute_matched: bool = False

    @property
    def uses_synthetic(self) -> bool:
        return any(phase.source != "real" for phase in self.phases)

    @property
    def forgets(self) -> bool:
        """Whether a frozen body keeps nothing of the synthetic images: its head is drawn anew after the last of them."""
        fresh = max((i for i, phase in enumerate(self.phases) if phase.fresh_head), default=0)
        return self.uses_synthetic and all(phase.source == "real" for phase in self.phases[fresh:])


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("real", (Phase("real"),)),
        Recipe("real-long", (Phase("real"),), compute_matched=True),
        Recipe("synthetic", (Phase("synthetic"),)),
        Recipe("mixed", (Phase("both"),)),
        Recipe("balanced", (Phase("both", real_share=0.5),)),
        Recipe("bridged", (Phase("synthetic", 0.5), Phase("real", 0.5))),
        Recipe("bridged-fresh", (Phase("synthetic", 0.5), Phase("real", 0.5, fresh_head=True))),
        Recipe("bridged++", (Phase("synthetic", 0.5, mixup=MIXUP), Phase("real", 0.5, fresh_head=True))),
    )
}
DIALS = ("augment", "mixup", "align")
DEFAULT_ARMS = (
    "real", BASELINE, "real+augment+mixup", "real-long+augment", "synthetic+augment", "mixed+augment", "balanced+augment",
    "bridged+augment", "bridged-fresh+augment", "bridged+++augment",
)  # fmt: skip


def of_frozen(arms: Sequence[str]) -> tuple[str, ...]:
    """The arms that say something on a frozen body. SettingError where one was chosen that does not; of the default ones such are left out."""
    empty = [arm for arm in arms if parse(arm).forgets]
    if empty and tuple(arms) != DEFAULT_ARMS:
        told = f"The arm {empty[0]} leaves nothing of the synthetic images on a frozen body: its head is drawn anew after them."
        raise SettingError(told, fix="use bridged+augment, or leave +frozen out")
    return tuple(arm for arm in arms if arm not in empty)


def parse(text: str) -> Recipe:
    """The recipe of an arm as it is typed: `bridged+++augment` is bridged++ with +augment."""
    name = max((r for r in RECIPES if text == r or text.startswith(r + "+")), key=len, default=None)
    if name is None:
        raise SettingError(f"There is no arm {text!r}.", fix=suggest(text.split("+")[0], RECIPES))
    recipe = RECIPES[name]
    dials = [d for d in text[len(name) :].split("+") if d]
    for dial in dials:
        if dial not in DIALS:
            raise SettingError(f"The arm {text!r} has no dial {dial!r}.", fix=suggest(dial, DIALS))
    phases = recipe.phases
    if "augment" in dials:
        phases = tuple(replace(phase, augment=True) for phase in phases)
    if "mixup" in dials:
        phases = tuple(replace(phase, mixup=MIXUP) for phase in phases)
    if "align" in dials and not recipe.uses_synthetic:
        raise SettingError(f"The arm {text!r} has no synthetic images to align.", fix=f"use {name} without +align")
    return Recipe("+".join([name, *(d for d in DIALS if d in dials)]), phases, align="align" in dials, compute_matched=recipe.compute_matched)
