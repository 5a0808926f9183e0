"""How numbers, times and lists are told in one language: what every page stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mitate.report.numbers import as_number, say_digits
from mitate.report.words import Words


class Told:
    """The words of a language, and what is said with them."""

    def __init__(self, words: Words) -> None:
        self.w = words

    def missing(self, why: object) -> str:
        return self.w("missing", why=str(why) if why else self.w("missing.why"))

    def duration(self, seconds: float) -> str:
        if seconds < 90:
            return self.w("dur.s", s=say_digits(seconds) if seconds < 10 else f"{seconds:.0f}")
        if seconds < 5400:
            whole = round(seconds)
            return self.w("dur.min", min=str(whole // 60), s=f"{whole % 60:02d}")
        minutes = round(seconds / 60)
        return self.w("dur.h", h=f"{minutes // 60:,}", min=f"{minutes % 60:02d}")

    def _confidence(self, share: Any) -> str:
        number = as_number(share)
        return self.w("confidence", number=f"{(0.95 if number is None else number) * 100:.4g}")

    def _interval(self, figure: Mapping[str, Any]) -> tuple[float, float] | None:
        low, high = as_number(figure.get("low")), as_number(figure.get("high"))
        return None if low is None or high is None else (low, high)

    def _span(self, figure: Mapping[str, Any], write: Callable[[float], str]) -> str:
        """`75.3 to 81.5 %`: the unit is told once, where both ends carry it."""
        ends = self._interval(figure)
        if ends is None:
            return ""
        low, high = write(ends[0]), write(ends[1])
        unit = high.partition(" ")[2]
        return self.w("interval", low=low.removesuffix(f" {unit}") if unit else low, high=high)

    def _join(self, parts: Iterable[str]) -> str:
        text = ""
        for part in parts:
            text = self.w("list", a=text, b=part) if text else part
        return text
