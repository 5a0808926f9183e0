"""A measure against the number of real images, one line a family with its intervals: the small plots of a comparison.

Numbers of images stand at equal distance on a logarithmic scale; families are shifted a little so that their intervals lie side by side. Nothing is told
by colour alone: every family has a mark and a dash of its own, and its name stands in the key. A cross through a mark says that the family leaks there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mitate.report.charts import _fit, _svg, _tick, _ticks, _width

DASHES = ("", "7 4", "2 3", "10 3 2 3", "5 2", "1 4")
STEP = 8.0  # pixels between two families at one number of images


@dataclass(frozen=True)
class Place:
    """A value at a number of images, in the units of the axis; no ends where there is no interval."""

    n: float
    value: float
    low: float | None
    high: float | None
    leaks: bool = False


@dataclass(frozen=True)
class Line:
    """A family."""

    name: str
    places: tuple[Place, ...]


def scarcity(lines: Sequence[Line], *, width: int, title: str, across: str, up: str, logarithmic: bool, floor: float | None, floor_label: str) -> Markup:
    """The plot; `floor` is a line across, what real images score. Empty where no family was measured."""
    drawn = [(k, line) for k, line in enumerate(lines) if line.places]
    places = [place for _, line in drawn for place in line.places]
    if not places:
        return Markup("")
    seen = [v for p in places for v in (p.value, p.low, p.high) if v is not None] + ([floor] if floor is not None else [])
    logarithmic = logarithmic and min(seen) > 0
    if logarithmic:
        low, high = math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen)))
        ticks = [float(10**k) for k in range(low, max(high, low + 1) + 1)]
    else:
        ticks = _ticks(min(seen), max(seen), 4)
    keys = _keys([line.name for _, line in drawn], width, extra=floor_label if floor is not None else "")
    x0, x1 = 20 + max(_width(_tick(t)) for t in ticks), width - 14.0
    y0 = 28.0 + 20 * (1 + max(row for row, _ in keys))
    y1 = y0 + 170
    sizes = sorted({p.n for p in places})
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    side = 22 + STEP * (len(drawn) - 1) / 2

    def x(n: float) -> float:
        return x0 + side + (0.5 if last == first else (math.log(n) - first) / (last - first)) * (x1 - x0 - 2 * side)

    def y(value: float) -> float:
        a, b, v = (math.log10(t) if logarithmic else t for t in (ticks[0], ticks[-1], value))
        return y1 - (min(max(v, a), b) - a) / (b - a) * (y1 - y0)

    parts = [f'<text class="c-tick" x="0" y="14">{_fit(up, width)}</text>']
    for tick in ticks:
        parts.append(f'<line class="c-grid" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="c-tick" x="{x0 - 6:.1f}" y="{y(tick) + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    for n in sizes:
        parts.append(f'<text class="c-tick" x="{x(n):.1f}" y="{y1 + 18:.0f}" text-anchor="middle">{n:,.0f}</text>')
    parts.append(f'<text class="c-tick" x="{(x0 + x1) / 2:.1f}" y="{y1 + 38:.0f}" text-anchor="middle">{escape(across)}</text>')
    if floor is not None:
        parts.append(f'<line class="c-worth" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y(floor):.1f}" y2="{y(floor):.1f}"/>')
    for turn, (k, line) in enumerate(drawn):
        aside = STEP * (turn - (len(drawn) - 1) / 2)
        points = [(x(p.n) + aside, p) for p in sorted(line.places, key=lambda p: p.n)]
        parts.append(f'<polyline class="f-line f-{k % 6}" {_dash(k)}points="{" ".join(f"{a:.1f},{y(p.value):.1f}" for a, p in points)}"/>')
        for a, p in points:
            if p.low is not None and p.high is not None:
                parts.append(f'<line class="f-span f-{k % 6}" x1="{a:.1f}" x2="{a:.1f}" y1="{y(p.low):.1f}" y2="{y(p.high):.1f}"/>')
            parts.append(mark(k, a, y(p.value)))
            if p.leaks:
                parts.append(f'<path class="f-leak" d="M{a - 7:.1f} {y(p.value) - 7:.1f}l14 14m0 -14l-14 14"/>')
    for turn, (row, left) in enumerate(keys):
        level = 30 + 20 * row
        if turn < len(drawn):
            k, line = drawn[turn]
            parts.append(
                f'<line class="f-line f-{k % 6}" {_dash(k)}x1="{left:.0f}" x2="{left + 26:.0f}" y1="{level}" y2="{level}"/>{mark(k, left + 13, level)}'
            )
            parts.append(f'<text class="c-tick" x="{left + 32:.0f}" y="{level + 4}">{_fit(line.name, width - left - 34)}</text>')
        else:
            parts.append(f'<line class="c-worth" x1="{left:.0f}" x2="{left + 26:.0f}" y1="{level}" y2="{level}"/>')
            parts.append(f'<text class="c-tick" x="{left + 32:.0f}" y="{level + 4}">{_fit(floor_label, width - left - 34)}</text>')
    return _svg(width, y1 + 48, title, parts)


def mark(k: int, x: float, y: float) -> str:
    """The mark of family number k: circle, square, triangle, diamond; then the same hollow."""
    shape, hollow = k % 4, " f-hollow" if k % 8 >= 4 else ""
    css = f'class="f-mark f-{k % 6}{hollow}"'
    if shape == 0:
        return f'<circle {css} cx="{x:.1f}" cy="{y:.1f}" r="4.6"/>'
    if shape == 1:
        return f'<rect {css} x="{x - 4.2:.1f}" y="{y - 4.2:.1f}" width="8.4" height="8.4"/>'
    if shape == 2:
        return f'<path {css} d="M{x:.1f} {y - 5.4:.1f}l5.2 9.2h-10.4z"/>'
    return f'<path {css} d="M{x - 5.6:.1f} {y:.1f}l5.6 -5.6l5.6 5.6l-5.6 5.6z"/>'


def _dash(k: int) -> str:
    dash = DASHES[k % len(DASHES)]
    return f'stroke-dasharray="{dash}" ' if dash else ""


def _keys(names: Sequence[str], width: int, *, extra: str) -> list[tuple[int, float]]:
    """Row and left end of every entry of the key, as many in a row as fit."""
    found, row, left = [], 0, 0.0
    for name in [*names, *([extra] if extra else [])]:
        wide = 46 + _width(name)
        if left and left + wide > width:
            row, left = row + 1, 0.0
        found.append((row, left))
        left += wide
    return found
