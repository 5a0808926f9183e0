"""The comparison: which family of generators for how few real images, at what price? Planned first (studies/compare_planning.py), then run.

plan = plan_compare(Compare(data="leaves/", generators=("vae", "diffusion")), "leaves/", store=store, workers=2)
print(plan.cost())
run = run_compare(plan, Path("runs/compare"))        the same call resumes

Privacy comes first: every cell is fitted, drawn from and attacked before anything is spent on the other axes, and what leaks stops there, unless
the plan says otherwise. A comparison is a measurement, not a verdict on a purchase: the test split stays closed, and a pilot confirms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mitate.engine import Engine, Workers
from mitate.files import disk_errors, locked, write_json, write_text
from mitate.progress import Line
from mitate.runtime import machine
from mitate.settings import plain
from mitate.store import Entry
from mitate.studies import compare_answer, compare_card
from mitate.studies.arms import group_numbers
from mitate.studies.compare_cells import Cell, CellJobs
from mitate.studies.compare_planning import ComparePlan, under
from mitate.studies.compare_samples import checked_cells, write_samples
from mitate.studies.compare_table import HEADLINES, Table, read_gate, read_measures
from mitate.studies.evidence import Ending, write_jobs
from mitate.studies.pilot import check_place
from mitate.study import Job, Run


def run_compare(plan: ComparePlan, folder: Path, *, workers: Workers = None, command: str = "") -> Run:
    """Run a planned comparison into `folder`; the same call again resumes, and one that is finished is returned at once."""
    check_place(folder)
    run = Run(folder)
    if (folder / "study.json").is_file() and run.study.digest != plan.study.digest:
        plan = under(run.study, plan.asked, plan.data, plan.store)  # the same question, planned again
    if run.finished:
        return run
    with disk_errors(folder), locked(folder / ".lock"):
        return run if run.finished else _run(plan, run, workers=workers, command=command)


class Progress:
    """Jobs as they end: the line of progress, and what is written down of them."""

    def __init__(self, line: Line, ending: Ending) -> None:
        self.line, self.ending, self.stage = line, ending, "gate"
        self.entries: dict[Job, Entry] = {}
        self.reused: set[str] = set()
        self._told: set[str] = set()

    def done(self, job: Job, entry: Entry, reused: bool) -> None:
        self.entries[job] = entry
        if entry.digest not in self._told:
            self._told.add(entry.digest)
            self.ending.add(job, entry, reused=reused)
            self.reused |= {entry.digest} if reused else set()
            self.line.advance(job.estimate, f"{self.stage}: {job.name}")


def _run(plan: ComparePlan, run: Run, *, workers: Workers, command: str) -> Run:
    study, folder = plan.study, run.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "study.json", study)
    write_json(folder / "machine.json", {**machine(), "command": command})
    started = time.monotonic()
    jobs = CellJobs(study, sets=plan.sets, subsets=plan.subsets, blind=plan.blind, weights=plan.weights)
    table = Table()
    holdout = plan.data.splits.holdout
    table.groups = group_numbers(holdout.groups, holdout.names)[0]
    progress = Progress(Line(study.estimates["total"], title="compare"), Ending(folder))
    with Engine(plan.store, workers=workers) as engine:
        gated = "privacy" in study.sizes["axes"]
        first = [jobs.leakage(cell) if gated else jobs.synthetic(cell) for cell in plan.cells]
        found = engine.run([*first, *(jobs.copies(cell) for cell in checked_cells(plan.cells))], done=progress.done)
        if gated:
            read_gate(table, plan.cells, jobs, found)
        open_cells = _past(plan, table)
        progress.stage = "measure"
        found = engine.run([job for cell in open_cells for job in jobs.measures(cell)], done=progress.done)
        read_measures(table, open_cells, study, jobs, {**progress.entries, **found}, plan.store, plan.sets["holdout"])
    progress.line.close()
    _finish(plan, run, table, jobs, progress, wall=time.monotonic() - started, workers=engine.workers)
    return run


def _past(plan: ComparePlan, table: Table) -> list[Cell]:
    """The cells that are measured further."""
    if plan.study.sizes["past_the_gate"]:
        return plan.cells
    leaks = compare_answer.leaking(plan.study, table)
    return [cell for cell in plan.cells if leaks[cell.point]["state"] != "leaks"]


def _finish(plan: ComparePlan, run: Run, table: Table, jobs: CellJobs, progress: Progress, *, wall: float, workers: int) -> None:
    spent = write_jobs(progress, run.folder)
    write_samples(plan, jobs, progress.entries, run.folder)
    write_text(run.folder / "scores.jsonl", "".join(json.dumps(plain(score), ensure_ascii=False) + "\n" for score in table.scores))
    found = answer(plan, table)
    entries = {e.digest: e for e in progress.entries.values()}
    made = sum(int(e.result.get("images", 0)) for job, e in _once(progress.entries) if job.verb in ("sample", "pick"))
    found["cost"] = {
        "seconds": {verb: round(s, 1) for verb, s in sorted(spent.items())}, "machine_seconds": round(sum(spent.values()), 1),
        "reused_seconds": round(sum(float(e.result.get("seconds", 0)) for d, e in entries.items() if d in progress.reused), 1),
        "wall_seconds": round(wall, 1), "synthetic_images": made, "money": None,
        "workers": max(1, workers), "fit_core_share": _core_share([e.result for job, e in _once(progress.entries) if job.verb == "fit"]),
    }  # fmt: skip
    write_json(run.answer_file, found)


def _core_share(fits: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of their time, all together, in which fits had a core; None where there are none, or one kept no processor time."""
    if not fits or any("cpu_seconds" not in fit for fit in fits):
        return None
    return float(sum(fit["cpu_seconds"] for fit in fits) / max(1e-9, sum(fit["seconds"] for fit in fits)))


def answer(plan: ComparePlan, table: Table) -> dict[str, Any]:
    """compare.json but for its cost (docs/run-folder.md says what each key holds): a function of the plan and the table."""
    study = plan.study
    leaks = compare_answer.leaking(study, table)
    rows = compare_answer.rows(study, table, leaks)
    pairs = compare_answer.pairs(study, table)
    verdict, reason = compare_card.summary(study, rows)
    return {
        "study": study.digest,
        "verdict": verdict,
        "reason": reason,
        "confidence": compare_answer.CONFIDENCE,
        "axes": {axis: {"metric": HEADLINES[axis].name, "better": HEADLINES[axis].better} for axis in study.sizes["axes"]},
        "points": rows,
        "pairs": pairs,
        "fronts": compare_answer.fronts(study, rows, pairs),
        "advice": compare_card.advice(study, rows, pairs),
        "hurts": [{"family": r["family"], "n": r["n"], **r["axes"]["utility"]} for r in rows if r["hurts"]],
        "prices": compare_card.prices(study, rows, pairs),
        "published": compare_card.published(study, table, pairs),
        "not_measured": _not_measured(plan, rows),
    }


def _not_measured(plan: ComparePlan, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row in rows:
        whys: dict[str, list[str]] = {}
        for axis, facts in row["axes"].items():
            if facts["value"] is None:
                whys.setdefault(facts["why"], []).append(axis)
        for why, axes in whys.items():
            values = {"family": row["family"], "n": row["n"], "axes": axes}
            found.append({"what": f"{', '.join(axes)} of {row['family']} at {row['n']}", "what_code": "compare_axes", "what_values": values, "why": why})
    missing = [axis for axis in HEADLINES if axis not in plan.study.sizes["axes"]]
    found += [{"what": axis, "what_code": "compare_axis", "what_values": {"axes": [axis]}, "why": "not asked for"} for axis in missing]
    found.append({"what": "gain on the test split", "why": "a comparison leaves the test split closed, so that a pilot can confirm what it suggests"})
    if plan.study.data["groups"] is None:
        found.append({"what": "spread between groups", "why": "the images name no groups (patient, plant, photograph)"})
    return found


def _once(entries: dict[Job, Entry]) -> list[tuple[Job, Entry]]:
    """Each result once."""
    return list({entry.digest: (job, entry) for job, entry in entries.items()}.values())
