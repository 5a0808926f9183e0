"""Which loop to take, and what a loop has lost: the statistics, the price, and when nothing may be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mitate.errors import DataError, SettingError
from mitate.loops.advice import Arm, Price, compare, damage, leading, over_chains, price_of
from mitate.loops.chains import collapse
from mitate.loops.loop import Loop
from mitate.loops.losses import losses, verdict
from mitate.loops.toy import Toy

CHEAP = Price(0, 0, 100, 200)


def arm(name: str, last: Sequence[float], *, policy: str = "replace", price: Price = CHEAP, first: float = 0.9, generations: int = 3, **more: float) -> Arm:
    """An arm whose utility goes straight from `first` to `last`, a value a chain."""
    runs = {seed: [{"utility": float(u), **more} for u in np.linspace(first, end, generations)] for seed, end in enumerate(last)}
    return Arm(name, policy, runs, price)


def noisy(mean: float, *, seed: int, n: int = 8) -> list[float]:
    return list(mean + 0.01 * np.random.default_rng(seed).standard_normal(n))


def test_an_estimate_is_students_interval_and_its_p_value() -> None:
    values = np.random.default_rng(3).normal(0.2, 1.0, 7)
    found, theirs = over_chains(values.tolist()), stats.ttest_1samp(values, 0)
    interval = theirs.confidence_interval(0.95)
    assert np.allclose([found.low, found.high, found.p], [interval.low, interval.high, theirs.pvalue], rtol=1e-8)


def test_one_chain_has_a_value_and_no_interval() -> None:
    found = over_chains([0.3])
    assert (found.value, found.low, found.high, found.p) == (0.3, None, None, None)


def test_chains_that_agree_to_the_last_digit_prove_nothing() -> None:
    found = over_chains([0.1, 0.1])
    assert (found.value, found.low, found.high, found.p) == (0.1, None, None, 1.0)


def test_loops_that_are_alike_are_rarely_told_apart() -> None:
    """Three arms that are the reference but for chance, 5 chains, two indicators: at most 2.5 % of comparisons advise one (Holm, and one side)."""
    rng, advised, times = np.random.default_rng(0), 0, 120
    for _ in range(times):
        arms = []
        for k in range(4):
            runs = {s: [{"utility": 0.9, "tail": 0.5}, {"utility": float(u), "tail": float(t)}] for s, (u, t) in enumerate(rng.normal(0.5, 0.1, (5, 2)))}
            arms.append(Arm(str(k), "replace" if k == 0 else "accumulate", runs, CHEAP))
        advised += compare(arms[0], arms[1:]).code == "recommend"
    assert advised <= stats.binom.ppf(0.999, times, 0.025)


def test_what_is_avoided_is_paired_by_chain() -> None:
    """Arms that differ by the same in every chain but for little have a narrow interval, however far chains lie apart."""
    ends = np.random.default_rng(0).normal(0.6, 0.2, 6)
    better = ends + 0.05 + 0.001 * np.arange(6)
    found = compare(arm("base", list(ends)), [arm("other", list(better), policy="accumulate")])
    theirs = stats.ttest_rel(better, ends)
    (outcome,) = found.outcomes
    assert outcome.last.value == pytest.approx((better - ends).mean()) and outcome.last.p == pytest.approx(theirs.pvalue, rel=1e-6)
    assert outcome.last.high is not None and outcome.last.high - outcome.last.value < 0.01


def test_the_area_is_that_under_the_curve_over_its_length() -> None:
    found = compare(arm("base", [0.5, 0.6], generations=5), [arm("other", [0.7, 0.9], policy="accumulate", generations=5)])
    assert found.outcomes[0].area.value == pytest.approx(((0.7 - 0.5) + (0.9 - 0.6)) / 2 / 2)  # straight lines from 0: half of the last


def test_damage_is_told_against_generation_1_of_the_reference() -> None:
    run, first = [{"utility": 0.8, "variance": 3.0}, {"utility": 0.7, "variance": 1.0}], {"utility": 0.9, "variance": 2.0}
    assert np.allclose(damage(run, first, "utility"), [0.1, 0.2]) and np.allclose(damage(run, first, "variance"), [0.5, 0.5])
    with pytest.raises(DataError, match="is 0 in generation 1"):
        damage(run, {"variance": 0.0}, "variance")


def test_p_values_are_holms_over_arms_and_indicators_without_the_floor() -> None:
    others = [arm(f"a{k}", noisy(0.6 + 0.01 * k, seed=k), policy="accumulate", tail=0.5) for k in range(3)]
    found = compare(arm("base", noisy(0.6, seed=9), tail=0.5), [*others, arm("floor", noisy(0.9, seed=5), policy="real", tail=0.5)])
    own = [o for o in found.outcomes if o.arm != "floor"]
    told = sorted(o.last.p for o in own if o.last.p is not None)
    assert len(own) == 6 and min(o.p_holm for o in own if o.p_holm is not None) == pytest.approx(min(1.0, 6 * told[0]))
    assert all(o.p_holm is None for o in found.outcomes if o.arm == "floor")


def test_of_arms_that_cannot_be_told_apart_the_cheapest_is_advised() -> None:
    base = arm("base", noisy(0.5, seed=1))
    dear = arm("dear", noisy(0.802, seed=2), policy="fresh:0.5", price=replace(CHEAP, real=100))
    cheap = arm("cheap", noisy(0.8, seed=3), policy="accumulate", price=replace(CHEAP, learnt=800))
    little = arm("little", noisy(0.6, seed=4), policy="fresh:0.1", price=replace(CHEAP, real=20))
    found = compare(base, [dear, cheap, little])
    assert found.code == "recommend" and found.arm == "cheap" and found.helping == ("dear", "cheap", "little")
    assert "little" not in compare(base, [little, replace(cheap, price=CHEAP)]).frontier, "dearer and worse"


def test_an_arm_that_surely_loses_more_of_something_is_not_advised() -> None:
    base = Arm("base", "replace", {s: [{"utility": 0.9, "tail": 0.9}, {"utility": u, "tail": 0.8}] for s, u in enumerate(noisy(0.5, seed=1))}, CHEAP)
    mixed = {s: [{"utility": 0.9, "tail": 0.9}, {"utility": u, "tail": 0.2 + 0.001 * s}] for s, u in enumerate(noisy(0.8, seed=2))}
    assert compare(base, [Arm("mixed", "accumulate", mixed, CHEAP)]).code == "cannot tell"


def test_what_the_chains_cannot_show_is_not_advised() -> None:
    base = arm("base", noisy(0.6, seed=1))
    assert compare(base, [arm("same", noisy(0.6, seed=2), policy="accumulate")]).code == "cannot tell"
    assert compare(arm("base", [0.5]), [arm("other", [0.9], policy="accumulate")]).code == "too few"
    assert compare(base, [arm("floor", noisy(0.9, seed=2), policy="real")]).code == "nothing to compare"


def test_only_chains_that_reach_the_last_generation_in_both_count() -> None:
    base, other = arm("base", [0.5, 0.5, 0.6]), arm("other", [0.7, 0.8, 0.8], policy="accumulate")
    short = {**other.chains, 2: other.chains[2][:1]}
    assert compare(base, [replace(other, chains=short)]).outcomes[0].last.chains == 2


def test_the_leading_indicators_are_those_that_all_have_else_the_variance() -> None:
    one, two = arm("one", [0.5], tail=0.1, variance=1.0), Arm("two", "real", {0: [{"tail": 0.2, "variance": 1.0}]}, CHEAP)
    assert leading([one]) == ("utility", "tail") and leading([one, two]) == ("tail",)
    assert leading([one, Arm("three", "real", {0: [{"variance": 1.0}]}, CHEAP)]) == ("variance",)
    with pytest.raises(SettingError, match="share none"):
        leading([one, Arm("four", "real", {0: [{"entropy": 1.0}]}, CHEAP)])


def test_new_real_pairs_are_a_price_and_kept_ones_are_not() -> None:
    prices = {}
    for policy in ("replace", "accumulate", "fresh:0.25", "real"):
        found = collapse(Toy(), Loop(policy=policy, n=40, generations=3), seeds=2)
        prices[policy] = price_of(found.lines, policy)
    assert [prices[p].real for p in prices] == [0, 0, 10, 40] and prices["accumulate"].learnt == (80 + 120) / 2
    assert {p.evaluations for p in prices.values()} == {100.0}
    with pytest.raises(DataError, match="does not say what it took"):
        price_of([{"generation": 1, "indicators": {}}], "replace")


def test_the_order_of_the_toy_policies_is_found_again() -> None:
    found = {p: collapse(Toy(), Loop(policy=p, n=60, generations=6), seeds=20) for p in ("replace", "accumulate", "real")}
    arms = [Arm(p, p, f.chains, price_of(f.lines, p)) for p, f in found.items()]
    advice = compare(arms[0], arms[1:])
    assert advice.code == "recommend" and advice.arm == "accumulate" and advice.frontier == ("replace", "accumulate")


# one run ----------------------------------------------------------------------------------------------------------------


def lost(name: str, first: Sequence[float], last: Sequence[float]) -> list[float]:
    (found,) = losses({seed: [{name: a}, {name: b}] for seed, (a, b) in enumerate(zip(first, last, strict=True))})
    return [found.estimate.value, found.p_holm is not None]


def test_shares_are_lost_in_points_and_amounts_in_shares_of_generation_1() -> None:
    assert lost("utility", [0.9, 0.8], [0.7, 0.7]) == [pytest.approx(0.15), True]
    assert lost("distinct", [50, 40], [25, 30]) == [pytest.approx(0.375), True]


def test_an_indicator_that_never_moves_is_no_loss() -> None:
    assert losses({0: [{"variance": 1.0}, {"variance": 1.0}], 1: [{"variance": 2.0}, {"variance": 2.0}]}) == ()


def test_a_verdict_is_no_stronger_than_the_chains() -> None:
    def of(end: Sequence[float], *, policy: str = "replace", stopped: int = 0) -> str:
        runs = {seed: [{"utility": 0.9}, {"utility": u}] for seed, u in enumerate(end)}
        return verdict(losses(runs), policy=policy, chains=len(runs), stopped=stopped)

    assert of(noisy(0.5, seed=1)) == "collapse" and of(noisy(0.5, seed=1), policy="real") == "floor"
    assert of(noisy(0.9, seed=1)) == "holds" and of([0.95, 0.8, 0.85]) == "unsure"
    assert of([0.3]) == "one" and of([0.95, 0.8, 0.85], stopped=1) == "unsure" and of([0.95, 0.8, 0.85], stopped=2) == "alarm"
