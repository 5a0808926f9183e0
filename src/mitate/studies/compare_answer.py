"""From the table of a comparison to its points, pairs and fronts: what each family scores at each number of images, and what can be told apart.

A *replicate* is a subset with its fits and trainings averaged. Numbers that are means over hold-out images (utility, robustness) vary with the
replicate and with the images, so their intervals are two-way; all others are told for these hold-out images, by Student's t over replicates. With
fewer than three replicates there is no interval, and nothing can be told. Subsets of one pool share images, so all intervals are for this pool: a point
says how much wider they could be for another one (`pool_of`).

Families are compared within the same subsets: paired differences. Of two attacks below chance neither is the better result: one family is more
private than another only where the other's own attack is surely above chance too. One is *dominated* only where another one is surely better on every axis that
either was measured on. Each axis is its own 95 % interval, and all must agree, so no correction for their number is due (an intersection-union
test, Berger 1982); over many families and numbers of images a false "dominated" is rarer still, a missed one is common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from mitate.metrics.components import SOURCES, components
from mitate.metrics.intervals import Interval, quantile_t, two_way
from mitate.studies.compare_cells import Cell
from mitate.studies.compare_planning import LEAST_INTERVAL
from mitate.studies.compare_table import BESIDE, HEADLINES, Table
from mitate.study import Study

CONFIDENCE = 0.95
GATE_P = (1 - CONFIDENCE) / 2  # one-sided: what the low end of an interval leaves out
SHARES = ("membership_ratio_auc", "membership_loss_auc", "nearer_to_train", "copies", "coverage", "precision", "recall", "trained_on_synthetic", "real_alone")
WITHIN = {  # what a metric can be
    **dict.fromkeys(SHARES, (0.0, 1.0)), **dict.fromkeys(("gain", "robust_gain", "corrupted_gain"), (-1.0, 1.0)),
    **dict.fromkeys(("training_seconds", "images_per_second", "density", "frechet", "vendi"), (0.0, math.inf)),
}  # fmt: skip
TRAINED = ("utility", "robustness")  # axes with a classifier in them
LOGGED = ("efficiency",)  # axes whose differences are ratios: means are geometric, intervals those of the logarithm
CHANCE = 0.5  # AUC of an attack that guesses
Point = tuple[str, int]


def leaking(study: Study, table: Table) -> dict[Point, dict[str, Any]]:
    """Of each point what the gate says: `leaks`, `no leak found` or `not measured`, and how many of its cells leak by themselves.

    A point leaks where the smallest p of its cells, times their number (Bonferroni), is at most 0.025.
    """
    found: dict[Point, dict[str, Any]] = {}
    for point in points_of(study):
        verdicts = [v for cell, v in table.verdicts.items() if cell.point == point]
        told = [v for v in verdicts if v["p"] is not None]
        if not told:
            why = str(verdicts[0]["why"]) if verdicts else "privacy is not among the axes"
            found[point] = {"state": "not measured", "why": why, "p": None, "attack": "", "cells": 0, "of": len(verdicts)}
            continue
        worst = min(told, key=lambda v: v["p"])
        p = min(1.0, len(told) * worst["p"])
        leaks = sum(v["state"] == "leaks" for v in told)
        state = "leaks" if p <= GATE_P else "no leak found"
        found[point] = {"state": state, "why": worst["why"], "p": p, "attack": worst["attack"], "cells": leaks, "of": len(verdicts)}
    return found


def points_of(study: Study) -> list[Point]:
    """Every family at every number of images."""
    return [(family, n) for family in study.sizes["families"] for n in study.sizes["per_class"]]


def rows(study: Study, table: Table, leaks: Mapping[Point, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A record of every point: its gate, each axis with its interval, what stands beside, where synthetic images hurt, and the parts of the spread."""
    found = []
    for family, n in points_of(study):
        gate = {**leaks[family, n], "above_chance": above_chance(study, table, (family, n))}
        stopped = gate["state"] == "leaks" and not study.sizes["past_the_gate"]
        facts = study.sizes["families"][family]
        axes = {axis: _axis(study, table, axis, (family, n), stopped=stopped) for axis in study.sizes["axes"]}
        beside = {
            metric: _record(within(metric, interval(values)))
            for axis in study.sizes["axes"] for metric in BESIDE[axis]
            if (values := beside_of(study, table, metric, (family, n))) is not None
        }  # fmt: skip
        gain = axes.get("utility", {})
        found.append({
            "family": family, "n": n, "kind": facts["kind"], "epsilon": facts["epsilon"] or None, "state": "stopped at the gate" if stopped else "measured",
            "gate": gate, "promise": next((dict(p) for cell, p in table.promises.items() if cell.point == (family, n)), None),
            "images": study.sizes["subsets"][str(n)]["images"], "pool": pool_of(study, n), "axes": axes, "beside": beside,
            "hurts": gain.get("high") is not None and gain["high"] < 0,
            "spread": {axis: parts for axis in study.sizes["axes"] if (parts := spread(study, table, axis, (family, n)))},
        })  # fmt: skip
    return found


def pool_of(study: Study, n: int) -> dict[str, float | None]:
    """`shared`: the share of its images that a subset has in common with another one. `wider`: how many times as wide an interval would be at most that
    holds for another pool; None with too few subsets for an interval, or where all are the same.

    Where a number is a mean of what images add to it, and nothing else varies, replicates correlate by `shared` = s. Then the variance of their mean is
    1 / R + s / (1 - s) times the variance between them, and not 1 / R (the form of Nadeau & Bengio 2003). What fits and trainings add is
    not shared and needs no widening, so this is the most.
    """
    shared, replicates = study.sizes["subsets"][str(n)]["shared"], study.sizes["seeds"]
    untold = shared is None or shared >= 1 or replicates < LEAST_INTERVAL
    return {"shared": shared, "wider": None if untold else math.sqrt(1 + replicates * shared / (1 - shared))}


def pairs(study: Study, table: Table) -> list[dict[str, Any]]:
    """Paired differences of every two families on every axis at every number of images, first less second, or of times first over second; `better`
    names the surely better one. On privacy nobody is better than one whose attack is not surely above chance."""
    families, found = list(study.sizes["families"]), []
    for n in study.sizes["per_class"]:
        for axis in study.sizes["axes"]:
            for i, a in enumerate(families):
                for b in families[i + 1 :]:
                    apart = paired(study, table, axis, (a, n), (b, n))
                    if apart is not None:
                        record = _record(apart)
                        better = _better(record, a, b, lower=HEADLINES[axis].better == "lower")
                        if axis == "privacy" and better is not None and not above_chance(study, table, (b if better == a else a, n)):
                            better = None
                        found.append({"n": n, "axis": axis, "a": a, "b": b, **_unlogged(record, axis), "better": better})
    return found


def fronts(study: Study, found: Sequence[Mapping[str, Any]], paired_rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By number of images, the families that no other one dominates, and those that one does. found: `rows`; those stopped at the gate are in neither."""
    fronts_found = []
    for n in study.sizes["per_class"]:
        over = dominators([r for r in found if r["n"] == n], paired_rows)
        dominated = [{"family": family, "by": others[0]} for family, others in over.items() if others]
        fronts_found.append({"n": n, "front": [f for f, others in over.items() if not others], "dominated": dominated})
    return fronts_found


def dominators(here: Sequence[Mapping[str, Any]], paired_rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Of each family measured at one number of images, those that dominate it. here: the `rows` of that number."""
    measured = {r["family"]: {a for a, v in r["axes"].items() if v["value"] is not None} for r in here if r["state"] == "measured"}
    told = {(p["axis"], frozenset((p["a"], p["b"]))): p["better"] for p in paired_rows if here and p["n"] == here[0]["n"]}

    def dominates(other: str, family: str) -> bool:
        axes = measured[family] | measured[other]
        return other != family and bool(axes) and all(told.get((axis, frozenset((family, other)))) == other for axis in axes)

    return {family: [other for other in measured if dominates(other, family)] for family in measured}


# replicates -----------------------------------------------------------------------------------------------------------


def headline_of(study: Study, table: Table, axis: str, point: Point) -> np.ndarray | None:
    """Float64 [replicates, images], or [replicates, 1]: fits and trainings averaged; of times the logarithm. None where not every cell has a number."""
    cells = table.headline.get(axis, {})
    mine = [[cells.get(Cell(*point, r, f)) for f in range(study.sizes["fits"])] for r in range(study.sizes["seeds"])]
    if any(values is None for fits in mine for values in fits):
        return None
    change = np.log if axis in LOGGED else np.asarray
    return np.stack([np.mean([change(values).mean(axis=0) for values in fits if values is not None], axis=0) for fits in mine])


def beside_of(study: Study, table: Table, metric: str, point: Point) -> np.ndarray | None:
    """The same of a measure that stands beside, [replicates, 1]."""
    cells = table.beside.get(metric, {})
    mine = [[cells.get(Cell(*point, r, f), np.nan) for f in range(study.sizes["fits"])] for r in range(study.sizes["seeds"])]
    found = np.mean(mine, axis=1, keepdims=True)
    return found if np.isfinite(found).all() else None


def interval(values: np.ndarray, *, groups: np.ndarray | None = None) -> Interval:
    """The mean over replicates [replicates, images or 1] with its 95 % interval; of no width with fewer than three replicates."""
    mean, n = float(values.mean()), len(values)
    if n < LEAST_INTERVAL:
        return Interval(mean, mean, mean, n)
    if values.shape[1] == 1:
        half = quantile_t(0.5 + CONFIDENCE / 2, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
        return Interval(mean, mean - half, mean + half, n)
    found = two_way(values, confidence=CONFIDENCE, groups=groups)
    return Interval(found.value, found.low, found.high, n)


def within(metric: str, found: Interval) -> Interval:
    """The interval cut to what the metric can be."""
    low, high = WITHIN.get(metric, (-math.inf, math.inf))
    return replace(found, low=max(low, found.low), high=min(high, found.high))


def paired(study: Study, table: Table, axis: str, a: Point, b: Point) -> Interval | None:
    """The interval of a less b within the same replicates; None where either was not measured."""
    one, two = (headline_of(study, table, axis, point) for point in (a, b))
    return None if one is None or two is None else interval(one - two, groups=_groups(table, axis))


def spread(study: Study, table: Table, axis: str, point: Point) -> list[dict[str, Any]]:
    """What the spread of an axis (of times: of their logarithm) over the cells of a point comes from; empty with one subset, or a cell without a number."""
    sizes, cells = study.sizes, table.headline.get(axis, {})
    mine = [[cells.get(Cell(*point, r, f)) for f in range(sizes["fits"])] for r in range(sizes["seeds"])]
    if sizes["seeds"] < 2 or any(values is None for fits in mine for values in fits):
        return []
    change = np.log if axis in LOGGED else np.asarray
    cube = np.array([[change(values).mean(axis=1) for values in fits if values is not None] for fits in mine])  # [subsets, fits, trainings]
    found = components(cube) if axis in TRAINED else components(cube[:, :, 0], SOURCES[:2])
    return [{**asdict(part), "sources": list(part.sources), "sd": part.sd} for part in found]


def _axis(study: Study, table: Table, axis: str, point: Point, *, stopped: bool) -> dict[str, Any]:
    values = headline_of(study, table, axis, point)
    metric = HEADLINES[axis].name
    if values is None:
        told = (why for (cell, on), why in table.whys.items() if cell.point == point and on == axis)
        why = "stopped at the gate" if stopped and axis != "privacy" else next(told, "not every cell has a number")
        return {"metric": metric, "value": None, "low": None, "high": None, "replicates": None, "floor": None, "why": why}
    record = _unlogged(_record(within(metric, interval(values, groups=_groups(table, axis)))), axis)
    floor = table.floors.get(metric) if axis in ("fidelity", "diversity") else {"privacy": CHANCE, "utility": 0.0, "robustness": 0.0}.get(axis)
    return {"metric": metric, **record, "floor": floor, "why": ""}


def above_chance(study: Study, table: Table, point: Point) -> bool:
    """Whether the attack's interval over replicates lies above chance. They share a hold-out, whose luck it does not hold, so it warns and does not stop."""
    values = headline_of(study, table, "privacy", point)
    found = None if values is None else interval(values)
    return found is not None and found.high > found.low > CHANCE


def _groups(table: Table, axis: str) -> np.ndarray | None:
    return {"utility": table.groups, "robustness": table.tried_groups}.get(axis)


def _record(found: Interval) -> dict[str, Any]:
    """Value, ends and replicates; an interval of no width is none."""
    spanned = found.high > found.low
    return {"value": found.value, "low": found.low if spanned else None, "high": found.high if spanned else None, "replicates": found.n}


def _unlogged(record: Mapping[str, Any], axis: str) -> dict[str, Any]:
    """The record with its logarithms turned back, where it holds any."""
    ends = ("value", "low", "high") if axis in LOGGED else ()
    return {key: math.exp(v) if key in ends and v is not None else v for key, v in record.items()}


def _better(record: Mapping[str, Any], a: str, b: str, *, lower: bool) -> str | None:
    if record["low"] is None or record["low"] <= 0 <= record["high"]:
        return None
    return a if (record["value"] < 0) == lower else b
