"""One mix of classes: equal shares, what is kept, chance alone within a class; and style, precision and labels that a mix alone does not spoil."""

from __future__ import annotations

import numpy as np
import pytest

from mitate.metrics import told_apart as ta
from mitate.metrics.likeness import likeness
from mitate.metrics.looks import gaps
from mitate.metrics.measures import at_mix, df_at_mix
from mitate.metrics.mixes import one_mix, thinned
from mitate.metrics.neighbours import density, neighbourhood, precision
from mitate.score import Score


def shares(labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels, minlength=count) / len(labels)


def test_parts_have_one_mix_and_each_set_keeps_the_sum_of_the_least_shares() -> None:
    rng = np.random.default_rng(0)
    labels = [rng.choice(4, size=n, p=mix) for n, mix in ((300, [0.25] * 4), (500, [0.1, 0.2, 0.3, 0.4]), (120, [0.4, 0.3, 0.2, 0.1]))]
    parts = one_mix(labels, seed=0)
    mixes = [shares(y[rows], 4) for y, rows in zip(labels, parts, strict=True)]
    least = np.min([shares(y, 4) for y in labels], axis=0).sum()
    for y, rows, mix in zip(labels, parts, mixes, strict=True):
        assert (np.diff(rows) > 0).all() and len(rows) >= least * len(y) - 2
        np.testing.assert_allclose(mix, mixes[0], atol=1 / len(rows))


def test_sets_of_one_mix_are_kept_whole() -> None:
    labels = [np.arange(60) % 3, np.repeat(np.arange(3), 35), np.arange(9)[::-1] % 3]
    assert [rows.tolist() for rows in one_mix(labels, seed=5)] == [list(range(len(y))) for y in labels]


def test_classes_that_a_set_lacks_and_images_without_a_class_are_in_no_part() -> None:
    labels = [np.array([0, 0, 1, 1, 2, 2]), np.array([-1, 1, 1, 2, -1, 2, 2, 2])]
    first, second = one_mix(labels, seed=0)
    assert set(labels[0][first]) == set(labels[1][second]) == {1, 2}
    with pytest.raises(ValueError, match="no class in common; fix:"):
        one_mix([np.zeros(5, int), np.full(5, -1)], seed=0)
    with pytest.raises(ValueError, match="no class in common"):
        one_mix([np.zeros(5, int), np.ones(5, int)], seed=0)


def test_within_a_class_the_images_are_drawn_by_chance_alone() -> None:
    labels = [np.repeat([0, 1], [90, 10]), np.repeat([0, 1], 50)]
    drawn = np.zeros(100)
    for seed in range(400):
        drawn[one_mix(labels, seed=seed)[0]] += 1
    assert (drawn[90:] == 400).all() and np.ptp(drawn[:90]) < 120, "the rarer class whole, of the other each image about as often"
    same, again = one_mix(labels, seed=3), one_mix(labels, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(same, again, strict=True))


def test_a_thinned_set_keeps_its_mix() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 21])
    rows = thinned(labels, 40, rng=np.random.default_rng(0))
    assert len(rows) == 40 and np.bincount(labels[rows]).tolist() == [20, 12, 8]
    assert np.array_equal(thinned(labels, 101, rng=np.random.default_rng(0)), np.arange(101))


# what rests on it


def world(seed: int, mix: float, *, n: int = 120, shift: float = 0.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features and labels of a real, a synthetic and a held-out set; two classes far apart, of one look but for the shift; of the synthetic one
    a share `mix` is of the first."""
    rng = np.random.default_rng(seed)
    labels = [(rng.random(n) >= share).astype(np.int64) for share in (0.5, mix, 0.5)]
    points = [rng.normal(size=(n, 6)) + 4.0 * y[:, None] * (np.arange(6) < 2) for y in labels]
    points[1] += shift
    return points, labels


def worse(found: ta.ApartBeside) -> bool:
    value, floor = found.value.auc, found.floor.auc
    told = {"low": value.low, "high": value.high, "n": value.n, "floor": floor.value, "floor_low": floor.low, "floor_high": floor.high, "better": "lower"}
    return Score("told_apart", "style", "fakes", value.value, **told).beside == "worse"  # type: ignore[arg-type]


def test_two_sets_of_one_look_are_not_told_apart_for_their_mix() -> None:
    """50/50 beside 90/10, 40 worlds: as they come nearly always flagged, at one mix never, and the intervals hold what is true."""
    flagged, held = np.zeros(2), np.zeros(4)
    for seed in range(40):
        points, labels = world(seed, 0.9)
        rows = one_mix(labels, seed=seed)
        some, of = [x[r] for x, r in zip(points, rows, strict=True)], tuple(y[r] for y, r in zip(labels, rows, strict=True))
        whole, even = ta.told_apart_beside(*points, seed=seed), ta.told_apart_beside(*some, seed=seed, labels=of)  # type: ignore[call-arg,arg-type]
        flagged += [worse(whole), worse(even)]
        gap = [gaps({"lightness": real[:, 0]}, {"lightness": fake[:, 0]})["lightness"].gap for real, fake, _ in (points, some)]
        held += [i.low <= truth <= i.high for i, truth in ((whole.value.auc, 0.5), (even.value.auc, 0.5), (gap[0], 0.0), (gap[1], 0.0))]
    assert flagged[0] >= 30 and flagged[1] <= 1, flagged
    assert held[0] <= 4 and held[1] >= 36 and held[2] == 0 and held[3] >= 36, held


def test_another_look_is_told_apart_at_one_mix() -> None:
    points, labels = world(0, 0.8, n=200, shift=0.5)
    rows = one_mix(labels, seed=0)
    some, of = [x[r] for x, r in zip(points, rows, strict=True)], tuple(y[r] for y, r in zip(labels, rows, strict=True))
    assert worse(ta.told_apart_beside(*some, seed=0, labels=of))  # type: ignore[call-arg,arg-type]


def test_folds_of_one_mix_hold_a_half_where_nothing_differs() -> None:
    """Ten classes, as many images of each: folds of other mixes would teach the opposite of what is asked."""
    labels = (np.arange(160) % 10, np.arange(80) % 10)
    means = 3.0 * np.random.default_rng(7).normal(size=(10, 12))
    even, uneven = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        real, fake = (means[y] + rng.normal(size=(len(y), 12)) for y in labels)
        even.append(ta.told_apart(real, fake, seed=seed, labels=labels).auc)
        uneven.append(ta.told_apart(real, fake, seed=seed).auc)
    assert np.mean([i.value for i in even]) == pytest.approx(0.5, abs=0.03) and np.mean([i.value for i in uneven]) < 0.47
    assert sum(i.low <= 0.5 <= i.high for i in even) >= 38 > 32 > sum(i.low <= 0.5 <= i.high for i in uneven)


def test_each_fold_has_the_mix_of_its_set() -> None:
    labels = (np.arange(100) % 4, np.repeat(np.arange(4), [10, 10, 10, 30]))
    found = ta.told_apart(np.random.default_rng(0).normal(size=(100, 5)), np.random.default_rng(1).normal(size=(60, 5)), seed=0, labels=labels)
    for folds, y in ((found.real_folds, labels[0]), (found.fake_folds, labels[1])):
        assert all(np.bincount(folds[y == k]).tolist() == [(y == k).sum() // 5] * 5 for k in range(4))


def test_precision_and_density_of_held_out_images_are_those_at_the_synthetic_mix() -> None:
    rng = np.random.default_rng(0)
    real, held, held_y = rng.normal(size=(80, 4)), rng.normal(size=(60, 4)), np.arange(60) % 3
    held[held_y == 2] += 2.5  # held-out images of this class lie among the real ones less often
    fake, fake_y = rng.normal(size=(60, 4)), np.repeat([0, 2, -1], [10, 40, 10])
    found = {line.metric.name: line for line in likeness(real, fake, held, seed=0, labels=fake_y, held_labels=held_y)}
    near = neighbourhood(real, held)
    for name, each in (("precision", near.real_balls[:, 0] > 0), ("density", near.real_balls[:, 0] / 5)):
        floor, value = found[name].floor, found[name].value
        assert floor is not None and floor.value == pytest.approx(0.2 * each[held_y == 0].mean() + 0.8 * each[held_y == 2].mean())
        assert value is not None and value.value == pytest.approx((precision if name == "precision" else density)(neighbourhood(real, fake)).value)
        assert floor.value < each.mean() - 0.1 and floor.low < floor.value < floor.high
    plain = {line.metric.name: line for line in likeness(real, fake, held, seed=0)}
    for name in ("recall", "coverage", "frechet", "kernel_distance"):
        assert found[name].floor == plain[name].floor, "these see whole sets"


def test_a_number_at_another_mix_is_the_weighted_mean_of_its_classes() -> None:
    y, right = np.repeat([0, 1, 2], [40, 50, 10]), np.r_[np.ones(30), np.zeros(10), np.ones(20), np.zeros(30), np.ones(9), np.zeros(1)]
    mix = np.array([0.2, 0.0, 0.8])
    found = at_mix(y, right, mix)
    assert found.mean() == pytest.approx(0.2 * 0.75 + 0.8 * 0.9) and np.ptp(found[y == 1]) == 0
    variance = 0.2**2 * right[y == 0].var(ddof=1) / 40 + 0.8**2 * right[y == 2].var(ddof=1) / 10
    assert found.var(ddof=1) / len(y) == pytest.approx(variance)
    assert df_at_mix(np.array([40, 50, 10]), mix) == pytest.approx((0.001 + 0.064) ** 2 / (0.001**2 / 39 + 0.064**2 / 9))
    assert at_mix(y, right, shares(y, 3)).mean() == pytest.approx(right.mean())
