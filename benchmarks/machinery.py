"""What the machinery of a study costs: the share of a pilot's worker time that goes into the store, hashing, records and processes.

    python benchmarks/machinery.py [--budget 5m] [--workers 2] [--repeat 3] [--data digits:20] [--generators vae,diffusion] [--steps N] [--replicates N]

The whole is workers x wall time, from the start of the command's process to its report. It is divided, without rest, into

    compute      inside the verbs, less what they read, write and hash
    machinery    start (processes and imports, the command's own too) + store (objects, checkpoints, their files) + hashing
                 + records (run folder, report, audit) + dispatch (a worker idle while a job it could do waits)
    planning     reading and checking the images, probing the speed
    structure    workers idle because no job is ready (a fit before its images, the end of a stage), and the statistics between stages

Functions are timed by wrapping them here, in this process and in the workers; time inside another timed function counts once, for
the inner one. What the command does while no worker can work is counted for every worker. Prints one JSON line of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

MACHINERY = ("start", "store", "hashing", "records", "dispatch")
LOG = "MITATE_BENCH_LOG"


class Meter:
    """Seconds by category; a timed call inside another stops the outer one's clock. One thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.spans: list[tuple[float, float]] = []  # calls of Engine.run
        self._stack: list[str] = []
        self._since = time.monotonic()

    def wrap(self, place: Any, name: str, category: str) -> None:
        """Time every call of `place.name` as `category`."""
        inner = getattr(place, name)

        def timed(*args: Any, **settings: Any) -> Any:
            return self.call(category, inner, *args, **settings)

        setattr(place, name, timed)

    def call(self, category: str, inner: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        started = self._switch()
        self._stack.append(category)
        try:
            return inner(*args, **settings)
        finally:
            ended = self._switch()
            self._stack.pop()
            if category == "engine":
                self.spans.append((started, ended))

    def _switch(self) -> float:
        now = time.monotonic()
        if self._stack:
            inside = "engine " if "engine" in self._stack and self._stack[-1] != "engine" else ""
            self.seconds[inside + self._stack[-1]] += now - self._since
        self._since = now
        return now


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--data", default="digits:20")
    ask.add_argument("--generators", default="vae,diffusion")
    ask.add_argument("--budget", default="5m")
    ask.add_argument("--steps", type=int, default=300)
    ask.add_argument("--replicates", type=int, default=0)
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--repeat", type=int, default=3)
    ask.add_argument("--once", nargs=2, help=argparse.SUPPRESS)  # folder, moment of the start
    ask.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)  # store, moment of the start
    given = ask.parse_args()
    if given.worker:
        serve(given.worker[0], float(given.worker[1]))
    elif given.once:
        once(given, Path(given.once[0]), float(given.once[1]))
    else:
        rows = [repetition() for _ in range(given.repeat)]
        middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        line = {"what": "machinery", "data": given.data, "generators": given.generators, "budget": given.budget, "workers": given.workers, "n": len(rows)}
        print(json.dumps({**line, **{k: round(v, 4) for k, v in middle.items()}, "all_machinery_shares": [round(r["machinery_share"], 4) for r in rows]}))


def repetition() -> dict[str, float]:
    """One pilot in a process, a store and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="machinery-") as folder:
        environment = {**os.environ, "MITATE_HOME": f"{folder}/store", LOG: f"{folder}/log.jsonl", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *sys.argv, "--once", folder, str(time.monotonic())]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        return divide(Path(folder))


# the command ----------------------------------------------------------------------------------------------------------


def once(given: argparse.Namespace, folder: Path, spawned: float) -> None:
    """What `mitate pilot` does, timed; writes parent.json."""
    meter = Meter()
    _wrap_files(meter)
    import mitate.training.loop  # noqa: F401  # what the probe would import, torch above all
    from mitate import engine
    from mitate.report import audit, html
    from mitate.settings import record
    from mitate.store import Store
    from mitate.studies import evidence, pilot, planning

    _wrap_store(meter)
    for place, name, category in (
        (planning, "open_data", "planning"), (planning, "plan_pilot", "planning"), (evidence, "write_samples", "records"), (evidence, "write_jobs", "records"),
        (evidence, "write_candidate", "records"), (pilot, "write_json", "records"), (pilot, "write_text", "records"), (html, "write_report", "records"),
        (audit, "write_audit", "records"), (pilot, "run_pilot", "statistics"), (engine.Engine, "run", "engine"), (engine.Engine, "__exit__", "start"),
    ):  # fmt: skip
        meter.wrap(place, name, category)
    launch = [sys.executable, str(Path(__file__).resolve()), "--worker"]

    def _launch(self: Any) -> subprocess.Popen[str]:
        words = [*launch, str(self._store.root), str(time.monotonic())]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})

    engine._Worker._launch = _launch  # type: ignore[method-assign]
    begun = time.monotonic()
    settings = {
        "data": given.data, "generators": given.generators.split(","), "budget": given.budget, "steps": given.steps, "replicates": given.replicates,
    }  # fmt: skip
    plan = planning.plan_pilot(record(planning.Pilot, settings, where="options"), given.data, store=Store.find(), workers=given.workers)
    run = pilot.run_pilot(plan, folder / "run", workers=given.workers)
    html.write_report(run)
    audit.write_audit(run.folder)
    facts = {"spawned": spawned, "begun": begun, "ended": time.monotonic(), "seconds": meter.seconds, "spans": meter.spans, "workers": given.workers}
    (folder / "parent.json").write_text(json.dumps(facts))


def serve(root: str, spawned: float) -> None:
    """A worker, timed; writes one line a job."""
    meter = Meter()
    _wrap_files(meter)
    import mitate.adapters.alignment
    import mitate.generators.diffusion
    import mitate.generators.vae
    import mitate.metrics.privacy
    import mitate.training.loop  # noqa: F401
    from mitate import engine, fitting, verbs

    _wrap_store(meter)
    meter.wrap(fitting, "_write", "store")
    for name in ("read_pixels", "read_facts", "_keep"):
        meter.wrap(verbs, name, "store")
    for name, verb in verbs.VERBS.items():
        verbs.VERBS[name] = verbs.Verb(lambda work, run=verb.run: meter.call("compute", run, work), verb.version)
    inner, log = verbs.perform, Path(os.environ[LOG])

    def note(**facts: Any) -> None:
        with open(log, "a") as out:
            out.write(json.dumps({"worker": os.getpid(), **facts}) + "\n")

    def perform(store: Any, asked: Any, **settings: Any) -> Any:
        before, started = dict(meter.seconds), time.monotonic()
        try:
            return meter.call("store", inner, store, asked, **settings)
        finally:
            spent = {k: v - before.get(k, 0.0) for k, v in meter.seconds.items()}
            note(digest=asked.digest, inputs=sorted(asked.inputs.values()), started=started, ended=time.monotonic(), seconds=spent)

    verbs.perform = perform
    note(started=spawned, ended=time.monotonic(), seconds={"start": time.monotonic() - spawned})
    engine._serve(root)


def _wrap_files(meter: Meter) -> None:
    """Before anything of mitate is imported, so that its modules take the timed ones."""
    import numpy
    import safetensors.numpy
    import safetensors.torch

    for place, names in ((safetensors.numpy, ("save_file", "load_file")), (safetensors.torch, ("save_file", "load_file")), (numpy, ("save", "load"))):
        for name in names:
            meter.wrap(place, name, "store")


def _wrap_store(meter: Meter) -> None:
    from mitate import files, settings, store, study

    for name in ("make", "get"):
        meter.wrap(store.Store, name, "store")
    for place in (files, store):
        for name in ("write_text", "write_json"):
            meter.wrap(place, name, "store")
        meter.wrap(place, "file_digest", "hashing")
    for place in (store, study, settings):
        meter.wrap(place, "digest", "hashing")


# the division ---------------------------------------------------------------------------------------------------------


def divide(folder: Path) -> dict[str, float]:
    """Seconds and shares of a repetition from its two records."""
    parent = json.loads((folder / "parent.json").read_text())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    workers, wall = parent["workers"], parent["ended"] - parent["spawned"]
    spent: dict[str, float] = defaultdict(float)
    for line in lines:
        for category, seconds in line["seconds"].items():
            spent[category] += seconds
    spent["start"] += workers * (parent["begun"] - parent["spawned"])
    inside = 0.0
    for category, seconds in parent["seconds"].items():
        if category.startswith("engine "):
            inside += seconds  # beside the workers; where they wait for it, that is dispatch
        elif category != "engine":
            spent[category] += workers * seconds
    spent["dispatch"], idle = _idle(parent, lines)
    spent["structure"] = idle + spent.pop("statistics")
    whole = workers * wall
    jobs = [line for line in lines if "digest" in line]
    machinery = sum(spent[name] for name in MACHINERY)
    return {
        "wall_seconds": wall, "jobs": len(jobs), "machinery_share": machinery / whole, "machinery_to_compute": machinery / spent["compute"],
        "compute_share": spent["compute"] / whole, "planning_share": spent["planning"] / whole, "structure_share": spent["structure"] / whole,
        "unexplained_share": 1 - sum(spent[name] for name in (*MACHINERY, "compute", "planning", "structure")) / whole,
        **{f"{name}_seconds": spent[name] for name in MACHINERY}, "beside_the_workers_seconds": inside,
    }  # fmt: skip


def _idle(parent: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[float, float]:
    """Worker seconds idle inside Engine.run: (while a job that could have run waited, while none could)."""
    ended = {line["digest"]: line["ended"] for line in lines if "digest" in line}
    moments = sorted({t for line in lines for t in (line["started"], line["ended"])} | {t for span in parent["spans"] for t in span})
    dispatch = idle = 0.0
    for low, high in zip(moments, moments[1:], strict=False):
        span = next((s for s in parent["spans"] if s[0] <= low and high <= s[1]), None)
        if span is None:
            continue
        free = parent["workers"] - sum(line["started"] <= low and high <= line["ended"] for line in lines)
        waiting = sum(
            line["started"] >= high and line["started"] < span[1] and max([span[0], *(ended[i] for i in line["inputs"] if i in ended)]) <= low
            for line in lines
            if "digest" in line
        )
        starting = sum(line["started"] <= low and high <= line["ended"] for line in lines if "digest" not in line)  # their jobs wait for them
        lost = min(max(free, 0), max(0, waiting - starting))
        dispatch += lost * (high - low)
        idle += (max(free, 0) - lost) * (high - low)
    return dispatch, idle


if __name__ == "__main__":
    main()
