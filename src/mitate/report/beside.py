"""The plot of an assessment: each measure with its interval, on the band of its floor, and an arrow head at the end that is better.

Shares have one scale, 0 to 100 %, so that they can be compared; every other measure has its own below it. What the colour says the shape of
the mark says too: down is worse than the floor, up is better, a ring could not be told apart, a square has nothing to be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from mitate.report.charts import _fit, _svg, _tick, _ticks, _width

Tone = Literal["leak", "worse", "better", "same", "plain"]
ROW, NARROW_ROW, OWN = 32, 50, 15  # pixels: a row, one with its label above, and what an own scale adds


@dataclass(frozen=True)
class Beside:
    """A row: a value and its floor with their intervals, where there are any, in the unit of the scale (percent for a share)."""

    label: str
    text: str  # the numbers, as the page writes them
    value: float
    low: float | None
    high: float | None
    floor: float | None
    floor_low: float | None
    floor_high: float | None
    better: str  # higher, lower; anything else draws no arrow
    tone: Tone
    share: bool


def beside(blocks: Sequence[tuple[str, Sequence[Beside]]], *, width: int, title: str) -> Markup:
    """Rows under headings. Empty where there are no rows."""
    rows = [row for _, block in blocks for row in block]
    if not rows:
        return Markup("")
    wide = width > 600
    label_width = min(330, 24 + max(_width(row.label) for row in rows)) if wide else 0
    number_width = 16 + max(_width(row.text) for row in rows) if wide else 0
    x0, x1 = label_width + 22, width - number_width - 22
    parts: list[str] = []
    y = 4.0
    if any(row.share for row in rows):
        for tick in (0, 25, 50, 75, 100):
            parts.append(f'<text class="c-tick" x="{x0 + tick / 100 * (x1 - x0):.1f}" y="12" text-anchor="middle">{tick} %</text>')
        y = 21.0
    for name, block in blocks:
        if not block:
            continue
        if name:
            parts.append(f'<text class="c-head" x="0" y="{y + 16:.0f}">{escape(name)}</text>')
            parts.append(f'<line class="c-rule" x1="0" x2="{width}" y1="{y + 23:.0f}" y2="{y + 23:.0f}"/>')
            y += 27
        for row in sorted(block, key=lambda row: not row.share):
            stacked = not wide and _width(row.label) + _width(row.text) + 8 > width  # then the numbers get a line of their own
            height = ROW if wide else NARROW_ROW + (17 if stacked else 0)
            middle = y + (ROW / 2 if wide else height - 17)
            if wide:
                parts.append(f'<text class="c-label" x="{label_width}" y="{middle + 4:.1f}" text-anchor="end">{_fit(row.label, label_width)}</text>')
                parts.append(f'<text class="c-number" x="{width}" y="{middle + 4:.1f}" text-anchor="end">{escape(row.text)}</text>')
            else:
                parts.append(f'<text class="c-label" x="0" y="{y + 14:.1f}">{_fit(row.label, width)}</text>')
                parts.append(f'<text class="c-number" x="{width}" y="{y + (31 if stacked else 14):.1f}" text-anchor="end">{escape(row.text)}</text>')
            parts += _row(row, x0, x1, middle)
            y += height + (0 if row.share else OWN)
        y += 8
    return _svg(width, y, title, parts)


def _row(row: Beside, x0: float, x1: float, middle: float) -> list[str]:
    """Scale, floor, arrow and mark of a row."""
    ticks = [0.0, 25.0, 50.0, 75.0, 100.0]
    parts: list[str] = []
    if not row.share:
        ends = [v for v in (row.value, row.low, row.high, row.floor, row.floor_low, row.floor_high) if v is not None]
        ticks = _ticks(min(0.0, *ends), max(0.0, *ends), 3)

    def x(value: float) -> float:
        return x0 + (min(max(value, ticks[0]), ticks[-1]) - ticks[0]) / (ticks[-1] - ticks[0]) * (x1 - x0)

    for tick in ticks:
        parts.append(f'<line class="c-grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{middle - 15:.1f}" y2="{middle + 15:.1f}"/>')
        if not row.share:
            parts.append(f'<text class="c-tick" x="{x(tick):.1f}" y="{middle + 27:.1f}" text-anchor="middle">{_tick(tick)}</text>')
    parts.append(f'<line class="c-track" x1="{x0}" x2="{x1:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
    if row.better in ("higher", "lower"):
        tip, back = (x1 + 13, x1 + 4) if row.better == "higher" else (x0 - 13, x0 - 4)
        parts.append(f'<path class="c-arrow" d="M{tip:.1f} {middle:.1f}L{back:.1f} {middle - 5:.1f}L{back:.1f} {middle + 5:.1f}Z"/>')
    if row.floor_low is not None and row.floor_high is not None:
        a, b = x(row.floor_low), x(row.floor_high)
        parts.append(f'<rect class="c-floor" x="{a:.1f}" y="{middle - 10:.1f}" width="{max(1.0, b - a):.1f}" height="20"/>')
    if row.floor is not None:
        parts.append(f'<line class="c-real" x1="{x(row.floor):.1f}" x2="{x(row.floor):.1f}" y1="{middle - 12:.1f}" y2="{middle + 12:.1f}"/>')
    parts.append(f'<g class="m-{row.tone}">')
    if row.low is not None and row.high is not None:
        a, b = x(row.low), x(row.high)
        parts.append(f'<line class="m-span" x1="{a:.1f}" x2="{b:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
        parts += [f'<line class="m-span" x1="{end:.1f}" x2="{end:.1f}" y1="{middle - 4:.1f}" y2="{middle + 4:.1f}"/>' for end in (a, b)]
    parts.append(shape(row.tone, x(row.value), middle) + "</g>")
    return parts


def shape(tone: Tone, x: float, y: float) -> str:
    """The mark of a tone at a place."""
    if tone in ("leak", "worse"):
        return f'<path class="m-full" d="M{x - 8:.1f} {y - 6:.1f}h16l-8 14z"/>'
    if tone == "better":
        return f'<path class="m-full" d="M{x - 8:.1f} {y + 6:.1f}h16l-8 -14z"/>'
    if tone == "same":
        return f'<circle class="m-ring" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    return f'<rect class="m-ring" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
