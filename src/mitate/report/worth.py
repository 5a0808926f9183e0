"""What the synthetic images are worth in real ones: the report's part with the learning curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mitate.report import charts
from mitate.report.arms import Plot
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits
from mitate.report.part import Part


@dataclass(frozen=True)
class Placed:
    """The candidate at one number of real images: what it was worth there. tone: of the tag that says how sure that is."""

    had: str
    worth: str
    span: str
    said: str
    tone: str
    how: str


class WorthPart(Part):
    """The equivalent in real images, and the curve that it is read from."""

    @cached_property
    def equivalent(self) -> dict[str, Any]:
        return as_mapping(self.decision.get("real_image_equivalent"))

    @property
    def worth_lead(self) -> str:
        """The section's first sentence; why nothing is known, where nothing is."""
        if not self.equivalent:
            return self.w("worth.unknown", why=self.worth_why)
        values = {k: images(v) for k in ("value", "low", "high", "at", "most") if (v := as_number(self.equivalent.get(k))) is not None}
        values |= {"lost": images(-high) if (high := as_number(self.equivalent.get("high"))) is not None else "", "confidence": self.confidence}
        status = str(self.equivalent.get("status")).replace(" ", "_")
        status = "more" if status == "worth" and "value" not in values else status  # no value: it lies beyond what was looked at
        text = self.w.get(f"worth.{status}", "", values | {"span": self._reach(self.equivalent)})
        return text + (self.w("worth.beyond") if self.equivalent.get("extrapolated") else "")

    @property
    def worth_why(self) -> str:
        """Why there is no equivalent."""
        for facts in map(as_mapping, as_list(self.decision.get("not_measured"))):
            if facts.get("what") in ("learning_curve", "real_image_equivalent"):
                return self._say(facts, "why", "why")
        return self.w("worth.not_recorded")

    @property
    def worth_rows(self) -> list[Placed]:
        """One row for each number of real images that the candidate was tried with, the fewest first."""
        rows = [*map(as_mapping, as_list(self.equivalent.get("measured"))), self.equivalent] if self.equivalent else []
        return [self._placed(row) for row in sorted(rows, key=lambda r: as_number(r.get("at")) or 0.0)]

    def _placed(self, facts: Mapping[str, Any]) -> Placed:
        value, status = as_number(facts.get("value")), str(facts.get("status")).replace(" ", "_")
        tone = {"worth": "ok", "more": "ok", "negative": "bad"}.get(status, "unsure")
        how = self.w("worth.extrapolated" if facts.get("extrapolated") else "worth.interpolated")
        told = self.w("worth.off") if value is None else images(value, signed=True)
        return Placed(self.w("worth.had", n=images(as_number(facts.get("at")) or 0.0)), told, self._reach(facts), self.w(f"worth.tag.{status}"), tone, how)

    def _reach(self, facts: Mapping[str, Any]) -> str:
        """The interval in words: `-12 to +40`, open where an end lies beyond what was looked at."""
        low, high = as_number(facts.get("low")), as_number(facts.get("high"))
        first = images(low, signed=True) if low is not None else self.w("worth.below", n=images(as_number(facts.get("least")) or 0.0, signed=True))
        last = images(high, signed=True) if high is not None else self.w("worth.above", n=images(as_number(facts.get("most")) or 0.0, signed=True))
        return self.w("interval", low=first, high=last)

    @property
    def worth_plot(self) -> Plot | None:
        """The learning curve: the baseline and, where it was measured, the candidate at fewer real images."""
        points = [as_mapping(p) for p in as_list(as_mapping(self.decision.get("learning_curve")).get("points"))]
        lines: dict[str, list[charts.Dot]] = {}
        for p in points:
            place, value, low, high = (as_number(p.get(k)) for k in ("images", "value", "low", "high"))
            if place is not None and value is not None and low is not None and high is not None:
                scaled = (v * (100 if self.in_points else 1) for v in (value, low, high))
                lines.setdefault(str(p.get("arm")), []).append(charts.Dot(place, *scaled))
        if not lines:
            return None
        title = self.w("worth.plot", measure=self.measure)

        def draw(width: int) -> Any:
            return charts.learning(list(lines.items()), width=width, title=title, across=self.w("worth.across"), up=self.w("worth.up", measure=self.measure))

        return Plot(title, draw(charts.WIDE), draw(charts.NARROW), self.w("worth.note", confidence=self.confidence))


def images(number: float, *, signed: bool = False) -> str:
    """A number of images: whole, three digits at most where it is large."""
    whole = float(round(number))
    text = say_count(abs(whole)) if abs(whole) < 1000 else say_digits(abs(whole))
    sign = "" if not whole else "−" if whole < 0 else "+" if signed else ""
    return sign + text
