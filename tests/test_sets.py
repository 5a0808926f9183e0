"""Synthetic sets as others read them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mitate import codec, sets
from mitate.cards import dataset_card
from mitate.errors import SettingError
from mitate.images import ImageSet, Provenance, from_arrays
from mitate.sets import folder_names, write_images

ODD = ("rust", "Rust", "a/b", "..", "CON", "x" * 300, "<b>bold</b>", "test", "train-set", "葉", "", "__init__", "a|b\n# c")


def fakes(classes: tuple[str, ...] = ("healthy", "rust"), each: int = 3, **more: object) -> ImageSet:
    labels = np.repeat(np.arange(len(classes)), each)
    x = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    made = Provenance("vae", "d" * 64, {"steps": 10}, ("p" * 64,), tuple(2**62 + i for i in range(len(labels))))
    return replace(from_arrays(x, labels, classes=classes, name="leaves-vae", provenance=made), **more)  # type: ignore[arg-type]


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_as_many_images_come_out_as_went_in_and_each_carries_the_mark(tmp_path: Path) -> None:
    images = fakes()
    folder = write_images(images, tmp_path / "fakes")
    files = sorted(folder.glob("*/*.png"))
    assert len(files) == len(rows(folder)) == len(images)
    for i, row in enumerate(rows(folder)):
        picture = codec.decode(folder / row["file_name"])
        assert (picture.digest, picture.synthetic) == (images.digests[i], "IPTC trainedAlgorithmicMedia")
        assert row["label"] == images.classes[images.labels[i]] and row["seed"] == 2**62 + i and row["generator"] == "d" * 64 and row["filters"] == []
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["fakes"]


def test_class_names_become_safe_unique_folders_and_stay_whole_in_the_metadata(tmp_path: Path) -> None:
    names = folder_names(ODD)
    assert names[0] == "rust" and names[9] == "葉" and len({n.casefold() for n in names}) == len(ODD)
    for name in names:
        assert name and len(name.encode()) < 200 and not set(name) & set('/\\<>|:"?*\n') and name[0] not in "._" and name.lower() != "con"
    folder = write_images(fakes(ODD, each=1), tmp_path / "odd")
    assert [row["label"] for row in rows(folder)] == list(ODD)
    assert all((folder / row["file_name"]).resolve().is_relative_to(folder.resolve()) for row in rows(folder))


def test_datasets_opens_a_set_with_its_labels(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = write_images(fakes(ODD, each=2), tmp_path / "set")
    script = (
        "import sys, json, datasets; datasets.disable_progress_bars()\n"
        "found = datasets.load_dataset('imagefolder', data_dir=sys.argv[1], cache_dir=sys.argv[2])\n"
        "print(json.dumps([list(found), [[r['label'], r['image'].size, r['seed']] for r in found['train']]]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(folder), str(tmp_path / "cache")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    splits, found = json.loads(done.stdout.splitlines()[-1])
    assert splits == ["train"] and len(found) == 2 * len(ODD) and sorted(row[0] for row in found) == sorted([*ODD, *ODD])
    assert {row[2] for row in found} == {2**62 + i for i in range(2 * len(ODD))}


def test_the_same_set_again_is_left_as_it_is_and_anything_else_is_refused(tmp_path: Path) -> None:
    folder = write_images(fakes(), tmp_path / "fakes")
    (folder / "ledger.jsonl").write_text("mine")  # review decisions live beside a set
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    write_images(fakes(), folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    with pytest.raises(SettingError, match="does not hold this set"):
        write_images(fakes(each=2), folder)
    next(folder.glob("*/*.png")).write_bytes(b"x")
    with pytest.raises(SettingError, match="missing or changed"):
        write_images(fakes(), folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingError, match="not a folder"):
        write_images(fakes(), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert len(rows(write_images(fakes(), tmp_path / "empty"))) == 6


def test_a_killed_write_leaves_nothing_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Kill:
        def step(self, done: int, total: int, note: str = "") -> None:
            if done == 4:
                raise Killed

    whole = write_images(fakes(), tmp_path / "whole")
    with pytest.raises(Killed):
        write_images(fakes(), tmp_path / "cut", progress=Kill())
    assert not (tmp_path / "cut").exists()
    partial = next(p for p in tmp_path.iterdir() if p.name.startswith(".cut"))
    half = next(partial.glob("*/*.png"))
    half.write_bytes(half.read_bytes()[:20])  # as a crash of the machine would leave it
    (half.parent / ".000009.png.77.tmp").write_bytes(b"half")
    cut = write_images(fakes(), tmp_path / "cut")
    assert contents(cut) == contents(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "whole"]


def test_real_images_are_never_given_the_mark(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="real images"):
        write_images(replace(fakes(), provenance=None), tmp_path / "real")
    assert not (tmp_path / "real").exists()


def test_images_made_elsewhere_and_images_without_a_label_are_written_too(tmp_path: Path) -> None:
    images = fakes()
    outside = replace(images, labels=(-1, *images.labels[1:]), captions=tuple(f"leaf {i}" for i in range(6)), provenance=Provenance("folder", "e" * 64))
    first = rows(write_images(outside, tmp_path / "outside"))[0]
    assert (first["label"], first["seed"], first["caption"], first["file_name"]) == (None, None, "leaf 0", f"{sets.UNLABELLED}/000000.png")


def test_a_card_has_a_header_the_hub_reads_and_lets_no_markup_through() -> None:
    card = dataset_card(fakes(("<script>", "a|b\n# c"), name="---\n<b>x</b>"))
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    facts = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in head.splitlines()}
    assert facts["license"] == "unknown" and "synthetic" in facts["tags"] and facts["size_categories"] == ["n<1K"]
    assert "<script>" not in body and "<b>" not in body and "\n# c" not in body and "合成画像 6 枚" in body
    assert '"cc-by-4.0"' in dataset_card(fakes(), licence="cc-by-4.0")
