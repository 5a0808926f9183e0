import numpy as np
import pytest

from mitate.lab.drawing import STYLES, draw
from mitate.lab.oracle import UNCLEAR, read
from mitate.lab.world import COLOURS, SHAPES, Scene, Thing, World

ATTRIBUTES = ("shape", "colour", "size", "texture")


def share_right(scenes: list[Scene], *, size: int = 32, style: str = "flat", noise: float = 0.0) -> float:
    """Share of attributes right: of things by place, number, ground and light of a scene."""
    right = []
    for scene in scenes:
        found = read(draw(scene, size=size, style=style, noise=noise), style=style)
        right += [len(found.things) == len(scene.things), found.background == scene.background, found.light == scene.light]
        for thing in scene.things:
            near = min(found.things, key=lambda t: (t.x - thing.x) ** 2 + (t.y - thing.y) ** 2, default=None)
            right += [near is not None and getattr(near, name) == getattr(thing, name) for name in ATTRIBUTES]
            right.append(near is not None and abs(near.x - thing.x) < 0.05 and abs(near.y - thing.y) < 0.05)
    return float(np.mean(right))


def test_clean_drawings_are_read_right() -> None:
    assert share_right([World().scene(i, seed=5) for i in range(60)]) >= 0.995


def test_clean_drawings_of_64_pixels_are_read_right() -> None:
    assert share_right([World().scene(i, seed=6) for i in range(20)], size=64) >= 0.995


def test_noisy_drawings_are_read_right() -> None:
    assert share_right([World().scene(i, seed=7) for i in range(60)], noise=10) >= 0.97


@pytest.mark.parametrize("style", [s for s in STYLES if s != "flat"])
def test_drawings_in_a_known_style_are_read_right(style: str) -> None:
    assert share_right([World().scene(i, seed=8) for i in range(30)], style=style) >= 0.93


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_each_pair_of_shape_and_colour_is_read(shape: str, colour: str) -> None:
    scene = Scene((Thing(shape, colour, "large", "plain", 0.4, 0.6, 0.135),), "grey")
    (thing,) = read(draw(scene)).things
    assert (thing.shape, thing.colour, thing.size) == (shape, colour, "large")


def test_an_empty_ground_has_no_things() -> None:
    for noise in (0, 10):
        assert read(draw(Scene((), "white"), noise=noise)).things == ()


def test_a_blot_is_no_shape() -> None:
    image = np.full((32, 32, 3), 245, dtype=np.uint8)
    image[5:7, 4:28] = image[5:27, 4:6] = (42, 84, 222)  # a hook
    (thing,) = read(image).things
    assert thing.shape == UNCLEAR and thing.colour == "blue"


@pytest.mark.parametrize("paint", [(20, 20, 20), (140, 140, 140), (120, 80, 60)])
def test_a_colour_that_is_none_of_ours_is_unclear(paint: tuple[int, int, int]) -> None:
    image = np.full((32, 32, 3), 245, dtype=np.uint8)
    image[10:20, 10:20] = paint
    (thing,) = read(image).things
    assert thing.colour == UNCLEAR and thing.shape == "square"


def test_a_thing_of_two_colours_has_no_clear_one() -> None:
    image = np.full((32, 32, 3), 245, dtype=np.uint8)
    image[10:20, 10:15], image[10:20, 15:20] = (222, 38, 38), (42, 84, 222)
    assert [thing.colour for thing in read(image).things] == [UNCLEAR]


@pytest.mark.parametrize("ground", [(170, 215, 170), (250, 180, 180), (120, 0, 0), (200, 200, 200)])
def test_a_ground_that_is_none_of_ours_is_unclear(ground: tuple[int, int, int]) -> None:
    image = np.full((32, 32, 3), ground, dtype=np.uint8)
    image[10:20, 10:20] = (42, 84, 222)
    assert read(image).background == UNCLEAR


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("shape", ["star", "triangle"])
def test_a_shape_upside_down_is_unclear(shape: str, size: int) -> None:
    (thing,) = read(draw(Scene((Thing(shape, "blue", "large", "plain", 0.5, 0.5, 0.135),), "white"), size=size)[::-1]).things
    assert thing.shape == UNCLEAR


def test_a_random_picture_does_not_end_in_an_error() -> None:
    chance = np.random.default_rng(0)
    for image in (
        chance.integers(0, 256, (32, 32, 3)),
        np.zeros((32, 32, 3)),
        np.full((24, 24, 3), 255),
        np.tile(np.arange(32) * 8, (32, 3, 1)).transpose(0, 2, 1),
    ):
        read(image.astype(np.uint8))
