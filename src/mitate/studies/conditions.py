"""Conditions that fail a build: `privacy.copies > floor + 0.05`, `recall.high < 0.6`, `fidelity is worse`.

    [axis.]metric[.low|.high] OP term [+|-|* term]     OP: > >= < <=     term: a number or `floor`
    axis is STATE                                       the axis's own finding, as the report prints it

A condition on what was not measured is *unknown*: it neither holds nor fails to, and whoever gates on it must be told.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mitate.errors import SettingError
from mitate.score import Assessment, Score
from mitate.settings import suggest

COMPARE: dict[str, Callable[[float, float], bool]] = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
COMBINE: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
TERM = r"(?:floor|[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
NUMERIC = re.compile(rf"\s*([\w.]+)\s*(>=|<=|>|<)\s*({TERM})\s*(?:([-+*])\s*({TERM})\s*)?", re.IGNORECASE)
STATE = re.compile(r"\s*(\w+)\s+is\s+(\w[\w ]*?)\s*")
HOW = 'write it like "privacy.copies > floor + 0.05" or "fidelity is worse"'


@dataclass(frozen=True)
class Condition:
    """A parsed condition; `text` as typed. state: of an axis, else None."""

    text: str
    subject: str
    bound: str = "value"
    sign: str = ""
    terms: tuple[str, ...] = ()
    joined: str = ""
    state: str | None = None


@dataclass(frozen=True)
class Outcome:
    """holds: None where something it needs was not measured. because: the numbers in it, or why they are missing."""

    text: str
    holds: bool | None
    because: str


def parse(text: str) -> Condition:
    """The condition in `text`. SettingError where it is none."""
    if found := STATE.fullmatch(text):
        return Condition(text, found[1], state=found[2])
    found = NUMERIC.fullmatch(text)
    if found is None:
        raise SettingError(f"{text!r} is no condition.", fix=HOW)
    subject, sign, first, joined, second = found.groups()
    name, _, bound = subject.rpartition(".")
    subject, bound = (name, bound) if bound in ("low", "high", "value") and name else (subject, "value")
    return Condition(text, subject, bound, sign, tuple(t for t in (first.lower(), (second or "").lower()) if t), joined or "")


def check(condition: Condition, *, metrics: Mapping[str, str], axes: Mapping[str, tuple[str, ...]]) -> None:
    """SettingError where a condition names no metric (name -> axis) or no axis (name -> its states): seen before anything runs."""
    if condition.state is not None:
        if condition.subject not in axes:
            raise SettingError(f"{condition.text!r}: there is no axis {condition.subject!r}.", fix=suggest(condition.subject, axes))
        if condition.state not in axes[condition.subject]:
            raise SettingError(f"{condition.text!r}: {condition.subject} is never {condition.state!r}.", fix=f"one of {', '.join(axes[condition.subject])}")
        return
    axis, _, name = condition.subject.rpartition(".")
    if name not in metrics or (axis and metrics[name] != axis):
        near = f"did you mean '{metrics[name]}.{name}'?" if name in metrics else suggest(name, [m for m in metrics if metrics[m] == axis] or metrics)
        raise SettingError(f"{condition.text!r}: there is no metric {condition.subject!r}.", fix=near)


def judge(condition: Condition, assessment: Assessment) -> Outcome:
    """Whether a condition holds of an assessment."""
    if condition.state is not None:
        said = assessment.facts.get("axes", {}).get(condition.subject, {}).get("state")
        unknown = said in (None, "not measured")
        return Outcome(
            condition.text, None if unknown and condition.state != said else said == condition.state, f"{condition.subject} is {said or 'not measured'}"
        )
    try:
        score = assessment[condition.subject]
    except KeyError:
        return Outcome(condition.text, None, f"{condition.subject} was not measured")
    left = getattr(score, condition.bound)
    terms = [_term(t, score) for t in condition.terms]
    if left is None or any(t is None for t in terms):
        missing = "has no floor" if left is not None else f"has no {condition.bound}" if score.value is not None else f"was not measured ({score.note})"
        return Outcome(condition.text, None, f"{condition.subject} {missing}")
    right: Any = terms[0] if len(terms) == 1 else COMBINE[condition.joined](terms[0], terms[1])  # type: ignore[arg-type]
    return Outcome(condition.text, COMPARE[condition.sign](left, right), f"{condition.subject} {condition.bound} {left:.3g}, set against {right:.3g}")


def _term(text: str, score: Score) -> float | None:
    return score.floor if text == "floor" else float(text)
