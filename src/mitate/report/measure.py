"""How a measure is told: its name and meaning, its value in its unit, and the study's English sentences in the report's language."""

from __future__ import annotations

import re
from functools import cache
from string import Formatter

from mitate.report.numbers import as_number, say_count, say_digits, say_signed
from mitate.report.told import Told
from mitate.report.words import load

SHARE, POINTS, SECONDS, BYTES, COUNT, RATE, NUMBER = "share", "points", "seconds", "bytes", "count", "rate", "number"
UNITS = {
    **dict.fromkeys(("precision", "recall", "coverage", "told_apart", "trained_on_synthetic", "recognised", "copies"), SHARE),
    **dict.fromkeys(("nearer_to_train", "authenticity"), SHARE),
    **dict.fromkeys(("latency_p50", "latency_p95", "training_seconds"), SECONDS), **dict.fromkeys(("parameters", "evaluations"), COUNT),
    **dict.fromkeys(("images_per_second", "useful_per_second"), RATE), "peak_memory": BYTES, **dict.fromkeys(("gain", "robust_gain", "corrupted_gain"), POINTS),
    "thousand_seconds": SECONDS, "real_alone": SHARE,
}  # fmt: skip
SHARE_ENDINGS = ("calibration_error", "foreign_accepted", "told_apart_right", "_accuracy", "_auc", "_auroc", "_share", "_at_1_in_100", "_at_1_in_1000")


class Measures(Told):
    """Measures in words."""

    def metric_name(self, metric: str) -> str:
        """Its name in words, with the class or setting behind a colon; the bare name where the words do not know it."""
        base, _, part = metric.partition(":")
        key, values = self._known(base)
        name = self.w.get(f"assess.metric.{key}", "", values)
        return (f"{name}: {part}" if part else name) if name else metric

    def _known(self, base: str) -> tuple[str, dict[str, str]]:
        """The key of a metric's words, and what fills them: the gaps and spreads of all looks share theirs."""
        look, _, kind = base.rpartition("_")
        return (kind, {"look": self.w(f"assess.look.{look}")}) if kind in ("gap", "spread") and f"assess.look.{look}" in self.w else (base, {})

    def say(self, metric: str, value: object) -> str:
        """A value in the unit of its metric; an unknown metric's as a plain number."""
        number = as_number(value)
        if number is None:
            return self.missing("")
        unit = unit_of(metric)
        if unit == SHARE:
            return f"{say_digits(number * 100)} %"
        if unit == POINTS:
            return self.w("worth", number=say_signed(number * 100, places=2) if number else "0", unit=self.w("unit.points"))
        if unit == BYTES:
            return self.w("assess.unit.bytes", number=say_digits(number / 1e6))
        if unit == RATE:
            return self.w("assess.unit.rate", number=say_digits(number))
        return self.duration(number) if unit == SECONDS else say_count(number) if unit == COUNT else say_digits(number)

    def _between(self, metric: str, low: float | None, high: float | None) -> str:
        """An interval, or the one end that there is."""
        ends = {"low": as_number(low), "high": as_number(high)}
        if ends["low"] is not None and ends["high"] is None:
            return self.w("assess.least", value=self.say(metric, low))
        if ends["high"] is not None and ends["low"] is None:
            return self.w("assess.most", value=self.say(metric, high))
        return self._span(ends, lambda v: self.say(metric, v))

    # what the study says in English -----------------------------------------------------------------------------------

    def translated(self, text: str) -> str:
        """The study's English sentences in the report's language; what the words do not know stays as it stands."""
        parts = [text] if self._template_of(text) else text.split("; ")
        return "; ".join(self._say_part(part) for part in parts if part)

    def _say_part(self, text: str) -> str:
        found = self._template_of(text)
        return self.w(found[0], **found[1]) if found else text

    def _template_of(self, text: str) -> tuple[str, dict[str, str]] | None:
        """The key whose English sentence this is, and what fills it."""
        for key, pattern in _patterns():
            if found := pattern.fullmatch(text):
                return key, found.groupdict()
        return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The English sentences of `assess.said.*` as patterns, the most particular first."""
    found = load("en").family("assess.said.")

    def pattern(text: str) -> re.Pattern[str]:
        return re.compile("".join(re.escape(fixed) + (f"(?P<{name}>[^;]+?)" if name else "") for fixed, name, _, _ in Formatter().parse(text)))

    return tuple((key, pattern(text)) for key, text in sorted(found.items(), key=lambda item: -len(item[1])))


def unit_of(metric: str) -> str:
    base = metric.partition(":")[0]
    return UNITS.get(base, SHARE if base.endswith(SHARE_ENDINGS) else NUMBER)
