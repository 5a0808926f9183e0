"""What every part of the report stands on: the files of the run, and how its numbers and texts are told in one language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from mitate.errors import DataError
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_label, say_money, say_plain, say_share, say_signed
from mitate.report.told import Told
from mitate.report.words import Words
from mitate.settings import parsed
from mitate.studies.meeting import POINTS
from mitate.study import Run


class Part(Told):
    """The files of a run folder and the words of a language."""

    def __init__(self, run: Run, words: Words) -> None:
        super().__init__(words)
        self.run = run
        self.decision = run.answer
        if not isinstance(self.decision, dict) or "verdict" not in self.decision:
            raise DataError(f"{run.answer_file} holds no verdict.", fix="run the same command again with another --out")
        self.study = as_mapping(run.read("study.json"))
        self.machine = self._optional("machine.json")
        self.jobs = list(self._lines("jobs.jsonl"))
        self.scores = list(self._lines("scores.jsonl"))
        self.arms = [as_mapping(arm) for arm in as_list(self.decision.get("arms"))]

    @cached_property
    def name(self) -> str:
        data = as_mapping(self.study.get("data"))
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

    @cached_property
    def candidate(self) -> dict[str, Any] | None:
        return next((arm for arm in self.arms if arm.get("role") == "candidate"), None)

    @cached_property
    def confirmed(self) -> dict[str, Any] | None:
        """The gain that the verdict rests on: of the candidate, on the test split."""
        gain = as_mapping(self.candidate.get("gain")) if self.candidate and self.candidate.get("split") == "test" else {}
        return gain if as_number(gain.get("value")) is not None else None

    @property
    def worthwhile(self) -> str:
        return self.amount(self.decision.get("worthwhile"))

    def _label_of(self, name: str) -> str:
        """The label of an arm that is named; the candidate's where several arms share the name."""
        named = [arm for arm in self.arms if name in (arm.get("name"), arm.get("label"))]
        named.sort(key=lambda arm: arm.get("role") != "candidate")
        return say_label(named[0]) if named else name

    def _by_gain(self, role: str) -> list[dict[str, Any]]:
        def key(arm: dict[str, Any]) -> tuple[bool, float]:
            value = as_number(as_mapping(arm.get("gain")).get("value"))
            return (value is None, -(value or 0.0))

        return sorted((arm for arm in self.arms if arm.get("role") == role), key=key)

    @cached_property
    def cost(self) -> dict[str, Any]:
        return as_mapping(self.decision.get("cost"))

    @cached_property
    def prices(self) -> dict[str, Any]:
        """`cost.money` of the answer; empty without a price."""
        return as_mapping(self.cost.get("money"))

    def _split_sizes(self) -> dict[str, float]:
        return {str(k): n for k, v in as_mapping(as_mapping(self.study.get("data")).get("images")).items() if (n := as_number(v)) is not None}

    # how numbers and texts are told -----------------------------------------------------------------------------------

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
        number = as_number(value)
        return self.missing("") if number is None else self._gain(number * (100 if self.in_points else 1))

    def _gain(self, scaled: float) -> str:
        """A gain in its unit, three significant digits; points are never told finer than a hundredth."""
        return say_signed(scaled, places=2 if self.in_points else None)

    def level(self, value: Any) -> str:
        """A score: accuracy and its like in percent (the end of an interval may reach beyond what can be: cut there), a cost as it is."""
        number = as_number(value)
        if number is None:
            return self.missing("")
        return f"{say_digits(min(max(number, 0.0), 1.0) * 100)} %" if self.in_points else say_digits(number)

    def amount(self, value: Any) -> str:
        """A size of gain without a sign, with its unit: `1 point`."""
        number = as_number(value)
        if number is None:
            return self.missing("")
        text = say_plain(number * (100 if self.in_points else 1))
        unit = self.w("unit.point") if self.in_points and text == "1" else self.unit
        return self.w("worth", number=text, unit=unit)

    def money(self, amount: Any) -> str:
        """An amount in the currency of the answer; empty where it is not known."""
        number = as_number(amount)
        return "" if number is None else say_money(number, str(self.prices.get("currency") or ""))

    def _values(self, values: Any, *, signed: bool = True) -> dict[str, str]:
        """What a code's sentence is filled with. A value that is missing is left out, so that the sentence falls back whole."""
        out = {"unit": self.unit, "confidence": self.confidence, "measure": self.measure, "worthwhile": self.worthwhile}
        for key, value in as_mapping(values).items():
            number = as_number(value)
            if key in ("gain", "worthwhile") and not (signed and key == "gain"):
                text = self.amount(value) if number is not None else None
            elif key in ("gain", "low", "high", "best"):
                text = self.change(value) if number is not None else None
            elif key in ("share", "floor"):
                text = None if number is None else say_share(number)
            elif key in ("score", "chance"):
                text = None if number is None else self.level(number)
            elif key == "arms" and isinstance(value, (list, tuple)):
                text = say_count(len(value))
            elif key == "measure":
                text = self.measure
            elif key == "candidate" or key == "arm":
                text = self._label_of(str(value))
            elif isinstance(value, (list, tuple)):
                text = self._join(map(str, value))
            else:
                text = say_count(number) if number is not None else str(value) if value is not None else None
            if text is not None:
                out[key] = text
            else:
                out.pop(key, None)
        return out

    def _say(self, facts: Mapping[str, Any], field: str, family: str) -> str:
        """A text field in the report's language where the study gave it a code, else as it stands."""
        text = str(facts.get(field) or "")
        known = self.w.get(f"said.{text}", text)
        return self.w.get(f"{family}.{facts.get(f'{field}_code')}", known, self._values(facts.get(f"{field}_values")))

    # files -------------------------------------------------------------------------------------------------------------

    def _optional(self, name: str) -> dict[str, Any]:
        """A file that a run may lack: then it is empty, and the page says what is not recorded."""
        return as_mapping(self.run.read(name)) if (self.run.folder / name).is_file() else {}

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.run.folder / name
        if not path.is_file():
            return
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield as_mapping(parsed(line))
        except (OSError, ValueError) as wrong:
            raise DataError(f"{path} cannot be read ({wrong}).", fix="run the same command again") from wrong
