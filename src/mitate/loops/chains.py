"""Many chains of a loop, in this process or in others, and the file that tells of them while they run.

found = collapse(Toy(), Loop(policy="replace"), seeds=5, out="runs/loop")        runs/loop/loop.jsonl: one line a generation of a chain

A chain that breaks stops alone. The same call goes on after a kill and ends with the same bytes, whichever and however many processes worked on it.
A worker is a process of its own (`python -m mitate.loops.chains FOLDER SEED`) that runs one chain and answers with a line a generation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, JobError, MitateError, SettingError, StoreError
from mitate.files import locked, write_json, write_text, writing
from mitate.loops.chain import STATE, Chain, read_json
from mitate.loops.loop import Ground, Loop, ground_asked
from mitate.metrics.intervals import quantile_t
from mitate.progress import Progress, Silent
from mitate.runtime import die_with_parent
from mitate.settings import parsed, plain, record

LINES, ASKED, BLOCKED = "loop.jsonl", "run.json", "blocked.json"
PREFIX = "mitate:"  # of a worker's answer; anything else on its output is some library talking
Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Loops:
    """What came out: every line of every chain, and why chains stopped that could not go on."""

    loop: Loop
    lines: tuple[Mapping[str, Any], ...]
    blocked: Mapping[int, str]
    folder: Path | None = None

    @property
    def chains(self) -> dict[int, list[dict[str, float]]]:
        """Indicators by chain, one mapping a generation."""
        found: dict[int, list[dict[str, float]]] = {}
        for line in self.lines:
            found.setdefault(line["chain"], []).append(line["indicators"])
        return found

    def table(self, indicator: str) -> np.ndarray:
        """An indicator of the chains that ended, float64 [chains, generations]."""
        rows = [[g[indicator] for g in chain] for chain in self.chains.values() if len(chain) == self.loop.generations]
        return np.array(rows, dtype=np.float64).reshape(-1, self.loop.generations)

    def band(self, indicator: str, *, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean over chains and half the width of Student's interval for it, float64 [generations] both; None where one chain says nothing of others."""
        table = self.table(indicator)
        if not len(table):
            raise JobError("No chain came to its end.", fix="see why they are blocked, and run the same again")
        mean = table.mean(axis=0)
        if len(table) < 2:
            return mean, None
        return mean, quantile_t(0.5 + confidence / 2, len(table) - 1) * table.std(axis=0, ddof=1) / np.sqrt(len(table))


def collapse(
    ground: Ground, loop: Loop, *, seeds: int | Sequence[int] = 5, out: str | Path | None = None, exact: bool = True, workers: int = 0,
    progress: Progress | None = None,
) -> Loops:  # fmt: skip
    """Run the loop, one chain a seed. With `out` every generation is on the disk as soon as it is made, and the same call goes on from there.

    A chain that cannot go on is told of in `blocked`, and in blocked.json; the others go on. The same call tries it again. workers: processes that run chains
    beside each other, 0 for this one alone; they need `out`.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise SettingError(f"{numbers} are no seeds.", fix="give 1 or more different seeds from 0")
    if workers and out is None:
        raise SettingError("Workers leave what they make in a folder.", fix="give out, or 0 workers")
    told, folder = progress or Silent(), Path(out) if out is not None else None
    lines: dict[int, list[Mapping[str, Any]]] = {seed: [] for seed in numbers}
    blocked: dict[int, str] = {}
    if folder is not None and not (folder / ASKED).exists():
        Chain(ground, loop, seed=numbers[0], exact=exact)  # what cannot be is refused before the folder holds it
    with _opened(folder, ground, loop, numbers, exact) as lines_file:
        there = {(line["chain"], line["generation"]) for line in read_lines(lines_file)} if lines_file is not None else set()

        def tell(line: Mapping[str, Any]) -> None:
            lines[line["chain"]].append(line)
            if lines_file is not None and (line["chain"], line["generation"]) not in there:
                with open(lines_file, "a", encoding="utf-8", newline="\n") as end:
                    end.write(json.dumps(line) + "\n")
            done = sum(map(len, lines.values()))
            told.step(done, len(numbers) * loop.generations, f"chain {line['chain']} generation {line['generation']}")

        if folder is not None and workers:
            _spread(folder, numbers, workers, tell, blocked)
        else:
            for seed in numbers:
                if why := _run(ground, loop, seed=seed, exact=exact, folder=folder, tell=tell):
                    blocked[seed] = why
        if folder is not None and lines_file is not None:
            write_text(lines_file, "".join(json.dumps(line) + "\n" for seed in numbers for line in lines[seed]))
            write_json(folder / BLOCKED, {str(seed): why for seed, why in sorted(blocked.items())})
    return Loops(loop, tuple(line for seed in numbers for line in lines[seed]), dict(sorted(blocked.items())), folder)


def _run(ground: Ground, loop: Loop, *, seed: int, exact: bool, folder: Path | None, tell: Tell) -> str:
    """Run one chain to its end, telling of every generation; why it could not go on, or nothing."""
    chain = Chain(ground, loop, seed=seed, exact=exact)
    own = folder / f"chain-{seed:03d}" if folder is not None else None
    try:
        if own is not None and chain.load(own):
            for line in chain.lines:
                tell(line)
        while chain.last < loop.generations:
            line = chain.step()
            if own is not None:
                chain.save(own)
            tell(line)
    except (SettingError, StoreError, OSError):
        raise
    except Exception as wrong:  # whatever a model does in its own chain is that chain's end alone
        return f"generation {chain.last + 1}: {type(wrong).__name__}: {wrong}"
    return ""


def _spread(folder: Path, seeds: Sequence[int], workers: int, tell: Tell, blocked: dict[int, str]) -> None:
    """Run chains in processes of their own. The first error that is not a chain's own is raised, once all have come to their end."""
    lock = threading.Lock()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def one(seed: int) -> MitateError | None:
        command = [sys.executable, "-m", "mitate.loops.chains", str(folder), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment) as process:
            assert process.stdout is not None
            ended = False
            for text in process.stdout:
                if not text.startswith(PREFIX):
                    continue
                answer = parsed(text.removeprefix(PREFIX))
                if "line" in answer:
                    with lock:
                        tell(answer["line"])
                elif "error" in answer:
                    kind = {"SettingError": SettingError, "StoreError": StoreError}.get(answer["error"], JobError)
                    return kind(answer["message"], fix=answer["fix"])
                else:
                    ended = True
                    if answer["blocked"]:
                        blocked[seed] = answer["blocked"]
        if not ended:
            blocked[seed] = f"its process ended without an answer (exit code {process.returncode}; -9 is often too little memory)"
        return None

    with ThreadPoolExecutor(workers) as pool:
        wrong = [found for found in pool.map(one, seeds) if found is not None]
    if wrong:
        raise wrong[0]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a loop.jsonl. DataError for what is none; a last line that is being written is left for later."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as wrong:
        raise DataError(f"{path} cannot be read ({wrong}).", fix="give the folder of a loop, with a loop.jsonl in it") from wrong
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            found = parsed(line)
            checked: dict[str, Any] = {"chain": int(found["chain"]), "generation": int(found["generation"])}
            checked["indicators"] = {str(k): float(v) for k, v in found["indicators"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            what = '{"chain": 0, "generation": 1, "indicators": {"variance": 1.0}}'
            raise DataError(f"{path}, line {number}: no line of a loop.", fix=f"write lines like {what}") from None
        yield {**found, **checked}


def read_asked(folder: Path) -> dict[str, Any]:
    """What a run folder says was looped (run.json); of loops of one's own, without a ground. StoreError where it is damaged."""
    asked = read_json(folder / ASKED)
    ground, loop, seeds = (asked.get(key) for key in ("ground", "loop", "seeds"))
    of_ground = ground is None or isinstance(ground, dict) and isinstance(ground.get("name"), str) and isinstance(ground.get("settings"), dict)
    of_seeds = isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds)
    if not (of_ground and of_seeds and isinstance(loop, dict) and isinstance(loop.get("generations"), int)):
        raise StoreError(f"{folder / ASKED} is damaged.", fix="bring it back from a copy, or run the loops again in another folder")
    return asked


@contextmanager
def _opened(folder: Path | None, ground: Ground, loop: Loop, seeds: list[int], exact: bool) -> Iterator[Path | None]:
    if folder is None:
        yield None
        return
    asked = {"ground": ground_asked(ground), "loop": plain(loop), "exact": exact}
    same = {**asked, "loop": {k: v for k, v in asked["loop"].items() if k != "generations"}}
    with writing(folder), locked(folder / ".lock"):
        if (folder / ASKED).exists():
            there = read_asked(folder)
            old = {"ground": there.get("ground"), "loop": {k: v for k, v in there["loop"].items() if k != "generations"}, "exact": there.get("exact")}
            if old != same:
                raise SettingError(f"{folder} holds another loop.", fix="give the same settings as before, or another --out")
            if loop.generations < (before := there["loop"]["generations"]):
                raise SettingError(f"{folder} has loops of {before} generations.", fix=f"ask for {before} or more, or give another --out")
            if missing := sorted(set(there["seeds"]) - set(seeds)):
                raise SettingError(f"{folder} has the chain {missing[0]}, which is not asked for.", fix=f"ask for all of its {len(there['seeds'])} chains")
        write_json(folder / ASKED, {**asked, "seeds": seeds})
        write_text(folder / LINES, "".join(json.dumps(line) + "\n" for seed in seeds for line in _kept(folder, seed)))
        yield folder / LINES


def _kept(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Lines of a chain that lies there; those that were told before where its own record is damaged."""
    own = folder / f"chain-{seed:03d}" / STATE
    try:
        return list(read_json(own)["lines"]) if own.exists() else []
    except (StoreError, KeyError, TypeError):
        return [line for line in read_lines(folder / LINES) if line["chain"] == seed] if (folder / LINES).exists() else []


def _serve(folder: Path, seed: int) -> None:
    """The worker: one chain of what lies in a folder."""
    from mitate.loops.grounds import ground_of

    die_with_parent()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not look like an answer

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(PREFIX + json.dumps(answer) + "\n")
        answers.flush()

    try:
        asked = read_asked(folder)
        ground = ground_of(asked["ground"]["name"], asked["ground"]["settings"])
        loop = record(Loop, asked["loop"], where=str(folder / ASKED))
        say({"blocked": _run(ground, loop, seed=seed, exact=asked["exact"], folder=folder, tell=lambda line: say({"line": line}))})
    except MitateError as wrong:
        say({"error": type(wrong).__name__, "message": wrong.message, "fix": wrong.fix})
    except OSError as wrong:
        say({"error": "StoreError", "message": f"{folder} cannot be used ({wrong.strerror}).", "fix": "make room there, or give another --out"})


if __name__ == "__main__":
    try:
        _serve(Path(sys.argv[1]), int(sys.argv[2]))
    except KeyboardInterrupt:
        pass
