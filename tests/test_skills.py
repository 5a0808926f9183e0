"""The study of skills: judges, what is kept, experts and merges beside their controls, and what may be said of them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mitate.curation.choosing import Rule, chosen, variety
from mitate.curation.judges import Oracle, judge_of
from mitate.curation.verdicts import Verdicts
from mitate.errors import DataError, SettingError
from mitate.generators.merging import METHODS
from mitate.lab.drawing import draw
from mitate.lab.skills import pairs
from mitate.prompts.grammar import shown
from mitate.report.html import write_report
from mitate.store import Store
from mitate.studies.skills import run_skills
from mitate.studies.skills_answer import difference, level, lines, questions, verdict
from mitate.studies.skills_planning import CONTROLS, Skills, drawings, lessons, models_of, plan_skills, questions_of
from mitate.study import Run

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways

SMALL = Skills(
    skills=("single", "counting"), prompts=6, tested=2, steps=2, rank=2, batch=4, keep="best:0.5", sample_steps=1, merges=("mean", "searched"), searched=2,
    budget=4,
    controls=("pooled-weaker", "sequential", "best-of"),
)  # fmt: skip


def test_lessons_show_nothing_that_is_left_out_and_no_prompt_that_is_tested() -> None:
    asked = Skills(skills=("place",), prompts=60, tested=60)
    assert not {t.casefold() for t in lessons(asked, "place", 0)} & {t.casefold() for t in questions_of(asked, "place")}
    assert lessons(asked, "place", 0) != lessons(asked, "place", 1) and len(set(lessons(asked, "place", 1))) == 60
    assert drawings(Skills(skills=("place",), prompts=3, tested=60), "place", 0).shape == (3, 32, 32, 3)
    for skill in ("counting", "texture"):
        assert len(set(questions_of(Skills(skills=(skill,)), skill))) == 150
    with pytest.raises(DataError, match="different prompts"):
        questions_of(Skills(skills=("rare",), tested=5000), "rare")


def test_the_oracle_finds_what_was_drawn_and_not_what_was_not() -> None:
    some = list(pairs("relation", 12, seed=5))
    x = np.stack([draw(scene) for _, scene in some])
    sentences = [prompt.text for prompt, _ in some]
    found = Oracle().look(x, sentences)
    assert found.right is not None and found.right.all() and (found.score == 1).all()
    other = Oracle().look(x, [*sentences[1:], sentences[0]])
    assert other.right is not None and other.right.sum() <= 1 and (other.score < 1).sum() >= 11
    with pytest.raises(DataError, match="does not know"):
        Oracle().look(x[:1], ["a photo of a rusty gear"])


def test_the_image_text_model_likes_the_right_sentence_better() -> None:
    some = list(islice(shown("single", 0, seed=6), 20))
    x, sentences = np.stack([draw(scene) for _, scene in some]), [prompt.text for prompt, _ in some]
    judge = judge_of("similarity:lab-clip")
    right, wrong = judge.look(x, sentences), judge.look(x, [*sentences[7:], *sentences[:7]])
    assert (right.score > wrong.score).mean() > 0.9 and right.right is None and len(judge.digest) == 64


@pytest.mark.parametrize("name", ["oracl", "similarity:", "nobody", "oracle:x"])
def test_a_judge_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="There is no judge"):
        judge_of(name)


def test_what_is_kept_follows_the_rule() -> None:
    sentences = ["a", "a", "b", "b"]
    found = Verdicts(np.array([0.1, 0.9, 0.5, 0.5]), np.array([False, True, True, False]))
    assert chosen(found, sentences, "all").all()
    assert chosen(found, sentences, "right").tolist() == [False, True, True, False]
    assert chosen(found, sentences, "best:0.5").tolist() == [False, True, True, False]  # of equal scores the earlier
    assert chosen(found, sentences, "each:1").tolist() == [False, True, True, False]
    assert chosen(found, sentences, "each:2").all()
    with pytest.raises(DataError, match="does not say what is right"):
        chosen(Verdicts(found.score), sentences, "right")
    for wrong in ("best", "best:2", "each:0", "each:1.5", "right:1", "some", "best:x"):
        with pytest.raises(SettingError, match="no rule"):
            Rule.read(wrong)


def test_variety_falls_when_only_one_kind_is_kept() -> None:
    features = np.repeat(np.eye(8), 10, axis=0) + 0.01
    kept, chance = variety(features, np.arange(80) < 20, seed=0)
    assert kept < 3 < chance


def test_a_study_measures_every_model_and_goes_on_where_it_was(tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "store"), plan_skills(SMALL)
    run = run_skills(plan, tmp_path / "run", workers=0, store=store)
    found = run.answer
    assert [row["model"] for row in found["rows"]] == models_of(SMALL)
    assert {row["kept"] for row in found["yields"]} == {3} and found["interference"][0]["norms"].keys() == {"single", "counting"}
    assert all(0 <= row["skills"][s]["low"] <= row["skills"][s]["high"] <= 1 for row in found["rows"] for s in SMALL.skills)
    assert any("merge:mean" in line for line in lines(found)) and found["notes"]
    assert len(list((run.folder / "samples").glob("*.png"))) == len(found["rows"]) * 2
    fits = {one["model"]: one for one in found["trained"]}
    assert fits["pooled"]["parameters"] == fits["expert:single"]["parameters"] and fits["pooled"]["steps"] == 2 * fits["expert:single"]["steps"] == 4
    assert (run.folder / "models" / "merge.mean-r0.safetensors").is_file()
    choices = [json.loads(line) for line in (run.folder / "choices.jsonl").read_text().splitlines()]
    assert len(choices) == 12 and all(row["kept"] or "best:0.5" in row["reason"] for row in choices)
    jobs = [json.loads(line) for line in (run.folder / "jobs.jsonl").read_text().splitlines()]
    assert {job["verb"] for job in jobs} == {"fit", "paint", "judge"} and not all(job["reused"] for job in jobs)

    (run.folder / "skills.json").unlink()  # as after a kill
    (run.folder / "models" / "merge.mean-r0.safetensors").write_bytes(b"half a file")
    again = run_skills(plan, tmp_path / "run", workers=0, store=store)
    assert {k: v for k, v in again.answer.items() if k != "cost"} == {k: v for k, v in found.items() if k != "cost"}
    assert all(json.loads(line)["reused"] for line in (run.folder / "jobs.jsonl").read_text().splitlines())

    for lang in ("en", "ja"):
        page = write_report(run, lang=lang).read_text(encoding="utf-8")
        assert (
            all(row["model"] in page for row in found["rows"])
            and page.count("data:image/png") == 2 * len(found["rows"])
            and "{" not in page.partition("<body>")[2]
        )
    answered = {row["model"]: row["micro"]["single"] for row in found["rows"]}
    tried = [{"weights": [0.5, 0.5], "score": 0.25}, {"weights": [0.75, 0.25], "score": 0.5}]
    search = {"replicate": 0, "weights": {"single": 0.75, "counting": 0.25}, "score": 0.5, "tried": tried}
    (run.folder / "skills.json").write_text(json.dumps({**found, "searches": [search]}))
    page = write_report(Run(run.folder)).read_text(encoding="utf-8")
    assert "single 0.75, counting 0.25" in page and "Question by question" in page and f">{100 * answered['base']:.1f}<" in page
    with pytest.raises(DataError, match="its steps is 2, not 3"):
        run_skills(plan_skills(Skills(**{**vars(SMALL), "steps": 3})), tmp_path / "run", workers=0, store=store)


@pytest.mark.slow
def test_every_control_is_measured(tmp_path: Path) -> None:
    asked = Skills(**{**vars(SMALL), "controls": CONTROLS, "merges": tuple(METHODS)})
    found = run_skills(plan_skills(asked), tmp_path / "run", workers=0, store=Store(tmp_path / "store")).answer
    assert {row["model"] for row in found["rows"]} == set(models_of(asked)) and len(models_of(asked)) > 20


def table(**models: tuple[list[int], list[int]]) -> dict[str, dict[str, list[list[float]]]]:
    return {name.replace("_", ":"): {"a": [[float(v) for v in a]], "b": [[float(v) for v in b]]} for name, (a, b) in models.items()}


def test_an_answer_holds_only_where_the_interval_says_so() -> None:
    none, every, half = [0] * 40, [1] * 40, [0, 1] * 20
    found = table(base=(none, half), expert_a=(every, half), expert_b=(none, half), unfiltered_a=(every, half), unfiltered_b=(none, half))
    asked = {q["question"]: q for q in questions(found, ["a", "b"], list(found), tells=True)}
    assert asked["an expert improves a"]["answer"] == "holds" and asked["an expert improves b"]["answer"] == "cannot tell"
    assert asked["choosing helps a"]["answer"] == "cannot tell" and asked["choosing helps a"]["value"] == 0
    assert verdict(list(asked.values())) == "go"


def test_a_merge_that_makes_a_skill_worse_is_no_go_however_good_its_mean() -> None:
    none, every, half = [0] * 40, [1] * 40, [0, 1] * 20
    found = table(base=(none, every), expert_a=(none, every), expert_b=(none, every), merge_mean=(every, half))
    asked = questions(found, ["a", "b"], list(found), tells=True)
    told = {q["question"]: q["answer"] for q in asked}
    assert told["merge:mean improves the mean over skills"] == told["merge:mean improves a"] == "holds"
    assert told["merge:mean improves b"] == "does not hold" and verdict(asked) == "more evidence"


def test_skills_are_fixed_and_what_lies_between_them_is_no_uncertainty() -> None:
    found = table(base=([0] * 40, [1] * 40))
    told = level(found, "base", ["a", "b"], True)
    assert told["value"] == 0.5 and told["high"] - told["low"] < 0.06
    uneven = {"base": {"a": [[1.0] * 100], "b": [[1.0] * 10]}}
    told = level(uneven, "base", ["a", "b"], True)
    assert told["value"] == 1 and told["high"] == 1 and 0.85 < told["low"] < 1


def test_the_interval_of_a_difference_holds_the_truth() -> None:
    chance, held = np.random.default_rng(0), 0
    for _ in range(400):
        base, better = (chance.random((1, 80)) < 0.4).astype(float), (chance.random((1, 80)) < 0.5).astype(float)
        interval = difference({"base": {"a": base}, "x": {"a": better}}, "x", "base", ["a"], True)  # type: ignore[dict-item]
        held += interval.low <= 0.1 <= interval.high
    assert 0.92 < held / 400 <= 0.99


def test_scores_have_intervals_of_their_own_size() -> None:
    chance = np.random.default_rng(1)
    base = 0.3 + 0.03 * chance.standard_normal((1, 150))
    found = {"base": {"a": base}, "x": {"a": base + 0.01 + 0.01 * chance.standard_normal((1, 150))}}
    interval = difference(found, "x", "base", ["a"], False)  # type: ignore[arg-type]
    assert 0 < interval.low < 0.01 < interval.high < 0.02


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"merges": ("teis",)}, "There is no merge"),
        ({"controls": ("trut",)}, "There is no control"),
        ({"skills": ("counting", "counting")}, "comes twice"),
        ({"skills": ("welding",)}, "knows no skill"),
        ({"steps": 0}, "out of range"),
        ({"tested": 1}, "no interval"),
        ({"keep": "some"}, "no rule"),
        ({"keep": "best:inf"}, "no rule"),
        ({"keep": "each:1"}, "drops nothing"),
        ({"merges": ("mean", "mean")}, "comes twice"),
        ({"dropout": 1.0}, "dropout"),
        ({"chooser": "similarity:lab-clip"}, "does not say what is right"),
        ({"prompts": 100_000}, "too many"),
        ({"skills": ("counterfactual",)}, "nothing to learn"),
        ({"skills": ("a/b",), "prompt_files": {"a/b": "x"}, "tested_files": {"a/b": "y"}, "controls": ()}, "name of a file"),
        ({"prompt_files": {"counting": "x.txt"}}, "drawn the truth"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Skills(**settings)  # type: ignore[arg-type]


def test_prompts_from_files_may_not_be_learnt_and_tested(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("two red circles\na blue star\n")
    (tmp_path / "b.jsonl").write_text('{"text": "a green square"}\n{"text": "Two red circles"}\n')
    files = {"prompt_files": {"mine": str(tmp_path / "a.txt")}, "tested_files": {"mine": str(tmp_path / "b.jsonl")}}
    (tmp_path / "c.txt").write_text("".join(f"{n} red stars\n" for n in ("two", "three", "four")) + "two blue stars\n")
    both = {"prompt_files": {"one": str(tmp_path / "a.txt"), "two": str(tmp_path / "c.txt")}}
    both["tested_files"] = {"one": str(tmp_path / "c.txt"), "two": str(tmp_path / "b.jsonl")}
    with pytest.raises(DataError, match="learnt by and tested"):  # by another skill
        plan_skills(Skills(skills=("one", "two"), tested=2, controls=(), **both))  # type: ignore[arg-type]
    (tmp_path / "d.txt").write_text("".join(f"{n} {c} stars\n" for n in ("two", "three") for c in ("red", "pink", "cyan")))
    (tmp_path / "e.txt").write_text("two pink stars\ntwo green stars\n")
    later = {"prompt_files": {"mine": str(tmp_path / "d.txt")}, "tested_files": {"mine": str(tmp_path / "e.txt")}}
    with pytest.raises(DataError, match="learnt by and tested"):  # in some replicate
        plan_skills(Skills(skills=("mine",), prompts=2, tested=2, replicates=9, controls=(), **later))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="learnt by and tested"):
        plan_skills(Skills(skills=("mine",), tested=2, controls=(), **files))  # type: ignore[arg-type]
