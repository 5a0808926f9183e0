"""`kill -9` at a random moment of each verb, then the same command again: the same bytes as one left alone, and nothing left behind?

    python benchmarks/fault_table.py [--kills 200] [--verbs fit,collapse] [--seed 0] [--keep FOLDER]
    python benchmarks/fault_table.py --summary            the table of what is in the results file, and nothing more

Every verb is first run undisturbed, in a folder of its own with a store of its own, after what it needs. Then, kill by kill over the verbs (as much processor
time for each), in a fresh copy of the folder as it was before the verb: the whole process group is killed once it has used a share of the processor time of
the undisturbed run, drawn uniformly (processor time, for others may use the machine; /proc is read, so Linux alone), and the same command is given again.
Compared are all files that it leaves, and every object of the store, without what holds times (seconds, machines, pages and audits with them); then `mitate
verify` must find no damage, and after `mitate clean` no hidden or half-written file may be left.

Each kill is a line of benchmarks/results/fault_table.jsonl. Kills that are there are not made again, so the same command goes on; the moment of a verb's n-th
kill follows from seed, verb and n alone. A kill that would have come after the end is a line too, and does not count towards --kills. Exit code 1 where
anything differs, is left or is damaged.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate.studies.spending import timeless as of_answer

RESULTS = Path(__file__).parent / "results" / "fault_table.jsonl"
SMALL = "--replicates 3 --steps 40 --generators gaussian --budget 1h --engine local:1".split()
LORA = ["adapt", "lora", "--base", "lab", "--images", "leaves", "--steps", "6", "--batch", "4", "--rank", "2"]
VERBS: dict[str, tuple[list[str], list[str]]] = {  # verb: what it needs first, and its words
    "fit": ([], ["fit", "vae", "leaves", "--as", "v", "-o", "steps=60"]),
    "fit-diffusion": ([], ["fit", "diffusion", "leaves", "--as", "d", "-o", "steps=60", "-o", "width=8"]),
    "generate": (["fit"], ["generate", "v", "--per-class", "40", "--out", "fakes"]),
    "scan": ([], ["scan", "leaves", "--json", "scan.json", "--drop-list", "drop.txt"]),
    "export": (["fit", "generate"], ["review", "fakes", "--export", "reviewed"]),
    "relabel": (["fit", "generate"], ["relabel", "fakes", "--with", "real:leaves", "--near-duplicates", "--export", "relabelled", "--json", "r.json"]),
    "prompts": ([], ["prompts", "--skill", "counting", "--n", "1000", "--out", "p.jsonl"]),
    "collapse": ([], ["collapse", "toy", "--out", "loop", "--seeds", "3", "--generations", "8", "--n", "800"]),
    "collapse-leaves": ([], [
        "collapse", "leaves", "--agents", "vae", "--out", "scratch", "--seeds", "2", "--generations", "2", "--n", "40", "--engine", "local:1",
        "-o", "steps=10", "-o", "classifier_steps=5",
    ]),
    "monitor": (["collapse"], ["monitor", "loop", "--rate", "0.5"]),
    "report": (["collapse"], ["report", "loop", "--lang", "ja"]),
    "assess": (["fit", "generate"], ["assess", "fakes", "--real", "leaves", "--axes", "privacy,fidelity,diversity", "--json", "a.json", "--engine", "local:1"]),
    "audit": ([], ["audit", "gaussian", "leaves", "--canaries", "20", "--json", "a.json"]),
    "adapt-style": ([], [
        "adapt", "style", "--base", "lab", "--images", "leaves", "--as", "s", "--steps", "8", "--batch", "4", "--file", "s.safetensors",
    ]),
    "adapt-lora": ([], [*LORA, "--as", "counting", "--file", "l.safetensors"]),
    "adapt-other": ([], [*LORA, "--as", "relation", "--seed", "1"]),
    "adapt-shots": (["fit-diffusion"], ["adapt", "shots", "--base", "d", "--images", "leaves", "--few", "3", "--as", "t"]),
    "merge": (["adapt-lora", "adapt-other"], ["merge", "ties", "counting", "relation", "--as", "m", "--out", "m.safetensors", "--fused", "fused"]),
    "merge-search": (["adapt-lora", "adapt-other"], ["merge", "mean", "counting", "relation", "--as", "m", "--search", "asked.txt", "--budget", "3"]),
    "generate-lab": ([], ["generate", "lab", "--prompts", "asked.txt", "-n", "4", "--out", "painted", "--engine", "local:1"]),
    "caption": ([], ["caption", "leaves", "--json", "c.jsonl"]),
    "skills": ([], ["skills", "plan.toml", "--out", "runs/s", "--engine", "local:1"]),
    "pilot": ([], ["pilot", "a.npz", "--arms", "real+augment,balanced+augment", "--curve", "none", "--synthetic", "5", "--out", "runs/p", *SMALL]),
    "volume": ([], ["volume", "a.npz", "--volumes", "0,5", "--out", "runs/v", *SMALL]),
    "compare": ([], [
        "compare", "a.npz", "--generators", "gaussian", "--per-class", "8", "--seeds", "2", "--trainings", "1", "--axes", "privacy,utility", "--synthetic", "8",
        "--steps", "40", "--engine", "local:1", "--out", "runs/c",
    ]),
    "demo": ([], ["demo", "--engine", "local:1"]),
    "clean": (["fit", "generate"], ["clean"]),
}  # fmt: skip
DEAR = ("demo", "adapt-other")  # minutes each, and what is killed under another name already: by name alone
PLANNED = {"demo": "runs/demo/study.json"}  # plans whose sizes follow from the speed that was probed: the undisturbed one is given
ASKED = "two red circles\na blue star\na green square left of a red circle\n"
PLAN = """skills = ["single", "counting"]
prompts = 5
tested = 2
steps = 2
rank = 2
batch = 4
keep = "best:0.6"
sample_steps = 1
merges = ["mean"]
controls = []
"""
TIMED = ("machine.json", "report.html", "report.ja.html", "SHA256SUMS", "jobs.tsv", "README.md", "ledger.jsonl", "seen.jsonl", "openings.jsonl")
OF_TIME = ("seconds", "cost", "time", "reused", "estimates", "pace", "spending", "money", "created", "resumed")
OF_CALL = ("appended",)  # lines that this very call added to a ledger: none the second time
UNLIKE = (*OF_TIME, *OF_CALL)


@dataclass(frozen=True)
class Kill:
    """What happened at one kill. share: its moment, of the undisturbed processor time; late: after the end; differing, left: names of files."""

    verb: str
    number: int
    seed: int
    share: float
    late: bool
    differing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    damaged: bool = False

    @property
    def well(self) -> bool:
        return not (self.differing or self.left or self.damaged)


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--kills", type=int, default=200, help="that come while a verb runs, over all verbs; those in the results file count")
    ask.add_argument("--verbs", default=",".join(verb for verb in VERBS if verb not in DEAR))
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--keep", type=Path, help="work in this folder and leave it there; what was run undisturbed is found again")
    ask.add_argument("--results", type=Path, default=RESULTS)
    ask.add_argument("--summary", action="store_true", help="print the table of the results file, and stop")
    given = ask.parse_args()
    if not given.summary:
        place = given.keep or Path(tempfile.mkdtemp(prefix="fault-table-"))
        try:
            measure(place, given.verbs.split(","), kills=given.kills, seed=given.seed, results=given.results)
        finally:
            if given.keep is None:
                shutil.rmtree(place, ignore_errors=True)
    done = kept(given.results)
    print(table(done))
    sys.exit(0 if all(one.well for one in done) else 1)


def kept(results: Path) -> list[Kill]:
    """The kills in a results file."""
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.is_file() else []
    return [Kill(**{k: tuple(v) if isinstance(v, list) else v for k, v in line.items() if k != "what"}) for line in lines]


def measure(place: Path, verbs: list[str], *, kills: int, seed: int, results: Path) -> None:
    """Kill the verbs until so many kills, with those in the results file, came while a verb ran."""
    done = [one for one in kept(results) if one.verb in verbs and one.seed == seed]
    numbers = {verb: max((one.number + 1 for one in done if one.verb == verb), default=0) for verb in verbs}
    inside = sum(not one.late for one in done)
    while inside < kills:
        verb = min(verbs, key=lambda verb: ((numbers[verb] + 1) * price(place, verb), verbs.index(verb)))
        one = killed(place, verb, number=numbers[verb], seed=seed)
        numbers[verb], inside = numbers[verb] + 1, inside + (not one.late)
        with open(results, "a", encoding="utf-8") as out:
            out.write(json.dumps({"what": "kill", **asdict(one)}) + "\n")


def price(place: Path, verb: str) -> float:
    """Seconds of a verb's undisturbed run, at least 2: all verbs together get the same processor time."""
    return max(after(place, [*VERBS[verb][0], verb])[1], 2.0)


def after(place: Path, chain: list[str]) -> tuple[Path, float]:
    """A folder in which these verbs were run undisturbed, one after the other, and the processor time of the last one in seconds."""
    folder, told = place / "+".join(["start", *chain]), place / ("+".join(["start", *chain]) + ".seconds")
    if told.is_file():
        return folder, float(told.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    if not chain:
        prepare(folder)
        told.write_text("0")
        return folder, 0.0
    shutil.copytree(after(place, chain[:-1])[0], folder)
    _, status, used = os.wait4(start(folder, VERBS[chain[-1]][1]).pid, 0)
    if status != 0:
        raise SystemExit(f"{chain[-1]}, undisturbed, ended with exit code {os.waitstatus_to_exitcode(status)}: {(folder / '.log').read_text()[-500:]}")
    seconds = used.ru_utime + used.ru_stime
    told.write_text(str(seconds))
    return folder, seconds


def prepare(folder: Path) -> None:
    """What every verb finds: images, arrays, prompts, a plan."""
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
    (folder / "asked.txt").write_text(ASKED)
    (folder / "plan.toml").write_text(PLAN)


def killed(place: Path, verb: str, *, number: int, seed: int) -> Kill:
    """One kill, and the same command until it ends."""
    needs, words = VERBS[verb]
    before, (alone, whole) = after(place, needs)[0], after(place, [*needs, verb])
    share = random.Random(f"{seed} {verb} {number}").random()
    shutil.rmtree(folder := place / f"killed-{verb}", ignore_errors=True)
    shutil.copytree(before, folder)
    if verb in PLANNED:
        (folder / PLANNED[verb]).parent.mkdir(parents=True)
        shutil.copy2(alone / PLANNED[verb], folder / PLANNED[verb])
    process = start(folder, words)
    while process.poll() is None and spent(process.pid) < share * whole:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    late = process.wait() == 0
    told = {"verb": verb, "number": number, "seed": seed, "share": round(share, 4), "late": late}
    if (code := start(folder, words).wait()) != 0:
        return Kill(**told, differing=(f"the same command ended with exit code {code}: {(folder / '.log').read_text()[-300:]}",))
    expected, found = contents(alone), contents(folder)
    differing = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    damaged = start(folder, ["verify"]).wait() != 0
    differing += [] if start(folder, ["clean"]).wait() == 0 else ["clean failed"]
    return Kill(**told, differing=tuple(differing), left=tuple(left_behind(folder)), damaged=damaged)


def spent(group: int) -> float:
    """Processor time in seconds of the processes of a group, with what those that have ended used."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = stat.read_text().rpartition(")")[2].split()  # after the name: state, parent, group, ..., and from the 12th on the times
        except OSError:  # it has ended meanwhile
            continue
        if int(told[2]) == group:
            ticks += sum(map(int, told[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


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
    """Without what holds times, or is of one call alone; files whose digest follows from times are only named."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not any(word in k for word in UNLIKE)}
        return {k: sorted(v) if k == "files" and isinstance(v, dict) else timeless(v) for k, v in kept.items()}
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


def table(done: list[Kill]) -> str:
    """A row a verb."""
    rows = ["| Verb | Kills while it ran | After the end | Same bytes | Left behind | Damaged |", "|---|---:|---:|---|---|---|"]
    for verb in [*(verb for verb in VERBS if any(one.verb == verb for one in done)), ""]:
        mine = [one for one in done if verb in ("", one.verb)]
        differing, left, damaged = (sum(bool(getattr(one, what)) for one in mine) for what in ("differing", "left", "damaged"))
        late = sum(one.late for one in mine)
        told = [verb or "all", str(len(mine) - late), str(late), f"not in {differing}" if differing else "yes", str(left or "nothing"), str(damaged or "none")]
        rows.append(f"| {' | '.join(told)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
