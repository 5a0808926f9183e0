"""Data policies: which pairs the next generation learns from. Each is a filter on what is there, by generation and by what is real.

replace       only what the last generation made
accumulate    the real pairs and all that was made since
budget        as accumulate, but as many as one generation makes, drawn at random
fresh:SHARE   what the last generation made, a share of it replaced by new real pairs
real          new real pairs each time: no recursion, the floor and the alarm's null

Sources: Alemohammad et al. 2023 (arXiv 2307.01850), Gerstgrasser et al. 2024 (arXiv 2404.01413), Bertrand et al. 2023 (arXiv 2310.00429).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mitate.errors import SettingError
from mitate.loops.agents import Samples
from mitate.loops.chance import chosen
from mitate.settings import suggest

NAMES = ("replace", "accumulate", "budget", "fresh", "real")
STARTS = ("continue", "base")  # each generation trains on from where the last one stood, or anew from the base


@dataclass(frozen=True)
class Policy:
    """A policy by name. share: of `fresh`, from 0 to 1."""

    name: str
    share: float = 0.0

    @property
    def recursive(self) -> bool:
        return self.name != "real"

    def fresh(self, n: int) -> int:
        """New real pairs that a generation of n pairs learns from."""
        return n if self.name == "real" else round(self.share * n) if self.name == "fresh" else 0

    def rows(self, pool: Samples, *, generation: int, n: int, seed: int) -> np.ndarray:
        """Rows of the pool that generation `generation` (2 or more) learns from, rising. n: pairs that one generation makes.

        The pool holds everything up to the last generation, and the new real pairs of this one.
        """
        when, real = pool.generation, pool.real
        if self.name == "real":
            return np.flatnonzero(real & (when == generation))
        made = np.flatnonzero(~real & (when == generation - 1))
        if self.name == "replace":
            return made
        before = np.flatnonzero(when < generation)
        if self.name == "accumulate":
            return before
        if self.name == "budget":
            return before[chosen(len(before), n, "budget", seed, generation)]
        kept = made[chosen(len(made), n - self.fresh(n), "fresh", seed, generation)]
        return np.sort(np.concatenate([kept, np.flatnonzero(real & (when == generation))]))


def policy_of(text: str) -> Policy:
    """`replace`, `accumulate`, `budget`, `fresh:0.25` or `real`."""
    name, colon, share = text.partition(":")
    if name not in NAMES:
        raise SettingError(f"There is no policy {name!r}.", fix=suggest(name, NAMES))
    if name != "fresh":
        if colon:
            raise SettingError(f"The policy {name} has no share.", fix=f"write {name}, or fresh:SHARE")
        return Policy(name)
    try:
        found = float(share)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise SettingError(f"{text!r} is no policy with a share.", fix="write it like fresh:0.25, a share from 0 to 1")
    return Policy(name, found)
