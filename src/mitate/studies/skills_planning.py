"""The plan of a study of skills: what is asked, and every integer of it, fixed before anything is painted.

    skills = ["counting", "relation"]      model = "lab"      prompts = 300      keep = "right"      merges = ["mean", "ties"]

Prompts come from the lab's grammar, for skills that it knows, or from files: `[prompt_files] counting = "counting.jsonl"` to learn by and
`[tested_files] counting = "counting-test.jsonl"` to measure by, a prompt a line or as `mitate prompts` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mitate import __version__
from mitate.curation.choosing import Rule
from mitate.curation.judges import judge_of, understood
from mitate.errors import DataError, SettingError
from mitate.generators.merging import METHODS
from mitate.generators.pipelines import Pipeline, open_pipeline
from mitate.generators.text_to_image import placed
from mitate.lab.captions import Prompt
from mitate.lab.drawing import draw_all
from mitate.lab.skills import SKILLS, pairs
from mitate.lab.world import WITHHELD, Scene
from mitate.prompts.grammar import shown
from mitate.prompts.pool import read_prompts
from mitate.runtime import seed_of
from mitate.settings import digest, suggest
from mitate.study import Study

CONTROLS = ("guidance", "unfiltered", "by-chance", "pooled", "pooled-rank", "pooled-weaker", "naive", "released", "sequential", "truth", "best-of")
USUAL = ("by-chance", "pooled", "pooled-rank", "naive", "truth")
OF_MANY = ("pooled", "pooled-rank", "pooled-weaker", "naive", "released", "sequential")  # controls that need more than one skill
BEST_OF = 4
MOST_LOOKED = 10  # prompts that are looked through for each that is wanted
SECONDS = {"paint": 0.15, "learn": 0.25}  # of one core at 32 px: an image, and a step of 16; the first cell tells better


@dataclass(frozen=True)
class Skills:
    """What is asked of a study of skills."""

    model: str = "lab"
    skills: tuple[str, ...] = ("counting", "relation", "texture")
    prompts: int = 300  # of each skill, to learn by
    images: int = 1  # of each of these prompts
    tested: int = 150  # prompts of each skill that every model is measured by
    chooser: str = "oracle"  # who chooses among pictures
    keep: str = "right"  # what is kept (curation/choosing.py)
    judge: str = "oracle"  # who measures
    merges: tuple[str, ...] = ("mean", "ties")
    controls: tuple[str, ...] = USUAL
    steps: int = 300  # of an expert
    batch: int = 16
    rank: int = 8
    rate: float = 1e-3
    dropout: float = 0.1
    guidance: float = 0.0  # 0: the model's own
    sample_steps: int = 0
    replicates: int = 1
    seed: int = 0
    prompt_files: Mapping[str, str] = field(default_factory=dict)
    tested_files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, given, known in (("merge", self.merges, METHODS), ("control", self.controls, CONTROLS)):
            if wrong := [word for word in given if word not in known]:
                raise SettingError(f"There is no {name} {wrong[0]!r}.", fix=suggest(wrong[0], known))
            if len(set(given)) < len(given):
                raise SettingError(f"A {name} comes twice in {', '.join(given)}.", fix="name it once")
        if not self.skills or len(set(self.skills)) < len(self.skills):
            raise SettingError("There are no skills, or one comes twice.", fix='name some: skills = ["counting", "relation"]')
        if "truth" in self.controls and (drawn := [s for s in self.skills if s in self.prompt_files]):
            raise SettingError(f"Nobody has drawn the truth of {drawn[0]}.", fix="leave the control truth out, or take the lab's own prompts")
        if wrong := [s for s in self.skills if s not in SKILLS and (s not in self.prompt_files or s not in self.tested_files)]:
            raise SettingError(f"The lab knows no skill {wrong[0]!r}, and its prompts have no files.", fix="give [prompt_files] and [tested_files] for it")
        if min(self.prompts, self.images, self.tested, self.steps, self.batch, self.rank, self.replicates) < 1 or not self.rate > 0:
            raise SettingError("Numbers of a study of skills are out of range.", fix="give counts of 1 or more, and a rate above 0")
        if self.tested < 2:
            raise SettingError("One prompt has no interval.", fix="give tested = 100 or more")
        if wrong := [s for s in self.skills if not re.fullmatch(r"\w[\w-]*", s)]:
            raise SettingError(f"The skill {wrong[0]!r} cannot be the name of a file.", fix="call it by letters, digits and -")
        if wrong := [s for s in self.skills if s not in self.prompt_files and set(SKILLS[s].world.only) & set(WITHHELD)]:
            raise SettingError(f"All that {wrong[0]} asks for is left out of training: there is nothing to learn it by.", fix="leave it out")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"A dropout of {self.dropout:g} cannot be.", fix="give a share from 0 to below 1")
        rule = Rule.read(self.keep)
        if rule.kind == "right" and self.chooser != "oracle":
            raise SettingError(f"{self.chooser} gives scores and does not say what is right.", fix='give keep = "best:0.5", or chooser = "oracle"')
        if rule.kind == "each" and rule.amount >= self.images:
            raise SettingError(f"{self.keep} of {self.images} pictures of each prompt drops nothing.", fix="give images = 4, or another rule")


@dataclass(frozen=True, eq=False)
class SkillsPlan:
    """A planned study: nothing has been painted."""

    asked: Skills
    study: Study
    pipeline: Pipeline

    def cost(self) -> str:
        """What it takes, in words."""
        from mitate.progress import clock

        told = self.study.estimates
        return (
            f"{told['images']:.0f} pictures and {told['steps']:.0f} steps of learning, about {clock(told['total'])} of one core; "
            f"{len(self.asked.skills)} skills, {self.asked.replicates} replicate{'s' * (self.asked.replicates > 1)}"
        )


def plan_skills(asked: Skills) -> SkillsPlan:
    """Read prompts, open the model and the judges, and fix what will be done. DataError or SettingError for what cannot be."""
    pipeline = open_pipeline(asked.model)
    judges = {name: judge_of(name).digest for name in (asked.judge, asked.chooser)}
    tests = {skill: questions_of(asked, skill) for skill in asked.skills}
    taught = {r: {skill: lessons(asked, skill, r) for skill in asked.skills} for r in range(asked.replicates)}
    every = list(dict.fromkeys(text for texts in taught.values() for some in texts.values() for text in some))
    asked_of = [text for some in tests.values() for text in some]
    pipeline.check([*every, *asked_of], pipeline.settled(_how(asked)))
    if both := sorted({text.casefold() for text in every} & {text.casefold() for text in asked_of}):
        raise DataError(f"{len(both)} prompts are learnt by and tested, like {both[0][:60]!r}.", fix="keep the files apart, those of other skills, too")
    for who, texts in ((asked.chooser, every), (asked.judge, asked_of)):
        if who == "oracle":
            for text in texts:
                understood(text)
    models = models_of(asked)
    per_lesson, measured = sum(len(some) for some in taught[0].values()), sum(len(some) for some in tests.values())
    images = asked.replicates * (asked.images * per_lesson + measured * sum(BEST_OF if m == "best-of" else 1 for m in models))
    alone = 1 + sum(c in asked.controls for c in ("unfiltered", "by-chance", "truth"))
    together = sum(c in asked.controls for c in ("pooled", "pooled-rank")) + 2 * ("sequential" in asked.controls) if len(asked.skills) > 1 else 0
    learning = asked.replicates * asked.steps * len(asked.skills) * (alone + together)
    total = images * SECONDS["paint"] + learning * SECONDS["learn"] * asked.batch / 16
    plan: dict[str, Any] = {k: v for k, v in asdict(asked).items() if k not in ("prompt_files", "tested_files")} | {"model": placed(asked.model)}
    data = {
        "model": {"name": placed(asked.model), "digest": pipeline.digest}, "judges": judges, "findings": _findings(asked), "version": __version__,
        "prompts": {str(r): {skill: digest("mitate.prompts", some) for skill, some in texts.items()} for r, texts in taught.items()},
        "tested": {skill: digest("mitate.prompts", some) for skill, some in tests.items()},
    }  # fmt: skip
    sizes = {"models": models, "taught": {skill: len(some) for skill, some in taught[0].items()}, "tested": {skill: len(some) for skill, some in tests.items()}}
    gates = ({"name": "held-out prompts", "rule": "no prompt that any skill is learnt by in any replicate is tested"},)
    study = Study("skills", plan, data, sizes, gates, {}, {"images": float(images), "steps": float(learning), "total": float(total)})
    return SkillsPlan(asked, study, pipeline)


def _findings(asked: Skills) -> list[dict[str, str]]:
    """What the user should know before it runs."""
    found = []
    if len(asked.skills) == 1 and (dropped := [c for c in asked.controls if c in OF_MANY]):
        found.append({"severity": "note", "message": f"With one skill there is nothing to merge or pool: {', '.join(dropped)} and merges are left out."})
    if asked.chooser == asked.judge != "oracle":
        message = f"{asked.chooser} chooses the pictures and measures what was learnt from them: it will agree with itself."
        found.append({"severity": "warning", "message": message})
    return found


def models_of(asked: Skills) -> list[str]:
    """Every model that is measured, by name, in the order of the table."""
    found = ["base", *(f"expert:{skill}" for skill in asked.skills)]
    found += [f"merge:{name}" for name in asked.merges] if len(asked.skills) > 1 else []
    for control in CONTROLS:
        if control not in asked.controls:
            continue
        several = {
            "guidance": ["guidance:half", "guidance:double"],
            **{name: [f"{name}:{skill}" for skill in asked.skills] for name in ("unfiltered", "by-chance", "truth")},
            "pooled-weaker": ["pooled:0.25", "pooled:0.5", "pooled:0.75"], "sequential": ["sequential", "sequential:reversed"],
        }  # fmt: skip
        found += several.get(control, [control])
    return [name for name in found if len(asked.skills) > 1 or name.partition(":")[0] not in OF_MANY]


def lessons(asked: Skills, skill: str, replicate: int) -> list[str]:
    """The prompts that a skill is learnt by."""
    if skill in asked.prompt_files:
        texts = read_prompts(Path(asked.prompt_files[skill]))
        order = sorted(range(len(texts)), key=lambda i: seed_of("lessons", asked.seed, replicate, texts[i]))
        return [texts[i] for i in order[: asked.prompts]]
    return [prompt.text for prompt, _ in _lab_lessons(asked, skill, replicate)]


def drawings(asked: Skills, skill: str, replicate: int) -> np.ndarray:
    """For the control that learns from the truth: uint8 [n, 32, 32, 3] drawings of the lab's lessons."""
    return draw_all([scene for _, scene in _lab_lessons(asked, skill, replicate)])


def _lab_lessons(asked: Skills, skill: str, replicate: int) -> list[tuple[Prompt, Scene]]:
    """Prompts whose content training may show, each once and none that is tested, and scenes that fulfil them."""
    known = {text.casefold() for text in questions_of(asked, skill)}
    found: list[tuple[Prompt, Scene]] = []
    for prompt, scene in islice(shown(skill, 0, seed=seed_of("lessons", asked.seed, replicate)), MOST_LOOKED * asked.prompts):
        if prompt.text.casefold() not in known:
            known.add(prompt.text.casefold())
            found.append((prompt, scene))
        if len(found) == asked.prompts:
            return found
    raise DataError(f"The lab has {len(found)} different prompts of {skill}, not {asked.prompts}.", fix=f"give prompts = {len(found)}")


def questions_of(asked: Skills, skill: str) -> list[str]:
    """The prompts that every model is measured by: the same in every replicate, each once."""
    if skill in asked.tested_files:
        found = list(dict.fromkeys(read_prompts(Path(asked.tested_files[skill]))))
    else:
        drawn = pairs(skill, MOST_LOOKED * asked.tested, seed=seed_of("tested", asked.seed) % 2**31)
        found = list(dict.fromkeys(prompt.text for prompt, _ in drawn))
    if len(found) < asked.tested:
        raise DataError(f"There are {len(found)} different prompts to test {skill} by, not {asked.tested}.", fix=f"give tested = {len(found)}")
    return found[: asked.tested]


def _how(asked: Skills) -> Any:
    from mitate.generators.pipelines import How

    return How(steps=asked.sample_steps, guidance=asked.guidance)
