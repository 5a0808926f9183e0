"""Looks: published colours, known spectra, shifted colours, gaps and spreads with their intervals, the early layer, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from mitate.metrics import frechet as fr
from mitate.metrics import looks as lk
from mitate.metrics import told_apart as ta
from mitate.score import Metric


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
    found = lk.looks(np.broadcast_to(np.uint8(rgb), (1, 8, 8, 3)))
    assert [float(found[name][0]) for name in ("lightness", "redness", "yellowness")] == pytest.approx(lab, abs=0.03)
    assert found["chroma"][0] == pytest.approx(np.hypot(lab[1], lab[2]), abs=0.03)
    assert found["contrast"][0] == pytest.approx(0, abs=1e-9) and found["chroma_contrast"][0] == pytest.approx(0, abs=1e-9)


def test_grey_images_have_the_lightness_of_grey_colours_and_no_chroma() -> None:
    x = pictures(5, 0, channels=1)
    grey, colour = lk.looks(x), lk.looks(x.repeat(3, axis=3))
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
        assert float(lk._slope(light).mean()) == pytest.approx(exponent, abs=0.12)


def test_sharpness_falls_by_blur_and_is_the_laplacian_of_lightness() -> None:
    x = pictures(6, 0)
    blurred = ((x.astype(int) + np.roll(x, 1, axis=1) + np.roll(x, 1, axis=2) + np.roll(x, (1, 1), axis=(1, 2))) // 4).astype(np.uint8)
    assert (lk.looks(blurred)["sharpness"] < lk.looks(x)["sharpness"] - 0.3).all()
    assert (lk.looks(blurred)["spectrum_slope"] < lk.looks(x)["spectrum_slope"]).all()
    light = lk._lab(x)[0, ..., 0]
    bends = [light[i - 1, j] + light[i + 1, j] + light[i, j - 1] + light[i, j + 1] - 4 * light[i, j] for i in range(1, 23) for j in range(1, 23)]
    assert lk.looks(x)["sharpness"][0] == pytest.approx(np.log10(np.mean(np.square(bends)) + 0.01), rel=1e-9)


def test_looks_are_those_of_each_image_alone() -> None:
    x = pictures(300, 0, side=8)
    whole, one = lk.looks(x), lk.looks(x[270:271])
    for name, values in whole.items():
        assert values.shape == (300,) and values[270] == pytest.approx(one[name][0], rel=1e-9)


def test_shifted_colours_are_found_and_named() -> None:
    real, same, cast = pictures(60, 0), pictures(60, 1), pictures(60, 2)
    cast = np.stack([np.clip(cast[..., 0].astype(int) + 30, 0, 255), cast[..., 1], cast[..., 2]], axis=-1).astype(np.uint8)
    found = lk.gaps(lk.looks(real), lk.looks(cast))
    assert found["redness"].gap.low > 5 and found["redness"].fake - found["redness"].real == pytest.approx(found["redness"].gap.value)
    assert found["redness"].in_deviations is not None and found["redness"].in_deviations > 1
    assert found["spectrum_slope"].gap.low < 0 < found["spectrum_slope"].gap.high, "the cast leaves texture as it is"
    alike = lk.gaps(lk.looks(real), lk.looks(same))
    assert alike["redness"].gap.low < 0 < alike["redness"].gap.high


def test_a_set_without_variety_is_found_by_its_spread_and_not_by_its_mean() -> None:
    real, fake = pictures(80, 0), pictures(80, 1, spread=5.0)
    found = lk.gaps(lk.looks(real), lk.looks(fake))["lightness"]
    assert found.spread is not None and found.spread.high < 0.5 and found.gap.low < 0 < found.gap.high
    flat = lk.gaps({"lightness": np.arange(30.0)}, {"lightness": np.full(20, 3.0)})["lightness"]
    assert flat.spread is None and flat.in_deviations is not None
    assert lk.gaps({"lightness": np.full(20, 3.0)}, {"lightness": np.arange(30.0)})["lightness"].in_deviations is None


def test_gap_of_images_without_groups_is_welchs() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 40), rng.normal(0.4, 3, 25)
    found = lk.gaps({"contrast": a}, {"contrast": b})["contrast"].gap
    said = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((said.low, said.high), rel=1e-9)


def test_jackknife_of_groups_leaves_out_whole_groups() -> None:
    rng = np.random.default_rng(0)
    numbers, groups = rng.gamma(2.0, size=60), np.sort(rng.integers(0, 12, 60))
    found = lk._Jackknife.of("real", numbers, groups)
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
        found = lk.gaps({"lightness": a}, {"lightness": 3.0 + b}, groups=groups, fake_groups=groups)["lightness"]
        assert found.spread is not None
        held += [found.gap.low <= 3.0 <= found.gap.high, found.spread.low <= 2.0 <= found.spread.high]
    assert (held / 300 >= 0.92).all() and (held / 300 <= 0.99).all()


def test_pixels_that_cannot_be_looked_at_are_refused() -> None:
    x = pictures(12, 0)
    for wrong in (x.astype(np.float32), x[..., 0], x[:, :7], np.concatenate([x, x], axis=3)):
        with pytest.raises(ValueError, match="fix: give uint8"):
            lk.looks(wrong)
    with pytest.raises(ValueError, match="needs 10 synthetic images or groups, has 9"):
        lk.gaps(lk.looks(x), lk.looks(x[:9]))
    with pytest.raises(ValueError, match="needs 10 real images or groups, has 6"):
        lk.gaps(lk.looks(x), lk.looks(x), groups=np.arange(12) // 2)


# early layer


def test_early_frechet_sees_texture_and_not_where_it_is() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(60, 4, 6, 6)) * np.linspace(0.5, 2, 4)[:, None, None]
    moved = np.roll(maps, (2, 3), axis=(2, 3))[:, :, ::-1]
    assert lk.early_frechet(maps, moved) == pytest.approx(0.0, abs=1e-8)
    assert lk.early_frechet(maps, maps + 1.0) == pytest.approx(4.0, rel=1e-9), "every channel's mean by 1, no deviation"
    assert lk.early_frechet(maps, 3 * maps) > 4
    flat = lk.channel_statistics(maps)
    np.testing.assert_allclose(flat[:, :4], maps.mean(axis=(2, 3)))
    np.testing.assert_allclose(flat[:, 4:], maps.std(axis=(2, 3)))
    assert lk.early_frechet(flat, 2 * flat) == pytest.approx(fr.frechet(flat, 2 * flat), rel=1e-12)
    with pytest.raises(ValueError, match="early layer"):
        lk.channel_statistics(flat)


def test_every_style_metric_has_a_record() -> None:
    records = [m for room in (ta, lk) for m in vars(room).values() if isinstance(m, Metric)] + list(lk.GAPS.values()) + list(lk.SPREADS.values())
    assert len(records) == 3 + 2 * len(lk.LOOKS) == len({m.name for m in records})
    assert all(m.axis == "style" and m.interval and m.source for m in records)
