"""The offline grammar: prompts of the lab's skills, or of the templates of a skill file. No network, no model; prompt i follows from skill, seed and i.

Grammar().ask(Ask(skill, (), 20, 1, seed=0)).texts            prompts 0 to 19
`mitate.lab.reading.understand` reads a lab prompt back into what it asks for.

Of the lab, content="shown" writes what its models may train on; "held-out" what only evaluation asks for (lab/skills.py), which an expert must not be trained
on if it is to be judged by it. Where a prompt leaves a size open, both sizes must be content that is shown. Templates take turns; of each, every way to
fill the slots comes once, in an order that the seed shuffles (a Feistel network, walked until it is inside; Black & Rogaway 2002).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from mitate.errors import SettingError
from mitate.lab.captions import Prompt, caption
from mitate.lab.skills import SKILLS, Skill, held_out, pairs, training
from mitate.lab.world import SIZES, WITHHELD, Scene
from mitate.prompts.asking import Answer, Ask
from mitate.prompts.skills import SLOT, SkillSpec
from mitate.runtime import seed_of
from mitate.settings import suggest

CONTENTS = ("shown", "held-out")
MOST_TRIES = 2_000  # scenes that are looked through for one whose caption says what the skill is about
ROUNDS = 4  # of the network


@dataclass(frozen=True)
class Grammar:
    """content: of lab skills, what may be trained on (`shown`) or what is left out of training (`held-out`)."""

    content: str = "shown"

    def __post_init__(self) -> None:
        if self.content not in CONTENTS:
            raise SettingError(f"There is no content {self.content!r}.", fix=suggest(self.content, CONTENTS))

    @property
    def name(self) -> str:
        return "grammar"

    @property
    def share_alike(self) -> float:
        """Only the same words are one prompt: two red cups are not three red cups."""
        return 1.0

    @property
    def asked(self) -> Mapping[str, Any]:
        return {"kind": "grammar", "version": 1, "content": self.content}

    def check(self, skill: SkillSpec, n: int) -> None:
        if skill.templates:
            if n > skill.combinations:
                told = f"The templates of {skill.name} can be filled in {skill.combinations} ways, and {n} prompts are asked for."
                raise SettingError(told, fix="ask for fewer, or write more templates or slots")
            return
        if not skill.lab:
            raise SettingError(
                f"The skill {skill.name} has no templates, so the offline grammar cannot write it.",
                fix="write templates and slots (mitate prompts --show template), or ask a language model: --from openai:MODEL@URL or transformers:DIR",
            )
        only = SKILLS[skill.lab].world.only
        if self.content == "shown" and only and set(only) <= set(WITHHELD):
            told = f"All that the lab's skill {skill.lab} asks for is left out of training."
            raise SettingError(told, fix="give -o content=held-out, and train nothing on it that is judged by it")

    def ask(self, ask: Ask) -> Answer:
        start = (ask.round - 1) * ask.number
        if ask.skill.templates:
            last = min(start + ask.number, ask.skill.combinations)
            return Answer(tuple(filled(ask.skill, i, seed=ask.seed) for i in range(start, last)))
        found = _of_lab(ask.skill.lab, self.content, start, seed=ask.seed)
        return Answer(tuple(prompt.text for prompt in islice(found, ask.number)))


def filled(skill: SkillSpec, i: int, *, seed: int) -> str:
    """Prompt `i` of a skill's templates, 0 to `skill.combinations` less one. Templates take turns, as long as they have ways that are left."""
    ways = skill.ways
    which, turn = _turn(i, ways)
    way, text = shuffled(turn, ways[which], seed=seed_of("prompts templates", skill.name, which, seed)), skill.templates[which]
    for slot in SLOT.findall(text):
        way, chosen = divmod(way, len(skill.slots[slot]))
        text = text.replace(f"{{{slot}}}", skill.slots[slot][chosen], 1)
    return text


def _turn(i: int, ways: tuple[int, ...]) -> tuple[int, int]:
    """(which template, how often it came before) is number `i` where each has so many ways."""
    done = 0
    for size in sorted(set(ways)):
        left = [which for which, n in enumerate(ways) if n > done]
        if i < (size - done) * len(left):
            return left[i % len(left)], done + i // len(left)
        i, done = i - (size - done) * len(left), size
    raise IndexError("there are no more ways to fill the templates")


def shuffled(i: int, n: int, *, seed: int) -> int:
    """Where number `i` of 0 to n - 1 goes when they are shuffled; each goes to another place."""
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    while True:
        left, right = i >> half, i & ((1 << half) - 1)
        for step in range(ROUNDS):
            left, right = right, left ^ (seed_of("prompts shuffled", seed, step, right) & ((1 << half) - 1))
        if (i := left << half | right) < n:
            return i


def shown(skill: str, start: int, *, seed: int) -> Iterator[tuple[Prompt, Scene]]:
    """Prompts of a lab skill from number `start` on whose content may be trained on, each with a scene that fulfils it."""
    how = SKILLS[skill]
    i = start
    while True:
        words = seed_of("prompts lab", skill, seed, i)
        for tries in range(MOST_TRIES):
            scene = training(tries, seed=words, world=how.world)[1]
            prompt = caption(scene, seed=words, say=how.say, long=how.long)
            if _says(prompt, how.must) and _trainable(prompt, scene, how):
                yield prompt, scene
                break
        else:
            raise SettingError(f"The lab's skill {skill} has too little content that may be trained on.", fix="choose another skill")
        i += 1


def _of_lab(skill: str, content: str, start: int, *, seed: int) -> Iterator[Prompt]:
    found = shown(skill, start, seed=seed) if content == "shown" else islice(pairs(skill, 10**9, seed=seed), start, None)
    return (prompt for prompt, _ in found)


def _says(prompt: Prompt, must: str) -> bool:
    """Whether the prompt says what its skill is about, as lab/skills.py asks it of scenes."""
    first, last = prompt.groups[0], prompt.groups[-1]
    if must == "texture":
        return first.texture is not None
    if must == "place":
        return first.place is not None
    if must in ("apart", "relation") and not (len(prompt.groups) == 2 and first.shape != last.shape and first.colour != last.colour):
        return False
    return must != "relation" or prompt.relation is not None


def _trainable(prompt: Prompt, scene: Scene, how: Skill) -> bool:
    """Whether nothing that the prompt leaves open is left out of training; evaluation of `rare` does not care."""
    if len(scene.things) > 1 or prompt.groups[0].size is not None or not how.left_out:
        return True
    return not any(held_out(replace(scene, things=(replace(scene.things[0], size=size),))) for size in SIZES)
