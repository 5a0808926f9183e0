"""An alarm for a run folder: loops that do not recurse under the same settings calibrate it, and the run's lines are read as they appear."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mitate.errors import DataError, SettingError
from mitate.loops.alarm import Monitor, Run, State
from mitate.loops.loop import ASKED, LINES, Ground, Loop, collapse, read_json, read_lines
from mitate.loops.toy import EXACT, Toy
from mitate.progress import Progress
from mitate.settings import record, suggest
from mitate.store import write_json, writing

GROUNDS: dict[str, type[Toy]] = {"toy": Toy}
ALARM = "alarm.json"
LEAST_NULL = 199  # null runs where they are cheap; more for small rates
NULL_SEED = 1_000_000  # chains of null runs have other numbers than those of a run


@dataclass(frozen=True)
class Told:
    """What the alarm says of a generation of a chain."""

    chain: int
    state: State


def ground_of(name: str, settings: Mapping[str, Any]) -> Ground:
    """A ground by name and settings."""
    if name not in GROUNDS:
        raise SettingError(f"There is no ground {name!r} for loops.", fix=suggest(name, GROUNDS))
    return record(GROUNDS[name], settings, where=name)


def null_runs(ground: Ground, loop: Loop, *, runs: int, progress: Progress | None = None) -> list[Run]:
    """Indicators of loops that do not recurse: each generation trained from scratch on new real pairs, everything else as in `loop`."""
    null = replace(loop, policy="real")
    found = collapse(ground, null, seeds=range(NULL_SEED, NULL_SEED + runs), exact=False, progress=progress)
    whole = [run for run in found.chains.values() if len(run) == loop.generations]
    if len(whole) < runs:
        raise DataError(f"{runs - len(whole)} of {runs} null runs broke off ({next(iter(found.blocked.values()))}).", fix="mend that first")
    return list(whole)


def runs_of(folder: Path) -> list[Run]:
    """The whole runs in a folder, without what only a known truth can tell."""
    chains: dict[int, list[dict[str, float]]] = {}
    for line in read_lines(folder / LINES):
        chains.setdefault(line["chain"], []).append({k: v for k, v in line["indicators"].items() if k not in EXACT})
    longest = max((len(c) for c in chains.values()), default=0)
    return [chain for chain in chains.values() if len(chain) == longest]


def monitor_of(
    folder: str | Path, *, rate: float = 0.05, null: str | Path | None = None, lows: Mapping[str, float] | None = None, progress: Progress | None = None
) -> Monitor:  # fmt: skip
    """The alarm for a run, from null runs in the folder `null`, or from new ones where the run is one of ours. It is kept in the run's folder."""
    folder = Path(folder)
    asked = read_json(folder / ASKED) if (folder / ASKED).exists() else None
    key = {"rate": rate, "null": str(null) if null is not None else None, "lows": dict(lows or {}), "run": asked}
    if null is None and (folder / ALARM).exists() and (kept := read_json(folder / ALARM)).get("asked") == key:
        return Monitor.of(kept["monitor"])
    if null is not None:
        monitor = Monitor.calibrated(runs_of(Path(null)), rate=rate, lows=lows)
    elif asked is None:
        raise DataError(f"{folder} does not say what was looped.", fix="give --null, a folder with the loop.jsonl of loops that do not recurse")
    else:
        if not 0 < rate < 1:
            raise SettingError(f"A rate of {rate:g} a run cannot be.", fix="give one between 0 and 1, like 0.05")
        loop = record(Loop, asked["loop"], where=str(folder / ASKED))
        ground = ground_of(asked["ground"]["name"], asked["ground"]["settings"])
        runs = max(LEAST_NULL, math.ceil(10 / rate) - 1)
        monitor = Monitor.calibrated(null_runs(ground, loop, runs=runs, progress=progress), rate=rate, lows=lows)
    if null is None:
        with writing(folder):
            write_json(folder / ALARM, {"asked": key, "monitor": monitor.record})
    return monitor


def states(folder: str | Path, monitor: Monitor, *, follow: bool = False, every: float = 1.0, wait: Callable[[float], None] = time.sleep) -> Iterator[Told]:
    """What the alarm says of each line of a run, in the order in which they were written. follow: wait for more until every chain is whole."""
    folder = Path(folder)
    own: dict[int, Monitor] = {}
    while True:
        for line in read_lines(folder / LINES) if (folder / LINES).exists() or not follow else ():
            chain = own.setdefault(line["chain"], monitor.fresh())
            if line["generation"] <= len(chain.states):  # told before
                continue
            if line["generation"] != len(chain.states) + 1:
                told = f"{folder / LINES} has generation {line['generation']} of chain {line['chain']} after {len(chain.states)}."
                raise DataError(told, fix="write the generations of a chain in order, from 1")
            yield Told(line["chain"], chain.update(line["indicators"]))
        if not follow or _whole(folder, own):
            return
        wait(every)


def _whole(folder: Path, own: Mapping[int, Monitor]) -> bool:
    if not (folder / ASKED).exists():
        return False
    asked = read_json(folder / ASKED)
    return all(seed in own and len(own[seed].states) >= asked["loop"]["generations"] for seed in asked["seeds"])
