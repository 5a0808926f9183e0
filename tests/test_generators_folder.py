"""Images from outside as a generator: order, refusals, names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mitate.errors import DataError
from mitate.generator import Pixels, image_seeds
from mitate.generators.folder import Folder
from mitate.progress import Silent

REAL = Pixels(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]), 2, ("Rust", "health"))


@pytest.fixture
def outside(tmp_path):
    chance = np.random.Generator(np.random.PCG64(0))
    for name in ("RUST", "Health", "extra"):
        (tmp_path / "in" / name / "deep").mkdir(parents=True)
        for i in range(30):
            place = tmp_path / "in" / name / ("deep" if i % 2 else "") / f"{i}.png"
            Image.fromarray(chance.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(place)
        (tmp_path / "in" / name / "notes.txt").write_text("not an image")
    return tmp_path / "in"


def fitted(path, tmp_path, train: Pixels = REAL):
    kind = Folder(str(path))
    facts = kind.fit(train, train, seed=0, folder=tmp_path / "out", checkpoint=tmp_path / "checkpoint", progress=Silent())
    return kind.load(tmp_path / "out"), facts


def test_a_call_shows_no_image_twice_and_more_keeps_the_first(outside, tmp_path):
    generator, facts = fitted(outside, tmp_path)
    assert facts["images"] == {"Rust": 30, "health": 30} and generator.shape == (8, 8, 3)
    seeds = image_seeds(3, 30, condition=0)
    few, all_ = generator.sample(seeds[:12], np.zeros(12, int)), generator.sample(seeds, np.zeros(30, int))
    assert np.array_equal(few, all_[:12])
    assert len(np.unique(all_.reshape(30, -1), axis=0)) == 30
    both = generator.sample(np.concatenate([seeds[:12], seeds[:12]]), np.repeat([1, 0], 12))
    assert np.array_equal(both[12:], few)  # classes do not get into each other's way


def test_order_is_of_content_and_not_of_file_names(outside, tmp_path):
    first, _ = fitted(outside, tmp_path / "a")
    digest = Folder(str(outside)).content()
    for file in sorted((outside / "RUST").glob("*.png")):
        file.rename(file.with_name(f"z{99 - int(file.stem)}.png"))
    second, _ = fitted(outside, tmp_path / "b")
    seeds = image_seeds(0, 20, condition=0)
    assert np.array_equal(first.sample(seeds, np.zeros(20, int)), second.sample(seeds, np.zeros(20, int)))
    assert Folder(str(outside)).content() == digest
    next(iter((outside / "RUST").glob("*.png"))).unlink()
    assert Folder(str(outside)).content() != digest


def test_copies_count_once(outside, tmp_path):
    for i in range(5):
        (outside / "RUST" / f"copy{i}.png").write_bytes((outside / "RUST" / "0.png").read_bytes())
    _, facts = fitted(outside, tmp_path)
    assert facts["images"]["Rust"] == 30 and facts["repeated_files"] == 5


def test_more_than_there_are_is_refused(outside, tmp_path):
    generator, _ = fitted(outside, tmp_path)
    with pytest.raises(DataError, match="31 images of class 'Rust'.*fix: ask for at most 30"):
        generator.sample(np.arange(31), np.zeros(31, int))


def test_a_missing_class_a_missing_folder_and_an_empty_one_are_refused(outside, tmp_path):
    with pytest.raises(DataError, match="no folder for class 'miner'"):
        fitted(outside, tmp_path, Pixels(REAL.x, REAL.y, 2, ("rust", "miner")))
    with pytest.raises(DataError, match="There is no folder"):
        fitted(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folder"):
        fitted(tmp_path / "empty", tmp_path)
    with pytest.raises(DataError, match="3 class folders"):
        fitted(outside, tmp_path, Pixels(REAL.x, REAL.y, 2))


def test_a_broken_file_is_refused_by_name(outside, tmp_path):
    (outside / "RUST" / "bad.jpg").write_text("this is text")
    with pytest.raises(DataError, match="bad.jpg is not an image"):
        fitted(outside, tmp_path)
