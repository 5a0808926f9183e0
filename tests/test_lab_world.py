from collections import Counter

import numpy as np
import pytest

from mitate.errors import SettingError
from mitate.lab.world import BIASED, MARGIN, MOST, RARE, SHAPES, WITHHELD, World, extent, place


def test_a_scene_depends_on_its_number_and_seed_alone() -> None:
    world = World()
    assert world.scene(7, seed=3) == World().scene(7, seed=3)
    assert world.scene(7, seed=3) != world.scene(8, seed=3)
    assert world.scene(7, seed=3) != world.scene(7, seed=4)


def test_things_never_touch_each_other_or_the_border() -> None:
    world = World(counts=(0, 0, 0, 1), large=0.9)
    for i in range(200):
        boxes = []
        for t in world.scene(i).things:
            wide, up, down = (t.r * v for v in extent(t.shape))
            boxes.append((t.x - wide, t.y - up, t.x + wide, t.y + down))
        assert all(min(b[:2]) >= MARGIN - 1e-9 and max(b[2:]) <= 1 - MARGIN + 1e-9 for b in boxes)
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for j, a in enumerate(boxes) for b in boxes[:j])


def test_four_of_the_widest_things_always_find_a_place() -> None:
    for seed in range(50):
        assert len(place([("triangle", "red", "large", "plain")] * MOST, np.random.default_rng(seed))) == MOST


@pytest.mark.parametrize("world", [World(), World(colours={"red": 8}, large=0.3, textured=0.6, dim=0.4), World(bias=0.8)], ids=["plain", "skewed", "biased"])
def test_shares_of_a_world_are_the_truth(world: World) -> None:
    scenes = [world.scene(i, seed=1) for i in range(3000)]
    for name in ("shape", "colour", "pair", "size", "texture", "background", "light", "number"):
        if name in ("background", "light"):
            found, n = Counter(getattr(s, name) for s in scenes), len(scenes)
        elif name == "number":
            found, n = Counter(str(len(s.things)) for s in scenes), len(scenes)
        elif name == "pair":
            found, n = Counter(f"{s.things[-1].colour} {s.things[-1].shape}" for s in scenes), len(scenes)
        else:  # of one thing a scene, so that counts are independent
            found, n = Counter(getattr(s.things[-1], name) for s in scenes), len(scenes)
        for value, share in world.shares(name).items():
            assert found[value] / n == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5 + 1e-9), (name, value)
        assert sum(world.shares(name).values()) == pytest.approx(1)


def test_withheld_pairs_never_come_and_rare_ones_rarely() -> None:
    pairs = Counter((t.shape, t.colour) for i in range(2000) for t in World().scene(i).things)
    assert not set(WITHHELD) & set(pairs)
    usual = [n for pair, n in pairs.items() if pair not in RARE]
    assert max(pairs[pair] for pair in RARE) < min(usual)
    assert {(t.shape, t.colour) for i in range(200) for t in World(only=WITHHELD).scene(i).things} <= set(WITHHELD)


def test_a_biased_world_ties_the_ground_to_the_shape() -> None:
    assert all(s.background == BIASED[s.things[0].shape] for s in (World(bias=1.0).scene(i) for i in range(100)))


def test_small_things_are_plain() -> None:
    assert all(t.texture == "plain" for i in range(300) for t in World(textured=1.0).scene(i).things if t.size == "small")


@pytest.mark.parametrize(
    "wrong",
    [{"colours": {"redd": 8}}, {"shapes": {"star": -1}}, {"only": (("hexagon", "red"),)}, {"large": 2}, {"counts": (0, 0, 0, 0, 1)}, {"counts": ()},
     {"same": ("place",)}, {"shapes": dict.fromkeys(SHAPES, 0)}],
)  # fmt: skip
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingError):
        World(**wrong)


@pytest.mark.parametrize("same", ["shape", "colour", "size", "texture"])
def test_what_all_things_of_a_scene_share_they_share(same: str) -> None:
    world = World(counts=(0, 0, 1), mixed=1.0, same=(same,), textured=0.8)
    assert all(len({getattr(t, same) for t in world.scene(i).things}) == 1 for i in range(200))


def test_an_attribute_without_known_shares_is_refused() -> None:
    with pytest.raises(KeyError):
        World().shares("place")
