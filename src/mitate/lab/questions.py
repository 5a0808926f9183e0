"""Is it what was asked? A prompt as questions with parents, answered by a scene that the oracle read; a child of a no is a no.

The form is that of Davidsonian scene graphs (Cho et al. 2024): each question asks one thing, and asks it only of what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mitate.lab.captions import ATTRIBUTES, PLACES, PLURAL, RELATIONS, Prompt, Wanted, relation_of
from mitate.lab.world import Scene, Thing

NEAR = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}  # axis and side
MIDDLE = 0.17  # sides from the centre that still count as the middle
SLACK = 0.05  # sides beyond the centre line that a thing on the left must keep


@dataclass(frozen=True)
class Question:
    """kind: exists, colour, size, texture, count, place, relation, background, light or only. groups: those of the prompt it is about."""

    kind: str
    text: str
    groups: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()  # positions in the list of questions


def questions(prompt: Prompt) -> list[Question]:
    """Everything a prompt asks for, parents before children."""
    found: list[Question] = []
    first: list[int] = []
    for i, g in enumerate(prompt.groups):
        first.append(len(found))
        found.append(Question("exists", f"Is there a {g.shape}?", (i,)))
        for name in ATTRIBUTES:
            if (value := getattr(g, name)) is not None:
                found.append(Question(name, f"Is a {g.shape} {value}?", (i,), (first[i],)))
        found.append(Question("count", f"Is the number of {_described(g)} {g.count}?", (i,), (first[i],)))
        if g.place:
            found.append(Question("place", f"Is the {_described(g, 1)} {PLACES[g.place]}?", (i,), (first[i],)))
    if prompt.relation:
        one, two = (_described(g, 1) for g in prompt.groups[:2])
        found.append(Question("relation", f"Is the {one} {RELATIONS[prompt.relation][0]} the {two}?", (0, 1), (first[0], first[1])))
    if prompt.background:
        found.append(Question("background", f"Is the background {prompt.background}?"))
    if prompt.light:
        found.append(Question("light", f"Is the light {prompt.light}?"))
    found.append(Question("only", "Is there nothing else?", (), tuple(first)))
    return found


def answers(prompt: Prompt, scene: Scene) -> list[bool]:
    """The answer of a scene to each of the prompt's questions."""
    asked = questions(prompt)
    found: list[bool] = []
    for question in asked:
        found.append(all(found[p] for p in question.parents) and _answer(question, prompt, scene))
    return found


@dataclass(frozen=True)
class Faithfulness:
    """questions: share of yes over all questions; prompts: share of prompts with nothing but yes; kinds: share of yes by kind of question."""

    questions: float
    prompts: float
    kinds: dict[str, float]
    right: tuple[bool, ...]  # by prompt


def faithfulness(prompts: Sequence[Prompt], scenes: Sequence[Scene]) -> Faithfulness:
    """How far scenes are what was asked, one scene a prompt."""
    by_kind: dict[str, list[bool]] = {}
    right = []
    for prompt, scene in zip(prompts, scenes, strict=True):
        found = answers(prompt, scene)
        right.append(all(found))
        for question, yes in zip(questions(prompt), found, strict=True):
            by_kind.setdefault(question.kind, []).append(yes)
    every = [yes for kind in by_kind.values() for yes in kind]
    return Faithfulness(sum(every) / len(every), sum(right) / len(right), {k: sum(v) / len(v) for k, v in by_kind.items()}, tuple(right))


def _answer(question: Question, prompt: Prompt, scene: Scene) -> bool:
    if question.kind == "background":
        return scene.background == prompt.background
    if question.kind == "light":
        return scene.light == prompt.light
    if question.kind == "only":
        return all(any(g.fits(t) for g in prompt.groups) for t in scene.things) and len(scene.things) <= sum(g.count for g in prompt.groups)
    things = [[t for t in scene.things if prompt.groups[i].fits(t)] for i in question.groups]
    wanted = prompt.groups[question.groups[0]]
    if question.kind == "relation":
        return bool(things[0] and things[1]) and _stand(things[0][0], things[1][0], str(prompt.relation))
    if question.kind == "place":
        return any(_lies(t, str(wanted.place)) for t in things[0])
    if question.kind == "count":
        narrower = [g for g in prompt.groups if g != wanted and _narrower(g, wanted)]
        return sum(not any(g.fits(t) for g in narrower) for t in things[0]) == wanted.count
    alike = [t for t in scene.things if t.shape == wanted.shape]
    if question.kind == "exists":
        return bool(alike)
    if question.kind != "colour" and wanted.colour is not None:
        alike = [t for t in alike if t.colour == wanted.colour]  # small and red must be one thing
    return any(getattr(t, question.kind) == getattr(wanted, question.kind) for t in alike)


def _narrower(one: Wanted, two: Wanted) -> bool:
    """Whether whatever fits the first fits the second too: red circles beside circles."""
    return one.shape == two.shape and all(getattr(two, name) in (None, getattr(one, name)) for name in ATTRIBUTES)


def _stand(one: Thing, two: Thing, relation: str) -> bool:
    """Whether they stand so: more than a little to that side, and more so than to any other."""
    dx, dy = two.x - one.x, two.y - one.y
    along, across = {"left": (dx, dy), "right": (-dx, dy), "above": (dy, dx), "below": (-dy, dx)}[relation]
    return relation_of(one, two) == relation or (along > 0.1 and along >= abs(across))


def _lies(thing: Thing, place: str) -> bool:
    at = (thing.x, thing.y)
    if place == "middle":
        return all(abs(v - 0.5) <= MIDDLE for v in at)
    named = {NEAR[word][0]: NEAR[word][1] for word in place.split()}
    return all((at[axis] - 0.5) * named[axis] > SLACK if axis in named else abs(at[axis] - 0.5) <= 1.3 * MIDDLE for axis in (0, 1))


def _described(g: Wanted, count: int = 2) -> str:
    noun = g.shape if count == 1 else PLURAL.get(g.shape, g.shape + "s")
    return " ".join([v for v in (g.size, g.texture, g.colour) if v] + [noun])
