"""Splits: disjoint, stratified, grouped, fixed by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.errors import DataError
from mitate.images import ImageSet, from_arrays
from mitate.intake.splits import Splits, folds, split


def made(counts: list[int], *, groups: list[str] | None = None, start: int = 0) -> ImageSet:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.zeros((len(y), 8, 8), np.uint8)
    x[:, 0, :4] = np.stack([(np.arange(len(y)) + start) // 256**k % 256 for k in range(4)], axis=1)
    return from_arrays(x, y, classes=[f"c{k}" for k in range(len(counts))], groups=groups)


def parts(s: Splits) -> list[set[str]]:
    return [set(p.digests) for p in (s.train, s.selection, s.holdout, s.test)]


def test_quarter_of_each_class_is_test_and_a_fifth_of_the_rest_each_for_selection_and_holdout() -> None:
    s = split(made([100, 40]), seed=0)
    assert [p.counts() for p in (s.test, s.selection, s.holdout, s.train)] == [
        {"c0": 25, "c1": 10}, {"c0": 15, "c1": 6}, {"c0": 15, "c1": 6}, {"c0": 45, "c1": 18},
    ]  # fmt: skip
    assert [p.split for p in (s.train, s.selection, s.holdout, s.test)] == ["train", "selection", "holdout", "test"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(5, 60), min_size=2, max_size=4), st.integers(0, 5), st.one_of(st.none(), st.integers(1, 30)))
def test_parts_never_share_an_image_and_every_class_is_in_every_part(counts: list[int], seed: int, per_class: int | None) -> None:
    s = split(made(counts), seed=seed, per_class=per_class)
    sets = parts(s)
    assert sum(map(len, sets)) == len(set.union(*sets)) <= sum(counts)
    for part in (s.train, s.selection, s.holdout, s.test):
        assert all(n >= 1 for n in part.counts().values())
    if per_class is None:
        assert sum(map(len, sets)) == sum(counts)
    else:
        assert max(s.train.counts().values()) <= per_class


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 25), st.integers(1, 6), st.integers(0, 5), st.booleans())
def test_a_group_never_straddles(n_groups: int, most: int, seed: int, across: bool) -> None:
    sizes = np.random.default_rng(seed).integers(1, most + 1, 2 * n_groups)
    groups = [f"g{i if not across else i % n_groups}" for i, n in enumerate(sizes) for _ in range(n)]
    images = made([int(sizes[:n_groups].sum()), int(sizes[n_groups:].sum())], groups=groups)
    try:
        s = split(images, seed=seed)
    except DataError as wrong:
        assert "too few groups" in wrong.message or "under 4 train" in wrong.message
        return
    seen = [set(p.groups or ()) for p in (s.train, s.selection, s.holdout, s.test)]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_order_and_names_of_files_change_nothing() -> None:
    images = made([30, 30])
    shuffled = images.subset(np.random.default_rng(0).permutation(60))
    assert parts(split(images, seed=3)) == parts(split(shuffled, seed=3))


def test_another_seed_gives_another_split() -> None:
    assert parts(split(made([30, 30]), seed=0)) != parts(split(made([30, 30]), seed=1))


def test_one_more_image_moves_few_others() -> None:
    images = made([101, 100])
    less = images.subset(range(1, 201))
    moved = sum(len(a - b) for a, b in zip(parts(split(less, seed=0)), parts(split(images, seed=0)), strict=True))
    assert moved <= 4


def test_fewer_train_images_are_part_of_more() -> None:
    images = made([200, 200])
    sets = [set(split(images, seed=0, per_class=n).train.digests) for n in (5, 10, 20, 50)]
    assert [len(s) for s in sets] == [10, 20, 40, 100] and all(a < b for a, b in zip(sets, sets[1:], strict=False))


def test_test_set_does_not_depend_on_how_many_train_images_are_asked_for() -> None:
    images = made([80, 80])
    assert len({split(images, seed=0, per_class=n).test.digest for n in (5, 20, None)}) == 1


def test_what_is_not_trained_on_feeds_selection_and_holdout() -> None:
    s = split(made([100, 100]), made([30, 30], start=1000), seed=0, per_class=20)
    assert [set(p.counts().values()) for p in (s.train, s.selection, s.holdout)] == [{20}, {20}, {20}]
    s = split(made([100, 100]), made([30, 30], start=1000), seed=0, per_class=5)
    assert [set(p.counts().values()) for p in (s.train, s.selection, s.holdout)] == [{5}, {10}, {10}]


def test_sets_that_the_user_gave_are_taken_as_they_are() -> None:
    test, held = made([6, 6], start=1000), made([3, 3], start=2000)
    s = split(made([20, 20]), test, seed=0, holdout=held)
    assert s.test.digests == test.digests and s.holdout.digests == held.digests and not s.cross_fit
    assert s.selection.counts() == {"c0": 4, "c1": 4} and s.train.counts() == {"c0": 16, "c1": 16}


def test_a_small_test_set_asks_for_cross_fitting() -> None:
    assert split(made([20, 20]), seed=0).cross_fit and not split(made([100, 100]), seed=0).cross_fit


def test_folds_test_every_image_once() -> None:
    images = made([23, 9, 31])
    for repeat in range(2):
        out = folds(images, repeat, seed=0)
        tested = [d for s in out for d in s.test.digests]
        assert len(out) == 5 and sorted(tested) == sorted(images.digests)
        for s in out:
            sets = parts(s)
            assert sum(map(len, sets)) == len(set.union(*sets)) == 63
            assert max(abs(n - m / 5) for n, m in zip(s.test.counts().values(), (23, 9, 31), strict=True)) < 1.0
    assert folds(images, 0, seed=0)[0].test.digests != folds(images, 1, seed=0)[0].test.digests


def test_folds_keep_groups_whole() -> None:
    images = made([30, 30], groups=[f"g{i // 3}" for i in range(60)])
    for s in folds(images, 0, seed=1):
        seen = [set(p.groups or ()) for p in (s.train, s.selection, s.holdout, s.test)]
        assert sum(map(len, seen)) == len(set.union(*seen))


def test_identical_pixels_move_as_one() -> None:
    x = np.zeros((40, 8, 8), np.uint8)
    x[:, 0, 0] = np.repeat(np.arange(20), 2)
    s = split(from_arrays(x, np.repeat([0, 1], 20)), seed=0)
    assert sum(map(len, parts(s))) == 20 == len(set.union(*parts(s)))


@pytest.mark.parametrize("counts", [[3, 20], [0, 20]])
def test_classes_too_small_are_refused_with_their_names(counts: list[int]) -> None:
    with pytest.raises(DataError, match=rf"under 4 train images: c0 \({counts[0]}\)") as wrong:
        split(made(counts), seed=0)
    assert wrong.value.fix


def test_one_group_a_class_is_refused() -> None:
    with pytest.raises(DataError, match="too few groups"):
        split(made([20, 20], groups=["a"] * 20 + ["b"] * 20), seed=0)


def test_images_without_a_group_are_on_their_own() -> None:
    s = split(made([20, 20], groups=[""] * 40), seed=0)
    assert [len(p) for p in parts(s)] == [18, 6, 6, 10]


def test_few_of_each_class_are_nested_and_leave_out_what_has_no_label() -> None:
    x = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    images = from_arrays(x, np.arange(90) % 4 - 1, classes=("a", "b", "c"))
    three, five = images.few(3, seed=1), images.few(5, seed=1)
    assert three.counts() == {"a": 3, "b": 3, "c": 3} and len(five) == 15 and set(three.digests) < set(five.digests)
    assert set(images.few(1000, seed=1).digests) == {d for d, k in zip(images.digests, images.labels, strict=True) if k >= 0}
    assert images.few(3, seed=2).digests != three.digests
