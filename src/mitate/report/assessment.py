"""The report of an assessment: one HTML file, for a manager first and an engineer below. No network, no script.

Privacy comes before everything: a leak is the headline whatever else was found. The axes are told side by side and never weighed into one
number. What to do next follows from the findings by the rules of `_next`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from mitate.files import write_text, writing
from mitate.report.axis import AxisParts, title
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_flat, say_version
from mitate.report.template import render
from mitate.report.words import load
from mitate.score import Assessment
from mitate.studies.assess_planning import AXES

ROLES = ("synthetic", "real", "held_out")
FEW_HELD_OUT = 200  # below so many, more of them are worth a word
LISTED_CLASSES = 12
DIGEST = 12  # characters of a digest that are shown
SETTINGS = ("axes", "per_class", "replicates", "steps", "seed")


def write_assessment(assessment: Assessment, out: Path, *, lang: str = "en") -> Path:
    """Write the report of an assessment to `out` and return it. The bytes follow from the assessment and the language alone."""
    words = load(lang)
    text = render("assessment.html.j2", page=AssessmentPage(assessment, words), w=words)
    with writing(out):
        write_text(out, text)
    return out


class AssessmentPage(AxisParts):
    """What the template asks for."""

    @property
    def name(self) -> str:
        return str(self.facts.get("subject") or self.sets.get("synthetic", {}).get("name") or "")

    # the first screen -------------------------------------------------------------------------------------------------

    @cached_property
    def privacy(self) -> str:
        return self.code("privacy")

    @cached_property
    def weak(self) -> list[str]:
        """Axes that fall behind real images, by name."""
        return [self.axis_name(part.axis) for part in self.parts if part.code == "worse"]

    @cached_property
    def compared_axes(self) -> list[str]:
        """Axes that stand beside real images and are not worse."""
        return [part.axis for part in self.parts if part.code in ("better", "same")]

    @property
    def outcome(self) -> str:
        """leaks, weak, clear; open: nothing worse, but privacy is not known; clean: nothing but privacy is known; nothing."""
        if self.privacy == "leaks":
            return "leaks"
        if self.weak:
            return "weak"
        if not self.compared_axes:
            return "clean" if self.privacy == "clean" else "nothing"
        return "clear" if self.privacy == "clean" else "open"

    @property
    def tone(self) -> str:
        return {"leaks": "stop", "clear": "go", "clean": "go"}.get(self.outcome, "more")

    @property
    def badge(self) -> str:
        return self.w(f"assess.badge.{self.outcome}")

    @property
    def headline(self) -> str:
        if self.outcome == "leaks" and self.attack == "loss":  # the generator gives its images away; what it draws need not
            return self.w("assess.headline.leaks.loss")
        return (
            self.w("assess.headline.weak", axes=self._join(self.weak))
            if self.outcome == "weak"
            else self.w(f"assess.headline.{'clear' if self.outcome == 'open' else self.outcome}")
        )

    @property
    def reasons(self) -> list[str]:
        """What stands below the headline: what a leak means and what else is weak, or how to read what was found."""
        first = self.parts[0]
        if self.privacy == "leaks":
            weak = [self.w("assess.also_weak", axes=self._join(self.weak))] if self.weak else []
            return [self.both(first.answer, first.detail), *weak]
        unproven = any(part.code == "same" for part in self.parts) and not self.weak
        return [self.w("assess.apart"), *([self.w("assess.axes.lead")] if unproven else [])]

    @property
    def cautions(self) -> list[str]:
        """What the headline must not hide."""
        if self.privacy in ("leaks", "clean"):
            return []
        return [f"{self.parts[0].name}: {self.w('assess.answer.privacy.none')}"]

    @property
    def measured(self) -> str:
        asked = [part for part in self.parts if part.code != "unasked"]
        return self.w("assess.key.axes", n=say_count(sum(part.code != "none" for part in asked)), all=say_count(len(asked)))

    @property
    def counts(self) -> str:
        codes = [part.code for part in self.parts]
        found = {code: codes.count(code) for code in ("worse", "better", "same")}
        return self.w("assess.key.counts", **{code: say_count(n) for code, n in found.items()}) if any(found.values()) else ""

    @property
    def compared(self) -> list[str]:
        found = [self.w(f"assess.images.{role}", n=n) for role in ROLES if (n := self._images(role))]
        return found if self._images("held_out") else [*found, self.w("assess.images.no_held_out")]

    @property
    def meeting(self) -> list[str]:
        made, real, held_out = (self._images(role) for role in ROLES)
        lines = []
        if made and real:
            key = "assess.meeting.compared_held_out" if held_out else "assess.meeting.compared"
            lines.append(self.w(key, made=made, real=real, **({"held_out": held_out} if held_out else {})))
        by_loss = self.privacy == "leaks" and self.attack == "loss"
        privacy = self.w("assess.meeting.leaks.loss" if by_loss else f"assess.meeting.{self.privacy if self.privacy in ('leaks', 'clean') else 'none'}")
        if self.weak:
            rest = self.w("assess.meeting.weak", axes=self._join(self.weak))
        else:
            rest = self.w("assess.meeting.clear") if self.compared_axes else ""
        lines += [line for line in (privacy, rest) if line]
        return [*lines, self.w("meeting.next", next=self.next_steps[0])]

    def _images(self, role: str) -> str:
        n = as_number(self.sets.get(role, {}).get("images"))
        return "" if n is None else say_count(n)

    # what to do next --------------------------------------------------------------------------------------------------

    @cached_property
    def next_steps(self) -> list[str]:
        values = {"why": self._why("privacy") or self.w("missing.why"), "held_out": self._images("held_out")}
        return [self.w.get(f"assess.next.{step}", "", values) for step in self._next()]

    def _next(self) -> list[str]:
        """The steps that the findings ask for, the most pressing first."""
        code = {part.axis: part.code for part in self.parts}
        gain, recognised = (None if (score := self._score("utility", name)) is None else score.beside for name in ("gain", "recognised"))
        steps = {"leaks": ["withhold_generator" if self.attack == "loss" else "withhold", "refit"], "clean": [], "unasked": ["ask_privacy"]}.get(self.privacy)
        if steps is None:
            steps = ["privacy_why"] if "held_out" in self.sets else ["hold_out"]
        if gain == "worse":
            steps.append("do_not_mix")
        if recognised == "worse":
            steps.append("check_labels")
        weak = [axis for axis in ("fidelity", "diversity") if code.get(axis) == "worse"]
        steps += ["stronger"] if len(weak) == 2 else weak
        if code.get("style") == "worse":
            steps.append("align")
        if code.get("robustness") == "worse":
            steps.append("robustness")
        if any(code.get(axis) == "better" for axis in ("fidelity", "diversity", "style")):
            steps.append("look")
        if self.privacy != "leaks" and gain != "worse":
            steps.append("pilot")
        held_out = as_number(self.sets.get("held_out", {}).get("images"))
        if held_out is not None and held_out < FEW_HELD_OUT and "same" in code.values():
            steps.append("more_held_out")
        return steps

    # the record -------------------------------------------------------------------------------------------------------

    @property
    def not_measured(self) -> list[tuple[str, str]]:
        rows: dict[str, str] = {}
        for part in self.parts:
            if part.code in ("none", "unasked"):
                rows[part.name] = self.w("assess.state.unasked") if part.code == "unasked" else self._why(part.axis) or self.w("missing.why")
            elif part.code == "bare":
                rows[part.name] = part.answer
        shown = {part.axis for part in self.parts}
        rows |= {title(self.axis_name(axis)): self.w("assess.state.unasked") for axis in AXES if axis not in shown}
        for score in self.scores:
            if as_number(score.value) is None:
                rows[f"{title(self.axis_name(score.axis))}: {self.metric_name(score.metric)}"] = self.translated(score.note) or self.w("missing.why")
        return list(rows.items())

    @property
    def limits(self) -> list[str]:
        extractor = self._extractor() or self.w("missing.recorded")
        return [self.w(f"assess.limits.{what}") for what in ("purchase", "single", "same", "set")] + [
            self.w("assess.limits.features", features=extractor), self.w("assess.limits.many")
        ]  # fmt: skip

    def _extractor(self) -> str:
        """The feature extractor by its name."""
        found = as_mapping(self.facts.get("features"))
        return str(found.get("name") or found.get("kind") or as_mapping(self.facts.get("asked")).get("features") or "")

    @property
    def compared_sets(self) -> list[tuple[str, str, str, str, str, str]]:
        """(role, name, images, classes, groups, digest)."""
        rows = []
        for role, told in self.sets.items():
            groups = as_number(told.get("groups"))
            rows.append((
                self.w.get(f"assess.how.{role}", role), str(told.get("name") or ""), self._images(role) or "–", self._classes(told.get("classes")),
                "–" if groups is None else say_count(groups), str(told.get("digest") or "–")[:DIGEST],
            ))  # fmt: skip
        return rows

    def _classes(self, told: object) -> str:
        """Images of each class, or the range where the classes are many."""
        found = {name: n for name, count in as_mapping(told).items() if (n := as_number(count)) is not None}
        if len(found) > LISTED_CLASSES:
            return self.w("how.range", classes=say_count(len(found)), low=say_count(min(found.values())), high=say_count(max(found.values())))
        return self._join(f"{name} {say_count(n)}" for name, n in found.items()) or "–"

    @property
    def findings(self) -> list[str]:
        return [self.translated(str(line)) for line in as_list(self.facts.get("findings"))]

    @property
    def how(self) -> list[tuple[str, str]]:
        """(what, how) of the measuring."""
        w, nothing = self.w, self.w("missing.recorded")
        size, channels = as_number(self.facts.get("size")), as_number(self.facts.get("channels"))
        digests = dict.fromkeys(str(score.features)[:DIGEST] for score in self.scores if score.features)
        stored = as_mapping(self.facts.get("stored"))
        asked = as_mapping(self.facts.get("asked"))
        rows = [
            (w("assess.how.extractor"), say_flat(as_mapping(self.facts.get("features"))) or self._extractor() or nothing),
            (w("assess.how.features"), self._join(digests) or nothing),
            (w("assess.how.size"), nothing if size is None else w(
                "assess.how.size_value", size=say_count(size), channels=w("assess.how.grey" if channels == 1 else "assess.how.colour"))),
            (w("assess.how.generator"), str(self.facts.get("generator") or "")[:DIGEST] or w("assess.how.elsewhere")),
            (w("assess.how.stored"), self._join(f"{w.get(f'assess.how.{role}', role)} {str(name)[:DIGEST]}" for role, name in stored.items()) or nothing),
            (w("assess.how.settings"), say_flat({key: asked[key] for key in SETTINGS if asked.get(key)}) or nothing),
        ]  # fmt: skip
        return rows

    @property
    def glossary(self) -> list[tuple[str, str]]:
        share = self._confidence(next((score.confidence for score in self.scores if as_number(score.value) is not None), 0.95))
        texts = {term: self.w.get(f"assess.term.{term}.text", "", {"confidence": share}) for term in ("floor", "interval", "beside", "held_out")}
        return [(self.w(f"assess.term.{term}"), text) for term, text in texts.items()]

    @property
    def version(self) -> str:
        return say_version()
