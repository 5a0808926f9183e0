"""Intake of arrays, tables and shards: what other tools write opens as it is, and nothing is unpickled or unpacked."""

from __future__ import annotations

import io
import json
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate.errors import DataError, MissingExtra
from mitate.images import from_arrays
from mitate.intake.opening import list_source, open_data, open_images

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 10, 9, 3), dtype=np.uint8)
Y = np.array([0, 1, 2] * 4)


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MITATE_HOME", str(tmp_path_factory.mktemp("store")))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


# arrays ---------------------------------------------------------------------------------------------------------------


def test_npz_with_train_and_test_keeps_its_splits_and_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X[:9], y_train=Y[:9], x_test=X[9:], y_test=Y[9:], classes=np.array(["z", "y", "x"]))
    images = open_images(tmp_path / "d.npz", split="test")
    assert images.classes == ("z", "y", "x") and images.names == ("test/0", "test/1", "test/2") and images.name == "d"
    assert np.array_equal(images.reader.read(1), X[10])


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_npz_with_one_pair_opens_whole(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "d.npz", **{names[0]: X[..., 0], names[1]: Y[:, None]})
    images = open_images(tmp_path / "d.npz")
    assert images.classes == ("0", "1", "2") and images.reader.read(0).shape == (10, 9, 1)


def test_npz_folder_with_a_single_archive_opens(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=np.array(["a", "b", "c"] * 4))
    assert open_images(tmp_path).classes == ("a", "b", "c")


class Bang:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("unpickled",))


def test_npz_that_needs_unpickling_is_refused_with_a_fix(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, classes=np.array([Bang(), "b", "c"], dtype=object))
    with pytest.raises(DataError, match="classes needs unpickling") as wrong:
        open_images(tmp_path / "d.npz")
    assert "dtype=str" in wrong.value.fix


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 cut off", pickle.dumps({"x": 1})])
def test_npz_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as .npz"):
        open_images(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": X}, "no array of images"),
        ({"x": X}, "no y beside x"),
        ({"x": X / 255.0, "y": Y}, "float64"),
        ({"x": X, "y": Y[:5]}, r"12 images but y is \[5\]"),
        ({"x": X, "y": Y.astype(float)}, "y is float64"),
        ({"x": X[:0], "y": Y[:0]}, "empty"),
        ({"x": X, "y": Y, "classes": ["a", "b"]}, "there are 2 classes"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :5], "y_test": Y}, "differ in shape"),
    ],
)
def test_wrong_arrays_are_refused(arrays: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_images(arrays)


def test_arrays_in_memory_open_as_pair_mapping_or_set() -> None:
    images = from_arrays(X, Y)
    assert open_images((X, Y)).digest == open_images({"x": X, "y": Y}).digest == open_images(images).digest == images.digest
    assert open_images((X, Y, X[:3], Y[:3]), split="test").labels == (0, 1, 2)


def test_digits_gives_as_many_of_each_class_as_train() -> None:
    train, test = open_images("digits:20", split="train"), open_images("digits:20", split="test")
    assert set(train.counts().values()) == {20} and len(train) + len(test) == 1797
    assert train.reader.read(0).shape == (8, 8, 1) and max(train.reader.read(i).max() for i in range(200)) == 255
    assert len(open_images("digits")) == 1797


def test_digits_are_those_that_scikit_learn_gives():
    from sklearn.datasets import load_digits

    ours, theirs = open_images("digits"), load_digits()
    assert ours.labels == tuple(theirs.target)
    assert np.array_equal(ours.pixels(size=8, channels=1)[..., 0], np.rint(theirs.images * 255 / 16).astype(np.uint8))


@pytest.mark.parametrize("name", ["digits:0", "digits:500", "digits:many"])
def test_digits_refuses_what_there_is_not(name: str) -> None:
    with pytest.raises(DataError):
        open_images(name)


# tables ---------------------------------------------------------------------------------------------------------------


def dataset(rows: range) -> object:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["z", "y", "x"]), "patient": datasets.Value("string")})
    records = {"image": [{"bytes": png(X[i]), "path": None} for i in rows], "label": [int(Y[i]) for i in rows], "patient": [f"p{i}" for i in rows]}
    return datasets.Dataset.from_dict(records, features=features)


def test_saved_data_set_opens_with_class_names_from_its_schema(tmp_path: Path) -> None:
    dataset(range(12)).save_to_disk(tmp_path / "saved")  # type: ignore[attr-defined]
    images = open_images(tmp_path / "saved")
    assert images.classes == ("z", "y", "x") and images.labels == tuple(Y) and images.groups[3] == "p3"
    assert np.array_equal(images.reader.read(7), X[7])


def test_saved_data_set_with_splits_keeps_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict(train=dataset(range(9)), validation=dataset(range(9, 10)), test=dataset(range(10, 12))).save_to_disk(tmp_path / "saved")
    assert [len(open_images(tmp_path / "saved", split=s)) for s in ("train", "selection", "val", "test")] == [9, 1, 1, 2]


def test_parquet_shards_in_a_folder_take_the_split_from_their_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dataset(range(5)).to_parquet(tmp_path / "data" / "train-00000-of-00002.parquet")  # type: ignore[attr-defined]
    dataset(range(5, 9)).to_parquet(tmp_path / "data" / "train-00001-of-00002.parquet")  # type: ignore[attr-defined]
    dataset(range(9, 12)).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")  # type: ignore[attr-defined]
    train = open_images(tmp_path, split="train")
    assert train.labels == tuple(Y[:9]) and train.names[8] == "train/8" and np.array_equal(train.reader.read(8), X[8])


def test_plain_parquet_with_bytes_and_text_labels_opens(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet  # noqa: F401

    pa.parquet.write_table(pa.table({"img": [png(x) for x in X], "cls": ["b", "a", "c"] * 4, "text": ["t"] * 12}), tmp_path / "d.parquet")
    images = open_images(tmp_path / "d.parquet")
    assert images.classes == ("a", "b", "c") and images.labels[:3] == (1, 0, 2) and images.captions[0] == "t"


def test_a_split_column_of_a_table_is_taken_and_a_wrong_word_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet  # noqa: F401

    def write(word: str) -> Path:
        table = {"img": [png(x) for x in X], "cls": ["b", "a", "c"] * 4, "split": ["train"] * 9 + [word] * 3}
        pa.parquet.write_table(pa.table(table), tmp_path / f"{word}.parquet")
        return tmp_path / f"{word}.parquet"

    assert open_images(write("test"), split="test").names == ("test/0", "test/1", "test/2")
    assert len(open_images(write("evaluation"), split="selection")) == 3
    with pytest.raises(DataError, match="row 9 names an unknown split 'later'"):
        open_images(write("later"))


def test_a_row_without_bytes_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet  # noqa: F401

    cells = [{"bytes": png(X[0]), "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    pa.parquet.write_table(pa.table({"image": cells, "label": [0, 1]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="Row 1 of d.parquet has no image bytes"):
        open_images(tmp_path / "d.parquet")


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow"])
def test_a_damaged_table_is_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(b"PAR1 and then nothing of use")
    with pytest.raises(DataError, match="cannot be read as a table"):
        open_images(tmp_path / name)


def test_a_table_without_images_says_its_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet  # noqa: F401

    pa.parquet.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"no column of images \(its columns: a, b\)"):
        open_images(tmp_path / "d.parquet")


# shards ---------------------------------------------------------------------------------------------------------------


def shard(path: Path, rows: range, *, side: str = "cls", mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        for i in rows:
            add(f"{i:04d}.png", png(X[i]))
            text = str(Y[i]) if side == "cls" else json.dumps({"label": "zyx"[Y[i]], "group": f"g{i}"})
            add(f"{i:04d}.{side}", text.encode())
            add(f"{i:04d}.txt", f"leaf {i}".encode())
    return path


def test_shards_open_in_place_and_in_order(tmp_path: Path) -> None:
    shard(tmp_path / "train-0000.tar", range(5))
    shard(tmp_path / "train-0001.tar", range(5, 9))
    shard(tmp_path / "test-0000.tar", range(9, 12))
    images = open_images(tmp_path, split="train")
    assert images.labels == tuple(Y[:9]) and images.captions[6] == "leaf 6" and images.names[5] == "train-0001.tar/0005.png"
    assert np.array_equal(images.reader.read(6), X[6])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["test-0000.tar", "train-0000.tar", "train-0001.tar"]


def test_shards_in_split_folders_take_the_split_and_a_name_of_their_own(tmp_path: Path) -> None:
    shard(tmp_path / "train" / "000.tar", range(8))
    shard(tmp_path / "test" / "000.tar", range(4))
    assert open_images(tmp_path, split="train").labels == tuple(Y[:8])
    images = open_images(tmp_path)
    assert len(set(images.names)) == 12 and "train/000.tar/0000.png" in images.names and "test/000.tar/0000.png" in images.names


def test_a_split_in_the_json_of_a_shard_is_taken_and_a_wrong_one_refused(tmp_path: Path) -> None:
    def write(word: str) -> Path:
        with tarfile.open(tmp_path / "d.tar", "w") as tar:
            for i in range(6):
                for name, data in ((f"{i}.png", png(X[i])), (f"{i}.json", json.dumps({"label": "a", "split": "train" if i < 4 else word}).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return tmp_path / "d.tar"

    assert open_images(write("test"), split="test").names == ("4.png", "5.png")
    with pytest.raises(DataError, match="unknown split 'later'"):
        open_images(write("later"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_member_of_any_size_is_not_read(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.intake.shards.MAX_IMAGE", 100)
    with pytest.raises(DataError, match=r"0000\.png is \d+ bytes"):
        open_images(shard(tmp_path / ("d.tar" if mode == "w" else "d.tar.gz"), range(12), mode=mode))


def test_compressed_shard_with_json_opens(tmp_path: Path) -> None:
    images = open_images(shard(tmp_path / "all.tar.gz", range(12), side="json", mode="w:gz"))
    assert images.classes == ("x", "y", "z") and images.groups[11] == "g11" and np.array_equal(images.reader.read(11), X[11])


def test_member_names_that_climb_out_are_only_keys(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        for name, data in (("../../evil.png", png(X[0])), ("../../evil.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert open_images(tmp_path / "d.tar").names == ("../../evil.png",)
    assert not (tmp_path.parent.parent / "evil.png").exists()


@pytest.mark.parametrize("cut", [0, 700, 5000])
def test_a_shard_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = shard(tmp_path / "d.tar", range(12))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError):
        open_images(path)


def test_a_shard_that_changes_after_it_was_listed_is_said_to_have_changed(tmp_path: Path) -> None:
    listing = list_source(shard(tmp_path / "d.tar", range(12)))
    assert np.array_equal(listing.reader.read(3), X[3])
    shard(tmp_path / "d.tar", range(1, 12))
    with pytest.raises(DataError, match=r"d.tar has changed while it was being read") as wrong:
        listing.reader.read(3)
    assert "run the same command again" in wrong.value.fix
    with pytest.raises(DataError, match="d.tar has changed"):  # and no image is called broken for it
        open_images(listing)


# all of them ----------------------------------------------------------------------------------------------------------


def test_the_same_images_in_any_container_are_the_same_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    tar = shard(tmp_path / "d.tar", range(12))
    for i in range(12):
        (tmp_path / "tree" / str(Y[i])).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / str(Y[i]) / f"{i}.png").write_bytes(png(X[i]))
    by_class = np.argsort(Y, kind="stable")
    one = open_images(tmp_path / "d.npz").subset(by_class)
    tree = open_images(tmp_path / "tree")
    assert sorted(zip(one.labels, one.digests, strict=True)) == sorted(zip(tree.labels, tree.digests, strict=True))
    assert sorted(open_images(tar).digests) == sorted(one.digests) and open_images(tar).classes == tree.classes == one.classes


def test_data_from_arrays_are_checked_and_split_like_any() -> None:
    x = RNG.integers(0, 256, (60, 12, 12), dtype=np.uint8)
    data = open_data((x, np.arange(60) % 2), seed=1)
    parts = (data.splits.train, data.splits.selection, data.splits.holdout, data.splits.test)
    assert sum(map(len, parts)) == 60 and data.test is None and data.splits.cross_fit


def test_a_hub_name_without_a_network_is_one_line_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"hf:a/b could not be opened \(Couldn't reach the Hub\)") as wrong:
        open_images("hf:a/b")
    assert "network" in wrong.value.fix


def test_a_hub_data_set_that_names_files_in_its_cache_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    for i in range(12):
        folder = tmp_path / "cache" / "files" / "train" / "zyx"[Y[i]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(png(X[i]))
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "cache" / "files"), cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", tmp_path / "cache")
    images = open_images("hf:a/leaves", split="train")
    assert images.classes == ("x", "y", "z") and len(images) == 12 and images.name == "leaves"
    assert sorted(images.digests) == sorted(open_images((X, Y)).digests)
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", tmp_path / "elsewhere")
    monkeypatch.setenv("MITATE_HOME", str(tmp_path / "fresh"))
    with pytest.raises(DataError, match="has no image bytes|not readable as images"):
        open_images("hf:a/leaves")


def test_a_slice_of_a_hub_split_is_refused() -> None:
    with pytest.raises(DataError, match="a part of a split"):
        open_images("hf:a/b:train[:10]")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as wrong:
        open_images("hf:a/b")
    assert "mitate[hf]" in wrong.value.fix
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtra):
        open_images(tmp_path / "d.parquet")
