"""The answer of a study of skills: every model by every skill, gains over the model as it was, and the questions that were asked before it ran.

A share is of prompts wholly right by the judge, or of its mean score where it cannot say what is right. Differences are paired by prompt and seed. With two
or more replicates their interval covers replicates and prompts; with one, prompts alone, and the answer says so. Questions share one error rate (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mitate.curation.judges import tells as telling
from mitate.metrics.intervals import Interval, holm, p_value, two_way, wilson
from mitate.study import Study

Table = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
LEVEL = 0.05


def answer(study: Study, right: Table, score: Table, micro: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> dict[str, Any]:
    """Rows of the matrix, gains, and questions with their answers. micro: model -> skill -> share of yes over all questions of each replicate."""
    skills, models = list(study.plan["skills"]), list(study.sizes["models"])
    tells = telling(study.plan["judge"])  # what is right; other judges give scores
    table = right if tells else score
    rows = [
        {
            "model": name, "overall": level(table, name, skills, tells), "skills": {s: level(table, name, [s], tells) for s in skills},
            "score": {s: round(float(np.mean(score[name][s])), 4) for s in skills},
            **({"micro": {s: round(float(np.mean(micro[name][s])), 4) for s in skills}} if micro else {}),
            "gain": {s: difference(table, name, "base", [s], tells).record for s in skills} | {"all": difference(table, name, "base", skills, tells).record},
        }
        for name in models
    ]  # fmt: skip
    asked = questions(table, skills, models, tells=tells)
    notes = ["one replicate: intervals are over prompts alone"] if study.plan["replicates"] < 2 else []
    notes += [f["message"] for f in study.data["findings"] if f["severity"] == "warning"]
    return {
        "study": study.digest, "measure": "prompts wholly right" if tells else "mean score", "replicates": study.plan["replicates"],
        "verdict": verdict(asked), "reason": _reason(asked, tells), "rows": rows, "questions": asked, "notes": notes,
    }  # fmt: skip


def questions(table: Table, skills: Sequence[str], models: Sequence[str], *, tells: bool) -> list[dict[str, Any]]:
    """What the study asks, with paired differences: whether it holds, does not, or cannot be told. `p` is Holm's over all of them."""
    asked = [_Asked("expert", f"an expert improves {s}", f"expert:{s}", "base", (s,)) for s in skills]
    by = "by-chance" if any(m.startswith("by-chance:") for m in models) else "unfiltered"
    asked += [_Asked("choosing", f"choosing helps {s}", f"expert:{s}", f"{by}:{s}", (s,)) for s in skills if f"{by}:{s}" in models]
    asked += [_Asked("truth", f"drawn truth would help {s} more", f"truth:{s}", f"expert:{s}", (s,)) for s in skills if f"truth:{s}" in models]
    rivals = [m for m in models if m.partition(":")[0] in ("pooled", "pooled-rank", "naive", "released", "sequential", "guidance")]
    for name in (name for name in models if name.startswith("merge:")):
        asked.append(_Asked("merge_mean", f"{name} improves the mean over skills", name, "base", tuple(skills)))
        asked += [_Asked("merge_skill", f"{name} improves {s}", name, "base", (s,)) for s in skills]
        asked += [_Asked("beats", f"{name} beats {other}", name, other, tuple(skills)) for other in rivals]
    found = [difference(table, one.model, one.against, one.skills, tells) for one in asked]
    adjusted = holm([p_value(interval) for interval in found])
    return [
        {
            "code": one.code, "question": one.text, "model": one.model, "against": one.against, "skills": list(one.skills), **interval.record,
            "p": round(p, 4), "answer": _told(interval, p),
        }
        for one, interval, p in zip(asked, found, adjusted, strict=True)
    ]  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """One question: code of its words, the two models it compares, and on which skills."""

    code: str
    text: str
    model: str
    against: str
    skills: tuple[str, ...]


def lines(found: Mapping[str, Any]) -> list[str]:
    """The answer as a table for a terminal."""
    skills, tells = list(found["rows"][0]["skills"]), found["measure"] != "mean score"
    told = [f"{'model':22}" + "".join(f"{s:>24}" for s in (*skills, "mean")) + f"   ({found['measure']}{', %' if tells else ''}, 95 %)"]
    for row in found["rows"]:
        told.append(f"{row['model']:22}" + "".join(f"{_numbers(c, tells):>24}" for c in (*row["skills"].values(), row["overall"])))
    told.append("questions, each interval by itself at 95 %, p over all of them together (Holm):")
    told += [f"{q['question']}: {q['answer']} ({_numbers(q, tells, sign='+')}, p {q['p']:.2g})" for q in found["questions"]]
    for row in found["yields"]:
        text = f"{row['kept']} of {row['painted']} pictures of {row['skill']} kept"
        told.append(f"{text}; variety {row['vendi']:.1f}, of as many by chance {row['vendi_by_chance']:.1f}")
    for one in found.get("searches", []):
        shares = ", ".join(f"{skill} {share:.3g}" for skill, share in one["weights"].items())
        what = f"{len(one['tried'])} merges on {one['prompts']} prompts of each skill, judged by {one['judge']}"
        told.append(f"weights searched: {shares} scored {one['score']:.3f}, equal ones {one['tried'][0]['score']:.3f} ({what}; the best of many is too high)")
    for one in found["trained"]:
        if not one["selection"]:
            told.append(f"note: {one['model']} had fewer than 5 sentences: nothing chose the step that is kept")
        elif one["best_step"] == 0:
            told.append(f"note: {one['model']} learnt nothing that is better on sentences held out: it is the model as it was")
    return told + [f"note: {note}" for note in found["notes"]]


def verdict(asked: Sequence[Mapping[str, Any]]) -> str:
    """go: an expert improves its skill, or a merge the mean, and no skill is surely made worse by it; stop: all are surely worse; else more evidence."""
    gains = [q for q in asked if q["against"] == "base"]
    harmful = {q["model"] for q in gains if q["answer"] == "does not hold"}
    if any(q["answer"] == "holds" and q["model"] not in harmful for q in gains if q["model"].startswith("expert:") or len(q["skills"]) > 1):
        return "go"
    return "stop" if gains and harmful == {q["model"] for q in gains} else "more evidence"


def level(table: Table, name: str, skills: Sequence[str], tells: bool) -> dict[str, Any]:
    """A model's mean over skills, with its interval; of one skill's share, of one replicate, Wilson's."""
    if tells and len(skills) == 1 and len(table[name][skills[0]]) == 1:
        found = np.asarray(table[name][skills[0]])
        return wilson(float(found.sum()), found.size).record
    interval = _interval([np.asarray(table[name][s], np.float64) for s in skills], tells)
    return {**interval.record, **({"low": max(0.0, interval.low), "high": min(1.0, interval.high)} if tells else {})}


def difference(table: Table, one: str, other: str, skills: Sequence[str], tells: bool) -> Interval:
    """One model less another, paired by replicate, prompt and seed; the mean over skills."""
    return _interval([np.asarray(table[one][s], np.float64) - np.asarray(table[other][s], np.float64) for s in skills], tells)


def _interval(parts: Sequence[np.ndarray], tells: bool) -> Interval:
    """Of the mean over skills of tables [replicates, prompts]. Skills are fixed, not drawn: what lies between them is no uncertainty."""
    k, n = len(parts), sum(part.shape[1] for part in parts)
    weights = [n / (k * part.shape[1]) for part in parts]
    value = float(np.mean([part.mean() for part in parts]))
    off = np.concatenate([w * (part - part.mean()) for w, part in zip(weights, parts, strict=True)], axis=1)
    one = max(1 / (k * part.shape[1]) for part in parts)  # how far one prompt that changes its mind moves the mean
    least = one if tells else one * float(np.mean([np.abs(part).mean() for part in parts]))
    alone = {"se_replicates": (0.0, math.inf)} if len(off) == 1 else {}
    return two_way(off + value, confidence=1 - LEVEL, least=least, **alone)  # type: ignore[arg-type]


def _told(interval: Interval, p: float) -> str:
    if p < LEVEL:
        return "holds" if interval.value > 0 else "does not hold"
    return "cannot tell"


def _numbers(found: Mapping[str, Any], tells: bool, *, sign: str = "") -> str:
    if tells:
        value, low, high = (f"{100 * found[k]:{sign}.1f}" for k in ("value", "low", "high"))
    else:
        value, low, high = (f"{found[k]:{sign}.4f}" for k in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _reason(asked: Sequence[Mapping[str, Any]], tells: bool) -> str:
    gains = [q for q in asked if q["against"] == "base"]
    if held := [q for q in gains if q["answer"] == "holds"]:
        best = max(held, key=lambda q: float(q["value"]))
        return f"{best['question']}: {_numbers(best, tells, sign='+')}{' points' * tells}, p {best['p']:.2g} over all questions together."
    return "No expert and no merge is surely better than the model as it was."
