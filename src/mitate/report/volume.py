"""The report of a volume study: what the template asks for, made from volume.json and the other files of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from mitate.metrics.curves import LEAST_POINTS
from mitate.report import charts
from mitate.report.arms import Plot
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_p
from mitate.report.record import Record
from mitate.report.rules import Gate

TONES = {"saturated": "stop", "not saturated": "go", "not measured": "stop"}  # all others: more


@dataclass(frozen=True)
class Generator:
    """A generator as the page shows it; numbers are texts by now."""

    name: str
    badge: str
    tone: str
    reason: str
    hurts: str
    plot: Plot | None
    curve: list[str]
    points: list[tuple[str, str, str, str, str, str]]  # volume, score, its interval, gain, its interval, p
    steps: list[tuple[str, str, str, str, str, str, bool]]  # step, gain, its interval, per 100, its interval, cost, whether it decides


class VolumePage(Record):
    """What the template of a volume study asks for."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return [as_mapping(row) for row in as_list(self.decision.get("generators"))]

    @cached_property
    def measured(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row.get("verdict")]

    @cached_property
    def tone(self) -> str:
        verdict = str(self.decision["verdict"])
        return "more" if verdict == "not saturated" and not any(map(self._beyond_none, self.measured)) else TONES.get(verdict, "more")

    @property
    def badge(self) -> str:
        return self._badge(str(self.decision["verdict"]))

    def _badge(self, verdict: str) -> str:
        return self.w.get(f"volume.verdict.{verdict}", verdict)

    @property
    def headline(self) -> str:
        worst = {str(as_mapping(row.get("next_step")).get("code")) for row in self.measured}
        key = "do_not_use" if worst == {"do_not_use"} else str(self.decision["verdict"])
        if key == "not saturated" and self.tone == "more":
            key = "not_yet"
        return self.w.get(f"volume.headline.{key}", self.badge)

    @property
    def reasons(self) -> list[str]:
        return [self._reason(row) for row in self.rows]

    def _reason(self, row: Mapping[str, Any]) -> str:
        values = {"generator": row.get("name"), **as_mapping(row.get("reason_values"))}
        said = self.w.get(f"volume.reason.{row.get('reason_code')}", str(row.get("reason") or ""), self._values(values))
        total = self._total(row)
        if as_number(total.get("value")) is None:
            return said
        return self.w("volume.sentences", a=said, b=self.w.get("volume.over_none", "", self._values({"to": values.get("to"), **total})))

    def _beyond_none(self, row: Mapping[str, Any]) -> bool:
        """Whether the largest volume is surely better than no synthetic images: without that a green light would mislead."""
        return (as_number(self._total(row).get("low")) or 0.0) > 0

    def _total(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The gain of the largest volume over no synthetic images, as `gain`, low and high; empty where it was not measured."""
        points = as_list(row.get("points"))
        gain = as_mapping(as_mapping(points[-1]).get("gain")) if points else {}
        return {"value": gain.get("value"), "gain": gain.get("value"), "low": gain.get("low"), "high": gain.get("high")}

    @property
    def cautions(self) -> list[str]:
        return [text for row in self.measured if (text := self._hurts(row))]

    def _hurts(self, row: Mapping[str, Any]) -> str:
        volumes = self._join(say_count(as_number(v)) for v in as_list(row.get("hurts")))
        return self.w("volume.hurts", generator=str(row.get("name")), volumes=volumes) if volumes else ""

    @property
    def last_steps(self) -> list[tuple[str, str, str]]:
        """(generator and step, gain, interval): what each verdict rests on."""
        found = []
        for row in self.measured:
            step = as_mapping(as_list(row.get("steps"))[-1])
            gain = as_mapping(step.get("gain"))
            low, high = self.change(gain.get("low")), self.change(gain.get("high"))
            interval = self.w("label.interval", confidence=self.confidence, low=low, high=high, unit=self.unit)
            found.append((f"{row.get('name')}: {self._step_name(step)}", f"{self.change(gain.get('value'))} {self.unit}", interval))
        return found

    def _step_name(self, step: Mapping[str, Any]) -> str:
        return self.w("volume.step", **{"from": say_count(as_number(step.get("from"))), "to": say_count(as_number(step.get("to")))})

    @property
    def next_steps(self) -> list[str]:
        found = []
        for row in self.measured:
            step = as_mapping(row.get("next_step"))
            found.append(self.w.get(f"volume.next.{step.get('code')}", self.w("next.none"), self._values(step.get("values"))))
        return list(dict.fromkeys(found)) or [self.w("next.fix_privacy")]

    @property
    def meeting(self) -> list[str]:
        train = self._split_sizes().get("train")
        asked = self.w("volume.meeting.asked", measure=self.measure, train=say_count(train))
        return [asked, *(self.reasons or [self.headline]), *(self.w("meeting.next", next=step) for step in self.next_steps)]

    # the generators ---------------------------------------------------------------------------------------------------

    @cached_property
    def generators(self) -> list[Generator]:
        return [self._generator(row) for row in self.rows]

    def _generator(self, row: Mapping[str, Any]) -> Generator:
        verdict = str(row.get("verdict") or "not measured")
        return Generator(
            name=str(row.get("name")),
            badge=self._badge(verdict),
            tone="ok" if verdict == "not saturated" and self._beyond_none(row) else "bad" if TONES.get(verdict) == "stop" else "unsure",
            reason=self._reason(row),
            hurts=self._hurts(row),
            plot=self._growth(row),
            curve=self._curve(row),
            points=[self._baseline_row(), *(self._point(as_mapping(p)) for p in as_list(row.get("points")))] if row.get("points") else [],
            steps=[self._step(as_mapping(step)) for step in as_list(row.get("steps"))],
        )

    def _baseline_row(self) -> tuple[str, str, str, str, str, str]:
        score = as_mapping(self.decision.get("baseline_score"))
        return self.w("volume.none"), self.level(score.get("value")), self._span(score, self.level), self.w("role.baseline"), "", ""

    def _point(self, point: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
        score, gain, p = as_mapping(point.get("score")), as_mapping(point.get("gain")), as_number(point.get("p_holm"))
        return (
            say_count(as_number(point.get("volume"))), self.level(score.get("value")), self._span(score, self.level), self.change(gain.get("value")),
            self._span(gain, self.change), "" if p is None else say_p(p),
        )  # fmt: skip

    def _step(self, step: Mapping[str, Any]) -> tuple[str, str, str, str, str, str, bool]:
        gain, hundred, seconds = as_mapping(step.get("gain")), as_mapping(step.get("gain_per_100")), as_number(step.get("seconds"))
        cost = self.missing(self.w("volume.elsewhere")) if seconds is None else self._paid(seconds, step.get("money"))
        return (
            self._step_name(step), self.change(gain.get("value")), self._span(gain, self.change), self.change(hundred.get("value")),
            self._span(hundred, self.change), cost, step.get("decides") is True,
        )  # fmt: skip

    def _paid(self, seconds: float, money: Any) -> str:
        return self._join(filter(None, (self.duration(seconds), self.money(money))))

    def _curve(self, row: Mapping[str, Any]) -> list[str]:
        """What the fitted curve says, or why there is none."""
        curve = as_mapping(row.get("curve"))
        numbers = [as_number(curve.get(k)) for k in ("a", "b", "c", "a_low", "a_high", "c_low", "c_high")]
        if not row.get("points"):
            return []
        if not curve or None in numbers:
            values = self._values({"least": LEAST_POINTS, "volumes": len(as_list(row.get("points")))})
            return [self.w("volume.no_curve", why=self.w.get("why.curve", str(row.get("curve_missing") or ""), values))]
        a, b, c, a_low, a_high, c_low, c_high = (float(v) for v in numbers if v is not None)
        a_low, a_high = (min(max(v, 0.0), 1.0) if self.in_points else v for v in (a_low, a_high))  # no error lies outside
        formula = f"{say_digits(a)} {'−' if b < 0 else '+'} {say_digits(abs(b))} × n^−{say_digits(c)}"
        found = [
            self.w("volume.curve", formula=formula),
            self.w("volume.curve_ranges", confidence=self.confidence, a_low=say_digits(a_low), a_high=say_digits(a_high), c_low=say_digits(c_low),
                   c_high=say_digits(c_high)),
        ]  # fmt: skip
        return [*found, self.w("volume.curve_edge")] if curve.get("edge") is True else found

    def _growth(self, row: Mapping[str, Any]) -> Plot | None:
        base = self._error(as_mapping(self.decision.get("baseline_score")))
        points = []
        for point in map(as_mapping, as_list(row.get("points"))):
            error, volume = self._error(as_mapping(point.get("score"))), as_number(point.get("volume"))
            if error is not None and volume is not None:
                points.append(charts.Growth(volume, *error, self._level_of_error(error[0])))
        if base is None or not points:
            return None
        scale = 100 if self.in_points else 1
        band: list[tuple[float, float, float, float]] = []
        for place in map(as_mapping, as_list(as_mapping(row.get("curve")).get("band"))):
            numbers = [as_number(place.get(k)) for k in ("volume", "value", "low", "high")]
            if None not in numbers:
                n, value, low, high = (float(v) for v in numbers if v is not None)
                band.append((n, self._cut(value * scale), self._cut(low * scale), self._cut(high * scale)))
        title = self.w("volume.plot", generator=str(row.get("name")))

        def draw(width: int) -> Markup:
            return charts.growth(
                points, band, baseline=base, width=width, title=title, across=self.w("volume.across"),
                up=self.w("volume.up_cost" if not self.in_points else "volume.up", measure=self.measure), baseline_label=self.w("volume.baseline"),
                curve_label=self.w("volume.curve_label", confidence=self.confidence),
            )  # fmt: skip

        return Plot(title, draw(charts.WIDE), draw(charts.NARROW), self.w("volume.intervals", confidence=self.confidence))

    def _error(self, score: Mapping[str, Any]) -> tuple[float, float, float] | None:
        """Value, low and high of the error in the units of the axis: percent, or cost."""
        numbers = [as_number(score.get(k)) for k in ("value", "high", "low")]
        if None in numbers:
            return None
        value, low, high = (100 * (1 - float(v)) if self.in_points else -float(v) for v in numbers if v is not None)
        return value, low, high

    def _cut(self, error: float) -> float:
        """An error as far as there can be one: 0 to 100 %, a cost as it is."""
        return min(max(error, 0.0), 100.0) if self.in_points else error

    def _level_of_error(self, error: float) -> str:
        return f"{say_digits(error)} %" if self.in_points else say_digits(error)

    # what differs from a pilot's record -------------------------------------------------------------------------------

    def _rule_only(self, facts: Mapping[str, Any]) -> Gate:
        """The rule of the verdict, with what came out; a gate that the run did not come to as in a pilot."""
        if facts.get("name") != "saturation":
            return super()._rule_only(facts)
        found = self._join(f"{name}: {gain}" for name, gain, _ in self.last_steps) or self.missing(self.w("missing.not_run"))
        return Gate(self.w("gate.saturation"), "", self._rule(facts), found, "", self.badge, None)

    @property
    def cost_totals(self) -> list[tuple[str, str]]:
        """Those of a pilot, and what a fit and 100 images of each class took."""
        rows = super().cost_totals
        for row in self.rows:
            cost = as_mapping(row.get("cost"))
            for key, paid, label in (("fit_seconds", "fit_money", "volume.cost_fit"), ("seconds_per_100", "money_per_100", "volume.cost_100")):
                if (value := as_number(cost.get(key))) is not None:
                    rows.append((self.w(label, generator=str(row.get("name"))), self._paid(value, cost.get(paid))))
        return rows

    def _scores_not_measured(self) -> list[tuple[str, str]]:
        """None of its own: `not_measured` of volume.json names each."""
        return []

    @property
    def glossary(self) -> list[tuple[str, str]]:
        terms = ("points", "interval", "baseline", "volume", "step", "power", "replicate", "split", "copy", "worthwhile")
        rows = [(self.measure, self.measure_text)]
        return rows + [(self.w(f"term.{t}"), self.w(f"term.{t}.text")) for t in terms if t != "points" or self.in_points]

    @property
    def arm_glossary(self) -> list[tuple[str, str]]:
        names = dict.fromkeys(str(self.decision.get(key) or "") for key in ("baseline", "arm"))
        return [(name, plain) for name in names if (plain := self._plain(name))]

    @property
    def arm(self) -> str:
        return str(self.decision.get("arm") or "")
