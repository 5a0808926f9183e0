"""One measure of a set, on its way to a page: its value and its floor, or why there is no value."""

from __future__ import annotations

from dataclasses import dataclass

from mitate.metrics.intervals import Interval
from mitate.score import Metric


@dataclass(frozen=True)
class Line:
    """One metric of a set: its value, its floor and how far apart they are; or why there is no value. An interval of no width is none."""

    metric: Metric
    value: Interval | None
    floor: Interval | None = None
    note: str = ""
    apart: Interval | None = None
