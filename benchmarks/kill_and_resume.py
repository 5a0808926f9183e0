"""`kill -9` at random moments of a small pilot, then the same command: does it end with the same bytes as one left alone?

    python benchmarks/kill_and_resume.py [--kills 50] [--seed 0] [--workers 2] [--generator-steps 240] [--keep FOLDER]

One study.json is planned once and copied into two run folders, each with a store of its own. The first is run undisturbed. The
second is killed, its whole process group at a moment drawn uniformly from the first half of the undisturbed wall time, and given
the same command again, until all kills are spent; a pilot that finishes before that is compared and started afresh. Checkpoints
are written every half second, so that kills fall inside fits that are then resumed. Prints one JSON line; exit code 1 when a byte differs.

Compared byte by byte: every image and every weight file, in the run folder and in the store, and the records that hold no time.
decision.json and jobs.jsonl are compared without their seconds; machine.json, the report and the audit hold times and are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mitate.studies.spending import timeless

SETTINGS = {
    "data": "digits:20",
    "arms": ["real+augment", "balanced+augment", "bridged+++augment"],
    "budget": "10h",
    "synthetic_per_class": 10,
    "replicates": 3,
    "steps": 40,
    "worthwhile": 0.05,
}


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--kills", type=int, default=50)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--generator-steps", type=int, default=240, help="optimiser steps of the VAE and of the diffusion model")
    ask.add_argument("--keep", type=Path, help="work in this folder and leave it there")
    given = ask.parse_args()
    place = given.keep or Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    try:
        line = measure(place, kills=given.kills, seed=given.seed, workers=given.workers, generator_steps=given.generator_steps)
    finally:
        if given.keep is None:
            shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(line), flush=True)
    sys.exit(0 if line["identical"] else 1)


def measure(place: Path, *, kills: int, seed: int, workers: int, generator_steps: int) -> dict[str, Any]:
    """The line to print: kills, pilots finished, whether every one was identical, and what differed."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "plan.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in SETTINGS.items()))
    study = _study(place, workers=workers, generator_steps=generator_steps)
    alone = Place(place / "alone", study, workers)
    started = time.monotonic()
    if (code := alone.start().wait()) != 0:
        raise SystemExit(f"the undisturbed run ended with exit code {code}")
    wall = time.monotonic() - started
    expected = contents(alone.folder)

    chance = random.Random(seed)
    done = finished = inside = 0
    differing: list[str] = []
    while done < kills:
        disturbed = Place(place / f"killed{finished}", study, workers)
        while True:
            process = disturbed.start()
            if done < kills:
                try:
                    process.wait(timeout=chance.uniform(0, wall / 2))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    done += 1
                    inside += any(disturbed.folder.glob("store/partial/*/**/fit.safetensors"))
            code = process.wait()
            if code == 0:
                break
            if code != -signal.SIGKILL:
                raise SystemExit(f"after {done} kills the same command ended with exit code {code}")
        found = contents(disturbed.folder)
        differing += [f"pilot {finished}: {name}" for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
        finished += 1
        shutil.rmtree(disturbed.folder)
    return {
        "what": "kill and resume", "kills": done, "finished": finished, "identical": not differing, "differing": differing[:20],
        "kills_with_a_fit_under_way": inside, "files_compared": len(expected), "undisturbed_seconds": round(wall, 1), "workers": workers, "seed": seed,
    }  # fmt: skip


class Place:
    """A run folder with its own store, and the command that is given there again and again."""

    def __init__(self, folder: Path, study: dict[str, Any], workers: int) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "run").mkdir(parents=True)
        (folder / "run" / "study.json").write_text(json.dumps(study))
        self._command = [sys.executable, "-m", "mitate", "pilot", "--plan", str(folder.parent / "plan.toml"), "--out", "run", "--engine", f"local:{workers}"]

    def start(self) -> subprocess.Popen[bytes]:
        """The command as a process group of its own."""
        environment = {**os.environ, "MITATE_HOME": str(self.folder / "store"), "MITATE_CHECKPOINT_SECONDS": "0.5", "OMP_NUM_THREADS": "1"}
        with open(self.folder / "log.txt", "ab") as log:
            return subprocess.Popen(self._command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def contents(folder: Path) -> dict[str, str]:
    """Digest of everything that must not depend on time or on kills, by its path below `folder`."""
    run = folder / "run"
    decision = timeless(json.loads((run / "decision.json").read_text()))
    jobs = [json.loads(line) for line in (run / "jobs.jsonl").read_text().splitlines()]
    jobs = [{k: v for k, v in job.items() if k not in ("seconds", "reused")} for job in jobs]
    found = {"run/decision.json": _digest(json.dumps(decision).encode()), "run/jobs.jsonl": _digest(json.dumps(jobs).encode())}
    for name in ("study.json", "scores.jsonl", "opening.json"):
        if (run / name).is_file():
            found[f"run/{name}"] = _digest((run / name).read_bytes())
    for part in (run / "samples", run / "synthetic", folder / "store" / "objects"):
        for path in part.rglob("*"):
            if path.is_file() and path.name != "result.json":  # it holds seconds
                found[path.relative_to(folder).as_posix()] = _digest(path.read_bytes())
    return found


def _study(place: Path, *, workers: int, generator_steps: int) -> dict[str, Any]:
    """The study that both run: planned once, its generators' steps cut so that a pilot takes under a minute."""
    from mitate.settings import plain, record
    from mitate.store import Store
    from mitate.studies.plan_file import read_plan
    from mitate.studies.planning import Pilot, plan_pilot

    asked = record(Pilot, read_plan(place / "plan.toml"), where="plan.toml")
    before = os.environ.get("MITATE_HOME")
    os.environ["MITATE_HOME"] = str(place / "planning")
    try:
        study = plain(plan_pilot(asked, asked.data, store=Store(place / "planning"), workers=workers).study)
    finally:
        os.environ.pop("MITATE_HOME")
        if before is not None:
            os.environ["MITATE_HOME"] = before
    for facts in study["sizes"]["generators"].values():
        facts["options"]["steps"] = generator_steps
    return study


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
