from dataclasses import replace

import numpy as np
import pytest

from mitate.errors import SettingError
from mitate.lab.captions import LOOKS, SAYABLE, caption, relation_of
from mitate.lab.foils import ATTRIBUTES, foil
from mitate.lab.questions import answers, faithfulness, questions
from mitate.lab.reading import understand
from mitate.lab.skills import SKILLS, held_out, pairs, prompts, training
from mitate.lab.world import WITHHELD, Scene, Thing, World

RED = Thing("circle", "red", "large", "plain", 0.25, 0.5, 0.135)
BLUE = Thing("square", "blue", "small", "plain", 0.75, 0.5, 0.085)


def test_a_scene_fulfils_every_caption_of_itself() -> None:
    for i in range(300):
        prompt, scene = training(i, seed=1, styled=0.3)
        assert all(answers(prompt, scene)), prompt.text


def test_words_are_read_back_into_what_they_ask() -> None:
    for i in range(300):
        prompt, _ = training(i, seed=2, styled=0.3)
        found = understand(prompt.text)
        assert found.prompt == prompt and found.unknown == ()


@pytest.mark.parametrize("skill", SKILLS)
def test_prompts_of_a_skill_are_read_back_and_fulfilled(skill: str) -> None:
    for prompt, scene in pairs(skill, 20, seed=4):
        assert understand(prompt.text).prompt == prompt
        assert all(answers(prompt, scene))


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("a giant zebra and two red circles", ("giant", "zebra")),
        ("a red circle and blue stars", ("blue", "stars")),  # a number is missing
        ("a red circle, not a star", ("not",)),
        ("a red circle beside a blue square", ("beside",)),
        ("a black circle", ("black", "circle")),
        ("a zebra", ("zebra",)),
    ],
)
def test_what_a_text_says_beyond_the_grammar_is_told(text: str, unread: tuple[str, ...]) -> None:
    assert understand(text).unknown == unread


def test_near_neighbours_of_the_grammar_are_read() -> None:
    for text in ("a small, red circle", "the small red circle", "A Small Red Disc"):
        found = understand(text)
        assert found.unknown == () and found.prompt is not None and (found.prompt.groups[0].size, found.prompt.groups[0].colour) == ("small", "red"), text
    found = understand("a red circle is to the left of a blue square")
    assert found.unknown == () and found.prompt is not None and found.prompt.relation == "left"


def test_prompt_i_depends_on_i_only() -> None:
    assert prompts("relation", 3, seed=1) == prompts("relation", 10, seed=1)[:3]
    assert prompts("relation", 3, seed=1) != prompts("relation", 3, seed=2)


def test_training_never_shows_what_was_left_out() -> None:
    for i in range(300):
        _, scene = training(i, seed=3)
        assert not held_out(scene) and not {(t.shape, t.colour) for t in scene.things} & set(WITHHELD)


@pytest.mark.parametrize("skill", [skill for skill in SKILLS if SKILLS[skill].left_out])
def test_prompts_of_a_skill_ask_for_what_was_left_out(skill: str) -> None:
    assert all(held_out(scene) for _, scene in pairs(skill, 20, seed=5))


def test_no_training_picture_fulfils_a_prompt_of_what_was_left_out() -> None:
    asked = [prompt for skill in ("single", "counting", "binding", "relation") for prompt in prompts(skill, 10, seed=6)]
    for i in range(1500):
        _, scene = training(i, seed=4)
        assert not any(all(answers(prompt, scene)) for prompt in asked)


def test_a_world_of_what_is_left_out_cannot_be_trained_on() -> None:
    with pytest.raises(SettingError, match="left out of training"):
        training(0, seed=0, world=World(only=WITHHELD))


def test_an_unknown_skill_is_named() -> None:
    with pytest.raises(SettingError, match="countng"):
        prompts("countng", 1, seed=0)


def test_words_that_fit_two_groups_are_told_apart() -> None:
    scene = Scene((RED, replace(RED, size="small", x=0.8, r=0.085)), "white")
    prompt = caption(scene, seed=0, say={"colour"})
    assert {g.size for g in prompt.groups} == {"large", "small"}
    assert all(answers(prompt, scene))


@pytest.mark.parametrize("style", LOOKS)
def test_a_style_is_named_and_understood(style: str) -> None:
    for seed in range(5):
        prompt = caption(Scene((RED,), "white"), seed=seed, style=style)
        assert understand(prompt.text).prompt == prompt and prompt.style == style


def test_relations_are_seen_from_the_first_thing() -> None:
    assert relation_of(RED, BLUE) == "left" and relation_of(BLUE, RED) == "right"
    assert relation_of(RED, replace(BLUE, x=0.45, y=0.7)) is None  # neither plainly right nor plainly below


def test_a_child_of_a_no_is_a_no() -> None:
    prompt = caption(Scene((RED, BLUE), "white"), seed=3, say=SAYABLE)
    found = answers(prompt, Scene((replace(RED, shape="star"), BLUE), "white"))
    for question, yes in zip(questions(prompt), found, strict=True):
        if any(prompt.groups[i].shape == "circle" for i in question.groups):
            assert not yes, question.text


@pytest.mark.parametrize(
    ("scene", "wrong"),
    [
        (Scene((replace(RED, colour="green"), BLUE), "white"), {"colour", "count", "relation", "only"}),
        (Scene((RED, replace(RED, y=0.8), BLUE), "white"), {"count", "only"}),
        (Scene((replace(RED, x=0.75), replace(BLUE, x=0.25)), "white"), {"relation"}),
        (Scene((replace(RED, colour="blue"), replace(BLUE, colour="red")), "white"), {"colour", "count", "relation", "only"}),  # there, but bound wrongly
        (Scene((RED, BLUE), "black"), {"background"}),
    ],
    ids=["colour", "one more", "sides", "binding", "ground"],
)
def test_what_is_wrong_is_asked_for(scene: Scene, wrong: set[str]) -> None:
    prompt = caption(Scene((RED, BLUE), "white"), seed=3, say={"colour", "relation", "background"})
    assert prompt.relation is not None
    found = faithfulness([prompt], [scene])
    assert {kind for kind, share in found.kinds.items() if share < 1} == wrong
    assert found.prompts == 0 and 0 < found.questions < 1


def test_an_empty_picture_earns_nothing() -> None:
    found = faithfulness([caption(Scene((RED,), "white"), seed=1, say={"colour", "size"})], [Scene((), "white")])
    assert found.questions == 0


def test_a_circle_and_a_red_circle_are_two_groups() -> None:
    prompt = understand("a circle and a red circle").prompt
    assert prompt is not None and all(answers(prompt, Scene((RED, replace(RED, colour="blue", x=0.7)), "white")))
    assert not all(answers(prompt, Scene((RED, replace(RED, x=0.7)), "white")))


def test_captions_are_worded_in_many_ways() -> None:
    scene = World().scene(3)
    assert len({caption(scene, seed=i).text for i in range(40)}) > 20


def test_a_foil_differs_in_the_attribute_it_is_of() -> None:
    for i in range(100):
        scene, chance = World().scene(i), np.random.default_rng(i)
        for attribute in ATTRIBUTES:
            other = foil(scene, attribute, chance)
            if other is None:
                continue
            if attribute == "number":
                assert len(other.things) == len(scene.things) - 1
            elif attribute in ("background", "light"):
                assert replace(other, **{attribute: getattr(scene, attribute)}) == scene != other
            else:
                (pair,) = [(a, b) for a, b in zip(scene.things, other.things, strict=True) if a != b]
                assert replace(pair[1], **{attribute: getattr(pair[0], attribute)}) == pair[0]
                assert pair[1].size == "large" or pair[1].texture == "plain"


def test_what_is_told_of_a_foil_is_not_true_of_the_scene() -> None:
    """A plain texture is not told, so a foil of that kind says less, in other words."""
    for i in range(100):
        scene = World().scene(i)
        own = caption(scene, seed=i, say=SAYABLE)
        for attribute in ATTRIBUTES:
            if (other := foil(scene, attribute, np.random.default_rng(i))) is None:
                continue
            told = caption(other, seed=i, say=SAYABLE)
            assert told.text != own.text
            assert attribute == "texture" or not all(answers(told, scene))
