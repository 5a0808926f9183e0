"""Agents of a loop: what makes images, what describes them, and the seat that keeps a frozen one frozen.

An agent is small: make, fit from where it stands, clone, and give its state as arrays. The seat does the rest alike for toy models and networks: it names
the agent, refuses to train a frozen one, and holds the digest that a frozen one must still have at every generation. Every sample carries an `Origin`
(generation, agents, decode settings), so a data policy is a filter and a loop can be rolled back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from mitate.errors import JobError, SettingError
from mitate.loops.chance import seeds_of

REAL = "real"  # who made the real side of a pair
State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Decode:
    """How outputs are made; three dials with a cost each, and one without.

    samples: outputs kept of each prompt (or captions of each image). search: candidates of which a scorer keeps the best. depth: denoising steps, or words at
    most. temperature: above 1 flatter, below 1 sharper; free.
    """

    samples: int = 1
    search: int = 1
    depth: int = 50
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if min(self.samples, self.search, self.depth) < 1 or not 0 < self.temperature < 100:
            told = f"samples={self.samples}, search={self.search}, depth={self.depth}, temperature={self.temperature:g} cannot be."
            raise SettingError(told, fix="give 1 or more for samples, search and depth, and a temperature above 0")

    @property
    def cost(self) -> int:
        """Evaluations of the model for each kept sample: depth of each candidate, and one of the scorer for each where it has a choice."""
        return self.search * (self.depth + (1 if self.search > 1 else 0))


@dataclass(frozen=True)
class Origin:
    """Where a pair comes from. Real pairs have REAL on both sides; their generation is that in which they were drawn (0: before the loop)."""

    generation: int
    image_by: str = REAL
    caption_by: str = REAL
    image_decode: Decode | None = None
    caption_decode: Decode | None = None

    @property
    def real(self) -> bool:
        return self.image_by == REAL and self.caption_by == REAL


@dataclass(frozen=True)
class Samples:
    """Pairs with their origins. images: [n, ...]; captions: [n], numbers or text; origin: int64 [n], rows of `origins`."""

    images: np.ndarray
    captions: np.ndarray
    origin: np.ndarray
    origins: tuple[Origin, ...]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.captions) == len(self.origin):
            raise ValueError(f"{len(self.images)} images, {len(self.captions)} captions, {len(self.origin)} origins")

    def __len__(self) -> int:
        return len(self.origin)

    @classmethod
    def of(cls, images: np.ndarray, captions: np.ndarray, origin: Origin) -> Samples:
        """Samples of one origin."""
        return cls(images, captions, np.zeros(len(captions), dtype=np.int64), (origin,))

    @property
    def generation(self) -> np.ndarray:
        """Of each pair, int64 [n]."""
        return np.array([o.generation for o in self.origins], dtype=np.int64)[self.origin]

    @property
    def real(self) -> np.ndarray:
        """Which pairs are real on both sides, bool [n]."""
        return np.array([o.real for o in self.origins], dtype=bool)[self.origin]

    def rows(self, which: np.ndarray) -> Samples:
        """Some of the pairs; the table of origins stays whole."""
        return replace(self, images=self.images[which], captions=self.captions[which], origin=self.origin[which])

    def upto(self, generation: int) -> Samples:
        """What there was at the end of a generation: what a roll-back keeps."""
        return self.rows(np.flatnonzero(self.generation <= generation))


def joined(parts: Sequence[Samples]) -> Samples:
    """Pairs of several parts, in order."""
    starts = np.cumsum([0, *(len(p.origins) for p in parts)])
    return Samples(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.captions for p in parts]),
        np.concatenate([p.origin + start for p, start in zip(parts, starts[:-1], strict=True)]),
        tuple(o for p in parts for o in p.origins),
    )


class Agent(Protocol):
    """What both sides share. `architecture` says which agents are of one make."""

    architecture: str

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int) -> None:
        """Learn from pairs, from where it stands."""
        ...

    def clone(self) -> Self:
        """Another one that is the same now and shares nothing."""
        ...

    def state(self) -> State:
        """All that it has learnt, as arrays without objects."""
        ...

    def restore(self, state: State) -> None: ...


class Generator(Agent, Protocol):
    """Captions to images. Image i depends on caption i and seed i alone."""

    def generate(self, captions: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray: ...


class Captioner(Agent, Protocol):
    """Images to captions. Caption i depends on image i and seed i alone."""

    def describe(self, images: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray: ...

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """How well each caption goes with its image, higher is better, float64 [n]: what a search goes by."""
        ...

    def confidence(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """How sure it is of each caption, 0 to 1, float64 [n]: what a keep rule goes by."""
        ...


A = TypeVar("A", bound=Agent)
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass
class Seat(Generic[A]):
    """An agent's place in a loop. `frozen` is the digest that it had when it was frozen, None while it may learn."""

    name: str
    agent: A
    frozen: str | None = None
    start: A = field(init=False)  # as it came, before any training: where a restart from base begins

    def __post_init__(self) -> None:
        self.start = self.agent.clone()

    @property
    def digest(self) -> str:
        return digest_of(self.agent.state())

    def freeze(self) -> None:
        """From now on it must not change."""
        self.frozen = self.digest

    def check(self) -> None:
        """JobError where a frozen agent is no longer what it was."""
        if self.frozen is not None and self.digest != self.frozen:
            raise JobError(f"{self.name} is frozen and yet has changed.", fix="let nothing but the loop touch its agents, or do not freeze it")

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int, from_base: bool = False) -> None:
        """Train it. SettingError where it is frozen, JobError where nothing is left to train on."""
        if self.frozen is not None:
            raise SettingError(f"{self.name} is frozen and cannot be trained.", fix="leave it out of training, or freeze fewer agents")
        if not len(captions):
            raise JobError(f"Nothing is left to train {self.name} on.", fix="give a larger n, a milder keep rule, or a policy that keeps real pairs")
        if from_base:
            self.agent = self.start.clone()
        self.agent.fit(images, captions, seed=seed)


def digest_of(state: State) -> str:
    """SHA-256 of arrays with their names, types and shapes."""
    found = hashlib.sha256(b"mitate.agent\0")
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        found.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def generated(seat: Seat[Generator], captions: np.ndarray, seeds: np.ndarray, decode: Decode, *, score: Score | None = None) -> np.ndarray:
    """One image of each caption: of `search` candidates the one that the scorer likes best."""
    return _best(lambda s: seat.agent.generate(captions, s, decode), lambda x: _scored(score)(x, captions), seeds, decode.search)


def described(seat: Seat[Captioner], images: np.ndarray, seeds: np.ndarray, decode: Decode, *, score: Score | None = None) -> np.ndarray:
    """One caption of each image: of `search` candidates the one that the scorer likes best."""
    return _best(lambda s: seat.agent.describe(images, s, decode), lambda c: _scored(score)(images, c), seeds, decode.search)


def _best(make: Callable[[np.ndarray], np.ndarray], score: Callable[[np.ndarray], np.ndarray], seeds: np.ndarray, search: int) -> np.ndarray:
    best = make(seeds)
    if search == 1:
        return best
    at = score(best)
    for j in range(1, search):
        other = make(seeds ^ seeds_of(1, "candidate", j))
        found = score(other)
        better = found > at
        best, at = np.where(better.reshape(-1, *[1] * (best.ndim - 1)), other, best), np.maximum(at, found)
    return best


def _scored(score: Score | None) -> Score:
    if score is None:
        raise SettingError("A search has nothing to choose by.", fix="give a scorer, or search=1")
    return score


def plain_origins(origins: Sequence[Origin]) -> list[dict[str, Any]]:
    """Origins as they are written down."""
    from mitate.settings import plain

    return [plain(o) for o in origins]


def read_origins(found: Sequence[Mapping[str, Any]]) -> tuple[Origin, ...]:
    """Origins that were written down."""
    from mitate.settings import record

    return tuple(record(Origin, one, where="origin of samples") for one in found)
