"""The study of skills: does a model that learns from its own chosen pictures do better at what it is asked, and does merging experts beat one for all?

plan = plan_skills(Skills(skills=("counting", "relation")))
run  = run_skills(plan, Path("runs/skills"))          the same call resumes

Of each skill: prompts, pictures of them, a judge's choice, an expert. Then merges of the experts, and what they must be compared with, all measured by the
same prompts, from the same seeds, which nothing was learnt by (SELMA, Li et al. 2024, arXiv 2403.06952; docs/skills.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mitate.adapted import captioned_parts
from mitate.codec import encode_png
from mitate.curation.choosing import chosen, reason, variety
from mitate.curation.verdicts import Judge, Verdicts
from mitate.engine import Engine, Workers
from mitate.errors import DataError
from mitate.features.extractor import extractor
from mitate.files import disk_errors, locked, write_json, write_text
from mitate.fitted import fit_question
from mitate.generators.expert import expert_on
from mitate.generators.interference import interference
from mitate.generators.learnt import LORA, Learnt
from mitate.generators.merging import METHODS, Merge, Summed, merge
from mitate.generators.pipelines import How, lend
from mitate.generators.updates import Updates
from mitate.images import from_arrays
from mitate.judged import judging, verdicts
from mitate.painted import COPIES, OVERHEAD, jobs_of
from mitate.progress import Line
from mitate.runtime import cores, free_memory, machine, seed_of
from mitate.settings import plain
from mitate.store import Entry, Store
from mitate.studies.evidence import Ending, write_jobs
from mitate.studies.pilot import check_place
from mitate.studies.skills_answer import answer
from mitate.studies.skills_planning import BEST_OF, SEARCHED, SECONDS, SkillsPlan, drawings, judges_of, lessons, questions_of, search_prompts
from mitate.studies.skills_search import searched, told
from mitate.study import Job, Run
from mitate.verbs import keep_images

PICTURES = 64  # of a job
RELEASED = 1 / 30  # the weight of each expert in the released script: one over the length of its model's name (papers: 29, 30 and 40)
SHOWN = 12  # pictures of each model and skill that are kept for people


@dataclass(frozen=True, eq=False)
class Lesson:
    """What an expert learns from: pictures uint8 [n, h, w, 3], each with its sentence."""

    x: np.ndarray
    sentences: tuple[str, ...]

    def rows(self, some: Sequence[int] | np.ndarray) -> Lesson:
        return Lesson(self.x[some], tuple(self.sentences[int(i)] for i in some))


@dataclass(frozen=True, eq=False)
class Painted:
    """Pictures uint8 [n, h, w, 3], the sentence of each, and the jobs that painted them."""

    x: np.ndarray
    sentences: tuple[str, ...]
    jobs: tuple[Job, ...]

    @property
    def lesson(self) -> Lesson:
        return Lesson(self.x, self.sentences)


@dataclass(frozen=True, eq=False)
class Model:
    """Something that is measured: a LoRA or none, a guidance (0: the plan's), and how many pictures of a prompt the chooser may choose from."""

    updates: Updates | None = None
    guidance: float = 0.0
    best_of: int = 1


@dataclass(eq=False)
class State:
    """What was found so far. right and score: model -> skill -> replicate -> by prompt; micro: the share of yes over all questions of a replicate."""

    right: dict[str, dict[str, list[list[bool]]]] = field(default_factory=dict)
    score: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    micro: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    yields: list[dict[str, Any]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    clashes: list[dict[str, Any]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)  # of weights
    trained: list[dict[str, Any]] = field(default_factory=list)  # of every LoRA that was learnt: steps, the one kept, numbers, file
    entries: dict[Job, Entry] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)


def run_skills(plan: SkillsPlan, folder: Path, *, workers: Workers = None, store: Store | None = None, command: str = "") -> Run:
    """Run a planned study of skills into `folder`; the same call again resumes, and one that is finished is returned at once."""
    check_place(folder)
    run = Run(folder)
    if (folder / "study.json").is_file() and run.study.digest != plan.study.digest:
        raise DataError(f"{folder} holds another study of skills: {_difference(run, plan)}.", fix="give another folder with --out, or its settings")
    if run.finished:
        return run
    with disk_errors(folder), locked(folder / ".lock"):
        if run.finished:
            return run
        write_json(folder / "study.json", plan.study)
        write_json(folder / "machine.json", {**machine(), "command": command})
        started = time.monotonic()
        with Engine(store or Store.find(), workers=_workers(plan) if workers is None else workers) as engine:
            state = _Study(plan, engine, folder).run()
        seconds = write_jobs(state, folder)
        write_text(folder / "choices.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in state.choices))
        found = answer(plan.study, state.right, state.score, state.micro)
        found |= {"yields": state.yields, "interference": state.clashes, "searches": state.searches, "trained": state.trained}
        reused = sum(float(e.result.get("seconds", 0)) for e in {e.digest: e for e in state.entries.values()}.values() if e.digest in state.reused)
        found["cost"] = {
            "seconds": {verb: round(v, 1) for verb, v in sorted(seconds.items())}, "machine_seconds": round(sum(seconds.values()), 1),
            "reused_seconds": round(reused, 1), "wall_seconds": round(time.monotonic() - started, 1),
        }  # fmt: skip
        write_json(run.answer_file, found)
    return run


def _difference(run: Run, plan: SkillsPlan) -> str:
    """What tells the study in a folder from the one that was asked for: its first setting that differs."""
    for there, here in ((run.study.plan, plain(plan.study.plan)), (run.study.data, plain(plan.study.data))):
        for key, value in there.items():
            if here.get(key) != value:
                return f"its {key} is {str(value)[:60]}, not {str(here.get(key))[:60]}"
    return "another version made it"


def _workers(plan: SkillsPlan) -> int:
    """As many processes as have memory for the model and the judges, one a core at most."""
    judging = sum({judge.name: judge.bytes for judge in judges_of(plan.asked)}.values())
    needed = COPIES * plan.pipeline.bytes + 2 * judging + OVERHEAD
    return max(1, min(cores(), free_memory() // needed)) if plan.pipeline.place.device == "cpu" else 0


class _Study:
    def __init__(self, plan: SkillsPlan, engine: Engine, folder: Path) -> None:
        self.plan, self.asked, self.engine, self.folder = plan, plan.asked, engine, folder
        self.pipeline, self.store = plan.pipeline, engine.store
        self.chooser, self.judge = judges_of(plan.asked)
        self.ending, self.seen = Ending(folder), set[str]()
        self.how = How(steps=plan.asked.sample_steps, guidance=plan.asked.guidance)
        self.line = Line(plan.study.estimates["total"], title="skills")
        self.state = State()
        if engine.workers == 0:
            lend(str(self.pipeline.folder.resolve()), self.pipeline)

    def run(self) -> State:
        for replicate in range(self.asked.replicates):
            learnt = self.learn(replicate)
            for name in self.plan.study.sizes["models"]:
                self.measure(name, self.model(name, learnt, replicate), replicate)
        self.line.close()
        return self.state

    # learning ---------------------------------------------------------------------------------------------------------

    def learn(self, replicate: int) -> dict[str, Updates]:
        """Every expert of a replicate, by the name of its model."""
        wanted = {name.partition(":")[0] for name in self.plan.study.sizes["models"]}
        kept: dict[str, Lesson] = {}
        whole: dict[str, Lesson] = {}
        for skill in self.asked.skills:
            painted = self.lesson(skill, replicate)
            whole[skill], kept[skill] = painted.lesson, self.choose(skill, painted, replicate)
        todo: dict[str, tuple[Lesson, dict[str, Any]]] = {f"expert:{skill}": (kept[skill], {}) for skill in self.asked.skills}
        if "unfiltered" in wanted:
            todo |= {f"unfiltered:{skill}": (whole[skill], {}) for skill in self.asked.skills}
        if "by-chance" in wanted:  # as many pictures as were chosen
            todo |= {f"by-chance:{skill}": (self.by_chance(skill, whole[skill], len(kept[skill].x), replicate), {}) for skill in self.asked.skills}
        if "truth" in wanted:
            todo |= {f"truth:{skill}": (self.truth(skill, replicate), {}) for skill in self.asked.skills}
        n = len(self.asked.skills)
        most = max(len(lesson.x) for lesson in kept.values())
        even = [lesson.rows(np.arange(most) % len(lesson.x)) for lesson in kept.values()]  # each skill as often as any other, as experts have equal steps
        pooled = Lesson(np.concatenate([lesson.x for lesson in even]), tuple(text for lesson in even for text in lesson.sentences))
        if "pooled" in wanted:  # as many steps as all experts together, the rank of one
            todo["pooled"] = (pooled, {"steps": n * self.asked.steps})
        if "pooled-rank" in wanted:  # and the rank, and the stored numbers, of the exact merge
            todo["pooled-rank"] = (pooled, {"steps": n * self.asked.steps, "rank": n * self.asked.rank})
        jobs = {name: self.expert(name, lesson, replicate, **more) for name, (lesson, more) in todo.items()}
        found = self.engine.run(jobs.values(), done=self.done)
        experts = {name: replace(Updates.read(found[job].path(LORA)), base=self.pipeline.digest) for name, job in jobs.items()}
        for name, job in jobs.items():
            facts = found[job].result
            self.state.trained.append({
                "replicate": replicate, "model": name, "pictures": len(todo[name][0].x), "sentences": len({*todo[name][0].sentences}), "steps": facts["steps"],
                "best_step": facts["best_step"], "selection": [curve for curve in facts["curve"]], "parameters": facts["parameters"],
            })  # fmt: skip
        if n > 1:
            mine = {skill: experts[f"expert:{skill}"] for skill in self.asked.skills}
            found_clash = interference(mine)
            merged = {f"merge:{name}": merge(mine, METHODS[name]()) if name != SEARCHED else self.search(mine, replicate) for name in self.asked.merges}
            self.state.clashes.append({
                "replicate": replicate, "norms": dict(zip(self.asked.skills, found_clash.whole.norms, strict=True)), "cosine": found_clash.whole.cosine,
                "conflict": found_clash.whole.conflict, "cancelled": found_clash.whole.cancelled, "kept": {name: one.kept for name, one in merged.items()},
            })  # fmt: skip
            experts |= {name: one.updates for name, one in merged.items()}
            experts["naive"] = merge(mine, Summed()).updates
            experts["released"] = experts["naive"].scaled(RELEASED)
        if "sequential" in wanted:
            experts |= {name: self.in_turn(kept, order, replicate) for name, order in orders(self.asked.skills).items()}
        return experts

    def by_chance(self, skill: str, lesson: Lesson, n: int, replicate: int) -> Lesson:
        """n pictures of a lesson; fewer are part of more."""
        chance = np.random.default_rng(seed_of("by chance", self.asked.seed, skill, replicate))
        return lesson.rows(np.sort(chance.permutation(len(lesson.x))[:n]))

    def in_turn(self, kept: Mapping[str, Lesson], order: Sequence[str], replicate: int) -> Updates:
        """One LoRA that learns skill after skill."""
        base = ""
        for skill in order:
            job = self.expert(f"in turn, {' '.join(order)}: {skill}", kept[skill], replicate, base=base)
            base = self.engine.run([job], done=self.done)[job].digest
        return replace(Updates.read(self.store.there(base).path(LORA)), base=self.pipeline.digest)

    def search(self, experts: Mapping[str, Updates], replicate: int) -> Merge:
        """The mean of the experts by weights that are searched on prompts held out, and a record of the search."""
        prompts = search_prompts(self.asked, replicate)

        def look(updates: Updates) -> dict[str, Verdicts]:
            found = {skill: self.paint(texts, Model(updates), ("search", skill, replicate), name="search") for skill, texts in prompts.items()}
            return {skill: self.look(self.chooser, painted) for skill, painted in found.items()}

        made, found = searched(experts, look, budget=self.asked.budget)
        self.state.searches.append(told(found, self.asked.skills, replicate=replicate, prompts=self.asked.searched, judge=self.asked.chooser))
        (self.folder / "models" / f"search-r{replicate}.safetensors").unlink()  # the last that was tried
        return made

    def lesson(self, skill: str, replicate: int) -> Painted:
        texts = [text for text in lessons(self.asked, skill, replicate) for _ in range(self.asked.images)]
        return self.paint(texts, Model(), ("lesson", skill, replicate), copies=self.asked.images)

    def choose(self, skill: str, painted: Painted, replicate: int) -> Lesson:
        """What the chooser keeps, and a line of how much that is and what it does to variety."""
        lesson, seen = painted.lesson, self.look(self.chooser, painted)
        kept = chosen(seen, lesson.sentences, self.asked.keep)
        if kept.sum() < 2:
            message = f"{int(kept.sum())} of {len(kept)} pictures of {skill} were kept."
            raise DataError(message, fix="keep best:0.3, ask for more prompts, or leave the skill out")
        for i, keep in enumerate(kept):
            why = {} if keep else {"reason": reason(seen, i, self.asked.keep, self.asked.chooser)}
            row = {
                "replicate": replicate,
                "skill": skill,
                "sentence": lesson.sentences[i],
                "score": round(float(seen.score[i]), 6),
                "kept": bool(keep),
                **why,
            }
            self.state.choices.append(row)
        after, chance = variety(_features(lesson.x), kept, seed=seed_of("variety", replicate))
        row = {"replicate": replicate, "skill": skill, "painted": len(kept), "kept": int(kept.sum()), "sentences": len({*np.array(lesson.sentences)[kept]})}
        self.state.yields.append({**row, "vendi": round(after, 2), "vendi_by_chance": round(chance, 2)})
        return lesson.rows(np.flatnonzero(kept))

    def truth(self, skill: str, replicate: int) -> Lesson:
        return Lesson(drawings(self.asked, skill, replicate), tuple(lessons(self.asked, skill, replicate)))

    def expert(self, name: str, lesson: Lesson, replicate: int, **more: Any) -> Job:
        """The job of one expert."""
        asked = self.asked
        whole = from_arrays(lesson.x, np.zeros(len(lesson.x), np.int64), classes=("all",), name=name)
        parts = captioned_parts(replace(whole, captions=lesson.sentences), seed=seed_of("parts", asked.seed, replicate))
        settings = {"steps": asked.steps, "batch": asked.batch, "rate": asked.rate, "rank": asked.rank, "dropout": asked.dropout, "patience": 0, **more}
        settings["text_encoder"] = asked.text_encoder
        kind = expert_on(asked.model, self.pipeline.place, sentences=parts["train"].classes, **settings)
        digests = {role: keep_images(self.store, part, size=self.pipeline.size, channels=3) for role, part in parts.items()}
        of_skill = name.partition(":")[2]  # experts begin from other factors, and the controls of one skill from the same
        question = fit_question(kind, digests, seed=seed_of("expert", asked.seed, replicate, of_skill) % 2**31)
        seconds = SECONDS["learn"] * settings["steps"] * asked.batch / 16
        return Job(f"{name}/{replicate}", question.verb, question.version, question.settings, question.inputs, seconds)

    # measuring --------------------------------------------------------------------------------------------------------

    def model(self, name: str, learnt: Mapping[str, Updates], replicate: int) -> Model:
        kind, _, what = name.partition(":")
        if name == "base":
            return Model()
        if kind == "guidance":
            own = self.pipeline.settled(self.how).guidance
            return Model(guidance=max(1.0, own / 2) if what == "half" else 2 * own)
        if name == "best-of":
            return Model(best_of=BEST_OF)
        if kind == "pooled" and what:
            return Model(learnt["pooled"].scaled(float(what)))
        return Model(learnt[name])

    def measure(self, name: str, model: Model, replicate: int) -> None:
        for skill in self.asked.skills:
            texts = questions_of(self.asked, skill)
            painted = self.paint([t for t in texts for _ in range(model.best_of)], model, ("tested", skill, replicate), copies=model.best_of, name=name)
            taken = np.arange(len(texts))
            if model.best_of > 1:
                found = self.look(self.chooser, painted).score.reshape(len(texts), model.best_of)
                taken = taken * model.best_of + found.argmax(1)
            seen = self.look(self.judge, painted, taken)
            right = seen.right if seen.right is not None else np.zeros(len(texts), bool)
            self.state.right.setdefault(name, {}).setdefault(skill, []).append([bool(v) for v in right])
            self.state.score.setdefault(name, {}).setdefault(skill, []).append([float(v) for v in seen.score])
            if seen.micro is not None:
                self.state.micro.setdefault(name, {}).setdefault(skill, []).append(seen.micro)
            if replicate == 0:
                self.show(painted.x[taken[:SHOWN]], f"{file_name(name)}-{skill}")

    def look(self, judge: Judge, painted: Painted, some: np.ndarray | None = None) -> Verdicts:
        """A judge's verdicts on pictures, or on some of them: each is judged once, whatever the run is told again."""
        jobs = judging(painted.jobs, judge, painted.sentences, some=some)
        found = self.engine.run(jobs, done=self.done)
        return verdicts([found[job] for job in jobs])

    def paint(self, texts: Sequence[str], model: Model, where: tuple[Any, ...], *, copies: int = 1, name: str = "base") -> Painted:
        """A picture of each text. A picture's seed follows from place, number of its prompt and which of its copies it is, so that models are compared from the
        same noise."""
        seeds = [seed_of("skills", self.asked.seed, *where, i // copies, i % copies) for i in range(len(texts))]
        how = replace(self.how, guidance=model.guidance) if model.guidance else self.how
        learnt = None
        if model.updates is not None:
            file = self.folder / "models" / f"{file_name(name)}-r{where[-1]}.safetensors"
            model.updates.write(file.with_suffix(".tmp"))  # anew, whatever a kill has left
            file.with_suffix(".tmp").replace(file)
            learnt = Learnt(lora=file)
        parts, called = jobs_of(self.pipeline, texts, seeds, how, learnt, self.store, size=PICTURES), "/".join(map(str, (name, *where)))
        jobs = [replace(job, name=f"{called}/{job.name}", estimate=SECONDS["paint"] * len(job.settings["rows"])) for job in parts]
        found = self.engine.run(jobs, done=self.done)
        x = np.concatenate([np.load(found[job].path("x.npy"), allow_pickle=False) for job in jobs])
        return Painted(x, tuple(texts), tuple(jobs))

    def done(self, job: Job, entry: Entry, reused: bool) -> None:
        self.ending.add(job, entry, reused=reused)
        if job not in self.state.entries:
            self.state.entries[job] = entry
            self.state.reused |= {entry.digest} if reused and entry.digest not in self.seen else set()
            self.seen.add(entry.digest)
            self.line.advance(job.estimate, job.name)

    def show(self, x: np.ndarray, name: str) -> None:
        place = self.folder / "samples" / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        row = np.concatenate([np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=255) for image in x], axis=1)
        place.write_bytes(encode_png(row, description="synthetic images"))


def file_name(model: str) -> str:
    """What the files of a model are called."""
    return model.replace(":", ".")


def orders(skills: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The orders in which the control `sequential` learns."""
    return {"sequential": tuple(skills), "sequential:reversed": tuple(reversed(skills))}


def _features(x: np.ndarray) -> np.ndarray:
    """Rows of numbers of pictures, by the extractor that comes with mitate."""
    return extractor().both(x).late
