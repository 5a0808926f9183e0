"""Structural similarity beside scikit-image, whose words are in tests/oracles/similarity.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mitate.metrics.similarity import nearest_ssim, ssim
from oracle_inputs import picture_pairs

SAID = json.loads((Path(__file__).parent / "oracles" / "similarity.json").read_text())


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_similarity_is_that_of_scikit_image(name: str) -> None:
    a, b = picture_pairs()[name]
    assert ssim(a, b) == pytest.approx(SAID[name], abs=1e-9)


def test_a_picture_is_most_like_itself() -> None:
    a, _ = picture_pairs()["grey"]
    assert ssim(a, a) == pytest.approx(np.ones(len(a)))
    assert nearest_ssim(a, a[::-1]) == pytest.approx(np.ones(len(a)))
    assert (nearest_ssim(a[:2], a[2:]) < 0.9).all()


def test_pictures_without_a_window_are_refused() -> None:
    small = np.zeros((1, 10, 28, 1), np.uint8)
    with pytest.raises(ValueError, match="window"):
        ssim(small, small)
    with pytest.raises(ValueError, match="in common"):
        ssim(np.zeros((1, 28, 28, 1), np.uint8), np.zeros((1, 28, 28, 3), np.uint8))
