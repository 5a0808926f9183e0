"""One chain of a loop, a replicate: learn, make, measure, generation after generation, and lie on the disk after each.

What a chain is after a generation lies in its folder (JSON and .npz without objects), so the same chain goes on after a kill and ends with the same bytes, and
`roll_back` takes it back to a generation.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, JobError, SettingError, StoreError
from mitate.files import file_digest, whole, write_json
from mitate.loops.agents import (
    REAL,
    Decode,
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
from mitate.loops.grounds import usual
from mitate.loops.loop import Ground, Loop, ground_asked
from mitate.runtime import seed_of
from mitate.settings import digest, parsed, plain

STATE = "state.json"


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
            size = loop.n * loop.agents * (self._samples if loop.rule.recursive else 1)
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
            cost.captions += slots * self._plain.cost
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
        captions = described(self.judge, images, seeds_of(len(images), "loop", self.seed, "caption", t, "judge"), self._plain)
        if not self.loop.keep:
            return captions, np.arange(len(images)), 0
        sure = self.judge.agent.confidence(images, captions) >= self.loop.keep
        asked = np.flatnonzero(~sure)[: self.loop.human]
        if len(asked):
            captions = captions.copy()
            captions[asked] = self.ground.written(images[asked])
        return captions, np.sort(np.concatenate([np.flatnonzero(sure), asked])), len(asked)

    @property
    def _plain(self) -> Decode:
        """The dials of whoever relabels: those that are usual on the ground."""
        return usual(self.ground).captions

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
        old = read_state(folder)["files"] if (folder / STATE).exists() else []
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
        state = read_state(folder)
        if state["asked"] != self._asked:
            raise SettingError(f"{folder} holds another loop.", fix="give the same settings as before, or another folder")
        parts, arrays = [], {}
        for one in state["files"]:
            path = folder / one["file"]
            if not path.exists() or file_digest(path) != one["digest"]:
                raise StoreError(f"{path} is missing or damaged.", fix=f"roll back to an earlier generation, or delete {folder}")
            try:
                with np.load(path, allow_pickle=False) as found:
                    arrays = {name: found[name] for name in found.files}
                parts.append(Samples(arrays["images"], arrays["captions"], arrays["origin"], read_origins(one["origins"])))
            except Exception as wrong:  # whatever NumPy and zipfile raise at a file that somebody else wrote
                raise StoreError(f"{path} cannot be read ({type(wrong).__name__}).", fix=f"delete {folder}") from wrong
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
    state = read_state(folder)
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


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A .npz of arrays without objects, whole or not at all; the same arrays give the same bytes."""
    with whole(path) as fresh, zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as out:
        for name, array in arrays.items():
            with out.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_json(path: Path) -> dict[str, Any]:
    """The record that a JSON file of a loop holds. StoreError where it is damaged."""
    try:
        return dict(parsed(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as wrong:
        raise StoreError(f"{path} is damaged.", fix="delete the folder it lies in") from wrong


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a chain. StoreError where it is damaged, or names files that no chain writes: those that are rolled back are deleted."""
    state = read_json(folder / STATE)
    kinds = {"asked": str, "generation": int, "lines": list, "frozen": dict, "files": list}
    sound = all(isinstance(state.get(key), kind) for key, kind in kinds.items()) and all(map(_is_file, state["files"]))
    if not sound or len(state["files"]) != state["generation"] + 1 or len(state["lines"]) != state["generation"]:
        raise StoreError(f"{folder / STATE} is damaged.", fix=f"delete {folder}")
    return state


def _is_file(one: Any) -> bool:
    texts = isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("file", "digest")) and isinstance(one.get("origins"), list)
    return texts and re.fullmatch(r"generation-\d{3,9}\.npz", one["file"]) is not None
