"""The volume study: how many synthetic images of each class are enough? Planned first (studies/volume_planning.py), then run.

plan = plan_volume(Volume(data="leaves/", generators=("diffusion",)), "leaves/", store=store, workers=2)
print(plan.cost())
run = run_volume(plan, Path("runs/volume"))        the same call resumes

Every volume uses the first images of one set, so a smaller volume is part of a larger one, and all volumes of a replicate share
its subset, generator fit, initialisation, order and number of optimiser steps: what differs is the number of images.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mitate.engine import Engine, Workers
from mitate.files import disk_errors, locked, write_json, write_text
from mitate.progress import Line
from mitate.runtime import machine
from mitate.settings import plain
from mitate.store import Entry
from mitate.studies import evidence, gates, stages, volume_answer
from mitate.studies.arms import group_numbers
from mitate.studies.pilot import check_place
from mitate.studies.repricing import reprice
from mitate.studies.spending import keep_prices, kept_prices
from mitate.studies.volume_planning import VolumePlan
from mitate.study import Job, Run


def run_volume(plan: VolumePlan, folder: Path, *, workers: Workers = None, command: str = "") -> Run:
    """Run a planned volume study into `folder`; the same call again resumes, and one that is finished is returned at once."""
    check_place(folder)
    run = Run(folder)
    if (folder / "study.json").is_file() and run.study.digest != plan.study.digest:
        plan = plan.under(run.study)  # the same question, planned again: its integers were fixed the first time
    if run.finished:
        if plan.prices.given:
            reprice(run, plan.prices)
        return run
    plan.prices.over(kept_prices(run))  # what cannot be used is said before anything is written
    with disk_errors(folder), locked(folder / ".lock"):
        return run if run.finished else _run(plan, run, workers=workers, command=command)


def _run(plan: VolumePlan, run: Run, *, workers: Workers, command: str) -> Run:
    study, folder = plan.study, run.folder
    folder.mkdir(parents=True, exist_ok=True)
    images = tuple(d[:16] for d in plan.test.digests)
    gates.look_number(plan.store, study=study.digest, images=images)  # a fourth look is refused before anything runs
    write_json(folder / "study.json", study)
    write_json(folder / "machine.json", {**machine(), "command": command})
    started = time.monotonic()
    state = stages.open_state(study, plan.cells)
    line = Line(study.estimates["total"], title="volume")
    ending, told = evidence.Ending(folder), set[str]()

    def done(job: Job, entry: Entry, reused: bool) -> None:
        if entry.digest not in told:
            told.add(entry.digest)
            ending.add(job, entry, reused=reused)
            state.reused |= {entry.digest} if reused else set()
            line.advance(job.estimate, f"{state.stage}: {job.name}")

    look = None
    with Engine(plan.store, workers=workers) as engine:
        _gate(state, engine, done)
        if state.alive:
            look = gates.record_opening(plan.store, study=study.digest, test=plan.test.digest, run=folder, images=images)
            opening = {"look": look, "of": len(gates.CONFIDENCE), "study": study.digest, "test": plan.test.digest, "candidate": None}
            write_json(folder / "opening.json", opening)
            state.stage = "full"
            state.test = stages.predictions_on(state, engine, state.cells, "test", done, arms=volume_answer.arms_of_study(state))
    line.close()
    _finish(plan, state, run, look=look, wall=time.monotonic() - started)
    return run


def _gate(state: stages.State, engine: Engine, done: stages.Done) -> None:
    """The copies gate, on the images of the largest volume in the first cell: a generator that copies is not measured."""
    checks = {g: state.jobs.checked(g, state.cells[0]) for g in state.alive}
    found = stages.run_jobs(state, engine, list(checks.values()), done)
    for generator in list(state.alive):
        drop = stages.copies_gate(state, generator, found[checks[generator]].result)
        if drop is not None:
            state.alive.remove(generator)
            state.dropped_generators[generator] = drop


def _finish(plan: VolumePlan, state: stages.State, run: Run, *, look: int | None, wall: float) -> None:
    spent = evidence.write_jobs(state, run.folder)
    evidence.write_samples(state, plan.store, run.folder)
    groups, _ = group_numbers(plan.test.groups, plan.test.names)
    confidence = gates.CONFIDENCE[(look or 1) - 1]
    found, scores = volume_answer.answer(state, confidence=confidence, groups=groups, look=look)
    write_text(run.folder / "scores.jsonl", "".join(json.dumps(plain(score), ensure_ascii=False) + "\n" for score in scores))
    entries = {e.digest: e for e in state.entries.values()}
    cost: dict[str, Any] = {
        "seconds": {verb: round(s, 1) for verb, s in sorted(spent.items())}, "machine_seconds": round(sum(spent.values()), 1),
        "reused_seconds": round(sum(float(e.result.get("seconds", 0)) for d, e in entries.items() if d in state.reused), 1),
        "wall_seconds": round(wall, 1), "synthetic_images": _images_made(state),
    }  # fmt: skip
    looks = []
    if look is not None:
        replicates = len({c.replicate for c in state.cells})
        looks = [{"look": look, "confidence": confidence, "test_images": len(plan.test), "replicates": replicates, "run": run.folder.name}]
    write_json(run.answer_file, volume_answer.priced({**found, "looks": looks, "cost": cost}, keep_prices(run, plan.prices)))


def _images_made(state: stages.State) -> int:
    """Synthetic images drawn or picked over all replicates."""
    made = {job.digest: int(entry.result.get("images", 0)) for job, entry in state.entries.items() if job.verb in ("sample", "pick")}
    return sum(made.values())
