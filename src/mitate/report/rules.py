"""The rules of the report: gates that were fixed before the run, the smallest detectable gain, looks at the test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_label, say_share
from mitate.report.part import Part


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


class Rules(Part):
    """What was fixed before the run, and what happened."""

    @cached_property
    def gates(self) -> list[tuple[str, list[Gate]]]:
        """Gates by the stage they belong to."""
        stages: dict[str, list[Gate]] = {}
        for facts in map(as_mapping, as_list(self.decision.get("gates"))):
            stages.setdefault(str(facts.get("stage") or ""), []).append(self._gate(facts))
        met = {as_mapping(facts).get("name") for facts in as_list(self.decision.get("gates"))}
        for facts in map(as_mapping, as_list(self.study.get("gates"))):
            if facts.get("name") not in met:
                stages.setdefault(str(facts.get("stage") or ""), []).append(self._rule_only(facts))
        return [(self.w.get(f"stage.{stage}", stage), gates) for stage, gates in stages.items()]

    def _rule_only(self, facts: Mapping[str, Any]) -> Gate:
        """A rule of study.json that the decision lists no gate for: the verdict itself, or one that the run did not come to."""
        name = str(facts.get("name") or "")
        if name == "verdict" and self.confirmed and self.candidate:
            found = f"{self._change_unit(self.confirmed['value'])} [{self._span(self.confirmed, self.change)}]"
            return Gate(self.w("gate.verdict"), say_label(self.candidate), self._rule(facts), found, "", self.badge, {"go": True, "stop": False}.get(self.tone))
        not_run = self.missing(self.w("missing.not_run"))
        return Gate(self.w.get(f"gate.{name}", name), "", self._rule(facts), not_run, "", "", None)

    def _gate(self, facts: Mapping[str, Any]) -> Gate:
        name = str(facts.get("name") or "")
        write = {"copies": say_share, "labels": self._percent, "reach": self._change_unit, "verdict": self._change_unit}.get(name, say_digits)
        value, floor, n = (as_number(facts.get(key)) for key in ("value", "floor", "n"))
        note = self._say(facts, "note", "note")
        found = self.missing(note) if value is None else write(value)
        if value is not None and (span := self._span(facts, write)):
            found += f" [{span}]"
        if value is not None and n is not None:
            found += f" · {self.w('n', n=say_count(n))}"
        passed = facts.get("passed")
        return Gate(
            name=self.w.get(f"gate.{name}", name),
            subject=self._label_of(str(facts.get("subject") or "")),
            rule=self._rule(facts),
            found=found,
            floor=self.w("gates.chance" if name == "labels" else "gates.floor", floor=write(floor)) if floor is not None else "",
            outcome=self.w("gates.passed") if passed is True else self.w("gates.failed") if passed is False else self.missing(note),
            passed=passed if isinstance(passed, bool) else None,
        )

    def _rule(self, facts: Mapping[str, Any]) -> str:
        """The rule of a gate in the report's language, with the threshold that study.json fixed; else as the study wrote it."""
        name = facts.get("rule_code") or facts.get("name")
        fixed = [g for g in map(as_mapping, as_list(self.study.get("gates"))) if g.get("name") == facts.get("name")]
        threshold = as_number(fixed[0].get("threshold")) if fixed else None
        values = self._values(facts.get("rule_values"))
        if threshold is not None:
            values |= {"threshold": say_share(threshold) if name == "copies" else self.amount(threshold)}
        return self.w.get(f"rule.{name}", str(facts.get("rule") or ""), values)

    def _percent(self, value: float) -> str:
        return f"{say_digits(value * 100)} %"

    def _change_unit(self, value: float) -> str:
        return f"{self.change(value)} {self.unit}"

    @property
    def detectable(self) -> list[tuple[str, str, str]]:
        """(when, gain, with what)."""
        facts = as_mapping(self.decision.get("smallest_detectable_gain"))
        images, replicates = as_number(facts.get("test_images")), as_number(facts.get("replicates"))
        both = images is not None and replicates is not None
        with_what = self.w("detect.with", test_images=say_count(images), replicates=say_count(replicates)) if both else ""
        before, after = as_number(facts.get("before")), as_number(facts.get("after"))
        return [
            (self.w("detect.before"), self.amount(before) if before is not None else self.missing(""), with_what),
            (self.w("detect.after"), self.amount(after) if after is not None else self.missing(facts.get("note") or self.w("detect.closed")), ""),
        ]

    @property
    def smaller(self) -> list[str]:
        out = []
        for facts in map(as_mapping, as_list(as_mapping(self.decision.get("smallest_detectable_gain")).get("smaller_by"))):
            to, gain, change = as_number(facts.get("to")), as_number(facts.get("gain")), str(facts.get("change") or "")
            if to is not None and gain is not None:
                values = {"to": say_count(to), "gain": self.amount(gain), "change": change}
                out.append(self.w.get(f"smaller.{change}", self.w("smaller.other", **values), values))
        return out

    @property
    def looks(self) -> list[str]:
        return [
            self.w(
                "looks.line", look=say_count(as_number(facts.get("look"))), confidence=self._confidence(facts.get("confidence")),
                test_images=say_count(as_number(facts.get("test_images"))), replicates=say_count(as_number(facts.get("replicates"))),
            )
            for facts in map(as_mapping, as_list(self.decision.get("looks")))
        ]  # fmt: skip

    @property
    def looks_used(self) -> int:
        numbers = [as_number(as_mapping(facts).get("look")) or 0 for facts in as_list(self.decision.get("looks"))]
        return int(max([len(numbers), *numbers]))
