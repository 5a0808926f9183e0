"""The axes of an assessment on the page: what each came to in one line, its measures beside their floors, and the plot of those it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from mitate.report import charts
from mitate.report.arms import Plot
from mitate.report.beside import Beside, Tone, beside, shape
from mitate.report.measure import POINTS, SHARE, Measures, unit_of
from mitate.report.numbers import as_mapping, as_number, say_count
from mitate.report.words import Words
from mitate.score import Assessment, Score
from mitate.studies.assess_answer import HEADLINES, UNLIKE
from mitate.studies.assess_planning import AXES

CODES = {
    "leaks": "leaks", "no leak found": "clean", "worse": "worse", "better": "better", "not told apart": "same", "measured": "measured",
    "not measured": "none",
}  # fmt: skip
TONES: dict[str, Tone] = {"leaks": "leak", "clean": "better", "worse": "worse", "better": "better", "same": "same"}
ICONS = {"leaks": "✕", "clean": "✓", "worse": "▼", "better": "▲", "same": "○"}
ATTACKS = {  # by the attack's name, the measure that tells of it
    "ratio": "membership_ratio_auc", "near": "membership_auc", "votes": "membership_votes_auc", "loss": "membership_loss_auc", "lira": "lira_auc",
    "threshold": "threshold_auc", "audit": "epsilon_at_least_one_run",
}  # fmt: skip
CAUGHT = {  # and those of whom it catches
    "ratio": ("members_caught_at_1_in_100", "members_caught_at_1_in_1000"), "loss": ("loss_caught_at_1_in_100",), "lira": ("lira_caught_at_1_in_100",),
}  # fmt: skip
BESIDE_CHANCE = re.compile(r".*_auc|.*_caught_.*|epsilon_.*")  # measures of an attack: their floor is guessing


@dataclass(frozen=True)
class Line:
    """A measure as the page shows it. Numbers are texts by now."""

    key: str
    name: str
    meaning: str
    source: str
    note: str
    value: str
    span: str
    floor: str
    floor_span: str
    n: str
    better: str
    beside: str
    tone: Tone
    icon: str
    measured: bool


@dataclass(frozen=True)
class Finding:
    """An axis as the page shows it."""

    axis: str
    name: str
    code: str
    state: str
    tone: Tone
    icon: str
    answer: str
    evidence: tuple[str, ...]
    detail: str
    lead: str
    deciding: tuple[Line, ...]
    others: tuple[Line, ...]


class AxisParts(Measures):
    """What was measured, axis by axis."""

    def __init__(self, assessment: Assessment, words: Words) -> None:
        super().__init__(words)
        self.scores = assessment.scores
        self.facts = as_mapping(assessment.facts)
        self.states = {str(axis): as_mapping(said) for axis, said in as_mapping(self.facts.get("axes")).items()}
        self.sets = {str(role): as_mapping(told) for role, told in as_mapping(self.facts.get("sets")).items() if told is not None}

    @cached_property
    def parts(self) -> list[Finding]:
        """Every axis that was asked for or has a score, privacy first; privacy also where nobody asked."""
        named = [*self.states, *(str(score.axis) for score in self.scores)]
        return [self._part(axis) for axis in dict.fromkeys(["privacy", *(a for a in AXES if a in named), *named])]

    def code(self, axis: str) -> str:
        """What an axis came to.

        leaks, clean, worse, better, same; measured; bare: measured with nothing to compare it with; none: not measured; unasked; other: a
        state that is not known here.
        """
        found = CODES.get(str(self.states[axis].get("state")), "other") if axis in self.states else "none" if self._of(axis) else "unasked"
        return "bare" if found == "none" and axis != "privacy" and any(_measured(score) for score in self._of(axis)) else found

    def axis_name(self, axis: str) -> str:
        return self.w.get(f"axis.{axis}", axis)

    def _part(self, axis: str) -> Finding:
        code = self.code(axis)
        scores, heads = self._of(axis), self._headlines(axis)
        deciding = sorted((s for s in scores if s.metric in heads and _measured(s)), key=lambda s: heads.index(s.metric))
        others = sorted((s for s in scores if s not in deciding), key=lambda s: not _measured(s))
        state = self.w.get(f"assess.state.{code}", str(as_mapping(self.states.get(axis)).get("state") or self.w("assess.state.none")))
        return Finding(
            axis, title(self.axis_name(axis)), code, state, TONES.get(code, "plain"), ICONS.get(code, "–"), self._answer(axis, code), self._evidence(deciding),
            self._detail(axis, code), self.w.get(f"assess.lead.{axis}", ""), tuple(map(self._line, deciding)), tuple(map(self._line, others)),
        )  # fmt: skip

    def _of(self, axis: str) -> list[Score]:
        return [score for score in self.scores if score.axis == axis]

    def _headlines(self, axis: str) -> tuple[str, ...]:
        """The measures that an axis's state rests on; of privacy, those of the attack that its verdict names."""
        if axis != "privacy":
            return tuple(map(str, self.states.get(axis, {}).get("rests_on") or HEADLINES.get(axis, ())))
        return (ATTACKS[self.attack], *CAUGHT.get(self.attack, ())) if self.attack in ATTACKS else ()

    @property
    def attack(self) -> str:
        """The attack that the verdict on privacy names."""
        return str(self.states.get("privacy", {}).get("attack") or "")

    # one line an axis -------------------------------------------------------------------------------------------------

    def _answer(self, axis: str, code: str) -> str:
        said = self.states.get(axis, {})
        if code == "unasked":
            return self.w("assess.answer.unasked")
        if code == "other":
            return self.translated(str(said.get("why") or said.get("state") or "")) or self.w("missing.why")
        if axis == "efficiency" and (rate := self._score(axis, "images_per_second")) and _measured(rate):
            return self.w("assess.answer.efficiency.rate", rate=self.say(rate.metric, rate.value))
        if axis == "utility" and code in ("worse", "better", "same"):
            return self._use(code)
        if axis == "diversity" and code in ("worse", "better", "same") and self._headlines(axis) == UNLIKE:
            return self.w(f"assess.answer.diversity.unlike.{code}")
        if code == "bare":
            why = self.w("assess.no_interval" if "held_out" in self.sets else "assess.no_floor")
            return self.w("assess.answer.bare", why=self.translated(str(said.get("why") or "")) or why)
        if code == "none" and axis != "privacy":
            return self.w("assess.answer.none", why=self._why(axis) or self.w("missing.why"))
        if axis == "privacy" and code == "leaks" and f"assess.answer.privacy.leaks.{self.attack}" in self.w:
            return self.w(f"assess.answer.privacy.leaks.{self.attack}")
        return self.w.get(f"assess.answer.{axis}.{code}", self.w.get(f"assess.answer.{code}", self.w(f"assess.state.{code}")))

    def _use(self, code: str) -> str:
        """Utility rests on two measures that a user acts on differently: what training gains, and whether labels are right."""
        found = {name: score.beside for name in ("gain", "recognised") if (score := self._score("utility", name))}
        kind = {"better": "helps", "worse": "hurts"}.get(found.get("gain") or "", "same")
        if found.get("recognised") == "worse":
            kind = {"helps": "helps_labels", "same": "labels"}.get(kind, kind)
        return self.w(f"assess.answer.{code}" if kind == "same" and code != "same" else f"assess.answer.utility.{kind}")

    def _why(self, axis: str) -> str:
        """Why an axis was not measured: its own reason, or that of its first measure that was not."""
        why = str(self.states.get(axis, {}).get("why") or "")
        return self.translated(why or next((score.note for score in self._of(axis) if not _measured(score)), ""))

    def _evidence(self, deciding: Sequence[Score]) -> tuple[str, ...]:
        """The numbers behind an answer, two at most."""
        told = []
        for score in deciding[:2]:
            values = {"name": self.metric_name(score.metric), "value": _whole(self.say(score.metric, score.value))}
            if as_number(score.floor) is None:
                told.append(self.w("assess.evidence_alone", **values))
            else:
                told.append(self.w("assess.evidence", **values, floor=_whole(self.say(score.metric, score.floor))))
        return tuple(told)

    def both(self, a: str, b: str) -> str:
        """Two sentences in a row, either of which may be empty."""
        return self.w("volume.sentences", a=a, b=b) if a and b else a or b

    def _detail(self, axis: str, code: str) -> str:
        """What an attack's finding means in plain words, or why privacy is open."""
        said = self.states.get(axis, {})
        if axis != "privacy":
            return ""
        score = self._score(axis, ATTACKS.get(str(said.get("attack") or ""), ""))
        least = as_number(said.get("smallest_auc"))
        if code == "leaks" and score is not None and score.metric.endswith("_auc") and (span := self._between(score.metric, score.low, score.high)):
            value = self.say(score.metric, score.value)
            return self.w("assess.leak.picks", value=value, span=span, confidence=self._confidence(score.confidence))
        if code == "clean" and least is not None:
            return self.w("assess.leak.least", least=self.say("_auc", least))
        return self.w("assess.answer.none", why=why) if (why := self._why(axis)) and code == "none" else why

    @property
    def privacy_record(self) -> str:
        """The verdict's own words, for whoever wants to check them."""
        said = self.states.get("privacy", {})
        return self.translated(str(said.get("why") or "")) if self.code("privacy") in ("leaks", "clean") else ""

    def _score(self, axis: str, metric: str) -> Score | None:
        return next((score for score in self._of(axis) if score.metric == metric), None)

    # measures ---------------------------------------------------------------------------------------------------------

    def _line(self, score: Score) -> Line:
        w, (base, _, part) = self.w, score.metric.partition(":")
        words = "" if part else self._known(base)[0]
        measured, floor = _measured(score), as_number(score.floor)
        code, tone = self._stands(score)
        note = self.translated(score.note)
        return Line(
            key=f"{score.axis}.{score.metric}",
            name=self.metric_name(score.metric),
            meaning=w.get(f"assess.metric.{words}.text", ""),
            source=w.get(f"assess.source.{words}", ""),
            note=note if measured else "",
            value=self.say(score.metric, score.value) if measured else self.missing(note),
            span=(self._between(score.metric, score.low, score.high) or w("assess.no_interval")) if measured else "",
            floor="" if floor is None else self.say(score.metric, floor),
            floor_span=self._between(score.metric, score.floor_low, score.floor_high),
            n=say_count(as_number(score.n)) if measured else "",
            better=w(f"assess.{score.better}") if score.better in ("higher", "lower") else "",
            beside=w(f"assess.beside.{code}") if measured else "",
            tone=tone,
            icon={"leak": "▼", "worse": "▼", "better": "▲", "same": "○"}.get(tone, "–"),
            measured=measured,
        )

    def _stands(self, score: Score) -> tuple[str, Tone]:
        """How a value stands beside its floor, as a word and a tone. Red is for attacks that a verdict of a leak goes with."""
        found = score.beside if _measured(score) else None
        if found is None:
            return "no_floor" if as_number(score.floor) is None else "no_direction" if score.better not in ("higher", "lower") else "no_interval", "plain"
        if found == "worse" and score.axis == "privacy" and BESIDE_CHANCE.fullmatch(score.metric):
            return "leak", "leak" if self.code("privacy") == "leaks" else "worse"
        code = CODES[found]
        return code, TONES[code]

    # the plot ---------------------------------------------------------------------------------------------------------

    @cached_property
    def plot(self) -> Plot | None:
        """The measures that the findings rest on, beside their floors; of privacy the attack and the copies."""
        blocks = [(part.name, [self._mark(score) for score in self._plotted(part.axis)]) for part in self.parts]
        name = self.w("assess.plot.title")
        wide = beside(blocks, width=charts.WIDE, title=name)
        share = next((score.confidence for score in self.scores if _measured(score)), 0.95)
        note = self.w("assess.plot.note", confidence=self._confidence(share))
        return Plot(name, wide, beside(blocks, width=charts.NARROW, title=name), note) if wide else None

    def _plotted(self, axis: str) -> list[Score]:
        names = (*self._headlines(axis)[:2], "copies") if axis == "privacy" else self._headlines(axis)
        return [score for score in self._of(axis) if score.metric in names and _measured(score)]

    def _mark(self, score: Score) -> Beside:
        unit = unit_of(score.metric)
        scale = 100 if unit in (SHARE, POINTS) else 1

        def scaled(value: float | None) -> float | None:
            number = as_number(value)
            return None if number is None else number * scale

        value, floor = self.say(score.metric, score.value), as_number(score.floor)
        text = self.w("assess.plot.alone", value=value) if floor is None else self.w("assess.plot.number", value=value, floor=self.say(score.metric, floor))
        return Beside(
            self.metric_name(score.metric), text, scaled(score.value) or 0.0, scaled(score.low), scaled(score.high), scaled(score.floor),
            scaled(score.floor_low), scaled(score.floor_high), score.better or "", self._stands(score)[1], unit == SHARE,
        )  # fmt: skip

    @property
    def legend(self) -> list[tuple[Tone, Markup, str]]:
        """(tone, mark, word) of the tones in the plot."""
        shown = {self._mark(score).tone for part in self.parts for score in self._plotted(part.axis)}
        tones: tuple[Tone, ...] = ("leak", "worse", "better", "same", "plain")
        return [(tone, Markup(shape(tone, 9, 9)), self.w(f"assess.plot.{tone}")) for tone in tones if tone in shown]


def title(name: str) -> str:
    """A name at the start of a line."""
    return name[:1].upper() + name[1:]


def _whole(text: str) -> str:
    """A number and its unit on one line."""
    return text.replace(" ", "\u00a0")


def _measured(score: Score) -> bool:
    return as_number(score.value) is not None
