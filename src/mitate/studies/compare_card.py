"""The card of a comparison: advice by use case at each number of images, the published ordering beside ours, and the price of privacy.

Never one league table. A use case has weights that were fixed before the run, and they order its own advice only: by the sum over axes of weight
times the share of the other families that a family surely beats, less the share that surely beats it. Units play no part in it, and what cannot
be told apart moves nothing. Families that stopped at the gate, or whose images surely hurt, are never advised; where utility comes first, only those
with a sure gain are; where privacy matters, none that leak, were not attacked, or whose attack lies above chance over the replicates. Of the families
that are left, one that another of them dominates is not advised: its sum can still be the largest, for it may surely beat more of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mitate.settings import plain
from mitate.studies.compare_answer import LEAST_INTERVAL, LOGGED, above_chance, beside_of, dominators, headline_of, interval
from mitate.studies.compare_cells import counted
from mitate.studies.compare_table import Table
from mitate.studies.spending import Prices
from mitate.study import Study

Rows = Sequence[Mapping[str, Any]]
SAID = {  # codes of advice, for the command line; the report has its own words
    "one": "ahead of the others", "alone": "the only one left", "tied": "not parted by the rule", "all_tied": "nothing parts any of them",
    "too_few": f"nothing can be told with fewer than {LEAST_INTERVAL} replicates", "none_private": "none: each leaks or was not attacked",
    "all_hurt": "none: synthetic images hurt", "none": "none was measured", "unasked": "none of its axes was asked for",
    "below": "none: what is left measured worse than real images alone", "no_gain": "no sure gain over real images alone", "leaks": "leaks: keep it inside",
    "dominated": "dominated by a family that is left out here", "harm_unknown": "harm unknown: utility was not measured",
}  # fmt: skip


def advice(study: Study, rows: Rows, pairs: Rows) -> list[dict[str, Any]]:
    """By use case and number of images: the families advised (several where the rule does not part them), and a code that says why."""
    return [_advice(study, case, dict(weights), n, rows, pairs) for case, weights in study.sizes["cases"].items() for n in study.sizes["per_class"]]


def _advice(study: Study, case: str, weights: Mapping[str, float], n: int, rows: Rows, pairs: Rows) -> dict[str, Any]:
    here = [r for r in rows if r["n"] == n]
    open_rows = [r for r in here if r["state"] == "measured" and not r["hurts"]]
    if case == "privacy":
        open_rows = [r for r in open_rows if r["gate"]["state"] == "no leak found" and not r["gate"]["above_chance"]]
    unused = [axis for axis in weights if axis not in study.sizes["axes"]]
    found: dict[str, Any] = {"case": case, "n": n, "weights": dict(weights), "unused": unused, "families": [], "marks": {}, "code": "", "warnings": []}
    if study.sizes["seeds"] < LEAST_INTERVAL:
        return {**found, "code": "too_few"}
    if len(unused) == len(weights):
        return {**found, "code": "unasked"}
    if not open_rows:
        return {**found, "code": "none_private" if case == "privacy" else "all_hurt" if any(r["hurts"] for r in here) else "none"}
    if "utility" in study.sizes["axes"]:  # a wide interval is no advice: what measured worse than real images alone is not named
        open_rows = [r for r in open_rows if (r["axes"].get("utility", {}).get("value") or 0.0) >= 0]
        if not open_rows:
            return {**found, "code": "below"}
    if case == "utility" and "utility" in study.sizes["axes"]:
        open_rows = [r for r in open_rows if (r["axes"]["utility"]["low"] or 0) > 0]
        if not open_rows:
            return {**found, "code": "no_gain"}
    names = [r["family"] for r in open_rows]
    marks = {name: _mark(name, names, weights, n, pairs) for name in names}
    over = dominators(here, pairs)
    front = [name for name in names if not set(over[name]) & set(names)]
    best = max(marks[name] for name in front)
    chosen = [name for name in front if marks[name] >= best - 1e-12]
    gains = [r["axes"].get("utility", {}) for r in open_rows if r["family"] in chosen]
    sure = any((gain.get("low") or 0) > 0 for gain in gains)
    warnings = ["harm_unknown"] if any(gain.get("value") is None for gain in gains) else [] if sure else ["no_gain"]
    if case != "privacy" and any(r["gate"]["state"] == "leaks" for r in open_rows if r["family"] in chosen):
        warnings.append("leaks")
    if any(over[name] for name in chosen):
        warnings.append("dominated")
    code = "alone" if len(names) == 1 else "one" if len(chosen) == 1 else "tied" if len(chosen) < len(names) else "all_tied"
    return {**found, "families": chosen, "marks": marks, "code": code, "warnings": warnings}


def _mark(family: str, names: Sequence[str], weights: Mapping[str, float], n: int, pairs: Rows) -> float:
    """Weighted share of the other open families that it surely beats less the share that surely beats it; 0 where it is alone."""
    others = len(names) - 1
    mark = 0.0
    for p in pairs:
        if p["n"] == n and p["better"] is not None and family in (p["a"], p["b"]) and p["a"] in names and p["b"] in names:
            mark += weights.get(p["axis"], 0.0) * (1 if p["better"] == family else -1) / others
    return mark


# the published ordering -----------------------------------------------------------------------------------------------


def published(study: Study, table: Table, pairs: Rows) -> list[dict[str, Any]]:
    """What the literature found (docs/compare.md names it) beside this table: `holds`, `does not hold`, `cannot tell` or `not asked`.

    fidelity, diversity: diffusion is best. speed: the VAE draws fastest. Each against every other of VAE, GAN and diffusion, fitted without
    epsilon: it holds where it surely leads all others at every number of images, and does not where one surely leads it at any. memorisation: the
    attack's AUC rises as images get fewer, by the slope over the logarithm of the number, for each family; a slope between attacks that are not surely
    above chance at its upper end is none of leaks.
    """
    by_kind = {f["kind"]: name for name, f in study.sizes["families"].items() if not f["epsilon"] and f["kind"] in ("vae", "gan", "diffusion")}
    found = [_leads(study, axis, by_kind, "diffusion", _on_axis(pairs, axis)) for axis in ("fidelity", "diversity")]
    found.append(_leads(study, "speed", by_kind, "vae", _by_rate(study, table, by_kind)))
    families = [name for name, f in study.sizes["families"].items() if f["kind"] != "folder" and not f["epsilon"]]
    return found + [_memorises(study, table, family) for family in families]


Better = Mapping[tuple[int, frozenset[str]], str | None]  # by number of images and pair: the surely better one; a pair that was not measured is missing


def _on_axis(pairs: Rows, axis: str) -> Better:
    return {(p["n"], frozenset((p["a"], p["b"]))): p["better"] for p in pairs if p["axis"] == axis}


def _by_rate(study: Study, table: Table, by_kind: Mapping[str, str]) -> Better:
    """Which family draws surely faster: paired differences of the logarithm of images a second."""
    names, found = list(by_kind.values()), {}
    for n in study.sizes["per_class"]:
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                one, two = (beside_of(study, table, "images_per_second", (name, n)) for name in (a, b))
                if one is not None and two is not None:
                    apart = interval(np.log(one) - np.log(two))
                    sure = apart.low < apart.high and not apart.low <= 0 <= apart.high
                    found[n, frozenset((a, b))] = (a if apart.value > 0 else b) if sure else None
    return found


def _leads(study: Study, claim: str, by_kind: Mapping[str, str], kind: str, better: Better) -> dict[str, Any]:
    mine, others = by_kind.get(kind), [name for k, name in by_kind.items() if k != kind]
    where = {}
    for n in study.sizes["per_class"]:
        told = [better[key] for other in others if (key := (n, frozenset((str(mine), other)))) in better]
        if mine is None or not others:
            continue
        lost = any(one is not None and one != mine for one in told)
        where[str(n)] = "does not hold" if lost else "holds" if len(told) == len(others) and all(one == mine for one in told) else "cannot tell"
    return {"claim": claim, "family": kind, "against": others, "said": _over(list(where.values())), "where": where, "slope": None}


def _over(said: Sequence[str]) -> str:
    if not said:
        return "not asked"
    return "does not hold" if "does not hold" in said else "holds" if set(said) == {"holds"} else "cannot tell"


def _memorises(study: Study, table: Table, family: str) -> dict[str, Any]:
    """The slope of the attack's AUC over ln(images a class), replicate by replicate: the subsets are nested."""
    sizes = study.sizes["per_class"]
    found: dict[str, Any] = {"claim": "memorisation", "family": family, "against": [], "said": "not asked", "where": {}, "slope": None}
    values = [headline_of(study, table, "privacy", (family, n)) for n in sizes] if "privacy" in study.sizes["axes"] else []
    if len(sizes) < 2 or not values:
        return found
    if any(v is None for v in values):
        return {**found, "said": "cannot tell"}
    auc = np.concatenate([v for v in values if v is not None], axis=1)  # [replicates, numbers of images]
    x = np.log(np.array(sizes, dtype=np.float64))
    slopes = interval(((auc - auc.mean(axis=1, keepdims=True)) @ (x - x.mean()) / ((x - x.mean()) ** 2).sum())[:, None])
    if not slopes.high > slopes.low:
        return {**found, "said": "cannot tell", "slope": {"value": slopes.value, "low": None, "high": None}}
    falls, rises = (slopes.high < 0, slopes.low > 0)
    sure = (falls or rises) and above_chance(study, table, (family, sizes[0] if falls else sizes[-1]))
    said = "cannot tell" if not sure else "holds" if falls else "does not hold"
    return {**found, "said": said, "slope": {"value": slopes.value, "low": slopes.low, "high": slopes.high}}


# the price of privacy -------------------------------------------------------------------------------------------------


def prices(study: Study, rows: Rows, pairs: Rows) -> list[dict[str, Any]]:
    """What epsilon costs: each private family less the same one without, or of times over it, on every axis at every number of images."""
    plain_of = {f["kind"]: name for name, f in study.sizes["families"].items() if not f["epsilon"]}
    found = []
    for name, facts in study.sizes["families"].items():
        if not facts["epsilon"]:
            continue
        other = plain_of[facts["kind"]]
        for p in pairs:
            if {p["a"], p["b"]} == {name, other}:
                value, low, high = (p[key] for key in ("value", "low", "high"))
                if p["a"] == other:  # the other way round
                    value, low, high = (v if v is None else 1 / v if p["axis"] in LOGGED else -v for v in (value, high, low))
                found.append({
                    "family": name, "of": other, "epsilon": facts["epsilon"], "n": p["n"], "axis": p["axis"], "value": value, "low": low, "high": high,
                    "better": p["better"],
                })  # fmt: skip
    return found


def priced(answer: Mapping[str, Any], kept: Prices) -> dict[str, Any]:
    """The answer with money by these prices; null where the machine has no price. Can be done again with other prices."""
    cost = dict(answer["cost"])
    money = None if kept.machine_price is None else cost["machine_seconds"] / 3600 * kept.machine_price
    return {**answer, "cost": {**cost, "money": None if money is None else {**plain(kept), "machine": money}}}


# what comes out -------------------------------------------------------------------------------------------------------


def summary(study: Study, rows: Rows) -> tuple[str, str]:
    """The outcome of the whole in a word, and a sentence for whoever reads no table."""
    stopped = [r for r in rows if r["state"] != "measured"]
    leaks = [r for r in rows if r["gate"]["state"] == "leaks"]
    hurts = [r for r in rows if r["hurts"]]
    helps = [r for r in rows if (r["axes"].get("utility", {}).get("low") or 0) > 0]
    families, numbers = len(study.sizes["families"]), len(study.sizes["per_class"])
    parts = [f"{counted(families, 'family')} at {counted(numbers, 'number')} of images, {counted(study.sizes['seeds'], 'subset')} each."]
    if study.sizes["seeds"] < LEAST_INTERVAL:
        parts.append(f"With fewer than {LEAST_INTERVAL} replicates nothing can be told apart.")
    if leaks:
        parts.append(f"Leaks: {_named(leaks)}" + ("; stopped at the gate." if stopped else "; measured all the same."))
    if hurts:
        parts.append(f"Synthetic images hurt: {_named(hurts)}.")
    if helps:
        parts.append(f"They help: {_named(helps)}.")
    return "stopped at the gate" if len(stopped) == len(rows) else "measured", " ".join(parts)


def _named(rows: Rows) -> str:
    by_family: dict[str, list[int]] = {}
    for r in rows:
        by_family.setdefault(r["family"], []).append(r["n"])
    return ", ".join(f"{family} at {' and '.join(map(str, ns))}" for family, ns in by_family.items())


def lines(answer: Mapping[str, Any]) -> list[str]:
    """The fronts and the advice as lines of text."""
    found = []
    for front in answer["fronts"]:
        n = front["n"]
        dominated = ", ".join(f"{d['family']} (by {d['by']})" for d in front["dominated"])
        found.append(f"{n} a class: not dominated {', '.join(front['front']) or 'none'}" + (f"; dominated {dominated}" if dominated else ""))
        for told in answer["advice"]:
            if told["n"] == n:
                said = " or ".join(told["families"]) or f"{'none: ' if told['code'] == 'no_gain' else ''}{SAID[told['code']]}"
                notes = [SAID[code] for code in (told["code"], *told["warnings"]) if code not in ("one", "alone") and SAID[code] not in said]
                found.append(f"  {told['case']:9}{said}" + (f" ({'; '.join(notes)})" if notes else ""))
    return found
