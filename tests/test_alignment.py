"""Alignment: closes gaps that are there, leaves alone what agrees, and maps each image by itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mitate.adapter import Adapter
from mitate.adapters.alignment import Aligned, Alignment, gaps
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


def fitted(real: np.ndarray, synthetic: np.ndarray) -> Aligned:
    return Aligned(Alignment().fit(real, synthetic))


@pytest.mark.parametrize("channels", [1, 3])
def test_gaps_of_colour_and_spectrum_shrink(channels):
    real, synthetic = textures(40, channels=channels), worse(textures(40, channels=channels, seed=1))
    aligned = fitted(real, synthetic)
    facts = {"before": gaps(synthetic, real), "after": gaps(aligned.apply(synthetic), real)}
    assert facts["after"]["colour"] < 0.15 * facts["before"]["colour"]
    assert facts["after"]["histogram"] < 0.3 * facts["before"]["histogram"]
    assert facts["after"]["spectrum"] < 0.35 * facts["before"]["spectrum"]
    fresh = aligned.apply(worse(textures(40, channels=channels, seed=2)))  # images that were not fitted on
    assert gaps(fresh, real)["spectrum"] < 0.4 * facts["before"]["spectrum"]


def test_images_that_agree_stay_nearly_as_they_are():
    real, synthetic = textures(60), textures(60, seed=1)
    moved = np.abs(fitted(real, synthetic).apply(synthetic).astype(float) - synthetic)
    assert moved.mean() < 3.0
    assert np.abs(fitted(real, real).apply(real).astype(float) - real).max() <= 1


def test_image_i_depends_only_on_image_i():
    real, synthetic = textures(20), worse(textures(20, seed=1))
    aligned = fitted(real, synthetic)
    whole = aligned.apply(synthetic)
    assert whole.dtype == np.uint8 and whole.shape == synthetic.shape
    assert np.array_equal(aligned.apply(synthetic[::-1])[::-1], whole)
    assert np.array_equal(aligned.apply(synthetic[7:8])[0], whole[7])
    assert np.array_equal(aligned.apply(synthetic), whole)


def test_strength_zero_changes_nothing():
    real, synthetic = textures(10), worse(textures(10, seed=1))
    still = Alignment(colour=0.0, spectrum=0.0, grain=0.0).fit(real, synthetic)
    assert np.array_equal(Aligned(still).apply(synthetic), synthetic)


@pytest.mark.parametrize("size", [8, 9, 28])
def test_small_and_odd_sizes_and_flat_images(size):
    flat = np.full((4, size, size, 1), 7, np.uint8)
    assert fitted(textures(4, channels=1, size=size), flat).apply(flat).shape == flat.shape


def test_an_alignment_is_an_adapter_that_keeps_its_bytes_and_knows_its_base(tmp_path):
    real, synthetic = textures(10), worse(textures(10, seed=1))
    for name in "ab":
        Alignment().fit(real, synthetic, base="f" * 64, parents=("train",)).save(tmp_path / name)
    assert (tmp_path / "a" / "adapter.safetensors").read_bytes() == (tmp_path / "b" / "adapter.safetensors").read_bytes()
    again = Adapter.load(tmp_path / "a")
    assert np.array_equal(Aligned(again).apply(synthetic), fitted(real, synthetic).apply(synthetic))
    again.require_base("f" * 64)
    with pytest.raises(DataError, match="not on 000"):
        again.require_base("0" * 64)
    (tmp_path / "b" / "adapter.json").write_text((tmp_path / "b" / "adapter.json").read_text().replace("train", "other"))
    with pytest.raises(DataError, match="changed"):
        Adapter.load(tmp_path / "b")
    (tmp_path / "b" / "adapter.safetensors").write_bytes(b"cut short")
    with pytest.raises(DataError, match="no adapter"):
        Adapter.load(tmp_path / "b")


def test_sets_that_do_not_fit_and_settings_out_of_range_are_refused():
    with pytest.raises(DataError):
        Alignment().fit(textures(4), textures(4, channels=1))
    with pytest.raises(DataError):
        Alignment().fit(textures(1), textures(4))
    with pytest.raises(SettingError):
        Alignment(colour=2.0)
