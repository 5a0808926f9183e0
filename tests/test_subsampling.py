"""Intervals by draws without replacement: closed forms, no duplicates, groups, equal n, coverage, determinism, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mitate.metrics import frechet as fr
from mitate.metrics import neighbours as nb
from mitate.metrics import subsampling as su
from mitate.metrics.intervals import quantile_t, wilson
from mitate.metrics.vendi import vendi


def means(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    return {"real": float(real.mean()), "fake": float(fake.mean()), "apart": float(fake.mean() - real.mean())}


def counts(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    found = nb.neighbourhood(real, fake)
    return {"precision": nb.precision(found).value, "recall": nb.recall(found).value, "coverage": nb.coverage(found)}


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(n, d)) + shift


# closed form


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (50, 200)])
def test_spread_of_a_mean_is_its_standard_error(n: int, m: int, share: float) -> None:
    """Over draws of b of n without replacement a mean varies by s^2 (1 / b - 1 / n); times b / (n - b) that is s^2 / n."""
    real, fake = normal(n, 1, 0), normal(m, 1, 1, scale=3.0)
    found = su.subsampled(means, real, fake, seed=0, share=share, draws=4000)
    for name, variance in (("real", real.var(ddof=1) / n), ("fake", fake.var(ddof=1) / m), ("apart", real.var(ddof=1) / n + fake.var(ddof=1) / m)):
        assert found[name].se_images == pytest.approx(math.sqrt(variance), rel=0.05)
        assert found[name].value == means(real, fake)[name], "the value is that of the whole sets"
        half = quantile_t(0.975, found[name].df_images) * found[name].se_images
        assert (found[name].low, found[name].high) == pytest.approx((found[name].value - half, found[name].value + half))


def test_degrees_of_freedom_count_draws_and_images() -> None:
    found = su.subsampled(means, normal(30, 1, 0), normal(60, 1, 1), seed=0, draws=20)["apart"]
    assert found.df_images == pytest.approx(1 / (1 / 19 + 1 / 29)) and found.n == 60


def test_no_draw_holds_an_image_twice_and_all_take_the_share() -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def look(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        seen.append((real, fake))
        return {"x": 0.0}

    su.subsampled(look, np.arange(50), 100 + np.arange(30), seed=0, share=0.8, draws=200)
    whole, draws = seen[0], seen[1:]
    assert (len(whole[0]), len(whole[1])) == (50, 30)
    for real, fake in draws:
        assert len(np.unique(real)) == len(real) == 40 and len(np.unique(fake)) == len(fake) == 24
    often = np.bincount(np.concatenate([real for real, _ in draws]))
    assert often.min() > 120 and often.max() < 190, "each image is in about four draws of five"


def test_large_sets_are_drawn_down_to_the_cap_in_one_proportion() -> None:
    sizes = []

    def look(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        sizes.append((len(real), len(fake)))
        return means(real, fake)

    real, fake = normal(4000, 1, 0), normal(400, 1, 1)
    found = su.subsampled(look, real, fake, seed=0, most=1000, draws=2000)
    assert set(sizes[1:]) == {(1000, 100)}
    assert found["fake"].se_images == pytest.approx(fake.std(ddof=1) / 20, rel=0.06)


def test_subsampling_does_not_move_recall_where_the_bootstrap_does() -> None:
    real, fake = normal(60, 8, 0), normal(60, 8, 1)
    rng = np.random.default_rng(0)
    whole = counts(real, fake)["recall"]
    twice = np.mean([counts(real[rng.integers(0, 60, 60)], fake[rng.integers(0, 60, 60)])["recall"] for _ in range(20)])
    once = np.mean([counts(real[rng.permutation(60)[:48]], fake[rng.permutation(60)[:48]])["recall"] for _ in range(20)])
    assert twice < whole - 0.06 and abs(once - whole) < 0.03


# groups


def test_whole_groups_are_drawn_and_their_spread_counts() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(20), 5))
    real = rng.normal(size=(100, 1)) * 0.1 + rng.normal(size=(20, 1))[groups]
    seen = []

    def look(rows: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        seen.append(rows)
        return {"real": float(real[rows].mean())}

    found = su.subsampled(look, np.arange(100), normal(40, 1, 1), seed=0, groups=groups, draws=2000)["real"]
    assert all(len(set(groups[rows])) == 16 and len(rows) == 80 for rows in seen[1:])
    centres = np.array([real[groups == g].mean() for g in range(20)])
    assert found.se_images == pytest.approx(centres.std(ddof=1) / math.sqrt(20), rel=0.06)
    alone = su.subsampled(look, np.arange(100), normal(40, 1, 1), seed=0, draws=200)["real"]
    assert alone.se_images < 0.6 * found.se_images and found.df_images < 19 < alone.df_images


# ends of the range


def test_shares_stay_between_0_and_1_and_are_never_certain() -> None:
    real = normal(40, 4, 0)
    copied = su.subsampled(counts, real, real.copy(), seed=0)
    far = su.subsampled(counts, real, normal(40, 4, 1, shift=50.0), seed=0)
    for name in ("precision", "recall", "coverage"):
        assert copied[name].value == copied[name].high == 1.0 and 0.8 < copied[name].low < 0.97
        assert far[name].value == far[name].low == 0.0 and 0.03 < far[name].high < 0.2


def test_wilson_form_is_wilsons_interval_at_the_binomial_variance() -> None:
    said = wilson(30, 100)
    found = su.wilson_form(0.3, 0.3 * 0.7 / 100, units=100, df=math.inf, confidence=0.95)
    assert found == pytest.approx((said.low, said.high), rel=1e-12)
    wide = su.wilson_form(0.3, 4 * 0.3 * 0.7 / 100, units=100, df=math.inf, confidence=0.95)
    said = wilson(75, 250)
    assert su.wilson_form(0.3, 0.3 * 0.7 / 250, units=100, df=math.inf, confidence=0.95)[0] < said.low, "never more trials than images"
    assert wide[0] < found[0] and wide[1] > found[1]


# coverage


@pytest.mark.parametrize(("name", "share"), [("precision", su.HALF), ("recall", su.HALF), ("frechet", su.SHARE), ("vendi", su.SHARE)])
def test_intervals_hold_the_average_at_this_n(name: str, share: float) -> None:
    rng = np.random.default_rng(2)

    def statistic(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        if name in ("precision", "recall"):
            return {name: counts_by_matrix(real, fake)[name]}
        return {name: fr.frechet(real, fake) if name == "frechet" else vendi(fake)}

    found = []
    for seed in range(40):
        real, fake = rng.normal(size=(40, 5)), 0.8 * rng.normal(size=(40, 5)) + 0.5
        found.append(su.subsampled(statistic, real, fake, seed=seed, share=share, draws=25)[name])
    truth = np.mean([i.value for i in found])
    assert np.mean([i.low <= truth <= i.high for i in found]) >= 0.9


def counts_by_matrix(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    own, other, apart = (np.linalg.norm(a[:, None] - b[None], axis=2) for a, b in ((real, real), (fake, fake), (real, fake)))
    inside = apart < np.partition(own, 5, axis=1)[:, 5, None]
    return {"precision": float(inside.any(axis=0).mean()), "recall": float((apart < np.partition(other, 5, axis=1)[:, 5]).any(axis=1).mean())}


# one set


def test_numbers_of_one_set_need_no_other() -> None:
    points = normal(60, 6, 0)
    found = su.subsampled_alone(lambda x: {"vendi": vendi(x), "mean": float(x[:, 0].mean())}, points, seed=0, draws=2000)
    assert found["vendi"].value == vendi(points) and found["vendi"].low < found["vendi"].value < found["vendi"].high
    assert found["mean"].se_images == pytest.approx(points[:, 0].std(ddof=1) / math.sqrt(60), rel=0.06)


# equal n


def test_value_and_floor_are_measured_at_the_same_number_of_images() -> None:
    sizes: list[tuple[int, int]] = []

    def look(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        sizes.append((len(real), len(fake)))
        return means(real, fake)

    real, fake, held = normal(60, 1, 0), normal(500, 1, 1, shift=1.0), normal(30, 1, 2)
    found = su.at_equal_n(look, real, fake, held, seed=0, draws=30)
    assert found.n == found.value["fake"].n == found.floor["fake"].n == 30
    assert set(sizes[:5]) == {(60, 30)} and set(sizes[5:]) == {(48, 24)}
    assert len(sizes) == 5 * 31, "four parts of the larger set, the smaller one whole"
    assert found.floor["fake"].value == pytest.approx(held.mean())
    assert found.value["fake"].value == pytest.approx(1.0, abs=0.3)
    for name in ("apart", "fake"):
        assert found.excess[name].value == pytest.approx(found.value[name].value - found.floor[name].value)


@pytest.mark.parametrize("count", [30, 37, 45, 60, 100, 120, 400])
def test_parts_use_every_image_about_as_often(count: int) -> None:
    seen: list[np.ndarray] = []

    def look(_real: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        seen.append(rows)
        return {"mean": float(rows.mean())}

    found = su.at_equal_n(look, np.arange(20), np.arange(count), 1000 + np.arange(30), seed=0, draws=2)
    seen = seen[: next(i for i, rows in enumerate(seen) if rows[0] >= 1000)]  # of the synthetic images, in the first round
    often = np.bincount(np.concatenate(seen), minlength=count)
    often = often[often > 0] if count > 120 else often
    assert all(len(rows) == 30 == len(np.unique(rows)) for rows in seen) and len(seen) <= su.PARTS
    assert often.max() - often.min() <= 1 and (count <= 120 or len(often) == 120)
    assert found.value["mean"].value == pytest.approx(np.mean([rows.mean() for rows in seen]))


@pytest.mark.parametrize("count", [40, 60, 160])
def test_spread_of_a_mean_over_parts_is_that_of_all_their_images(count: int) -> None:
    real, fake, held = normal(50, 1, 0), normal(count, 1, 1), normal(40, 1, 2)
    found = su.at_equal_n(means, real, fake, held, seed=0, draws=1500)
    assert found.floor["fake"].se_images == pytest.approx(held.std(ddof=1) / math.sqrt(40), rel=0.07)
    assert found.value["fake"].se_images == pytest.approx(fake.std(ddof=1) / math.sqrt(count), rel=0.2 if count == 60 else 0.07)
    variance = fake.var(ddof=1) / count + held.var(ddof=1) / 40
    assert found.excess["apart"].se_images == pytest.approx(math.sqrt(variance), rel=0.12), "the real images are the same on both sides"


def test_held_out_images_of_the_same_kind_leave_no_excess_and_a_narrow_set_does() -> None:
    real, held = normal(80, 6, 10), normal(50, 6, 11)
    alike = su.at_equal_n(counts, real, normal(50, 6, 12), held, seed=0, share=su.HALF, draws=25)
    narrow = su.at_equal_n(counts, real, normal(50, 6, 13, scale=0.3), held, seed=0, share=su.HALF, draws=25)
    for name in ("precision", "recall", "coverage"):
        assert alike.excess[name].low < 0 < alike.excess[name].high
    assert narrow.excess["recall"].high < -0.2 and narrow.excess["precision"].low > -0.1


def test_two_sets_that_both_score_1_are_not_for_certain_alike() -> None:
    real = normal(40, 3, 0)
    found = su.at_equal_n(counts, real, real.copy(), real.copy(), seed=0, draws=20)
    assert found.excess["precision"].value == 0.0 and found.excess["precision"].high >= 1 / 40


# determinism, refusals


def test_same_seed_same_intervals() -> None:
    real, fake, held = normal(40, 3, 0), normal(30, 3, 1), normal(50, 3, 2)
    calls: list[Any] = [
        lambda s: su.subsampled(means, real, fake, seed=s, groups=np.arange(40) // 2),
        lambda s: su.at_equal_n(means, real, fake, held, seed=s).excess,
        lambda s: su.subsampled_alone(lambda x: {"mean": float(x.mean())}, real, seed=s),
    ]
    for call in calls:
        assert call(3) == call(3) != call(4)


def test_sets_too_small_to_be_drawn_from_are_refused() -> None:
    real, fake = normal(40, 3, 0), normal(30, 3, 1)
    for call, message in (
        (lambda: su.subsampled(means, real[:19], fake, seed=0), "needs 20 real images, has 19; fix:"),
        (lambda: su.subsampled(means, real, fake[:19], seed=0), "needs 20 synthetic images, has 19; fix:"),
        (lambda: su.at_equal_n(means, real, fake, real[:19], seed=0), "needs 20 held-out images, has 19; fix:"),
        (lambda: su.subsampled(means, real, fake, seed=0, groups=np.arange(40) // 10), "needs 5 groups of real images, has 4; fix:"),
        (lambda: su.subsampled(means, real, fake, seed=0, groups=np.arange(39)), "39 group numbers for 40 real images"),
        (lambda: su.subsampled(means, real, fake, seed=0, share=1.0), "share between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
