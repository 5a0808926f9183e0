"""The report of a comparison: what the template asks for, made from compare.json and the other files of the run.

The card comes first: who should take what, by use case and number of images. Families are never put into one league table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from mitate.report import charts
from mitate.report.arms import Plot
from mitate.report.axis import title
from mitate.report.compare_rows import Advice, Case, Cell, Point
from mitate.report.measure import POINTS, SECONDS, SHARE, Measures, unit_of
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_flat, say_p, say_share, say_signed
from mitate.report.record import Record
from mitate.report.scarcity import Line, Place, scarcity

AXES = ("privacy", "fidelity", "diversity", "utility", "robustness", "efficiency")
DIRECTIONS = {"privacy": "lower", "fidelity": "lower", "efficiency": "lower", "diversity": "higher", "utility": "higher", "robustness": "higher"}
SAID_TONES = {"holds": "ok", "does not hold": "bad"}


class ComparePage(Record, Measures):
    """What the template of a comparison asks for."""

    @cached_property
    def points(self) -> list[dict[str, Any]]:
        return [as_mapping(row) for row in as_list(self.decision.get("points"))]

    @cached_property
    def families(self) -> list[str]:
        return list(dict.fromkeys(str(row.get("family")) for row in self.points))

    @cached_property
    def axes(self) -> list[str]:
        named = as_mapping(self.decision.get("axes"))
        return [axis for axis in AXES if axis in named]

    @cached_property
    def sizes_of(self) -> dict[str, Any]:
        return as_mapping(self.study.get("sizes"))

    def _at(self, n: Any) -> str:
        return self.w("compare.at", n=say_count(as_number(n)))

    def axis_name(self, axis: str) -> str:
        return self.w.get(f"axis.{axis}", axis)

    # the first screen -------------------------------------------------------------------------------------------------

    @cached_property
    def outcome(self) -> str:
        """stopped: nothing passed the gate; few: too few replicates; one: one family for every use; level: nothing told apart; mixed."""
        if self.decision.get("verdict") == "stopped at the gate":
            return "stopped"
        codes = {str(a.get("code")) for a in self._told_advice}
        if "too_few" in codes:
            return "few"
        advised = {tuple(as_list(a.get("families"))) for a in self._told_advice}
        if not any(advised):
            return "none"
        if len(advised) == 1 and len(next(iter(advised))) == 1:
            return "one"
        return "level" if codes <= {"all_tied"} else "mixed"

    @cached_property
    def _told_advice(self) -> list[dict[str, Any]]:
        return [as_mapping(a) for a in as_list(self.decision.get("advice"))]

    @cached_property
    def tone(self) -> str:
        return {"stopped": "stop", "none": "stop", "one": "go"}.get(self.outcome, "more")

    @property
    def badge(self) -> str:
        return self.w(f"compare.badge.{self.outcome}")

    @property
    def headline(self) -> str:
        one = next((as_list(a.get("families"))[0] for a in self._told_advice if as_list(a.get("families"))), "")
        return self.w(f"compare.headline.{self.outcome}", **({"family": str(one)} if self.outcome == "one" else {}))

    @property
    def reasons(self) -> list[str]:
        counts = {"families": say_count(len(self.families)), "numbers": self._join(self._numbers), "seeds": say_count(as_number(self.sizes_of.get("seeds")))}
        found = [self.w("compare.asked", **counts)]
        found += [self.w("compare.helps", where=where)] if (where := self._where(self._helping)) else []
        return found

    @property
    def cautions(self) -> list[str]:
        leaks = self._where([row for row in self.points if as_mapping(row.get("gate")).get("state") == "leaks"])
        hurts = self._where([row for row in self.points if row.get("hurts") is True])
        kept = self.sizes_of.get("past_the_gate") is True
        found = [self.w("compare.leaks_kept" if kept else "compare.leaks", where=leaks)] if leaks else []
        return found + ([self.w("compare.hurts", where=hurts)] if hurts else [])

    @property
    def _numbers(self) -> list[str]:
        return [say_count(as_number(n)) for n in as_list(self.sizes_of.get("per_class"))]

    @property
    def _helping(self) -> list[dict[str, Any]]:
        return [row for row in self.points if (as_number(self._axis(row, "utility").get("low")) or 0.0) > 0]

    def _where(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """`vae at 10, 25; gan at 10`."""
        by_family: dict[str, list[str]] = {}
        for row in rows:
            by_family.setdefault(str(row.get("family")), []).append(say_count(as_number(row.get("n"))))
        text = ""
        for family, ns in by_family.items():
            told = self.w("compare.family_at", family=family, numbers=self._join(ns))
            text = self.w("compare.and", a=text, b=told) if text else told
        return text

    def _axis(self, row: Mapping[str, Any], axis: str) -> dict[str, Any]:
        return as_mapping(as_mapping(row.get("axes")).get(axis))

    @property
    def next_steps(self) -> list[str]:
        steps = {"stopped": ["private", "more_images"], "few": ["seeds"], "none": ["more_images"], "level": ["seeds", "cheapest"]}.get(self.outcome, ["pilot"])
        return [self.w(f"compare.next.{step}") for step in steps]

    @property
    def meeting(self) -> list[str]:
        return [*self.reasons, *self.cautions, *(self.w("meeting.next", next=step) for step in self.next_steps)]

    # the card ---------------------------------------------------------------------------------------------------------

    @cached_property
    def cases(self) -> list[Case]:
        found = []
        for name in dict.fromkeys(str(a.get("case")) for a in self._told_advice):
            mine = [a for a in self._told_advice if a.get("case") == name]
            unused = set(as_list(mine[0].get("unused")))
            parts = [
                self.w("compare.weight_unused" if axis in unused else "compare.weight", axis=self.axis_name(axis), share=say_share(as_number(weight) or 0.0))
                for axis, weight in as_mapping(mine[0].get("weights")).items()
            ]
            found.append(Case(self.w(f"compare.case.{name}"), self._join(parts), tuple(self._advice(a) for a in mine)))
        return found

    def _advice(self, facts: Mapping[str, Any]) -> Advice:
        code = str(facts.get("code"))
        families = self._or([str(f) for f in as_list(facts.get("families"))])
        warnings = tuple(self.w(f"compare.warning.{name}") for name in as_list(facts.get("warnings")))
        tone = "unsure" if not families else "ok" if code in ("one", "alone") and not warnings else "unsure"
        return Advice(self._at(facts.get("n")), families or "–", self.w(f"compare.advice.{code}"), warnings, tone)

    @property
    def pools(self) -> list[str]:
        """How much subsets share at each number of images, and what that hides of another pool."""
        told = {row.get("n"): as_mapping(row.get("pool")) for row in self.points if as_number(as_mapping(row.get("pool")).get("shared")) is not None}
        return [self.w("list", a=self._at(n), b=self._pool(pool)) for n, pool in told.items()]

    def _pool(self, pool: Mapping[str, Any]) -> str:
        shared, wider = as_number(pool.get("shared")), as_number(pool.get("wider"))
        if shared is not None and shared >= 1:
            return self.w("compare.pool.same")
        told = say_share(round(shared or 0.0, 2))
        return self.w("compare.pool.shared", shared=told) if wider is None else self.w("compare.pool", shared=told, wider=f"{wider:.1f}")

    def _or(self, names: Sequence[str]) -> str:
        text = ""
        for name in names:
            text = self.w("compare.or", a=text, b=name) if text else name
        return text

    @property
    def fronts(self) -> list[tuple[str, str, str]]:
        """(number of images, not dominated, dominated)."""
        found = []
        for front in map(as_mapping, as_list(self.decision.get("fronts"))):
            out = self._join(self.w("compare.by", family=str(d.get("family")), by=str(d.get("by"))) for d in map(as_mapping, as_list(front.get("dominated"))))
            found.append((self._at(front.get("n")), self._join(map(str, as_list(front.get("front")))) or "–", out or self.w("compare.nobody")))
        return found

    # the axes ---------------------------------------------------------------------------------------------------------

    @cached_property
    def plots(self) -> list[Plot]:
        return [plot for axis in self.axes if (plot := self._plot_of(axis)) is not None]

    def _plot_of(self, axis: str) -> Plot | None:
        metric = self._metric(axis)
        scale = 100.0 if unit_of(metric) in (SHARE, POINTS) else 1.0
        lines, floor = [], None
        for family in self.families:
            places = []
            for row in (r for r in self.points if r.get("family") == family):
                facts = self._axis(row, axis)
                n, value, low, high = (as_number(facts.get(key)) if key != "n" else as_number(row.get("n")) for key in ("n", "value", "low", "high"))
                if n is None or value is None:
                    continue
                floor = as_number(facts.get("floor")) if floor is None else floor
                marked = as_mapping(row.get("gate")).get("state") == "leaks"
                places.append(Place(n, scale * value, None if low is None else scale * low, None if high is None else scale * high, marked))
            lines.append(Line(family, tuple(places)))
        if not any(line.places for line in lines):
            return None
        name = self.w("compare.plot", axis=title(self.axis_name(axis)), metric=self.metric_name(metric))
        told: dict[str, Any] = {
            "title": name, "across": self.w("compare.across"), "up": self._up(axis, metric), "logarithmic": axis == "efficiency",
            "floor": None if floor is None else scale * floor, "floor_label": self.w(f"compare.floor.{axis}"),
        }  # fmt: skip
        return Plot(name, scarcity(lines, width=460, **told), scarcity(lines, width=charts.NARROW, **told))

    def _metric(self, axis: str) -> str:
        return str(as_mapping(as_mapping(self.decision.get("axes")).get(axis)).get("metric") or axis)

    def _up(self, axis: str, metric: str) -> str:
        """What stands at the upright axis: the unit, and which way is better."""
        unit = {SHARE: "%", POINTS: self.w("unit.points"), SECONDS: self.w("dur.s", s="").strip()}.get(unit_of(metric))
        better = self.w(f"compare.{DIRECTIONS[axis]}")
        return better if unit is None else self.w("list", a=unit, b=better)

    @property
    def plot_note(self) -> str:
        return self.w("compare.plot_note", confidence=self.confidence)

    @cached_property
    def tables(self) -> list[tuple[str, list[Point]]]:
        """(family, its rows)."""
        return [(family, [self._point(row) for row in self.points if row.get("family") == family]) for family in self.families]

    def _point(self, row: Mapping[str, Any]) -> Point:
        gate = as_mapping(row.get("gate"))
        state = str(gate.get("state"))
        values = {"cells": say_count(as_number(gate.get("cells"))), "of": say_count(as_number(gate.get("of")))}
        p = as_number(gate.get("p"))
        said = self.w.get(f"compare.gate.{state}", state, {**values, "p": "" if p is None else say_p(p)})
        if row.get("state") != "measured":
            said = self.w("volume.sentences", a=said, b=self.w("compare.stopped"))
        doubt = state == "no leak found" and gate.get("above_chance") is True
        if doubt:
            said = self.w("volume.sentences", a=said, b=self.w("compare.above_chance"))
        return Point(
            say_count(as_number(row.get("n"))), self.w("count.images", n=say_count(as_number(row.get("images")))), said,
            "unsure" if doubt else {"leaks": "bad", "no leak found": "ok"}.get(state, "unsure"), tuple(self._cell(row, axis) for axis in self.axes),
        )  # fmt: skip

    def _cell(self, row: Mapping[str, Any], axis: str) -> Cell:
        facts, metric = self._axis(row, axis), self._metric(axis)
        if as_number(facts.get("value")) is None:
            return Cell(self.axis_name(axis), self.missing(self._reason(str(facts.get("why") or ""))), "", False)
        return Cell(self.axis_name(axis), self.say(metric, facts.get("value")), self._ends(metric, facts))

    def _ends(self, metric: str, facts: Mapping[str, Any]) -> str:
        """The interval; times are told whole at both ends."""
        ends = self._interval(facts)
        if ends is None or unit_of(metric) != SECONDS:
            return self._between(metric, facts.get("low"), facts.get("high"))
        return self.w("interval", low=self.duration(ends[0]), high=self.duration(ends[1]))

    def _reason(self, why: str) -> str:
        return self.w.get(f"said.{why}", self.translated(why))

    # where they hurt, what epsilon costs, what was published ----------------------------------------------------------

    @property
    def hurts(self) -> list[tuple[str, str, str, str]]:
        """(family, number of images, gain, interval)."""
        return [
            (str(h.get("family")), self._at(h.get("n")), self.say("gain", h.get("value")), self._between("gain", h.get("low"), h.get("high")))
            for h in map(as_mapping, as_list(self.decision.get("hurts")))
        ]

    @cached_property
    def prices_of_epsilon(self) -> list[tuple[str, str, list[Cell]]]:
        """(private family, number of images, what it differs by on each axis)."""
        found: dict[tuple[str, Any], list[Cell]] = {}
        for p in map(as_mapping, as_list(self.decision.get("prices"))):
            axis = str(p.get("axis"))
            span = self._span({"low": p.get("low"), "high": p.get("high")}, lambda v, axis=axis: self._change_of(axis, v))  # type: ignore[misc]
            low, high = as_number(p.get("low")), as_number(p.get("high"))
            if axis == "privacy" and low is not None and high is not None and not low <= 0 <= high and p.get("better") is None:
                span = self.w("list", a=span, b=self.w("compare.price.at_chance"))
            found.setdefault((str(p.get("family")), p.get("n")), []).append(Cell(self.axis_name(axis), self._change_of(axis, p.get("value")), span))
        return [(family, self._at(n), cells) for (family, n), cells in found.items()]

    def _change_of(self, axis: str, value: Any) -> str:
        """A difference on an axis with its sign, in its unit; of times, a ratio."""
        number, unit = as_number(value), unit_of(self._metric(axis))
        if number is None:
            return self.missing("")
        if unit == SECONDS:
            return f"× {say_digits(number)}"
        if unit in (SHARE, POINTS):
            return self.w("worth", number=say_signed(100 * number, places=2), unit=self.w("unit.points"))
        return say_signed(number)

    @property
    def promises(self) -> list[str]:
        found = {}
        for row in self.points:
            promise = as_mapping(row.get("promise"))
            if promise:
                n, epsilon, delta = as_number(row.get("n")), as_number(promise.get("epsilon")), as_number(promise.get("delta"))
                if None not in (n, epsilon, delta):
                    found[row.get("family"), n] = self.w(
                        "compare.promise", family=str(row.get("family")), n=say_count(n), epsilon=say_digits(epsilon or 0), delta=say_digits(delta or 0)
                    )
        return list(found.values())

    @property
    def published(self) -> list[tuple[str, str, str, str]]:
        """(claim, said, tone, where and by how much)."""
        found = []
        for claim in map(as_mapping, as_list(self.decision.get("published"))):
            said = str(claim.get("said"))
            name = self.w(f"compare.claim.{claim.get('claim')}", family=str(claim.get("family")))
            where = self._join(
                self.w("compare.claim_at", n=say_count(float(n)), said=self.w(f"compare.said.{one}")) for n, one in as_mapping(claim.get("where")).items()
            )
            slope = as_mapping(claim.get("slope"))
            if as_number(slope.get("value")) is not None:
                span = self._span(slope, lambda v: say_signed(100 * math.log(2) * v))
                value = say_signed(100 * math.log(2) * float(slope["value"]))
                where = self.w("compare.slope", value=value, span=span or self.w("assess.no_interval"))
            found.append((name, self.w(f"compare.said.{said}"), SAID_TONES.get(said, "unsure"), where))
        return found

    @cached_property
    def spreads(self) -> list[tuple[str, list[tuple[str, list[Cell]]]]]:
        """(family, rows of (number of images, parts of the spread of each axis))."""
        found: dict[str, list[tuple[str, list[Cell]]]] = {}
        for row in self.points:
            spread = as_mapping(row.get("spread"))
            if spread:
                cells = [self._parts_of(axis, as_list(spread.get(axis))) for axis in self.axes]
                found.setdefault(str(row.get("family")), []).append((say_count(as_number(row.get("n"))), cells))
        return list(found.items())

    def _parts_of(self, axis: str, parts: Sequence[Any]) -> Cell:
        told = [p for p in map(as_mapping, parts) if as_number(p.get("share")) is not None]
        if not told:
            return Cell(self.axis_name(axis), "–", "")
        total_variance = sum(as_number(p.get("variance")) or 0.0 for p in told)
        total = self._spread_of(axis, math.sqrt(total_variance))
        parts_told = self._join(
            self.w("compare.part", source=self.w(f"compare.source.{'+'.join(as_list(p.get('sources')))}"), share=say_share(round(float(p["share"]), 2)))
            for p in told
        )
        return Cell(self.axis_name(axis), total, parts_told if len(told) > 1 and total_variance else "")

    @property
    def spread_lead(self) -> str:
        one = as_number(self.sizes_of.get("fits")) == 1
        return self.w("volume.sentences", a=self.w("compare.spread.lead"), b=self.w("compare.spread.one_fit")) if one else self.w("compare.spread.lead")

    def _spread_of(self, axis: str, value: float) -> str:
        unit = unit_of(self._metric(axis))
        if unit == SECONDS:
            return f"×/÷ {say_digits(math.exp(value))}"
        number = say_digits(100 * value if unit in (SHARE, POINTS) else value)
        return f"± {self.w('worth', number=number, unit=self.w('unit.points'))}" if unit in (SHARE, POINTS) else f"± {number}"

    # the record -------------------------------------------------------------------------------------------------------

    @property
    def rules(self) -> list[tuple[str, str]]:
        """(rule, what it says), fixed before the run."""
        found = []
        for facts in map(as_mapping, as_list(self.study.get("gates"))):
            code = str(facts.get("rule_code") or facts.get("name"))
            found.append((self.w.get(f"compare.rule_name.{facts.get('name')}", code), self.w.get(f"compare.rule.{code}", str(facts.get("rule") or ""))))
        return found

    @property
    def limits(self) -> list[str]:
        keys = ["purchase", "confirm", "features", "many", "speed" if self._by_processor else "speed_clock"]
        keys += ["epsilon"] if any(row.get("epsilon") for row in self.points) else []
        told = as_mapping(self.sizes_of.get("subsets"))
        shared = [as_number(as_mapping(facts).get("shared")) for facts in told.values()]
        worst = max((s for s in shared if s is not None), default=None)
        pool = self.w("compare.limits.one_subset") if worst is None else self.w("compare.limits.pool", shared=say_share(round(worst, 2)))
        if any(as_number(as_mapping(row.get("pool")).get("wider")) is not None for row in self.points):
            pool = self.w("volume.sentences", a=pool, b=self.w("compare.limits.pool_wider"))
        values = {"features": say_flat(as_mapping(self.sizes_of.get("extractor"))) or self.w("missing.recorded")}
        found = [self.w.get(f"compare.limits.{key}", "", values) for key in keys]
        return [*found[:2], pool, *found[2:], *self._beside]

    @property
    def _by_processor(self) -> bool:
        """Whether times are the processor's: earlier versions, which did not keep how many jobs ran at once, took those of the clock."""
        return as_number(self.cost.get("workers")) is not None

    @property
    def _beside(self) -> list[str]:
        """How many jobs ran at once, and what was left to a fit."""
        workers, share = as_number(self.cost.get("workers")), as_number(self.cost.get("fit_core_share"))
        if workers is None or share is None or "efficiency" not in self.axes:
            return []
        return [self.w("compare.limits.workers", workers=say_count(workers), share=say_share(round(share, 2)))]

    @property
    def not_measured(self) -> list[tuple[str, str]]:
        rows: dict[str, str] = {}
        for facts in map(as_mapping, as_list(self.decision.get("not_measured"))):
            values = as_mapping(facts.get("what_values"))
            axes = self._join(self.axis_name(str(axis)) for axis in as_list(values.get("axes")))
            named = {"axes": axes, "family": str(values.get("family")), "n": say_count(as_number(values.get("n")))}
            what = self.w.get(f"what.{facts.get('what_code')}", self.w.get(f"said.{facts.get('what')}", str(facts.get("what") or "")), named)
            rows.setdefault(what, self._reason(str(facts.get("why") or "")) or self.w("missing.why"))
        rows.setdefault(self.w("missing.money"), self.w("cost.no_price"))
        return list(rows.items())

    def _generators(self) -> list[str]:
        return self.families

    @property
    def score_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """None: the tables hold every point, and scores.jsonl every cell."""
        return []

    @property
    def sizes(self) -> list[tuple[str, str]]:
        """What was fixed, without what the page tells elsewhere."""
        return [(str(k), say_flat(v)) for k, v in self.sizes_of.items() if v is not None and k not in ("families", "cases", "subsets")]

    @property
    def settings_of(self) -> list[tuple[str, str]]:
        """(family, its settings at the largest number of images)."""
        found = []
        for name, facts in as_mapping(self.sizes_of.get("families")).items():
            options = as_mapping(as_mapping(facts).get("options"))
            found.append((str(name), say_flat(as_mapping(list(options.values())[-1])) if options else self.w("volume.elsewhere")))
        return found

    @property
    def glossary(self) -> list[tuple[str, str]]:
        texts = {"thousand_seconds": "assess.metric.thousand_seconds.text" if self._by_processor else "compare.clock.thousand_seconds"}
        rows = [(self.metric_name(metric), self.w.get(texts.get(metric, f"assess.metric.{metric}.text"), "")) for metric in map(self._metric, self.axes)]
        return rows + [(self.w(f"compare.term.{t}"), self.w(f"compare.term.{t}.text")) for t in ("replicate", "dominated", "gate", "paired")]
