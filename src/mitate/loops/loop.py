"""The loop: agents make pairs, learn from them, and make the next. One chain is one replicate; a chain that breaks stops alone.

    images     self-consuming image model: images of a fixed pool of real captions
    captions   self-consuming captioner: captions of a fixed pool of real images
    both       M captioners and N generators: prompts are captions of what was last learnt from, images are made of them and described

Generation 1 has learnt from real pairs. In each generation agents are trained on what the policy keeps, then make pairs, which the indicators are read from.
`relabel="frozen"` lets a captioner that was fitted once on the real pairs write the captions; `frozen-images` lets such a generator paint the images.

found = collapse(Toy(), Loop(policy="replace"), seeds=5, out="runs/loop")        runs/loop/loop.jsonl: one line a generation of a chain

What a chain is after a generation lies in its folder (JSON and .npz without objects), so the same command goes on after a kill and ends with the same bytes,
and `roll_back` takes a chain back to a generation.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mitate.errors import DataError, JobError, SettingError, StoreError
from mitate.loops.agents import (
    REAL,
    Captioner,
    Decode,
    Generator,
    Origin,
    Samples,
    Score,
    Seat,
    described,
    generated,
    joined,
    plain_origins,
    read_origins,
)  # fmt: skip
from mitate.loops.chance import chosen, seeds_of, uniforms
from mitate.loops.policies import STARTS, Policy, policy_of
from mitate.metrics.intervals import quantile_t
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of
from mitate.settings import digest, plain, suggest
from mitate.store import file_digest, locked, write_json, write_text, writing

SETTINGS = ("images", "captions", "both")
RELABELS = ("none", "frozen", "frozen-images")
LINES, ASKED, STATE = "loop.jsonl", "run.json", "state.json"


class Ground(Protocol):
    """What a loop stands on: where real pairs come from, new agents, and how a generation is judged."""

    name: str

    def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """n real pairs, as if newly collected."""
        ...

    def generator(self, index: int) -> Generator: ...

    def captioner(self, index: int) -> Captioner: ...

    def written(self, images: np.ndarray) -> np.ndarray:
        """Captions that a person would write."""
        ...

    @property
    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """Real pairs for measuring, which no agent may learn from."""
        ...

    def indicators(
        self, made: Samples, first: Samples, generators: list[Seat[Generator]], captioners: list[Seat[Captioner]], *, exact: bool = True
    ) -> dict[str, float]:  # fmt: skip
        """Indicators of a generation's pairs. first: those of generation 1."""
        ...


@dataclass(frozen=True)
class Loop:
    """What is looped. n: pairs that a generator or captioner learns from and makes in a generation. frozen_*: agents of a side that learn from the real pairs
    alone. keep: confidence of the frozen captioner below which a caption goes to a person, who writes `human` captions a generation; the rest is dropped.
    """

    setting: str = "both"
    policy: str = "replace"
    captioners: int = 1
    generators: int = 1
    frozen_captioners: int = 0
    frozen_generators: int = 0
    start: str = "continue"
    relabel: str = "none"
    keep: float = 0.0
    human: int = 0
    images: Decode = field(default_factory=Decode)
    captions: Decode = field(default_factory=Decode)
    n: int = 200
    generations: int = 6

    def __post_init__(self) -> None:
        policy_of(self.policy)
        for value, known, what in ((self.setting, SETTINGS, "setting"), (self.relabel, RELABELS, "relabel"), (self.start, STARTS, "start")):
            if value not in known:
                raise SettingError(f"There is no {what} {value!r}.", fix=suggest(value, known))
        if not (1 <= self.captioners <= 64 and 1 <= self.generators <= 64):
            raise SettingError(f"{self.captioners}x{self.generators} agents cannot be.", fix="give 1 to 64 captioners and generators, like 2x2")
        if not (0 <= self.frozen_captioners <= self.captioners and 0 <= self.frozen_generators <= self.generators):
            raise SettingError(f"{self.frozen_captioners}x{self.frozen_generators} agents cannot be frozen.", fix="freeze at most as many as there are")
        if self.n < 2 or self.generations < 1:
            raise SettingError(f"n={self.n}, generations={self.generations} cannot be.", fix="give an n of 2 or more and 1 or more generations")
        if not 0 <= self.keep <= 1 or self.human < 0 or (self.keep > 0 and self.relabel != "frozen"):
            raise SettingError(f"keep={self.keep:g}, human={self.human} cannot be.", fix="give a confidence from 0 to 1, with relabel=frozen")
        if (self.relabel == "frozen-images" and self.setting == "images") or (self.relabel != "none" and self.frozen_captioners == self.captioners):
            raise SettingError(f"Relabel {self.relabel} has nothing to do here.", fix="leave it out, or take another setting")

    @property
    def rule(self) -> Policy:
        return policy_of(self.policy)

    @property
    def agents(self) -> int:
        """Of the side that has more of them."""
        return max(self.captioners if self.setting != "images" else 1, self.generators if self.setting != "captions" else 1)


@dataclass
class Cost:
    """What a generation took: evaluations of models, captions written by people, pairs kept."""

    images: int = 0
    captions: int = 0
    human: int = 0
    kept: int = 0

    @property
    def plain(self) -> dict[str, float]:
        per = (self.images + self.captions) / max(1, self.kept)
        return {"images": self.images, "captions": self.captions, "human": self.human, "kept": self.kept, "per_kept": round(per, 6)}


class Chain:
    """One replicate. `step` makes one generation and returns its line; all chance comes from the seed, names and numbers."""

    def __init__(self, ground: Ground, loop: Loop, *, seed: int, exact: bool = True) -> None:
        self.ground, self.loop, self.seed, self.exact = ground, loop, seed, exact
        self.generators = [Seat(f"generator-{i}", ground.generator(i)) for i in range(loop.generators if loop.setting != "captions" else 0)]
        self.captioners = [Seat(f"captioner-{i}", ground.captioner(i)) for i in range(loop.captioners if loop.setting != "images" else 0)]
        judged = loop.relabel == "frozen" or max(loop.images.search, loop.captions.search) > 1
        self.judge = Seat("judge", ground.captioner(loop.captioners)) if judged else None  # frozen captioner: relabels, and scores what is searched
        self.painter = Seat("painter", ground.generator(loop.generators)) if loop.relabel == "frozen-images" else None
        self._held = {row.tobytes() for row in ground.held[0]}
        self.pool = self._drawn(0, loop.n)
        self.first: Samples | None = None
        self.last = 0
        self.lines: list[dict[str, Any]] = []
        self.added: list[Samples] = [self.pool]  # by generation: what came into the pool, which is what is saved

    @property
    def seats(self) -> list[Seat[Any]]:
        return [*self.generators, *self.captioners, *(s for s in (self.judge, self.painter) if s is not None)]

    def step(self) -> dict[str, Any]:
        """The next generation: learn, make, measure."""
        t, loop = self.last + 1, self.loop
        new: list[Samples] = []
        if t == 1:
            train, base = self.pool, False
        else:
            size = loop.n if not loop.rule.recursive else loop.n * loop.agents * self._samples
            if count := loop.rule.fresh(size):
                new.append(self._drawn(t, count))
                self.pool = joined([self.pool, *new])
            train = self.pool.rows(loop.rule.rows(self.pool, generation=t, n=size, seed=self.seed))
            base = loop.start == "base" or not loop.rule.recursive
        self._learn(t, train, from_base=base)
        made, cost = self._make(t, train)
        for seat in self.seats:
            seat.check()
        if len(made) < 2:
            raise JobError(f"Generation {t} kept {len(made)} pairs.", fix="give a larger n, a milder keep rule, or more captions by people")
        self.first = made if self.first is None else self.first
        found = self.ground.indicators(made, self.first, self.generators, self.captioners, exact=self.exact)
        if broken := [k for k, v in found.items() if not np.isfinite(v)]:
            raise JobError(f"{', '.join(broken)} of generation {t} cannot be told.", fix="give a larger n")
        new.append(made)
        self.pool = joined([self.pool, made])
        self.added.append(joined(new))
        self.last = t
        real = int(train.real.sum())
        line = {
            "chain": self.seed, "generation": t, "indicators": {k: float(v) for k, v in found.items()},
            "learnt_from": {"real": real, "made": len(train) - real}, "cost": cost.plain,
        }  # fmt: skip
        self.lines.append(line)
        return line

    @property
    def _samples(self) -> int:
        """Pairs of one prompt."""
        sides = {"images": (self.loop.images,), "captions": (self.loop.captions,), "both": (self.loop.images, self.loop.captions)}
        return int(np.prod([d.samples for d in sides[self.loop.setting]]))

    def _drawn(self, generation: int, n: int) -> Samples:
        """New real pairs. DataError where one of them is held for measuring."""
        images, captions = self.ground.draw(n, seed=seed_of("loop", self.seed, "real", generation))
        if held := sum(row.tobytes() in self._held for row in images):
            raise DataError(f"{held} of {n} real images are held for measuring and must not be learnt from.", fix="draw real pairs from a part of its own")
        return Samples.of(images, captions, Origin(generation))

    def _learn(self, t: int, train: Samples, *, from_base: bool) -> None:
        loop = self.loop
        learners: list[Seat[Any]] = [*self.generators, *self.captioners]
        for seat in learners:
            if seat.frozen is not None:
                continue
            count = -(-len(train) // loop.agents)
            own = train if loop.agents == 1 or t == 1 else train.rows(chosen(len(train), count, "loop", self.seed, "share", t, seat.name))
            seat.fit(own.images, own.captions, seed=seed_of("loop", self.seed, "fit", t, seat.name), from_base=from_base)
        if t > 1:
            return
        for extra in (self.judge, self.painter):
            if extra is not None:
                extra.fit(train.images, train.captions, seed=seed_of("loop", self.seed, "fit", t, extra.name))
                extra.freeze()
        for seats, count in ((self.generators, loop.frozen_generators), (self.captioners, loop.frozen_captioners)):
            for seat in seats[len(seats) - count :] if count else ():
                seat.freeze()

    def _make(self, t: int, train: Samples) -> tuple[Samples, Cost]:
        loop, cost = self.loop, Cost()
        slots = loop.n * loop.agents
        real = self.added[0]
        if loop.setting == "both":
            at = (uniforms(seeds_of(slots, "loop", self.seed, "prompt", t), 1)[:, 0] * len(train)).astype(np.int64)
            prompts, images = train.captions[at], None
        else:
            at = np.arange(slots) % len(real)
            prompts, images = real.captions[at], real.images[at]
        image_by, caption_by = np.full(slots, -1), np.full(slots, -1)
        if loop.setting != "captions":
            prompts = np.repeat(prompts, loop.images.samples, axis=0)
            slots = len(prompts)
            image_by, caption_by = np.arange(slots) % loop.generators, np.full(slots, -1)
            images = self._by(self.generators, image_by, "image", t, lambda s, rows, seeds: generated(s, prompts[rows], seeds, loop.images, score=self._score))
            cost.images += slots * loop.images.cost
        assert images is not None
        captions = prompts
        if loop.setting != "images" and loop.relabel != "frozen":
            images, image_by = np.repeat(images, loop.captions.samples, axis=0), np.repeat(image_by, loop.captions.samples)
            slots, shown = len(images), images
            caption_by = (np.arange(slots) // max(1, len(self.generators))) % loop.captioners
            captions = self._by(
                self.captioners, caption_by, "caption", t, lambda s, rows, seeds: described(s, shown[rows], seeds, loop.captions, score=self._score)
            )
            cost.captions += slots * loop.captions.cost
        if self.painter is not None:
            seeds = seeds_of(slots, "loop", self.seed, "image", t, "painter")
            images = generated(self.painter, captions, seeds, loop.images, score=self._score)
            cost.images += slots * loop.images.cost
        kept = np.arange(slots)
        if loop.relabel == "frozen":
            captions, kept, cost.human = self._relabelled(t, images)
            cost.captions += slots * Decode().cost
        cost.kept = len(kept)
        sides = len(self.captioners) + 1
        used, origin = np.unique(((image_by + 1) * sides + caption_by + 1)[kept], return_inverse=True)
        origins = tuple(self._origin(t, int(code) // sides - 1, int(code) % sides - 1) for code in used)
        return Samples(images[kept], captions[kept], origin.astype(np.int64), origins), cost

    def _origin(self, t: int, image: int, caption: int) -> Origin:
        """Of pairs whose image and caption come from these agents; -1 is the fixed pool, or who stands in for it."""
        by_image = "painter" if self.painter is not None else self.generators[image].name if image >= 0 else REAL
        by_caption = "judge" if self.loop.relabel == "frozen" else self.captioners[caption].name if caption >= 0 else REAL
        return Origin(t, by_image, by_caption, None if by_image == REAL else self.loop.images, None if by_caption == REAL else self.loop.captions)

    def _relabelled(self, t: int, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Captions of the frozen captioner, the rows that are kept, and how many of them a person wrote."""
        assert self.judge is not None
        captions = described(self.judge, images, seeds_of(len(images), "loop", self.seed, "caption", t, "judge"), Decode())
        if not self.loop.keep:
            return captions, np.arange(len(images)), 0
        sure = self.judge.agent.confidence(images, captions) >= self.loop.keep
        asked = np.flatnonzero(~sure)[: self.loop.human]
        if len(asked):
            captions = captions.copy()
            captions[asked] = self.ground.written(images[asked])
        return captions, np.sort(np.concatenate([np.flatnonzero(sure), asked])), len(asked)

    @property
    def _score(self) -> Score | None:
        return self.judge.agent.score if self.judge is not None else None

    def _by(self, seats: Sequence[Seat[Any]], by: np.ndarray, what: str, t: int, make: Any) -> np.ndarray:
        """Outputs of all slots, each by its agent; output i of an agent follows from seed, generation, agent and i."""
        out: np.ndarray | None = None
        for k, seat in enumerate(seats):
            rows = np.flatnonzero(by == k)
            if not len(rows):
                continue
            found = make(seat, rows, seeds_of(len(by), "loop", self.seed, what, t, seat.name)[rows])
            if len(rows) == len(by):
                return found
            if out is None:
                out = np.empty((len(by), *found.shape[1:]), dtype=found.dtype)
            elif found.dtype != out.dtype:
                out = out.astype(np.promote_types(out.dtype, found.dtype))  # text of different lengths
            out[rows] = found
        assert out is not None
        return out

    # on disk ----------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """What the chain is now. Generations that lie there already are not written again."""
        folder.mkdir(parents=True, exist_ok=True)
        old = read_json(folder / STATE)["files"] if (folder / STATE).exists() else []
        files = list(old[: self.last + 1])
        for t in range(len(files), self.last + 1):
            part = self.added[t]
            arrays = {"images": part.images, "captions": part.captions, "origin": part.origin}
            if t == self.last:
                arrays |= {f"agent/{seat.name}/{name}": value for seat in self.seats for name, value in seat.agent.state().items()}
            path = folder / f"generation-{t:03d}.npz"
            _write_arrays(path, arrays)
            files.append({"file": path.name, "digest": file_digest(path), "origins": plain_origins(part.origins)})
        frozen = {seat.name: seat.frozen for seat in self.seats}
        write_json(folder / STATE, {"asked": self._asked, "generation": self.last, "lines": self.lines, "frozen": frozen, "files": files})

    def load(self, folder: Path) -> bool:
        """Be what lies in a folder; False where nothing does. SettingError where it is another chain's, StoreError where it is damaged."""
        if not (folder / STATE).exists():
            return False
        state = read_json(folder / STATE)
        if state["asked"] != self._asked:
            raise SettingError(f"{folder} holds another loop.", fix="give the same settings as before, or another folder")
        parts, arrays = [], {}
        for one in state["files"]:
            path = folder / one["file"]
            if not path.exists() or file_digest(path) != one["digest"]:
                raise StoreError(f"{path} is missing or damaged.", fix=f"roll back to an earlier generation, or delete {folder}")
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            parts.append(Samples(arrays["images"], arrays["captions"], arrays["origin"], read_origins(one["origins"])))
        self.added, self.pool, self.last, self.lines = parts, joined(parts), int(state["generation"]), state["lines"]
        if self.last:
            self.first = parts[1].rows(np.flatnonzero(~parts[1].real))
            for seat in self.seats:
                seat.agent.restore({name.split("/", 2)[2]: a for name, a in arrays.items() if name.startswith(f"agent/{seat.name}/")})
                seat.frozen = state["frozen"][seat.name]
                seat.check()
        return True

    @property
    def _asked(self) -> str:
        # more generations of the same loop are the same chain
        told = plain(self.loop)
        del told["generations"]
        return digest("mitate.loop", {"ground": ground_asked(self.ground), "loop": told, "seed": self.seed, "exact": self.exact})


def roll_back(folder: str | Path, generation: int) -> None:
    """Take a saved chain back to the end of a generation: later pairs and agents are gone, and the loop goes on from there."""
    folder = Path(folder)
    if not (folder / STATE).exists():
        raise DataError(f"{folder} holds no chain.", fix="give the folder of a chain, like runs/loop/chain-000")
    state = read_json(folder / STATE)
    if not 1 <= generation <= state["generation"]:
        raise SettingError(f"The chain stands at generation {state['generation']}.", fix=f"give a generation from 1 to {state['generation']}")
    if generation == state["generation"]:
        return
    later = state["files"][generation + 1 :]
    write_json(folder / STATE, {
        "asked": state["asked"], "generation": generation, "lines": state["lines"][:generation], "frozen": state["frozen"],
        "files": state["files"][: generation + 1],
    })  # fmt: skip
    for one in later:
        (folder / one["file"]).unlink(missing_ok=True)


# many chains ------------------------------------------------------------------------------------------------------------


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
    ground: Ground, loop: Loop, *, seeds: int | Sequence[int] = 5, out: str | Path | None = None, exact: bool = True, progress: Progress | None = None
) -> Loops:  # fmt: skip
    """Run the loop, one chain a seed. With `out` every generation is on the disk as soon as it is made, and the same call goes on from there.

    A chain that cannot go on is told of in `blocked`; the others go on. The same call tries it again.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise SettingError(f"{numbers} are no seeds.", fix="give 1 or more different seeds from 0")
    told, folder = progress or Silent(), Path(out) if out is not None else None
    with _opened(folder, ground, loop, numbers, exact) as lines_file:
        lines: list[dict[str, Any]] = []
        blocked: dict[int, str] = {}
        for k, seed in enumerate(numbers):
            chain = Chain(ground, loop, seed=seed, exact=exact)
            own = folder / f"chain-{seed:03d}" if folder is not None else None
            try:
                if own is not None and chain.load(own):
                    for line in chain.lines:
                        _tell(lines_file, line)
                while chain.last < loop.generations:
                    line = chain.step()
                    if own is not None:
                        chain.save(own)
                        _tell(lines_file, line)
                    told.step(k * loop.generations + chain.last, len(numbers) * loop.generations, f"chain {seed} generation {chain.last}")
            except (SettingError, StoreError, OSError):
                raise
            except Exception as wrong:  # whatever a model does in its own chain is that chain's end alone
                blocked[seed] = f"generation {chain.last + 1}: {type(wrong).__name__}: {wrong}"
            lines += chain.lines
    return Loops(loop, tuple(lines), blocked, folder)


def ground_asked(ground: Ground) -> Any:
    """What a ground is, as plain values."""
    return {"name": ground.name, "settings": getattr(ground, "asked", None) or plain(ground)}


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a loop.jsonl. DataError for what is none; a last line that is being written is left for later."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as wrong:
        raise DataError(f"{path} cannot be read ({wrong.strerror}).", fix="give the folder of a loop, with a loop.jsonl in it") from wrong
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            found = json.loads(line)
            checked: dict[str, Any] = {"chain": int(found["chain"]), "generation": int(found["generation"])}
            checked["indicators"] = {str(k): float(v) for k, v in found["indicators"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            what = '{"chain": 0, "generation": 1, "indicators": {"variance": 1.0}}'
            raise DataError(f"{path}, line {number}: no line of a loop.", fix=f"write lines like {what}") from None
        yield {**found, **checked}


@contextmanager
def _opened(folder: Path | None, ground: Ground, loop: Loop, seeds: list[int], exact: bool) -> Iterator[Path | None]:
    if folder is None:
        yield None
        return
    asked = {"ground": ground_asked(ground), "loop": plain(loop), "exact": exact}
    same = {**asked, "loop": {k: v for k, v in asked["loop"].items() if k != "generations"}}
    with writing(folder), locked(folder / ".lock"):
        if (folder / ASKED).exists():
            there = read_json(folder / ASKED)
            old = {"ground": there.get("ground"), "loop": {k: v for k, v in there.get("loop", {}).items() if k != "generations"}, "exact": there.get("exact")}
            if old != same:
                raise SettingError(f"{folder} holds another loop.", fix="give the same settings as before, or another --out")
            if loop.generations < (before := there["loop"]["generations"]):
                raise SettingError(f"{folder} has loops of {before} generations.", fix=f"ask for {before} or more, or give another --out")
        write_json(folder / ASKED, {**asked, "seeds": seeds})
        write_text(folder / LINES, "")
        yield folder / LINES


def _tell(path: Path | None, line: Mapping[str, Any]) -> None:
    if path is not None:
        with open(path, "a", encoding="utf-8", newline="\n") as out:
            out.write(json.dumps(line) + "\n")


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A .npz of arrays without objects, whole or not at all; the same arrays give the same bytes."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as out:
            for name, array in arrays.items():
                with out.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file of a loop holds. StoreError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise StoreError(f"{path} is damaged.", fix="delete the folder it lies in") from wrong
