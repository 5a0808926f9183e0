"""Drawings of loops: an indicator by generation with its band, and the points of a toy generation by kind.

Nothing is told by colour alone: every run has a mark and a dash, every kind a shape, and the floor is a dashed line with its name in the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from mitate.report.charts import _fit, _svg, _tick, _ticks, _width
from mitate.report.scarcity import _dash, _keys, mark

HEIGHT = 170  # pixels of the field of a curve
SIDE = 150  # pixels of a drawing of points
POINTS = 150  # of a generation at most; evenly taken
GLYPHS = ("m-2.4 0a2.4 2.4 0 1 0 4.8 0a2.4 2.4 0 1 0-4.8 0", "m-2.1-2.1h4.2v4.2h-4.2z", "m0-2.8l2.7 4.8h-5.4z", "m-2.9 0l2.9-2.9l2.9 2.9l-2.9 2.9z")


@dataclass(frozen=True)
class Course:
    """An indicator of a run by generation, from 1: the mean over chains, and the ends of its interval, None from one chain."""

    name: str
    mean: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def course(courses: Sequence[Course], *, width: int, title: str, across: str, up: str, floor: float, floor_label: str) -> Markup:
    """Curves by generation: the first one in its band, others with a bar at each generation; `floor` is a line across."""
    seen = [floor, *(v for one in courses for row in (one.mean, one.low or (), one.high or ()) for v in row)]
    ticks = _ticks(min(seen), max(seen), 4)
    keys = _keys([one.name for one in courses], width, extra=floor_label)
    x0, x1 = 20 + max(_width(_tick(t)) for t in ticks), width - 14.0
    y0 = 28.0 + 20 * (1 + max(row for row, _ in keys))
    y1 = y0 + HEIGHT
    most = max(len(one.mean) for one in courses)

    def x(generation: float) -> float:
        return x0 + 22 + (generation - 1) / max(1, most - 1) * (x1 - x0 - 44)

    def y(value: float) -> float:
        return y1 - (value - ticks[0]) / (ticks[-1] - ticks[0]) * HEIGHT

    parts = [f'<text class="c-tick" x="0" y="14">{_fit(up, width)}</text>']
    for tick in ticks:
        parts.append(f'<line class="c-grid" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="c-tick" x="{x0 - 6:.1f}" y="{y(tick) + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    every = max(1, -(-most // 12))
    for t in range(1, most + 1, every):
        parts.append(f'<text class="c-tick" x="{x(t):.1f}" y="{y1 + 18:.0f}" text-anchor="middle">{t}</text>')
    parts.append(f'<text class="c-tick" x="{(x0 + x1) / 2:.1f}" y="{y1 + 36:.0f}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<line class="c-base" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y(floor):.1f}" y2="{y(floor):.1f}"/>')
    for k, one in enumerate(courses):
        aside = 4.0 * k
        if one.low is not None and one.high is not None and k == 0:
            edge = [(x(t), y(v)) for t, v in enumerate(one.high, 1)] + [(x(t), y(v)) for t, v in reversed(list(enumerate(one.low, 1)))]
            parts.append(f'<polygon class="c-area" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in edge)}"/>')
        places = [(x(t) + aside, y(v)) for t, v in enumerate(one.mean, 1)]
        parts.append(f'<polyline class="f-line f-{k % 6}" {_dash(k)}points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}"/>')
        for t, (a, b) in enumerate(places):
            if one.low is not None and one.high is not None and k:
                parts.append(f'<line class="f-span f-{k % 6}" x1="{a:.1f}" x2="{a:.1f}" y1="{y(one.high[t]):.1f}" y2="{y(one.low[t]):.1f}"/>')
            parts.append(mark(k, a, b))
    for k, (row, left) in enumerate(keys):
        level, end = 30 + 20 * row, left + 26
        if k < len(courses):
            parts.append(f'<line class="f-line f-{k % 6}" {_dash(k)}x1="{left:.0f}" x2="{end:.0f}" y1="{level}" y2="{level}"/>{mark(k, left + 13, level)}')
        else:
            parts.append(f'<line class="c-base" x1="{left:.0f}" x2="{end:.0f}" y1="{level}" y2="{level}"/>')
        name = courses[k].name if k < len(courses) else floor_label
        parts.append(f'<text class="c-tick" x="{left + 32:.0f}" y="{level + 4}">{_fit(name, width - left - 34)}</text>')
    return _svg(width, y1 + 44, title, parts)


def cloud(points: np.ndarray, kinds: np.ndarray, box: tuple[float, float, float, float], *, title: str) -> Markup:
    """Points [n, 2] or [n, 1] by kind, int [n], in `box` (left, right, bottom, top), which all drawings of one strip share."""
    some = np.unique(np.linspace(0, len(points) - 1, min(POINTS, len(points))).astype(np.int64))
    left, right, bottom, top = box
    parts = [f'<rect class="cloud-field" x="0.5" y="0.5" width="{SIDE - 1}" height="{SIDE - 1}" rx="6"/>']
    for kind in np.unique(kinds[some]):
        rows = some[kinds[some] == kind]
        xs = 6 + (points[rows, 0] - left) / ((right - left) or 1.0) * (SIDE - 12)
        ys = SIDE - 6 - (points[rows, 1] - bottom) / ((top - bottom) or 1.0) * (SIDE - 12) if points.shape[1] > 1 else np.full(len(rows), SIDE / 2)
        path = "".join(f"M{a:.1f} {b:.1f}{GLYPHS[int(kind) % 4]}" for a, b in zip(xs, ys, strict=True))
        parts.append(f'<path class="cloud-points f-{int(kind) % 6}" d="{path}"/>')
    return _svg(SIDE, SIDE, title, parts)


def box_of(clouds: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """What holds all points, [n, d] each."""
    every = np.concatenate([c[:, :2] for c in clouds])
    low, high = every.min(axis=0), every.max(axis=0)
    return float(low[0]), float(high[0]), float(low[-1]), float(high[-1])
