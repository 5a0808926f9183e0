"""Variance components: expectations in closed form, a known truth found again, and the restricted likelihood climbed by an optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from mitate.metrics.components import components


def drawn(rng: np.random.Generator, shape: tuple[int, int, int], sd: tuple[float, float, float]) -> np.ndarray:
    a, b, c = shape
    return 3 + sd[0] * rng.normal(size=(a, 1, 1)) + sd[1] * rng.normal(size=(a, b, 1)) + sd[2] * rng.normal(size=(a, b, c))


def test_components_of_a_known_truth_come_back() -> None:
    rng, sd = np.random.default_rng(0), (2.0, 1.0, 0.5)
    found = np.array([[c.variance for c in components(drawn(rng, (12, 3, 3), sd))] for _ in range(800)])
    assert found.mean(axis=0) == pytest.approx(np.square(sd), rel=0.06)


def test_what_does_not_vary_gets_a_small_share() -> None:
    rng = np.random.default_rng(1)
    shares = np.array([[c.share for c in components(drawn(rng, (5, 2, 3), (0.0, 1.0, 1.0)))] for _ in range(400)])
    assert shares.mean(axis=0)[0] < 0.15 and shares.mean(axis=0)[1:] == pytest.approx([0.43, 0.47], abs=0.07)
    assert shares.sum(axis=1) == pytest.approx(1.0)


def test_a_table_by_hand() -> None:
    table = np.array([[[1.0, 3.0], [5.0, 7.0]], [[11.0, 13.0], [15.0, 17.0]]])  # mean squares 200, 16, 2 with 1, 2, 4 degrees of freedom
    data, generator, classifier = components(table)
    assert (classifier.variance, generator.variance, data.variance) == pytest.approx((2.0, (16 - 2) / 2, (200 - 16) / 4))
    assert [c.df for c in (data, generator, classifier)] == [1, 2, 4] and not any(c.at_zero for c in (data, generator, classifier))


def test_a_negative_estimate_is_pooled_into_the_source_inside() -> None:
    table = np.array([[[0.0, 4.0], [0.0, 4.0]], [[1.0, 5.0], [1.0, 5.0]]])  # fits of a subset agree: mean squares 2, 0, 8
    data, generator, classifier = components(table)
    assert data.variance == generator.variance == 0 and data.at_zero and generator.at_zero
    assert classifier.variance == pytest.approx((1 * 2 + 2 * 0 + 4 * 8) / 7), "all three pooled"


@pytest.mark.parametrize("seed", range(4))
def test_they_are_the_highest_restricted_likelihood(seed: int) -> None:
    """Against the likelihood itself, climbed numerically from several places."""
    table = drawn(np.random.default_rng(seed), (4, 2, 3), (0.5, 0.7, 1.0))
    n, y = table.size, table.ravel()
    subset, fit = np.repeat(np.arange(4), 6), np.repeat(np.arange(8), 3)
    parts = [(subset[:, None] == subset).astype(float), (fit[:, None] == fit).astype(float), np.eye(n)]

    def loss(variances: np.ndarray) -> float:
        v = sum(s * p for s, p in zip(variances, parts, strict=True))
        inverse = np.linalg.inv(v)
        one = np.ones(n)
        middle = inverse - np.outer(inverse @ one, inverse @ one) / (one @ inverse @ one)
        return float(0.5 * (np.linalg.slogdet(v)[1] + np.log(one @ inverse @ one) + y @ middle @ y))

    bounds = [(0, 20), (0, 20), (1e-6, 20)]
    best = min((optimize.minimize(loss, start, bounds=bounds, tol=1e-12) for start in ([1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1])), key=lambda r: r.fun)
    assert [c.variance for c in components(table)] == pytest.approx(best.x, abs=2e-3)


def test_sources_with_one_draw_each_are_told_together() -> None:
    table = drawn(np.random.default_rng(0), (5, 1, 3), (1, 1, 1))
    assert [c.sources for c in components(table)] == [("data", "generator"), ("classifier",)]
    (whole,) = components(table[:, :, :1])
    assert whole.sources == ("data", "generator", "classifier") and whole.variance == pytest.approx(table[:, 0, 0].var(ddof=1)) and whole.share == 1
    assert [c.sources for c in components(drawn(np.random.default_rng(0), (5, 2, 1), (1, 1, 1)))] == [("data",), ("generator", "classifier")]


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 2 or more of data, has 1"):
        components(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="does not fit"):
        components(np.zeros((3, 2)))
    assert [c.share for c in components(np.zeros((3, 2, 2)))] == [0, 0, 0]
