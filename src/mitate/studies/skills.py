"""The study of skills: does a model that learns from its own chosen pictures do better at what it is asked, and does merging experts beat one for all?

plan = plan_skills(Skills(skills=("counting", "relation")))
run  = run_skills(plan, Path("runs/skills"))          the same call resumes

Of each skill: prompts, pictures of them, a judge's choice, an expert. Then merges of the experts, and what they must be compared with, all measured by the
same prompts, from the same seeds, which nothing was learnt by (SELMA, Li et al. 2024, arXiv 2403.06952; docs/skills.md).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mitate.adapted import captioned_parts
from mitate.codec import encode_png
from mitate.curation.choosing import chosen, variety
from mitate.curation.judges import judge_of
from mitate.engine import Engine
from mitate.errors import DataError
from mitate.features.extractor import extractor
from mitate.fitted import fit_question
from mitate.generators.learnt import LORA, Learnt
from mitate.generators.lora import expert_on
from mitate.generators.merging import METHODS, Summed, interference, merge
from mitate.generators.pipelines import How, lend
from mitate.generators.updates import Updates
from mitate.images import from_arrays
from mitate.painted import jobs_of
from mitate.progress import Line
from mitate.runtime import machine, seed_of
from mitate.store import Entry, Store, disk_errors, write_json
from mitate.studies.evidence import write_jobs
from mitate.studies.pilot import check_place
from mitate.studies.skills_answer import answer
from mitate.studies.skills_planning import SECONDS, SkillsPlan, drawings, lessons, questions_of
from mitate.study import Job, Run
from mitate.verbs import keep_images

PICTURES = 64  # of a job
BEST_OF = 4
SHOWN = 12  # pictures of each model and skill that are kept for people


@dataclass(frozen=True, eq=False)
class Lesson:
    """What an expert learns from: pictures uint8 [n, h, w, 3], each with its sentence. own: whether the model painted them itself."""

    x: np.ndarray
    sentences: tuple[str, ...]
    own: bool = True


@dataclass(frozen=True, eq=False)
class Model:
    """Something that is measured: a LoRA or none, a guidance (0: the plan's), and how many pictures of a prompt the chooser may choose from."""

    updates: Updates | None = None
    guidance: float = 0.0
    best_of: int = 1


@dataclass(eq=False)
class State:
    """What was found so far. right and score: model -> skill -> replicate -> by prompt."""

    right: dict[str, dict[str, list[list[bool]]]] = field(default_factory=dict)
    score: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    yields: list[dict[str, Any]] = field(default_factory=list)
    clashes: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # of work by what it was for
    entries: dict[Job, Entry] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)


def run_skills(plan: SkillsPlan, folder: Path, *, workers: int | None = None, store: Store | None = None, command: str = "") -> Run:
    """Run a planned study of skills into `folder`; the same call again resumes, and one that is finished is returned at once."""
    check_place(folder)
    run = Run(folder)
    if (folder / "study.json").is_file() and run.study.digest != plan.study.digest:
        raise DataError(f"{folder} holds another study of skills.", fix="give another folder with --out, or the settings of that one")
    if run.finished:
        return run
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "study.json", plan.study)
        write_json(folder / "machine.json", {**machine(), "command": command})
        started = time.monotonic()
        with Engine(store or Store.find(), workers=workers) as engine:
            state = _Study(plan, engine, folder).run()
        found = answer(plan.study, state.right, state.score, state.yields, state.clashes, state.seconds)
        found["cost"]["wall_seconds"] = round(time.monotonic() - started, 1)
        write_jobs(state, folder)
        write_json(run.answer_file, found)
    return run


class _Study:
    def __init__(self, plan: SkillsPlan, engine: Engine, folder: Path) -> None:
        self.plan, self.asked, self.engine, self.folder = plan, plan.asked, engine, folder
        self.pipeline, self.store = plan.pipeline, engine.store
        self.chooser, self.judge = judge_of(plan.asked.chooser), judge_of(plan.asked.judge)
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
            whole[skill] = self.painted(skill, replicate)
            kept[skill] = self.choose(skill, whole[skill], replicate)
        todo: dict[str, tuple[Lesson, dict[str, Any]]] = {f"expert:{skill}": (kept[skill], {}) for skill in self.asked.skills}
        if "unfiltered" in wanted:
            todo |= {f"unfiltered:{skill}": (whole[skill], {}) for skill in self.asked.skills}
        if "truth" in wanted:
            todo |= {f"truth:{skill}": (self.truth(skill, replicate), {}) for skill in self.asked.skills}
        n = len(self.asked.skills)
        pooled = Lesson(np.concatenate([kept[s].x for s in self.asked.skills]), tuple(t for s in self.asked.skills for t in kept[s].sentences))
        if "pooled" in wanted:  # as many steps as all experts together, the rank of one
            todo["pooled"] = (pooled, {"steps": n * self.asked.steps})
        if "pooled-rank" in wanted:  # and the rank, and the stored numbers, of the exact merge
            todo["pooled-rank"] = (pooled, {"steps": n * self.asked.steps, "rank": n * self.asked.rank})
        jobs = {name: self.expert(name, lesson, replicate, **more) for name, (lesson, more) in todo.items()}
        found = self.engine.run(jobs.values(), done=self.done)
        experts = {name: replace(Updates.read(found[job].path(LORA)), base=self.pipeline.digest) for name, job in jobs.items()}
        if n > 1:
            mine = {skill: experts[f"expert:{skill}"] for skill in self.asked.skills}
            found_clash = interference(mine)
            told = {"norms": dict(zip(self.asked.skills, found_clash.whole.norms, strict=True)), "cosine": found_clash.whole.cosine}
            self.state.clashes.append({"replicate": replicate, **told, "conflict": found_clash.whole.conflict, "cancelled": found_clash.whole.cancelled})
            experts |= {f"merge:{name}": merge(mine, METHODS[name]()).updates for name in self.asked.merges}
            experts["naive"] = merge(mine, Summed()).updates
            experts["released"] = experts["naive"].scaled(1 / len(self.asked.model))  # by the length of its name, as the released script has it
        if "sequential" in wanted:
            experts |= {name: self.in_turn(kept, order, replicate) for name, order in orders(self.asked.skills).items()}
        return experts

    def in_turn(self, kept: Mapping[str, Lesson], order: Sequence[str], replicate: int) -> Updates:
        """One LoRA that learns skill after skill."""
        base = ""
        for skill in order:
            job = self.expert(f"in turn, {' '.join(order)}: {skill}", kept[skill], replicate, base=base)
            base = self.engine.run([job], done=self.done)[job].digest
        return replace(Updates.read(self.store.there(base).path(LORA)), base=self.pipeline.digest)

    def painted(self, skill: str, replicate: int) -> Lesson:
        texts = [text for text in lessons(self.asked, skill, replicate) for _ in range(self.asked.images)]
        x = self.paint(texts, Model(), ("lesson", skill, replicate))
        return Lesson(x, tuple(texts))

    def choose(self, skill: str, lesson: Lesson, replicate: int) -> Lesson:
        """What the chooser keeps, and a line of how much that is and what it does to variety."""
        verdicts = self.chooser.look(lesson.x, lesson.sentences)
        kept = chosen(verdicts, lesson.sentences, self.asked.keep)
        if kept.sum() < 2:
            message = f"{int(kept.sum())} of {len(kept)} pictures of {skill} were kept."
            raise DataError(message, fix="keep best:0.3, ask for more prompts, or leave the skill out")
        after, chance = variety(_features(lesson.x), kept, seed=seed_of("variety", replicate))
        row = {"replicate": replicate, "skill": skill, "painted": len(kept), "kept": int(kept.sum()), "sentences": len({*np.array(lesson.sentences)[kept]})}
        self.state.yields.append({**row, "vendi": round(after, 2), "vendi_by_chance": round(chance, 2)})
        return Lesson(lesson.x[kept], tuple(t for t, keep in zip(lesson.sentences, kept, strict=True) if keep))

    def truth(self, skill: str, replicate: int) -> Lesson:
        return Lesson(drawings(self.asked, skill, replicate), tuple(lessons(self.asked, skill, replicate)), own=False)

    def expert(self, name: str, lesson: Lesson, replicate: int, **more: Any) -> Job:
        """The job of one expert."""
        asked = self.asked
        whole = from_arrays(lesson.x, np.zeros(len(lesson.x), np.int64), classes=("all",), name=name)
        parts = captioned_parts(replace(whole, captions=lesson.sentences), seed=seed_of("parts", asked.seed, replicate))
        settings = {"steps": asked.steps, "batch": asked.batch, "rate": asked.rate, "rank": asked.rank, "dropout": asked.dropout, **more}
        kind = expert_on(asked.model, self.pipeline.place, sentences=parts["train"].classes, **settings)
        digests = {role: keep_images(self.store, part, size=self.pipeline.size, channels=3) for role, part in parts.items()}
        question = fit_question(kind, digests, seed=seed_of("expert", asked.seed, replicate) % 2**31)
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
            x = self.paint([t for t in texts for _ in range(model.best_of)], model, ("tested", skill, replicate))
            if model.best_of > 1:
                repeated = [t for t in texts for _ in range(model.best_of)]
                found = self.chooser.look(x, repeated).score.reshape(len(texts), model.best_of)
                x = x.reshape(len(texts), model.best_of, *x.shape[1:])[np.arange(len(texts)), found.argmax(1)]
            verdicts = self.judge.look(x, texts)
            right = verdicts.right if verdicts.right is not None else np.zeros(len(texts), bool)
            self.state.right.setdefault(name, {}).setdefault(skill, []).append([bool(v) for v in right])
            self.state.score.setdefault(name, {}).setdefault(skill, []).append([float(v) for v in verdicts.score])
            if replicate == 0:
                self.show(x[:SHOWN], f"{name}-{skill}".replace(":", "-"))

    def paint(self, texts: Sequence[str], model: Model, where: tuple[Any, ...]) -> np.ndarray:
        """uint8 [n, h, w, 3]; picture i has a seed by place and number alone, so that models are compared from the same noise."""
        seeds = [seed_of("skills", self.asked.seed, *where, i) for i in range(len(texts))]
        how = replace(self.how, guidance=model.guidance) if model.guidance else self.how
        learnt = None
        if model.updates is not None:
            file = self.folder / "models" / f"{model.updates.digest[:16]}.safetensors"
            if not file.exists():
                model.updates.write(file.with_suffix(".tmp"))
                file.with_suffix(".tmp").rename(file)
            learnt = Learnt(lora=file)
        parts = jobs_of(self.pipeline, texts, seeds, how, learnt, self.store, size=PICTURES)
        jobs = [replace(job, name=f"{'/'.join(map(str, where))}/{job.name}", estimate=SECONDS["paint"] * len(job.settings["rows"])) for job in parts]
        found = self.engine.run(jobs, done=self.done)
        return np.concatenate([np.load(found[job].path("x.npy"), allow_pickle=False) for job in jobs])

    def done(self, job: Job, entry: Entry, reused: bool) -> None:
        if job not in self.state.entries:
            self.state.entries[job] = entry
            self.state.reused |= {entry.digest} if reused else set()
            self.state.seconds[job.verb] = self.state.seconds.get(job.verb, 0.0) + float(entry.result.get("seconds", 0.0))
            self.line.advance(job.estimate, job.name)

    def show(self, x: np.ndarray, name: str) -> None:
        place = self.folder / "samples" / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        row = np.concatenate([np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=255) for image in x], axis=1)
        place.write_bytes(encode_png(row, description="synthetic images"))


def orders(skills: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The orders in which the control `sequential` learns."""
    return {"sequential": tuple(skills), "sequential:reversed": tuple(reversed(skills))}


def _features(x: np.ndarray) -> np.ndarray:
    """Rows of numbers of pictures, by the extractor that comes with mitate."""
    return extractor().both(x).late
