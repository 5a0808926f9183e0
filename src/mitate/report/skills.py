"""The page of a study of skills: what the template asks for, made from skills.json and the pictures of the run."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mitate import __version__, codec
from mitate.errors import MitateError
from mitate.report.words import Words
from mitate.study import Run

TONES = {"go": "go", "stop": "stop"}  # all others: more
ANSWERS = {"holds": "go", "does not hold": "stop"}


@dataclass(frozen=True)
class Row:
    """A model: what it is, its share in each skill and their mean, with intervals, and its pictures of each skill as data URIs."""

    name: str
    what: str
    cells: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, str], ...]


class SkillsPage:
    """What the template of a study of skills asks for."""

    def __init__(self, run: Run, words: Words) -> None:
        self.run, self.w, self.found, self.plan = run, words, run.answer, run.study.plan
        self.name, self.version = run.folder.name, __version__

    @property
    def tells(self) -> bool:
        """Whether the judge says what is right, and does not only give scores."""
        return self.found["measure"] != "mean score"

    @property
    def tone(self) -> str:
        return TONES.get(self.found["verdict"], "more")

    @property
    def badge(self) -> str:
        return self.w(f"skills.verdict.{self.found['verdict']}")

    @property
    def headline(self) -> str:
        return self.w(f"skills.headline.{self.found['verdict']}")

    @cached_property
    def questions(self) -> list[tuple[str, str, str, str, str]]:
        """(question, answer, its tone, difference with interval, p)."""
        return [
            (self.asked(q), self.w(f"skills.answer.{q['answer']}"), ANSWERS.get(q["answer"], "more"), self.numbers(q, sign="+"), f"{q['p']:.2g}")
            for q in self.found["questions"]
        ]

    def asked(self, q: Mapping[str, Any]) -> str:
        skill = q["skills"][0] if len(q["skills"]) == 1 else ""
        return self.w(f"skills.question.{q['code']}", model=q["model"], against=q["against"], skill=skill)

    @property
    def reasons(self) -> list[str]:
        """Every gain over the model as it was that holds, and every loss; or that there is none."""
        held = [q for q in self.found["questions"] if q["against"] == "base" and q["answer"] != "cannot tell"]
        told = [f"{self.asked(q)}: {self.w('skills.answer.' + q['answer'])} ({self.numbers(q, sign='+')})" for q in held]
        return (told or [self.w("skills.nothing")]) + self._choice_alone()

    def _choice_alone(self) -> list[str]:
        """What the best of four pictures does without any learning, beside the model as it was: the rival that costs no training."""
        overall = {row["model"]: self.number(row["overall"]["value"]) for row in self.found["rows"]}
        return [self.w("skills.choice_alone", best=overall["best-of"], base=overall["base"])] if "best-of" in overall else []

    @property
    def skills(self) -> list[str]:
        return list(self.plan["skills"])

    @cached_property
    def rows(self) -> list[Row]:
        found = []
        for row in self.found["rows"]:
            kind, _, what = row["model"].partition(":")
            cells = [(self.number(c["value"]), f"{self.number(c['low'])}–{self.number(c['high'])}") for c in (*row["skills"].values(), row["overall"])]
            pictures = [(skill, uri) for skill in self.skills if (uri := self._picture(f"{row['model'].replace(':', '.')}-{skill}.png"))]
            found.append(Row(row["model"], self.w(f"skills.model.{kind}", what=what), tuple(cells), tuple(pictures)))
        return found

    @property
    def micro(self) -> list[tuple[str, ...]]:
        """(model, percent of all questions answered with yes in each skill); empty where the judge asks none."""
        return [(row["model"], *(f"{100 * row['micro'][s]:.1f}" for s in self.skills)) for row in self.found["rows"] if "micro" in row]

    @property
    def searches(self) -> list[tuple[str, str, str, str]]:
        """(weights, their score, that of equal ones, merges tried), a replicate a row."""
        found = self.found.get("searches", [])
        return [(self._weights(s), self.number(s["score"]), self.number(s["tried"][0]["score"]), str(len(s["tried"]))) for s in found]

    def _weights(self, search: Mapping[str, Any]) -> str:
        return ", ".join(f"{skill} {weight:.2f}" for skill, weight in search["weights"].items())

    @property
    def yields(self) -> list[tuple[str, str, str, str, str]]:
        """(skill, kept of painted, sentences, variety of those kept, of as many by chance)."""
        return [
            (y["skill"], f"{y['kept']} / {y['painted']}", str(y["sentences"]), f"{y['vendi']:.1f}", f"{y['vendi_by_chance']:.1f}") for y in self.found["yields"]
        ]

    @property
    def clashes(self) -> list[tuple[str, str, str]]:
        """(cosine, share of entries whose signs differ, share that is lost in the sum) of the experts, a replicate a row."""
        return [tuple("–" if c[k] is None else f"{c[k]:.2f}" for k in ("cosine", "conflict", "cancelled")) for c in self.found["interference"]]  # type: ignore[misc]

    @property
    def trained(self) -> list[tuple[str, str, str, str, str]]:
        """(model, pictures, steps, the one kept, numbers)."""
        return [
            (t["model"], str(t["pictures"]), str(t["steps"]), str(t["best_step"]) if t["selection"] else "–", f"{t['parameters']:,}")
            for t in self.found["trained"]
        ]

    @property
    def cost(self) -> list[tuple[str, str]]:
        found = self.found["cost"]
        rows = [
            (self.w("cost.machine"), found["machine_seconds"]),
            (self.w("cost.wall"), found["wall_seconds"]),
            (self.w("cost.reused"), found["reused_seconds"]),
        ]
        return [(name, self.w("skills.seconds", n=f"{seconds:,.0f}")) for name, seconds in rows]

    @property
    def notes(self) -> list[str]:
        return [self.w("skills.one")] * (self.found["replicates"] < 2) + [self.w("skills.itself")] * (self.plan["chooser"] == self.plan["judge"] != "oracle")

    def number(self, value: float) -> str:
        return f"{100 * value:.1f}" if self.tells else f"{value:.3f}"

    def numbers(self, q: Mapping[str, Any], *, sign: str = "") -> str:
        value, low, high = (f"{100 * q[k]:{sign}.1f}" if self.tells else f"{q[k]:{sign}.4f}" for k in ("value", "low", "high"))
        return self.w("skills.interval", value=value, low=low, high=high)

    def _picture(self, name: str) -> str:
        """A picture of samples/ as a data URI, decoded and written anew, with its mark; "" where there is none, or what is there leads out of the folder."""
        file = self.run.folder / "samples" / name
        try:
            if not file.resolve().is_relative_to(self.run.folder.resolve()) or not file.is_file():
                return ""
            data = codec.encode_png(codec.decode(file).pixels, description="synthetic images")
        except (MitateError, OSError, ValueError):
            return ""
        return f"data:image/png;base64,{base64.b64encode(data).decode()}"
