"""The plan of a study of skills: what is asked, and every integer of it, fixed before anything is painted.

    skills = ["counting", "relation"]      model = "lab"      prompts = 300      keep = "right"      merges = ["mean", "ties"]

Prompts come from the lab's grammar, for skills that it knows, or from files: `[prompt_files] counting = "counting.jsonl"` to learn by and
`[tested_files] counting = "counting-test.jsonl"` to measure by, a prompt a line or as `mitate prompts` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mitate import __version__
from mitate.curation.choosing import Rule
from mitate.curation.dependency import Question, beside, read_questions
from mitate.curation.judges import judge_of, tells
from mitate.curation.verdicts import Judge
from mitate.errors import DataError, SettingError
from mitate.generators.merging import METHODS
from mitate.generators.pipelines import Pipeline, open_pipeline
from mitate.generators.searching import LEAST
from mitate.generators.text_to_image import placed
from mitate.judged import SECONDS as JUDGING
from mitate.lab.captions import Prompt
from mitate.lab.drawing import draw_all
from mitate.lab.skills import SKILLS, pairs
from mitate.lab.world import WITHHELD, Scene
from mitate.prompts.grammar import shown
from mitate.prompts.pool import read_prompts
from mitate.runtime import seed_of
from mitate.settings import QUIET, digest, plain, suggest
from mitate.study import Study

SEARCHED = "searched"  # of merges: the mean by weights that were searched (skills_search.py)
CONTROLS = ("guidance", "unfiltered", "by-chance", "pooled", "pooled-rank", "pooled-weaker", "naive", "released", "sequential", "truth", "best-of")
USUAL = ("by-chance", "pooled", "pooled-rank", "naive", "truth")
OF_MANY = ("pooled", "pooled-rank", "pooled-weaker", "naive", "released", "sequential")  # controls that need more than one skill
BEST_OF = 4
MOST_PROMPTS = 10_000  # of a skill
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
    text_encoder: bool = field(default=False, metadata=QUIET)  # whether experts change the text encoders too
    searched: int = field(default=40, metadata=QUIET)  # prompts of each skill that the weights of the merge `searched` are searched by
    budget: int = field(default=12, metadata=QUIET)  # merges that this search tries, at most
    prompt_files: Mapping[str, str] = field(default_factory=dict)
    tested_files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, given, known in (("merge", self.merges, (*METHODS, SEARCHED)), ("control", self.controls, CONTROLS)):
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
        if (most := max(self.prompts, self.tested)) > MOST_PROMPTS:
            raise SettingError(f"{most:,} prompts of a skill are too many to be told apart.", fix=f"give at most {MOST_PROMPTS:,}")
        if self.tested < 2:
            raise SettingError("One prompt has no interval.", fix="give tested = 100 or more")
        if wrong := [s for s in self.skills if not re.fullmatch(r"\w[\w-]*", s)]:
            raise SettingError(f"The skill {wrong[0]!r} cannot be the name of a file.", fix="call it by letters, digits and -")
        if wrong := [s for s in self.skills if s not in self.prompt_files and set(SKILLS[s].world.only) & set(WITHHELD)]:
            raise SettingError(f"All that {wrong[0]} asks for is left out of training: there is nothing to learn it by.", fix="leave it out")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"A dropout of {self.dropout:g} cannot be.", fix="give a share from 0 to below 1")
        if self.searched < 1 or self.budget < LEAST:
            raise SettingError(f"{self.searched} prompts and {self.budget} merges are no search.", fix="give searched = 40 and budget = 12, or more")
        rule = Rule.read(self.keep)
        if rule.kind == "right" and not tells(self.chooser):
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
    chooser, judge = judges_of(asked)
    tests = {skill: questions_of(asked, skill) for skill in asked.skills}
    taught = {r: {skill: lessons(asked, skill, r) for skill in asked.skills} for r in range(asked.replicates)}
    sought = {r: search_prompts(asked, r) for r in range(asked.replicates)} if searches(asked) else {}
    every = list(dict.fromkeys(text for part in (taught, sought) for texts in part.values() for some in texts.values() for text in some))
    asked_of = [text for some in tests.values() for text in some]
    pipeline.check([*every, *asked_of], pipeline.settled(_how(asked)))
    if both := sorted({text.casefold() for text in every} & {text.casefold() for text in asked_of}):
        raise DataError(f"{len(both)} prompts are learnt by and tested, like {both[0][:60]!r}.", fix="keep the files apart, those of other skills, too")
    chooser.check([*every, *(asked_of if "best-of" in asked.controls else [])])
    judge.check(asked_of)
    models = models_of(asked)
    per_lesson, measured = sum(len(some) for some in taught[0].values()), sum(len(some) for some in tests.values())
    images = asked.replicates * (asked.images * per_lesson + measured * sum(BEST_OF if m == "best-of" else 1 for m in models))
    alone = 1 + sum(c in asked.controls for c in ("unfiltered", "by-chance", "truth"))
    together = sum(c in asked.controls for c in ("pooled", "pooled-rank")) + 2 * ("sequential" in asked.controls) if len(asked.skills) > 1 else 0
    learning = asked.replicates * asked.steps * len(asked.skills) * (alone + together)
    trials = asked.replicates * asked.budget * sum(len(some) for some in sought[0].values()) if sought else 0
    judged = {asked.chooser: asked.replicates * asked.images * per_lesson + trials, asked.judge: asked.replicates * measured * len(models)}
    total = (images + trials) * SECONDS["paint"] + learning * SECONDS["learn"] * asked.batch / 16
    total += sum(n * JUDGING[name.partition(":")[0]] for name, n in judged.items())
    plan: dict[str, Any] = {k: v for k, v in plain(asked).items() if k not in ("prompt_files", "tested_files")} | {"model": placed(asked.model)}
    data = {
        "model": {"name": placed(asked.model), "digest": pipeline.digest}, "judges": {one.name: one.digest for one in (judge, chooser)},
        "findings": _findings(asked), "version": __version__,
        "prompts": {str(r): {skill: digest("mitate.prompts", some) for skill, some in texts.items()} for r, texts in taught.items()},
        "tested": {skill: digest("mitate.prompts", some) for skill, some in tests.items()},
        **({"questions": digest("mitate.questions", known)} if (known := questions_known(asked)) else {}),
        **({"searched": {str(r): {s: digest("mitate.prompts", some) for s, some in texts.items()} for r, texts in sought.items()}} if sought else {}),
    }  # fmt: skip
    sizes = {"models": models, "taught": {skill: len(some) for skill, some in taught[0].items()}, "tested": {skill: len(some) for skill, some in tests.items()}}
    gates: tuple[dict[str, str], ...] = ({"name": "held-out prompts", "rule": "no prompt that any skill is learnt by in any replicate is tested"},)
    if sought:
        gates += ({"name": "prompts to search by", "rule": "no prompt that weights are searched by is learnt by in its replicate, or tested"},)
    study = Study("skills", plan, data, sizes, gates, {}, {"images": float(images + trials), "steps": float(learning), "total": float(total)})
    return SkillsPlan(asked, study, pipeline)


def _findings(asked: Skills) -> list[dict[str, str]]:
    """What the user should know before it runs."""
    found = []
    if len(asked.skills) == 1 and (dropped := [c for c in asked.controls if c in OF_MANY]):
        found.append({"severity": "note", "message": f"With one skill there is nothing to merge or pool: {', '.join(dropped)} and merges are left out."})
    if SEARCHED in asked.merges and searches(asked):
        what = f"{asked.searched} prompts of each skill that are neither learnt by nor tested, judged by {asked.chooser}"
        found.append({"severity": "note", "message": f"The weights of merge:{SEARCHED} are searched on {what}, {asked.budget} merges at most."})
    if asked.chooser == asked.judge != "oracle":
        message = f"{asked.chooser} chooses the pictures and measures what was learnt from them: it will agree with itself."
        found.append({"severity": "warning", "message": message})
    return found


def judges_of(asked: Skills) -> tuple[Judge, Judge]:
    """The chooser and the judge, each with the questions that lie beside files of prompts."""
    known = questions_known(asked)
    return judge_of(asked.chooser, known), judge_of(asked.judge, known)


def questions_known(asked: Skills) -> dict[str, tuple[Question, ...]]:
    """Prompt -> its questions, where a judge asks any and files of prompts have them beside. DataError where two files have others for one prompt."""
    found: dict[str, tuple[Question, ...]] = {}
    if any(name.startswith("vqa:") for name in (asked.chooser, asked.judge)):
        for file in [*asked.prompt_files.values(), *asked.tested_files.values()]:
            if (path := beside(Path(file))).is_file():
                for text, some in read_questions(path).items():
                    if found.setdefault(text, some) != some:
                        raise DataError(f"{path} has other questions for {text[:60]!r} than another file.", fix="give the prompt the same questions everywhere")
    return found


def searches(asked: Skills) -> bool:
    """Whether weights of a merge are searched."""
    return SEARCHED in asked.merges and len(asked.skills) > 1


def search_prompts(asked: Skills, replicate: int) -> dict[str, list[str]]:
    """The prompts that weights are searched by: of what may be learnt by, those that no skill of the replicate learns by, and none that is tested."""
    known = {text.casefold() for skill in asked.skills for text in (*lessons(asked, skill, replicate), *questions_of(asked, skill))}
    found: dict[str, list[str]] = {}
    for skill in asked.skills:
        mine: list[str] = []
        for text in _in_order(asked, skill, replicate):
            if text.casefold() not in known and len(mine) < asked.searched:
                known.add(text.casefold())
                mine.append(text)
        if len(mine) < asked.searched:
            fix = f"give searched = {len(mine)}, or fewer prompts to learn by" if mine else "give fewer prompts to learn by, or a longer file"
            raise DataError(f"{len(mine)} prompts of {skill} are left to search weights by, not {asked.searched}.", fix=fix)
        found[skill] = mine
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
        return list(_in_order(asked, skill, replicate))[: asked.prompts]
    return [prompt.text for prompt, _ in _lab_lessons(asked, skill, replicate)]


def _in_order(asked: Skills, skill: str, replicate: int) -> Iterator[str]:
    """The prompts of what may be learnt by, in the order in which a replicate takes them: a file's, or some of the lab's endless ones."""
    if skill in asked.prompt_files:
        texts = read_prompts(Path(asked.prompt_files[skill]))
        return iter(sorted(texts, key=lambda text: seed_of("lessons", asked.seed, replicate, text)))
    found = shown(skill, 0, seed=seed_of("lessons", asked.seed, replicate))
    return (prompt.text for prompt, _ in islice(found, MOST_LOOKED * (asked.prompts + asked.searched)))


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
