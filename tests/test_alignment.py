"""Alignment: closes gaps that are there, leaves alone what agrees, and maps each image by itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mitate.adapters.alignment import Alignment, gaps
from mitate.errors import DataError, SettingError


def textures(n: int, *, channels: int = 3, size: int = 32, seed: int = 0) -> np.ndarray:
    """Coloured clouds with grain, uint8 [n, size, size, channels]."""
    chance = np.random.Generator(np.random.PCG64(seed))
    clouds = np.stack([gaussian_filter(chance.standard_normal((size, size, channels)), (2, 2, 0)) for _ in range(n)])
    x = 120 + 250 * clouds @ (np.eye(channels) + 0.4) + 6 * chance.standard_normal(clouds.shape)
    return np.clip(x, 0, 255).astype(np.uint8)


def worse(x: np.ndarray) -> np.ndarray:
    """Blurred, paler and tinted."""
    soft = np.stack([gaussian_filter(image.astype(float), (0.8, 0.8, 0)) for image in x])
    return np.clip(soft * 0.7 + np.linspace(40, 10, x.shape[-1]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_gaps_of_colour_and_spectrum_shrink(channels, tmp_path):
    real, synthetic = textures(40, channels=channels), worse(textures(40, channels=channels, seed=1))
    facts = Alignment().fit(real, synthetic, folder=tmp_path)
    assert facts["after"]["colour"] < 0.15 * facts["before"]["colour"]
    assert facts["after"]["histogram"] < 0.3 * facts["before"]["histogram"]
    assert facts["after"]["spectrum"] < 0.35 * facts["before"]["spectrum"]
    fresh = Alignment().load(tmp_path).apply(worse(textures(40, channels=channels, seed=2)))  # images that were not fitted on
    assert gaps(fresh, real)["spectrum"] < 0.4 * facts["before"]["spectrum"]


def test_images_that_agree_stay_nearly_as_they_are(tmp_path):
    real, synthetic = textures(60), textures(60, seed=1)
    Alignment().fit(real, synthetic, folder=tmp_path)
    moved = np.abs(Alignment().load(tmp_path).apply(synthetic).astype(float) - synthetic)
    assert moved.mean() < 3.0
    Alignment().fit(real, real, folder=tmp_path)
    assert np.abs(Alignment().load(tmp_path).apply(real).astype(float) - real).max() <= 1


def test_image_i_depends_only_on_image_i(tmp_path):
    real, synthetic = textures(20), worse(textures(20, seed=1))
    Alignment().fit(real, synthetic, folder=tmp_path)
    aligned = Alignment().load(tmp_path)
    whole = aligned.apply(synthetic)
    assert whole.dtype == np.uint8 and whole.shape == synthetic.shape
    assert np.array_equal(aligned.apply(synthetic[::-1])[::-1], whole)
    assert np.array_equal(aligned.apply(synthetic[7:8])[0], whole[7])
    assert np.array_equal(aligned.apply(synthetic), whole)


def test_strength_zero_changes_nothing(tmp_path):
    real, synthetic = textures(10), worse(textures(10, seed=1))
    Alignment(colour=0.0, spectrum=0.0, grain=0.0).fit(real, synthetic, folder=tmp_path)
    assert np.array_equal(Alignment().load(tmp_path).apply(synthetic), synthetic)


@pytest.mark.parametrize("size", [8, 9, 28])
def test_small_and_odd_sizes_and_flat_images(size, tmp_path):
    flat = np.full((4, size, size, 1), 7, np.uint8)
    Alignment().fit(textures(4, channels=1, size=size), flat, folder=tmp_path)
    assert Alignment().load(tmp_path).apply(flat).shape == flat.shape


def test_two_fits_write_the_same_bytes(tmp_path):
    real, synthetic = textures(10), worse(textures(10, seed=1))
    for name in "ab":
        Alignment().fit(real, synthetic, folder=tmp_path / name)
    assert (tmp_path / "a" / "alignment.safetensors").read_bytes() == (tmp_path / "b" / "alignment.safetensors").read_bytes()


def test_sets_that_do_not_fit_and_settings_out_of_range_are_refused(tmp_path):
    with pytest.raises(DataError):
        Alignment().fit(textures(4), textures(4, channels=1), folder=tmp_path)
    with pytest.raises(DataError):
        Alignment().fit(textures(1), textures(4), folder=tmp_path)
    with pytest.raises(SettingError):
        Alignment(colour=2.0)
