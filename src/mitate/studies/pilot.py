"""The pilot: will synthetic images help this model? Planned first (studies/planning.py), then run in stages (studies/stages.py).

plan = plan_pilot(Pilot(data="leaves/"), "leaves/", store=store, workers=2)
print(plan.cost())
run = run_pilot(plan, Path("runs/leaves"))        the same call resumes
run = continue_pilot(run, 5, store=store)         a new look at the same test images
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitate.engine import Engine, Workers, how_many
from mitate.errors import SettingError
from mitate.files import disk_errors, locked, write_json, write_text
from mitate.progress import Line
from mitate.runtime import machine
from mitate.settings import plain, record
from mitate.store import Entry, Store
from mitate.studies import answer, curve, evidence, gates, spending, stages
from mitate.studies.arms import group_numbers
from mitate.studies.planning import Pilot, Plan, asked_of, plan_pilot
from mitate.studies.repricing import reprice
from mitate.study import Job, Run, Study


@dataclass
class _Watch:
    """Counts work as it is done: for the progress line, for the cost, and for `mitate clean`."""

    state: stages.State
    line: Line
    ending: evidence.Ending
    note: str = ""
    stage_of: dict[str, str] = field(default_factory=dict)  # digest of a result -> the stage that first asked for it

    def __call__(self, job: Job, entry: Entry, reused: bool) -> None:
        if entry.digest in self.stage_of:
            return
        self.ending.add(job, entry, reused=reused)
        self.stage_of[entry.digest] = self.state.stage
        if reused:
            self.state.reused.add(entry.digest)
        self.line.advance(job.estimate, f"{self.state.stage}: {job.name}")


def run_pilot(plan: Plan, folder: Path, *, workers: Workers = None, command: str = "") -> Run:
    """Run a planned pilot into `folder`; the same call again resumes, and one that is finished is returned at once."""
    if Run(folder).finished and Run(folder).study.digest == plan.study.digest:
        return _told(Run(folder), plan)
    check_place(folder)
    plan.prices.over(spending.kept_prices(Run(folder)))  # what cannot be used is said before anything is written
    with disk_errors(folder), locked(folder / ".lock"):
        return _run(plan, folder, workers=workers, command=command)


def check_place(folder: Path) -> None:
    """SettingError where `folder` is a file, or holds something that is no run: nobody's files are written over."""
    if folder.is_dir():
        if not (folder / "study.json").is_file() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise SettingError(f"{folder} is not empty and holds no run.", fix="choose another folder with --out")
    elif not (nearest := next(p for p in (folder, *folder.absolute().parents) if p.exists())).is_dir():
        raise SettingError(f"{nearest} is not a folder.", fix="choose another folder with --out")


def _run(plan: Plan, folder: Path, *, workers: Workers, command: str) -> Run:
    run = Run(folder)
    if (folder / "study.json").is_file() and run.study.digest != plan.study.digest:
        plan = plan.under(run.study)  # the same question, planned again: its integers were fixed the first time
    study = plan.study
    if run.finished:
        return _told(run, plan)
    folder.mkdir(parents=True, exist_ok=True)
    gates.look_number(plan.store, study=study.digest, images=tuple(d[:16] for d in plan.test.digests))
    write_json(folder / "study.json", study)
    spending.keep_prices(run, plan.prices)
    write_json(folder / "machine.json", {**machine(), "command": command})
    started = time.monotonic()
    state = stages.open_state(study, plan.cells)
    line = Line(study.estimates["total"], title="pilot")
    watch = _Watch(state, line, evidence.Ending(folder))
    with Engine(plan.store, workers=workers) as engine:
        stages.look(state, engine, watch)
        if state.alive:
            stages.small(state, engine, watch)
        if wanted := study.plan.get("continued_with"):
            state.candidate = next((a for a in state.arms if a.label == wanted), state.candidate)
        look = None
        if state.candidate is not None:
            look = _open_test(plan, folder, candidate=state.candidate.label)
            stages.full(state, engine, watch)
            confidence = gates.CONFIDENCE[look - 1]
            curve.measure(state, engine, watch, groups=group_numbers(plan.test.groups, plan.test.names)[0], confidence=confidence)
    line.close()
    _finish(plan, state, run, look=look, wall=time.monotonic() - started, stage_of=watch.stage_of, workers=how_many(workers))
    return run


def continue_pilot(run: Run, replicates: int, *, store: Store, workers: Workers = None, command: str = "") -> Run:
    """A new look at the same test images: `replicates` more for the baseline and the candidate. Alpha is spent, so the interval widens.

    The folder keeps its earlier answer as `look1/`, `look2/`. After a kill the same call goes on with the look it had begun.
    """
    study = run.study
    if study.kind != "pilot":
        raise SettingError(f"{run.folder} holds a {study.kind} study.", fix="only a pilot is continued; ask again with more --replicates and another --out")
    rounds = list(study.sizes["full"])
    if run.finished:
        decision = run.decision
        if decision["stage"] != "full" or decision["candidate"] is None:
            raise SettingError(
                f"{run.folder} ended at {decision['stage']!r}, before the test split was opened.", fix="start a new pilot; there is nothing to continue"
            )
        if decision["verdict"] != "more evidence":
            raise SettingError(f"{run.folder} has its answer ({decision['verdict']}).", fix="only a run that said more evidence is given another look")
        if len(rounds) >= len(gates.CONFIDENCE):
            raise SettingError(f"{run.folder} has had its {len(rounds)} looks.", fix="collect new test images and start a new pilot")
        plan_record = {**study.plan, "continued_with": decision["candidate"]}
        study = Study(study.kind, plan_record, study.data, {**study.sizes, "full": [*rounds, replicates]}, study.gates, study.detectable, study.estimates)
    elif len(rounds) == 1:
        raise SettingError(f"{run.folder} is not finished.", fix="give the command that started it once more")
    asked = record(Pilot, {k: v for k, v in asked_of(study).items() if k != "continued_with"}, where=str(run.folder / "study.json"))
    plan = plan_pilot(asked, asked.data, store=store, workers=1, existing=study)
    if run.finished:
        gates.look_number(store, study=plan.study.digest, images=tuple(d[:16] for d in plan.test.digests))
        kept = run.folder / f"look{len(rounds)}"
        kept.mkdir(exist_ok=True)
        for name in ("study.json", "decision.json", "machine.json", "report.html", "report.ja.html"):
            if (run.folder / name).is_file():
                write_text(kept / name, (run.folder / name).read_text(encoding="utf-8"))
        write_json(run.folder / "study.json", plan.study)  # from here on the answer in the folder is not this study's
    return run_pilot(plan, run.folder, workers=workers, command=command)


def _open_test(plan: Plan, folder: Path, *, candidate: str) -> int:
    """Write down that the test split is opened, for which candidate, before anything is measured on it. Returns which look it is.

    A run that was continued knows its own earlier looks, even where the store that recorded them is gone.
    """
    images = tuple(d[:16] for d in plan.test.digests)
    look = gates.record_opening(plan.store, study=plan.study.digest, test=plan.test.digest, run=folder, images=images)
    look = max(look, len(plan.study.sizes["full"]))
    write_json(
        folder / "opening.json", {"look": look, "of": len(gates.CONFIDENCE), "study": plan.study.digest, "test": plan.test.digest, "candidate": candidate}
    )
    return look


def _told(run: Run, plan: Plan) -> Run:
    """A finished run, its money told anew where the plan brings other prices."""
    if plan.prices.given:
        reprice(run, plan.prices)
    return run


def _finish(plan: Plan, state: stages.State, run: Run, *, look: int | None, wall: float, stage_of: Mapping[str, str], workers: int) -> None:
    spent = evidence.write_jobs(state, run.folder)
    evidence.write_samples(state, plan.store, run.folder)
    images = evidence.write_candidate(state, plan.store, run.folder)
    groups, names = group_numbers(plan.test.groups, plan.test.names)
    confidence = gates.CONFIDENCE[(look or 1) - 1]
    lines = [json.dumps(plain(score), ensure_ascii=False) for score in answer.scores(state, confidence=confidence, groups=groups)]
    write_text(run.folder / "scores.jsonl", "\n".join(lines) + "\n")
    reused = sum(float(e.result.get("seconds", 0)) for e in {e.digest: e for e in state.entries.values()}.values() if e.digest in state.reused)
    cost = {
        "seconds": {verb: round(s, 1) for verb, s in sorted(spent.items())}, "machine_seconds": round(sum(spent.values()), 1),
        "reused_seconds": round(reused, 1),
        "wall_seconds": round(wall, 1), "synthetic_images": images, "money": None,
    }  # fmt: skip
    replicates = len(state.test.replicates(state.candidate)) if state.test is not None and state.candidate is not None else 0
    looks = (
        [*_earlier(run, look), {"look": look, "confidence": confidence, "test_images": len(plan.test), "replicates": replicates, "run": run.folder.name}]
        if look
        else []
    )
    found = answer.decision(state, look=look, looks=looks, groups=groups, group_names=names, cost=cost)
    found = spending.spent(found, state, stage_of, look=look, groups=groups, workers=workers)
    write_json(run.folder / "decision.json", spending.priced(found, spending.kept_prices(run)))


def _earlier(run: Run, look: int) -> list[dict[str, Any]]:
    """Looks of this run folder before a continuation (kept as look1/, look2/)."""
    found: list[dict[str, Any]] = []
    for number in range(1, look):
        if (run.folder / f"look{number}" / "decision.json").is_file():
            found = list(Run(run.folder / f"look{number}").decision["looks"])
    return found
