"""The verb search: weights of a merge that do best at prompts that nothing was learnt by, under a budget of merges; kept in the store with every one tried.

found = search_weights(["counting", "relation"], DeltaMean(), prompts, judge="oracle", budget=12)
three = merge(["counting", "relation"], found.how)

Every merge paints the same prompts from the same seeds (generators/searching.py says which merges are tried). What the best scores here is too high by chance:
measure it on other prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mitate.curation.dependency import Question
from mitate.curation.judges import judge_of
from mitate.curation.verdicts import Judge
from mitate.engine import Engine, Workers
from mitate.errors import DataError, SettingError
from mitate.judged import judging, verdicts
from mitate.lab.skills import SKILLS
from mitate.merged import Given, gathered, labelled, learnt_by
from mitate.painted import jobs_of
from mitate.progress import Progress, Silent
from mitate.prompts.grammar import shown
from mitate.runtime import seed_of
from mitate.settings import digest, plain
from mitate.store import Asked, Entry, Store

if TYPE_CHECKING:
    from mitate.generators.merging import Weighing
    from mitate.generators.pipelines import Pipeline
    from mitate.generators.updates import Updates

VERSION = 1
OF_LAB = 40  # prompts of each skill, where the lab gives them
MOST_LOOKED = 20  # prompts of the lab that are looked through for each that is wanted


@dataclass(frozen=True)
class Searched:
    """A search in the store. how: the method with the weights that were found; tried: every merge's weights and score, in order; whole: it came to its end."""

    entry: Entry
    how: Weighing
    score: float
    tried: tuple[tuple[tuple[float, ...], float], ...]
    whole: bool


def search_weights(
    experts: Mapping[str, Given] | Sequence[Given], how: Weighing, prompts: Sequence[str], *, judge: str = "oracle", budget: int = 12, seed: int = 0,
    questions: Mapping[str, Sequence[Question]] | None = None, base: Pipeline | str | None = None, workers: Workers = 0, store: Store | None = None,
    progress: Progress | None = None,
) -> Searched:  # fmt: skip
    """The weights of the experts that do best at `prompts` in the eyes of a judge; found in the store when they were searched before.

    The score is the share of pictures that are wholly right, or the mean score of a judge that cannot tell. questions: of prompts, for a judge that asks.
    DataError where an expert learnt by one of the prompts, as far as it tells what it learnt by.
    """
    from mitate.generators.merging import Weighing, method_name
    from mitate.generators.pipelines import How, opened
    from mitate.generators.searching import search

    if not isinstance(how, Weighing) or how.weights:
        raise SettingError("Weights are given, or the method has none.", fix="leave out -o weights, and take mean, ties, dare, dare-ties or prune")
    if not prompts or len(set(prompts)) < len(prompts):
        raise SettingError(f"{len(prompts)} prompts to search by, of which one comes twice or none is there.", fix="give each prompt once")
    store, told, looker = store or Store.find(), progress or Silent(), judge_of(judge, questions)
    found, model, weights = gathered(experts, base, store)
    for label, one in found.items():
        learnt = {text.casefold() for text in one.sentences}
        if both := sorted(text for text in prompts if text.casefold() in learnt):
            raise DataError(f"{label} learnt by {len(both)} of the prompts, like {both[0][:60]!r}.", fix="search by prompts that nothing was learnt by")
    looker.check(prompts)
    pipeline = opened(model)
    pipeline.check(prompts, pipeline.settled(How()))
    settings = {
        "model": model, "weights": weights, "method": method_name(how), "settings": plain(how), "prompts": list(prompts), "judge": looker.digest, "seed": seed,
        "questions": digest("mitate.questions", questions or {}), "budget": budget,
    }  # fmt: skip
    asked = Asked("search", VERSION, settings, {f"expert {i}": one.digest for i, one in enumerate(found.values())})
    updates = {label: one.updates for label, one in found.items()}

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        with Engine(store, workers=workers) as engine, TemporaryDirectory(dir=folder.parent) as place:
            scorer = _Scorer(updates, how, prompts, looker, pipeline, engine, seed, Path(place), budget, told)
            result = search(scorer.score, len(updates), budget=budget)
        tried = [{"weights": list(one.weights), "score": one.score} for one in result.tried]
        return {"names": list(updates), "weights": list(result.weights), "score": result.best.score, "whole": result.whole, "tried": tried}

    facts = (entry := store.make(asked, build)).result
    tried = tuple((tuple(one["weights"]), float(one["score"])) for one in facts["tried"])
    return Searched(entry, replace(how, weights=tuple(facts["weights"])), float(facts["score"]), tried, bool(facts["whole"]))


@dataclass
class _Scorer:
    """What a merge by some weights scores."""

    experts: Mapping[str, Updates]
    how: Weighing
    prompts: Sequence[str]
    judge: Judge
    pipeline: Pipeline
    engine: Engine
    seed: int
    place: Path
    budget: int
    told: Progress
    done: int = 0

    def score(self, weights: tuple[float, ...]) -> float:
        from mitate.generators.learnt import Learnt
        from mitate.generators.merging import merge
        from mitate.generators.pipelines import PLAIN, lend

        if self.engine.workers == 0:
            lend(str(self.pipeline.folder.resolve()), self.pipeline)
        file = self.place / "merge.safetensors"
        merge(self.experts, replace(self.how, weights=weights)).updates.write(file)
        seeds = [seed_of("search", self.seed, i) for i in range(len(self.prompts))]
        jobs = judging(jobs_of(self.pipeline, self.prompts, seeds, PLAIN, Learnt(lora=file), self.engine.store), self.judge, self.prompts)
        entries = self.engine.run(jobs)
        found = verdicts([entries[job] for job in jobs])
        self.done += 1
        self.told.step(self.done, self.budget, "merges")
        return float((found.score if found.right is None else found.right).mean())


def lab_prompts(skills: Sequence[str], experts: Mapping[str, Given] | Sequence[Given], *, seed: int = 0, store: Store | None = None) -> list[str]:
    """OF_LAB prompts of each skill of the lab, of content that training may show, that no expert learnt by. skills: none, and it is those that experts are
    called after."""
    named = [label for label, _ in labelled(experts) if label in SKILLS]
    if not (wanted := list(skills) or named):
        raise SettingError("No expert is called after a skill of the lab.", fix="name the skills: --search lab:counting,relation, or give a file of prompts")
    if unknown := [skill for skill in wanted if skill not in SKILLS]:
        raise SettingError(f"The lab knows no skill {unknown[0]!r}.", fix=f"choose from {', '.join(SKILLS)}")
    known = {text.casefold() for _, given in labelled(experts) for text in learnt_by(given, store or Store.find())}
    found: list[str] = []
    for skill in wanted:
        drawn = islice(shown(skill, 0, seed=seed_of("search", seed, skill)), MOST_LOOKED * OF_LAB)
        mine = list(islice((text for text in dict.fromkeys(prompt.text for prompt, _ in drawn) if text.casefold() not in known), OF_LAB))
        known |= set(mine)
        found += mine
    return found
