"""Transferability and utility from answers: brute force, scikit-learn's evidence, known extremes, coverage, refusals; intra-cluster distance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize
from scipy.spatial.distance import cdist

from mitate.metrics import clusters as cl
from mitate.metrics import transfer as tr
from mitate.metrics.intervals import two_way
from mitate.metrics.measures import parse
from mitate.score import Metric
from oracle_inputs import transfer_features


def answers(n: int = 60, z: int = 7, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A source model's probabilities, which have something to do with the labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    logits = rng.normal(size=(n, z)) + 2 * rng.normal(size=(k, z))[y]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), y


# LEEP


def test_leep_is_equation_2_term_by_term() -> None:
    theta, y = answers()
    n, z = theta.shape
    joint = {(k, s): sum(theta[i, s] for i in range(n) if y[i] == k) / n for k in set(y.tolist()) for s in range(z)}
    given = {(k, s): v / sum(joint[j, s] for j in set(y.tolist())) for (k, s), v in joint.items()}
    said = np.mean([np.log(sum(given[int(y[i]), s] * theta[i, s] for s in range(z))) for i in range(n)])
    assert tr.leep(theta, y) == pytest.approx(said, rel=1e-12)


def test_leep_of_a_source_that_knows_is_0_and_of_one_that_does_not_minus_the_entropy() -> None:
    y = np.repeat([0, 1, 2], [20, 10, 10])
    assert tr.leep(np.eye(5)[np.array([3, 0, 2])[y]], y) == pytest.approx(0.0, abs=1e-12), "whichever source class stands for which label"
    shares = np.array([0.5, 0.25, 0.25])
    assert tr.leep(np.full((40, 5), 0.2), y) == pytest.approx((shares * np.log(shares)).sum(), rel=1e-12)
    theta, y = answers()
    assert tr.leep(theta, y) == pytest.approx(tr.leep(theta[:, ::-1], (y + 1) % 3 + 5), rel=1e-12), "names of classes do not matter"
    assert tr.leep(np.c_[theta, np.zeros(60)], y) == pytest.approx(tr.leep(theta, y), rel=1e-12), "a class never given is no class"


@pytest.mark.parametrize("grouped", [False, True])
def test_leeps_standard_error_is_that_of_reweighted_images(grouped: bool) -> None:
    """The derivative in each image's weight, by doubling images in a long table."""
    theta, y = answers(n=40)
    groups = np.arange(40) // 3 if grouped else np.arange(40)

    def weighted(weights: np.ndarray) -> float:
        joint = np.stack([(weights[:, None] * theta)[y == k].sum(axis=0) for k in range(3)])
        return float(np.average(np.log((theta * (joint / joint.sum(axis=0))[y]).sum(axis=1)), weights=weights))

    step = 1e-6
    moves = np.array([(weighted(1 + step * (groups == g)) - weighted(1 - step * (groups == g))) / (2 * step) for g in np.unique(groups)])
    count = len(moves)
    found = tr.leep_interval(theta, y, groups=groups if grouped else None)
    assert found.se_images == pytest.approx(np.sqrt((moves**2).sum() * count / (count - 1)), rel=1e-5)
    assert found.value == tr.leep(theta, y) and found.df_images == count - 1


def test_leep_interval_holds_its_average() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        y = rng.integers(0, 3, 80)
        logits = rng.normal(size=(80, 5)) + 2 * np.eye(3, 5)[y]
        found.append(tr.leep_interval(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), y))
    truth = np.mean([f.value for f in found])
    assert 0.92 <= np.mean([f.low <= truth <= f.high for f in found]) <= 0.98


# LogME


@pytest.mark.parametrize("d", [8, 40, 90])
def test_logme_is_scikit_learns_largest_evidence(d: int) -> None:
    said = json.loads((Path(__file__).parent / "oracles" / "style.json").read_text())["transfer"][str(d)]
    x, y = transfer_features(d)
    assert said["inputs"] == pytest.approx(np.abs(x).sum(), rel=1e-12), "inputs differ from those of the oracle"
    assert tr.logme(x, y) == pytest.approx(said["logme"], rel=1e-9)
    assert tr.neighbour_accuracy(x, y, seed=0, k=1).value == pytest.approx(said["nearest"], rel=1e-12)


@pytest.mark.parametrize("d", [5, 40])
def test_logme_is_the_largest_gaussian_density_by_brute_force(d: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(25, d)) + 1.0, np.arange(25) % 2
    best = []
    for k in (0, 1):
        target = (y == k).astype(float)

        def loss(logs: np.ndarray, target: np.ndarray = target) -> float:
            covariance = x @ x.T / np.exp(logs[0]) + np.eye(25) / np.exp(logs[1])
            size = np.linalg.slogdet(covariance)[1]
            return 0.5 * (25 * np.log(2 * np.pi) + size + target @ np.linalg.solve(covariance, target))

        starts = [(a, b) for a in (-2.0, 2.0, 6.0) for b in (0.0, 3.0)]
        best.append(-min(optimize.minimize(loss, s, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}).fun for s in starts) / 25)
    assert tr.logme(x, y) == pytest.approx(np.mean(best), rel=1e-8)


def test_logme_agrees_with_the_papers_fixed_point_where_that_converges() -> None:
    x, y = transfer_features(8)
    n, d = x.shape
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    found = []
    for k in range(3):
        target = (y == k).astype(float)
        along = (u.T @ target) ** 2
        alpha = beta = 1.0
        for _ in range(2000):  # You et al. 2021, algorithm 1, on the singular values
            gamma = (beta * s**2 / (alpha + beta * s**2)).sum()
            weights = (beta**2 * s**2 * along / (alpha + beta * s**2) ** 2).sum()
            rest = ((alpha / (alpha + beta * s**2)) ** 2 * along).sum() + target.sum() - along.sum()
            alpha, beta = gamma / weights, (n - gamma) / rest
        parts = d * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * s**2).sum() - beta * rest - alpha * weights - n * np.log(2 * np.pi)
        found.append(parts / 2 / n)
    assert tr.logme(x, y) == pytest.approx(np.mean(found), rel=1e-8)


def test_logme_does_not_change_with_scale_rotation_or_names() -> None:
    x, y = transfer_features(40)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))
    for other in (x * 1e5, x * 1e-5, x @ turn, np.c_[x, np.zeros(60)], x.astype(np.float32) * np.float32(1)):
        assert tr.logme(other, y) == pytest.approx(tr.logme(x, y), rel=1e-5 if other.dtype == np.float32 else 1e-9)
    assert tr.logme(x, 7 - 2 * y) == pytest.approx(tr.logme(x, y), rel=1e-12)


def test_both_prefer_features_that_tell_the_labels() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    good, bad = rng.normal(size=(90, 6)) + 3 * np.eye(3, 6)[y], rng.normal(size=(90, 6))
    assert tr.logme(good, y) > tr.logme(bad, y) + 0.1
    assert tr.neighbour_accuracy(good, y, seed=0).low > 0.6 > tr.neighbour_accuracy(bad, y, seed=0).high
    collapsed = tr.logme(np.eye(3)[y], y)
    assert np.isfinite(collapsed) and collapsed > tr.logme(good, y), "labels that follow exactly: without bound, and told as the end of the range"


# neighbours


def test_neighbours_vote_and_the_nearer_side_wins_a_tie() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    y = (points[:, 0] + points[:, 1] ** 3 > 0).astype(int)
    apart = cdist(points, points)
    np.fill_diagonal(apart, np.inf)
    for k in (1, 2, 3, 4):
        right = 0
        for i in range(30):
            near = np.argsort(apart[i], kind="stable")[:k]
            sides = [(-(y[near] == c).sum(), apart[i, near][y[near] == c].sum()) for c in (0, 1)]
            right += int(sides.index(min(sides)) == y[i])
        assert tr.neighbour_accuracy(points, y, k=k, seed=0).value == pytest.approx(right / 30)


def test_interval_of_neighbour_accuracy_holds_its_average() -> None:
    rng = np.random.default_rng(0)
    found = []
    for i in range(60):
        y = rng.integers(0, 2, 50)
        found.append(tr.neighbour_accuracy(rng.normal(size=(50, 4)) + 0.5 * y[:, None], y, seed=i))
    truth = np.mean([f.value for f in found])
    assert np.mean([f.low <= truth <= f.high for f in found]) >= 0.93


def test_pictures_of_one_patient_are_no_neighbours() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 4)
    y = (np.arange(20) % 2)[patients]
    x = rng.normal(size=(20, 6))[patients] + 0.01 * rng.normal(size=(80, 6))
    assert tr.neighbour_accuracy(x, y, k=3, seed=0).value == 1.0
    found = tr.neighbour_accuracy(x, y, k=3, groups=patients, seed=0)
    assert found.low < 0.5 < found.high and found.df_images < 19


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = transfer_features(8)
    whole = tr.neighbour_accuracy(x, y, seed=0)
    monkeypatch.setattr(tr, "BLOCK", 7)
    assert tr.neighbour_accuracy(x, y, seed=0) == whole


# answers of trained models


def test_tested_is_the_measure_with_the_intervals_of_the_pilot() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 50)
    table = rng.dirichlet(np.ones(3), (4, 50)) + 0.3 * np.eye(3)[y]
    measure = parse("accuracy", ["a", "b", "c"])
    right = (table.argmax(axis=2) == y).astype(float)
    assert tr.tested(table, y, measure=measure) == two_way(right, confidence=0.95, df_images=49.0, least=1 / 50)
    alone = tr.tested(table[0], y, measure=measure)
    assert alone.value == right[0].mean() and alone.se_replicates == 0.0
    assert alone.se_images == pytest.approx(right[0].std(ddof=1) / np.sqrt(50), rel=1e-9)
    balanced = tr.tested(table, y, measure=parse("balanced", ["a", "b", "c"]))
    assert balanced.value == pytest.approx(np.mean([right[:, y == k].mean() for k in range(3)]), rel=1e-12)


def test_a_model_that_is_never_wrong_is_not_certain() -> None:
    y = np.arange(40) % 2
    found = tr.tested(np.eye(2)[y], y, measure=parse("accuracy", ["a", "b"]))
    assert found.value == 1.0 and found.low < 0.97


# intra-cluster distance


def test_intra_cluster_distance_tells_empty_clusters_and_does_not_count_them() -> None:
    fake = np.array([[0.0], [2.0], [10.0], [11.0], [12.0], [30.0]])
    found = cl.intra_cluster(fake, np.array([0, 0, 2, 2, 2, 4]), n_real=6)
    assert found.value == pytest.approx((2.0 + 4 / 3) / 2)
    assert (found.clusters, found.alone, found.empty, found.largest, found.n) == (2, 1, 3, 0.5, 6)


def test_intra_cluster_distance_of_one_image_again_and_again_is_0() -> None:
    real, fake = np.random.default_rng(0).normal(size=(2, 10, 4))
    collapsed = np.repeat(fake, 6, axis=0)
    nearest = cdist(collapsed, real).argmin(axis=1)
    spread = np.random.default_rng(1).normal(size=(60, 4))
    found = cl.intra_cluster(real.repeat(6, axis=0), np.arange(10).repeat(6), n_real=10)
    assert found.value == pytest.approx(0.0, abs=1e-6) and found.empty == 0
    assert cl.intra_cluster(collapsed, nearest, n_real=10).value < cl.intra_cluster(spread, cdist(spread, real).argmin(1), n_real=10).value


# refusals, records


def test_what_cannot_be_measured_is_refused() -> None:
    theta, y = answers()
    x, labels = transfer_features(8)
    measure = parse("accuracy", ["a", "b", "c"])
    for call, message in (
        (lambda: tr.leep(theta[:9], y[:9]), "needs 10 images, has 9; fix:"),
        (lambda: tr.leep(theta * 2, y), "no probabilities"),
        (lambda: tr.leep(np.where(theta > 0.5, np.nan, theta), y), "no probabilities"),
        (lambda: tr.leep(theta, y[:50]), "60, 7. for 50 labels"),
        (lambda: tr.leep_interval(theta, y, groups=np.arange(60) % 4), "needs 10 images or groups, has 4"),
        (lambda: tr.logme(x[:9], labels[:9]), "needs 10 images, has 9"),
        (lambda: tr.logme(x, np.zeros(60, int)), "labels name 1 class"),
        (lambda: tr.logme(np.zeros((60, 3)), labels), "all 0"),
        (lambda: tr.logme(np.full((60, 3), np.nan), labels), "not finite"),
        (lambda: tr.neighbour_accuracy(x, labels, seed=0, groups=np.arange(60) // 57), "needs 5 neighbours outside the group, has 3"),
        (lambda: tr.tested(theta, y, measure=measure), "the last axis the measure's classes"),
        (lambda: tr.tested(np.eye(3)[y[:9]], y[:9], measure=measure), "needs 10 test images, has 9"),
        (lambda: cl.intra_cluster(x, np.arange(60), n_real=60), "needs two synthetic images"),
        (lambda: cl.intra_cluster(x, np.arange(60), n_real=50), "does not name one of 50 real images"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_every_transfer_metric_has_a_record() -> None:
    records = [m for m in vars(tr).values() if isinstance(m, Metric)]
    assert {m.name for m in records} == {"leep", "logme", "neighbour_accuracy", "trained_on_synthetic", "recognised"}
    assert all(m.axis == "utility" and m.interval and m.source for m in records)
