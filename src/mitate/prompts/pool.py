"""The loop that collects prompts: ask, judge, keep what is new, until there are n. What is kept is on the disk at once; the same command goes on from there.

found = write_prompts("counting", 1000, out="prompts/counting.jsonl", seed=0)
found.texts, found.manifest["drops"]

    prompts/counting.jsonl             one line a prompt: text, skill, from, round
    prompts/counting.manifest.json     what was asked, how many were dropped for what reason, digest of the texts, versions

The loop is that of SELMA (Li et al. 2024, arXiv 2403.06952): examples drawn from seeds and everything kept, ROUGE-L against all of it. A round's examples
follow from seed, round and what earlier rounds kept, so a killed run of a seeded source ends with the same bytes as one that was not; a round that was cut
short is asked again, and its lines are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from mitate.errors import DataError, JobError, SettingError
from mitate.files import locked, write_json, writing
from mitate.progress import Progress, Silent
from mitate.prompts.asking import Ask, Source
from mitate.prompts.rouge import Alike
from mitate.prompts.skills import SkillSpec, read_skill
from mitate.prompts.sources import open_source
from mitate.prompts.wording import blocked as finders
from mitate.prompts.wording import folded, judged
from mitate.runtime import seed_of
from mitate.settings import digest, parsed, plain, suggest

SAME, ALIKE = "seen before", "alike"
DRAWN = ("all", "seeds")
TOLD = {"skill": "skill", "source": "source", "how": "settings", "seed": "seed", "blocked": "list of blocked words"}


@dataclass(frozen=True)
class How:
    """examples: shown in a round; drawn: examples from `all` (seeds and what was kept) or the `seeds` alone; number: prompts asked for in a round;
    alike: ROUGE-L F1 above which a prompt is one that is there (0: as the source has it)."""

    examples: int = 3
    drawn: str = "all"
    number: int = 20
    alike: float = 0.0

    def __post_init__(self) -> None:
        if self.drawn not in DRAWN:
            raise SettingError(f"Examples cannot be drawn from {self.drawn!r}.", fix=suggest(self.drawn, DRAWN))
        if not (0 <= self.examples <= 50 and 1 <= self.number <= 200 and 0 <= self.alike <= 1):
            told = f"{self.examples} examples, {self.number} prompts a round, alike above {self.alike:g}."
            raise SettingError(told, fix="give 0 to 50 examples, 1 to 200 prompts a round, and a share from 0 to 1")


@dataclass(frozen=True)
class Prompts:
    """What was written: texts in the order of the file, and the manifest as it stands beside it."""

    texts: tuple[str, ...]
    file: Path
    manifest: dict[str, Any]


def write_prompts(
    skill: str | Path | SkillSpec, n: int, *, out: str | Path, source: str | Source = "grammar", seed: int = 0, how: How | None = None,
    blocked: Sequence[str] = (), patience: int = 10, most_rounds: int = 0, progress: Progress | None = None,
) -> Prompts:  # fmt: skip
    """n prompts of a skill in the file `out` (.jsonl), from a source; found there if it is finished, gone on with if not, also to a larger n.

    skill: a name or a TOML file; source: `grammar`, `openai:MODEL@URL`, `transformers:DIR`, or a `Source`. blocked: words that no prompt may hold. JobError
    after `patience` rounds in a row that brought nothing new, or `most_rounds` in all (0: no limit); what was written is kept.
    """
    spec = skill if isinstance(skill, SkillSpec) else read_skill(skill)
    source, how, told = open_source(source) if isinstance(source, str) else source, how or How(), progress or Silent()
    out = Path(out)
    if n < 1 or patience < 1 or most_rounds < 0:
        raise SettingError(f"{n} prompts, patience of {patience} rounds, {most_rounds} at most.", fix="give 1 or more (0 rounds at most: no limit)")
    if out.suffix != ".jsonl" or out.is_dir():
        raise SettingError(f"{out} cannot hold prompts.", fix="name a file like prompts/counting.jsonl")
    words = finders(blocked)
    asked = {
        "skill": plain(spec), "source": dict(source.asked), "how": plain(how), "seed": seed,
        "blocked": {"n": len(blocked), "digest": digest("mitate.blocked", sorted({folded(word) for word in blocked}))},
    }  # fmt: skip
    if not out.exists():
        source.check(spec, n)  # before anything is written
    with writing(out), locked(out.with_name(f".{out.name}.lock")):
        pool = _Pool(out, asked, source, spec, how, words)
        pool.check_size(n)
        if pool.found.get("finished") and len(pool.lines) == n:
            return Prompts(tuple(line["text"] for line in pool.lines), out, pool.found)
        source.check(spec, n)
        idle = 0
        told.step(len(pool.lines), n)
        with open(out, "a", encoding="utf-8", newline="\n") as file:
            while len(pool.lines) < n:
                if most_rounds and pool.rounds >= most_rounds:
                    raise pool.stopped(n, f"{pool.rounds} rounds were asked for at most", "allow more rounds")
                before = len(pool.lines)
                pool.round(source, file, n, seed, told)
                idle = 0 if len(pool.lines) > before else idle + 1
                if idle >= patience and len(pool.lines) < n:
                    more = "" if pool.alike.share >= 1 else ", or --alike nearer to 1"
                    raise pool.stopped(n, f"{idle} rounds in a row brought nothing new", f"ask for fewer, or for more variety: another skill or source{more}")
        return Prompts(tuple(line["text"] for line in pool.lines), out, pool.write(n, finished=True))


def read_prompts(path: str | Path, *, what: str = "prompts") -> list[str]:
    """The prompts of a file, in order: .jsonl with a "text" a line, or any other text file of one a line. DataError, which says `what` was sought, where there
    are none."""
    path = Path(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, ValueError) as wrong:
        raise DataError(f"{path} cannot be read as {what} ({wrong}).", fix="give a text file in UTF-8, one a line, or .jsonl of mitate prompts") from wrong
    if path.suffix.lower() == ".jsonl":
        lines = [_text_of(line, path, i) for i, line in enumerate(lines, 1)]
    if not lines:
        raise DataError(f"{path} holds no {what}.", fix="write one a line")
    return lines


def told_drops(drops: Mapping[str, int]) -> str:
    """`340 alike, 12 too long`, the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(drops.items(), key=lambda item: (-item[1], item[0])))


@dataclass
class _Tally:
    """What rounds brought: how many there were, what was dropped, what it cost."""

    rounds: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)

    def plain(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "drops": dict(sorted(self.drops.items())), "used": dict(sorted(self.used.items()))}

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(self.rounds + other.rounds, self.drops + other.drops, self.used + other.used)


class _Pool:
    """What is kept so far, in memory and in the file, and the rounds it came from: whole ones, and one that n or a kill cut short."""

    def __init__(self, out: Path, asked: dict[str, Any], source: Source, spec: SkillSpec, how: How, words: Sequence[Any]) -> None:
        self.out, self.asked, self.spec, self.how, self.words = out, asked, spec, how, words
        self.name = source.name
        self.manifest_file = out.with_suffix(".manifest.json")
        self.lines: list[dict[str, Any]] = []
        self.whole, self.cut = _Tally(), _Tally()
        self.kept = 0  # lines of whole rounds
        self.alike = Alike(how.alike or source.share_alike)
        self.seen: set[str] = set()
        self.found: dict[str, Any] = {}  # the manifest of an earlier run
        if self.manifest_file.exists() or out.exists():
            self._take_up()
        else:
            self.write(0, finished=False)
        for text in (*spec.seeds, *(line["text"] for line in self.lines)):
            self._remember(text)

    @property
    def rounds(self) -> int:
        return self.whole.rounds

    def check_size(self, n: int) -> None:
        if len(self.lines) > n:
            there = len(self.lines)
            raise SettingError(f"{self.out} holds {there} prompts, and {n} are asked for.", fix=f"give --n {there} or more, or another --out")

    def round(self, source: Source, file: IO[str], n: int, seed: int, told: Progress) -> None:
        """Ask once, and keep what is new. A round that ends before its last prompt was looked at is no whole one."""
        number = self.rounds + 1
        there = {line["text"] for line in self.lines[self.kept :]}  # of this round, from before the run was killed
        try:
            answer = source.ask(Ask(self.spec, self._examples(number, seed), self.how.number, number, seed))
        except OSError as wrong:  # of a source from elsewhere: not the disk of our file
            raise JobError(f"{self.name} failed ({wrong}).", fix="mend it, and give the same command again; what was written is kept") from wrong
        found = _Tally(1, Counter(answer.drops), Counter(answer.used))
        for text in answer.texts:
            if len(self.lines) == n:
                self.cut = _Tally(0, found.drops, found.used)
                return
            clean, reason = self._judged(text)
            if clean in there:
                there.discard(clean)
            elif reason:
                found.drops[reason] += 1
            else:
                line = {"text": clean, "skill": self.spec.name, "from": self.name, "round": number}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                self.lines.append(line)
                self._remember(clean)
                told.step(len(self.lines), n, f"{sum((self.whole + found).drops.values())} dropped")
        self.whole, self.kept = self.whole + found, len(self.lines)
        os.fsync(file.fileno())  # before the manifest says that they are there
        self.write(n, finished=False)

    def write(self, n: int, *, finished: bool) -> dict[str, Any]:
        """The manifest, written."""
        total = self.whole + self.cut
        manifest = {
            "asked": self.asked, "digest": digest("mitate.prompts", self.asked), "from": self.name, "n": n, "finished": finished,
            "prompts": len(self.lines), **total.plain(), "accepted": _digest(self.lines), "versions": _versions(self.asked["source"]["kind"]),
            "whole_rounds": {"prompts": self.kept, **self.whole.plain(), "accepted": _digest(self.lines[: self.kept])},
        }  # fmt: skip
        write_json(self.manifest_file, manifest)
        return manifest

    def stopped(self, n: int, why: str, fix: str) -> JobError:
        drops = told_drops((self.whole + self.cut).drops)
        return JobError(f"{why}: {len(self.lines)} of {n} prompts are there" + (f"; dropped {drops}." if drops else "."), fix=fix)

    def _judged(self, text: str) -> tuple[str, str]:
        found = judged(text, most=self.spec.max_words, blocked=self.words)
        if found.reason:
            return found.text, found.reason
        if folded(found.text) in self.seen:
            return found.text, SAME
        return found.text, "" if self.alike.nearest(found.text) is None else ALIKE

    def _remember(self, text: str) -> None:
        self.seen.add(folded(text))
        self.alike.add(text)

    def _examples(self, number: int, seed: int) -> tuple[str, ...]:
        """Drawn alike from seeds and what whole rounds kept, or from seeds alone."""
        texts = [*self.spec.seeds, *(line["text"] for line in self.lines[: self.kept] if self.how.drawn == "all")]
        chance = np.random.default_rng(seed_of("prompts examples", self.spec.name, seed, number))
        return tuple(texts[i] for i in chance.permutation(len(texts))[: self.how.examples])

    def _take_up(self) -> None:
        """What an earlier run left. DataError where it is not of the same question, or was changed since."""
        another = "give another --out, or delete it and its manifest to begin anew"
        if not self.manifest_file.exists():
            raise DataError(f"{self.out} is there, and has no manifest beside it.", fix=another)
        try:
            found = parsed(self.manifest_file.read_text(encoding="utf-8"))
            asked, whole = found["asked"], found["whole_rounds"]
            kept, accepted = int(whole["prompts"]), str(whole["accepted"])
            self.whole = _Tally(int(whole["rounds"]), Counter(whole["drops"]), Counter(whole["used"]))
            differ = [key for key in TOLD if asked[key] != self.asked[key]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as wrong:
            raise DataError(f"{self.manifest_file} cannot be read.", fix=another) from wrong
        self.lines = _lines_of(self.out, another)
        if differ and not self.lines:  # nothing came of it, as where an address was mistyped
            self.whole = _Tally()
            self.write(0, finished=False)
            return
        if differ:
            told = f" ({asked['seed']} there, {self.asked['seed']} here)" if differ[0] == "seed" else ""
            raise SettingError(f"{self.out} holds prompts of another question: the {TOLD[differ[0]]} differs{told}.", fix="give another --out")
        self.found = found
        self.kept = kept
        whole_ones = self.lines[:kept]
        changed = len(whole_ones) < kept or _digest(whole_ones) != accepted or any(line["round"] != self.rounds + 1 for line in self.lines[kept:])
        if changed or (found.get("finished") and found.get("accepted") != _digest(self.lines)):
            raise DataError(f"{self.out} was changed since it was written.", fix=another)


def _lines_of(path: Path, fix: str) -> list[dict[str, Any]]:
    """The lines of the file; one that a kill tore is taken off it."""
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with open(path, "r+b") as file:
            file.truncate(whole)
    found = []
    for i, line in enumerate(data[:whole].splitlines(), 1):
        try:
            one = parsed(line.decode())
            if not (isinstance(one["text"], str) and isinstance(one["round"], int)):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError) as wrong:
            raise DataError(f"{path} has no prompt in line {i}.", fix=fix) from wrong
        found.append(one)
    return found


def _text_of(line: str, path: Path, i: int) -> str:
    try:
        found = parsed(line)
    except (ValueError, RecursionError):
        found = None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{path} has no prompt in line {i}.", fix='write {"text": "two red cups"}, a line each, or give a .txt file')
    return text.strip()


def _digest(lines: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the texts, a line each."""
    return hashlib.sha256("".join(f"{line['text']}\n" for line in lines).encode()).hexdigest()


def _versions(kind: str) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("mitate", "numpy", *(("torch", "transformers") if kind == "transformers" else ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
