from pathlib import Path

import numpy as np
import pytest

from mitate.errors import DataError
from mitate.images import from_arrays
from mitate.lab.oracle import read
from mitate.lab.reading import understand
from mitate.lab.sets import by_class_words, by_descriptions, lab_images
from mitate.lab.world import World


def test_lab_images_have_their_class_and_a_caption_of_what_they_show() -> None:
    images = lab_images(5, seed=3)
    assert images.counts() == dict.fromkeys(images.classes, 5) and images.provenance is None
    for i in range(len(images)):
        (thing,) = read(images.reader.read(i)).things
        prompt = understand(images.captions[i]).prompt
        assert prompt is not None and thing.shape == images.classes[images.labels[i]] and prompt.groups[0].fits(thing)


def test_image_i_does_not_depend_on_how_many_are_asked_for() -> None:
    few, many = lab_images(2), lab_images(4)
    assert few.digests[:2] == many.digests[:2] and few.digests[2:4] == many.digests[4:6]


def test_a_style_is_a_shift_of_the_look_alone() -> None:
    flat, pastel = lab_images(2), lab_images(2, style="pastel")
    assert flat.labels == pastel.labels and flat.digests != pastel.digests and flat.digest != pastel.digest
    for i in range(len(flat)):
        assert read(flat.reader.read(i)).things[0].shape == read(pastel.reader.read(i), style="pastel").things[0].shape


def test_more_things_than_one_can_be_asked_for() -> None:
    images = lab_images(3, world=World(counts=(0, 1.0)))
    assert all(len(read(images.reader.read(i)).things) == 2 for i in range(len(images)))


def test_class_words_become_captions() -> None:
    images = from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1], classes=["ankle_boot", "T-shirt"])
    assert by_class_words(images).captions == ("a picture of a ankle boot", "a picture of a t shirt")
    assert by_class_words(images, template="{label}!", words={"T-shirt": "tee"}).captions == ("ankle boot!", "tee!")
    with pytest.raises(DataError, match="no place for the class"):
        by_class_words(images, template="a thing")


def test_descriptions_are_matched_by_file_and_a_missing_one_is_named(tmp_path: Path) -> None:
    images = from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1])
    file = tmp_path / "captions.jsonl"
    file.write_text('{"file": "1", "text": "one"}\n{"file": "0", "text": "nought"}\n', encoding="utf-8")
    assert by_descriptions(images, file).captions == ("nought", "one")
    file.write_text('{"file": "1", "text": "one"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="1 of 2 images have no text, the first is 0"):
        by_descriptions(images, file)
    file.write_text("not json\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        by_descriptions(images, file)


@pytest.mark.parametrize("count", [0, -1])
def test_no_images_are_refused(count: int) -> None:
    with pytest.raises(DataError):
        lab_images(count)
