"""What every source of prompts is: what it is asked and answers, and what language models are told.

A source is asked in rounds. It may be anything that has `name`, `share_alike`, `asked`, `check` and `ask`; whatever it answers is judged by the pool, so a
source need not be trusted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mitate.prompts.skills import SkillSpec
from mitate.prompts.wording import LONG

NO_NUMBER, ORDER, MANY, UNREADABLE = "no number", "out of order", "more than asked", "answer unreadable"
ALIKE = 0.8  # ROUGE-L F1 above which two prompts of a language model are one (Self-Instruct has 0.7, SELMA 0.8)
LINE = re.compile(r"\s{0,8}(\d{1,4})[.)] +(\S.*)")
LONGEST = 4000  # characters of a line that are looked at


@dataclass(frozen=True)
class Ask:
    """One round: `number` prompts of a skill, like these examples. Rounds count from 1."""

    skill: SkillSpec
    examples: tuple[str, ...]
    number: int
    round: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """texts: in order; drops: what was answered and is no prompt, by reason; used: what it cost, by name (tokens, retries), to be added up."""

    texts: tuple[str, ...]
    drops: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """Who writes prompts."""

    @property
    def name(self) -> str:
        """As it stands beside every prompt."""
        ...

    @property
    def share_alike(self) -> float:
        """ROUGE-L F1 above which two of its prompts are one, unless the user says otherwise."""
        ...

    @property
    def asked(self) -> Mapping[str, Any]:
        """What its answers depend on, as plain values; nothing secret."""
        ...

    def check(self, skill: SkillSpec, n: int) -> None:
        """SettingError where it cannot write n prompts of the skill."""
        ...

    def ask(self, ask: Ask) -> Answer:
        """The prompts of a round."""
        ...


def instructions(ask: Ask) -> str:
    """What a language model is told: what is tested, the rules, numbered examples, and to go on from their last number."""
    skill, first = ask.skill, len(ask.examples) + 1
    rules = [
        *skill.rules, f"At most {skill.max_words} words each.", "No two are alike in subject, setting or wording, and none is a changed example.",
        "Each is plain text on a line of its own, without a title, quotes or marks.", "No names of living people, artists or brands.",
    ]  # fmt: skip
    return "\n".join([
        f"Write {ask.number} descriptions of pictures, from which a program will paint. They test {skill.tests}.",
        "", "Rules:", *(f"- {rule}" for rule in rules),
        "", "Examples:", *(f"{i}. {text}" for i, text in enumerate(ask.examples, 1)),
        "", f"Go on with the numbers {first} to {first + ask.number - 1}, a line each, and write nothing else.",
    ])  # fmt: skip


def read_lines(answer: str, *, number: int) -> Answer:
    """The numbered lines of an answer, at most `number`. A line without a number, or with one not above the last, is none; nor is what comes after enough."""
    texts: list[str] = []
    drops: Counter[str] = Counter()
    last = 0
    for line in re.split(r"\r\n|\r|\n", answer):
        if not line or line.isspace():
            continue
        if len(texts) == number:
            drops[MANY] += 1
        elif len(line) > LONGEST:
            drops[LONG] += 1
        elif (found := LINE.fullmatch(line)) is None:
            drops[NO_NUMBER] += 1
        elif int(found[1]) <= last:
            drops[ORDER] += 1
        else:
            last = int(found[1])
            texts.append(found[2].rstrip())
    return Answer(tuple(texts), dict(drops))
