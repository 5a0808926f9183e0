"""A judge that asks a model questions about pictures: dependent questions, their files, and ViLT and BLIP with random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mitate.curation.dependency import Question, answered, beside, from_plain, in_order, of_lab, plain_questions, read_questions, same
from mitate.curation.judges import Oracle, judge_of, tells, understood
from mitate.curation.verdicts import Verdicts
from mitate.curation.vqa import Vqa
from mitate.errors import DataError
from mitate.lab.drawing import draw
from mitate.lab.oracle import read
from mitate.lab.questions import answers as lab_answers
from mitate.lab.skills import pairs
from tiny import tiny_captioner
from tiny_vqa import SIDE, tiny_blip, tiny_vilt

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own ways
CUPS = (
    Question("cup", "is there a star ?"),
    Question("two", "is the number of stars two ?", parents=("cup",)),
    Question("colour", "what colour are the stars ?", "red", ("cup",)),
    Question("both", "are the two stars red ?", parents=("two", "colour")),
)


def pictures(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def write(folder: Path, *rows: object) -> Path:
    (folder / "q.questions.jsonl").write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return folder / "q.questions.jsonl"


# questions with parents -------------------------------------------------------------------------------------------------------


def test_a_child_of_a_no_is_a_no_however_far_below() -> None:
    assert answered(CUPS, [True, True, True, True]) == [True] * 4
    assert answered(CUPS, [True, True, False, True]) == [True, True, False, False]
    assert answered(CUPS, [True, False, True, True]) == [True, False, True, False]
    assert answered(CUPS, [False, True, True, True]) == [False] * 4
    assert answered(CUPS, [True, True, True, False]) == [True, True, True, False]


def test_parents_may_stand_after_their_children() -> None:
    found = in_order([CUPS[3], CUPS[1], CUPS[2], CUPS[0]], where="here")
    assert [q.id for q in found] == ["cup", "two", "colour", "both"] and set(found) == set(CUPS)
    assert answered(found, [False, True, True, True]) == [False] * 4


def test_the_labs_questions_come_out_as_the_lab_has_them() -> None:
    for prompt, scene in pairs("relation", 6, seed=3):
        asked, own = of_lab(prompt), lab_answers(prompt, read(draw(scene)))
        assert in_order(asked, where="lab") == asked and answered(asked, own) == own == [True] * len(asked)
        assert answered(asked, [False] + [True] * (len(own) - 1))[-1] is False  # nothing else, asked of what is there


def test_answers_say_the_same_as_people_would_take_them() -> None:
    assert same("Yes.", "yes") and same("2", "two") and same("a red", "Red") and same("the  left, side", "left side")
    assert not same("no", "yes") and not same("two", "three") and not same("", "yes")


def test_a_file_of_questions_is_read_by_prompt(tmp_path: Path) -> None:
    rows = [{"id": q.id, "question": q.question, "answer": q.answer, "parents": list(q.parents)} for q in reversed(CUPS)]
    rows[-1] = {"id": "cup", "question": CUPS[0].question}  # answer and parents may be left out
    found = read_questions(write(tmp_path, {"prompt": "two red stars", "questions": rows}, "", {"prompt": "x", "questions": [{"id": 1, "question": "y?"}]}))
    assert [q.id for q in found["two red stars"]] == ["cup", "colour", "two", "both"] and found["x"] == (Question("1", "y?"),)
    assert from_plain(json.loads(json.dumps(plain_questions(found)))) == found
    assert beside(tmp_path / "q.jsonl") == tmp_path / "q.questions.jsonl" == beside(tmp_path / "q.txt")


def q(name: object, *parents: object, **more: object) -> dict[str, object]:
    return {"id": name, "question": "is there a star ?", "parents": list(parents), **more}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "line 1 is no JSON"),
        ("[1]", "no prompt with questions"),
        ({"prompt": "p", "questions": []}, "no prompt with questions"),
        ({"prompt": " ", "questions": [q("a")]}, "no prompt with questions"),
        ({"prompt": "p", "questions": [q("a", "b"), q("b", "c"), q("c", "a"), q("d")]}, "questions a, b, c wait for each other"),
        ({"prompt": "p", "questions": [q("a", "a")]}, "questions a wait for each other"),
        ({"prompt": "p", "questions": [q("one"), q("two", "onee")]}, "parent 'onee', which is no question"),
        ({"prompt": "p", "questions": [q("a"), q("a")]}, "two questions have the id 'a'"),
        ({"prompt": "p", "questions": [q("a"), q(1), q(True)]}, "the id True"),
        ({"prompt": "p", "questions": [{"id": "a", "question": " "}]}, "question 'a' has no question"),
        ({"prompt": "p", "questions": [q("a", answer=3)]}, "question 'a' has no answer"),
        ({"prompt": "p", "questions": [q("a", parent="b")]}, "a question has 'parent'"),
        ({"prompt": "p", "questions": ["is there a star?"]}, "a question is 'is there a star"),
        ("", "holds no questions"),
    ],
)
def test_wrong_files_of_questions_are_one_line_with_a_fix(row: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told) as wrong:
        read_questions(write(tmp_path, row))
    assert wrong.value.fix and "\n" not in str(wrong.value)


def test_a_prompt_that_comes_twice_or_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "p", "questions": [q("a")]}
    with pytest.raises(DataError, match=r"line 2: the prompt 'p' comes twice"):
        read_questions(write(tmp_path, row, row))
    with pytest.raises(DataError, match="cannot be read as questions"):
        read_questions(tmp_path / "none.jsonl")


# models -----------------------------------------------------------------------------------------------------------------------

BUILD = pytest.mark.parametrize("build", [tiny_vilt, tiny_blip])


@BUILD
def test_a_model_that_says_yes_to_all_gives_what_wants_a_yes_and_no_more(build: Callable[..., Path], tmp_path: Path) -> None:
    judge = judge_of(f"vqa:{build(tmp_path / 'm', says='yes')}", {"two red stars": CUPS, "a star": CUPS[:1]})
    found = judge.look(pictures(3), ["two red stars", "a star", "two red stars"])
    assert found.score.tolist() == [0.5, 1, 0.5]  # the colour is not yes, and what stands on it is a no
    assert found.right is not None and found.right.tolist() == [False, True, False]
    assert found.questions is not None and found.questions.tolist() == [4, 1, 4] and found.micro == 5 / 9
    red = judge_of(f"vqa:{build(tmp_path / 'n', says='red')}", {"two red stars": CUPS})
    assert red.look(pictures(1), ["two red stars"]).score.tolist() == [0]  # red, and no star of which it could be the colour
    assert red.digest != judge.digest and tells(judge.name) and not tells("similarity:lab-clip")


@BUILD
def test_a_verdict_follows_from_its_picture_and_questions_alone(build: Callable[..., Path], tmp_path: Path) -> None:
    folder = build(tmp_path / "m")
    judge = Vqa(str(folder), {"p": CUPS})
    x = pictures(6)
    said = [judge.say(image, [one.question for one in CUPS]) for image in x]
    assert len({tuple(some) for some in said}) > 1, "the model must look at the picture"
    whole, alone = judge.look(x, ["p"] * 6), [Vqa(str(folder), {"p": CUPS}).look(x[i : i + 1], ["p"]).score[0] for i in range(6)]
    assert whole.score.tolist() == alone


@BUILD
def test_questions_of_the_lab_need_no_file(build: Callable[..., Path], tmp_path: Path) -> None:
    judge = Vqa(str(build(tmp_path / "m", says="yes")))
    some = list(pairs("counting", 3, seed=4))
    sentences = [prompt.text for prompt, _ in some]
    found = judge.look(np.stack([draw(scene) for _, scene in some]), sentences)
    oracle = Oracle().look(np.stack([draw(scene) for _, scene in some]), sentences)
    assert found.right is not None and found.right.all() and (found.questions == oracle.questions).all()
    assert [len(of_lab(understood(text))) for text in sentences] == oracle.questions.tolist()  # type: ignore[union-attr]
    with pytest.raises(DataError, match="No questions are known for the prompt 'a photo of a gear'"):
        judge.check(["a photo of a gear"])
    with pytest.raises(DataError, match="tokens; .* reads 40"):
        Vqa(judge.model, {"p": (Question("a", "star " * 60),)}).check(["p"])


def test_what_answers_no_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model"):
        Vqa(str(tmp_path)).check(["a red circle"])
    with pytest.raises(DataError, match="which answers no questions here"):
        Vqa(str(tiny_captioner(tmp_path / "captioner"))).check(["a red circle"])
    broken = tiny_vilt(tmp_path / "vilt")
    (broken / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(DataError, match="cannot be opened"):
        Vqa(str(broken)).check(["a red circle"])
    pickled = tiny_blip(tmp_path / "blip")
    shutil.move(pickled / "model.safetensors", pickled / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be opened"):
        Vqa(str(pickled)).check(["a red circle"])


def test_micro_weighs_by_questions() -> None:
    found = Verdicts(np.array([1.0, 0.0]), np.array([True, False]), np.array([9, 1]))
    assert found.micro == 0.9 and found.score.mean() == 0.5 and Verdicts(found.score).micro is None
    assert found.rows(np.array([1])).micro == 0
