"""Painted pictures judged as jobs: verdicts are kept in the store beside their pictures, so nothing is looked at twice, and a killed run goes on.

jobs = judging(paints, judge, sentences)              one for each `paint` job
verdicts([engine.run(jobs)[job] for job in jobs])       of all the pictures, in order
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mitate.curation.dependency import plain_questions
from mitate.curation.verdicts import Judge, Verdicts
from mitate.curation.vqa import Vqa
from mitate.store import Entry
from mitate.study import Job
from mitate.verbs import VERBS

SECONDS = {"oracle": 0.003, "similarity": 0.01, "vqa": 1.0}  # of one core, a picture; vqa: ViLT or BLIP with five questions
PARTS = ("score", "right", "questions")  # of verdicts, each a file


def judging(paints: Sequence[Job], judge: Judge, sentences: Sequence[str], *, some: Sequence[int] | np.ndarray | None = None) -> list[Job]:
    """The jobs that judge the pictures of `paint` jobs, each with its sentence. some: which of the pictures, by number, rising (None: all)."""
    chosen = range(len(sentences)) if some is None else [int(i) for i in some]
    jobs, start = [], 0
    for paint in paints:
        n = len(paint.settings["rows"])
        mine = [i for i in chosen if start <= i < start + n]
        if mine:
            jobs.append(_judging(paint, judge, [sentences[i] for i in mine], [i - start for i in mine]))
        start += n
    return jobs


def _judging(paint: Job, judge: Judge, sentences: Sequence[str], rows: Sequence[int]) -> Job:
    known = {text: judge.questions[text] for text in dict.fromkeys(sentences) if text in judge.questions} if isinstance(judge, Vqa) else {}
    settings = {
        "judge": _placed(judge.name), "weights": judge.digest, "sentences": list(sentences), "rows": list(rows), "questions": plain_questions(known),
    }  # fmt: skip
    seconds = len(rows) * SECONDS[judge.name.partition(":")[0]]
    return Job(f"{paint.name}/judged by {judge.name}", "judge", VERBS["judge"].version, settings, {"images": paint}, seconds)


def verdicts(entries: Sequence[Entry]) -> Verdicts:
    """What judging jobs found, one after the other."""
    parts = {name: [np.load(entry.path(f"{name}.npy"), allow_pickle=False) for entry in entries if entry.path(f"{name}.npy").is_file()] for name in PARTS}
    score, right, questions = (np.concatenate(parts[name]) if len(parts[name]) == len(entries) else None for name in PARTS)
    assert score is not None
    return Verdicts(score, right, questions)


def _placed(name: str) -> str:
    """A judge's name that means the same wherever a job runs: a folder's whole path."""
    kind, _, model = name.partition(":")
    return f"{kind}:{Path(model).resolve()}" if model and Path(model).is_dir() else name
