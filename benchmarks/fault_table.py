"""`kill -9` at a random moment of each verb, then the same command again: the same bytes as one left alone, and nothing left behind?

    python benchmarks/fault_table.py [--kills 20] [--verbs fit,collapse] [--seed 0] [--keep FOLDER]

Every verb is first run undisturbed, in a folder of its own with a store of its own, after what it needs. Then, kill by kill in turn over the verbs, in a
fresh copy of the folder as it was before the verb: the whole process group is killed at a moment drawn uniformly from the undisturbed wall time, and the same
command is given again. Compared are all files that it leaves, and every object of the store, without what holds times (seconds, machines, pages and audits
with them); then `mitate verify` must find no damage, and after `mitate clean` no hidden or half-written file may be left. Prints a JSON line a verb and a
table; exit code 1 where anything differs or is left. A kill that would come after the end is counted as such.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mitate.studies.spending import timeless as of_answer

SMALL = "--replicates 3 --steps 40 --generators gaussian --budget 1h --engine local:1".split()
VERBS: dict[str, tuple[list[str], list[str]]] = {  # verb: what it needs first, and its words
    "fit": ([], ["fit", "vae", "leaves", "--as", "v", "-o", "steps=150"]),
    "generate": (["fit"], ["generate", "v", "--per-class", "40", "--out", "fakes"]),
    "scan": ([], ["scan", "leaves", "--json", "scan.json", "--drop-list", "drop.txt"]),
    "export": (["fit", "generate"], ["review", "fakes", "--export", "reviewed"]),
    "relabel": (["fit", "generate"], ["relabel", "fakes", "--with", "real:leaves", "--near-duplicates", "--export", "relabelled", "--json", "r.json"]),
    "prompts": ([], ["prompts", "--skill", "counting", "--n", "400", "--out", "p.jsonl"]),
    "collapse": ([], ["collapse", "toy", "--out", "loop", "--seeds", "3", "--generations", "5", "--n", "200"]),
    "monitor": (["collapse"], ["monitor", "loop", "--rate", "0.5"]),
    "report": (["collapse"], ["report", "loop", "--lang", "ja"]),
    "assess": (["fit", "generate"], ["assess", "fakes", "--real", "leaves", "--axes", "privacy,fidelity,diversity", "--json", "a.json", "--engine", "local:1"]),
    "audit": ([], ["audit", "gaussian", "leaves", "--canaries", "20", "--json", "a.json"]),
    "pilot": ([], ["pilot", "a.npz", "--arms", "real+augment,balanced+augment", "--curve", "none", "--synthetic", "5", "--out", "runs/p", *SMALL]),
    "volume": ([], ["volume", "a.npz", "--volumes", "0,5", "--out", "runs/v", *SMALL]),
    "compare": ([], [
        "compare", "a.npz", "--generators", "gaussian", "--per-class", "8", "--seeds", "2", "--trainings", "1", "--axes", "privacy,utility", "--synthetic", "8",
        "--steps", "40", "--engine", "local:1", "--out", "runs/c",
    ]),
}  # fmt: skip
TIMED = ("machine.json", "report.html", "report.ja.html", "SHA256SUMS", "jobs.tsv", "README.md", "ledger.jsonl", "seen.jsonl", "openings.jsonl")
OF_TIME = ("seconds", "cost", "time", "reused", "estimates", "pace", "spending", "money", "created", "resumed")


@dataclass
class Row:
    """What happened to a verb."""

    verb: str
    kills: int = 0
    late: int = 0
    again: int = 0  # commands given until it ended
    differing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    damaged: int = 0

    @property
    def well(self) -> bool:
        return not (self.differing or self.left or self.damaged)


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--kills", type=int, default=20, help="over all verbs, in turn")
    ask.add_argument("--verbs", default=",".join(VERBS))
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--keep", type=Path, help="work in this folder and leave it there")
    given = ask.parse_args()
    place = given.keep or Path(tempfile.mkdtemp(prefix="fault-table-"))
    try:
        rows = measure(place, given.verbs.split(","), kills=given.kills, seed=given.seed)
    finally:
        if given.keep is None:
            shutil.rmtree(place, ignore_errors=True)
    print(table(rows))
    sys.exit(0 if all(row.well for row in rows) else 1)


def measure(place: Path, verbs: list[str], *, kills: int, seed: int) -> list[Row]:
    """Kill the verbs in turn; a JSON line is printed as soon as one has had its last kill."""
    chance, rows = random.Random(seed), {verb: Row(verb) for verb in verbs}
    known: dict[str, tuple[float, dict[str, str]]] = {}
    for number in range(kills):
        verb = verbs[number % len(verbs)]
        before = place / f"before-{verb}"
        if verb not in known:
            prepare(before, verb)
            known[verb] = undisturbed(before, place / f"alone-{verb}", verb)
        wall, expected = known[verb]
        kill(rows[verb], before, place / f"killed-{verb}", wall=wall, expected=expected, chance=chance)
        if number + len(verbs) >= kills:
            row = rows[verb]
            told = {"verb": verb, "kills": row.kills, "late": row.late, "commands": row.again, "undisturbed_seconds": round(wall, 1), "files": len(expected)}
            print(json.dumps({"what": "fault table", **told, "differing": row.differing[:5], "left": row.left[:5], "damaged": row.damaged}), flush=True)
    return [row for row in rows.values() if row.kills]


def prepare(folder: Path, verb: str) -> None:
    """The folder as it is before the verb: images, arrays, and what earlier verbs made."""
    from mitate import codec

    chance = np.random.default_rng(0)
    for k in range(2):
        (folder / "leaves" / f"c{k}").mkdir(parents=True)
        for i in range(60):
            pixels = chance.integers(80 * k, 256, (12, 12, 1), dtype=np.uint8)
            codec.to_image(pixels).save(folder / "leaves" / f"c{k}" / f"{i}.png", "PNG")
    y = np.arange(400) % 2
    x = np.clip(chance.normal(90 + 60 * y[:, None, None], 40, (400, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(folder / "a.npz", x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
    for earlier in VERBS[verb][0]:
        ended = start(folder, VERBS[earlier][1]).wait()
        if ended != 0:
            raise SystemExit(f"{earlier}, which {verb} needs, ended with exit code {ended}: {(folder / '.log').read_text()[-500:]}")


def undisturbed(before: Path, folder: Path, verb: str) -> tuple[float, dict[str, str]]:
    """Wall time in seconds, and what is there afterwards."""
    shutil.copytree(before, folder)
    began = time.monotonic()
    if (code := start(folder, VERBS[verb][1]).wait()) != 0:
        raise SystemExit(f"{verb}, undisturbed, ended with exit code {code}: {(folder / '.log').read_text()[-500:]}")
    return time.monotonic() - began, contents(folder)


def kill(row: Row, before: Path, folder: Path, *, wall: float, expected: dict[str, str], chance: random.Random) -> None:
    """One kill, and the same command until it ends."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    words = VERBS[row.verb][1]
    process = start(folder, words)
    row.kills += 1
    try:
        process.wait(timeout=chance.uniform(0, wall))
        row.late += 1
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    row.again += 1
    if (code := start(folder, words).wait()) != 0:
        row.differing.append(f"the same command ended with exit code {code}: {(folder / '.log').read_text()[-300:]}")
        return
    found = contents(folder)
    row.differing += [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    row.damaged += start(folder, ["verify"]).wait() != 0
    row.differing += [] if start(folder, ["clean"]).wait() == 0 else ["clean failed"]
    row.left += left_behind(folder)


def start(folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """A command as a process group of its own."""
    environment = {**os.environ, "MITATE_HOME": str(folder / ".store"), "MITATE_CHECKPOINT_SECONDS": "0.2", "OMP_NUM_THREADS": "1"}
    with open(folder / ".log", "ab") as log:
        return subprocess.Popen([sys.executable, "-m", "mitate", *words], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file that must not depend on time or on kills, by its path."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        hidden = name.startswith(".") and not name.startswith(".store/objects/") or "/." in name
        if hidden or path.name in TIMED or "/audit/" in f"/{name}":
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            whole = json.loads(data)
            data = json.dumps(timeless(of_answer(whole) if path.name == "decision.json" else whole), sort_keys=True).encode()
        elif path.name == "jobs.jsonl":
            data = json.dumps([timeless(json.loads(line)) for line in data.splitlines()], sort_keys=True).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def timeless(value: Any) -> Any:
    """Without what holds times; files whose digest follows from times are only named."""
    if isinstance(value, dict):
        return {k: sorted(v) if k == "files" and isinstance(v, dict) else timeless(v) for k, v in value.items() if not any(word in k for word in OF_TIME)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def left_behind(folder: Path) -> list[str]:
    """Half-written files and folders: hidden ones but for locks, and whatever lies where work is under way."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        working = name.startswith((".store/building/", ".store/partial/"))
        hidden = path.name.startswith(".") and name not in (".store", ".log") and not path.name.endswith(".lock") and path.name != ".lock"
        if working or hidden or path.name.endswith((".tmp", ".partial")):
            found.append(name)
    return found


def table(rows: list[Row]) -> str:
    head = ["| Verb | Kills | After the end | Same bytes | Left behind | Damaged |", "|---|---:|---:|---|---|---|"]
    body = [f"| {r.verb} | {r.kills} | {r.late} | {'no' if r.differing else 'yes'} | {len(r.left) or 'nothing'} | {r.damaged or 'none'} |" for r in rows]
    return "\n".join([*head, *body])


if __name__ == "__main__":
    main()
