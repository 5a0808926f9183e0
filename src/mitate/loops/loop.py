"""A loop as it is asked for: what it stands on, who takes part, what is kept, how outputs are made.

    images     self-consuming image model: images of a fixed pool of real captions
    captions   self-consuming captioner: captions of a fixed pool of real images
    both       M captioners and N generators: prompts are captions of what was last learnt from, images are made of them and described

Generation 1 has learnt from real pairs. In each generation agents are trained on what the policy keeps, then make pairs, which the indicators are read from.
`relabel="frozen"` lets a captioner that was fitted once on the real pairs write the captions; `frozen-images` lets such a generator paint the images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mitate.errors import SettingError
from mitate.loops.agents import Captioner, Decode, Generator, Samples, Seat
from mitate.loops.policies import STARTS, Policy, policy_of
from mitate.settings import plain, suggest

SETTINGS = ("images", "captions", "both")
MOST, MOST_GENERATIONS = 1_000_000, 1000  # pairs of a generation, and generations
RELABELS = ("none", "frozen", "frozen-images")


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
        if not (2 <= self.n <= MOST and 1 <= self.generations <= MOST_GENERATIONS):
            fix = f"give an n of 2 to {MOST:,} and 1 to {MOST_GENERATIONS:,} generations"
            raise SettingError(f"n={self.n}, generations={self.generations} cannot be.", fix=fix)
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


def ground_asked(ground: Ground) -> Any:
    """What a ground is, as plain values."""
    return {"name": ground.name, "settings": getattr(ground, "asked", None) or plain(ground)}
