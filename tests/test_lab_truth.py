from dataclasses import replace

import pytest

from mitate.errors import DataError
from mitate.lab.drawing import draw
from mitate.lab.oracle import read
from mitate.lab.skills import held_out, training
from mitate.lab.truth import distribution_errors
from mitate.lab.world import Scene, World

WORLD = World(colours={"red": 5})


def test_scenes_of_the_world_itself_are_within_its_floor() -> None:
    errors = distribution_errors([WORLD.scene(i, seed=9) for i in range(300)], WORLD, draws=60)
    assert sum(e.sure for e in errors.values()) <= 1  # each one alone is above its range in 2.5 of 100
    assert all(0 <= e.low <= e.floor <= e.high < 1 for e in errors.values())


def test_pictures_read_by_the_oracle_are_within_the_floor() -> None:
    errors = distribution_errors([read(draw(WORLD.scene(i, seed=2))) for i in range(150)], WORLD, draws=40)
    assert sum(e.sure for e in errors.values()) <= 1


def test_the_error_is_the_share_that_would_have_to_change() -> None:
    scenes = [World(dim=0.0).scene(i) for i in range(200)]
    errors = distribution_errors(scenes, World(dim=0.25), draws=20)
    assert errors["light"].value == pytest.approx(0.25) and errors["light"].sure and errors["light"].worst[0] in ("dim", "normal")


def test_a_colour_that_vanished_is_named() -> None:
    def without_red(scene: Scene) -> Scene:
        return replace(scene, things=tuple(replace(t, colour="blue" if t.colour == "red" else t.colour) for t in scene.things))

    errors = distribution_errors([without_red(WORLD.scene(i, seed=4)) for i in range(300)], WORLD, draws=30)
    assert errors["colour"].sure and errors["colour"].value == pytest.approx(WORLD.shares("colour")["red"], abs=0.09)  # and what 600 things vary by
    assert not errors["shape"].sure and not errors["background"].sure


def test_what_was_left_out_of_training_is_not_blamed_on_a_model() -> None:
    scenes = [training(i, seed=5)[1] for i in range(400)]
    errors = distribution_errors(scenes, World(), among=lambda scene: not held_out(scene), draws=30)
    assert sum(e.sure for e in errors.values()) <= 1


def test_scenes_without_things_are_refused() -> None:
    with pytest.raises(DataError, match="hold no things"):
        distribution_errors([Scene((), "white")], WORLD)
