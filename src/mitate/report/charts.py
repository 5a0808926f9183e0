"""Plots of the report as SVG markup: text stays text, colours come from the page's style sheet, so they follow light, dark and print.

Every plot is drawn twice by its caller, wide and narrow; the page shows the one that fits. Nothing is told by colour alone:
the confirmatory arm is a filled diamond, others hollow dots, dropped ones crosses, and each number stands beside its mark.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDE, NARROW = 960, 340  # pixels; the narrow one fits a phone of 360


@dataclass(frozen=True)
class Interval:
    """A row of a plot: a value with its interval in the units of the axis. `low` and `high` are None where there is none."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str  # the number beside the mark, as the page writes it
    mark: str  # diamond, dot, cross
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under a heading."""

    title: str
    rows: tuple[Interval, ...]


def intervals(
    blocks: Sequence[Block],
    *,
    width: int,
    title: str,
    worthwhile: float | None = None,
    worthwhile_label: str = "",
    axis: str = "",
    left: str = "",
    right: str = "",
) -> Markup:
    """Dot-and-interval plot with the zero line; the range from 0 to `worthwhile` is shaded: too small to be worth having.

    `left` and `right` name the two sides of zero. Empty where there are no rows.
    """
    rows = [row for block in blocks for row in block.rows]
    if not rows:
        return Markup("")
    wide = width > 600
    label_width = min(330, 24 + max(_width(row.label) for row in rows)) if wide else 0
    number_width = 16 + max(_width(row.text) for row in rows) if wide else 0
    x0, x1 = label_width + 10, width - number_width - 10
    ends = [v for row in rows for v in (row.value, row.low, row.high) if v is not None] + [0.0, worthwhile or 0.0]
    ticks = _ticks(min(ends), max(ends), 7 if wide else 5)
    margin = 0.03 * (ticks[-1] - ticks[0])  # so that a mark at the end of the axis touches no text
    lo, hi = ticks[0] - margin, ticks[-1] + margin

    def x(value: float) -> float:
        return x0 + (min(max(value, lo), hi) - lo) / (hi - lo) * (x1 - x0)

    row_height = 30 if wide else 46
    top = 48
    body: list[str] = []
    y = float(top)
    for block in blocks:
        if not block.rows:
            continue
        if block.title:
            body.append(f'<text class="c-head" x="0" y="{y + 16:.0f}">{escape(block.title)}</text>')
            body.append(f'<line class="c-rule" x1="0" x2="{width}" y1="{y + 24:.0f}" y2="{y + 24:.0f}"/>')
            y += 30
        for row in block.rows:
            middle = y + (row_height / 2 if wide else 31)
            if wide:
                body.append(f'<text class="c-label" x="{label_width}" y="{middle + 4:.1f}" text-anchor="end">{_fit(row.label, label_width)}</text>')
                body.append(f'<text class="c-number" x="{width}" y="{middle + 4:.1f}" text-anchor="end">{escape(row.text)}</text>')
            else:
                body.append(f'<text class="c-label" x="0" y="{y + 15:.1f}">{_fit(row.label, width - _width(row.text) - 8)}</text>')
                body.append(f'<text class="c-number" x="{width}" y="{y + 15:.1f}" text-anchor="end">{escape(row.text)}</text>')
            body.append(_mark(row, x, middle))
            y += row_height
        y += 8
    bottom = y
    frame: list[str] = []
    if worthwhile:
        frame.append(f'<rect class="c-band" x="{x(0):.1f}" y="{top - 12}" width="{max(1.0, x(worthwhile) - x(0)):.1f}" height="{bottom - top + 12:.0f}"/>')
        frame.append(f'<line class="c-worth" x1="{x(worthwhile):.1f}" x2="{x(worthwhile):.1f}" y1="{top - 12}" y2="{bottom:.0f}"/>')
    for tick in ticks:
        frame.append(f'<line class="c-grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 12}" y2="{bottom:.0f}"/>')
        frame.append(f'<text class="c-tick" x="{x(tick):.1f}" y="{bottom + 16:.0f}" text-anchor="middle">{_tick(tick)}</text>')
    frame.append(f'<line class="c-zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top - 12}" y2="{bottom:.0f}"/>')
    zero = x(0)
    if left and zero - x0 > _width(left):
        frame.append(f'<text class="c-side" x="{zero - 8:.1f}" y="{top - 20}" text-anchor="end">← {escape(left)}</text>')
    if right and x1 - zero > _width(right):
        frame.append(f'<text class="c-side" x="{zero + 8:.1f}" y="{top - 20}">{escape(right)} →</text>')
    foot = bottom + 36
    if axis:
        frame.append(f'<text class="c-tick" x="{(x0 + x1) / 2:.1f}" y="{foot:.0f}" text-anchor="middle">{escape(axis)}</text>')
    if worthwhile and worthwhile_label:
        foot += 20
        start = max(0.0, (x0 + x1) / 2 - (_width(worthwhile_label) + 24) / 2)
        frame.append(f'<rect class="c-band" x="{start:.1f}" y="{foot - 11:.0f}" width="16" height="13"/>')
        frame.append(f'<text class="c-tick" x="{start + 22:.1f}" y="{foot:.0f}">{escape(worthwhile_label)}</text>')
    return _svg(width, foot + 8, title, frame + body)


def curves(lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, width: int, title: str, across: str, up: str, best: str) -> Markup:
    """Loss curves, one polyline each with a ring at the lowest point; the first line carries the label. Empty where there is nothing to draw."""
    drawn = [(name, points) for name, points in lines if len(points) > 1]
    if not drawn:
        return Markup("")
    height, x0, x1, y0, y1 = 210, 54, width - 14, 26, 164
    xs = [p[0] for _, points in drawn for p in points]
    ys = [p[1] for _, points in drawn for p in points]
    across_ticks, up_ticks = _ticks(0, max(xs), 5), _ticks(min(ys), max(ys), 4)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return (
            x0 + (point[0] - across_ticks[0]) / (across_ticks[-1] - across_ticks[0]) * (x1 - x0),
            y1 - (point[1] - up_ticks[0]) / (up_ticks[-1] - up_ticks[0]) * (y1 - y0),
        )

    parts = [f'<text class="c-tick" x="0" y="14">{escape(up)}</text>']
    for tick in up_ticks:
        _, y = place((0, tick))
        parts.append(f'<line class="c-grid" x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="c-tick" x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    for tick in across_ticks:
        x, _ = place((tick, up_ticks[0]))
        parts.append(f'<text class="c-tick" x="{x:.1f}" y="{y1 + 18}" text-anchor="middle">{_tick(tick)}</text>')
    parts.append(f'<text class="c-tick" x="{(x0 + x1) / 2:.0f}" y="{y1 + 38}" text-anchor="middle">{escape(across)}</text>')
    for _name, points in drawn:
        parts.append(f'<polyline class="c-curve" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in map(place, points))}"/>')
        a, b = place(min(points, key=lambda p: p[1]))
        parts.append(f'<circle class="c-dot" cx="{a:.1f}" cy="{b:.1f}" r="4.5"/>')
    parts.append(f'<circle class="c-dot" cx="{x1 - _width(best) - 12:.0f}" cy="10" r="4.5"/>')
    parts.append(f'<text class="c-tick" x="{x1}" y="14" text-anchor="end">{escape(best)}</text>')
    return _svg(width, height, title, parts)


@dataclass(frozen=True)
class Growth:
    """A measured error at a volume, in the units of the axis; the text stands above its mark."""

    volume: float
    value: float
    low: float
    high: float
    text: str


def growth(
    points: Sequence[Growth],
    band: Sequence[tuple[float, float, float, float]],
    *,
    baseline: tuple[float, float, float],
    width: int,
    title: str,
    across: str,
    up: str,
    baseline_label: str,
    curve_label: str,
) -> Markup:
    """Error against number of images: points with intervals, the fitted curve in its band, the baseline as a line with its interval.

    band: (volume, value, low, high) along the curve, empty where none was fitted. baseline: value, low, high.
    """
    x0, x1, y0, y1 = 54, width - 16, 62, 300 if width > 600 else 250
    most = max(p.volume for p in points)
    seen = [v for p in points for v in (p.low, p.high)] + [v for row in band for v in row[1:]] + list(baseline)
    ticks = _ticks(max(0.0, min(seen)) if min(p.value for p in points) >= 0 else min(seen), max(seen), 5)

    def x(volume: float) -> float:
        return x0 + 14 + volume / most * (x1 - x0 - 30)

    def y(value: float) -> float:
        return y1 - (min(max(value, ticks[0]), ticks[-1]) - ticks[0]) / (ticks[-1] - ticks[0]) * (y1 - y0)

    value, low, high = baseline
    parts = [f'<text class="c-tick" x="0" y="14">{escape(up)}</text>']
    for tick in ticks:
        parts.append(f'<line class="c-grid" x1="{x0}" x2="{x1}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="c-tick" x="{x0 - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    parts.append(f'<rect class="c-band" x="{x0}" y="{y(high):.1f}" width="{x1 - x0}" height="{max(1.0, y(low) - y(high)):.1f}"/>')
    parts.append(f'<line class="c-base" x1="{x0}" x2="{x1}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
    if band:
        edge = [(x(v), y(a)) for v, _, a, _ in band] + [(x(v), y(b)) for v, _, _, b in reversed(band)]
        parts.append(f'<polygon class="c-area" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in edge)}"/>')
        parts.append(f'<polyline class="c-fit" points="{" ".join(f"{x(v):.1f},{y(m):.1f}" for v, m, _, _ in band)}"/>')
    taken = labelled = -1e9
    for p in points:
        a = x(p.volume)
        parts.append(f'<line class="c-span" x1="{a:.1f}" x2="{a:.1f}" y1="{y(p.low):.1f}" y2="{y(p.high):.1f}"/>')
        parts += [f'<line class="c-span" x1="{a - 4:.1f}" x2="{a + 4:.1f}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>' for v in (p.low, p.high)]
        parts.append(f'<circle class="c-dot" cx="{a:.1f}" cy="{y(p.value):.1f}" r="5"/>')
        label = _tick(p.volume)
        if a - taken > _width(label) + 6 or p is points[-1]:
            parts.append(f'<text class="c-tick" x="{a:.1f}" y="{y1 + 18}" text-anchor="middle">{label}</text>')
            taken = a
        wide_enough = width > 600 and (p is points[-1] or a - labelled > 64)
        if wide_enough or p is points[-1]:
            anchor, place = ("end", a + 8) if p is points[-1] else ("middle", a)
            parts.append(f'<text class="c-number" x="{place:.1f}" y="{y(p.high) - 7:.1f}" text-anchor="{anchor}">{escape(p.text)}</text>')
            labelled = a
    parts.append(f'<text class="c-tick" x="{(x0 + x1) / 2:.0f}" y="{y1 + 38}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<line class="c-base" x1="{x0}" x2="{x0 + 18}" y1="28" y2="28"/><text class="c-tick" x="{x0 + 24}" y="32">{escape(baseline_label)}</text>')
    if band:
        start = x0 + 48 + _width(baseline_label) if width > 600 else x0
        level = 28 if width > 600 else 46
        parts.append(f'<line class="c-fit" x1="{start:.0f}" x2="{start + 18:.0f}" y1="{level}" y2="{level}"/>')
        parts.append(f'<text class="c-tick" x="{start + 24:.0f}" y="{level + 4}">{escape(curve_label)}</text>')
    return _svg(width, y1 + 50, title, parts)


@dataclass(frozen=True)
class Dot:
    """A measured score at a number of real images, in the units of the axis."""

    images: float
    value: float
    low: float
    high: float


def learning(lines: Sequence[tuple[str, Sequence[Dot]]], *, width: int, title: str, across: str, up: str) -> Markup:
    """Score against real training images, doublings at equal distance: the first line is the baseline, a second the candidate."""
    x0, x1, y0 = 54, width - 16, 40 + 20 * len(lines)
    y1 = y0 + (230 if width > 600 else 190)
    dots = [dot for _, row in lines for dot in row]
    ticks = _ticks(min(d.low for d in dots), max(d.high for d in dots), 5)
    first, last = (math.log(f(d.images for d in dots)) for f in (min, max))

    def x(images: float) -> float:
        return x0 + 30 + (math.log(images) - first) / ((last - first) or 1.0) * (x1 - x0 - 60)

    def y(value: float) -> float:
        return y1 - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (y1 - y0)

    parts = [f'<text class="c-tick" x="0" y="14">{escape(up)}</text>']
    for tick in ticks:
        parts.append(f'<line class="c-grid" x1="{x0}" x2="{x1}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="c-tick" x="{x0 - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    for images in sorted({d.images for d in dots}):
        parts.append(f'<text class="c-tick" x="{x(images):.1f}" y="{y1 + 18}" text-anchor="middle">{images:,.0f}</text>')
    parts.append(f'<text class="c-tick" x="{(x0 + x1) / 2:.0f}" y="{y1 + 38}" text-anchor="middle">{escape(across)}</text>')
    for i, (name, row) in enumerate(lines):
        line, aside, mark = ("c-fit", 5.0, "diamond") if i else ("c-base", -5.0, "dot")
        places = [(x(d.images) + (aside if len(lines) > 1 else 0.0), d) for d in sorted(row, key=lambda d: d.images)]
        parts.append(f'<polyline class="{line} c-line" points="{" ".join(f"{a:.1f},{y(d.value):.1f}" for a, d in places)}"/>')
        for a, d in places:
            parts.append(f'<line class="c-span" x1="{a:.1f}" x2="{a:.1f}" y1="{y(d.low):.1f}" y2="{y(d.high):.1f}"/>')
            parts += [f'<line class="c-span" x1="{a - 4:.1f}" x2="{a + 4:.1f}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>' for v in (d.low, d.high)]
            parts.append(_shape(mark, a, y(d.value)))
        level = 28 + 20 * i
        parts.append(f'<line class="{line}" x1="{x0}" x2="{x0 + 26}" y1="{level}" y2="{level}"/>{_shape(mark, x0 + 13, level)}')
        parts.append(f'<text class="c-tick" x="{x0 + 34}" y="{level + 4}">{_fit(name, width - x0 - 40)}</text>')
    return _svg(width, y1 + 50, title, parts)


def _shape(mark: str, x: float, y: float) -> str:
    if mark == "diamond":
        return f'<path class="c-filled" d="M{x - 7:.1f} {y:.1f}L{x:.1f} {y - 7:.1f}L{x + 7:.1f} {y:.1f}L{x:.1f} {y + 7:.1f}Z"/>'
    return f'<circle class="c-dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    head = f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>")  # every text in it was escaped where it was written


def _mark(row: Interval, x: Callable[[float], float], middle: float) -> str:
    parts = []
    if row.low is not None and row.high is not None:
        a, b = x(row.low), x(row.high)
        parts.append(f'<line class="c-span c-{row.mark}" x1="{a:.1f}" x2="{b:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
        for end in (a, b):
            parts.append(f'<line class="c-span c-{row.mark}" x1="{end:.1f}" x2="{end:.1f}" y1="{middle - 4:.1f}" y2="{middle + 4:.1f}"/>')
    c = x(row.value)
    if row.mark == "diamond":
        parts.append(f'<path class="c-filled" d="M{c - 8:.1f} {middle:.1f}L{c:.1f} {middle - 8:.1f}L{c + 8:.1f} {middle:.1f}L{c:.1f} {middle + 8:.1f}Z"/>')
    elif row.mark == "cross":
        parts.append(f'<path class="c-x" d="M{c - 4.5:.1f} {middle - 4.5:.1f}l9 9m0 -9l-9 9"/>')
    else:
        parts.append(f'<circle class="c-dot" cx="{c:.1f}" cy="{middle:.1f}" r="5"/>')
    return "".join(parts)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that reach from below `low` to above `high`."""
    span = high - low or abs(high) or 1.0
    raw = span / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _tick(value: float) -> str:
    return f"{value:,.6g}".replace("-", "−")


def _width(text: str) -> float:
    """About how wide 13 px text is: full-width characters take 13, others 7.2."""
    return sum(13.0 if unicodedata.east_asian_width(c) in "WF" else 7.2 for c in text)


def _fit(text: str, width: float) -> Markup:
    """`text` cut to `width`, with an ellipsis; the whole of it as a tooltip."""
    if _width(text) <= width:
        return escape(text)
    cut = text
    while cut and _width(cut) > width - 13:
        cut = cut[:-1]
    return Markup("<title>{}</title>{}…").format(text, cut)
