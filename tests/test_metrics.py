"""Intervals, measures, copies: closed forms, invariants, independent references, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from mitate.errors import DataError, SettingError
from mitate.metrics import measures, privacy
from mitate.metrics.intervals import borrowed, holm, newcombe, p_value, pooled_row_se, two_way, wilson

CLASSES = ("a", "b", "c")


def answered(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return y, np.where(rng.random(n) < 0.7, y, rng.integers(0, 3, n))


# measures


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("accuracy", reference.accuracy_score),
        ("balanced", reference.balanced_accuracy_score),
        ("macro-f1", lambda y, said: reference.f1_score(y, said, average="macro")),
        ("recall:c", lambda y, said: reference.recall_score(y, said, labels=[2], average="macro")),
    ],
)
def test_contributions_average_to_what_scikit_learn_says(name: str, other: object) -> None:
    y, said = answered()
    assert measures.parse(name, CLASSES).contributions(y, said).mean() == pytest.approx(other(y, said), abs=1e-12)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["accuracy", "balanced", "macro-f1", "recall:c"])
def test_spread_of_contributions_is_the_sampling_error(name: str) -> None:
    """Against the spread of the measure over many draws of the test set (stratified ones for balanced and recall)."""
    measure = measures.parse(name, CLASSES)
    rng = np.random.default_rng(1)
    counts = (180, 90, 30)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(3), counts) if name in ("balanced", "recall:c") else rng.choice(3, 300, p=[0.6, 0.3, 0.1])
        return y, np.where(rng.random(300) < np.array([0.9, 0.6, 0.5])[y], y, rng.integers(0, 3, 300))

    found = [measure.contributions(*draw()) for _ in range(400)]
    estimated = np.mean([f.std(ddof=1) / np.sqrt(300) for f in found])
    assert estimated == pytest.approx(np.std([f.mean() for f in found]), rel=0.12)


def test_costs_decide_and_count(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("truth,a,b,c\na,0,1,1\nb,1,0,1\nc,10,10,0\n")
    measure = measures.parse(str(path), CLASSES)
    said = measure.decide(np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]], np.float32))
    assert said.tolist() == [2, 0], "a costly miss is guarded against even when it is not the likeliest"
    assert measure.contributions(np.array([2, 0]), np.array([0, 0])).tolist() == [-10.0, 0.0]
    assert measures.thaw(measures.freeze(measure), CLASSES).contributions(np.array([2]), np.array([1])).tolist() == [-10.0]


@pytest.mark.parametrize("text", ["", "truth,a,b\na,0,1\nb,1,0\n", "t,a,b,c\na,0,1,x\nb,1,0,1\nc,1,1,0\n", "t,a,b,c\na,0,1,nan\nb,1,0,1\nc,1,1,0\n"])
def test_bad_costs_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(SettingError):
        measures.parse(str(tmp_path / "c.csv"), CLASSES)


def test_costs_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00a,b")
    with pytest.raises(SettingError, match="UTF-8"):
        measures.parse(str(tmp_path / "c.csv"), CLASSES)


def test_unknown_measures_and_classes_name_the_nearest() -> None:
    with pytest.raises(SettingError, match="did you mean 'accuracy'"):
        measures.parse("acuracy", CLASSES)
    with pytest.raises(SettingError, match="no class 'rust'"):
        measures.parse("recall:rust", CLASSES)
    with pytest.raises(DataError, match="'c'"):
        measures.parse("recall:c", CLASSES).check(np.array([0, 1, 1, 0, 2]))


@pytest.mark.parametrize("name", ["balanced", "recall:c"])
def test_the_variance_of_a_class_is_over_its_own_degrees_of_freedom(name: str) -> None:
    y, said = answered(60)
    classes = [2] if name == "recall:c" else [0, 1, 2]
    right = (y == said).astype(float)
    expected = sum(right[y == k].var(ddof=1) / (y == k).sum() for k in classes) / len(classes) ** 2
    contributions = measures.parse(name, CLASSES).contributions(y, said)
    assert contributions.var(ddof=1) / 60 == pytest.approx(expected, rel=1e-12)
    assert two_way(np.repeat(contributions[None], 3, axis=0), confidence=0.95, least=0.0).se == pytest.approx(np.sqrt(expected), rel=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "balanced", "macro-f1", "recall:c", "costs"])
def test_no_image_that_changes_its_mind_moves_the_measure_by_more_than_one_image(name: str, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text("truth,a,b,c\na,0,1,1\nb,1,0,1\nc,10,10,0\n")
    measure = measures.parse(str(tmp_path / "costs.csv") if name == "costs" else name, CLASSES)
    rng, moves = np.random.default_rng(0), []
    y = np.repeat(np.arange(3), (12, 7, 4))
    for share in (0.0, 0.2, 0.8, 1.0):
        said = np.where(rng.random(len(y)) < share, y, (y + 1) % 3)
        now = measure.contributions(y, said).mean()
        for i in range(len(y)):
            for k in range(3):
                other = said.copy()
                other[i] = k
                moves.append(abs(measure.contributions(y, other).mean() - now))
    assert max(moves) <= measure.one_image(y) + 1e-12
    assert name == "macro-f1" or max(moves) == pytest.approx(measure.one_image(y)), "the bound is met"


def test_a_recall_counts_the_images_of_its_class() -> None:
    y = np.repeat(np.arange(3), (12, 7, 4))
    assert measures.parse("recall:c", CLASSES).counted(y) == 4 and measures.parse("balanced", CLASSES).counted(y) == 23


# intervals


def test_two_way_is_the_t_interval_when_only_replicates_vary() -> None:
    rows = np.array([0.01, 0.03, 0.02, 0.05])
    table = np.repeat(rows[:, None], 100_000, axis=1)
    found = two_way(table, confidence=0.95)
    low, high = stats.t.interval(0.95, 3, loc=rows.mean(), scale=stats.sem(rows))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_replicates_that_agree_by_luck_borrow_the_spread_of_other_arms() -> None:
    """Own variance 0 with three replicates: 0.4 of 2.4 degrees of freedom are the other arms'."""
    table = np.tile(np.array([0.0, 1.0] * 50), (3, 1))
    alone, lent = two_way(table, confidence=0.95), two_way(table, confidence=0.95, typical=0.04)
    assert alone.se_replicates == 0.0
    assert lent.se_replicates == pytest.approx(np.sqrt(0.04 * 0.4 / 2.4 / 3))
    assert lent.se_images == pytest.approx(alone.se_images) and lent.df_replicates == 2.0


@pytest.mark.parametrize("replicates", [2, 3, 10])
def test_borrowing_never_makes_an_interval_narrower(replicates: int) -> None:
    rng = np.random.default_rng(replicates)
    table = rng.normal(0, 0.3, (replicates, 1)) + rng.normal(size=(replicates, 60))
    own = two_way(table, confidence=0.95)
    for typical in (0.0, 1e-4, 0.05, 3.0):
        lent = two_way(table, confidence=0.95, typical=typical)
        assert lent.low <= own.low and lent.high >= own.high
    assert borrowed(0.2, 0.1, replicates) == 0.2 and borrowed(0.1, 0.2, 3) == pytest.approx((2 * 0.1 + 0.4 * 0.2) / 2.4)


def test_two_way_on_many_images_is_what_the_written_out_table_of_residuals_gives() -> None:
    rng = np.random.default_rng(4)
    table = rng.integers(-1, 2, (5, 400)).astype(np.float64)
    rest = table - table.mean(axis=1)[:, None] - table.mean(axis=0) + table.mean()
    rows, images = table.mean(axis=1).var(ddof=1) / 5, table.mean(axis=0).var(ddof=1) / 400
    both = (rest**2).sum() / (4 * 399) / (5 * 400)
    found = two_way(table, confidence=0.95, least=0.0)
    assert found.se**2 == pytest.approx(max(rows + images - both, rows, images), rel=1e-12)


def test_two_way_is_the_t_interval_when_only_images_vary() -> None:
    images = np.random.default_rng(0).choice([-1.0, 0, 1.0], 400, p=[0.1, 0.7, 0.2])
    found = two_way(np.repeat(images[None], 6, axis=0), confidence=0.95)
    low, high = stats.t.interval(0.95, 399, loc=images.mean(), scale=stats.sem(images))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@pytest.mark.parametrize(("replicates", "images"), [(3, 60), (5, 150), (10, 1000)])
def test_two_way_covers_the_truth_when_all_replicates_share_the_test_images(replicates: int, images: int) -> None:
    rng, hits, trials = np.random.default_rng(replicates), 0, 1500
    for _ in range(trials):
        table = 0.02 + rng.normal(0, 0.02, (replicates, 1)) + rng.normal(0, 0.25, (1, images)) + rng.normal(0, 0.3, (replicates, images))
        found = two_way(table, confidence=0.95)
        hits += found.low <= 0.02 <= found.high
    assert 0.935 <= hits / trials <= 0.995


def test_the_standard_error_is_that_of_the_mean_with_the_interaction_counted_once() -> None:
    rng, errors, means = np.random.default_rng(3), [], []
    for _ in range(800):
        table = rng.normal(0, 0.06, (6, 1)) + rng.normal(0, 0.3, (1, 60)) + rng.normal(0, 0.5, (6, 60))
        found = two_way(table, confidence=0.95)
        errors.append(found.se**2)
        means.append(found.value)
    assert np.mean(errors) == pytest.approx(np.var(means), rel=0.15)


def test_groups_widen_the_interval_when_their_images_agree() -> None:
    images = np.repeat(np.random.default_rng(0).choice([0.0, 1.0], 20), 10)
    table = np.repeat(images[None], 3, axis=0)
    alone, together = two_way(table, confidence=0.95), two_way(table, confidence=0.95, groups=np.repeat(np.arange(20), 10))
    assert together.se_images == pytest.approx(alone.se_images * np.sqrt(10), rel=0.05)
    singles = two_way(table, confidence=0.95, groups=np.arange(200))
    assert singles.se_images == pytest.approx(alone.se_images)


def test_identical_answers_do_not_prove_a_difference_of_zero() -> None:
    found = two_way(np.zeros((5, 40)), confidence=0.95)
    assert found.value == 0 and found.low < -1 / 40 < 1 / 40 < found.high


def test_equal_answers_for_a_rare_class_leave_room_for_one_of_its_images() -> None:
    y = np.repeat(np.arange(3), (80, 15, 5))
    measure = measures.parse("recall:c", CLASSES)
    table = np.zeros((5, 100))
    plain, rare = two_way(table, confidence=0.95), two_way(table, confidence=0.95, least=measure.one_image(y), df_images=measure.df_images(y))
    assert plain.se_images == pytest.approx(1 / 100) and rare.se_images == pytest.approx(1 / 5) and rare.high > 0.2


def test_an_interval_needs_two_replicates_two_images_two_groups() -> None:
    with pytest.raises(ValueError, match="one replicate"):
        two_way(np.zeros((1, 10)), confidence=0.95)
    with pytest.raises(ValueError, match="no interval"):
        two_way(np.zeros((3, 1)), confidence=0.95)
    with pytest.raises(ValueError, match="one group"):
        two_way(np.zeros((3, 10)), confidence=0.95, groups=np.zeros(10, np.int64))


def test_pooling_takes_the_mean_variance_and_fewer_degrees_of_freedom() -> None:
    tables = [np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]]), np.array([[1.0], [1.0]])]
    assert pooled_row_se(tables) == (pytest.approx(np.sqrt(10 / 3)), 1.0)


def test_wilson_and_newcombe_agree_with_published_values() -> None:
    """Newcombe 1998, tables of methods 3 (one share: 81 of 263) and 10 (56/70 against 48/80)."""
    one = wilson(81, 263)
    assert (round(one.low, 4), round(one.high, 4)) == (0.2553, 0.3662)
    two = newcombe(56, 70, 48, 80)
    assert (round(two.low, 4), round(two.high, 4)) == (0.0524, 0.3339)
    assert wilson(0, 20).low == 0 and wilson(20, 20).high == 1


def test_holm_is_step_down_and_monotone() -> None:
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([]) == []


def test_p_values_match_the_interval() -> None:
    found = two_way(np.random.default_rng(0).normal(0.1, 0.5, (5, 200)), confidence=0.95)
    edge = two_way(np.random.default_rng(0).normal(0.1, 0.5, (5, 200)) - found.low, confidence=0.95)
    assert p_value(edge) == pytest.approx(0.05, abs=1e-9)


# copies


def pictures(n: int, seed: int) -> np.ndarray:
    """Smooth random uint8 pictures [n, 16, 16, 1]."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(n, 4, 4))
    return np.clip(128 + 40 * coarse.repeat(4, 1).repeat(4, 2), 0, 255).astype(np.uint8)[..., None]


def test_copies_are_found_through_noise_and_brightness() -> None:
    train, fresh = pictures(80, 0), pictures(80, 1)
    noisy = np.clip(train * 0.8 + 30 + np.random.default_rng(2).normal(0, 8, train.shape), 0, 255).astype(np.uint8)
    found = privacy.copies(privacy.features(noisy), privacy.features(train), privacy.features(fresh))
    assert found.share.value > 0.95 and found.floor.value < 0.05 and found.excess.low > 0.8
    assert (found.nearest == np.arange(80)).mean() > 0.95


def test_fresh_images_and_blurred_averages_are_no_copies() -> None:
    train, fresh, other = pictures(80, 0), pictures(80, 1), pictures(80, 3)
    averages = np.stack([train[np.random.default_rng(i).permutation(80)[:8]].mean(0) for i in range(60)]).astype(np.uint8)
    for images in (other, averages):
        found = privacy.copies(privacy.features(images), privacy.features(train), privacy.features(fresh))
        assert found.excess.low <= 0.05


def test_nearer_to_train_is_half_for_fresh_images_and_one_for_copies() -> None:
    train, fresh, other = (privacy.features(pictures(200, s)) for s in (0, 1, 2))
    assert abs(privacy.nearer_to_train(other, train, fresh, seed=0).value - 0.5) < 0.12
    assert privacy.nearer_to_train(train, train, fresh, seed=0).value == 1.0


def test_too_few_images_are_not_measured() -> None:
    few, many = privacy.features(pictures(5, 0)), privacy.features(pictures(50, 1))
    for args in ((few, many, many), (many, few, many), (many, many, few)):
        with pytest.raises(ValueError, match="needs 10"):
            privacy.copies(*args)


def test_features_do_not_depend_on_the_size_of_the_picture() -> None:
    images = pictures(5, 0)
    assert np.allclose(privacy.features(images.repeat(4, 1).repeat(4, 2)), privacy.features(images), atol=1e-5)
