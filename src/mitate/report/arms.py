"""The arms of the report: table, plot, and where synthetic data helped and hurt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from mitate import recipe
from mitate.errors import MitateError
from mitate.report import charts
from mitate.report.numbers import as_mapping, as_number, say_count, say_label, say_p
from mitate.report.part import Part

SHOWN_BARS = 24  # classes in a plot: the lowest and the highest half


@dataclass(frozen=True)
class Arm:
    """An arm as the page shows it. Numbers are texts by now."""

    label: str
    plain: str
    role: str
    score: str
    score_interval: str
    gain: str
    gain_interval: str
    p: str
    where: str
    dropped: str
    measured: bool


@dataclass(frozen=True)
class Plot:
    """A plot twice: for a desktop and for a phone."""

    title: str
    wide: Markup
    narrow: Markup
    note: str = ""


class Arms(Part):
    """What was compared."""

    @property
    def baseline(self) -> str:
        return self._label_of(str(self.decision.get("baseline") or recipe.BASELINE))

    @cached_property
    def confirmatory(self) -> list[Arm]:
        return [self._arm(arm) for arm in self.arms if arm.get("role") == "candidate"]

    @cached_property
    def baselines(self) -> list[Arm]:
        return [self._arm(arm) for arm in self.arms if arm.get("role") == "baseline"]

    @cached_property
    def exploratory(self) -> list[Arm]:
        return [self._arm(arm) for arm in self._by_gain("exploratory")]

    @cached_property
    def dropped(self) -> list[Arm]:
        return [self._arm(arm) for arm in self._by_gain("dropped")]

    @cached_property
    def arms_plot(self) -> Plot | None:
        sections = (("candidate", "diamond", "arms.confirmatory"), ("exploratory", "dot", "arms.exploratory"), ("dropped", "cross", "arms.dropped"))
        blocks = []
        for role, mark, title in sections:
            arms = [arm for arm in self._by_gain(role) if as_number(as_mapping(arm.get("gain")).get("value")) is not None]
            blocks.append(charts.Block(self.w(title), tuple(self._row(say_label(arm), as_mapping(arm["gain"]), mark) for arm in arms)))
        return self._plot(blocks, self.w("plot.arms"), self.w("plot.intervals", confidence=self.confidence))

    def _arm(self, arm: dict[str, Any]) -> Arm:
        score, gain = as_mapping(arm.get("score")), as_mapping(arm.get("gain"))
        has_score, has_gain = as_number(score.get("value")) is not None, as_number(gain.get("value")) is not None
        where = self.w.get(f"split.{arm.get('split')}", str(arm.get("split") or "")) if has_score or has_gain else ""
        n = as_number(gain.get("n") if has_gain else score.get("n"))
        p = as_number(arm.get("p_holm"))
        role = str(arm.get("role") or "")
        dropped = ""
        if role == "dropped" or arm.get("dropped"):
            fallback = str(arm.get("dropped") or self.w("dropped.unknown"))
            dropped = self.w.get(f"dropped.{arm.get('dropped_code')}", fallback, self._values(arm.get("dropped_values")))
        no_number = self.w("missing.short") if dropped else self.missing(self.w("missing.not_run"))
        return Arm(
            label=say_label(arm),
            plain=self._told(arm),
            role=role,
            score=self.level(score["value"]) if has_score else no_number,
            score_interval=self._span(score, self.level),
            gain=self.change(gain["value"]) if has_gain else "" if role == "baseline" else no_number,
            gain_interval=self._span(gain, self.change) or (self.w("hurt.no_interval") if has_gain else ""),
            p="" if p is None else say_p(p),
            where=f"{where} · {self.w('n', n=say_count(n))}" if where and n is not None else where,
            dropped=dropped,
            measured=has_gain,
        )

    def _told(self, arm: Mapping[str, Any]) -> str:
        """What an arm does, in words, and how a text-to-image model was told to paint for it."""
        text = self._plain(str(arm.get("name") or ""))
        generators = as_mapping(as_mapping(self.study.get("sizes")).get("generators"))
        options = as_mapping(as_mapping(generators.get(str(arm.get("generator")))).get("options"))
        style = self.w.get(f"style.{options.get('style')}", "") if text else ""
        return self.w("dial.join", arm=text, dial=style) if style else text

    def _plain(self, name: str) -> str:
        """What an arm does, in words: from its recipe and dials."""
        try:
            parsed = recipe.parse(name)
        except MitateError:
            return ""
        root = max((r for r in recipe.RECIPES if parsed.name == r or parsed.name.startswith(r + "+")), key=len)
        text = self.w.get(f"arm.{root}", root)
        for dial in (d for d in parsed.name[len(root) :].split("+") if d):
            text = self.w("dial.join", arm=text, dial=self.w.get(f"dial.{dial}", dial))
        return text

    def _row(self, label: str, gain: Mapping[str, Any], mark: str) -> charts.Interval:
        scale = 100 if self.in_points else 1
        value = float(gain["value"]) * scale
        ends = self._interval(gain)
        low, high = (ends[0] * scale, ends[1] * scale) if ends else (None, None)
        span = f"  [{self._gain(low)}, {self._gain(high)}]" if low is not None and high is not None else f"  ({self.w('hurt.no_interval')})"
        return charts.Interval(label, value, low, high, self._gain(value) + span, mark)

    def _plot(self, blocks: Sequence[charts.Block], title: str, note: str = "", *, band: bool = True) -> Plot | None:
        worth = as_number(self.decision.get("worthwhile")) if band else None
        scaled = worth * (100 if self.in_points else 1) if worth else None

        def draw(width: int) -> Markup:
            return charts.intervals(
                blocks, width=width, title=title, worthwhile=scaled, worthwhile_label=self.w("plot.band", worthwhile=self.worthwhile),
                axis=self.w("plot.axis", unit=self.unit), left=self.w("plot.hurts"), right=self.w("plot.helps"),
            )  # fmt: skip

        wide = draw(charts.WIDE)
        return Plot(title, wide, draw(charts.NARROW), note) if wide else None

    @cached_property
    def detailed(self) -> dict[str, Any] | None:
        """The arm whose classes are shown: the confirmed one, else the best that was measured per class."""
        if self.candidate and self.candidate.get("gain_per_class"):
            return self.candidate
        return next((arm for role in ("exploratory", "dropped") for arm in self._by_gain(role) if arm.get("gain_per_class")), None)

    @property
    def detailed_note(self) -> str:
        if self.detailed is None:
            return self.w("hurt.none")
        confirmed = self.detailed is self.candidate and self.detailed.get("split") == "test"
        return self.w("hurt.arm" if confirmed else "hurt.no_candidate", arm=say_label(self.detailed))

    @property
    def hurt(self) -> list[tuple[str, str]]:
        """What came out worse, in words: (tone, sentence)."""
        sure, maybe = self._worse()
        out = []
        if sure:
            out.append(("bad", self.w("hurt.sure", names=self._join(sure))))
        if maybe:
            out.append(("unsure", self.w("hurt.maybe", names=self._join(maybe))))
        return out or ([("fine", self.w("hurt.nowhere"))] if self.detailed else [])

    def _worse(self) -> tuple[list[str], list[str]]:
        """Classes and groups with their loss: beyond chance, and within it."""
        sure, maybe = [], []
        for name, gain in self._parts("gain_per_class") + self._parts("gain_per_group"):
            ends = self._interval(gain)
            text = f"{name} ({self.change(gain['value'])} {self.unit})"
            if ends and ends[1] < 0:
                sure.append(text)
            elif gain["value"] < 0:
                maybe.append(text)
        return sure, maybe

    @cached_property
    def parts_plots(self) -> list[Plot]:
        plots = []
        for field, title in (("gain_per_class", "hurt.by_class"), ("gain_per_group", "hurt.by_group")):
            parts = self._parts(field)
            rows = sorted(((name, gain) for name, gain in parts), key=lambda part: -float(part[1]["value"]))
            note = ""
            if len(rows) > SHOWN_BARS:
                note = self.w("hurt.many", shown=say_count(SHOWN_BARS), n=say_count(len(rows)))
                rows = rows[: SHOWN_BARS // 2] + rows[-SHOWN_BARS // 2 :]
            block = charts.Block("", tuple(self._row(name, gain, "dot") for name, gain in rows))
            if plot := self._plot([block], self.w(title), note, band=False):
                plots.append(plot)
        return plots

    @property
    def has_groups(self) -> bool:
        return bool(self._parts("gain_per_group"))

    def _parts(self, field: str) -> list[tuple[str, dict[str, Any]]]:
        if self.detailed is None:
            return []
        return [(str(k), as_mapping(v)) for k, v in as_mapping(self.detailed.get(field)).items() if as_number(as_mapping(v).get("value")) is not None]
