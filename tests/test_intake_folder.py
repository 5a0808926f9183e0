"""Intake of folders: trees, metadata, what is ignored, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate.errors import DataError, SettingError
from mitate.intake.imagefolder import list_folder
from mitate.intake.opening import find, open_data, open_images


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MITATE_HOME", str(tmp_path_factory.mktemp("store")))


def draw(path: Path, seed: int, side: int = 16, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def tree(root: Path, folders: dict[str, int], start: int = 0) -> Path:
    seed = start
    for folder, n in folders.items():
        for i in range(n):
            draw(root / folder / f"{i}.png", seed)
            seed += 1
    return root


def test_class_folders_become_classes_in_sorted_order(tmp_path: Path) -> None:
    images = open_images(tree(tmp_path, {"rust": 3, "healthy": 2}))
    assert images.classes == ("healthy", "rust") and images.counts() == {"healthy": 2, "rust": 3}
    assert images.split == "all" and images.name == tmp_path.name


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("Train", "train"),
        ("training", "train"),
        ("testing", "test"),
        ("val", "selection"),
        ("validation", "selection"),
        ("eval", "selection"),
        ("held_out", "holdout"),
    ],
)
def test_split_folders_are_known_by_their_synonyms(tmp_path: Path, folder: str, split: str) -> None:
    others = {"train/a": 1, "train/b": 1} if split != "train" else {"test/a": 1}
    tree(tmp_path, {**others, f"{folder}/a": 2, f"{folder}/b": 2})
    images = open_images(tmp_path, split=split)
    assert len(images) == 4 and images.split == split and images.classes == ("a", "b")


@pytest.mark.parametrize(("word", "split"), [("eval", "selection"), ("Evaluation", "selection"), ("dev", "selection"), (" test ", "test"), ("train", "train")])
def test_split_words_in_metadata_are_known_by_their_synonyms(tmp_path: Path, word: str, split: str) -> None:
    tree(tmp_path, {"a": 2, "b": 2})
    rows = [{"file_name": "a/0.png", "split": word}, {"file_name": "b/0.png", "split": word}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert open_images(tmp_path, split=split).names == ("a/0.png", "b/0.png")


def test_a_split_word_that_means_nothing_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "metadata.csv").write_text("file_name,split\na/0.png,train\na/1.png,fold 3\n")
    with pytest.raises(DataError, match=r"metadata.csv line 3 names an unknown split 'fold 3'"):
        open_images(tmp_path)


def test_all_splits_together_keep_the_split_in_the_name(tmp_path: Path) -> None:
    images = open_images(tree(tmp_path, {"train/a": 1, "test/a": 1}))
    assert images.names == ("test/a/0.png", "train/a/0.png") and images.classes == ("a",)


def test_a_tree_without_splits_takes_the_split_as_a_word(tmp_path: Path) -> None:
    assert open_images(tree(tmp_path, {"a": 1, "b": 1}), split="test").split == "test"


def test_an_unknown_split_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="did you mean 'train'"):
        open_images(tree(tmp_path, {"train/a": 1, "test/a": 1}), split="trian")


def test_a_class_may_be_called_test_where_there_is_no_train(tmp_path: Path) -> None:
    assert open_images(tree(tmp_path, {"control": 1, "test": 1})).classes == ("control", "test")


def test_one_wrapping_folder_is_opened(tmp_path: Path) -> None:
    assert open_images(tree(tmp_path, {"leaves/train/a": 1, "leaves/test/a": 1}), split="test").names == ("test/a/0.png",)
    assert open_images(tree(tmp_path / "z", {"leaves/a": 1, "leaves/b": 1})).classes == ("a", "b")


def test_folders_of_folders_of_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 folders deep"):
        open_images(tree(tmp_path, {"x/a/1": 1, "x/b/1": 1, "y/a/1": 1}))


def test_other_files_and_hidden_files_are_ignored_quietly(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 2, "b": 2})
    for name in ("README.txt", "a/Thumbs.db", "a/.DS_Store", "a/notes.json", ".hidden/a.png", "a/.thumb.png", "__MACOSX/a/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("not an image")
    assert len(open_images(tmp_path)) == 4


def test_metadata_gives_label_group_caption_licence_and_consent(tmp_path: Path) -> None:
    rows = []
    for i in range(4):
        draw(tmp_path / f"{i}.png", i)
        rows.append({"file_name": f"{i}.png", "label": "ab"[i % 2], "group": i // 2, "text": f"leaf {i}", "license": "CC0", "consent": "yes"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    images = open_images(tmp_path)
    assert images.classes == ("a", "b") and images.labels == (0, 1, 0, 1) and images.groups == ("0", "0", "1", "1")
    assert images.captions[3] == "leaf 3" and images.licences[0] == "CC0" and images.consents[0] == "yes"


def test_metadata_csv_in_a_split_folder_is_relative_to_it(tmp_path: Path) -> None:
    tree(tmp_path, {"train/a": 2, "test/a": 2})
    (tmp_path / "train" / "metadata.csv").write_text("\ufefffile,group,label\na/0.png,p1,b\n", encoding="utf-8")
    images = open_images(tmp_path, split="train")
    assert images.groups == ("p1", "") and images.labels == (1, 0)


def test_metadata_of_files_that_are_not_there_is_a_warning(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 6, "b": 6})
    (tmp_path / "metadata.csv").write_text("file_name,label\ngone.png,a\n")
    assert [f.kind for f in find(tmp_path)] == ["missing", "few"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("metadata.jsonl", '{"file_name": "../x.png"}', "leaves the folder"),
        ("metadata.jsonl", '{"file_name": "/etc/x.png"}', "leaves the folder"),
        ("metadata.jsonl", "{oops", "line 1 is not JSON"),
        ("metadata.jsonl", "[1]", "is no record"),
        ("metadata.jsonl", '{"label": "a"}', "names no file"),
        ("metadata.csv", "label\na\n", "names no file"),
    ],
)
def test_bad_metadata_is_refused_with_its_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    tree(tmp_path, {"a": 1})
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        open_images(tmp_path)


def test_metadata_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 1})
    (tmp_path / "metadata.csv").write_bytes(b"file_name,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match="not UTF-8"):
        open_images(tmp_path)


def test_a_link_that_leaves_the_root_is_refused_and_one_inside_is_read(tmp_path: Path) -> None:
    outside = draw(tmp_path / "outside.png", 1)
    root = tree(tmp_path / "data", {"a": 1, "b": 1})
    os.symlink(root / "a" / "0.png", root / "b" / "1.png")
    assert open_images(root).counts() == {"a": 1, "b": 2}
    os.symlink(outside, root / "a" / "9.png")
    with pytest.raises(DataError, match="a/9.png is a link that leaves data"):
        open_images(root)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 1})
    os.symlink(tmp_path / "a" / "gone.png", tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match="a/1.png cannot be read"):
        open_images(tmp_path)


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"a": 1, "b": 1})
    scandir = os.scandir

    def refuse(path: os.PathLike[str]) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("mitate.intake.imagefolder.os.scandir", refuse)
    with pytest.raises(DataError, match=r"b cannot be read \(Permission denied\)"):
        list_folder(tmp_path)


@pytest.mark.parametrize("make", [lambda p: p / "nowhere", lambda p: p, lambda p: draw(p / "one.png", 0), lambda p: p / ("x" * 5000)])
def test_a_missing_empty_or_wrong_path_is_one_line_with_a_fix(tmp_path: Path, make: object) -> None:
    with pytest.raises(DataError) as wrong:
        open_data(make(tmp_path))  # type: ignore[operator]
    assert wrong.value.fix and "\n" not in str(wrong.value) and len(str(wrong.value)) < 600


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(DataError, match="is empty"):
        open_images("")


def test_a_missing_folder_suggests_its_neighbour(tmp_path: Path) -> None:
    tree(tmp_path, {"leaves/a": 1})
    with pytest.raises(DataError, match="did you mean 'leaves'"):
        open_images(tmp_path / "leafs")


def test_modes_and_sizes_may_be_mixed(tmp_path: Path) -> None:
    for i, mode in enumerate(["RGB", "L", "1", "P", "RGBA", "LA", "I;16"]):
        draw(tmp_path / "a" / f"{i}.png", i, side=8 + 9 * i, mode=mode)
    draw(tmp_path / "b" / "0.jpg", 9, mode="CMYK")
    pixels = open_images(tmp_path).pixels(size=16, channels=3)
    assert pixels.shape == (8, 16, 16, 3)


def test_strange_names_come_through(tmp_path: Path) -> None:
    long = "葉" * 80
    for i, folder in enumerate(["<script>alert(1)</script>".replace("/", "_"), "さび病", "a b&c"]):
        draw(tmp_path / folder / f"{long}.png", i)
        draw(tmp_path / folder / "new\nline.png", 10 + i)
    images = open_images(tmp_path)
    assert set(images.classes) == {"<script>alert(1)<_script>", "さび病", "a b&c"} and len(images) == 6
    assert images.digest


def test_a_file_name_that_is_no_utf8_comes_through(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "0.png", 0)
    try:
        os.rename(tmp_path / "a" / "0.png", os.fsencode(tmp_path / "a") + b"/\xff.png")
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    assert open_images(tmp_path).names == ("a/\ufffd.png",)


def test_decomposed_and_composed_class_names_are_one(tmp_path: Path) -> None:
    images = open_images(tree(tmp_path, {"train/caf\u00e9": 1, "test/cafe\u0301": 1}))
    assert images.classes == ("caf\u00e9",)


def test_same_images_in_other_folders_are_the_same_set(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one", {"a": 2, "b": 2}), tree(tmp_path / "two", {"a": 2, "b": 2})
    assert open_images(one).digest == open_images(two).digest
