"""What a generator's name stands for: copies of held-back images are found among images made elsewhere, however many."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate.errors import DataError
from mitate.images import ImageSet, from_arrays
from mitate.store import Store
from mitate.studies.sources import _copies_of, source_of

SIDE = 32


def scenes(start: int, n: int) -> np.ndarray:
    """Smooth random pictures, uint8 [n, 32, 32, 3]."""
    small = [np.random.default_rng(i).integers(0, 256, (10, 10, 3), dtype=np.uint8) for i in range(start, start + n)]
    return np.stack([np.asarray(Image.fromarray(s).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for s in small])


def burst(pixels: np.ndarray, n: int = 12) -> np.ndarray:
    """Augmented copies: slightly cropped, brightened, encoded again."""
    out = []
    for k in range(n):
        left, top, right, bottom = SIDE * np.random.default_rng(k).uniform(0, 0.012, 4)
        copy = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, SIDE - right, SIDE - bottom))
        data = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(copy) * (1 + 0.01 * k) + k, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=70 + 2 * k)
        out.append(np.asarray(Image.open(data).convert("RGB")))
    return np.stack(out)


def labelled(x: np.ndarray, each: int = 1) -> ImageSet:
    return from_arrays(x, [(i // each) % 2 for i in range(len(x))], classes=("a", "b"))


def test_a_folder_of_nothing_but_bursts_of_copies_is_all_found() -> None:
    test = scenes(0, 20)
    outside = labelled(np.concatenate([burst(x) for x in test]))
    assert _copies_of(outside, range(240), [labelled(test), labelled(scenes(100, 10))]) == set(range(240))


def test_copies_of_held_back_images_are_found_beside_others_and_others_stay() -> None:
    test, held = scenes(0, 20), scenes(100, 10)
    outside = labelled(np.concatenate([scenes(200, 30), *(burst(x) for x in held[:3])]))
    assert _copies_of(outside, range(len(outside)), [labelled(test), labelled(held)]) == set(range(30, 66))
    assert _copies_of(outside, range(30), [labelled(test), labelled(held)]) == set()
    assert _copies_of(outside, [], [labelled(test)]) == set()


def test_a_source_of_copies_alone_is_refused_and_the_rest_of_a_mixed_one_is_kept(tmp_path: Path) -> None:
    test, train = scenes(0, 20), scenes(300, 8)
    copies = np.concatenate([burst(x) for x in test])

    def source(x: np.ndarray) -> object:
        np.savez(tmp_path / "fakes.npz", x=x, y=np.arange(len(x)) % 2, classes=np.array(["a", "b"]))
        known = {"train": labelled(train), "shape": (SIDE, SIDE, 3), "test": labelled(test), "held": [], "store": Store(tmp_path / "store")}
        return source_of(f"folder:{tmp_path / 'fakes.npz'}", **known)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="no images of a, b"):
        source(copies)
    mixed = source(np.concatenate([copies, scenes(200, 10)]))
    assert mixed.facts["least"] == 5 and "240 images left out" in mixed.finding  # type: ignore[attr-defined]
