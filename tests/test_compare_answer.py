"""What a comparison says, as a function of its table: intervals, pairs, fronts, advice, the published ordering, the price of privacy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from make_comparison import IMAGES, Values, study_of, table_of
from mitate.metrics.intervals import quantile_t
from mitate.studies import compare_answer as ca
from mitate.studies import compare_card as card
from mitate.studies.compare_cells import AXES, Cell, cells_of
from mitate.studies.compare_table import HEADLINES, Table
from mitate.study import Study


def ranked(order: dict[str, int], *, auc: float = 0.6) -> Values:
    """Every axis ranks the families so: 0 is best on all of them. auc: of the attack on 0, above chance or below."""

    def value(axis: str, cell: Cell) -> float:
        sign = 1 if HEADLINES[axis].better == "lower" else -1
        return (auc if axis == "privacy" else 0.2) + sign * 0.1 * order[cell.family]

    return value


def told(study: Study, table: Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return ca.rows(study, table, ca.leaking(study, table)), ca.pairs(study, table)


# intervals ------------------------------------------------------------------------------------------------------------


def test_an_interval_is_students_t_over_replicates() -> None:
    values = np.array([[0.1], [0.3], [0.2], [0.6]])
    found = ca.interval(values)
    half = quantile_t(0.975, 3) * values.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half)) and found.n == 4


def test_fits_and_trainings_are_averaged_before_they_count() -> None:
    study = study_of(("vae",), per_class=(10,), fits=2, seeds=4)
    table = table_of(study, lambda axis, cell: 10.0 * cell.replicate + cell.fit, spread=0)
    (row,), _ = told(study, table)
    assert row["axes"]["fidelity"]["replicates"] == 4 and row["axes"]["fidelity"]["value"] == pytest.approx(15.5)
    assert ca.headline_of(study, table, "fidelity", ("vae", 10))[:, 0] == pytest.approx([0.5, 10.5, 20.5, 30.5])  # type: ignore[index]


def test_a_paired_interval_covers_the_truth_as_often_as_it_says() -> None:
    study = study_of(("vae", "gan"), per_class=(10,), axes=("fidelity",))
    rng, hits = np.random.default_rng(5), 0
    for _ in range(600):
        table, luck = Table(), rng.normal(size=5)  # of a subset, shared by the families
        for cell in cells_of(study):
            table.put("fidelity", cell, luck[cell.replicate] + (0.3 if cell.family == "gan" else 0) + 0.2 * rng.normal())
        (pair,) = ca.pairs(study, table)
        hits += pair["low"] <= -0.3 <= pair["high"]
    assert 0.93 <= hits / 600 <= 0.97


@pytest.mark.parametrize("n", [10, 30])
def test_a_widened_interval_covers_other_pools_and_the_plain_one_does_not(n: int) -> None:
    """Means of subsets of a pool of 40 draws: the truth is the mean of all pools, 0."""
    study = study_of(("vae",), per_class=(n,))
    study.sizes["subsets"][str(n)]["shared"] = n / 40
    wider = ca.pool_of(study, n)["wider"]
    assert wider == pytest.approx(np.sqrt(1 + 5 * (n / 40) / (1 - n / 40)))
    rng, plain, widened = np.random.default_rng(1), 0, 0
    for _ in range(1500):
        pool = rng.normal(size=40)
        found = ca.interval(np.array([[rng.choice(pool, n, replace=False).mean()] for _ in range(5)]))
        half = (found.high - found.low) / 2
        plain, widened = plain + (abs(found.value) <= half), widened + (abs(found.value) <= wider * half)
    assert plain / 1500 < 0.88 and 0.93 <= widened / 1500 <= 0.97


def test_one_subset_and_whole_pools_have_no_widening() -> None:
    study = study_of(("vae",), per_class=(10,))
    for shared in (None, 1.0):
        study.sizes["subsets"]["10"]["shared"] = shared
        assert ca.pool_of(study, 10) == {"shared": shared, "wider": None}
    study.sizes["subsets"]["10"]["shared"] = 0.0
    assert ca.pool_of(study, 10)["wider"] == 1.0


def test_where_there_is_no_interval_nothing_is_widened() -> None:
    assert ca.pool_of(study_of(("vae",), per_class=(10,), seeds=2), 10) == {"shared": 0.05, "wider": None}


def test_fewer_than_three_replicates_tell_nothing() -> None:
    study = study_of(seeds=2)
    rows, pairs = told(study, table_of(study, ranked({"diffusion": 0, "gan": 1, "vae": 2})))
    assert all(r["axes"][axis]["low"] is None and r["axes"][axis]["value"] is not None for r in rows for axis in AXES)
    assert all(p["better"] is None and p["low"] is None for p in pairs)
    assert all(front["dominated"] == [] for front in ca.fronts(study, rows, pairs))
    assert {a["code"] for a in card.advice(study, rows, pairs)} == {"too_few"}
    assert {p["said"] for p in card.published(study, table_of(study, ranked({"diffusion": 0, "gan": 1, "vae": 2})), pairs)} <= {"cannot tell"}


def test_values_that_never_differ_have_no_interval() -> None:
    study = study_of(("vae", "gan"), axes=("diversity",))
    _, pairs = told(study, table_of(study, lambda axis, cell: float(cell.family == "vae"), spread=0))
    assert all(p["low"] is None and p["better"] is None for p in pairs), "no spread in five replicates is no proof"


# pairs and fronts -----------------------------------------------------------------------------------------------------


def test_better_means_lower_or_higher_as_the_axis_says() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    _, pairs = told(study, table_of(study, ranked({"vae": 0, "gan": 1})))
    assert {p["axis"]: p["better"] for p in pairs} == dict.fromkeys(AXES, "vae")


def test_an_attack_below_chance_is_no_more_private_than_one_at_chance() -> None:
    study = study_of(("vae", "gan"), axes=("privacy",))
    auc = {("vae", 10): 0.4, ("gan", 10): 0.5, ("vae", 50): 0.4, ("gan", 50): 0.7}
    table = table_of(study, lambda _, cell: auc[cell.point] - 0.02)  # noise stays below chance where it started there
    rows, pairs = told(study, table)
    assert {p["n"]: p["better"] for p in pairs} == {10: None, 50: "vae"}
    assert pairs[0]["value"] == pytest.approx(-0.1, abs=0.02) and pairs[1]["value"] == pytest.approx(-0.3, abs=0.02)
    assert rows[0]["axes"]["privacy"]["value"] == pytest.approx(0.38, abs=0.02), "the point tells what was measured"
    assert claims(study, table)["memorisation vae"] == "cannot tell"


def test_luck_above_chance_makes_no_attack_of_one_at_chance_over_twenty_replicates() -> None:
    """Raised to 0.5 replicate by replicate, a family at 0.5 would be less private than one at 0.4 in nearly every world, and seem to memorise."""
    study = study_of(("vae", "gan", "gan epsilon=8"), seeds=20, axes=("privacy",))
    auc = {"vae": {10: 0.4, 50: 0.4}, "gan": {10: 0.5, 50: 0.4}, "gan epsilon=8": {10: 0.4, 50: 0.5}}
    better, priced, said = 0, 0, 0
    for world in range(60):
        table = table_of(study, lambda _, cell: auc[cell.family][cell.n], spread=0.05, seed=world)
        rows, pairs = told(study, table)
        better += any(p["better"] for p in pairs if p["n"] == 10)
        priced += any(p["better"] for p in card.prices(study, rows, pairs))
        said += any(c["said"] != "cannot tell" for c in card.published(study, table, pairs) if c["claim"] == "memorisation")
    assert max(better, priced, said) <= 6, "one in forty, for each of two families"


def test_twenty_replicates_surely_above_chance_are_told_apart() -> None:
    study = study_of(("vae", "gan"), seeds=20, axes=("privacy",))
    auc = {("vae", 10): 0.4, ("gan", 10): 0.6, ("vae", 50): 0.6, ("gan", 50): 0.4}
    table = table_of(study, lambda _, cell: auc[cell.point], spread=0.05)
    assert [p["better"] for p in told(study, table)[1]] == ["vae", "gan"]
    assert claims(study, table)["memorisation gan"] == "holds" and claims(study, table)["memorisation vae"] == "does not hold"


def test_a_family_worse_on_every_axis_is_dominated() -> None:
    study = study_of()
    rows, pairs = told(study, table_of(study, ranked({"diffusion": 0, "gan": 1, "vae": 2})))
    for front in ca.fronts(study, rows, pairs):
        assert front["front"] == ["diffusion"] and {d["family"] for d in front["dominated"]} == {"vae", "gan"}


def test_one_axis_that_cannot_be_told_keeps_a_family_on_the_front() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    values = ranked({"vae": 0, "gan": 1})
    rows, pairs = told(study, table_of(study, lambda axis, cell: 0.2 if axis == "robustness" else values(axis, cell)))
    assert ca.fronts(study, rows, pairs) == [{"n": 10, "front": ["vae", "gan"], "dominated": []}]


def test_an_axis_that_only_one_was_measured_on_keeps_both_on_the_front() -> None:
    study = study_of(("vae", "folder:elsewhere/"), per_class=(10,))
    table = table_of(study, ranked({"vae": 0, "folder:elsewhere/": 1}))
    for cell in [c for c in table.headline["efficiency"] if c.family != "vae"]:
        del table.headline["efficiency"][cell]
        table.whys[cell, "efficiency"] = "the images were made elsewhere"
    rows, pairs = told(study, table)
    assert ca.fronts(study, rows, pairs)[0]["dominated"] == []
    elsewhere = next(r for r in rows if r["family"] != "vae")["axes"]["efficiency"]
    assert elsewhere["value"] is None and elsewhere["why"] == "the images were made elsewhere"


# the gate -------------------------------------------------------------------------------------------------------------


def test_a_point_leaks_by_its_smallest_p_times_its_cells() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    one = {"vae": 0.004, "gan": 0.006}  # times 5: 0.02 and 0.03
    table = table_of(study, lambda axis, cell: 0.1, p=lambda _, cell: one[cell.family] if cell.replicate == 2 else 0.5)
    leaks = ca.leaking(study, table)
    assert leaks["vae", 10]["state"] == "leaks" and leaks["vae", 10]["p"] == pytest.approx(0.02) and leaks["vae", 10]["cells"] == 1
    assert leaks["gan", 10]["state"] == "no leak found" and leaks["gan", 10]["cells"] == 1 and leaks["gan", 10]["of"] == 5


def test_what_stops_at_the_gate_keeps_its_privacy_and_says_why_of_the_rest() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    table = table_of(study, lambda axis, cell: 0.1, p=lambda _, cell: 0.001 if cell.family == "vae" else 0.5)
    for axis in AXES[1:]:
        table.headline[axis] = {cell: v for cell, v in table.headline[axis].items() if cell.family != "vae"}
    rows, pairs = told(study, table)
    vae = rows[0]
    assert vae["state"] == "stopped at the gate" and vae["axes"]["privacy"]["value"] is not None
    assert {vae["axes"][axis]["why"] for axis in AXES[1:]} == {"stopped at the gate"}
    assert ca.fronts(study, rows, pairs)[0]["front"] == ["gan"]
    assert all(a["families"] == ["gan"] for a in card.advice(study, rows, pairs))
    assert card.summary(study, rows)[0] == "measured" and "Leaks: vae at 10; stopped" in card.summary(study, rows)[1]


def test_past_the_gate_a_leak_is_measured_marked_and_not_advised_for_privacy() -> None:
    study = study_of(("vae", "gan"), per_class=(10,), past=True)
    rows, pairs = told(study, table_of(study, ranked({"vae": 0, "gan": 1}, auc=0.2), p=lambda _, cell: 0.001 if cell.family == "vae" else 0.5))
    found = {a["case"]: a for a in card.advice(study, rows, pairs)}
    assert found["privacy"]["families"] == ["gan"] and found["privacy"]["code"] == "alone"
    assert found["utility"]["families"] == ["vae"] and "leaks" in found["utility"]["warnings"]


def test_an_attack_above_chance_over_the_replicates_is_a_doubt_and_no_advice_where_privacy_matters() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    rows, pairs = told(study, table_of(study, lambda axis, cell: 0.6 if (axis, cell.family) == ("privacy", "vae") else 0.4))
    assert [(r["gate"]["state"], r["gate"]["above_chance"], r["state"]) for r in rows] == [
        ("no leak found", True, "measured"), ("no leak found", False, "measured"),
    ]  # fmt: skip
    assert next(a for a in card.advice(study, rows, pairs) if a["case"] == "privacy")["families"] == ["gan"]


# advice ---------------------------------------------------------------------------------------------------------------


def test_each_use_case_has_its_own_order() -> None:
    study = study_of(("vae", "diffusion"), per_class=(10,), own={"diversity": 1.0})

    def value(axis: str, cell: Cell) -> float:
        best = {"privacy": "vae", "efficiency": "vae", "utility": "diffusion", "robustness": "diffusion", "fidelity": "diffusion", "diversity": "diffusion"}
        return ranked({"vae": 0, "diffusion": 1} if best[axis] == "vae" else {"vae": 1, "diffusion": 0}, auc=0.2)(axis, cell)

    rows, pairs = told(study, table_of(study, value))
    found = {a["case"]: a["families"] for a in card.advice(study, rows, pairs)}
    assert found["speed"] == ["vae"] and found["utility"] == found["own"] == ["diffusion"]
    assert found["privacy"] == ["diffusion"], "no attack is above chance, so neither is more private, and all else decides"
    tied = [{**p, "better": "vae"} if p["axis"] == "privacy" else p for p in pairs]
    (privacy,) = [a["families"] for a in card.advice(study, rows, tied) if a["case"] == "privacy"]
    assert privacy == ["vae", "diffusion"], "0.5 of privacy against 0.5 of all else: the rule does not part them"


def test_families_that_cannot_be_told_apart_are_advised_together() -> None:
    study = study_of(per_class=(10,))
    rows, pairs = told(study, table_of(study, lambda axis, cell: 0.2, seed=3))  # on every axis, so there is a gain
    for a in card.advice(study, rows, pairs):
        assert a["code"] in ("all_tied", "tied", "one") and a["families"]
    flat = [{**p, "better": None} for p in pairs]
    assert {a["code"] for a in card.advice(study, rows, flat)} == {"all_tied"}


def test_what_surely_hurts_is_named_and_never_advised() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    rows, pairs = told(study, table_of(study, lambda axis, cell: (-0.1 if cell.family == "vae" else 0.1) if axis == "utility" else 0.3))
    assert [r["hurts"] for r in rows] == [True, False] and rows[0]["axes"]["utility"]["high"] < 0
    assert all(a["families"] == ["gan"] for a in card.advice(study, rows, pairs))
    both, both_pairs = told(study, table_of(study, lambda axis, cell: -0.1 if axis == "utility" else 0.3))
    assert {a["code"] for a in card.advice(study, both, both_pairs)} == {"none_private", "all_hurt"}
    assert "hurt: vae at 10, gan at 10" in card.summary(study, both)[1]


def test_what_measured_worse_is_not_advised_however_wide_its_interval() -> None:
    """Each family's three replicates lie far apart around a loss of 3 points: nothing is sure, and nothing is advised."""
    study = study_of(("vae", "gan"), per_class=(10,), seeds=3)
    rows, pairs = told(study, table_of(study, lambda axis, cell: -0.03 + 0.3 * (cell.replicate - 1) if axis == "utility" else 0.3))
    assert not any(r["hurts"] for r in rows) and all(r["axes"]["utility"]["value"] < 0 for r in rows)
    assert all(a["code"] in ("below", "none_private") and not a["families"] for a in card.advice(study, rows, pairs))


def test_advice_without_a_sure_gain_says_so() -> None:
    study = study_of(("vae", "gan"), per_class=(10,))
    rows, pairs = told(study, table_of(study, lambda axis, cell: 0.0, spread=0.05))
    found = {a["case"]: a for a in card.advice(study, rows, pairs)}
    assert found["utility"]["code"] == "no_gain" and not found["utility"]["families"]
    assert all("no_gain" in a["warnings"] for a in found.values() if a["families"])
    rows, pairs = told(study, table_of(study, lambda axis, cell: 0.2))
    assert all("no_gain" not in a["warnings"] for a in card.advice(study, rows, pairs) if a["families"])


def test_a_dominated_family_is_not_advised_though_it_surely_beats_more_of_the_others() -> None:
    """The GAN is the best on the only axis and so noisy that it surely beats the VAE alone, which surely beats the other four."""
    study = study_of(("gan", "vae", "a", "b", "c", "d"), per_class=(10,), axes=("fidelity",), own={"fidelity": 1.0})
    values = {"gan": 0.1, "vae": 0.2}
    rows, pairs = told(study, table_of(study, lambda _, cell: values.get(cell.family, 0.5)))
    pairs = [{**p, "better": None} if p["a"] == "gan" and p["b"] != "vae" else p for p in pairs]
    own = next(a for a in card.advice(study, rows, pairs) if a["case"] == "own")
    assert own["marks"]["vae"] > own["marks"]["gan"] and own["families"] == ["gan"] and own["code"] == "one" and "dominated" not in own["warnings"]


def test_a_dominated_family_is_advised_with_a_word_where_what_dominates_it_is_left_out() -> None:
    study = study_of(("vae", "gan"), per_class=(10,), past=True)
    rows, pairs = told(study, table_of(study, ranked({"vae": 0, "gan": 1}), p=lambda _, cell: 0.001 if cell.family == "vae" else 0.5))
    rows = [{**r, "gate": {**r["gate"], "above_chance": False}} for r in rows]
    found = {a["case"]: a for a in card.advice(study, rows, pairs)}
    assert found["privacy"]["families"] == ["gan"] and "dominated" in found["privacy"]["warnings"]
    assert found["utility"]["families"] == ["vae"] and "dominated" not in found["utility"]["warnings"]
    assert "dominated by a family that is left out here" in "\n".join(card.lines({"fronts": ca.fronts(study, rows, pairs), "advice": list(found.values())}))


def test_a_use_whose_axes_were_not_asked_for_gets_no_advice() -> None:
    study = study_of(("vae", "gan"), per_class=(10,), axes=("privacy", "fidelity"))
    rows, pairs = told(study, table_of(study, ranked({"vae": 0, "gan": 1}, auc=0.2)))
    found = {a["case"]: a for a in card.advice(study, rows, pairs)}
    assert found["utility"]["code"] == found["speed"]["code"] == "unasked" and not found["utility"]["families"]
    assert found["privacy"]["families"] == ["vae"] and found["privacy"]["unused"] == ["utility", "diversity"]


def test_advice_without_the_utility_axis_says_that_harm_is_unknown() -> None:
    study = study_of(("vae", "gan"), per_class=(10,), axes=("privacy", "efficiency"))
    rows, pairs = told(study, table_of(study, ranked({"vae": 0, "gan": 1}, auc=0.2)))
    advised = [a for a in card.advice(study, rows, pairs) if a["families"]]
    assert len(advised) == 2 and all(a["warnings"] == ["harm_unknown"] for a in advised)
    assert "harm unknown: utility was not measured" in "\n".join(card.lines({"fronts": ca.fronts(study, rows, pairs), "advice": advised}))
    whole = study_of(("vae", "gan"), per_class=(10,))
    rows, pairs = told(whole, table_of(whole, ranked({"vae": 0, "gan": 1}, auc=0.2)))
    assert not any("harm_unknown" in a["warnings"] for a in card.advice(whole, rows, pairs))


def test_the_words_of_the_command_line_know_every_code() -> None:
    study = study_of()
    rows, pairs = told(study, table_of(study, ranked({"diffusion": 0, "gan": 1, "vae": 2})))
    found = {"fronts": ca.fronts(study, rows, pairs), "advice": card.advice(study, rows, pairs)}
    text = "\n".join(card.lines(found))
    assert "10 a class: not dominated diffusion; dominated vae (by gan), gan (by diffusion)" in text and "utility  diffusion" in text


# the published ordering -----------------------------------------------------------------------------------------------


def claims(study: Study, table: Table) -> dict[str, str]:
    return {c["claim"] + (f" {c['family']}" if c["claim"] == "memorisation" else ""): c["said"] for c in card.published(study, table, ca.pairs(study, table))}


def test_the_published_ordering_holds_where_it_surely_does() -> None:
    study = study_of()
    fast = {"vae": 9000.0, "gan": 5000.0, "diffusion": 100.0}
    auc = {10: 0.8, 50: 0.6}
    values = ranked({"diffusion": 0, "gan": 1, "vae": 2})
    table = table_of(study, lambda axis, cell: auc[cell.n] if axis == "privacy" else values(axis, cell), rate=lambda _, cell: fast[cell.family])
    assert claims(study, table) == {
        "fidelity": "holds", "diversity": "holds", "speed": "holds", **{f"memorisation {f}": "holds" for f in ("vae", "gan", "diffusion")},
    }  # fmt: skip
    slope = next(c for c in card.published(study, table, []) if c["claim"] == "memorisation")["slope"]
    assert slope["value"] == pytest.approx(-0.2 / np.log(5), abs=0.01)


def test_the_published_ordering_fails_where_another_surely_leads() -> None:
    study = study_of()
    slow = {"vae": 50.0, "gan": 5000.0, "diffusion": 100.0}
    auc = {10: 0.5, 50: 0.7}
    values = ranked({"diffusion": 2, "gan": 0, "vae": 1})
    table = table_of(study, lambda axis, cell: auc[cell.n] if axis == "privacy" else values(axis, cell), rate=lambda _, cell: slow[cell.family])
    assert set(claims(study, table).values()) == {"does not hold"}


def test_the_published_ordering_is_open_where_nothing_is_sure_and_unasked_where_a_family_is_missing() -> None:
    study = study_of()
    table = table_of(study, lambda axis, cell: 0.6, spread=0.0, rate=lambda _, cell: 100.0)
    assert set(claims(study, table).values()) == {"cannot tell"}
    alone = study_of(("gaussian", "folder:elsewhere/"), axes=("fidelity",))
    assert set(claims(alone, table_of(alone, lambda axis, cell: 0.2)).values()) == {"not asked"}


def test_one_number_of_images_that_is_open_leaves_the_whole_open() -> None:
    study = study_of(("vae", "diffusion"))
    values = ranked({"diffusion": 0, "vae": 1})
    table = table_of(study, lambda axis, cell: values(axis, cell) if cell.n == 10 else 0.2, spread=0.0001)
    for cell in cells_of(study):
        if cell.n == 50:
            table.put("fidelity", cell, 0.2)
    (fidelity,) = [c for c in card.published(study, table, ca.pairs(study, table)) if c["claim"] == "fidelity"]
    assert fidelity["where"] == {"10": "holds", "50": "cannot tell"} and fidelity["said"] == "cannot tell"


# times --------------------------------------------------------------------------------------------------------------


def test_times_are_compared_as_ratios_with_geometric_means() -> None:
    study = study_of(("vae", "vae epsilon=8"), per_class=(10,), axes=("efficiency",), seeds=4)
    table = table_of(study, lambda axis, cell: np.log(8.0 if "epsilon" in cell.family else 2.0) + cell.replicate, spread=0.02)
    rows, (pair,) = told(study, table)
    assert rows[0]["axes"]["efficiency"]["value"] == pytest.approx(2 * np.exp(1.5), rel=0.03)
    assert rows[0]["axes"]["efficiency"]["low"] > 0 and pair["better"] == "vae"
    assert (pair["low"], pair["value"], pair["high"]) == pytest.approx((0.25, 0.25, 0.25), rel=0.15) and pair["low"] < pair["value"] < pair["high"]
    (price,) = card.prices(study, rows, [pair])
    assert price["value"] == pytest.approx(4, rel=0.05) and price["low"] == pytest.approx(1 / pair["high"]) and price["high"] == pytest.approx(1 / pair["low"])


# the price of privacy, the parts of the spread ------------------------------------------------------------------------


def test_the_price_of_epsilon_is_the_private_family_less_the_plain_one() -> None:
    study = study_of(("vae", "vae epsilon=8"), per_class=(10,))
    rows, pairs = told(study, table_of(study, lambda axis, cell: 0.3 - 0.2 * ("epsilon" in cell.family)))
    (price,) = [p for p in card.prices(study, rows, pairs) if p["axis"] == "utility"]
    assert price["family"] == "vae epsilon=8" and price["of"] == "vae" and price["value"] == pytest.approx(-0.2, abs=0.02)
    assert price["low"] < price["value"] < price["high"] < 0 and price["better"] == "vae"


def test_the_spread_of_a_known_table_is_taken_apart() -> None:
    study = study_of(("vae",), per_class=(10,), seeds=40, fits=3, axes=("utility",))
    rng, table = np.random.default_rng(0), Table()
    data, fits = rng.normal(size=40), 0.5 * rng.normal(size=(40, 3))
    for cell in cells_of(study):
        table.put("utility", cell, data[cell.replicate] + fits[cell.replicate, cell.fit] + 0.25 * rng.normal(size=(4, 1)) + np.zeros((4, IMAGES)))
    parts = ca.spread(study, table, "utility", ("vae", 10))
    assert [p["sources"] for p in parts] == [["data"], ["generator"], ["classifier"]]
    assert [p["variance"] for p in parts] == pytest.approx([data.var(ddof=1), 0.25, 0.0625], rel=0.3)


def test_without_second_fits_data_and_generator_are_one_part() -> None:
    study = study_of(("vae",), per_class=(10,))
    rows, _ = told(study, table_of(study, lambda axis, cell: 0.2))
    assert [p["sources"] for p in rows[0]["spread"]["utility"]] == [["data", "generator"], ["classifier"]]
    assert [p["sources"] for p in rows[0]["spread"]["fidelity"]] == [["data", "generator"]]
