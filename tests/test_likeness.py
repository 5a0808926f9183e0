"""Fidelity and diversity at equal n: the plain functions' values, an interval of each, differences measured together, few images, few groups."""

from __future__ import annotations

import numpy as np
import pytest

from mitate.metrics import clusters as cl
from mitate.metrics import frechet as fr
from mitate.metrics import neighbours as nb
from mitate.metrics import vendi as ve
from mitate.metrics.likeness import METRICS, likeness
from mitate.metrics.line import Line
from mitate.score import Score


def normal(n: int, seed: int, *, columns: int = 8, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (n, columns))


def named(lines: tuple[Line, ...]) -> dict[str, Line]:
    return {line.metric.name: line for line in lines}


def test_values_are_those_of_the_plain_functions_on_the_whole_sets() -> None:
    real, fake, held, labels = normal(60, 0), normal(50, 1), normal(50, 2), np.arange(50) % 3
    found = named(likeness(real, fake, held, seed=0, labels=labels, held_labels=labels[::-1].copy()))
    near = nb.neighbourhood(real, fake)
    expected = {
        "frechet": fr.frechet(real, fake), "precision": nb.precision(near).value, "density": nb.density(near).value, "recall": nb.recall(near).value,
        "coverage": nb.coverage(near), "vendi": ve.vendi(fake), "intra_cluster": cl.intra_cluster(fake, near.nearest_real, n_real=len(real)).value,
        "vendi_within_class": np.mean([ve.vendi(fake[labels == k]) for k in range(3)]),
    }  # fmt: skip
    for name, value in expected.items():
        line = found[name]
        assert line.value is not None and line.floor is not None and line.apart is not None
        assert line.value.value == pytest.approx(value) and line.value.low < value < line.value.high + 1e-12
        assert line.apart.value == pytest.approx(line.value.value - line.floor.value) and line.apart.low < line.apart.high
    assert set(found) == {"kernel_distance", *(metric.name for metric in METRICS)}


def test_both_sides_are_measured_at_the_number_of_the_smaller() -> None:
    found = named(likeness(normal(60, 0), normal(200, 1), normal(40, 2), seed=0))
    assert all(found[name].value.n == 40 for name in ("frechet", "recall", "vendi"))  # type: ignore[union-attr]
    assert found["kernel_distance"].value.n == 200, "unbiased at every n, so it uses all"  # type: ignore[union-attr]
    assert 0.5 < found["vendi"].value.value / found["vendi"].floor.value < 2, "at 200 beside 40 it would be far above"  # type: ignore[union-attr]


def test_what_is_measured_together_is_told_apart_more_often() -> None:
    """Value and floor share the real images, so the interval of their difference is narrower than that of two independent values."""
    found = named(likeness(normal(40, 0), normal(40, 1), normal(40, 2), seed=0))["frechet"]
    assert found.value and found.floor and found.apart
    alone = np.hypot(found.value.high - found.value.value, found.floor.value - found.floor.low)
    assert found.apart.high - found.apart.value < alone


def test_a_set_without_hold_out_has_values_and_no_floor() -> None:
    found = named(likeness(normal(40, 0), normal(30, 1), None, seed=0))
    assert found["recall"].value is not None and found["recall"].floor is None and found["recall"].apart is None
    assert found["vendi_within_class"].value is None and "no labels" in found["vendi_within_class"].note


def test_few_groups_leave_values_without_intervals_and_say_why() -> None:
    found = named(likeness(normal(40, 0), normal(40, 1), normal(40, 2), seed=0, groups=np.arange(40) % 3, held_groups=np.arange(40) % 20))["recall"]
    assert found.value is not None and found.value.low == found.value.high and found.apart is None
    assert "needs 5 groups" in found.note


def test_images_around_no_common_real_one_have_no_intra_cluster_distance() -> None:
    real = 100.0 * np.eye(30)
    found = named(likeness(real, real + 0.1, real - 0.1, seed=0))["intra_cluster"]
    assert found.value is None and "nearest real image" in found.note


def test_the_same_seed_gives_the_same_lines() -> None:
    sets = normal(40, 0), normal(60, 1), normal(30, 2)
    assert likeness(*sets, seed=5) == likeness(*sets, seed=5) != likeness(*sets, seed=6)


def test_a_score_stands_beside_its_floor_by_the_interval_of_the_difference() -> None:
    """The two intervals overlap widely; measured together, the difference is sure."""
    apart = {"apart_low": -0.15, "apart_high": -0.05}
    row = {"low": 0.4, "high": 0.6, "n": 50, "floor": 0.6, "floor_low": 0.5, "floor_high": 0.7, "better": "higher"}
    assert Score("recall", "diversity", "x", 0.5, **row).beside == "not told apart"  # type: ignore[arg-type]
    assert Score("recall", "diversity", "x", 0.5, **row, **apart).beside == "worse"  # type: ignore[arg-type]


def test_nothing_is_more_private_than_its_floor():
    told = {"better": "lower", "low": 0.4, "high": 0.49, "floor": 0.5, "n": 100}
    assert Score("membership_ratio_auc", "privacy", "x", 0.45, **told).beside == "not told apart"  # type: ignore[arg-type]
    assert Score("membership_ratio_auc", "privacy", "x", 0.55, **told | {"low": 0.51, "high": 0.6}).beside == "worse"  # type: ignore[arg-type]
    assert Score("kernel_distance", "fidelity", "x", 0.45, **told).beside == "better"  # type: ignore[arg-type]
