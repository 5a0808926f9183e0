"""Questions that depend on each other: what a prompt asks for, one thing a question, and each asked only of what is there.

questions = read_questions(Path("counting.questions.jsonl"))       prompt -> its questions, parents before children
answered(questions["two red cups"], [True, False, True])          a child of a no is a no

The form is that of Davidsonian scene graphs (Cho et al. 2024, arXiv 2310.18235). A line of a file is one prompt:

    {"prompt": "two red cups", "questions": [{"id": "1", "question": "is there a cup?"},
     {"id": "2", "question": "are there two cups?", "parents": ["1"]}, {"id": "3", "question": "what colour are the cups?", "answer": "red", "parents": ["1"]}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate.errors import DataError
from mitate.lab.captions import Prompt
from mitate.lab.questions import questions as lab_questions
from mitate.settings import parsed, suggest

YES = "yes"
KEYS = ("id", "question", "answer", "parents")
FIX = 'write {"prompt": ..., "questions": [{"id": "1", "question": "is there a cup?", "parents": []}]} a line'
DIGITS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())} | {"none": "0"}


@dataclass(frozen=True)
class Question:
    """answer: the one that is wanted; parents: ids of the questions that must be answered as wanted for this one to count."""

    id: str
    question: str
    answer: str = YES
    parents: tuple[str, ...] = ()


def answered(questions: Sequence[Question], own: Sequence[bool]) -> list[bool]:
    """Whether each question is answered as wanted, a child of a no being a no. own: what each would be by itself; parents come before children."""
    found: dict[str, bool] = {}
    for one, yes in zip(questions, own, strict=True):
        found[one.id] = bool(yes) and all(found[parent] for parent in one.parents)
    return list(found.values())


def same(answer: str, wanted: str) -> bool:
    """Whether two answers say the same: without case, articles, points and commas, and with numbers as digits, as VQA compares them (Antol et al. 2015)."""
    return _said(answer) == _said(wanted)


def of_lab(prompt: Prompt) -> tuple[Question, ...]:
    """The questions of a prompt of the lab, all of yes or no (lab/questions.py)."""
    return tuple(Question(str(i), q.text, YES, tuple(map(str, q.parents))) for i, q in enumerate(lab_questions(prompt)))


def beside(prompts: Path) -> Path:
    """Where the questions of a file of prompts are: counting.questions.jsonl of counting.jsonl."""
    return prompts.with_name(f"{prompts.stem}.questions.jsonl")


def read_questions(path: Path) -> dict[str, tuple[Question, ...]]:
    """Prompt -> its questions, parents before children, of a file with one prompt a line. DataError names the line of what cannot be."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as wrong:
        raise DataError(f"{path} cannot be read as questions ({wrong}).", fix="give a file in UTF-8, a prompt a line") from wrong
    found: dict[str, tuple[Question, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        prompt, rows = _prompt(line, where)
        if prompt in found:
            raise DataError(f"{where}: the prompt {prompt[:60]!r} comes twice.", fix="put its questions into one line")
        found[prompt] = in_order([_question(row, where) for row in rows], where=where)
    if not found:
        raise DataError(f"{path} holds no questions.", fix=FIX)
    return found


def in_order(questions: Sequence[Question], *, where: str) -> tuple[Question, ...]:
    """The same, parents before children: each time the first whose parents stand.

    DataError for an id that comes twice, an unknown parent, or a cycle; `where` is named in it.
    """
    known = [one.id for one in questions]
    if twice := [name for name in known if known.count(name) > 1]:
        raise DataError(f"{where}: two questions have the id {twice[0]!r}.", fix="give each question an id of its own")
    for one in questions:
        if unknown := [parent for parent in one.parents if parent not in known]:
            raise DataError(f"{where}: question {one.id!r} has the parent {unknown[0]!r}, which is no question of it.", fix=suggest(unknown[0], known))
    placed: dict[str, Question] = {}
    while len(placed) < len(known):
        ready = next((one for one in questions if one.id not in placed and all(parent in placed for parent in one.parents)), None)
        if ready is None:
            stuck = [name for name in known if name not in placed]
            raise DataError(f"{where}: questions {', '.join(stuck[:5])} wait for each other.", fix="leave out a parent, so that there is no cycle")
        placed[ready.id] = ready
    return tuple(placed.values())


def _prompt(line: str, where: str) -> tuple[str, list[Any]]:
    try:
        told = parsed(line)
    except (ValueError, RecursionError) as wrong:
        raise DataError(f"{where} is no JSON ({wrong}).", fix=FIX) from wrong
    prompt, rows = (told.get("prompt"), told.get("questions")) if isinstance(told, dict) else (None, None)
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(rows, list) or not rows:
        raise DataError(f"{where} has no prompt with questions.", fix=FIX)
    return prompt.strip(), rows


def _question(row: Any, where: str) -> Question:
    if not isinstance(row, dict):
        raise DataError(f"{where}: a question is {str(row)[:40]!r}.", fix=FIX)
    if unknown := [key for key in row if key not in KEYS]:
        raise DataError(f"{where}: a question has {unknown[0]!r}.", fix=suggest(str(unknown[0]), KEYS))
    name, parents = row.get("id"), row.get("parents", [])
    texts = {"question": row.get("question"), "answer": row.get("answer", YES)}
    if not _is_id(name) or not isinstance(parents, list) or not all(_is_id(parent) for parent in parents):
        raise DataError(f"{where}: a question has the id {name!r} and the parents {parents!r}.", fix="give texts or whole numbers, and a list of parents")
    if wrong := [key for key, text in texts.items() if not isinstance(text, str) or not text.strip()]:
        raise DataError(f"{where}: question {name!r} has no {wrong[0]}.", fix=FIX)
    return Question(str(name), texts["question"].strip(), texts["answer"].strip(), tuple(dict.fromkeys(map(str, parents))))


def plain_questions(known: Mapping[str, Sequence[Question]]) -> dict[str, list[dict[str, Any]]]:
    """As the settings of a job have them."""
    return {text: [{"id": q.id, "question": q.question, "answer": q.answer, "parents": list(q.parents)} for q in some] for text, some in known.items()}


def from_plain(told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[Question, ...]]:
    return {text: tuple(Question(q["id"], q["question"], q["answer"], tuple(q["parents"])) for q in some) for text, some in told.items()}


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) or isinstance(value, int) and not isinstance(value, bool)


def _said(text: str) -> str:
    words = [word for word in re.findall(r"[^\W_]+", text.casefold()) if word not in ("a", "an", "the")]
    return " ".join(DIGITS.get(word, word) for word in words)
