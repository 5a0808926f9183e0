"""Noun 4, Metric, Score, Assessment: a number never travels alone.

A Score carries its interval, its n, the features it was measured on and its floor (what real against real scores at the same n).
What could not be measured has no value and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["fidelity", "diversity", "efficiency", "utility", "robustness", "privacy", "faithfulness", "style"]


@dataclass(frozen=True)
class Metric:
    """What is measured. The name says what grows: `copies` is bad, `recall` is good."""

    name: str
    axis: Axis
    better: Literal["higher", "lower", "neither"]
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

    def __post_init__(self) -> None:
        if self.value is None and not self.note:
            raise ValueError(f"{self.metric}: a score that was not measured must say why")
        if self.value is not None and self.n is None:
            raise ValueError(f"{self.metric}: a measured score needs its n")

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.subject} {self.metric}: not measured ({self.note})"
        span = f" [{self.low:.3g}, {self.high:.3g}]" if self.low is not None and self.high is not None else ""
        floor = f", floor {self.floor:.3g}" if self.floor is not None else ""
        return f"{self.subject} {self.metric}: {self.value:.3g}{span} (n = {self.n}{floor})"


@dataclass(frozen=True)
class Assessment:
    """Scores of one image set."""

    subject: str
    scores: tuple[Score, ...]

    def __str__(self) -> str:
        return "\n".join(str(s) for s in self.scores)

    def __getitem__(self, metric: str) -> Score:
        for score in self.scores:
            if score.metric == metric:
                return score
        raise KeyError(metric)
