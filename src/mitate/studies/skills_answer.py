"""The answer of a study of skills: every model by every skill, gains over the model as it was, and the questions that were asked before it ran.

A share is of prompts wholly right by the judge, or of its mean score where it cannot say what is right. Differences are paired by prompt and seed. With two
or more replicates their interval covers replicates and prompts; with one, prompts alone, and the answer says so. Questions share one error rate (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mitate.metrics.intervals import Interval, holm, one_way, p_value, two_way, wilson
from mitate.study import Study

Table = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
LEVEL = 0.05


def answer(
    study: Study, right: Table, score: Table, yields: Sequence[Mapping[str, Any]], clashes: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What is written down: rows of the matrix, gains, questions with their answers, what choosing kept, how experts clash, what it took."""
    skills, models = list(study.plan["skills"]), list(study.sizes["models"])
    tells = any(any(any(row) for row in right["base"][s]) for s in skills) or study.plan["judge"] == "oracle"
    table = right if tells else score
    rows = [
        {
            "model": name, "overall": _overall(table, name, skills),
            "skills": {s: _share(table[name][s], tells) for s in skills},
            "score": {s: round(float(np.mean(score[name][s])), 4) for s in skills},
            "gain": {s: _difference(table, name, "base", [s]) for s in skills} | {"all": _difference(table, name, "base", skills)} if name != "base" else None,
        }
        for name in models
    ]  # fmt: skip
    asked = questions(study, table, skills, models)
    return {
        "study": study.digest, "measure": "prompts wholly right" if tells else "mean score", "replicates": study.plan["replicates"],
        "verdict": _verdict(asked), "reason": _reason(asked), "rows": rows, "questions": asked, "yields": list(yields), "interference": list(clashes),
        "cost": {"seconds": {k: round(v, 1) for k, v in seconds.items()}},
        "notes": ["one replicate: intervals are over prompts alone"] if study.plan["replicates"] < 2 else [],
    }  # fmt: skip


def questions(study: Study, table: Table, skills: Sequence[str], models: Sequence[str]) -> list[dict[str, Any]]:
    """What the study asks, with paired differences: which one, its interval, and whether it holds, does not, or cannot be told."""
    asked: list[tuple[str, str, str, list[str]]] = [(f"an expert improves {s}", f"expert:{s}", "base", [s]) for s in skills]
    asked += [(f"choosing helps {s}", f"expert:{s}", f"unfiltered:{s}", [s]) for s in skills if f"unfiltered:{s}" in models]
    asked += [(f"drawn truth would help {s} more", f"truth:{s}", f"expert:{s}", [s]) for s in skills if f"truth:{s}" in models]
    merges = [name for name in models if name.startswith("merge:")]
    asked += [(f"{name} improves all skills", name, "base", list(skills)) for name in merges]
    asked += [(f"{name} beats {other}", name, other, list(skills)) for name in merges for other in ("pooled", "pooled-rank", "naive") if other in models]
    found = [_compare(table, one, other, some) for _, one, other, some in asked]
    adjusted = holm([p_value(interval) for interval in found])
    return [
        {"question": text, "model": one, "against": other, **interval.record, "p": round(p, 4), "answer": _told(interval, p)}
        for (text, one, other, _), interval, p in zip(asked, found, adjusted, strict=True)
    ]


def lines(found: Mapping[str, Any]) -> list[str]:
    """The answer as a table for a terminal."""
    skills = list(found["rows"][0]["skills"])
    told = [f"{'model':22}" + "".join(f"{s:>24}" for s in (*skills, "all"))]
    for row in found["rows"]:
        cells = [row["skills"][s] for s in skills] + [row["overall"]]
        told.append(f"{row['model']:22}" + "".join(f"{100 * c['value']:8.1f} ({100 * c['low']:5.1f} to {100 * c['high']:5.1f})" for c in cells))
    told += [f"{q['question']}: {q['answer']} ({100 * q['value']:+.1f} points, {100 * q['low']:+.1f} to {100 * q['high']:+.1f})" for q in found["questions"]]
    for row in found["yields"]:
        text = f"{row['kept']} of {row['painted']} pictures of {row['skill']} kept"
        told.append(f"{text}; variety {row['vendi']:.1f}, of as many by chance {row['vendi_by_chance']:.1f}")
    return told + [f"note: {note}" for note in found["notes"]]


def _rows(table: Table, name: str, skills: Sequence[str]) -> np.ndarray:
    """float64 [replicates, prompts of the skills]; each skill counts alike, however many prompts it has."""
    parts = [np.asarray(table[name][s], np.float64) for s in skills]
    n = sum(part.shape[1] for part in parts)
    return np.concatenate([part * (n / len(parts) / part.shape[1]) for part in parts], axis=1)


def _compare(table: Table, one: str, other: str, skills: Sequence[str]) -> Interval:
    off = _rows(table, one, skills) - _rows(table, other, skills)
    return two_way(off, confidence=1 - LEVEL) if len(off) > 1 else one_way(off[0], confidence=1 - LEVEL)


def _difference(table: Table, one: str, other: str, skills: Sequence[str]) -> dict[str, Any]:
    return _compare(table, one, other, skills).record


def _overall(table: Table, name: str, skills: Sequence[str]) -> dict[str, Any]:
    rows = _rows(table, name, skills)
    return (two_way(rows, confidence=1 - LEVEL) if len(rows) > 1 else one_way(rows[0], confidence=1 - LEVEL)).record


def _share(rows: Sequence[Sequence[float]], tells: bool) -> dict[str, Any]:
    found = np.asarray(rows, np.float64)
    if tells and len(found) == 1:
        return wilson(float(found.sum()), found.size).record
    return (two_way(found, confidence=1 - LEVEL) if len(found) > 1 else one_way(found[0], confidence=1 - LEVEL)).record


def _told(interval: Interval, p: float) -> str:
    if p < LEVEL:
        return "holds" if interval.value > 0 else "does not hold"
    return "cannot tell"


def _verdict(asked: Sequence[Mapping[str, Any]]) -> str:
    """go: a merge or an expert improves what it is for; stop: nothing does, and something is surely worse; else more evidence."""
    gains = [q for q in asked if q["against"] == "base"]
    if any(q["answer"] == "holds" for q in gains):
        return "go"
    return "stop" if gains and all(q["answer"] == "does not hold" for q in gains) else "more evidence"


def _reason(asked: Sequence[Mapping[str, Any]]) -> str:
    gains = [q for q in asked if q["against"] == "base"]
    best = max(gains, key=lambda q: float(q["value"]))
    return f"Best against the model as it was: {best['model']}, {100 * best['value']:+.1f} points ({100 * best['low']:+.1f} to {100 * best['high']:+.1f})."
