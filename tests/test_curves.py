"""The curve error = a + b n^-c and its band: known curves come back, and the band holds the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from mitate.metrics.curves import EXPONENTS, LEAST_POINTS, Power, fit_band, fit_power
from mitate.metrics.intervals import two_way

N = np.array([50.0, 100.0, 200.0, 500.0])
AT = np.array([50.0, 75.0, 200.0, 500.0])


def tables_of(truth: Power, *, replicates: int, images: int, seed: int, row_sd: float = 0.02, spread: float = 0.1) -> np.ndarray:
    """Wrong answers [volumes, replicates, images]: hard and easy images are shared by all volumes, each training has its own luck."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, spread, images)
    luck = rng.normal(0, row_sd, (len(N), replicates, 1))
    wrong = np.clip(truth.at(N)[:, None, None] + luck + hard, 0, 1)
    return (rng.random(wrong.shape) < wrong).astype(np.float64)


def band_of(tables: np.ndarray, *, seed: int = 0, **settings: object):
    se = np.array([two_way(t, confidence=0.95).se for t in tables])
    return fit_band(tables, N, se=se, at=AT, confidence=0.95, seed=seed, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("a", "b", "c"), [(0.1, 0.8, 0.5), (0.05, 2.0, 1.3), (0.3, -0.4, 0.7), (-3.0, 5.0, 0.2)])
def test_a_known_curve_is_recovered(a: float, b: float, c: float) -> None:
    found = fit_power(N, a + b * N**-c, np.full(4, 0.01))
    assert (found.a, found.b, found.c) == (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6), pytest.approx(c, rel=1e-6)) and not found.edge
    assert found.at(N) == pytest.approx(a + b * N**-c)


def test_an_exponent_out_of_range_stops_at_the_edge_and_says_so() -> None:
    for c, edge in ((0.02, EXPONENTS[0]), (4.0, EXPONENTS[1])):
        found = fit_power(N, 0.1 + 3.0 * (N / 50) ** -c, np.full(4, 0.01))
        assert found.edge and found.c == edge


def test_the_best_measured_points_weigh_most() -> None:
    error, se = np.array([0.4, 0.3, 0.2, 0.1]), np.array([1e-4, 1e-4, 1e-4, 1.0])
    found = fit_power(N, error, se)
    assert found.at(N)[:3] == pytest.approx(error[:3], abs=0.01) and abs(found.at(N)[3] - 0.1) > 0.01


def test_equal_errors_give_a_flat_curve() -> None:
    found = fit_power(N, np.full(4, 0.25), np.full(4, 0.01))
    assert found.at(np.array([50.0, 300.0, 500.0])) == pytest.approx(0.25)


def test_too_few_or_unordered_points_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fix"):
        fit_power(N[:2], np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="do not fix"):
        fit_power(N[::-1], np.zeros(4), np.ones(4))
    tables = np.zeros((LEAST_POINTS - 1, 3, 10))
    with pytest.raises(ValueError, match="nothing to check"):
        fit_band(tables, N[:3], se=np.ones(3), at=AT, confidence=0.95, seed=0)


def test_the_band_holds_the_true_curve_about_as_often_as_it_says() -> None:
    truth, hits, trials = Power(0.15, 0.6, 0.5), np.zeros(len(AT)), 24
    for k in range(trials):
        band = band_of(tables_of(truth, replicates=4, images=150, seed=k), seed=k)
        hits += (band.low <= truth.at(AT)) & (truth.at(AT) <= band.high)
    assert (hits >= 0.8 * trials).all(), hits / trials


def test_the_same_seed_gives_the_same_band_and_another_seed_nearly() -> None:
    tables = tables_of(Power(0.2, 0.5, 0.5), replicates=5, images=200, seed=1)
    one, two, other = band_of(tables), band_of(tables), band_of(tables, seed=1)
    assert (one.low == two.low).all() and (one.high == two.high).all() and (one.a, one.c) == (two.a, two.c)
    assert (one.low != other.low).any() and other.high - other.low == pytest.approx(one.high - one.low, rel=0.3)


def test_groups_and_overlap_widen_the_band() -> None:
    tables = tables_of(Power(0.2, 0.5, 0.5), replicates=5, images=200, seed=1, spread=0.0)
    groups = np.arange(200) // 20
    tables = np.clip(tables + (groups % 2 == 0) * 0.3, 0, 1)

    def width(**settings: object) -> float:
        band = band_of(tables, **settings)
        return float((band.high - band.low).mean())

    assert width(groups=groups) > 1.5 * width() and width(overlap=0.4) > width()


def test_equal_answers_on_few_images_do_not_prove_a_curve_without_doubt() -> None:
    band = band_of(np.zeros((4, 3, 20)))
    assert (band.high - band.low > 0.02).all() and band.value == pytest.approx(0.0)
