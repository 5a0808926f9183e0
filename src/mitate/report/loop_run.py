"""What a run folder of loops says: what was asked, chains, what the alarm says of each generation, and the pairs that were made."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, SettingError, StoreError
from mitate.loops.advice import Arm, Price, Run, price_of
from mitate.loops.agents import REAL
from mitate.loops.alarm import Monitor, State
from mitate.loops.chain import STATE, read_json, read_state
from mitate.loops.chains import ASKED, BLOCKED, LINES, read_lines
from mitate.loops.loop import Loop
from mitate.loops.watch import ALARM
from mitate.settings import plain, record


@dataclass(frozen=True)
class Pairs:
    """Pairs of a generation of a chain; generation 0 are the real ones that generation 1 learnt from. images: [n, ...]; captions: [n].

    painted: which images an agent made, bool [n]; the others are of the fixed pool of real ones.
    """

    generation: int
    images: np.ndarray
    captions: np.ndarray
    painted: np.ndarray


def is_loop(folder: Path) -> bool:
    """Whether a folder holds loops and no study."""
    return (folder / LINES).is_file() and not (folder / "study.json").is_file()


class LoopRun:
    """A run folder that `mitate collapse --out` wrote. DataError where it is none or has no generation yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not is_loop(folder):
            raise DataError(f"{folder} holds no loops.", fix="give a folder that `mitate collapse --out` wrote")
        if not (folder / ASKED).is_file():
            raise DataError(f"{folder} does not say what was looped.", fix="give a folder with a run.json, which `mitate collapse --out` wrote")
        asked = read_json(folder / ASKED)
        try:
            self.ground: dict[str, Any] = {"name": str(asked["ground"]["name"]), "settings": dict(asked["ground"]["settings"])}
            self.loop = record(Loop, asked["loop"], where=str(folder / ASKED))
            self.seeds = [int(seed) for seed in asked["seeds"]]
        except (KeyError, TypeError, ValueError, SettingError) as wrong:
            raise DataError(f"{folder / ASKED} does not say what was looped ({wrong}).", fix="give a folder that `mitate collapse --out` wrote") from None
        self.asked = asked
        self.lines: list[dict[str, Any]] = list(read_lines(folder / LINES))
        if not self.lines:
            raise DataError(f"{folder} has no generation yet.", fix="wait for the first line of loop.jsonl, or give the command of the run again")
        self.price: Price = price_of(self.lines, self.loop.policy)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    # chains -----------------------------------------------------------------------------------------------------------

    @cached_property
    def chains(self) -> dict[int, list[dict[str, float]]]:
        """Indicators by chain, one mapping a generation."""
        found: dict[int, list[dict[str, float]]] = {}
        for line in self.lines:
            own = found.setdefault(line["chain"], [])
            if line["generation"] != len(own) + 1:
                told = f"{self.folder / LINES} has generation {line['generation']} of chain {line['chain']} after {len(own)}."
                raise DataError(told, fix="give a folder that `mitate collapse --out` wrote")
            if wrong := [name for name, value in line["indicators"].items() if not math.isfinite(value)]:
                told = f"{', '.join(wrong)} of generation {line['generation']} of chain {line['chain']} are no numbers."
                raise DataError(told, fix="give a folder that `mitate collapse --out` wrote")
            own.append(line["indicators"])
        return found

    @cached_property
    def last(self) -> int:
        """The last generation that is told of: the furthest that a chain came."""
        return max(len(run) for run in self.chains.values())

    @cached_property
    def whole(self) -> dict[int, Run]:
        """Chains that came to the last generation."""
        return {seed: run for seed, run in self.chains.items() if len(run) == self.last}

    @cached_property
    def broken(self) -> dict[int, int]:
        """Chains that were asked for and did not come to the last generation, with the last one that they have."""
        return {seed: len(self.chains.get(seed, ())) for seed in self.seeds if seed not in self.whole}

    @cached_property
    def blocked(self) -> dict[int, str]:
        """Why chains could not go on, as far as it is known."""
        found = read_json(self.folder / BLOCKED) if (self.folder / BLOCKED).is_file() else {}
        return {seed: str(found[str(seed)]) for seed in self.broken if str(seed) in found}

    @cached_property
    def indicators(self) -> list[str]:
        """Those that every generation of the whole chains has, in the order of the first."""
        names = next(iter(self.whole.values()))[0]
        return [name for name in names if all(name in g for run in self.whole.values() for g in run)]

    def table(self, indicator: str) -> np.ndarray:
        """An indicator of the whole chains, float64 [chains, generations]."""
        return np.array([[g[indicator] for g in run] for run in self.whole.values()], dtype=np.float64)

    def arm(self, name: str) -> Arm:
        return Arm(name, self.loop.policy, self.chains, self.price)

    def differs(self, other: LoopRun) -> dict[str, Any]:
        """Settings that another run has otherwise, as this one has them; those of a side by `images.search` and the like."""
        own, theirs = flat(plain(self.loop)), flat(plain(other.loop))
        return {key: value for key, value in own.items() if key != "generations" and theirs.get(key) != value}

    # the alarm --------------------------------------------------------------------------------------------------------

    @cached_property
    def alarm(self) -> Monitor | None:
        """The alarm that `mitate monitor` kept for this loop; None where it kept none, or that of another loop."""
        if not (self.folder / ALARM).is_file():
            return None
        kept = read_json(self.folder / ALARM)
        try:
            made_for = kept["asked"]["run"]
            same = all(_asked(made_for)[key] == _asked(self.asked)[key] for key in ("ground", "loop"))
            return Monitor.of(kept["monitor"]) if same else None
        except (KeyError, TypeError, SettingError):
            raise StoreError(f"{self.folder / ALARM} is damaged.", fix=f"delete it, and give mitate monitor {self.folder} again") from None

    @cached_property
    def states(self) -> dict[int, list[State]]:
        """What the alarm says of each generation of each chain; empty without an alarm."""
        if self.alarm is None:
            return {}
        found: dict[int, list[State]] = {}
        for seed, run in self.chains.items():
            own = self.alarm.fresh()
            found[seed] = [own.update(indicators) for indicators in run]
        return found

    # pairs ------------------------------------------------------------------------------------------------------------

    def pairs(self, seed: int) -> list[Pairs]:
        """Pairs of a chain by generation, the real ones first; empty where they do not lie in the folder. StoreError where they are damaged."""
        folder = self.folder / f"chain-{seed:03d}"
        if not (folder / STATE).is_file():
            return []
        found = []
        for t, one in enumerate(read_state(folder)["files"][: len(self.chains[seed]) + 1]):
            path = folder / f"generation-{t:03d}.npz"
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    images, captions, origin = (arrays[name] for name in ("images", "captions", "origin"))
                painted, real = (np.array(flags, dtype=bool)[origin] for flags in zip(*map(_flags, one["origins"]), strict=True))
            except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as wrong:
                raise StoreError(f"{path} is missing or damaged ({type(wrong).__name__}).", fix="give the command of the run again") from None
            rows = np.flatnonzero(real if t == 0 else ~real)
            found.append(Pairs(t, images[rows], captions[rows], painted[rows]))
        return found


def same_question(runs: Sequence[LoopRun]) -> None:
    """SettingError where runs cannot be compared: another ground, or another n, on which indicators depend."""
    first = runs[0]
    for other in runs[1:]:
        if other.folder.resolve() == first.folder.resolve():
            raise SettingError(f"{other.folder} is compared with itself.", fix="give another folder beside it")
        if other.ground != first.ground:
            raise SettingError(f"{other.folder} is a loop of another ground than {first.folder}.", fix="compare loops of one ground with the same settings")
        if other.loop.n != first.loop.n:
            told = f"{other.folder} has n={other.loop.n}, {first.folder} n={first.loop.n}."
            raise SettingError(told, fix="compare loops of one n: most indicators depend on it")


def flat(values: Mapping[str, Any], *, before: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, before=f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def _flags(origin: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether an agent made the image, and whether the pair is real on both sides."""
    return origin["image_by"] != REAL, origin["image_by"] == REAL and origin["caption_by"] == REAL


def _asked(run: Mapping[str, Any]) -> dict[str, Any]:
    """Ground and loop without the number of generations, which an alarm tells itself when it is passed."""
    return {"ground": run["ground"], "loop": {k: v for k, v in run["loop"].items() if k != "generations"}}
