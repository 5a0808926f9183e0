"""Which data policy or dial holds the damage off, at what price: loops of one ground compared, paired by chain.

Damage is told against generation 1 of the same chain of the run that all are compared with, which has learnt from real pairs alone:

    LEADING (shares)           v_1 - v_t          those that every run has: accuracy on real data, recall of what is rare; fixed before a run, so that nobody
                                                  chooses the kind one afterwards
    variance (no share)        |v_t / v_1 - 1|    where they share none: more variance is no health, so any way off counts

What an arm avoids is the reference's damage less its own, chain by chain, at the last generation and as the area under the curve over generations divided by
its length. Intervals are Student's t over chains; p-values are Holm's over all arms and indicators at the last generation (Holm 1979). The floor (policy real)
is measured beside them, outside Holm's family, and never advised.

An arm helps where it surely avoids damage on one indicator and does surely more of it on none. Of those that cannot be told from the one that avoids most, the
cheapest is advised: fewest new real pairs, then captions by people, evaluations of models, pairs to learn from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mitate.errors import DataError, SettingError
from mitate.loops.policies import policy_of
from mitate.metrics.intervals import Interval, ends, holm, p_value

LEADING = ("utility", "painted_right", "told_right", "tail", "image_tail", "caption_tail")  # what a loop is judged by, higher is better, 0 to 1
INSTEAD = "variance"  # where loops have none of them in common
SURE = 0.05  # of Holm's p-values
CONFIDENCE = 0.95
STILL = 1e-12  # standard errors below this share of the value are rounding

Run = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Estimate:
    """A mean over chains. low, high and p (two-sided, of no difference) are None where one chain says nothing of others; of chains without any spread there
    is no interval either, and p is 1.
    """

    value: float
    chains: int
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Price:
    """What a generation takes, means over generations and chains. real, learnt: from generation 2 on, when the policy counts."""

    real: float  # new real pairs
    human: float  # captions written by people
    evaluations: float  # of models, for each kept pair
    learnt: float  # pairs that are learnt from

    @property
    def order(self) -> tuple[float, float, float, float]:
        """By what is dearest: real pairs, people, machines."""
        return self.real, self.human, self.evaluations, self.learnt


@dataclass(frozen=True)
class Arm:
    """A run that is compared. chains: indicators of generations 1, 2, ... by seed; only chains that reach the last generation compared count."""

    name: str
    policy: str
    chains: Mapping[int, Run]
    price: Price


@dataclass(frozen=True)
class Outcome:
    """What an arm avoids on an indicator. damage: its own at the last generation; last, area: the reference's less its own, paired by chain."""

    arm: str
    indicator: str
    damage: Estimate
    last: Estimate
    area: Estimate
    p_holm: float | None = None

    @property
    def helps(self) -> bool:
        return self.p_holm is not None and self.p_holm < SURE and self.last.value > 0

    @property
    def hurts(self) -> bool:
        return self.p_holm is not None and self.p_holm < SURE and self.last.value < 0


@dataclass(frozen=True)
class Advice:
    """code: recommend (`arm`), cannot tell, too few (chains in common), nothing to compare.

    frontier: arms, the reference among them, that no other one beats on damage and every part of the price at once, by their means. helping: those that surely
    help.
    """

    code: str
    reference: str
    generation: int
    indicators: tuple[str, ...]
    damage: tuple[tuple[str, Estimate], ...]  # of the reference, by indicator
    outcomes: tuple[Outcome, ...]
    frontier: tuple[str, ...]
    helping: tuple[str, ...] = ()
    arm: str | None = None


def price_of(lines: Sequence[Mapping[str, Any]], policy: str) -> Price:
    """What the lines of a loop.jsonl took. DataError where they do not say."""
    try:
        later = [line for line in lines if line["generation"] > 1]
        kept = sum(line["cost"]["kept"] for line in lines)
        spent = sum(line["cost"]["images"] + line["cost"]["captions"] for line in lines)
        human = sum(line["cost"]["human"] for line in lines)
        real = sum(line["learnt_from"]["real"] for line in later) if policy_of(policy).fresh(1_000_000) else 0
        learnt = sum(line["learnt_from"]["real"] + line["learnt_from"]["made"] for line in later)
    except (KeyError, TypeError) as wrong:
        raise DataError(f"A line of a loop does not say what it took ({wrong}).", fix="give a folder that `mitate collapse --out` wrote") from None
    if not lines or not kept:
        raise DataError("No generation of the loop kept a pair.", fix="give the same command again, so that the loop goes on")
    return Price(real / max(1, len(later)), human / len(lines), spent / kept, learnt / max(1, len(later)))


def over_chains(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """The mean of one value a chain, with Student's interval and p-value; neither from one chain, no interval from chains that agree to the last digit."""
    n, value = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(value, n)
    se = float(np.std(values, ddof=1)) / math.sqrt(n)
    if se <= STILL * abs(value):
        return Estimate(value, n, p=1.0)
    found = ends(Interval(value, value, value, n, se_replicates=se, df_replicates=n - 1.0), confidence=confidence)
    return Estimate(value, n, found.low, found.high, p_value(found))


def leading(arms: Sequence[Arm]) -> tuple[str, ...]:
    """The indicators that arms are judged by, fixed before any run. SettingError where they have none in common."""
    common = set.intersection(*({name for run in arm.chains.values() for name in run[0]} for arm in arms))
    if found := tuple(name for name in LEADING if name in common):
        return found
    if INSTEAD in common:
        return (INSTEAD,)
    raise SettingError(f"The loops share none of {', '.join((*LEADING, INSTEAD))}.", fix="compare loops with an indicator that they are judged by")


def damage(run: Run, first: Mapping[str, float], indicator: str) -> np.ndarray:
    """Damage of each generation against `first`, float64 [generations]: v_1 - v_t of shares, |v_t / v_1 - 1| of a variance."""
    values, start = np.array([g[indicator] for g in run], dtype=np.float64), first[indicator]
    if indicator in LEADING:
        return start - values
    if start == 0:
        raise DataError(f"{indicator} is 0 in generation 1, and nothing can be told against it.", fix="compare loops whose generation 1 varies")
    return np.abs(values / start - 1)


def compare(reference: Arm, others: Sequence[Arm]) -> Advice:
    """The others against the reference, and what to take. All of them have to be loops of one ground with one n."""
    arms = [reference, *others]
    if len({arm.name for arm in arms}) < len(arms):
        raise SettingError("Two of the loops have one name.", fix="give each a name of its own")
    for arm in arms:
        if not arm.chains:
            raise DataError(f"{arm.name} has no generation yet.", fix="compare loops that have begun")
    names = leading(arms)
    generation = min(max(len(run) for run in arm.chains.values()) for arm in arms)
    base = {seed: run[:generation] for seed, run in reference.chains.items() if len(run) >= generation}
    own = tuple((name, over_chains([damage(run, run[0], name)[-1] for run in base.values()])) for name in names)
    offered = [arm for arm in others if arm.policy != "real"]
    told = _adjusted([o for arm in offered for o in _outcomes(arm, base, names, generation)])
    outcomes = [*told, *(o for arm in others if arm not in offered for o in _outcomes(arm, base, names, generation))]
    frontier = _frontier(reference, others, dict(own), outcomes)
    found = Advice("nothing to compare", reference.name, generation, names, own, tuple(outcomes), frontier)
    if not offered:
        return found
    if all(o.p_holm is None for o in told):
        return replace(found, code="too few")
    helping = [arm for arm in offered if any(o.helps for o in told if o.arm == arm.name) and not any(o.hurts for o in told if o.arm == arm.name)]
    if not helping:
        return replace(found, code="cannot tell")
    best = max(helping, key=lambda arm: _avoided(told, arm.name))
    level = [arm for arm in helping if arm is best or _alike(best, arm, base, names[0], generation)]
    advised = min(level, key=lambda arm: (arm.price.order, -_avoided(told, arm.name)))
    return replace(found, code="recommend", helping=tuple(arm.name for arm in helping), arm=advised.name)


def _outcomes(arm: Arm, base: Mapping[int, Run], names: Sequence[str], generation: int) -> list[Outcome]:
    """Of an arm on each indicator; none where it has no chain in common with the reference."""
    shared = [(run, arm.chains[seed][:generation]) for seed, run in base.items() if len(arm.chains.get(seed, ())) >= generation]
    found = []
    for name in names if shared else ():
        theirs = np.array([damage(run, run[0], name) for run, _ in shared])
        own = np.array([damage(other, run[0], name) for run, other in shared])
        avoided = theirs - own
        area = np.trapezoid(avoided, axis=1) / (generation - 1) if generation > 1 else avoided[:, 0]
        found.append(Outcome(arm.name, name, over_chains(own[:, -1].tolist()), over_chains(avoided[:, -1].tolist()), over_chains(area.tolist())))
    return found


def _adjusted(outcomes: Sequence[Outcome]) -> list[Outcome]:
    told = [(k, o.last.p) for k, o in enumerate(outcomes) if o.last.p is not None]
    adjusted = dict(zip((k for k, _ in told), holm([p for _, p in told]), strict=True))
    return [replace(o, p_holm=adjusted.get(k)) for k, o in enumerate(outcomes)]


def _avoided(outcomes: Sequence[Outcome], name: str) -> float:
    """By the first indicator, what an arm avoids at the last generation."""
    return next(o.last.value for o in outcomes if o.arm == name)


def _alike(best: Arm, other: Arm, base: Mapping[int, Run], name: str, generation: int) -> bool:
    """Whether the best arm cannot be told from another one: the interval of their paired difference holds 0, or there is none."""
    one, two = (_lasts(arm, base, name, generation) for arm in (best, other))
    found = over_chains([two[seed] - one[seed] for seed in one.keys() & two.keys()] or [0.0])
    return found.low is None or found.high is None or found.low <= 0 <= found.high


def _lasts(arm: Arm, base: Mapping[int, Run], name: str, generation: int) -> dict[int, float]:
    """Damage at the last generation by seed, against generation 1 of the reference."""
    whole = [seed for seed in base if len(arm.chains.get(seed, ())) >= generation]
    return {seed: float(damage(arm.chains[seed][:generation], base[seed][0], name)[-1]) for seed in whole}


def _frontier(reference: Arm, others: Sequence[Arm], own: Mapping[str, Estimate], outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Arms that no other one beats: no more damage and no higher price in any part, and less in one. Means; the floor is left out."""
    places = {reference.name: (*(e.value for e in own.values()), *reference.price.order)}
    for arm in others:
        found = [o.damage.value for o in outcomes if o.arm == arm.name]
        if found and arm.policy != "real":
            places[arm.name] = (*found, *arm.price.order)
    return tuple(name for name, place in places.items() if not any(_beats(other, place) for other in places.values()))


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
