"""Weights of a merge that are searched: on scores with a known best, on the command line, and in a study of skills.

Such a study judges nothing twice, and `clean` leaves its work alone while it is not finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mitate as mi
from mitate.cli import app
from mitate.cli_merge import merge as merging
from mitate.curation.judges import understood
from mitate.curation.verdicts import Verdicts
from mitate.curation.vqa import Vqa
from mitate.errors import DataError, SettingError
from mitate.generators.searching import Found, search
from mitate.generators.updates import Update, Updates
from mitate.images import from_arrays
from mitate.searched import OF_LAB, lab_prompts
from mitate.store import Store
from mitate.studies.evidence import Ending
from mitate.studies.skills import run_skills
from mitate.studies.skills_planning import Skills, lessons, plan_skills, questions_of, search_prompts
from mitate.studies.skills_search import searched
from tiny import tiny_pipeline
from tiny_experts import write_expert
from tiny_vqa import tiny_vilt

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways

# the search by itself ---------------------------------------------------------------------------------------------------------


def peak(*best: float) -> Callable[[tuple[float, ...]], float]:
    return lambda weights: -sum((a - b) ** 2 for a, b in zip(weights, best, strict=True))


@pytest.mark.parametrize("best", [(0.7, 0.3), (0.6, 0.3, 0.1), (0.0, 0.0, 1.0), (0.25, 0.5, 0.25), (0.4, 0.3, 0.2, 0.1)])
def test_a_known_best_is_found(best: tuple[float, ...]) -> None:
    found = search(peak(*best), len(best), budget=400)
    assert found.whole and len(found.tried) < 100
    assert max(abs(a - b) for a, b in zip(found.weights, best, strict=True)) < 2 / 64


@pytest.mark.parametrize("budget", [2, 5, 9, 20, 400])
def test_weights_sum_to_one_nothing_is_tried_twice_and_the_budget_holds(budget: int) -> None:
    asked: list[tuple[float, ...]] = []
    found = search(lambda w: asked.append(w) or peak(0.5, 0.4, 0.1)(w), 3, budget=budget)  # type: ignore[func-returns-value]
    assert len(asked) == len(set(asked)) == len(found.tried) <= budget
    assert all(abs(sum(w) - 1) < 1e-12 and min(w) >= 0 for w in asked) and asked[0] == (1 / 3,) * 3
    assert found.best.score == max(one.score for one in found.tried) >= found.tried[0].score and found.gain >= 0
    assert search(peak(0.5, 0.4, 0.1), 3, budget=budget) == Found(found.best, found.tried, found.whole)


def test_a_larger_budget_begins_as_a_smaller_one_and_is_never_worse() -> None:
    few, many = (search(peak(0.9, 0.05, 0.05), 3, budget=n) for n in (8, 30))
    assert many.tried[:8] == few.tried and many.best.score >= few.best.score


def test_the_mean_stays_where_weights_do_not_matter() -> None:
    assert search(lambda _: 0.5, 3, budget=50).weights == (1 / 3,) * 3


def test_a_search_of_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="no weights to search"):
        search(peak(1.0), 1, budget=9)
    with pytest.raises(SettingError, match="is no search"):
        search(peak(1.0, 0.0), 2, budget=1)


# in a study of skills ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> Skills:
    """Two skills with files of prompts, and questions beside them, for a tiny model and a tiny judge."""
    files: dict[str, dict[str, str]] = {"prompt_files": {}, "tested_files": {}}
    for skill, noun in (("one", "star"), ("two", "circle")):
        for part, colours in (("prompt_files", ("red", "blue", "green", "pink", "cyan", "gold", "grey", "teal")), ("tested_files", ("black", "white"))):
            file = tmp_path / f"{skill}-{part}.txt"
            texts = [f"a {colour} {noun}" for colour in colours]
            file.write_text("".join(text + "\n" for text in texts))
            rows = [{"id": "there", "question": f"is there a {noun} ?"}, {"id": "red", "question": f"is the {noun} red ?", "parents": ["there"]}]
            beside = tmp_path / f"{skill}-{part}.questions.jsonl"
            beside.write_text("".join(json.dumps({"prompt": text, "questions": rows}) + "\n" for text in texts))
            files[part][skill] = str(file)
    judge = f"vqa:{tiny_vilt(tmp_path / 'vilt')}"
    return Skills(
        model=str(tiny_pipeline(tmp_path / "model")), skills=("one", "two"), prompts=5, tested=2, steps=2, rank=2, batch=4, rate=0.05, keep="best:0.6",
        chooser=judge, judge=judge, merges=("mean", "searched"), controls=("best-of",), sample_steps=1, searched=2, budget=4, **files,
    )  # fmt: skip


class Counted:
    """How many pictures a judge looks at; it can be stopped after some looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks, self.pictures, self.most = 0, 0, 10**9
        look = Vqa.look

        def spy(judge: Vqa, x: np.ndarray, sentences: list[str]) -> object:
            if self.looks == self.most:
                raise KeyboardInterrupt
            self.looks, self.pictures = self.looks + 1, self.pictures + len(x)
            return look(judge, x, sentences)

        monkeypatch.setattr(Vqa, "look", spy)


def pictures_of(answer: dict[str, Any]) -> int:
    """Pictures that are judged once each: lessons, search, models, best-of by chooser and by judge. Where the mean is best, it and the search's are one."""
    same = answer["searches"][0]["weights"] == {"one": 0.5, "two": 0.5}
    return 2 * 5 + 4 * 2 * 2 + 2 * 2 * (5 - same) + 2 * 2 * 4 + 2 * 2


def test_the_best_merge_is_the_one_that_is_made() -> None:
    chance = np.random.default_rng(0)
    up, down = (torch.tensor(chance.normal(size=size)) for size in ((4, 2), (2, 3)))
    experts = {name: Updates({"unet.m": Update(up * sign, down, (4, 3))}) for name, sign in (("one", 1.0), ("two", -1.0))}
    whole = float((up @ down).norm())

    def look(merged: Updates) -> dict[str, Verdicts]:  # shares of 3/4 and 1/4 leave half of the first
        delta = merged.modules["unet.m"].delta
        wrong = abs(float(delta.norm()) / whole - 0.5)
        return {"any": Verdicts(np.array([float((delta * (up @ down)).sum() > 0) - wrong]))}

    made, found = searched(experts, look, budget=40)
    assert found.weights == (0.75, 0.25) and found.gain > 0.3
    assert torch.allclose(made.updates.modules["unet.m"].delta, 0.5 * up @ down)


def test_a_search_reads_prompts_that_nothing_else_does(asked: Skills) -> None:
    for replicate in (0, 1):
        found = search_prompts(asked, replicate)
        sought = [text for some in found.values() for text in some]
        others = [text for skill in asked.skills for text in (*lessons(asked, skill, replicate), *questions_of(asked, skill))]
        assert not set(sought) & set(others) and len(set(sought)) == 4 and all("star" in text for text in found["one"])
    with pytest.raises(DataError, match="3 prompts of one are left to search weights by, not 4"):
        plan_skills(Skills(**{**vars(asked), "searched": 4}))
    lab = Skills(skills=("single", "place"), merges=("searched",), prompts=20, tested=5, searched=6)
    found = search_prompts(lab, 0)
    assert [len(some) for some in found.values()] == [6, 6]
    assert not {t for some in found.values() for t in some} & {t for skill in lab.skills for t in (*lessons(lab, skill, 0), *questions_of(lab, skill))}


def test_a_study_searches_weights_tells_them_and_judges_nothing_twice(asked: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, store = Counted(monkeypatch), Store.find()
    run = run_skills(plan_skills(asked), tmp_path / "runs" / "a", workers=0, store=store)
    found = run.answer
    (told,) = found["searches"]
    assert len(told["tried"]) == 4 and list(told["weights"]) == ["one", "two"] and told["prompts"] == 2 and abs(sum(told["weights"].values()) - 1) < 1e-12
    assert told["score"] == max(one["score"] for one in told["tried"]) and told["tried"][0]["weights"] == [0.5, 0.5]
    rows = {row["model"]: row for row in found["rows"]}
    assert found["measure"] == "prompts wholly right" and set(rows) >= {"base", "merge:mean", "merge:searched"}
    assert all(row["micro"].keys() == {"one", "two"} and row["score"] == row["micro"] for row in found["rows"])  # as many questions of each prompt
    assert {path.name for path in (run.folder / "models").iterdir()} >= {"merge.searched-r0.safetensors"} and not list((run.folder / "models").glob("search*"))
    merged = Updates.read(run.folder / "models" / "merge.searched-r0.safetensors")
    assert merged.base == plan_skills(asked).pipeline.digest
    pictures = pictures_of(found)
    assert counted.pictures == pictures

    (run.folder / "skills.json").unlink()  # as after a kill
    again = run_skills(plan_skills(asked), run.folder, workers=0, store=store)
    assert counted.pictures == pictures, "what was judged is judged again"
    assert {k: v for k, v in again.answer.items() if k != "cost"} == {k: v for k, v in found.items() if k != "cost"}


def test_clean_leaves_the_work_of_an_unfinished_study_alone(asked: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, store = Counted(monkeypatch), Store.find()
    monkeypatch.chdir(tmp_path)
    counted.most = 7
    with pytest.raises(KeyboardInterrupt):
        run_skills(plan_skills(asked), Path("runs/a"), workers=0, store=store)
    with open("runs/a/jobs.jsonl", "a", encoding="utf-8") as file:
        file.write('{"digest": "half a li')  # the kill came as it wrote
    before = {name for name in store.objects() if json.loads((store.folder_of(name) / "asked.json").read_text())["verb"] in ("paint", "judge", "fit")}
    CliRunner().invoke(app, ["clean"], catch_exceptions=False, standalone_mode=False)
    assert before and before <= set(store.objects())
    counted.most, done = 10**9, counted.pictures
    run = run_skills(plan_skills(asked), Path("runs/a"), workers=0, store=store)
    assert done > 0 and counted.pictures == pictures_of(run.answer), "finished looks were lost"
    lines = [json.loads(line) for line in (run.folder / "jobs.jsonl").read_text().splitlines()]
    assert len({line["digest"] for line in lines}) == len(lines) and sum(line["verb"] == "judge" and line["reused"] for line in lines) == 7


def test_lines_of_an_earlier_part_of_a_run_stay(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"digest": "a", "inputs": {}}\n[1]\n{"digest": "b", "inp')
    assert Ending(tmp_path).told == {"a"} and (tmp_path / "jobs.jsonl").read_text() == '{"digest": "a", "inputs": {}}\n'


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"budget": 1}, "are no search"), ({"searched": 0}, "are no search"), ({"merges": ("searchd",)}, "did you mean 'searched'")],
)
def test_wrong_searches_are_told(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Skills(**settings)  # type: ignore[arg-type]


def test_questions_that_two_files_tell_differently_are_refused(asked: Skills, tmp_path: Path) -> None:
    line = {"prompt": "a red star", "questions": [{"id": "1", "question": "is there a circle ?"}]}
    with open(tmp_path / "two-tested_files.questions.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="other questions for 'a red star'"):
        plan_skills(asked)
    (tmp_path / "two-tested_files.questions.jsonl").unlink()
    with pytest.raises(DataError, match="No questions are known for the prompt 'a black circle'"):
        plan_skills(asked)


def test_experts_of_a_study_change_text_encoders_where_it_says_so(asked: Skills, tmp_path: Path) -> None:
    plan = plan_skills(Skills(**{**vars(asked), "text_encoder": True, "controls": (), "merges": ("mean",)}))
    assert plan.study.plan["text_encoder"] is True and "text_encoder" not in plan_skills(asked).study.plan
    run = run_skills(plan, tmp_path / "run", workers=0, store=Store.find())
    for name in ("expert.one", "merge.mean"):
        modules = Updates.read(run.folder / "models" / f"{name}-r0.safetensors").modules
        assert {module.partition(".")[0] for module in modules} == {"unet", "text_encoder"}


# on the command line -----------------------------------------------------------------------------------------------------------


def run(*words: object) -> str:
    return str(CliRunner().invoke(merging, [str(word) for word in words], catch_exceptions=False, standalone_mode=False).output)


def test_the_command_searches_tells_what_it_tried_and_keeps_the_best(asked: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    files = [write_expert(Path(asked.model), tmp_path / f"{name}.safetensors", seed=i) for i, name in enumerate(("one", "two"))]
    words = ("mean", *files, "--base", asked.model, "--search", asked.tested_files["one"], "--judge", asked.judge, "--budget", 3, "--as", "both")
    told = run(*words)
    assert told.count("tried one ") == 3 and told.count("(kept)") == 1 and "until its budget was spent on 2 prompts" in told and counted.pictures == 6
    tried = [line for line in told.splitlines() if line.startswith("tried")]
    assert [line for line in run(*words).splitlines() if line.startswith("tried")] == tried and counted.pictures == 6, "the same search is found again"
    assert Store.find().kept("both") is not None
    entry = Store.find().kept("both.search")
    assert entry is not None and len(entry.result["tried"]) == 3 and sum(entry.result["weights"]) == 1


def test_a_search_by_what_was_learnt_by_is_refused(asked: Skills, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    images = replace(from_arrays(x, np.zeros(4, np.int64), classes=("all",), name="c"), labels=(-1,) * 4, captions=("A black star", "b", "c", "d"))
    mi.adapt(asked.model, images, mi.Lora(steps=1, batch=2, rank=2), name="star")
    mi.merge(["star", "star"], name="twice")
    for expert in ("star", "twice"):
        with pytest.raises(DataError, match="learnt by 1 of the prompts, like 'a black star'"):
            run("mean", expert, "star", "--search", asked.tested_files["one"], "--judge", asked.judge, "--as", "both")
    assert Store.find().kept("both") is None


def test_prompts_of_the_lab_are_of_the_skills_that_experts_are_called_after() -> None:
    found = lab_prompts([], {"single": Path("a.safetensors"), "mine": Path("b.safetensors")})
    assert len(set(found)) == OF_LAB and found == lab_prompts(["single"], [Path("a.safetensors")])
    assert not {understood(text).groups[0].shape for text in found} == {"circle"}
    with pytest.raises(SettingError, match="called after a skill"):
        lab_prompts([], [Path("a.safetensors")])
    with pytest.raises(SettingError, match="knows no skill 'welding'"):
        lab_prompts(["welding"], [Path("a.safetensors")])


@pytest.mark.parametrize("words", [("sum", "a", "b", "--as", "x"), ("mean", "a", "b", "-o", "weights=1,2", "--as", "x")])
def test_methods_without_weights_to_search_are_refused(words: tuple[str, ...], asked: Skills) -> None:
    with pytest.raises(SettingError, match="Weights are given, or the method has none"):
        run(*words, "--search", asked.tested_files["one"])
