"""The report of a run: one HTML file with everything in it, for a manager first and an engineer below. No network, no script.

It is made from the files of the run folder alone (docs/run-folder.md), so a run can be reported anywhere, also years later.
Everything in that folder is text from users: the template escapes it, pictures are opened and written anew.
"""

from __future__ import annotations

import base64
import io
import json
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mitate import codec, recipe
from mitate.errors import DataError, MitateError
from mitate.report import charts
from mitate.report.words import Words, load
from mitate.store import disk_errors, write_text
from mitate.study import Run

THUMBNAIL = 112  # pixels a side at most, so that a report of large photographs stays small
SHOWN_CLASSES, SHOWN_REAL, SHOWN_SYNTHETIC = 10, 4, 6  # pictures a generator
SHOWN_BARS = 24  # classes in a plot: the lowest and the highest half
SHOWN_SCORES = 120  # rows of the score table
MARK_CHECKED = 5_000  # files of synthetic/ that are read for the mark
POINTS = ("accuracy", "balanced", "macro-f1", "recall")  # measures whose gains are told in points
UNSIGNED = frozenset({"worthwhile", "score", "chance", "floor", "share"})


def write_report(run: Run, *, lang: str = "en", out: Path | None = None) -> Path:
    """Write the report of a finished run and return where it is: report.html (English) or report.ja.html in the run folder.

    The bytes follow from the run folder and the language alone. DataError when the run has no decision yet.
    """
    words = load(lang)
    page = Page(run, words)
    text = _template().render(page=page, w=words)
    path = out or run.folder / ("report.html" if lang == "en" else f"report.{lang}.html")
    with disk_errors(path.parent):
        write_text(path, text)
    return path


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


@dataclass(frozen=True)
class Gate:
    """A rule that was fixed before the run, and what happened."""

    name: str
    subject: str
    rule: str
    found: str
    floor: str
    outcome: str
    passed: bool | None


@dataclass(frozen=True)
class Pair:
    """A synthetic picture and the real training picture nearest to it, as data URIs; an empty one is missing."""

    image: str
    nearest: str
    copy: bool
    remark: str


@dataclass(frozen=True)
class Strip:
    """The pictures of a class: real ones, and pairs of one generator."""

    label: str
    real: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Gallery:
    """The strips of one generator."""

    generator: str
    note: str
    share: str
    alarm: bool
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Plot:
    """A plot twice: for a desktop and for a phone."""

    title: str
    wide: Markup
    narrow: Markup
    note: str = ""


class Page:
    """What the template asks for, each part made once from the files of the run."""

    def __init__(self, run: Run, words: Words) -> None:
        self.run = run
        self.w = words
        self.decision = run.decision
        if not isinstance(self.decision, dict) or "verdict" not in self.decision:
            raise DataError(f"{run.folder}/decision.json holds no verdict.", fix="run the same command again with another --out")
        self.study = _mapping(run.read("study.json"))
        self.machine = self._optional("machine.json")
        self.jobs = list(self._lines("jobs.jsonl"))
        self.scores = list(self._lines("scores.jsonl"))
        self.arms = [_mapping(arm) for arm in _list(self.decision.get("arms"))]

    # the answer -------------------------------------------------------------------------------------------------------

    @cached_property
    def name(self) -> str:
        data = _mapping(self.study.get("data"))
        return str(data.get("name") or self.run.folder.resolve().name)

    @cached_property
    def tone(self) -> str:
        return {"go": "go", "stop": "stop"}.get(str(self.decision["verdict"]), "more")

    @property
    def badge(self) -> str:
        return self.w(f"verdict.{self.tone}")

    @cached_property
    def code(self) -> str:
        return str(self.decision.get("reason_code") or "")

    @property
    def headline(self) -> str:
        return self.w.get(f"headline.{self.code}", self.w(f"headline.other_{self.tone}"))

    @property
    def reason(self) -> str:
        return self.w.get(f"reason.{self.code}", str(self.decision.get("reason") or self.headline), self._values(self.decision.get("reason_values")))

    @cached_property
    def candidate(self) -> dict[str, Any] | None:
        return next((arm for arm in self.arms if arm.get("role") == "candidate"), None)

    @cached_property
    def confirmed(self) -> dict[str, Any] | None:
        """The gain that the verdict rests on: of the candidate, on the test split."""
        gain = _mapping(self.candidate.get("gain")) if self.candidate and self.candidate.get("split") == "test" else {}
        return gain if _number(gain.get("value")) is not None else None

    @property
    def gain(self) -> str:
        return f"{self.change(self.confirmed['value'])} {self.unit}" if self.confirmed else ""

    @property
    def gain_interval(self) -> str:
        if not self.confirmed or self._interval(self.confirmed) is None:
            return ""
        low, high = self.change(self.confirmed["low"]), self.change(self.confirmed["high"])
        return self.w("label.interval", confidence=self.confidence, low=low, high=high, unit=self.unit)

    @property
    def worthwhile(self) -> str:
        return self.amount(self.decision.get("worthwhile"))

    @cached_property
    def next_step(self) -> str:
        step = _mapping(self.decision.get("next_step"))
        fallback = str(step.get("note") or step.get("text") or "") or self.w("next.none")
        return self.w.get(f"next.{step.get('code')}", fallback, self._values(step.get("values"), signed=False))

    @cached_property
    def cost(self) -> dict[str, Any]:
        return _mapping(self.decision.get("cost"))

    @property
    def cost_line(self) -> list[str]:
        parts = []
        if (seconds := _number(self.cost.get("machine_seconds"))) is not None:
            parts.append(self.w("count.machine", time=self.duration(seconds)))
        if (images := _number(self.cost.get("synthetic_images"))) is not None:
            parts.append(self.w("count.synthetic", n=_count(images)))
        if (money := self.cost.get("money")) is not None:
            parts.append(_money(money))
        return parts or [self.missing("")]

    @property
    def caution(self) -> str:
        """What a `go` must not hide: classes and groups that came out worse beyond chance. Empty where there is none."""
        sure = self._worse()[0] if self.tone == "go" else []
        return self.w("label.caution", names=self._join(sure)) if sure else ""

    @property
    def meeting(self) -> list[str]:
        train = self._split_sizes().get("train")
        asked = self.w("meeting.asked", measure=self.measure, train=_count(train)) if train else self.w("meeting.asked_plain", measure=self.measure)
        answer = self.w.get(f"meeting.{self.code}", str(self.decision.get("reason") or self.headline), self._values(self.decision.get("reason_values")))
        return [asked, answer, self.w("meeting.next", next=self.next_step)]

    # numbers ----------------------------------------------------------------------------------------------------------

    @cached_property
    def _kind(self) -> str:
        return str(self.decision.get("measure") or "accuracy").split(":")[0]

    @property
    def in_points(self) -> bool:
        return self._kind in POINTS

    @property
    def unit(self) -> str:
        return self.w("unit.points" if self.in_points else "unit.cost_short")

    @property
    def measure(self) -> str:
        measure = str(self.decision.get("measure") or "accuracy")
        if measure.startswith("recall:"):
            return self.w("measure.recall", name=measure.partition(":")[2])
        return self.w.get(f"measure.{measure}", self.w("measure.costs") if not self.in_points else measure)

    @property
    def measure_text(self) -> str:
        return self.w(f"measured.{self._kind}" if self.in_points else "measured.costs")

    @property
    def confidence(self) -> str:
        return self._confidence(self.decision.get("confidence", 0.95))

    def change(self, value: Any) -> str:
        """A gain with its sign, in points or in the measure's own unit; no unit."""
        number = _number(value)
        return self.missing("") if number is None else self._gain(number * (100 if self.in_points else 1))

    def _gain(self, scaled: float) -> str:
        """A gain in its unit, three significant digits; points are never told finer than a hundredth."""
        return _signed(scaled, places=2 if self.in_points else None)

    def level(self, value: Any) -> str:
        """A score: accuracy and its like in percent, a cost as it is."""
        number = _number(value)
        if number is None:
            return self.missing("")
        return f"{_digits(number * 100)} %" if self.in_points else _digits(number)

    def amount(self, value: Any) -> str:
        """A size of gain without a sign, with its unit: `1 point`."""
        number = _number(value)
        if number is None:
            return self.missing("")
        text = _plain(number * (100 if self.in_points else 1))
        unit = self.w("unit.point") if self.in_points and text == "1" else self.unit
        return self.w("worth", number=text, unit=unit)

    def missing(self, why: object) -> str:
        return self.w("missing", why=str(why) if why else self.w("missing.why"))

    def duration(self, seconds: float) -> str:
        if seconds < 90:
            return self.w("dur.s", s=_digits(seconds) if seconds < 10 else f"{seconds:.0f}")
        if seconds < 5400:
            whole = round(seconds)
            return self.w("dur.min", min=str(whole // 60), s=f"{whole % 60:02d}")
        minutes = round(seconds / 60)
        return self.w("dur.h", h=f"{minutes // 60:,}", min=f"{minutes % 60:02d}")

    def _confidence(self, share: Any) -> str:
        number = _number(share)
        return self.w("confidence", number=f"{(0.95 if number is None else number) * 100:.4g}")

    def _interval(self, figure: Mapping[str, Any]) -> tuple[float, float] | None:
        low, high = _number(figure.get("low")), _number(figure.get("high"))
        return None if low is None or high is None else (low, high)

    def _span(self, figure: Mapping[str, Any], write: Callable[[float], str]) -> str:
        """`75.3 to 81.5 %`: the unit is told once, where both ends carry it."""
        ends = self._interval(figure)
        if ends is None:
            return ""
        low, high = write(ends[0]), write(ends[1])
        unit = high.partition(" ")[2]
        return self.w("interval", low=low.removesuffix(f" {unit}") if unit else low, high=high)

    def _values(self, values: Any, *, signed: bool = True) -> dict[str, str]:
        """What a code's sentence is filled with. A value that is missing is left out, so that the sentence falls back whole."""
        out = {"unit": self.unit, "confidence": self.confidence, "measure": self.measure, "worthwhile": self.worthwhile}
        for key, value in _mapping(values).items():
            number = _number(value)
            if key in ("gain", "worthwhile") and not (signed and key == "gain"):
                text = self.amount(value) if number is not None else None
            elif key in ("gain", "low", "high", "best"):
                text = self.change(value) if number is not None else None
            elif key in ("share", "floor"):
                text = None if number is None else _share(number)
            elif key in ("score", "chance"):
                text = None if number is None else self.level(number)
            elif key == "arms" and isinstance(value, (list, tuple)):
                text = _count(len(value))
            elif key == "measure":
                text = self.measure
            elif key == "candidate" or key == "arm":
                text = self._label_of(str(value))
            elif isinstance(value, (list, tuple)):
                text = self._join(map(str, value))
            else:
                text = _count(number) if number is not None else str(value) if value is not None else None
            if text is not None:
                out[key] = text
            else:
                out.pop(key, None)
        return out

    def _say(self, facts: Mapping[str, Any], field: str, family: str) -> str:
        """A text field in the report's language where the study gave it a code, else as it stands."""
        return self.w.get(f"{family}.{facts.get(f'{field}_code')}", str(facts.get(field) or ""), self._values(facts.get(f"{field}_values")))

    def _join(self, parts: Iterable[str]) -> str:
        text = ""
        for part in parts:
            text = self.w("list", a=text, b=part) if text else part
        return text

    # arms -------------------------------------------------------------------------------------------------------------

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
            arms = [arm for arm in self._by_gain(role) if _number(_mapping(arm.get("gain")).get("value")) is not None]
            blocks.append(charts.Block(self.w(title), tuple(self._row(_label(arm), _mapping(arm["gain"]), mark) for arm in arms)))
        return self._plot(blocks, self.w("plot.arms"), self.w("plot.intervals", confidence=self.confidence))

    def _by_gain(self, role: str) -> list[dict[str, Any]]:
        def key(arm: dict[str, Any]) -> tuple[bool, float]:
            value = _number(_mapping(arm.get("gain")).get("value"))
            return (value is None, -(value or 0.0))

        return sorted((arm for arm in self.arms if arm.get("role") == role), key=key)

    def _arm(self, arm: dict[str, Any]) -> Arm:
        score, gain = _mapping(arm.get("score")), _mapping(arm.get("gain"))
        has_score, has_gain = _number(score.get("value")) is not None, _number(gain.get("value")) is not None
        where = self.w.get(f"split.{arm.get('split')}", str(arm.get("split") or "")) if has_score or has_gain else ""
        n = _number(gain.get("n") if has_gain else score.get("n"))
        p = _number(arm.get("p_holm"))
        role = str(arm.get("role") or "")
        dropped = ""
        if role == "dropped" or arm.get("dropped"):
            dropped = self.w.get(f"dropped.{arm.get('dropped_code')}", str(arm.get("dropped") or self.w("dropped.unknown")), self._values(arm.get("dropped_values")))
        no_score = self.missing(dropped or score.get("note"))
        return Arm(
            label=_label(arm),
            plain=self._plain(str(arm.get("name") or "")),
            role=role,
            score=self.level(score["value"]) if has_score else no_score,
            score_interval=self._span(score, self.level),
            gain=self.change(gain["value"]) if has_gain else "" if role == "baseline" else self.missing(dropped or gain.get("note")),
            gain_interval=self._span(gain, self.change) or (self.w("hurt.no_interval") if has_gain else ""),
            p="" if p is None else _p(p),
            where=f"{where} · {self.w('n', n=_count(n))}" if where and n is not None else where,
            dropped=dropped,
        )

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

    def _label_of(self, name: str) -> str:
        """The label of an arm that is named; the candidate's where several arms share the name."""
        named = [arm for arm in self.arms if name in (arm.get("name"), arm.get("label"))]
        named.sort(key=lambda arm: arm.get("role") != "candidate")
        return _label(named[0]) if named else name

    def _row(self, label: str, gain: Mapping[str, Any], mark: str) -> charts.Interval:
        scale = 100 if self.in_points else 1
        value = float(gain["value"]) * scale
        ends = self._interval(gain)
        low, high = (ends[0] * scale, ends[1] * scale) if ends else (None, None)
        span = f"  [{self._gain(low)}, {self._gain(high)}]" if low is not None and high is not None else f"  ({self.w('hurt.no_interval')})"
        return charts.Interval(label, value, low, high, self._gain(value) + span, mark)

    def _plot(self, blocks: Sequence[charts.Block], title: str, note: str = "", *, band: bool = True) -> Plot | None:
        worth = _number(self.decision.get("worthwhile")) if band else None
        scaled = worth * (100 if self.in_points else 1) if worth else None

        def draw(width: int) -> Markup:
            return charts.intervals(
                blocks, width=width, title=title, worthwhile=scaled, worthwhile_label=self.w("plot.band", worthwhile=self.worthwhile),
                axis=self.w("plot.axis", unit=self.unit), left=self.w("plot.hurts"), right=self.w("plot.helps"),
            )  # fmt: skip

        wide = draw(charts.WIDE)
        return Plot(title, wide, draw(charts.NARROW), note) if wide else None

    # pictures ---------------------------------------------------------------------------------------------------------

    @cached_property
    def galleries(self) -> list[Gallery]:
        facts = self._optional("samples/samples.json")
        real = _mapping(facts.get("real"))
        out = []
        for generator, classes in _mapping(facts.get("generators")).items():
            strips = []
            classes = _mapping(classes)
            for label in self._shown_classes(facts, classes):
                pairs = tuple(self._pair(_mapping(facts)) for facts in _list(classes.get(label))[:SHOWN_SYNTHETIC])
                strips.append(Strip(label, tuple(self._picture(str(f), synthetic=False) for f in _list(real.get(label))[:SHOWN_REAL]), pairs))
            pairs_shown = [pair for strip in strips for pair in strip.pairs]
            copies = sum(pair.copy for pair in pairs_shown)
            n = _count(len(pairs_shown))
            note = self.w("pictures.copies_shown", copies=_count(copies), n=n) if copies else self.w("pictures.no_copies", n=n) if pairs_shown else ""
            out.append(Gallery(str(generator), note, self._copy_share(str(generator)), copies > 0, tuple(strips)))
        return out

    @property
    def pictures_note(self) -> str:
        facts = self._optional("samples/samples.json")
        n = len(_list(facts.get("classes")))
        return self.w("pictures.some", shown=_count(SHOWN_CLASSES), n=_count(n)) if n > SHOWN_CLASSES else ""

    def _shown_classes(self, facts: Mapping[str, Any], classes: Mapping[str, Any]) -> list[str]:
        """Classes with a copy first, for nothing alarming may be cut off; then the others in their order."""
        names = [str(name) for name in _list(facts.get("classes"))] or list(classes)
        if len(names) <= SHOWN_CLASSES:
            return names
        with_copy = [name for name in names if any(_mapping(p).get("copy") for p in _list(classes.get(name)))]
        chosen = {*with_copy[:SHOWN_CLASSES]}
        for name in names:
            if len(chosen) < SHOWN_CLASSES:
                chosen.add(name)
        return [name for name in names if name in chosen]

    def _pair(self, facts: Mapping[str, Any]) -> Pair:
        ratio = _number(facts.get("ratio"))
        remark = self.w("pictures.ratio", ratio=_digits(ratio)) if ratio is not None else self.w("pictures.unknown")
        return Pair(self._picture(facts.get("file"), synthetic=True), self._picture(facts.get("nearest"), synthetic=False), facts.get("copy") is True, remark)

    def _picture(self, file: Any, *, synthetic: bool) -> str:
        """A picture of the run folder as a data URI, at most THUMBNAIL pixels a side; empty where it is missing or no picture.

        It is decoded and written anew, so nothing of a strange file but its pixels gets into the page; synthetic ones keep the mark.
        """
        if not isinstance(file, str):
            return ""
        for base in (self.run.folder / "samples", self.run.folder):
            path = base / file
            try:
                if not path.resolve().is_relative_to(self.run.folder.resolve()) or not path.is_file():
                    continue
                pixels = codec.decode(path).pixels
            except (MitateError, OSError, ValueError):
                return ""
            if max(pixels.shape[:2]) > THUMBNAIL:
                pixels = codec.resize(pixels, THUMBNAIL, pixels.shape[-1])
            if synthetic:
                data = codec.encode_png(pixels)
            else:
                buffer = io.BytesIO()
                codec.to_image(pixels).save(buffer, "PNG", compress_level=9)
                data = buffer.getvalue()
            return "data:image/png;base64," + base64.b64encode(data).decode()
        return ""

    def _copy_share(self, generator: str) -> str:
        """The share of copies in all images of a generator with that of real images, from its gate or its score; else empty."""
        found = [g for g in map(_mapping, _list(self.decision.get("gates"))) if g.get("name") in ("copies", "privacy") and g.get("subject") == generator]
        found += [s for s in self.scores if s.get("metric") == "copies" and s.get("subject") == generator]
        for facts in found:
            value, floor = _number(facts.get("value")), _number(facts.get("floor"))
            if value is not None:
                return self.w("pictures.share", share=_share(value), floor=_share(floor) if floor is not None else self.missing(facts.get("note")))
        return ""

    # where it hurt ----------------------------------------------------------------------------------------------------

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
        return self.w("hurt.arm" if confirmed else "hurt.no_candidate", arm=_label(self.detailed))

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
                note = self.w("hurt.many", shown=_count(SHOWN_BARS), n=_count(len(rows)))
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
        return [(str(k), _mapping(v)) for k, v in _mapping(self.detailed.get(field)).items() if _number(_mapping(v).get("value")) is not None]

    # gates ------------------------------------------------------------------------------------------------------------

    @cached_property
    def gates(self) -> list[tuple[str, list[Gate]]]:
        """Gates by the stage they belong to."""
        stages: dict[str, list[Gate]] = {}
        for facts in map(_mapping, _list(self.decision.get("gates"))):
            stages.setdefault(self.w.get(f"stage.{facts.get('stage')}", str(facts.get("stage") or "")), []).append(self._gate(facts))
        return list(stages.items())

    def _gate(self, facts: Mapping[str, Any]) -> Gate:
        name = str(facts.get("name") or "")
        write = {"copies": _share, "privacy": _share, "labels": self.level, "futility": self._change_unit, "gain": self._change_unit}.get(name, _digits)
        value, floor, n = (_number(facts.get(key)) for key in ("value", "floor", "n"))
        note = self._say(facts, "note", "note")
        found = self.missing(note) if value is None else write(value)
        if value is not None and (span := self._span(facts, write)):
            found += f" [{span}]"
        if value is not None and n is not None:
            found += f" · {self.w('n', n=_count(n))}"
        passed = facts.get("passed")
        return Gate(
            name=self.w.get(f"gate.{name}", name),
            subject=self._label_of(str(facts.get("subject") or "")),
            rule=self._say(facts, "rule", "rule"),
            found=found,
            floor=self.w("gates.chance" if name == "labels" else "gates.floor", floor=write(floor)) if floor is not None else "",
            outcome=self.w("gates.passed") if passed is True else self.w("gates.failed") if passed is False else self.missing(note),
            passed=passed if isinstance(passed, bool) else None,
        )

    def _change_unit(self, value: float) -> str:
        return f"{self.change(value)} {self.unit}"

    @property
    def detectable(self) -> list[tuple[str, str, str]]:
        """(when, gain, with what)."""
        facts = _mapping(self.decision.get("smallest_detectable_gain"))
        images, replicates = _number(facts.get("test_images")), _number(facts.get("replicates"))
        both = images is not None and replicates is not None
        with_what = self.w("detect.with", test_images=_count(images), replicates=_count(replicates)) if both else ""
        before, after = _number(facts.get("before")), _number(facts.get("after"))
        return [
            (self.w("detect.before"), self.amount(before) if before is not None else self.missing(""), with_what),
            (self.w("detect.after"), self.amount(after) if after is not None else self.missing(facts.get("note") or self.w("detect.closed")), ""),
        ]

    @property
    def smaller(self) -> list[str]:
        out = []
        for facts in map(_mapping, _list(_mapping(self.decision.get("smallest_detectable_gain")).get("smaller_by"))):
            to, gain, change = _number(facts.get("to")), _number(facts.get("gain")), str(facts.get("change") or "")
            if to is not None and gain is not None:
                values = {"to": _count(to), "gain": self.amount(gain), "change": change}
                out.append(self.w.get(f"smaller.{change}", self.w("smaller.other", **values), values))
        return out

    @property
    def looks(self) -> list[str]:
        return [
            self.w(
                "looks.line", look=_count(_number(facts.get("look"))), confidence=self._confidence(facts.get("confidence")),
                test_images=_count(_number(facts.get("test_images"))), replicates=_count(_number(facts.get("replicates"))),
            )
            for facts in map(_mapping, _list(self.decision.get("looks")))
        ]  # fmt: skip

    @property
    def looks_used(self) -> int:
        numbers = [_number(_mapping(facts).get("look")) or 0 for facts in _list(self.decision.get("looks"))]
        return int(max([len(numbers), *numbers]))

    # cost, what is missing ----------------------------------------------------------------------------------------------

    @property
    def cost_verbs(self) -> list[tuple[str, str]]:
        seconds = {str(k): _number(v) for k, v in _mapping(self.cost.get("seconds")).items()}
        rows = sorted(((k, v) for k, v in seconds.items() if v is not None), key=lambda row: -row[1])
        return [(self.w.get(f"verb.{verb}", verb), self.duration(value)) for verb, value in rows]

    @property
    def cost_totals(self) -> list[tuple[str, str]]:
        rows = []
        for key, label in (("machine_seconds", "cost.machine"), ("wall_seconds", "cost.wall"), ("reused_seconds", "cost.reused")):
            value = _number(self.cost.get(key))
            rows.append((self.w(label), self.missing("") if value is None else self.duration(value)))
        images = _number(self.cost.get("synthetic_images"))
        rows.append((self.w("cost.images"), self.missing("") if images is None else self.w("count.images", n=_count(images))))
        money = self.cost.get("money")
        rows.append((self.w("cost.money"), self.missing(self.w("cost.no_price")) if money is None else _money(money)))
        real = self.decision.get("real_image_equivalent")
        value = _number(_mapping(real).get("value") if isinstance(real, dict) else real)
        span = self._span(_mapping(real), _count)
        text = self.missing(self.w("cost.real_why")) if value is None else self.w("cost.real_value", n=_count(value)) + (f" [{span}]" if span else "")
        rows.append((self.w("cost.real"), text))
        return rows

    @property
    def not_measured(self) -> list[tuple[str, str]]:
        rows: dict[str, str] = {}
        for facts in map(_mapping, _list(self.decision.get("not_measured"))):
            rows.setdefault(self._say(facts, "what", "what"), self._say(facts, "why", "why") or self.w("missing.why"))
        for score in self.scores:
            if _number(score.get("value")) is None:
                rows.setdefault(f"{score.get('metric')} · {score.get('subject')}", self._say(score, "note", "note") or self.w("missing.why"))
        if self.decision.get("real_image_equivalent") is None and not any("real_image_equivalent" in str(_mapping(f).get("what", "")) for f in _list(self.decision.get("not_measured"))):
            rows.setdefault(self.w("missing.real_images"), self.w("cost.real_why"))
        if self.cost.get("money") is None:
            rows.setdefault(self.w("missing.money"), self.w("cost.no_price"))
        return list(rows.items())

    # legal --------------------------------------------------------------------------------------------------------------

    @property
    def legal(self) -> list[tuple[str, list[str]]]:
        """(what to tick, what is known)."""
        w = self.w
        data = _mapping(self.study.get("data"))
        return [
            (w("legal.licence"), [self._named(data.get("licences"), "legal.licence")]),
            (w("legal.consent"), [self._named(data.get("consents"), "legal.consent")]),
            (w("legal.generator"), [w("legal.generator_other" if g.startswith("folder") else "legal.generator_own", name=g) for g in self._generators()]),
            (w("legal.copies"), [w("legal.copies_note", gate=w("gate.copies"))]),
            (w("legal.mark"), [self._marks()]),
            (w("legal.act"), [w("legal.act_note")]),
            (w("legal.style"), [w("legal.style_note")]),
        ]

    def _named(self, found: Any, key: str) -> str:
        if isinstance(found, Mapping):
            names = [f"{name} ({_count(n)})" if (n := _number(count)) is not None else str(name) for name, count in found.items()]
        else:
            names = [str(name) for name in _list(found)]
        return self.w(f"{key}_known", names=self._join(names)) if names else self.w(f"{key}_unknown")

    def _generators(self) -> list[str]:
        names = [str(arm["generator"]) for arm in self.arms if arm.get("generator")]
        names += [gallery.generator for gallery in self.galleries]
        return list(dict.fromkeys(names))

    def _marks(self) -> str:
        folder = self.run.folder / "synthetic"
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in codec.SUFFIXES and p.is_file())[:MARK_CHECKED] if folder.is_dir() else []
        if not files:
            return self.w("legal.mark_none")
        needle = codec.SOURCE_TYPE.encode()
        marked = sum(needle in p.read_bytes() for p in files)
        return self.w("legal.mark_checked", marked=_count(marked), n=_count(len(files)))

    # how it was made ------------------------------------------------------------------------------------------------------

    @property
    def splits(self) -> list[tuple[str, str, str, str]]:
        """(split, images, per class, digest)."""
        out = []
        for name, facts in _mapping(_mapping(self.study.get("data")).get("splits")).items():
            facts = _mapping(facts)
            counts = {str(k): _number(v) for k, v in _mapping(facts.get("counts")).items()}
            numbers = [v for v in counts.values() if v is not None]
            if len(numbers) > 12:
                per_class = self.w("interval", low=_count(min(numbers)), high=_count(max(numbers)))
            else:
                per_class = self._join(f"{k} {_count(v)}" for k, v in counts.items() if v is not None)
            size = self._split_sizes().get(str(name))
            label = self.w.get(f"split.{str(name).replace('-', '').replace('_', '')}", str(name))
            out.append((label, _count(size) if size is not None else self.w("missing.recorded"), per_class, str(facts.get("digest") or "")))
        return out

    def _split_sizes(self) -> dict[str, float]:
        sizes = {}
        for name, facts in _mapping(_mapping(self.study.get("data")).get("splits")).items():
            facts = _mapping(facts)
            n = _number(facts.get("n"))
            counts = [v for v in map(_number, _mapping(facts.get("counts")).values()) if v is not None]
            if n is None and counts:
                n = sum(counts)
            if n is not None:
                sizes[str(name)] = n
        return sizes

    @property
    def findings(self) -> list[str]:
        found = _mapping(self.study.get("data")).get("findings")
        if isinstance(found, Mapping):
            found = [f"{k}: {_flat(v)}" for k, v in found.items() if v]
        out = []
        for facts in _list(found):
            if isinstance(facts, Mapping):
                out.append(self._say(facts, "text", "finding") or _flat(facts))
            else:
                out.append(str(facts))
        return out

    @property
    def facts(self) -> list[tuple[str, str]]:
        m = self.machine
        packages = {"python": m.get("python"), **_mapping(m.get("packages"))}
        nothing = self.w("missing.recorded")
        reused = sum(job.get("reused") is True for job in self.jobs)
        opening = self._optional("opening.json")
        look = _number(opening.get("look"))
        if look is None and self.looks_used:
            look = self.looks_used
        return [
            (self.w("how.system"), str(m.get("system") or nothing)),
            (self.w("how.processor"), str(m.get("processor") or nothing)),
            (self.w("how.cores"), _count(_number(m.get("cores"))) if m.get("cores") else nothing),
            (self.w("how.packages"), ", ".join(f"{k} {v}" for k, v in packages.items() if v) or nothing),
            (self.w("how.jobs"), self.w("how.jobs_value", n=_count(len(self.jobs)), reused=_count(reused)) if self.jobs else nothing),
            (self.w("how.opened"), self.w("how.opened_value", look=_count(look)) if look else self.w("how.opened_never")),
            (self.w("how.study"), self._study_digest()),
        ]

    def _study_digest(self) -> str:
        try:
            return self.run.study.digest
        except (MitateError, TypeError, ValueError):
            return self.w("missing.recorded")

    @property
    def command(self) -> str:
        command = self.machine.get("command")
        if isinstance(command, (list, tuple)):
            return shlex.join(str(part) for part in command)
        return str(command) if command else ""

    @property
    def sizes(self) -> list[tuple[str, str]]:
        return [(str(k), _flat(v)) for k, v in _mapping(self.study.get("sizes")).items()]

    @property
    def score_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """(metric, subject, value with interval, n, floor, features) of measured scores."""
        rows = []
        for score in self.scores[:SHOWN_SCORES]:
            value, floor, n = (_number(score.get(key)) for key in ("value", "floor", "n"))
            if value is None:
                text = self.missing(self._say(score, "note", "note"))
            else:
                span = self._span(score, _digits)
                text = f"{_digits(value)} [{span}]" if span else _digits(value)
            axis = self.w.get(f"axis.{score.get('axis')}", str(score.get("axis") or ""))
            rows.append((
                f"{score.get('metric')} · {axis}", str(score.get("subject") or ""), text, "–" if n is None else _count(n),
                "–" if floor is None else _digits(floor), str(score.get("features") or "–")[:8],
            ))  # fmt: skip
        return rows

    @property
    def scores_note(self) -> str:
        n = len(self.scores)
        return self.w("how.scores_more", shown=_count(SHOWN_SCORES), n=_count(n)) if n > SHOWN_SCORES else ""

    @cached_property
    def fit_plots(self) -> list[Plot]:
        """Loss on the selection split of every fit, a plot a generator. Fits are the jobs whose facts hold a curve and whose verb is fit."""
        lines: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {}
        for job in self.jobs:
            facts = _mapping(job.get("facts"))
            curve = [p for p in _list(facts.get("curve")) if isinstance(p, list) and len(p) == 2 and all(_number(v) is not None for v in p)]
            if job.get("verb") == "fit" and curve:
                name = str(facts.get("generator") or facts.get("kind") or str(job.get("name") or "").rsplit("/", 1)[-1])
                lines.setdefault(name, []).append((str(job.get("name") or ""), [(float(a), float(b)) for a, b in curve]))
        plots = []
        for name, fits in lines.items():
            title = self.w("how.curve_title", name=name)
            across, up, best = self.w("how.curve_across"), self.w("how.curve_up"), self.w("how.curve_best")
            wide = charts.curves(fits, width=460, title=title, across=across, up=up, best=best)
            if wide:
                plots.append(Plot(title, wide, charts.curves(fits, width=charts.NARROW, title=title, across=across, up=up, best=best)))
        return plots

    @property
    def glossary(self) -> list[tuple[str, str]]:
        terms = ("points", "interval", "arm", "baseline", "candidate", "exploratory", "replicate", "split", "copy", "worthwhile")
        rows = [(self.measure, self.measure_text)]
        rows += [(self.w(f"term.{t}"), self.w(f"term.{t}.text")) for t in terms if t != "points" or self.in_points]
        return rows

    @property
    def arm_glossary(self) -> list[tuple[str, str]]:
        """Every arm of this run by its typed name, once."""
        names = dict.fromkeys(str(arm.get("name") or "") for arm in self.arms)
        return [(name, plain) for name in names if (plain := self._plain(name))]

    @property
    def version(self) -> str:
        return str(_mapping(self.machine.get("packages")).get("mitate") or _version())

    # files ----------------------------------------------------------------------------------------------------------------

    def _optional(self, name: str) -> dict[str, Any]:
        """A file that a run may lack: then it is empty, and the page says what is not recorded."""
        return _mapping(self.run.read(name)) if (self.run.folder / name).is_file() else {}

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.run.folder / name
        if not path.is_file():
            return
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield _mapping(json.loads(line))
        except (OSError, ValueError) as wrong:
            raise DataError(f"{path} cannot be read ({wrong}).", fix="run the same command again") from wrong


# plain values -------------------------------------------------------------------------------------------------------------


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _number(value: Any) -> float | None:
    """A finite number, or None: NaN and infinity are no measurements."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _digits(value: float) -> str:
    """Three significant digits, as people write them."""
    if value == 0:
        return "0"
    places = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= 1e6 or abs(rounded) < 1e-4:
        return f"{value:.2e}".replace("-", "−")
    return f"{rounded:,.{max(0, places - (abs(rounded) >= 10 ** (3 - places)))}f}".replace("-", "−")


def _signed(value: float, *, places: int | None = None) -> str:
    """With its sign, at most `places` decimals unless nothing would be left."""
    text = _digits(value)
    if places is not None and abs(value) < 1:
        text = f"{value:.{places}f}".replace("-", "−")
        if value != 0 and not text.strip("−0."):
            text = f"{value:.1g}".replace("-", "−")
    return text if text[0] == "−" or value == 0 else f"+{text}"


def _plain(value: float) -> str:
    """A number somebody chose, without idle zeros: 1, 0.5, 2.13."""
    text = _digits(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _share(value: float) -> str:
    return f"{_plain(value * 100)} %"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if float(value).is_integer() else _digits(value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _money(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(_count(n) if (n := _number(v)) is not None else str(v) for v in value.values())
    number = _number(value)
    return f"{number:,.2f}" if number is not None else str(value)


def _flat(value: Any) -> str:
    """A setting in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(v) for v in value)
    number = _number(value)
    return _plain(number) if number is not None and not float(number).is_integer() else f"{number:,.0f}" if number is not None else str(value)


def _label(arm: Mapping[str, Any]) -> str:
    return str(arm.get("label") or arm.get("name") or "")


def _version() -> str:
    try:
        return metadata.version("mitate")
    except metadata.PackageNotFoundError:
        return ""


def _template() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("mitate", "report")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template("report.html.j2")


