"""Attacks, distances, audits and the verdict: closed forms, exact tests, simulated worlds with known truths, independent references, refusals."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from mitate.metrics import audit as au
from mitate.metrics import exposure as ex
from mitate.metrics import leakage as le
from mitate.metrics import membership as me
from mitate.metrics import neighbours as nb
from mitate.metrics import ranks as ra
from mitate.metrics.intervals import clopper_pearson
from mitate.score import Metric
from oracle_inputs import guesses


def real(n: int, seed: int, d: int = 8) -> np.ndarray:
    """Real images' features: clusters of unlike size and spread, float32 [n, d]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(77).normal(0, 3, (5, d))
    which = rng.choice(5, n, p=[0.35, 0.25, 0.2, 0.1, 0.1])
    return (centres[which] + rng.normal(size=(n, d)) * (0.4 + 0.3 * which[:, None])).astype(np.float32)


def worlds(n: int, h: int, m: int, count: int, seed: int = 0, d: int = 3) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Training, held-out and fresh synthetic features, all of one distribution."""
    return [tuple(real(k, seed + 3 * i + j, d) for j, k in enumerate((n, h, m))) for i in range(count)]  # type: ignore[misc]


# ranks


def test_auc_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    for a, b in ((rng.normal(1, 1, 40), rng.normal(size=70)), (rng.integers(0, 4, 30).astype(float), rng.integers(0, 3, 50).astype(float))):
        said = roc_auc_score(np.r_[np.ones(len(a)), np.zeros(len(b))], np.r_[a, b])
        assert ra.separation(a, b).auc.value == pytest.approx(said, rel=1e-12)
        assert ra.placements(a, b).mean() == pytest.approx(stats.mannwhitneyu(a, b).statistic / len(a) / len(b), rel=1e-12)


def test_one_part_of_the_interval_is_brunner_and_munzel_and_the_other_mann_and_whitney() -> None:
    rng = np.random.default_rng(1)
    for wide in (0.3, 1.0, 4.0):
        a, b = rng.normal(0.6, wide, 25), rng.normal(size=40)
        found = ra.separation(a, b)
        by_placements = stats.brunnermunzel(b, a, alternative="less").pvalue
        by_score = stats.norm.sf(ra.z_of_ranks(a, b))
        assert found.p == pytest.approx(max(by_placements, by_score), rel=1e-9)
        assert (found.auc.low > 0.5) == (found.p < 0.025)


def test_z_of_ranks_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(1, 7, 45).astype(float)
    said = stats.mannwhitneyu(a, b, alternative="less", use_continuity=False, method="asymptotic").pvalue
    assert stats.norm.cdf(ra.z_of_ranks(a, b)) == pytest.approx(said, rel=1e-9)
    assert ra.z_of_ranks(np.ones(5), np.ones(6)) == 0.0


@pytest.mark.parametrize("n, m", [(12, 12), (50, 30)])
@pytest.mark.parametrize("world", ["alike", "shifted", "wider", "half copied", "grey levels"])
def test_the_interval_of_auc_holds_the_truth_nine_times_in_ten_and_more(world: str, n: int, m: int) -> None:
    rng = np.random.default_rng(3)

    def draw() -> tuple[np.ndarray, np.ndarray, float]:
        a, b = rng.normal(size=n), rng.normal(size=m)
        if world == "shifted":
            return a + 1, b, stats.norm.cdf(math.sqrt(0.5))
        if world == "wider":
            return 5 * a, b, 0.5
        if world == "half copied":
            return np.where(rng.random(n) < 0.5, 9.0, a), b, 0.75
        return (np.round(a), np.round(b), 0.5) if world == "grey levels" else (a, b, 0.5)

    held = [found.low <= truth <= found.high for a, b, truth in (draw() for _ in range(300)) for found in [ra.separation(a, b).auc]]
    assert np.mean(held) > 0.93


def test_samples_that_do_not_overlap_leave_a_width() -> None:
    found = ra.separation(np.arange(10.0) + 100, np.arange(10.0))
    assert found.auc.value == 1.0 and 0.8 < found.auc.low < 0.95 and found.p < 1e-3


def test_groups_that_agree_count_as_one_image() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, 12), rng.normal(size=15)
    twice = ra.separation(a.repeat(6), b.repeat(6), groups_first=np.arange(12).repeat(6), groups_second=100 + np.arange(15).repeat(6))
    once = ra.separation(a, b)
    for end in ("value", "low", "high"):
        assert getattr(twice.auc, end) == pytest.approx(getattr(once.auc, end), rel=1e-9)
    assert ra.separation(a.repeat(6), b.repeat(6)).auc.low > once.auc.low


def test_groups_on_both_sides_that_vary_together_narrow_the_interval() -> None:
    rng = np.random.default_rng(5)
    hard = rng.normal(0, 3, 30)
    a, b = hard + rng.normal(0.5, 0.3, 30), hard + rng.normal(0, 0.3, 30)
    paired = ra.separation(a, b, groups_first=np.arange(30), groups_second=np.arange(30)).auc
    assert paired.se < 0.5 * ra.separation(a, b).auc.se


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3])
def test_the_tail_is_the_highest_point_of_scikit_learns_curve(share: float) -> None:
    rng = np.random.default_rng(6)
    a, b = np.round(rng.normal(1, 1, 150), 1), np.round(rng.normal(size=120), 1)
    false, true, _ = roc_curve(np.r_[np.ones(150), np.zeros(120)], np.r_[a, b], drop_intermediate=False)
    found = ra.tail(a, b, share)
    assert found.caught.value == pytest.approx(true[false <= share + 1e-9].max(), rel=1e-12)
    assert found.false.value <= share


def test_the_chance_of_the_tail_is_the_count_over_all_orders() -> None:
    for n, m, k in ((4, 3, 0), (3, 4, 1), (3, 3, 2)):
        caught = []
        for places in itertools.combinations(range(n + m), n):
            first = np.array(places, float)
            second = np.array([i for i in range(n + m) if i not in places], float)
            caught.append((int((first > np.sort(second)[::-1][k]).sum()), ra.chance_of_tail(first, second, k)))
        numbers = np.array([c for c, _ in caught])
        for c, p in caught:
            assert p == pytest.approx((numbers >= c).mean(), rel=1e-9)


def test_the_threshold_of_the_tail_errs_no_more_than_it_says() -> None:
    rng = np.random.default_rng(7)
    true = [stats.norm.sf(found.threshold) <= found.false.high for found in (ra.tail(rng.normal(size=30), rng.normal(size=100), 0.01) for _ in range(600))]
    assert 0.955 < np.mean(true) < 0.99


def test_the_smallest_auc_is_seen_four_times_out_of_five() -> None:
    rng = np.random.default_rng(8)
    least = ra.smallest_auc(60, 60)
    apart = math.sqrt(2) * stats.norm.ppf(least)
    seen = [ra.separation(rng.normal(apart, 1, 60), rng.normal(size=60)).auc.low > 0.5 for _ in range(500)]
    assert 0.74 < np.mean(seen) < 0.86
    assert ra.smallest_auc(1000, 1000) < ra.smallest_auc(100, 100) < ra.smallest_auc(20, 20) < 1


def test_clopper_pearson_is_scipys_exact_interval() -> None:
    for hits, n in ((0, 20), (3, 50), (50, 50), (7, 8)):
        said = stats.binomtest(hits, n).proportion_ci(confidence_level=0.9, method="exact")
        found = clopper_pearson(hits, n, confidence=0.9)
        assert (found.low, found.high) == pytest.approx((said.low, said.high), rel=1e-9)


# distances


def test_distances_are_those_of_scikit_learn() -> None:
    train, queries = real(300, 0), real(150, 1)
    said, where = NearestNeighbors(n_neighbors=2).fit(train.astype(np.float64)).kneighbors(queries.astype(np.float64))
    found = le.reach(queries, train)
    assert np.allclose(found.first, said[:, 0], rtol=1e-12) and np.allclose(found.second, said[:, 1], rtol=1e-12)
    assert (found.nearest == where[:, 0]).all()
    assert np.allclose(found.ratios, said[:, 0] / said[:, 1], rtol=1e-12)


def test_copies_are_at_ratio_zero_even_of_images_that_are_there_twice() -> None:
    train = real(60, 0)
    assert (le.reach(train, np.concatenate([train, train])).ratios == 0).all()
    assert le.distance_ratio(le.reach(train, train)).value == 0


def test_the_quantile_is_held_by_its_interval() -> None:
    rng = np.random.default_rng(9)
    for n in (50, 120, 600):
        held = []
        for _ in range(500):
            ratios = rng.random(n)
            found = le.distance_ratio(le.Reach(ratios, np.ones(n), np.zeros(n, np.int64)))
            held.append(found.low <= 0.05 <= found.high)
            assert found.low <= found.value <= found.high
        assert np.mean(held) > 0.95
    assert le.distance_ratio(le.Reach(np.full(71, 0.5), np.ones(71), np.zeros(71, np.int64))).low == 0
    assert le.distance_ratio(le.Reach(np.full(72, 0.5), np.ones(72), np.zeros(72, np.int64))).low == 0.5


def test_authenticity_is_that_of_the_whole_pass() -> None:
    train, synthetic = real(120, 0), real(80, 1)
    assert le.authenticity(le.reach(synthetic, train), train) == nb.authenticity(nb.neighbourhood(train, synthetic))
    assert le.authenticity(le.reach(train, train), train).value == 0


def test_nearer_to_train_counts_votes_with_ties_for_half() -> None:
    train, held_out, synthetic = real(40, 0), real(40, 1), real(90, 2)
    a, b = cdist(synthetic, train).min(axis=1), cdist(synthetic, held_out).min(axis=1)
    assert le.nearer_to_train(synthetic, train, held_out, seed=0).value == pytest.approx((a < b).mean())
    assert le.nearer_to_train(synthetic, train, train.copy(), seed=0).value == 0.5
    assert le.nearer_to_train(train, train, held_out, seed=0).value == 1


@pytest.mark.parametrize("m", [30, 600])
def test_nearer_to_train_holds_half_however_many_images_are_synthetic(m: int) -> None:
    held, trials = [], []
    for train, held_out, synthetic in worlds(30, 30, m, 150):
        found = le.nearer_to_train(synthetic, train, held_out, seed=0)
        held.append(found.low <= 0.5 <= found.high)
        alone = stats.binomtest(round(found.value * m), m).proportion_ci(method="wilson")
        trials.append(alone.low <= 0.5 <= alone.high)
    assert np.mean(held) > 0.94
    if m == 600:
        assert np.mean(trials) < 0.8, "synthetic images as trials: the mistake that the effective number mends"


def test_nearer_to_train_takes_a_patients_images_as_one() -> None:
    held, alone = [], []
    for i in range(50):
        rng = np.random.default_rng(i)
        patients = rng.normal(0, 2, (8, 3)).repeat(40, axis=0)
        x = (patients + rng.normal(0, 1, patients.shape)).astype(np.float32)
        synthetic = (rng.normal(0, 2, (600, 3))).astype(np.float32)
        groups = np.arange(8).repeat(40)
        found = le.nearer_to_train(synthetic, x[:160], x[160:], seed=0, groups_train=groups[:160], groups_held_out=groups[160:])
        held.append(found.low <= 0.5 <= found.high)
        single = le.nearer_to_train(synthetic, x[:160], x[160:], seed=0)
        alone.append(single.low <= 0.5 <= single.high)
    assert np.mean(held) > 0.94 and np.mean(alone) < 0.9


def test_c_t_is_the_weighted_mean_of_mann_and_whitneys_z_in_cells() -> None:
    train, held_out, synthetic = real(300, 0), real(200, 1), real(260, 2) * 0.9
    found = le.data_copying(synthetic, train, held_out, seed=0)
    which, centres = le.k_means(train, 3, seed=0)
    value, total = 0.0, 0
    for c, cell in enumerate(found.cells):
        mine = train[which == c]
        fresh, made = (x[cdist(x, centres).argmin(axis=1) == c] for x in (held_out, synthetic))
        assert (cell.n_train, cell.n_held_out, cell.n_synthetic) == (len(mine), len(fresh), len(made))
        near, other = cdist(made, mine).min(axis=1), cdist(fresh, mine).min(axis=1)
        u = stats.mannwhitneyu(near, other).statistic
        z = (u - len(near) * len(other) / 2) / math.sqrt(len(near) * len(other) * (len(near) + len(other) + 1) / 12)
        assert cell.z == pytest.approx(z, rel=1e-9)
        value, total = value + z * len(fresh), total + len(fresh)
    assert found.value is not None and found.value.value == pytest.approx(value / total, rel=1e-9)


def test_c_t_of_fresh_images_holds_zero_and_of_copies_is_far_below() -> None:
    found = [le.data_copying(s, t, h, seed=0).value for t, h, s in worlds(60, 60, 80, 120)]
    held = [value.low <= 0 <= value.high for value in found if value is not None]
    assert len(held) > 80 and np.mean(held) > 0.93
    copied = le.data_copying(real(100, 0), real(100, 0), real(100, 1), seed=0).value
    assert copied is not None and copied.high < -3


def test_cells_with_too_few_are_left_out_and_say_so() -> None:
    train, held_out = real(200, 0), real(200, 1)
    which, centres = le.k_means(train, 3, seed=0)
    one = train[which == 0][:30] + 0.01
    found = le.data_copying(one, train, held_out, seed=0)
    assert [cell.z is None for cell in found.cells] == [False, True, True]
    assert [cell.weight for cell in found.cells] == [1.0, 0.0, 0.0]
    assert "needs 20 synthetic" in found.cells[1].note
    none = le.data_copying(one[:15], train, held_out, seed=0)
    assert none.value is None and "no cell of 3" in none.note


def test_k_means_finds_clusters_that_stand_apart() -> None:
    rng = np.random.default_rng(10)
    truth = rng.integers(0, 4, 200)
    points = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])[truth] + rng.normal(size=(200, 2))
    which, centres = le.k_means(points, 4, seed=0)
    assert len({(a, b) for a, b in zip(truth, which, strict=True)}) == 4
    assert np.allclose(centres, [points[which == c].mean(axis=0) for c in range(4)])
    assert (which == le.k_means(points, 4, seed=0)[0]).all()


# membership, from samples


def test_scores_from_samples_are_their_formulas() -> None:
    train, held_out, synthetic = real(50, 0), real(40, 1), real(70, 2)
    pool = np.concatenate([train, held_out])
    apart = cdist(pool, pool)
    np.fill_diagonal(apart, np.inf)
    sample = cdist(pool, synthetic).min(axis=1)
    found = me.sample_scores(train, held_out, synthetic)
    assert np.allclose(np.concatenate(found.near), -sample, rtol=1e-9)
    assert np.allclose(np.concatenate(found.ratio), apart.min(axis=1) / (apart.min(axis=1) + sample), rtol=1e-6)
    assert (np.concatenate(found.votes) == np.bincount(cdist(synthetic, pool).argmin(axis=1), minlength=90)).all()
    assert np.allclose(me.near_scores(train, synthetic), found.near[0], rtol=1e-9)
    other = cdist(train, held_out).min(axis=1)
    assert np.allclose(me.ratio_scores(train, synthetic, held_out), other / (other + sample[:50]), rtol=1e-9)


def test_the_ratio_takes_no_image_of_the_same_patient_for_a_reference() -> None:
    train, held_out, synthetic = real(40, 0), real(40, 1), real(60, 2)
    twice, groups = np.concatenate([train, train + 1e-3]), np.tile(np.arange(40), 2)
    found = me.sample_scores(twice, held_out, synthetic, groups_train=groups, groups_held_out=100 + np.arange(40))
    plain = me.sample_scores(twice, held_out, synthetic)
    assert (plain.ratio[0] < 0.02).mean() > 0.5 > (found.ratio[0] < 0.02).mean()


@pytest.mark.parametrize("name", ["near", "ratio", "votes"])
def test_copies_of_all_training_images_are_caught(name: str) -> None:
    train, held_out = real(50, 0), real(50, 1)
    found = me.attack(name, *getattr(me.sample_scores(train, held_out, train.copy()), name))
    assert found.auc.value > 0.99 and found.auc.low > 0.9 and found.p < 1e-6
    assert found.surest.caught.value > 0.9 and found.surest.false.value == 0


def test_fresh_images_hold_half_in_ninety_four_of_a_hundred_worlds() -> None:
    held, beaten = [], []
    for train, held_out, synthetic in worlds(30, 30, 60, 500):
        scores = me.sample_scores(train, held_out, synthetic)
        found = [me.attack(name, *getattr(scores, name)) for name in ("near", "ratio", "votes")]
        held.append([f.auc.low <= 0.5 <= f.auc.high for f in found])
        beaten.append([f.p <= 0.025 for f in found])
    assert np.mean(held, axis=0).min() >= 0.94
    assert np.mean(beaten, axis=0).max() <= 0.045  # 0.025 and three standard errors


def test_copies_among_images_of_unlike_spread_are_seen_by_the_ratio_sooner_than_by_the_distance() -> None:
    near, ratio = [], []
    for i in range(20):
        rng = np.random.default_rng(i)
        spread = rng.choice([0.1, 1.0, 10.0], 120)[:, None]
        x = rng.normal(size=(120, 6)) * spread
        noisy = (x + 0.6 * spread * rng.normal(size=x.shape))[:60]
        scores = me.sample_scores(x[:60], x[60:], noisy)
        near.append(me.attack("near", *scores.near).auc.value)
        ratio.append(me.attack("ratio", *scores.ratio).auc.value)
    assert np.mean(ratio) > np.mean(near) + 0.08


def test_flipped_and_shifted_copies_are_caught_through_views() -> None:
    rng = np.random.default_rng(12)
    images = rng.integers(0, 256, (120, 10, 10, 1)).astype(np.uint8)
    train, held_out = (x.reshape(60, -1).astype(np.float32) for x in (images[:60], images[60:]))
    synthetic = np.concatenate([images[:30, :, ::-1], np.roll(images[30:60], 2, axis=1)])
    made, seen = (x.reshape(len(x), -1).astype(np.float32) for x in (synthetic, me.views(synthetic)))
    blind = me.attack("near", *me.sample_scores(train, held_out, made).near)
    found = me.attack("near", *me.sample_scores(train, held_out, made, views=seen).near)
    assert blind.p > 0.025 and found.auc.low > 0.95


def test_views_are_seventeen_and_keep_the_picture() -> None:
    image = np.arange(6 * 7 * 3).reshape(1, 6, 7, 3).astype(np.uint8)
    found = me.views(image, shift=1)
    assert found.shape == (17, 6, 7, 3) and len(np.unique(found.reshape(17, -1), axis=0)) == 17
    assert (found[8] == image[0, :, ::-1]).all() and (found[0][1:, 1:] == image[0, :-1, :-1]).all()


def test_one_in_a_thousand_needs_a_thousand() -> None:
    rng = np.random.default_rng(13)
    few, some, many = (me.attack("near", rng.normal(1, 1, 50), rng.normal(size=h)) for h in (99, 999, 1000))
    assert few.at_1_in_100 is None and few.notes["members_caught_at_1_in_100"] == "needs 100 non-members, has 99"
    assert some.at_1_in_100 is not None and some.notes == {"members_caught_at_1_in_1000": "needs 1,000 non-members, has 999"}
    assert many.at_1_in_1000 is not None and not many.notes


def test_order_of_images_changes_nothing() -> None:
    train, held_out, synthetic = real(60, 0), real(50, 1), real(70, 2)
    a = ex.privacy_of(synthetic, train, held_out, seed=0)
    b = ex.privacy_of(synthetic[::-1], train, held_out, seed=0)
    for mine, other in zip(a.lines, b.lines, strict=True):
        for x, y in ((mine.value, other.value), (mine.floor, other.floor)):
            assert (x is None) == (y is None)
            assert x is None or y is None or (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high), rel=1e-9)
    assert a.verdict.p == pytest.approx(b.verdict.p) and a.blind == b.blind
    assert ex.privacy_of(synthetic, train, held_out, seed=0) == a


# membership, from a loss


def test_a_loss_attack_is_its_closed_form() -> None:
    rng = np.random.default_rng(14)
    hard = rng.normal(0, 3, 4000)
    members = np.arange(4000) < 2000
    loss = hard + rng.normal(size=4000) - 1.0 * members
    reference = hard + rng.normal(0, 0.5, 4000)
    plain = me.loss_scores(loss)
    calibrated = me.loss_scores(loss, reference)
    found = me.attack("loss", plain[members], plain[~members]).auc
    assert found.low <= stats.norm.cdf(1 / math.sqrt(2 * (9 + 1))) <= found.high
    found = me.attack("loss", calibrated[members], calibrated[~members]).auc
    assert found.low <= stats.norm.cdf(1 / math.sqrt(2 * (1 + 0.25))) <= found.high


def test_draws_of_a_loss_are_averaged() -> None:
    loss = np.random.default_rng(15).normal(size=(20, 6))
    assert np.allclose(me.loss_scores(loss), -loss.mean(axis=1))
    with pytest.raises(ValueError, match="same images"):
        me.loss_scores(loss, loss[:5])


# membership, on a classifier


def test_log_odds_are_those_of_the_probability_and_never_run_out() -> None:
    rng = np.random.default_rng(16)
    logits, y = rng.normal(size=(3, 20, 4)), rng.integers(0, 4, 20)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    own = p[:, np.arange(20), y]
    assert np.allclose(me.log_odds_of_logits(logits, y), np.log(own / (1 - own)), rtol=1e-9)
    assert np.allclose(me.log_odds_of_probabilities(p, y), np.log(own / (1 - own)), rtol=1e-9)
    assert me.log_odds_of_logits(np.array([[800.0, 0.0, 0.0]]), np.array([0]))[0] == pytest.approx(800 - math.log(2))
    assert np.isfinite(me.log_odds_of_probabilities(np.array([[1.0, 0.0]], np.float32), np.array([0]))).all()


@pytest.mark.parametrize("spread", ["shared", "own"])
def test_lira_is_the_gaussian_formula(spread: Any) -> None:
    rng = np.random.default_rng(17)
    shadow, inside, target = rng.normal(size=(12, 30)), rng.random((12, 30)) < 0.5, rng.normal(size=30)
    inside[:2], inside[2:4] = False, True
    found = me.lira_scores(target, shadow, inside, spread=spread)
    outs = [shadow[~inside[:, i], i] for i in range(30)]
    pooled = math.sqrt(sum(((o - o.mean()) ** 2).sum() for o in outs) / sum(len(o) - 1 for o in outs))
    for i, out in enumerate(outs):
        deviation = out.std(ddof=1) if spread == "own" else pooled
        assert stats.norm.cdf(found[i]) == pytest.approx(1 - stats.norm.sf(target[i], out.mean(), deviation), rel=1e-9)


@pytest.mark.parametrize("models", [8, 128])
def test_lira_on_gaussian_confidences_has_the_closed_form(models: int) -> None:
    rng = np.random.default_rng(18)
    n, gain, spread, hardness = 3000, 1.5, 1.0, 3.0
    hard = rng.normal(0, hardness, n)
    inside = np.arange(models)[:, None] < models // 2  # half saw all, half none: every image has models / 2 that did not
    inside = np.broadcast_to(inside, (models, n))
    shadow = hard + gain * inside + rng.normal(0, spread, (models, n))
    members = rng.random(n) < 0.5
    target = hard + gain * members + rng.normal(0, spread, n)
    found = me.on_classifier(target, members, shadow, inside)
    wide = spread * math.sqrt(1 + 2 / models)
    assert found.lira.auc.low <= stats.norm.cdf(gain / (wide * math.sqrt(2))) <= found.lira.auc.high
    assert found.threshold.auc.low <= stats.norm.cdf(gain / math.sqrt(2 * (spread**2 + hardness**2))) <= found.threshold.auc.high
    assert found.lira.at_1_in_100 is not None and found.threshold.at_1_in_100 is not None
    sure = stats.norm.cdf(gain / wide - stats.norm.isf(0.01))
    assert abs(found.lira.at_1_in_100.caught.value - sure) < 0.08
    assert found.lira.at_1_in_100.caught.value > 3 * found.threshold.at_1_in_100.caught.value


def test_lira_refuses_what_it_cannot_know() -> None:
    shadow, inside, target = np.zeros((4, 20)), np.zeros((4, 20), bool), np.zeros(20)
    shadow += np.arange(4)[:, None]
    inside[1:, 3] = True
    with pytest.raises(ValueError, match="one has 1"):
        me.lira_scores(target, shadow, inside)
    inside[:] = False
    with pytest.raises(ValueError, match="not finite"):
        me.lira_scores(np.full(20, np.inf), shadow, inside)
    with pytest.raises(ValueError, match=r"give \[models, images\]"):
        me.lira_scores(target[:5], shadow, inside)
    with pytest.raises(ValueError, match="agree to the last digit"):
        me.lira_scores(target, np.zeros((4, 20)), inside, spread="own")


# without a model


def test_sets_of_one_distribution_are_told_apart_no_more_often_than_said() -> None:
    p = np.array([me.told_apart(t, h, seed=i).p for i, (t, h, _) in enumerate(worlds(25, 35, 10, 80))])
    assert (p < 0.05).mean() < 0.1 and (p < 0.5).mean() > 0.3


def test_another_camera_is_told_apart_and_makes_privacy_unmeasurable() -> None:
    train, held_out = real(60, 0), real(60, 1) + 1.0
    assert me.told_apart(train, held_out, seed=0).p < 0.01
    found = ex.privacy_of(real(60, 2), train, held_out, seed=0)
    assert found.near is not None and found.near.auc.low > 0.5, "an attack is fooled"
    assert found.verdict.state == "not measured" and "told apart" in found.verdict.why


def test_patients_do_not_make_sets_look_different() -> None:
    rejected = {"groups": 0, "images": 0}
    for i in range(20):
        rng = np.random.default_rng(i)
        x = (rng.normal(0, 2, (20, 3)).repeat(5, axis=0) + rng.normal(0, 0.2, (100, 3))).astype(np.float32)
        groups = np.arange(20).repeat(5)
        rejected["groups"] += me.told_apart(x[:50], x[50:], seed=0, groups_train=groups[:50], groups_held_out=groups[50:]).p < 0.05
        rejected["images"] += me.told_apart(x[:50], x[50:], seed=0).p < 0.05
    assert rejected["groups"] <= 3 and rejected["images"] > 15


# audits


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """The epsilon of the Gaussian mechanism of sensitivity 1 (Balle and Wang 2018, theorem 8), by bisection."""
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        a, b = 1 / (2 * sigma) - middle * sigma, -1 / (2 * sigma) - middle * sigma
        low, high = (middle, high) if stats.norm.cdf(a) - math.exp(middle + stats.norm.logcdf(b)) > delta else (low, middle)
    return high


@pytest.mark.parametrize("sigma, delta", [(0.5, 1e-5), (1.0, 1e-2), (2.0, 0.1)])
def test_the_audit_over_runs_never_exceeds_the_true_epsilon_more_often_than_it_says(sigma: float, delta: float) -> None:
    rng = np.random.default_rng(19)
    truth = gaussian_epsilon(sigma, delta)
    bounds = [au.epsilon_over_runs(1 + sigma * rng.normal(size=200), sigma * rng.normal(size=200), delta=delta) for _ in range(60)]
    assert np.mean([b.epsilon.low > truth for b in bounds]) <= 0.025
    if sigma == 0.5:
        assert np.median([b.epsilon.low for b in bounds]) > 1


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_the_audit_over_runs_of_randomised_response(epsilon: float) -> None:
    rng = np.random.default_rng(20)
    keep = 1 / (1 + math.exp(-epsilon))
    bounds = [au.epsilon_over_runs((rng.random(400) < keep) * 1.0, (rng.random(400) > keep) * 1.0) for _ in range(60)]
    assert np.mean([b.epsilon.low > epsilon for b in bounds]) <= 0.025
    assert np.mean([(b.p <= 0.025) != (b.epsilon.low > 0) for b in bounds]) == 0
    if epsilon:
        assert np.median([b.epsilon.low for b in bounds]) > 0.45 * epsilon


def test_the_audit_over_runs_by_hand() -> None:
    found = au.epsilon_over_runs(np.ones(100), np.zeros(100), delta=0.01)
    thresholds = 2 * 7  # k = 0, 1, 2, 4, ..., 32 in either direction
    tail = 0.025 / (2 * thresholds)
    low, high = stats.beta.ppf(tail, 100, 1), stats.beta.ppf(1 - tail, 1, 100)
    assert found.epsilon.low == pytest.approx(math.log((low - 0.01) / high), rel=1e-6)
    assert found.most == found.epsilon.low and found.epsilon.value == math.inf


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.5])
def test_the_one_run_audit_of_randomised_response_errs_no_more_than_it_says(epsilon: float) -> None:
    rng = np.random.default_rng(21)
    keep = 1 / (1 + math.exp(-epsilon))
    low = []
    for _ in range(120):
        included = rng.random(150) < 0.5
        low.append(au.epsilon_one_run(np.where(rng.random(150) < keep, included, ~included) * 1.0, included).epsilon.low)
    assert np.mean(np.array(low) > epsilon) <= 0.025
    if epsilon:
        assert np.median(low) > 0.4 * epsilon


@pytest.mark.parametrize("sigma, delta", [(0.5, 1e-5), (1.0, 1e-3)])
def test_the_one_run_audit_of_the_gaussian_mechanism_stays_below_the_true_epsilon(sigma: float, delta: float) -> None:
    rng = np.random.default_rng(22)
    truth, low = gaussian_epsilon(sigma, delta), []
    for _ in range(40):
        included = rng.random(300) < 0.5
        low.append(au.epsilon_one_run(included + sigma * rng.normal(size=300), included, delta=delta).epsilon.low)
    assert np.mean(np.array(low) > truth) <= 0.025
    assert (np.median(low) > 0.2 * truth) == (sigma == 0.5), "nothing is seen of the noisier one: a bound of 0 proves nothing"


def test_chances_of_guesses_are_those_of_an_independent_implementation() -> None:
    said = json.loads((Path(__file__).parent / "oracles" / "privacy.json").read_text())
    assert len(said["one run"]) > 20
    for case in said["one run"]:
        found = au.chance_of_guesses(case["m"], case["r"], case["right"], epsilon=case["epsilon"], delta=case["delta"])
        assert found == pytest.approx(case["p"], rel=1e-9, abs=1e-12)
    for case in said["bounds"]:
        scores, included = guesses(case["seed"])
        k = case["guesses"]
        alone = au.epsilon_one_run(scores, included, delta=case["delta"], shares=(k / len(scores),))
        order = np.argsort(-scores, kind="stable")
        right = int(included[order[:k]].sum())
        assert right == case["right"]
        assert au._largest_refuted(len(scores), k, right, case["delta"], case["spill"]) == pytest.approx(case["epsilon"], abs=1e-5)
        assert alone.epsilon.low <= max(case["epsilon"], alone.most)


def test_chances_of_guesses_by_the_formula() -> None:
    m, r, v, epsilon, delta = 60, 40, 33, 0.8, 1e-3
    w = stats.binom(r, 1 / (1 + math.exp(-epsilon)))
    alpha = max((w.cdf(v - 1) - w.cdf(v - i - 1)) / i for i in range(1, v + 1))
    assert au.chance_of_guesses(m, r, v, epsilon=epsilon, delta=delta) == pytest.approx(w.sf(v - 1) + 2 * m * delta * alpha, rel=1e-9)
    assert au.chance_of_guesses(m, r, r, epsilon=epsilon) == pytest.approx(w.pmf(r), rel=1e-9)
    assert au.chance_of_guesses(m, r, 0, epsilon=epsilon) == 1


def test_a_perfect_one_run_audit_shows_the_most_it_can() -> None:
    included = np.arange(100) % 2 == 0
    found = au.epsilon_one_run(included * 1.0, included)
    ways = 8  # an eighth, a quarter, half and all of them, with the lowest and without
    q = (0.025 / ways) ** (1 / 100)
    assert found.epsilon.low == found.most == pytest.approx(math.log(q / (1 - q)), rel=1e-6)
    assert found.p < 1e-10 and "100 of 100" in found.rule


def test_attacks_that_only_know_copies_are_heard_by_one_sided_guesses() -> None:
    included = np.random.default_rng(24).random(200) < 0.5
    scores = np.random.default_rng(25).normal(size=200)
    scores[np.flatnonzero(included)[:30]] += 100
    found = au.epsilon_one_run(scores, included)
    assert found.epsilon.low > 0.5 and found.rule == "25 of 25 guesses right: 25 in, 0 out"


def test_canaries_are_alike_to_nothing_seeded_and_fairly_chosen() -> None:
    rng = np.random.default_rng(26)
    x, y = rng.integers(0, 256, (50, 28, 28, 1)).astype(np.uint8), rng.integers(0, 4, 50)
    found, again, other = (au.make_canaries(x, y, count=60, seed=s) for s in (0, 0, 1))
    assert found.x.shape == (60, 28, 28, 1) and found.x.dtype == np.uint8 and set(np.unique(found.x)) == {0, 255}
    assert (found.x == again.x).all() and (found.included == again.included).all() and not (found.x == other.x).all()
    assert (np.bincount(found.y) == 15).all()
    flat = found.x.reshape(60, -1) / 255
    assert cdist(flat, flat, "hamming")[~np.eye(60, dtype=bool)].min() > 0.2
    shares = [au.make_canaries(x, y, count=60, seed=s).included.mean() for s in range(40)]
    assert abs(np.mean(shares) - 0.5) < 0.04 and np.std(shares) > 0.03
    planted, labels = found.plant(x, y)
    assert len(planted) == len(labels) == 50 + found.included.sum() and (planted[:50] == x).all()
    assert au.make_canaries(np.zeros((4, 9, 8, 3), np.uint8), np.arange(4), count=10, seed=0).x.shape == (10, 9, 8, 3)


def test_canaries_in_a_generator_that_copies_are_heard_and_in_a_fresh_one_are_not() -> None:
    rng = np.random.default_rng(27)
    x, y = rng.integers(0, 256, (80, 16, 16, 1)).astype(np.uint8), np.arange(80) % 2
    canaries = au.make_canaries(x, y, count=40, seed=0)

    def features(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)

    copies = au.epsilon_one_run(me.near_scores(features(canaries.x), features(canaries.plant(x, y)[0])), canaries.included)
    fresh = au.epsilon_one_run(me.near_scores(features(canaries.x), features(x)), canaries.included)
    assert copies.epsilon.low > 1 and copies.epsilon.high == math.inf
    assert fresh.epsilon.low == 0 and "beats chance" in fresh.rule
    assert ex.verdict(bounds=[copies]).state == "leaks" and "epsilon is at least" in ex.verdict(bounds=[copies]).why
    assert ex.verdict(bounds=[fresh]).state == "no leak found" and "epsilon of" in ex.verdict(bounds=[fresh]).why


# the verdict


def test_the_verdict_rests_on_an_attack_and_never_on_distances() -> None:
    train, held_out = real(80, 0), real(80, 1)
    centre = np.concatenate([train, held_out]).mean(axis=0)
    blurred = (centre + 0.2 * (real(80, 2) - centre)).astype(np.float32)
    found = ex.privacy_of(blurred, train, held_out, seed=0)
    assert found.data_copying is not None
    assert found.verdict.state == "no leak found"
    copied = ex.privacy_of(train.copy(), train, held_out, seed=0)
    assert copied.verdict.state == "leaks" and copied.verdict.attack == "ratio" and copied.copies == 80
    assert "AUC 1 [" in copied.verdict.why and "held-out ones" in copied.verdict.why


def test_no_leak_found_says_what_would_have_been_seen() -> None:
    small, large = (ex.privacy_of(real(n, 2), real(n, 0), real(n, 1), seed=0).verdict for n in (20, 400))
    for found in (small, large):
        assert found.state == "no leak found" and found.smallest_auc is not None and f"AUC of {found.smallest_auc:.3g}" in found.why
        assert found.advantage == pytest.approx(2 * found.smallest_auc - 1)
    assert small.advantage is not None and large.advantage is not None and small.advantage > 0.5 > 0.2 > large.advantage


def test_a_fresh_set_is_seldom_said_to_leak() -> None:
    said = [ex.privacy_of(s, t, h, seed=0).verdict.state for t, h, s in worlds(25, 25, 40, 40, seed=9000)]
    assert said.count("leaks") <= 3 and said.count("no leak found") >= 35


def test_a_single_copy_that_no_attack_could_use_is_told() -> None:
    train, synthetic = real(50, 0), real(50, 2)
    synthetic[0] = train[0]
    found = ex.privacy_of(synthetic, train, real(50, 1), seed=0)
    assert found.verdict.state == "no leak found" and "1 synthetic images equal a training image" in found.verdict.why


def test_without_a_hold_out_privacy_is_not_measured() -> None:
    train, synthetic = real(50, 0), real(50, 2)
    for held_out, why in ((None, "has none"), (real(9, 1), "needs 10 held-out images, has 9")):
        found = ex.privacy_of(synthetic, train, held_out, seed=0)
        assert found.verdict.state == "not measured" and why in found.verdict.why
        assert found.ratio is None and found.authenticity.n == 50
        told = {line.metric.name: line for line in found.lines}
        assert told["membership_ratio_auc"].value is None and why in told["membership_ratio_auc"].note
        assert told["distance_ratio"].value is not None and told["distance_ratio"].floor is None
    one = ex.privacy_of(synthetic, train, real(50, 1), seed=0, groups_train=np.zeros(50, int), groups_held_out=1 + np.arange(50))
    assert one.verdict.state == "not measured" and "two groups" in one.verdict.why


def test_every_line_has_a_value_a_floor_or_a_reason() -> None:
    found = ex.privacy_of(real(50, 2), real(50, 0), real(50, 1), seed=0)
    for line in found.lines:
        assert (line.value is not None and line.floor is not None) or line.note


def test_more_attacks_need_more_to_convince() -> None:
    rng = np.random.default_rng(28)
    a = me.attack("near", rng.normal(0.45, 1, 60), rng.normal(size=60))
    one, many = ex.verdict([a]), ex.verdict([a] * 20)
    assert one.p is not None and many.p == pytest.approx(min(1, 20 * one.p))
    assert one.smallest_auc is not None and many.smallest_auc is not None and many.smallest_auc > one.smallest_auc
    assert ex.verdict().state == "not measured"


# refusals


def test_too_few_images_and_mixed_extractors_are_refused() -> None:
    few, many = real(9, 0), real(50, 1)
    for call in (
        lambda: le.reach(few, many),
        lambda: le.reach(many, few),
        lambda: le.nearer_to_train(many, many, few, seed=0),
        lambda: le.data_copying(few, many, many, seed=0),
        lambda: me.attack("near", np.arange(9.0), np.arange(50.0)),
        lambda: me.told_apart(many, few, seed=0),
        lambda: me.near_scores(many, few),
        lambda: au.epsilon_one_run(np.zeros(9), np.zeros(9, bool)),
        lambda: au.epsilon_over_runs(np.zeros(9), np.zeros(50)),
        lambda: au.make_canaries(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4), count=9, seed=0),
    ):
        with pytest.raises(ValueError, match="needs 10 .*fix: "):
            call()
    with pytest.raises(ValueError, match="one extractor"):
        le.reach(many, many[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        me.attack("near", np.full(20, np.nan), np.arange(20.0))
    with pytest.raises(ValueError, match="too alike"):
        au.make_canaries(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4), count=2000, seed=0)


def test_a_patient_on_both_sides_is_refused() -> None:
    train, held_out = real(30, 0), real(30, 1)
    groups = np.arange(30)
    for call in (
        lambda: le.nearer_to_train(train, train, held_out, seed=0, groups_train=groups, groups_held_out=groups + 29),
        lambda: ex.privacy_of(train, train, held_out, seed=0, groups_train=groups, groups_held_out=groups + 29),
    ):
        with pytest.raises(ValueError, match="1 groups are in both"):
            call()
    with pytest.raises(ValueError, match="for both sets"):
        me.told_apart(train, held_out, seed=0, groups_train=groups)


def test_every_metric_has_a_record() -> None:
    records = {m.name: m for module in (le, me, au) for m in vars(module).values() if isinstance(m, Metric)}
    assert set(records) == {
        *("distance_ratio", "nearer_to_train", "c_t", "authenticity", "membership_auc", "membership_ratio_auc", "membership_votes_auc", "membership_loss_auc"),
        *("loss_caught_at_1_in_100", "lira_caught_at_1_in_100"),
        *("lira_auc", "threshold_auc", "members_caught_at_1_in_100", "members_caught_at_1_in_1000", "epsilon_at_least", "epsilon_at_least_one_run"),
    }
    assert all(m.axis == "privacy" and m.interval and m.source for m in records.values())


@pytest.mark.parametrize(("groups", "size", "others", "other_size"), [(30, 20, 100, 1), (60, 10, 60, 3), (20, 4, 60, 8)])
def test_groups_of_unequal_size_raise_no_alarm_where_nothing_leaks(groups: int, size: int, others: int, other_size: int) -> None:
    """The highest score of twenty lies above that of one by size alone."""
    rng = np.random.default_rng(0)
    members, strangers = np.repeat(np.arange(groups), size), 10_000 + np.repeat(np.arange(others), other_size)
    found = [ra.tail(rng.normal(size=len(members)), rng.normal(size=len(strangers)), 0.01, groups_first=members, groups_second=strangers).p for _ in range(60)]
    assert np.mean(np.array(found) <= 0.025) <= 0.05


def test_a_leak_of_whole_groups_is_still_seen() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    assert ra.tail(3 + rng.normal(size=300), rng.normal(size=300), 0.01, groups_first=groups, groups_second=100 + groups).p < 1e-3
