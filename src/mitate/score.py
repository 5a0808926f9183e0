"""Noun 4, Metric, Score, Assessment: a number never travels alone.

A Score carries its interval, its n, the features it was measured on and its floor (what real against real scores at the same n).
What could not be measured has no value and says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Axis = Literal["fidelity", "diversity", "efficiency", "utility", "robustness", "privacy", "faithfulness", "style"]
Direction = Literal["higher", "lower", "neither"]
Beside = Literal["worse", "better", "not told apart"]


@dataclass(frozen=True)
class Metric:
    """What is measured. The name says what grows: `copies` is bad, `recall` is good."""

    name: str
    axis: Axis
    better: Direction
    least_n: int  # below this many images the metric is not measured
    interval: str  # the interval method that is valid for it
    source: str  # paper and equation, or where it is defined


@dataclass(frozen=True)
class Score:
    """A measured value with what is needed to read it. `value` is None when it was not measured; then `note` says why."""

    metric: str
    axis: Axis
    subject: str  # what was measured: an arm, a generator, an image set
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    floor: float | None = None
    confidence: float = 0.95
    features: str | None = None  # digest of the feature extractor
    note: str = ""
    better: Direction | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    apart_low: float | None = None  # interval of value - floor, where the two were measured together
    apart_high: float | None = None

    def __post_init__(self) -> None:
        if self.value is None and not self.note:
            raise ValueError(f"{self.metric}: a score that was not measured must say why")
        if self.value is not None and self.n is None:
            raise ValueError(f"{self.metric}: a measured score needs its n")

    @property
    def beside(self) -> Beside | None:
        """How the value stands beside its floor; None without a value, a floor, a direction, or an interval of either.

        Measured together, the difference has an interval of its own. Else it has that of two independent values (method of variance
        estimates recovery, Zou and Donner 2008); value and floor share the real images, so it is wide rather than narrow.
        """
        if self.value is None or self.floor is None or self.better not in ("higher", "lower"):
            return None
        apart = self.value - self.floor
        if self.apart_low is not None and self.apart_high is not None:
            return self._said(apart, self.apart_low, self.apart_high)
        if None in (self.low, self.high) and None in (self.floor_low, self.floor_high):
            return None
        low, high = (self.value if v is None else v for v in (self.low, self.high))
        floor_low, floor_high = (self.floor if v is None else v for v in (self.floor_low, self.floor_high))
        return self._said(apart, apart - math.hypot(self.value - low, floor_high - self.floor), apart + math.hypot(high - self.value, self.floor - floor_low))

    def _said(self, apart: float, least: float, most: float) -> Beside:
        if least <= 0 <= most:
            return "not told apart"
        if (apart > 0) != (self.better == "higher"):
            return "worse"
        return "better" if self.axis != "privacy" else "not told apart"  # nothing is more private than chance, or than images that were never seen

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.subject} {self.metric}: not measured ({self.note})"
        span = f" [{self.low:.3g}, {self.high:.3g}]" if self.low is not None and self.high is not None else ""
        floor = f", floor {self.floor:.3g}" if self.floor is not None else ""
        return f"{self.subject} {self.metric}: {self.value:.3g}{span} (n = {self.n}{floor})"


@dataclass(frozen=True)
class Assessment:
    """Scores of one image set, and what they were measured on."""

    subject: str
    scores: tuple[Score, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)  # sets, features, settings, findings, verdicts of the axes

    def __str__(self) -> str:
        return "\n".join(str(s) for s in self.scores)

    def __getitem__(self, metric: str) -> Score:
        """The score of `metric`, or of `axis.metric`."""
        for score in self.scores:
            if metric in (score.metric, f"{score.axis}.{score.metric}"):
                return score
        raise KeyError(metric)
