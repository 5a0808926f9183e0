"""What a run of loops has lost by its last generation, and the verdict: collapse, alarm, holds, unsure, one (chain), floor.

Losses are of the last generation against generation 1 of the same chain: of shares v_1 - v_t, of amounts 1 - v_t / v_1. Those that never move are left out. A
loss is sure where Holm's p-value over all of them is below 5 %; a loop *holds* only where the interval of every one ends below SMALL, for a loss that was not
seen may be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from mitate.loops.advice import LEADING, SURE, Estimate, Run, over_chains
from mitate.metrics.intervals import holm

SHARES = (*LEADING, "recall", "coverage")  # 0 to 1; lost in points
AMOUNTS = ("variance", "distinct", "vendi")  # lost in shares of generation 1
ROUNDING = 1e-9
SMALL = 0.05  # of a share or an amount: what a loop that holds may have lost


@dataclass(frozen=True)
class Loss:
    """Of an indicator, positive where it fell. share: told in points; else in shares of generation 1."""

    indicator: str
    share: bool
    estimate: Estimate
    p_holm: float | None = None

    @property
    def sure(self) -> bool:
        return self.p_holm is not None and self.p_holm < SURE and self.estimate.value > 0

    @property
    def small(self) -> bool:
        return self.estimate.high is not None and self.estimate.high < SMALL


def losses(chains: Mapping[int, Run]) -> tuple[Loss, ...]:
    """What chains of one length have lost, most telling first."""
    found = []
    for name in (*LEADING, *AMOUNTS, *SHARES[len(LEADING) :]):
        if not all(name in g for run in chains.values() for g in (run[0], run[-1])):
            continue
        first, last = (np.array([run[k][name] for run in chains.values()]) for k in (0, -1))
        if name in AMOUNTS and (first <= 0).any():
            continue
        lost = first - last if name in SHARES else 1 - last / first
        if (lost != 0).any():
            found.append(Loss(name, name in SHARES, _possible(over_chains(lost.tolist()), least=-1.0 if name in SHARES else -np.inf)))
    adjusted = holm([loss.estimate.p for loss in found if loss.estimate.p is not None])
    return tuple(replace(loss, p_holm=p) for loss, p in zip(found, adjusted, strict=True)) if adjusted else tuple(found)


def _possible(found: Estimate, *, least: float) -> Estimate:
    """The same with an interval that ends where losses do: nothing can lose more than all of itself."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, least), high=min(found.high, 1.0))


def verdict(found: Sequence[Loss], *, policy: str, chains: int, stopped: int, rate: float = SURE) -> str:
    """stopped: chains in which the alarm came to STOP; of many chains a share `rate` does by chance, and more than that is an alarm."""
    if policy == "real":
        return "floor"
    if any(loss.sure for loss in found):
        return "collapse"
    if stopped and binom.sf(stopped - 1, max(chains, stopped), rate) <= SURE + ROUNDING:
        return "alarm"
    if chains < 2:
        return "one"
    return "holds" if found and all(loss.small for loss in found) else "unsure"
