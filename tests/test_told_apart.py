"""Told apart: scikit-learn's classifier, known AUCs, copies, groups, coverage of the intervals, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from mitate.metrics import told_apart as ta
from oracle_inputs import STYLE_NAMES, style_features, style_folds


def oracle(name: str) -> dict[str, Any]:
    said = json.loads((Path(__file__).parent / "oracles" / "style.json").read_text())["told_apart"][name]
    real, fake = style_features(name)
    assert said["inputs"] == pytest.approx(np.abs(real).sum() + np.abs(fake).sum(), rel=1e-12), "inputs differ from those of the oracle"
    return said


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_classifier_auc_and_accuracy_are_those_of_scikit_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said, (real, fake) = oracle(name), style_features(name)
    monkeypatch.setattr(ta, "_folds", lambda clusters, strata, folds, rng: np.concatenate(style_folds(len(real), len(fake))))
    found = ta.told_apart(real, fake, seed=0)
    np.testing.assert_allclose(np.concatenate([found.real_scores, found.fake_scores]), said["scores"], rtol=0, atol=2e-5)
    assert found.auc.value == pytest.approx(said["auc"], rel=1e-12)
    assert found.balanced_accuracy.value == pytest.approx(said["balanced"], rel=1e-12)


def test_auc_of_two_gaussians_is_the_closed_form() -> None:
    """Means a distance s apart, unit spread: the best AUC is Phi(s / sqrt 2), and the best balanced accuracy Phi(s / 2)."""
    found = ta.told_apart(normal(1500, 3, 0), normal(1500, 3, 1, shift=1.0 / np.sqrt(3)), seed=0)
    assert found.auc.low <= special.ndtr(1 / np.sqrt(2)) <= found.auc.high
    assert found.balanced_accuracy.low <= special.ndtr(0.5) <= found.balanced_accuracy.high
    assert found.auc.value == pytest.approx(special.ndtr(1 / np.sqrt(2)), abs=0.02)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 30, 6), (60, 25, 20)])
def test_intervals_hold_a_half_where_nothing_differs(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(4)
    found = [ta.told_apart(rng.normal(size=(n, d)), rng.normal(size=(m, d)), seed=i) for i in range(100)]
    for intervals in ([f.auc for f in found], [f.balanced_accuracy for f in found]):
        assert np.mean([i.low <= 0.5 <= i.high for i in intervals]) >= 0.94
        assert abs(np.mean([i.value for i in intervals]) - 0.5) < 0.03
    naive = [abs(f.auc.value - 0.5) <= 1.96 * f.auc.se_images / 1.5 for f in found]
    assert np.mean(naive) < 0.92, "the interval that forgets the shared training images would hold it too seldom"


def test_a_set_of_copies_cannot_be_told_apart() -> None:
    real = normal(60, 100, 0)
    found = ta.told_apart(real, real[np.random.default_rng(1).permutation(60)], seed=0)
    assert (found.auc.value, found.balanced_accuracy.value) == (0.5, 0.5)
    assert found.auc.low < 0.45 and found.auc.high > 0.55 and not found.twins, "0.5 exactly, and still not certain"


def test_near_copies_share_a_fold_and_farther_ones_are_named_as_twins() -> None:
    real = normal(60, 100, 0)
    near = ta.told_apart(real, real + 1e-3 * normal(60, 100, 1), seed=0)
    assert 0.4 < near.auc.value < 0.6 and not near.twins
    far = real + 0.8 * normal(60, 100, 1)  # 0.64 of what lies between a real image and its nearest other
    found = ta.told_apart(real, far, seed=0)
    assert found.auc.value < 0.4 and found.twins, "below 0.5 is no praise"
    told = ta.told_apart(real, far, seed=0, groups=np.arange(60), fake_groups=np.arange(60))
    assert told.auc.value > 0.4 and not told.twins, "known twins share a group"


def test_a_few_images_again_and_again_are_no_style() -> None:
    """Twenty of the real kind, six times each: a classifier that saw one of the six would know the others by heart."""
    fake = np.repeat(normal(20, 50, 1), 6, axis=0) + 0.05 * normal(120, 50, 2)
    found = ta.told_apart(normal(120, 50, 0), fake, seed=0)
    assert found.auc.low < 0.5 and found.auc.df_images == 19
    assert all(len(set(found.fake_folds[6 * k : 6 * k + 6])) == 1 for k in range(20))


def test_a_set_of_little_variety_is_still_told_apart() -> None:
    """All synthetic images lie nearer together than two real ones ever do; that makes them no copies of each other."""
    found = ta.told_apart(normal(80, 30, 0), 0.2 * normal(80, 30, 1), seed=0)
    assert found.auc.df_images > 50 and found.auc.n == 80


def test_images_of_a_group_stay_in_one_fold() -> None:
    groups, fake_groups = np.arange(90) // 3, 100 + np.arange(60) // 4
    fake_groups[:4] = 0  # made from the first patient
    found = ta.told_apart(normal(90, 5, 0), normal(60, 5, 1), seed=3, groups=groups, fake_groups=fake_groups)
    folds = np.concatenate([found.real_folds, found.fake_folds])
    both = np.concatenate([groups, fake_groups])
    assert all(len(set(folds[both == g])) == 1 for g in np.unique(both))
    assert np.bincount(found.real_folds).min() >= 15 and np.bincount(found.fake_folds).min() >= 8, "folds of about one size"


def test_groups_that_are_not_told_look_like_a_difference() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    real, fake = (rng.normal(size=(100, 16)) + rng.normal(size=(20, 16))[groups] for _ in range(2))
    alone = ta.told_apart(real, fake, seed=0)
    told = ta.told_apart(real, fake, seed=0, groups=groups, fake_groups=100 + groups)
    assert alone.auc.low > 0.5 and told.auc.low < 0.5 < told.auc.high
    assert told.auc.high - told.auc.low > alone.auc.high - alone.auc.low and told.auc.df_images == 19


def test_perfectly_told_apart_is_not_certain() -> None:
    found = ta.told_apart(normal(40, 4, 0), normal(30, 4, 1, shift=9.0), seed=0)
    assert found.auc.value == found.auc.high == 1.0 and 0.8 < found.auc.low < 0.95
    assert found.balanced_accuracy.value == 1.0


def test_scale_units_and_order_of_columns_change_nothing() -> None:
    real, fake = normal(50, 6, 0), normal(40, 6, 1, shift=0.3)
    scale, shift = np.array([1e-6, 1.0, 1e6, 3.0, 0.1, 50.0]), np.array([0.0, 5.0, -1e6, 1.0, 0.0, 9.0])
    plain = ta.told_apart(real, fake, seed=0)
    other = ta.told_apart((real * scale + shift)[:, ::-1], (fake * scale + shift)[:, ::-1], seed=0)
    assert other.auc.value == pytest.approx(plain.auc.value, abs=1e-9)
    constant = ta.told_apart(np.c_[real, np.full(50, 7.0)], np.c_[fake, np.full(40, 7.0)], seed=0)
    assert constant.auc.value == pytest.approx(plain.auc.value, abs=1e-9)


def test_same_seed_same_answer() -> None:
    real, fake = normal(50, 6, 0), normal(40, 6, 1, shift=0.3)
    one, two, other = (ta.told_apart(real, fake, seed=s) for s in (0, 0, 1))
    assert one.auc == two.auc and np.array_equal(one.real_scores, two.real_scores)
    assert not np.array_equal(one.real_folds, other.real_folds)


def test_floor_is_measured_at_the_same_number_of_images() -> None:
    real, fake, held = normal(80, 8, 0), normal(200, 8, 1, shift=1.0), normal(40, 8, 2)
    found = ta.told_apart_beside(real, fake, held, seed=0, groups=np.arange(80) // 2, held_groups=1000 + np.arange(40) // 2)
    assert found.n == found.value.auc.n == found.floor.auc.n == 40
    assert found.value.auc.low > 0.7 and found.floor.auc.low < 0.5 < found.floor.auc.high
    assert found.floor.auc.df_images == 19


def test_sets_that_cannot_be_told_apart_for_lack_of_images_are_refused() -> None:
    real, fake = normal(40, 4, 0), normal(40, 4, 1)
    with pytest.raises(ValueError, match="needs 20 synthetic images, has 19; fix:"):
        ta.told_apart(real, fake[:19], seed=0)
    with pytest.raises(ValueError, match="needs 10 different synthetic images or groups, has 1; fix:"):
        ta.told_apart(real, np.repeat(fake[:1], 40, axis=0), seed=0)
    with pytest.raises(ValueError, match="needs 10 different real images or groups, has 8"):
        ta.told_apart(real, fake, seed=0, groups=np.arange(40) // 5)
    with pytest.raises(ValueError, match="one extractor"):
        ta.told_apart(real, fake[:, :3], seed=0)
    fake[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        ta.told_apart(real, fake, seed=0)
