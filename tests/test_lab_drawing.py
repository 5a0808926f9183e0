import math

import numpy as np
import pytest

from mitate.lab.drawing import GROUND, PALETTE, STYLES, coverage, draw, draw_all, inside
from mitate.lab.world import SHAPES, Scene, Thing, World, extent


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_area_of_the_unit_disc(shape: str) -> None:
    at = (np.arange(1200) + 0.5) / 1200 * 4 - 2
    assert inside(shape, *np.meshgrid(at, at)).sum() * (4 / 1200) ** 2 == pytest.approx(math.pi, rel=5e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_extent_is_how_far_a_shape_reaches(shape: str) -> None:
    at = (np.arange(1200) + 0.5) / 1200 * 4 - 2
    x, y = np.meshgrid(at, at)
    found = inside(shape, x, y)
    wide, up, down = extent(shape)
    assert (abs(x[found]).max(), -y[found].min(), y[found].max()) == pytest.approx((wide, up, down), abs=0.02)


def test_coverage_of_pixels_sums_to_the_area() -> None:
    for shape in SHAPES:
        _, cover = coverage(shape, x=0.43, y=0.57, r=0.1, size=64)
        assert cover.sum() == pytest.approx(math.pi * 6.4**2, rel=0.05)  # four samples a pixel and axis
        assert cover.min() >= 0 and cover.max() == 1


def test_a_thing_has_its_colour_and_the_ground_its_own() -> None:
    image = draw(Scene((Thing("square", "blue", "large", "plain", 0.5, 0.5, 0.135),), "beige"))
    assert tuple(image[16, 16]) == PALETTE["blue"]
    assert tuple(image[1, 1]) == GROUND["beige"]


def test_dim_light_darkens_everything_alike() -> None:
    scene = Scene((Thing("circle", "red", "large", "plain", 0.5, 0.5, 0.135),), "white")
    dim = draw(Scene(scene.things, scene.background, light="dim"))
    assert np.abs(dim - 0.6 * draw(scene)).max() <= 1


@pytest.mark.parametrize("style", STYLES)
def test_drawing_is_the_same_twice_and_styles_differ(style: str) -> None:
    scenes = [World().scene(i) for i in range(3)]
    one = draw_all(scenes, style=style, noise=5)
    assert one.dtype == np.uint8 and one.shape == (3, 32, 32, 3)
    assert np.array_equal(one, draw_all(scenes, style=style, noise=5))
    if style != "flat":
        assert not np.array_equal(draw_all(scenes, style=style), draw_all(scenes))
        assert np.array_equal(draw_all(scenes, style=style, strength=0.0), draw_all(scenes))


def test_noise_has_the_strength_that_was_asked_for() -> None:
    scene = Scene((), "grey")
    assert (draw(scene, size=64, noise=10).astype(float) - draw(scene, size=64)).std() == pytest.approx(10, rel=0.05)
