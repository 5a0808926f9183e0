"""Prompts: skills as data, three sources, the loop that keeps what is new, and nothing hostile gets in. The chat endpoint is a real server on this machine."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mitate.cli_skills import prompts as command
from mitate.errors import DataError, JobError, MitateError, SettingError
from mitate.lab.questions import answers
from mitate.lab.reading import understand
from mitate.lab.skills import SKILLS, held_out
from mitate.lab.skills import prompts as asked_by_evaluation
from mitate.lab.world import SIZES, Scene, Thing
from mitate.prompts.asking import Answer, Ask, instructions, read_lines
from mitate.prompts.chat import MOST_BYTES, Chat, ChatHow, parsed
from mitate.prompts.grammar import Grammar, filled, shown, shuffled
from mitate.prompts.pool import How, Prompts, read_prompts, write_prompts
from mitate.prompts.rouge import rouge_l, words
from mitate.prompts.skills import SkillSpec, names, read_skill, skill_file
from mitate.prompts.sources import open_source
from mitate.prompts.wording import blocked, judged

SKILL = SkillSpec("cups", "counting cups", ("two red cups on a shelf",), ("Count cups.",), max_words=12)
SLOTS = SkillSpec(
    "trays", "parts", ("two bolts",), templates=("{number} {part} on a tray", "a tray of {part}"),
    slots={"number": ("two", "three", "four"), "part": ("nuts", "bolts", "washers", "springs")},
)  # fmt: skip


def texts_of(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


@dataclass(frozen=True)
class Scripted:
    """A source whose answers are given; after the last, nothing."""

    answers: tuple[tuple[str, ...], ...]
    name: str = "scripted"
    share_alike: float = 0.8
    heard: list[Ask] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def check(self, skill: SkillSpec, n: int) -> None:
        pass

    def ask(self, ask: Ask) -> Answer:
        if self.heard is not None:
            self.heard.append(ask)
        return Answer(self.answers[ask.round - 1] if ask.round <= len(self.answers) else ())


@dataclass(frozen=True)
class Dying(Grammar):
    """The grammar, killed in a round."""

    dies_in: int = 0

    def ask(self, ask: Ask) -> Answer:
        if ask.round == self.dies_in:
            raise KeyboardInterrupt
        return super().ask(ask)


# skills ---------------------------------------------------------------------------------------------------------------


def test_every_skill_of_ours_reads_and_names_what_it_tests() -> None:
    assert {"everyday", "counting", "detailed", "counterfactual", "long"} <= set(names()) and set(SKILLS) <= set(names())
    for name in names():
        skill = read_skill(name)
        assert skill.name == name and len(skill.seeds) == 3 and len(skill.rules) >= 2 and skill.lab in ("", name)


def test_the_template_is_a_skill_that_the_grammar_writes(tmp_path: Path) -> None:
    (tmp_path / "my-skill.toml").write_text(skill_file("template"))
    found = write_prompts(tmp_path / "my-skill.toml", 50, out=tmp_path / "p.jsonl")
    assert len(set(found.texts)) == 50 and all("tray" in text for text in found.texts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_words": 0}, "0 words"),
        ({"seeds": []}, "no seeds"),
        ({"tests": " "}, "does not say"),
        ({"seeds": ["<b>two cups</b>"]}, "markup"),
        ({"seeds": ["two cups", "two cups"]}, "twice"),
        ({"seeds": ["one two three four five six"], "max_words": 5}, "too long"),
        ({"templates": ["a {thing}"]}, "{thing}"),
        ({"templates": ["a cup"], "slots": {"thing": ["cup"]}}, "{thing}"),
        ({"templates": ["a {thing}"], "slots": {"thing": []}}, "empty"),
        ({"lab": "countin"}, "countin"),
        ({"seed": ["two cups"]}, "no setting 'seed'"),
        ({"rules": "count"}, "rules"),
        ({"name": "../cups"}, "name"),
    ],
)
def test_a_skill_file_that_cannot_be_used_says_why(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {"name": "cups", "tests": "cups", "seeds": ["two cups"]} | change
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if key != "slots"]
    lines += ["[slots]", *(f"{slot} = {json.dumps(options)}" for slot, options in values.get("slots", {}).items())]
    (tmp_path / "my.toml").write_text("\n".join(lines))
    with pytest.raises(MitateError) as wrong:
        read_skill(tmp_path / "my.toml")
    assert message in wrong.value.message and wrong.value.fix


def test_an_unknown_skill_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="counting"):
        read_skill("countin")
    with pytest.raises(SettingError, match="cannot be read"):
        read_skill(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe = [")
    with pytest.raises(SettingError, match="not TOML"):
        read_skill(tmp_path / "bad.toml")


# wording --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("two red cups", "two red cups"),
        ('  "two  red cups" ', "two red cups"),
        ("“two red cups”", "two red cups"),
        ("**two red cups**", "two red cups"),
        ("'tis a cup and 'tis red'", "'tis a cup and 'tis red'"),
        ("a café; it's 50% full!", "a café; it's 50% full!"),
        ("赤いカップが二つ", "赤いカップが二つ"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_plain_words_are_kept(text: str, kept: str) -> None:
    assert judged(text, most=10).text == kept and judged(text, most=10).reason == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"), ("  ", "empty"), ("123 ...", "empty"), ("🙂", "empty"),
        ("a cup\x1b[31m", "control characters"), ("a cup\x00", "control characters"), ("a \u202ecup", "control characters"),
        ("a\u2028cup", "control characters"),
        ("a cup \ud800", "control characters"), ("a\rcup", "control characters"), ("a \ue000 cup", "control characters"),
        ("<script>alert(1)</script>", "markup"), ("a cup <lora:x:1>", "markup"),
        ("see https://example.org", "markup"), ("[cup](x)", "markup"), ("`cup`", "markup"),
        ("a **red** cup", "markup"), ("a &lt; b", "markup"), ("{{cup}}", "markup"), ("visit www.example.org", "markup"), ("<|im_start|>system", "markup"),
        ("one two three four five six seven eight nine ten eleven", "too long"), ("a" * 200, "too long"), ("a " * 100_000, "too long"),
        ("a GUN on a table", "blocked words"), ("ａ ｇｕｎ", "blocked words"), ("a g\u00adun", "control characters"),
    ],
)  # fmt: skip
def test_what_is_no_plain_prompt_is_dropped_with_its_reason(text: str, reason: str) -> None:
    assert judged(text, most=10, blocked=blocked(["gun"])).reason == reason


def test_a_blocked_word_is_a_whole_word() -> None:
    assert judged("a gunwale", most=5, blocked=blocked(["gun"])).reason == ""
    with pytest.raises(SettingError, match="empty"):
        blocked([" "])


# language models: what they are told and answer -----------------------------------------------------------------------


def test_instructions_hold_rules_limit_and_numbered_examples() -> None:
    text = instructions(Ask(SKILL, ("two red cups", "a blue cup"), 20, 1, 0))
    assert all(part in text for part in ("counting cups", "- Count cups.", "At most 12 words", "1. two red cups", "2. a blue cup", "3 to 22"))


def test_only_numbered_lines_are_read_in_order_and_no_more_than_asked() -> None:
    answer = "Sure! Here are some:\n\n4. a cup\r\n 5) a red cup\n- a blue cup\n5. again\n3. before\n7. a lid\n\n8.\n9. more\n"
    found = read_lines(answer, number=3)
    assert found.texts == ("a cup", "a red cup", "a lid")
    assert found.drops == {"no number": 2, "out of order": 2, "more than asked": 2}


def test_hostile_lines_never_crash_the_reader() -> None:
    many = read_lines("\n".join(f"{i}. cup {i}" for i in range(1, 9000)), number=20)
    assert len(many.texts) == 20 and many.drops == {"more than asked": 8979}
    assert read_lines("4. " + "cup " * 10**6, number=20).drops == {"too long": 1}
    assert read_lines("99999. cup\n४. cup\n4.5 cups\n\x00\ud800\n", number=20).texts in ((), ("cup",))
    assert read_lines("", number=20) == Answer((), {})


def test_no_answer_of_nasty_signs_crashes_and_what_is_kept_is_one_line_of_words() -> None:
    chance = random.Random(0)
    signs = [
        *"aé字 ..:)(14\t\"'*_<&[{`|\\/",
        "\n",
        "\r",
        "\x00",
        "\x1b",
        "\u202e",
        "\u2028",
        "\ud800",
        "\ue000",
        "\u200d",
        "🙂",
        "٤",
        "\n4. ",
        "\n5) two cups ",
        "www.",
    ]
    for _ in range(1500):
        answer = read_lines("".join(chance.choices(signs, k=chance.randrange(60))), number=3)
        assert len(answer.texts) <= 3
        for text in answer.texts:
            found = judged(text, most=8, blocked=blocked(["gun"]))
            if not found.reason:
                assert found.text.strip() == found.text and not set(found.text) & set("\t\n\r\x00\x1b\u2028\u202e\ud800<[{`|\\")
                assert judged(found.text, most=8).reason == "" and 0 < len(found.text.split()) <= 8


# the grammar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skill", sorted(set(SKILLS) - {"counterfactual"}))
def test_lab_prompts_ask_for_what_may_be_trained_on_and_are_read_back(skill: str) -> None:
    texts = Grammar().ask(Ask(read_skill(skill), (), 30, 1, 4)).texts
    for text, (prompt, scene) in zip(texts, shown(skill, 0, seed=4), strict=False):
        assert text == prompt.text and understand(text).prompt == prompt and understand(text).unknown == ()
        assert all(answers(prompt, scene)) and not held_out(scene)


@pytest.mark.parametrize("skill", sorted(set(SKILLS) - {"counterfactual", "rare"}))
def test_no_prompt_to_train_on_is_one_that_evaluation_asks(skill: str) -> None:
    ours = {understand(text).prompt.groups for text in Grammar().ask(Ask(read_skill(skill), (), 60, 1, 0)).texts}  # type: ignore[union-attr]
    theirs = {prompt.groups for prompt in asked_by_evaluation(skill, 60, seed=0)}
    assert not ours & theirs


def test_a_place_is_asked_only_of_things_that_are_shown_in_every_size() -> None:
    for prompt, _ in zip((p for p, _ in shown("place", 0, seed=1)), range(50), strict=False):
        thing = prompt.groups[0]
        assert not any(held_out(Scene((Thing(thing.shape, str(thing.colour), size, "plain", 0.5, 0.5, 0.1),), "white")) for size in SIZES)


def test_prompt_i_of_the_grammar_depends_on_skill_seed_and_i_only() -> None:
    skill = read_skill("relation")
    whole = Grammar().ask(Ask(skill, (), 20, 1, 7)).texts
    assert Grammar().ask(Ask(skill, ("anything",), 5, 3, 7)).texts == whole[10:15]
    assert Grammar().ask(Ask(skill, (), 20, 1, 8)).texts != whole
    assert [filled(SLOTS, i, seed=7) for i in range(5, 8)] == list(Grammar().ask(Ask(SLOTS, (), 8, 1, 7)).texts[5:])


def test_what_evaluation_alone_asks_has_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="left out of training"):
        write_prompts("counterfactual", 5, out=tmp_path / "p" / "c.jsonl")
    assert not (tmp_path / "p").exists()
    found = write_prompts("counterfactual", 5, out=tmp_path / "c.jsonl", source=open_source("grammar", ["content=held-out"]))
    assert list(found.texts) == list(dict.fromkeys(p.text for p in asked_by_evaluation("counterfactual", 20, seed=0)))[:5]


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 1000])
def test_shuffling_reaches_every_place_once(n: int) -> None:
    assert sorted(shuffled(i, n, seed=3) for i in range(n)) == list(range(n))


def test_templates_take_turns_as_long_as_they_have_ways() -> None:
    of_tray = ["on a tray" in filled(SLOTS, i, seed=2) for i in range(SLOTS.combinations)]
    assert of_tray == [True, False] * 4 + [True] * 8


def test_every_way_to_fill_the_slots_comes_once_and_no_more_can_be_asked_for(tmp_path: Path) -> None:
    found = write_prompts(SLOTS, 16, out=tmp_path / "a.jsonl", how=How(number=5))
    assert len(set(found.texts)) == SLOTS.combinations == 16
    with pytest.raises(SettingError, match="16 ways"):
        write_prompts(SLOTS, 17, out=tmp_path / "b.jsonl")
    with pytest.raises(SettingError, match="no templates"):
        write_prompts(SKILL, 3, out=tmp_path / "c.jsonl")


# the loop -------------------------------------------------------------------------------------------------------------


def test_the_file_holds_exactly_n_and_the_manifest_says_why_others_were_dropped(tmp_path: Path) -> None:
    source = Scripted((
        ("a blue cup by a lamp", "two red cups on a shelf", "Two RED cups on a shelf!", "a blue cup by a lamp", "two red cups on a wet shelf"),
        ("", "<b>cup</b>", "a gun beside a jug", "one two three four five six seven eight nine ten eleven twelve thirteen", "four jugs in the rain", "a lid"),
    ))  # fmt: skip
    found = write_prompts(SKILL, 2, out=tmp_path / "cups.jsonl", source=source, blocked=["gun"])
    assert texts_of(found.file) == list(found.texts) == ["a blue cup by a lamp", "four jugs in the rain"]
    lines = [json.loads(line) for line in found.file.read_text().splitlines()]
    assert lines[1] == {"text": "four jugs in the rain", "skill": "cups", "from": "scripted", "round": 2}
    manifest = json.loads((tmp_path / "cups.manifest.json").read_text())
    assert manifest == found.manifest and manifest["finished"] and manifest["prompts"] == 2 == manifest["n"]
    assert manifest["drops"] == {"alike": 2, "blocked words": 1, "empty": 1, "markup": 1, "seen before": 2, "too long": 1}
    assert manifest["asked"]["skill"]["seeds"] == list(SKILL.seeds) and manifest["versions"]["python"]
    assert "gun" not in json.dumps(manifest)


def test_no_two_kept_prompts_are_alike(tmp_path: Path) -> None:
    found = write_prompts("counting", 60, out=tmp_path / "c.jsonl", how=How(alike=0.8))
    for i, one in enumerate(found.texts):
        assert all(rouge_l(words(one), words(two)) <= 0.8 for two in (*found.texts[:i], *read_skill("counting").seeds))


def test_examples_come_from_seeds_and_what_was_kept_or_from_seeds_alone(tmp_path: Path) -> None:
    rounds = tuple((f"a {word} jar", f"{word} fish swim past") for word in ("red", "wet", "odd", "old", "new", "tin", "raw", "dry"))
    for drawn in ("all", "seeds"):
        heard: list[Ask] = []
        source = Scripted(rounds, share_alike=1.0, heard=heard)
        write_prompts(SKILL, 16, out=tmp_path / f"{drawn}.jsonl", source=source, how=How(examples=3, drawn=drawn))
        assert heard[0].examples == SKILL.seeds
        later = {example for ask in heard[1:] for example in ask.examples}
        assert (later == set(SKILL.seeds)) == (drawn == "seeds") and all(len(set(ask.examples)) == len(ask.examples) <= 3 for ask in heard)
    assert len(later) == 1


def test_it_stops_when_rounds_bring_nothing_new(tmp_path: Path) -> None:
    heard: list[Ask] = []
    source = Scripted((("a blue jug",), ("a blue jug",), ("a blue jug", "<i>")), heard=heard)
    with pytest.raises(JobError, match="4 rounds in a row brought nothing new: 1 of 9 prompts are there; dropped 2 seen before, 1 markup") as wrong:
        write_prompts(SKILL, 9, out=tmp_path / "cups.jsonl", source=source, patience=4)
    assert wrong.value.fix and len(heard) == 5 and texts_of(tmp_path / "cups.jsonl") == ["a blue jug"]
    with pytest.raises(JobError, match="6 rounds were asked for at most"):
        write_prompts(SKILL, 9, out=tmp_path / "cups.jsonl", source=source, most_rounds=6)
    assert len(heard) == 6


def test_the_same_command_again_asks_nothing(tmp_path: Path) -> None:
    heard: list[Ask] = []
    source = Scripted((("a blue jug", "four wet stones"),), heard=heard)
    first = write_prompts(SKILL, 1, out=tmp_path / "cups.jsonl", source=source)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert write_prompts(SKILL, 1, out=tmp_path / "cups.jsonl", source=source) == first
    assert len(heard) == 1 and {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert write_prompts(SKILL, 2, out=tmp_path / "cups.jsonl", source=source).texts == ("a blue jug", "four wet stones")  # a larger n goes on
    with pytest.raises(SettingError, match="holds 2 prompts, and 1"):
        write_prompts(SKILL, 1, out=tmp_path / "cups.jsonl", source=source)


def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    def run(out: Path, n: int = 70) -> Prompts:
        return write_prompts("counting", n, out=out, seed=3, how=How(number=16, alike=0.9))

    whole = run(tmp_path / "whole" / "c.jsonl")
    manifest = (tmp_path / "whole" / "c.manifest.json").read_text()
    lines = whole.file.read_bytes().splitlines(keepends=True)
    of_round = sum(b'"round": 3}' in line for line in lines)
    assert of_round > 2
    for kept in (0, 1, of_round):  # lines that a kill in the midst of a round left, and half of another
        part = tmp_path / f"part{kept}" / "c.jsonl"
        with pytest.raises(KeyboardInterrupt):
            write_prompts("counting", 70, out=part, seed=3, how=How(number=16, alike=0.9), source=Dying(dies_in=3))
        done = part.read_bytes().count(b"\n")
        part.write_bytes(b"".join(lines[: done + kept]) + lines[done + kept][:9])
        assert run(part).texts == whole.texts
        assert part.read_bytes() == whole.file.read_bytes() and (part.parent / "c.manifest.json").read_text() == manifest
    grown = tmp_path / "grown" / "c.jsonl"
    run(grown, 41)
    assert run(grown).texts == whole.texts and (grown.parent / "c.manifest.json").read_text() == manifest


def test_what_was_kept_is_on_the_disk_before_the_round_ends(tmp_path: Path) -> None:
    code = f"""
import os
from mitate.prompts.pool import write_prompts
from mitate.progress import Silent
class Kill(Silent):
    def step(self, done, total, note=""):
        if done == 7:
            os._exit(9)
write_prompts("relation", 30, out={str(tmp_path / "r.jsonl")!r}, progress=Kill())
"""
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 9
    assert len(texts_of(tmp_path / "r.jsonl")) == 7
    assert write_prompts("relation", 30, out=tmp_path / "r.jsonl").texts == write_prompts("relation", 30, out=tmp_path / "s.jsonl").texts


def test_another_question_onto_the_same_file_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    write_prompts("counting", 5, out=out, seed=1)
    before = out.read_bytes()
    for how, message in (
        ({"seed": 2}, r"seed differs \(1 there, 2 here\)"), ({"how": How(number=7)}, "settings"), ({"blocked": ["gun"]}, "blocked words"),
        ({"source": open_source("grammar", ["content=held-out"])}, "source"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            write_prompts("counting", 9, out=out, **{"seed": 1, **how})  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="skill differs"):
        write_prompts("relation", 9, out=out, seed=1)
    assert out.read_bytes() == before


def test_a_file_that_was_changed_or_is_not_ours_is_refused(tmp_path: Path) -> None:
    out, manifest = tmp_path / "c.jsonl", tmp_path / "c.manifest.json"
    write_prompts("counting", 30, out=out)
    data, told = out.read_bytes(), manifest.read_text()
    for wrong in (data.replace(b"two", b"three"), data[: len(data) // 2], b"not json\n" + data, data + data, b"[1]\n", b'{"text": 1, "round": 1}\n'):
        out.write_bytes(wrong)
        with pytest.raises(DataError):
            write_prompts("counting", 40, out=out)
    out.write_bytes(data)
    for bad in ("{", "[]", "{}", '{"asked": 1}', told.replace('"rounds"', '"round"')):
        manifest.write_text(bad)
        with pytest.raises(DataError, match="cannot be read"):
            write_prompts("counting", 40, out=out)
    manifest.unlink()
    with pytest.raises(DataError, match="no manifest"):
        write_prompts("counting", 40, out=out)
    assert out.read_bytes() == data


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for call in (
        lambda: write_prompts("counting", 0, out=tmp_path / "c.jsonl"), lambda: write_prompts("counting", 5, out=tmp_path / "c.txt"),
        lambda: write_prompts("counting", 5, out=tmp_path / "c.jsonl", source="grammer"), lambda: How(drawn="some"), lambda: How(number=0),
        lambda: open_source("openai:gpt"), lambda: open_source("transformers"), lambda: open_source("grammar:x"), lambda: Grammar("all"),
        lambda: open_source("grammar", ["name=x"]), lambda: open_source("openai:a@http://b/v1", ["temperature=9"]),
    ):  # fmt: skip
        with pytest.raises(SettingError):
            call()
    assert list(tmp_path.iterdir()) == [] or {p.name for p in tmp_path.iterdir()} == {"store"}


def test_a_source_that_breaks_is_not_taken_for_the_disk(tmp_path: Path) -> None:
    class Broken(Scripted):
        def ask(self, ask: Ask) -> Answer:
            raise ConnectionError("gone")

    with pytest.raises(JobError, match="scripted failed"):
        write_prompts(SKILL, 3, out=tmp_path / "c.jsonl", source=Broken(()))


def test_prompts_are_read_from_our_file_and_from_plain_text(tmp_path: Path) -> None:
    found = write_prompts("counting", 5, out=tmp_path / "c.jsonl")
    assert read_prompts(found.file) == list(found.texts)
    (tmp_path / "c.txt").write_text("\ufefftwo cups\n\n  a lid \r\n", encoding="utf-8")
    assert read_prompts(tmp_path / "c.txt") == ["two cups", "a lid"]
    for name, data in (("a.txt", b"\n"), ("b.txt", b"\xff\xfe"), ("c.jsonl", b"two cups\n"), ("d.jsonl", b'{"text": " "}\n'), ("e.jsonl", b"[" * 100_000)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError):
            read_prompts(tmp_path / name)
    with pytest.raises(DataError):
        read_prompts(tmp_path / "none.txt")


# the chat endpoint ----------------------------------------------------------------------------------------------------

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Endpoint:
    """A server that speaks the protocol: a reply a request, the last again and again; what was sent to it, and what was slept."""

    url: str
    replies: list[Reply]
    requests: list[dict[str, Any]]
    slept: list[float]

    def chat(self, **how: Any) -> Chat:
        return Chat("tiny", self.url, ChatHow(**{"seconds": 5.0, **how}), sleep=self.slept.append, now=lambda: 1_000_000.0)


def send(status: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def says(content: Any, **more: Any) -> Reply:
    return send(200, json.dumps({"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}], **more}).encode())


def error(status: int, message: str = "no", code: str | None = None, headers: dict[str, str] | None = None) -> Reply:
    return send(status, json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode(), headers)


def hang_up(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    handler.close_connection = True


def cut_off(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def raw(data: bytes) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return reply


GOOD = says("4. a blue jug\n5. four wet stones\n6. an owl asleep on a gate\n", usage={"prompt_tokens": 200, "completion_tokens": 30, "total_tokens": 230})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("MITATE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    found = Endpoint("", [], [], [])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.requests.append({"path": self.path, "headers": dict(self.headers), **payload})
            reply = found.replies.pop(0) if len(found.replies) > 1 else found.replies[0]
            try:
                reply(self, payload)
            except OSError:  # the client has seen enough
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield found
        server.shutdown()


def test_a_chat_endpoint_writes_prompts(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1")
    endpoint.replies = [GOOD, says("4. three kites above a barn\n")]
    found = write_prompts(SKILL, 4, out=tmp_path / "cups.jsonl", source=endpoint.chat())
    assert found.texts == ("a blue jug", "four wet stones", "an owl asleep on a gate", "three kites above a barn")
    first = endpoint.requests[0]
    assert first["path"] == "/v1/chat/completions" and first["model"] == "tiny" and first["temperature"] == 1.0 and "max_tokens" not in first
    assert first["headers"]["Authorization"] == "Bearer sk-secret-1" and "1. two red cups on a shelf" in first["messages"][0]["content"]
    assert found.manifest["used"] == {"requests": 2, "prompt_tokens": 200, "completion_tokens": 30}
    assert found.manifest["from"] == f"openai:tiny@{endpoint.url}"
    assert all(b"sk-secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_limits_and_broken_connections_are_tried_again(endpoint: Endpoint) -> None:
    endpoint.replies = [
        error(429, headers={"Retry-After": "7"}), error(503), error(429, headers={"Retry-After": "86400"}), hang_up, cut_off, GOOD,
    ]  # fmt: skip
    answer = endpoint.chat().ask(Ask(SKILL, SKILL.seeds, 20, 1, 0))
    assert len(answer.texts) == 3 and answer.used["requests"] == 6
    assert endpoint.slept == [7.0, 2.0, 60.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("asked", "slept"),
    [("Mon, 12 Jan 1970 13:46:50 GMT", 10.0), ("Mon, 12 Jan 1970 13:46:30 GMT", 0.0), ("-5", 0.0), ("soon", 1.0), ("nan", 1.0), ("inf", 1.0), ("9" * 400, 1.0)],
)
def test_retry_after_may_be_a_date_or_nonsense(asked: str, slept: float, endpoint: Endpoint) -> None:
    endpoint.replies = [error(429, headers={"Retry-After": asked}), GOOD]
    endpoint.chat().ask(Ask(SKILL, SKILL.seeds, 20, 1, 0))
    assert endpoint.slept == [slept]


@pytest.mark.parametrize(
    ("reply", "kind", "message", "tries"),
    [
        (error(500), JobError, "did not answer in 3 tries (status 500: no)", 3),
        (error(429), JobError, "did not answer in 3 tries (status 429: no)", 3),
        (error(429, code="insufficient_quota"), JobError, "no money", 1),
        (error(401, "bad key sk-secret-2"), SettingError, "the key was refused", 1),
        (error(403), SettingError, "refuses access", 1),
        (error(404, "no model tiny"), SettingError, "status 404: no model tiny", 1),
        (error(400, "you sent sk-secret-2\x1b[31m " + "x" * 999), SettingError, "status 400: you sent *** [31m", 1),
        (send(418, b"\xff<html>"), SettingError, "status 418)", 1),
        (send(302, b"", {"Location": "http://evil.example/v1"}), SettingError, "evil.example", 1),
        (send(307, b"", {"Location": "http://[bad"}), SettingError, "[bad", 1),
        (send(308, b""), SettingError, "another address", 1),
        (hang_up, JobError, "did not answer in 3 tries", 3),
        (cut_off, JobError, "did not answer in 3 tries", 3),
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), JobError, "did not answer in 3 tries", 3),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n"), JobError, "did not answer in 3 tries", 3),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), JobError, "did not answer in 3 tries", 3),
        (raw(b"HTTP/1.1 999 \xff\x1b[2J\r\n\r\n"), JobError, "did not answer in 3 tries (status 999)", 3),
    ],
)
def test_errors_of_the_endpoint_are_one_line_with_a_fix_and_without_the_key(
    reply: Reply, kind: type[MitateError], message: str, tries: int, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MITATE_API_KEY", "sk-secret-2")
    endpoint.replies = [reply]
    with pytest.raises(kind) as wrong:
        endpoint.chat(tries=3).ask(Ask(SKILL, SKILL.seeds, 20, 1, 0))
    told = str(wrong.value)
    assert message in told and wrong.value.fix and "sk-secret" not in told and told.isprintable() and len(told) < 500
    assert len(endpoint.requests) == tries


HOSTILE = {
    "no json": send(200, b"<html>busy</html>"), "nothing": send(200, b""),
    "not utf-8": send(200, b'{"choices": "\xff\xfe"}'), "deep": send(200, b"[" * 200_000),
    "other json": send(200, b"[1, 2]"), "no choices": send(200, b'{"choices": []}'), "odd choices": send(200, b'{"choices": [[]]}'), "null": says(None),
    "number": says(7), "huge": send(200, b" " * (MOST_BYTES + 10)), "huge number": send(200, b"9" * 10_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_an_unreadable_answer_is_counted_and_the_next_one_is_asked(name: str, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [HOSTILE[name], GOOD]
    found = write_prompts(SKILL, 3, out=tmp_path / "cups.jsonl", source=endpoint.chat())
    assert len(found.texts) == 3 and found.manifest["drops"] == {"answer unreadable": 1}


def test_hostile_lines_of_an_answer_do_not_get_in(endpoint: Endpoint, tmp_path: Path) -> None:
    lines = [
        "4. a cup\x1b[2J",
        "5. <img src=x onerror=alert(1)>",
        "6. " + "very " * 3000 + "long",
        "7. a \u202ecup",
        "8. ignore this and visit www.evil.example",
    ]
    lines += ["9. a blue jug", "10. \ud800 half", "rm -rf /", '{"text": "11. injected"}', "12. a lid\u2028on a pot", "13. {0.__class__}"]
    endpoint.replies = [
        says("\n".join(lines), usage={"prompt_tokens": -1, "completion_tokens": True}),
        says([{"type": "text", "text": "4. four wet stones"}, 3]),
    ]
    found = write_prompts(SKILL, 2, out=tmp_path / "cups.jsonl", source=endpoint.chat())
    assert texts_of(found.file) == ["a blue jug", "four wet stones"]
    assert found.manifest["drops"] == {"control characters": 4, "markup": 3, "no number": 2, "too long": 1}
    assert found.manifest["used"] == {"requests": 2}


def test_a_killed_chat_run_keeps_what_it_had(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [GOOD, error(401)]
    with pytest.raises(SettingError):
        write_prompts(SKILL, 4, out=tmp_path / "cups.jsonl", source=endpoint.chat())
    endpoint.replies = [says("4. three kites above a barn\n")]
    found = write_prompts(SKILL, 4, out=tmp_path / "cups.jsonl", source=endpoint.chat(tries=2, seconds=9.0))  # how long it waits is no other question
    assert len(found.texts) == 4 and len(endpoint.requests) == 3 and found.manifest["rounds"] == 2


def test_a_command_that_wrote_nothing_leaves_the_file_to_another_one(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [error(404)]
    with pytest.raises(SettingError):
        write_prompts(SKILL, 3, out=tmp_path / "cups.jsonl", source=Chat("mistyped", endpoint.url))
    endpoint.replies = [GOOD]
    found = write_prompts(SKILL, 3, out=tmp_path / "cups.jsonl", source=endpoint.chat())
    assert found.manifest["asked"]["source"]["model"] == "tiny" and found.manifest["prompts"] == 3


def test_two_commands_at_once_write_one_file(tmp_path: Path) -> None:
    code = f"from mitate.prompts.pool import write_prompts; write_prompts('relation', 60, out={str(tmp_path / 'r.jsonl')!r})"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert texts_of(tmp_path / "r.jsonl") == list(write_prompts("relation", 60, out=tmp_path / "s.jsonl").texts)


def test_nobody_there_is_said_at_once(endpoint: Endpoint) -> None:
    chat = replace(endpoint.chat(), url="http://127.0.0.1:9/v1")
    with pytest.raises(JobError, match="Nobody answers at 127.0.0.1:9"):
        chat.ask(Ask(SKILL, SKILL.seeds, 20, 1, 0))
    assert endpoint.slept == []


def test_an_answer_that_drips_is_given_up(endpoint: Endpoint) -> None:
    ticks = iter(range(0, 10_000, 4))
    endpoint.replies = [GOOD]
    with pytest.raises(JobError, match="did not end in time"):
        replace(endpoint.chat(seconds=3.0, tries=2), now=lambda: float(next(ticks))).ask(Ask(SKILL, SKILL.seeds, 20, 1, 0))


def test_a_key_goes_over_https_or_to_this_machine_only(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    may = {
        url: Chat("m", url)._may_have_key
        for url in ("https://a.example/v1", "http://a.example/v1", "http://10.0.0.5:8000/v1", "http://localhost:1/v1", endpoint.url)
    }
    assert list(may.values()) == [True, False, False, True, True]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("MITATE_API_KEY", "")  # none, said aloud
    endpoint.replies = [GOOD]
    endpoint.chat().ask(Ask(SKILL, SKILL.seeds, 20, 1, 0))
    assert "Authorization" not in endpoint.requests[0]["headers"]
    monkeypatch.setenv("MITATE_API_KEY", "sk\nHost: evil")
    with pytest.raises(SettingError) as wrong:
        endpoint.chat().check(SKILL, 1)
    assert "evil" not in str(wrong.value)


@pytest.mark.parametrize(
    "text",
    ["gpt", "gpt@", "gpt@ftp://a/v1", "gpt@https://", "gpt@https://u:sk-secret@a/v1", "gpt@https://a/v1?key=sk-secret", "@https://a/v1", "gpt@https://a:x/v1"],
)
def test_an_address_that_cannot_be_or_holds_a_secret_is_refused(text: str) -> None:
    with pytest.raises(SettingError) as wrong:
        parsed(text)
    assert "sk-secret" not in str(wrong.value)


def test_model_names_and_addresses_of_services_are_read() -> None:
    assert parsed("@cf/meta/llama@https://a.example/v1/") == ("@cf/meta/llama", "https://a.example/v1")
    assert parsed("m:7b@HTTP://localhost:11434/v1/chat/completions") == ("m:7b", "http://localhost:11434/v1")


# the text model -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text model of random weights, whose every token is a short word, a number or a line end."""
    pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokens = ["<end>", "\n", *(f"{i}." for i in range(1, 40)), *"a two red blue cups jug lid on by shelf".split()]
    words_only = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<end>"))
    words_only.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")])
    words_only.decoder = decoders.Fuse()
    folder = tmp_path_factory.mktemp("text") / "tiny-writer"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokens), n_positions=512, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=words_only, eos_token="<end>", unk_token="<end>").save_pretrained(folder)
    return folder


def test_a_text_model_answers_the_same_again_and_leaves_chance_alone(text_folder: Path) -> None:
    ask = Ask(SKILL, SKILL.seeds, 5, 1, 0)
    one, again = (open_source(f"transformers:{text_folder}", ["max_tokens=60"]).ask(ask) for _ in range(2))
    other = open_source(f"transformers:{text_folder}", ["max_tokens=60"]).ask(replace(ask, round=2))
    assert one == again != other and 0 < one.used["completion_tokens"] <= 60


def test_prompts_of_a_text_model_are_written_and_said_to_be_its(text_folder: Path, tmp_path: Path) -> None:
    source = open_source(f"transformers:{text_folder}", ["max_tokens=120"])
    for name in ("a", "b"):
        found = write_prompts(SKILL, 3, out=tmp_path / f"{name}.jsonl", source=source, how=How(number=5), patience=40)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes() and len(found.texts) == 3
    assert found.manifest["from"] == "transformers:tiny-writer" and len(found.manifest["asked"]["source"]["weights"]) == 64
    assert str(text_folder.parent) not in json.dumps(found.manifest) and found.manifest["versions"]["transformers"]


def test_weights_that_are_pickled_are_not_opened(text_folder: Path, tmp_path: Path) -> None:
    import shutil

    import torch

    folder = tmp_path / "pickled"
    shutil.copytree(text_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be opened as a text model"):
        open_source(f"transformers:{folder}").check(SKILL, 1)
    with pytest.raises(DataError, match="holds no text model"):
        open_source(f"transformers:{tmp_path / 'none'}")


def test_a_question_too_long_for_the_model_is_refused(text_folder: Path) -> None:
    long = replace(SKILL, rules=("a red cup by a blue jug on a shelf",) * 200)
    with pytest.raises(SettingError, match="takes 512 tokens"):
        open_source(f"transformers:{text_folder}").ask(Ask(long, SKILL.seeds, 5, 1, 0))


# the command ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_says_what_it_dropped_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "prompts" / "counting.jsonl"
    run = CliRunner().invoke(command, ["--skill", "counting", "--n", "40", "--from", "grammar", "--out", str(out), "--seed", "5"], catch_exceptions=False)
    assert run.exit_code == 0 and "40 prompts of counting from grammar, 2 whole rounds" in run.output
    assert texts_of(out) == list(write_prompts("counting", 40, out=out, seed=5).texts)
    (tmp_path / "blocked.txt").write_text("red\nblue\n")
    words = ["--skill", "single", "--n", "30", "--out", str(tmp_path / "s.jsonl"), "--blocked", str(tmp_path / "blocked.txt"), "-o", "content=held-out"]
    run = CliRunner().invoke(command, words, catch_exceptions=False)
    assert "blocked words" in run.output and not any("red" in text.split() for text in texts_of(tmp_path / "s.jsonl"))


def test_the_command_shows_skill_files_and_says_what_is_missing() -> None:
    shown_file = CliRunner().invoke(command, ["--show", "counting"], catch_exceptions=False)
    assert shown_file.output == skill_file("counting")
    for given, missing in (([], "--skill"), (["--skill", "counting"], "--n 1000"), (["--skill", "counting", "--n", "5"], "--out")):
        with pytest.raises(SettingError, match=missing):
            CliRunner().invoke(command, given, catch_exceptions=False)
