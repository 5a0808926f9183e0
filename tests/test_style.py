"""Style: scikit-learn's classifier, known AUCs, copies, groups, shifted colours, known spectra, coverage of the intervals, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from mitate.metrics import frechet as fr
from mitate.metrics import style as st
from mitate.score import Metric
from oracle_inputs import STYLE_NAMES, style_features, style_folds


def oracle(name: str) -> dict[str, Any]:
    said = json.loads((Path(__file__).parent / "oracles" / "style.json").read_text())["told_apart"][name]
    real, fake = style_features(name)
    assert said["inputs"] == pytest.approx(np.abs(real).sum() + np.abs(fake).sum(), rel=1e-12), "inputs differ from those of the oracle"
    return said


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


# told apart


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_classifier_auc_and_accuracy_are_those_of_scikit_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said, (real, fake) = oracle(name), style_features(name)
    monkeypatch.setattr(st, "_folds", lambda a, b, folds, rng: style_folds(len(a), len(b)))
    found = st.told_apart(real, fake, seed=0)
    np.testing.assert_allclose(np.concatenate([found.real_scores, found.fake_scores]), said["scores"], rtol=0, atol=2e-5)
    assert found.auc.value == pytest.approx(said["auc"], rel=1e-12)
    assert found.balanced_accuracy.value == pytest.approx(said["balanced"], rel=1e-12)


def test_auc_of_two_gaussians_is_the_closed_form() -> None:
    """Means a distance s apart, unit spread: the best AUC is Phi(s / sqrt 2), and the best balanced accuracy Phi(s / 2)."""
    found = st.told_apart(normal(1500, 3, 0), normal(1500, 3, 1, shift=1.0 / np.sqrt(3)), seed=0)
    assert found.auc.low <= special.ndtr(1 / np.sqrt(2)) <= found.auc.high
    assert found.balanced_accuracy.low <= special.ndtr(0.5) <= found.balanced_accuracy.high
    assert found.auc.value == pytest.approx(special.ndtr(1 / np.sqrt(2)), abs=0.02)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 30, 6), (60, 25, 20)])
def test_intervals_hold_a_half_where_nothing_differs(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(4)
    found = [st.told_apart(rng.normal(size=(n, d)), rng.normal(size=(m, d)), seed=i) for i in range(100)]
    for intervals in ([f.auc for f in found], [f.balanced_accuracy for f in found]):
        assert np.mean([i.low <= 0.5 <= i.high for i in intervals]) >= 0.94
        assert abs(np.mean([i.value for i in intervals]) - 0.5) < 0.03
    naive = [abs(f.auc.value - 0.5) <= 1.96 * f.auc.se_images / 1.5 for f in found]
    assert np.mean(naive) < 0.92, "the interval that forgets the shared training images would hold it too seldom"


def test_a_set_of_copies_cannot_be_told_apart() -> None:
    real = normal(60, 100, 0)
    found = st.told_apart(real, real[np.random.default_rng(1).permutation(60)], seed=0)
    assert (found.auc.value, found.balanced_accuracy.value) == (0.5, 0.5)
    assert found.auc.low < 0.45 and found.auc.high > 0.55 and not found.twins, "0.5 exactly, and still not certain"


def test_near_copies_share_a_fold_and_farther_ones_are_named_as_twins() -> None:
    real = normal(60, 100, 0)
    near = st.told_apart(real, real + 1e-3 * normal(60, 100, 1), seed=0)
    assert 0.4 < near.auc.value < 0.6 and not near.twins
    far = real + 0.8 * normal(60, 100, 1)  # 0.64 of what lies between a real image and its nearest other
    found = st.told_apart(real, far, seed=0)
    assert found.auc.value < 0.4 and found.twins, "below 0.5 is no praise"
    told = st.told_apart(real, far, seed=0, groups=np.arange(60), fake_groups=np.arange(60))
    assert told.auc.value > 0.4 and not told.twins, "known twins share a group"


def test_a_few_images_again_and_again_are_no_style() -> None:
    """Twenty of the real kind, six times each: a classifier that saw one of the six would know the others by heart."""
    fake = np.repeat(normal(20, 50, 1), 6, axis=0) + 0.05 * normal(120, 50, 2)
    found = st.told_apart(normal(120, 50, 0), fake, seed=0)
    assert found.auc.low < 0.5 and found.auc.df_images == 19
    assert all(len(set(found.fake_folds[6 * k : 6 * k + 6])) == 1 for k in range(20))


def test_a_set_of_little_variety_is_still_told_apart() -> None:
    """All synthetic images lie nearer together than two real ones ever do; that makes them no copies of each other."""
    found = st.told_apart(normal(80, 30, 0), 0.2 * normal(80, 30, 1), seed=0)
    assert found.auc.df_images > 50 and found.auc.n == 80


def test_images_of_a_group_stay_in_one_fold() -> None:
    groups, fake_groups = np.arange(90) // 3, 100 + np.arange(60) // 4
    fake_groups[:4] = 0  # made from the first patient
    found = st.told_apart(normal(90, 5, 0), normal(60, 5, 1), seed=3, groups=groups, fake_groups=fake_groups)
    folds = np.concatenate([found.real_folds, found.fake_folds])
    both = np.concatenate([groups, fake_groups])
    assert all(len(set(folds[both == g])) == 1 for g in np.unique(both))
    assert np.bincount(found.real_folds).min() >= 15 and np.bincount(found.fake_folds).min() >= 8, "folds of about one size"


def test_groups_that_are_not_told_look_like_a_difference() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    real, fake = (rng.normal(size=(100, 16)) + rng.normal(size=(20, 16))[groups] for _ in range(2))
    alone = st.told_apart(real, fake, seed=0)
    told = st.told_apart(real, fake, seed=0, groups=groups, fake_groups=100 + groups)
    assert alone.auc.low > 0.5 and told.auc.low < 0.5 < told.auc.high
    assert told.auc.high - told.auc.low > alone.auc.high - alone.auc.low and told.auc.df_images == 19


def test_perfectly_told_apart_is_not_certain() -> None:
    found = st.told_apart(normal(40, 4, 0), normal(30, 4, 1, shift=9.0), seed=0)
    assert found.auc.value == found.auc.high == 1.0 and 0.8 < found.auc.low < 0.95
    assert found.balanced_accuracy.value == 1.0


def test_scale_units_and_order_of_columns_change_nothing() -> None:
    real, fake = normal(50, 6, 0), normal(40, 6, 1, shift=0.3)
    scale, shift = np.array([1e-6, 1.0, 1e6, 3.0, 0.1, 50.0]), np.array([0.0, 5.0, -1e6, 1.0, 0.0, 9.0])
    plain = st.told_apart(real, fake, seed=0)
    other = st.told_apart((real * scale + shift)[:, ::-1], (fake * scale + shift)[:, ::-1], seed=0)
    assert other.auc.value == pytest.approx(plain.auc.value, abs=1e-9)
    constant = st.told_apart(np.c_[real, np.full(50, 7.0)], np.c_[fake, np.full(40, 7.0)], seed=0)
    assert constant.auc.value == pytest.approx(plain.auc.value, abs=1e-9)


def test_same_seed_same_answer() -> None:
    real, fake = normal(50, 6, 0), normal(40, 6, 1, shift=0.3)
    one, two, other = (st.told_apart(real, fake, seed=s) for s in (0, 0, 1))
    assert one.auc == two.auc and np.array_equal(one.real_scores, two.real_scores)
    assert not np.array_equal(one.real_folds, other.real_folds)


def test_floor_is_measured_at_the_same_number_of_images() -> None:
    real, fake, held = normal(80, 8, 0), normal(200, 8, 1, shift=1.0), normal(40, 8, 2)
    found = st.told_apart_beside(real, fake, held, seed=0, groups=np.arange(80) // 2, held_groups=1000 + np.arange(40) // 2)
    assert found.n == found.value.auc.n == found.floor.auc.n == 40
    assert found.value.auc.low > 0.7 and found.floor.auc.low < 0.5 < found.floor.auc.high
    assert found.floor.auc.df_images == 19


def test_sets_that_cannot_be_told_apart_for_lack_of_images_are_refused() -> None:
    real, fake = normal(40, 4, 0), normal(40, 4, 1)
    with pytest.raises(ValueError, match="needs 20 synthetic images, has 19; fix:"):
        st.told_apart(real, fake[:19], seed=0)
    with pytest.raises(ValueError, match="needs 10 different synthetic images or groups, has 1; fix:"):
        st.told_apart(real, np.repeat(fake[:1], 40, axis=0), seed=0)
    with pytest.raises(ValueError, match="needs 10 different real images or groups, has 8"):
        st.told_apart(real, fake, seed=0, groups=np.arange(40) // 5)
    with pytest.raises(ValueError, match="one extractor"):
        st.told_apart(real, fake[:, :3], seed=0)
    fake[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        st.told_apart(real, fake, seed=0)


# looks and gaps


def pictures(n: int, seed: int, *, side: int = 24, channels: int = 3, spread: float = 20.0) -> np.ndarray:
    """Smooth coloured pictures, each with a brightness of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 30, (n, 4, 4, channels)).repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    soft = (coarse + np.roll(coarse, 3, axis=1) + np.roll(coarse, 3, axis=2) + np.roll(coarse, (2, 2), axis=(1, 2))) / 4
    return np.clip(128 + rng.normal(0, spread, (n, 1, 1, 1)) + soft + rng.normal(0, 2, soft.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_colours_are_those_of_the_published_tables(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    found = st.looks(np.broadcast_to(np.uint8(rgb), (1, 8, 8, 3)))
    assert [float(found[name][0]) for name in ("lightness", "redness", "yellowness")] == pytest.approx(lab, abs=0.03)
    assert found["chroma"][0] == pytest.approx(np.hypot(lab[1], lab[2]), abs=0.03)
    assert found["contrast"][0] == pytest.approx(0, abs=1e-9) and found["chroma_contrast"][0] == pytest.approx(0, abs=1e-9)


def test_grey_images_have_the_lightness_of_grey_colours_and_no_chroma() -> None:
    x = pictures(5, 0, channels=1)
    grey, colour = st.looks(x), st.looks(x.repeat(3, axis=3))
    assert set(colour) - set(grey) == {"redness", "yellowness", "chroma", "chroma_contrast"}
    for name in grey:
        np.testing.assert_allclose(grey[name], colour[name], atol=1e-6)
    assert np.abs(colour["chroma"]).max() < 0.01


def test_slope_of_power_law_noise_is_its_exponent() -> None:
    rng = np.random.default_rng(0)
    h = w = 64
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None])
    radius[0, 0] = 1.0
    for exponent in (0.0, -1.0, -2.0):
        waves = np.fft.fft2(rng.normal(size=(60, h, w))) * radius ** (exponent / 2)
        noise = np.real(np.fft.ifft2(waves))
        light = 50 + 10 * (noise - noise.mean()) / noise.std()
        assert float(st._slope(light).mean()) == pytest.approx(exponent, abs=0.12)


def test_sharpness_falls_by_blur_and_is_the_laplacian_of_lightness() -> None:
    x = pictures(6, 0)
    blurred = ((x.astype(int) + np.roll(x, 1, axis=1) + np.roll(x, 1, axis=2) + np.roll(x, (1, 1), axis=(1, 2))) // 4).astype(np.uint8)
    assert (st.looks(blurred)["sharpness"] < st.looks(x)["sharpness"] - 0.3).all()
    assert (st.looks(blurred)["spectrum_slope"] < st.looks(x)["spectrum_slope"]).all()
    light = st._lab(x)[0, ..., 0]
    bends = [light[i - 1, j] + light[i + 1, j] + light[i, j - 1] + light[i, j + 1] - 4 * light[i, j] for i in range(1, 23) for j in range(1, 23)]
    assert st.looks(x)["sharpness"][0] == pytest.approx(np.log10(np.mean(np.square(bends)) + 0.01), rel=1e-9)


def test_looks_are_those_of_each_image_alone() -> None:
    x = pictures(300, 0, side=8)
    whole, one = st.looks(x), st.looks(x[270:271])
    for name, values in whole.items():
        assert values.shape == (300,) and values[270] == pytest.approx(one[name][0], rel=1e-9)


def test_shifted_colours_are_found_and_named() -> None:
    real, same, cast = pictures(60, 0), pictures(60, 1), pictures(60, 2)
    cast = np.stack([np.clip(cast[..., 0].astype(int) + 30, 0, 255), cast[..., 1], cast[..., 2]], axis=-1).astype(np.uint8)
    found = st.gaps(st.looks(real), st.looks(cast))
    assert found["redness"].gap.low > 5 and found["redness"].fake - found["redness"].real == pytest.approx(found["redness"].gap.value)
    assert found["redness"].in_deviations is not None and found["redness"].in_deviations > 1
    assert found["spectrum_slope"].gap.low < 0 < found["spectrum_slope"].gap.high, "the cast leaves texture as it is"
    alike = st.gaps(st.looks(real), st.looks(same))
    assert alike["redness"].gap.low < 0 < alike["redness"].gap.high


def test_a_set_without_variety_is_found_by_its_spread_and_not_by_its_mean() -> None:
    real, fake = pictures(80, 0), pictures(80, 1, spread=5.0)
    found = st.gaps(st.looks(real), st.looks(fake))["lightness"]
    assert found.spread is not None and found.spread.high < 0.5 and found.gap.low < 0 < found.gap.high
    flat = st.gaps({"lightness": np.arange(30.0)}, {"lightness": np.full(20, 3.0)})["lightness"]
    assert flat.spread is None and flat.in_deviations is not None
    assert st.gaps({"lightness": np.full(20, 3.0)}, {"lightness": np.arange(30.0)})["lightness"].in_deviations is None


def test_gap_of_images_without_groups_is_welchs() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 40), rng.normal(0.4, 3, 25)
    found = st.gaps({"contrast": a}, {"contrast": b})["contrast"].gap
    said = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((said.low, said.high), rel=1e-9)


def test_jackknife_of_groups_leaves_out_whole_groups() -> None:
    rng = np.random.default_rng(0)
    numbers, groups = rng.gamma(2.0, size=60), np.sort(rng.integers(0, 12, 60))
    found = st._Jackknife.of("real", numbers, groups)
    rest = [numbers[groups != g] for g in np.unique(groups)]
    assert found.mean.variance == pytest.approx((len(rest) - 1) * np.var([r.mean() for r in rest]), rel=1e-9)
    assert found.log_deviation.variance == pytest.approx((len(rest) - 1) * np.var([np.log(r.std(ddof=1)) for r in rest]), rel=1e-9)
    assert found.deviation == pytest.approx(numbers.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("grouped", [False, True])
def test_gap_and_spread_hold_the_truth(grouped: bool) -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(25), 4) if grouped else None
    held = np.zeros(2)
    for _ in range(300):
        a, b = (scale * (rng.normal(size=100) + (rng.normal(size=25)[groups] if grouped else 0)) for scale in (1.0, 2.0))
        found = st.gaps({"lightness": a}, {"lightness": 3.0 + b}, groups=groups, fake_groups=groups)["lightness"]
        assert found.spread is not None
        held += [found.gap.low <= 3.0 <= found.gap.high, found.spread.low <= 2.0 <= found.spread.high]
    assert (held / 300 >= 0.92).all() and (held / 300 <= 0.99).all()


def test_pixels_that_cannot_be_looked_at_are_refused() -> None:
    x = pictures(12, 0)
    for wrong in (x.astype(np.float32), x[..., 0], x[:, :7], np.concatenate([x, x], axis=3)):
        with pytest.raises(ValueError, match="fix: give uint8"):
            st.looks(wrong)
    with pytest.raises(ValueError, match="needs 10 synthetic images or groups, has 9"):
        st.gaps(st.looks(x), st.looks(x[:9]))
    with pytest.raises(ValueError, match="needs 10 real images or groups, has 6"):
        st.gaps(st.looks(x), st.looks(x), groups=np.arange(12) // 2)


# early layer


def test_early_frechet_sees_texture_and_not_where_it_is() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(60, 4, 6, 6)) * np.linspace(0.5, 2, 4)[:, None, None]
    moved = np.roll(maps, (2, 3), axis=(2, 3))[:, :, ::-1]
    assert st.early_frechet(maps, moved) == pytest.approx(0.0, abs=1e-8)
    assert st.early_frechet(maps, maps + 1.0) == pytest.approx(4.0, rel=1e-9), "every channel's mean by 1, no deviation"
    assert st.early_frechet(maps, 3 * maps) > 4
    flat = st.channel_statistics(maps)
    np.testing.assert_allclose(flat[:, :4], maps.mean(axis=(2, 3)))
    np.testing.assert_allclose(flat[:, 4:], maps.std(axis=(2, 3)))
    assert st.early_frechet(flat, 2 * flat) == pytest.approx(fr.frechet(flat, 2 * flat), rel=1e-12)
    with pytest.raises(ValueError, match="early layer"):
        st.channel_statistics(flat)


def test_every_style_metric_has_a_record() -> None:
    records = [m for m in vars(st).values() if isinstance(m, Metric)] + list(st.GAPS.values()) + list(st.SPREADS.values())
    assert len(records) == 3 + 2 * len(st.LOOKS) == len({m.name for m in records})
    assert all(m.axis == "style" and m.interval and m.source for m in records)
