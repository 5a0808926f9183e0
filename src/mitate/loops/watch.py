"""An alarm for a run folder: loops that do not recurse under the same settings calibrate it, and the run's lines are read as they appear.

Null runs of the toy pair take seconds. Of any other ground they take as long as so many chains of the run itself: they are as few as the rate allows (19 for
5 %), lie in the run's folder, and go on there after a kill.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mitate.errors import DataError, SettingError
from mitate.files import write_json, writing
from mitate.loops.alarm import Monitor, Run, State
from mitate.loops.chain import read_json
from mitate.loops.chains import ASKED, BLOCKED, LINES, collapse, read_asked, read_lines
from mitate.loops.grounds import CHEAP, TOY, exact_of, ground_of
from mitate.loops.loop import Ground, Loop
from mitate.progress import Progress
from mitate.settings import record, suggest

ALARM, NULL = "alarm.json", "null"
LEAST_NULL = 199  # null runs where they are cheap; more for small rates
NULL_SEED = 1_000_000  # chains of null runs have other numbers than those of a run


@dataclass(frozen=True)
class Told:
    """What the alarm says of a generation of a chain."""

    chain: int
    state: State


def null_runs(ground: Ground, loop: Loop, *, runs: int, out: Path | None = None, progress: Progress | None = None) -> list[Run]:
    """Indicators of loops that do not recurse: each generation trained from scratch on new real pairs, everything else as in `loop`. out: where they are kept,
    so that the same call goes on from there.
    """
    null = replace(loop, policy="real")
    found = collapse(ground, null, seeds=range(NULL_SEED, NULL_SEED + runs), out=out, exact=False, progress=progress)
    whole = [run for run in found.chains.values() if len(run) == loop.generations]
    if len(whole) < runs:
        raise DataError(
            f"{runs - len(whole)} of {runs} null runs broke off ({next(iter(found.blocked.values()))}).",
            fix="give a larger n or a milder keep rule, so that every null run comes to its end",
        )
    return list(whole)


def null_count(ground: str, rate: float) -> int:
    """How many null runs calibrate an alarm of this rate: the least that can, ten times as many and 199 at least where they are cheap."""
    if not 0 < rate < 1:
        raise SettingError(f"A rate of {rate:g} a run cannot be.", fix="give one between 0 and 1, like 0.05")
    return max(LEAST_NULL, math.ceil(10 / rate) - 1) if ground in CHEAP else max(1, math.ceil(1 / rate) - 1)


def runs_of(folder: Path) -> list[Run]:
    """The whole runs in a folder, without what only a known truth can tell."""
    asked = read_asked(folder) if (folder / ASKED).exists() else {}
    exact = exact_of((asked.get("ground") or {}).get("name", TOY))
    chains: dict[int, list[dict[str, float]]] = {}
    for line in read_lines(folder / LINES):
        chains.setdefault(line["chain"], []).append({k: v for k, v in line["indicators"].items() if k not in exact})
    longest = max((len(c) for c in chains.values()), default=0)
    return [chain for chain in chains.values() if len(chain) == longest]


def monitor_of(
    folder: str | Path, *, rate: float = 0.05, null: str | Path | None = None, lows: Mapping[str, float] | None = None, progress: Progress | None = None
) -> Monitor:  # fmt: skip
    """The alarm for a run, from null runs in the folder `null`, or from new ones where the run is one of ours. It is kept in the run's folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", fix="give the folder of a loop, with a loop.jsonl in it")
    _check_lows(folder, lows or {})
    asked = read_asked(folder) if (folder / ASKED).exists() else None
    key = {"rate": rate, "null": str(null) if null is not None else None, "lows": dict(lows or {}), "run": asked}
    if null is None and (folder / ALARM).exists() and (kept := read_json(folder / ALARM)).get("asked") == key:
        return Monitor.of(kept.get("monitor", {}))
    if null is not None:
        _check_null(Path(null), asked)
        monitor = Monitor.calibrated(runs_of(Path(null)), rate=rate, lows=lows)
    elif asked is None or asked.get("ground") is None:
        raise DataError(f"{folder} does not say what was looped.", fix="give --null, a folder with the loop.jsonl of loops that do not recurse")
    else:
        name = asked["ground"]["name"]
        runs = null_count(name, rate)
        loop = record(Loop, asked["loop"], where=str(folder / ASKED))
        ground = ground_of(name, asked["ground"]["settings"])
        found = null_runs(ground, loop, runs=runs, out=None if name in CHEAP else folder / NULL, progress=progress)
        monitor = Monitor.calibrated(found, rate=rate, lows=lows)
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
    asked = read_asked(folder)
    blocked = read_json(folder / BLOCKED) if (folder / BLOCKED).exists() else {}
    return all(str(seed) in blocked or (seed in own and len(own[seed].states) >= asked["loop"]["generations"]) for seed in asked["seeds"])


def _check_lows(folder: Path, lows: Mapping[str, float]) -> None:
    """SettingError for a limit of an indicator that the run does not have."""
    line = next(iter(read_lines(folder / LINES)), None) if lows and (folder / LINES).exists() else None
    if line is not None and (unknown := [name for name in lows if name not in line["indicators"]]):
        raise SettingError(f"The run has no indicator {unknown[0]!r}.", fix=suggest(unknown[0], tuple(line["indicators"])))


def _check_null(null: Path, asked: Mapping[str, Any] | None) -> None:
    """SettingError where what is given as null says of itself that it is none: it recurses, or it is of another loop than the run."""
    if not (null / ASKED).exists():
        return
    told = read_asked(null)
    if told["loop"].get("policy") != "real":
        raise SettingError(f"{null} holds loops that recurse (policy {told['loop'].get('policy')}).", fix="give loops of --policy real")
    same = [{k: v for k, v in one["loop"].items() if k not in ("policy", "generations")} for one in (told, asked or told)]
    if asked is not None and (told.get("ground") != asked.get("ground") or same[0] != same[1]):
        raise SettingError(f"{null} holds loops of another ground, n or dials than the run.", fix="give the same command with --policy real")
