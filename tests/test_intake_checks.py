"""Findings: each bad input is named, with a fix; errors stop, drops are left out, near-copies are found and look-alikes are not."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate import codec
from mitate.errors import DataError
from mitate.images import from_arrays
from mitate.intake import seen
from mitate.intake.checks import Finding, listed
from mitate.intake.duplicates import near_copies, near_duplicates, thumbnail
from mitate.intake.opening import find, joined, open_data, open_images
from mitate.store import Store

DATA = os.environ.get("MITATE_DATA")
real = pytest.mark.skipif(not DATA, reason="MITATE_DATA names no folder of real images")


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("MITATE_HOME", str(home))
    return home


def scene(seed: int, side: int = 48) -> Image.Image:
    """A smooth random picture, so that it survives JPEG like a photograph does."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (10, 10, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def bomb_png() -> bytes:
    """A small PNG file that says it is 40,000 x 40,000 pixels."""
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    data = out.getvalue()
    head = b"IHDR" + struct.pack(">II", 40_000, 40_000) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def burst(image: Image.Image, n: int = 12) -> list[Image.Image]:
    """Augmented copies: slightly cropped, brightened, encoded again."""
    w, h = image.size
    out = []
    for k in range(n):
        left, top, right, bottom = np.random.default_rng(k).uniform(0, 0.012, 4)
        copy = image.resize((w, h), Image.Resampling.BICUBIC, box=(left * w, top * h, w - right * w, h - bottom * h))
        data = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(copy) * (1 + 0.01 * k) + k, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=70 + 2 * k)
        out.append(Image.open(data).convert("RGB"))
    return out


def tree(root: Path, folders: dict[str, int], start: int = 0) -> Path:
    seed = start
    for folder, n in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            scene(seed).save(root / folder / f"{i}.png")
            seed += 1
    return root


def usual(root: Path) -> Path:
    return tree(root, {"train/a": 12, "train/b": 12, "test/a": 5, "test/b": 5})


def kinds(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(f.kind, f.severity) for f in found]


def refused(root: Path, says: str) -> DataError:
    with pytest.raises(DataError, match=says) as wrong:
        open_data(root)
    assert wrong.value.fix and "\n" not in str(wrong.value)
    return wrong.value


def test_good_data_have_no_findings(tmp_path: Path) -> None:
    data = open_data(usual(tmp_path))
    assert data.findings == () and len(data.train_side) == 24 and len(data.test or ()) == 10
    assert data.splits.test.digest == data.test.digest and data.dropped == ()


def test_findings_name_five_and_count_the_rest() -> None:
    assert listed("abcdefg") == "a, b, c, d, e and 2 more" and listed("ab") == "a, b"
    assert "\n" not in listed(["new\nline"]) and len(listed(["x" * 300])) < 100


# files that cannot be read ------------------------------------------------------------------------------------------------


def test_a_text_file_called_jpg_is_named(tmp_path: Path) -> None:
    (usual(tmp_path) / "train" / "a" / "notes.jpg").write_text("no picture")
    refused(tmp_path, r"train/a/notes\.jpg is not an image")


def test_truncated_files_are_named_together(tmp_path: Path) -> None:
    usual(tmp_path)
    for i in range(7):
        path = tmp_path / "train" / "a" / f"{i}.png"
        path.write_bytes(path.read_bytes()[:200])
    refused(tmp_path, r"7 files are not readable as images: .*4\.png and 2 more")
    assert ("unreadable", "error") in kinds(find(tmp_path))


def test_a_bomb_is_named(tmp_path: Path) -> None:
    (usual(tmp_path) / "train" / "a" / "bomb.png").write_bytes(bomb_png())
    assert "100 megapixels" in refused(tmp_path, r"train/a/bomb\.png").fix
    assert ("bomb", "error") in kinds(find(tmp_path))


def test_nothing_readable_is_still_one_line(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    refused(tmp_path, "2 files are not readable")
    assert kinds(find(tmp_path)) == [("unreadable", "error")]


# classes --------------------------------------------------------------------------------------------------------------------


def test_one_class_is_an_error(tmp_path: Path) -> None:
    refused(tree(tmp_path, {"rust": 20}), "only one class: rust")


def test_one_image_a_class_is_an_error(tmp_path: Path) -> None:
    refused(tree(tmp_path, {"a": 1, "b": 1}), r"under 5 images, test included: a \(1\), b \(1\)")


def test_a_class_too_small_is_named_with_its_count(tmp_path: Path) -> None:
    refused(tree(tmp_path, {"train/a": 12, "train/b": 3, "test/a": 5, "test/b": 5}), r"under 4 train images: b \(3\)")


def test_a_class_that_only_test_has_is_an_error(tmp_path: Path) -> None:
    refused(tree(tmp_path, {"train/a": 12, "train/b": 12, "test/a": 5, "test/c": 5}), "no train images: c")


def test_few_images_and_untested_classes_are_warnings(tmp_path: Path) -> None:
    data = open_data(tree(tmp_path, {"train/a": 12, "train/b": 6, "test/a": 5}))
    assert kinds(data.findings) == [("few", "warning"), ("untested", "warning")]


def test_labels_that_differ_by_case_or_space_are_an_error(tmp_path: Path) -> None:
    refused(tree(tmp_path, {"Rust": 12, "rust ": 12, "miner": 12}), "'Rust' and 'rust ' differ only by case or white space")


def test_single_letters_may_differ_by_case(tmp_path: Path) -> None:
    data = open_data(tree(tmp_path, {"A": 12, "a": 12}))
    assert kinds(data.findings) == [("spelling", "warning")] and data.train_side.classes == ("A", "a")


# copies and leaks -----------------------------------------------------------------------------------------------------------


def test_test_images_among_train_images_are_an_error_that_names_both(tmp_path: Path) -> None:
    usual(tmp_path)
    scene(24).save(tmp_path / "train" / "a" / "leak.bmp")
    wrong = refused(tmp_path, r"1 test image stands among the train images, pixel for pixel: test/a/0\.png = train/a/leak\.bmp")
    assert "train" in wrong.fix


def test_exact_copies_in_train_are_dropped_but_one(tmp_path: Path) -> None:
    usual(tmp_path)
    for name in ("x.bmp", "y.bmp"):
        scene(0).save(tmp_path / "train" / "a" / name)
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("duplicate", "drop")] and data.dropped == ("train/a/x.bmp", "train/a/y.bmp")
    assert len(data.train_side) == 24 and "train/a/0.png" in data.train_side.names


def test_one_image_under_two_labels_is_dropped_from_both(tmp_path: Path) -> None:
    scene(0).save(usual(tmp_path) / "train" / "b" / "x.bmp")
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("two labels", "drop")] and data.dropped == ("train/a/0.png", "train/b/x.bmp")


def test_copies_within_the_users_test_set_are_only_said(tmp_path: Path) -> None:
    scene(24).save(usual(tmp_path) / "test" / "a" / "x.bmp")
    scene(25).save(tmp_path / "test" / "a" / "y.jpg", quality=60)
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("test repeats", "warning")] * 2 and len(data.test or ()) == 12


def test_a_reencoded_test_image_is_dropped_from_train(tmp_path: Path) -> None:
    scene(24).resize((40, 40), Image.Resampling.BICUBIC).save(usual(tmp_path) / "train" / "a" / "copy.jpg", quality=70)
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("near leak", "drop")] and data.dropped == ("train/a/copy.jpg",)


@pytest.mark.parametrize("own", [0, 6])
def test_bursts_of_copies_of_test_images_are_dropped_from_train(tmp_path: Path, own: int) -> None:
    tree(tmp_path, {"train/a": 10, "train/b": 10, "test/a": 20, "test/b": 20})
    for k, folder in ((20, "a"), (21, "a"), (40, "b"), (41, "b")):
        for n, copy in enumerate(burst(scene(k))):
            copy.save(tmp_path / "train" / folder / f"copy{k}_{n}.png")
    for folder in ("a", "b"):
        for i in range(own, 10):
            (tmp_path / "train" / folder / f"{i}.png").unlink()
    found = find(tmp_path)
    (leak,) = [f for f in found if f.kind == "near leak"]
    assert len(leak.items) == 48 and all("/copy" in name for name in leak.items)
    assert not [f for f in found if f.kind == "near duplicate"]


def test_images_of_their_own_are_no_near_leak(tmp_path: Path) -> None:
    tree(tmp_path, {"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5})
    assert open_data(tmp_path).dropped == ()


def test_near_copies_never_reach_two_sides_of_a_carved_split(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 12, "b": 12})
    for i in range(12):
        scene(i).save(tmp_path / "a" / f"copy{i}.jpg", quality=70)
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("near duplicate", "drop")] and len(data.dropped) == 12 and len(data.train_side) == 24


def test_near_copies_inside_one_group_stay(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 12, "b": 12})
    scene(0).save(tmp_path / "a" / "next_frame.jpg", quality=80)
    rows = [{"file_name": name, "group": "clip 1"} for name in ("a/0.png", "a/next_frame.jpg")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = open_data(tmp_path)
    assert data.findings == () and len(data.train_side) == 25


def test_a_group_on_both_sides_is_an_error(tmp_path: Path) -> None:
    usual(tmp_path)
    for part, group in (("train", "plant 7"), ("test", "plant 7")):
        (tmp_path / part / "metadata.jsonl").write_text(json.dumps({"file_name": "a/0.png", "group": group}))
    refused(tmp_path, "1 group stands in both train and test: plant 7")


# what may not be used -------------------------------------------------------------------------------------------------------


def test_images_marked_as_synthetic_are_dropped(tmp_path: Path) -> None:
    (usual(tmp_path) / "train" / "a" / "fake.png").write_bytes(codec.encode_png(np.asarray(scene(99))))
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("synthetic", "drop")] and data.dropped == ("train/a/fake.png",)


def test_a_mark_is_remembered_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    (usual(tmp_path) / "train" / "a" / "fake.png").write_bytes(codec.encode_png(np.asarray(scene(99))))
    assert open_data(tmp_path).findings == open_data(tmp_path).findings != ()


def test_a_wholly_synthetic_folder_is_an_error_here_but_opens(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(codec.encode_png(np.asarray(scene(i))))
    refused(tmp_path, "Every image carries a mark")
    assert len(open_images(tmp_path)) == 12


def test_refused_and_withdrawn_consent_is_dropped(tmp_path: Path) -> None:
    usual(tmp_path)
    rows = [{"file_name": f"train/a/{i}.png", "consent": c} for i, c in enumerate(["yes", "No", "withdrawn", "2024-01-01"])]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("consent", "drop")] and data.dropped == ("train/a/1.png", "train/a/2.png")


def test_a_refusal_written_as_json_false_counts(tmp_path: Path) -> None:
    usual(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "train/a/0.png", "consent": false}')
    assert open_data(tmp_path).dropped == ("train/a/0.png",)


def test_images_under_eight_pixels_are_dropped_with_the_reason(tmp_path: Path) -> None:
    scene(99, side=7).save(usual(tmp_path) / "train" / "a" / "dot.png")
    data = open_data(tmp_path)
    assert kinds(data.findings) == [("tiny", "drop")] and "under 8 x 8" in data.findings[0].message


def test_images_without_a_label_are_dropped_and_all_of_them_is_an_error(tmp_path: Path) -> None:
    scene(99).save(tree(tmp_path / "some", {"a": 12, "b": 12}) / "loose.png")
    assert open_data(tmp_path / "some").dropped == ("loose.png",)
    refused(tree(tmp_path / "none", {".": 5}), "No image has a label")
    assert open_images(tmp_path / "none").labels == (-1,) * 5


def test_several_errors_are_counted_in_one_line(tmp_path: Path) -> None:
    refused(tree(tmp_path, {"Rust": 12, "rust": 2}), r"differ only by case .* \(Also: too small\.\)")


def test_an_image_set_in_memory_is_checked_the_same_way() -> None:
    x = np.stack([np.asarray(scene(i % 30)) for i in range(31)])
    data = open_data(from_arrays(x, [0] * 15 + [1] * 15 + [0]))
    assert data.dropped == ("0", "30") or kinds(data.findings) == [("duplicate", "drop")]
    assert len(data.train_side) == 30


def test_two_sets_joined_are_checked_against_each_other() -> None:
    x = np.stack([np.asarray(scene(i)) for i in range(40)])
    train, test = from_arrays(x[:24], [0, 1] * 12, classes=["a", "b"]), from_arrays(x[24:], [1, 0] * 8, classes=["b", "a"])
    data = open_data(joined(train, test))
    assert data.findings == () and len(data.train_side) == 24 and data.splits.test.digests == test.digests
    assert [data.splits.test.classes[k] for k in data.splits.test.labels] == ["a", "b"] * 8
    assert np.array_equal(data.splits.test.reader.read(3), x[27])
    with pytest.raises(DataError, match="4 test images stand among the train images"):
        open_data(joined(train, from_arrays(x[20:36], [0, 1] * 8, classes=["a", "b"])))


def test_marks_are_seen_through_sets_that_were_opened_before(tmp_path: Path) -> None:
    (usual(tmp_path) / "train" / "a" / "fake.png").write_bytes(codec.encode_png(np.asarray(scene(99))))
    data = open_data(joined(open_images(tmp_path, split="train"), open_images(tmp_path, split="test")))
    assert kinds(data.findings) == [("synthetic", "drop")] and data.dropped == ("train/a/fake.png",)


# memory -------------------------------------------------------------------------------------------------------------------


def test_a_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_images(usual(tmp_path))
    monkeypatch.setattr(codec, "decode", lambda *_, **__: pytest.fail("decoded again"))
    assert open_images(tmp_path).digest == first.digest


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    first = open_images(usual(tmp_path))
    scene(99).save(tmp_path / "train" / "a" / "0.png")
    os.utime(tmp_path / "train" / "a" / "0.png", ns=(1, time.time_ns() + 10**9))
    assert open_images(tmp_path).digest != first.digest


def test_damaged_lines_are_passed_over(tmp_path: Path, own_store: Path) -> None:
    first = open_images(usual(tmp_path))
    memory = own_store / "seen.jsonl"
    lines = memory.read_bytes().splitlines()
    memory.write_bytes(b"\n".join([b"\xff\xfe{", *[line[: len(line) // 2] for line in lines[:9]], b"[1]", b"null", *lines[9:]]))
    assert open_images(tmp_path).digest == first.digest


def test_a_memory_that_is_too_large_forgets_other_folders_and_never_the_one_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_store: Path) -> None:
    one, other = tree(tmp_path / "one", {"a": 5, "b": 5}), tree(tmp_path / "other", {"a": 5, "b": 5})
    monkeypatch.setattr(seen, "BATCH", 2)
    open_images(one)
    before = (own_store / "seen.jsonl").read_bytes()
    monkeypatch.setattr(seen, "LARGEST", len(before) + 1)
    open_images(other)  # grows beyond it, once
    assert (own_store / "seen.jsonl").read_bytes().startswith(before)
    monkeypatch.setattr(seen, "LARGEST", 100)  # less than any set: each look forgets all but its own
    third = tree(tmp_path / "third", {"a": 5, "b": 5})
    first = open_images(third)
    places = [json.loads(line)[1] for line in (own_store / "seen.jsonl").read_text().splitlines() if line]
    assert len(places) == 10 and all("third" in place for place in places)

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(seen, "thumbnail", never)
    assert open_images(third).digest == first.digest
    with pytest.raises(AssertionError):
        open_images(one)
    assert [p.name for p in own_store.iterdir() if p.name.startswith(".")] == []


def test_a_store_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MITATE_HOME", str(tmp_path / "file" / "store"))
    assert len(open_images(tree(tmp_path / "d", {"a": 2, "b": 2}))) == 4


def test_pairs_of_a_large_set_are_remembered_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "WORTH_KEEPING", 10)
    looks = [seen.Look(str(i), None, (48, 48, 3), thumbnail(np.asarray(scene(i % 19))).tobytes()) for i in range(20)]
    pairs = seen.near_pairs(looks, store=Store(tmp_path))
    assert [(p.a, p.b) for p in pairs] == [(0, 19)]
    monkeypatch.setattr(seen, "near_duplicates", lambda *_: pytest.fail("compared again"))
    assert seen.near_pairs(looks, store=Store(tmp_path)) == pairs


# near-duplicates ------------------------------------------------------------------------------------------------------------


def thumbs(images: list[Image.Image]) -> np.ndarray:
    return np.stack([thumbnail(np.asarray(i)) for i in images])


@pytest.mark.parametrize("kind", ["jpeg", "half", "double", "crop", "bright"])
def test_copies_are_found_and_nothing_else(kind: str) -> None:
    def copy(image: Image.Image) -> Image.Image:
        if kind == "jpeg":
            out = io.BytesIO()
            image.save(out, "JPEG", quality=60)
            return Image.open(out).convert("RGB")
        if kind == "crop":
            w, h = image.size
            return image.resize((w, h), Image.Resampling.BICUBIC, box=(0.01 * w, 0.01 * h, 0.99 * w, 0.99 * h))
        if kind == "bright":
            return Image.fromarray(np.clip(np.asarray(image) * 1.1 + 5, 0, 255).astype(np.uint8))
        return image.resize((24, 24) if kind == "half" else (96, 96), Image.Resampling.BICUBIC)

    originals = [scene(i) for i in range(40)]
    copies = [copy(i) for i in originals[:10]]
    sides = np.array([48] * 40 + [c.width for c in copies])
    found = near_duplicates(thumbs(originals + copies), sides)
    assert {(p.a, p.b) for p in found} == {(i, 40 + i) for i in range(10)}


def test_a_set_that_is_copies_and_nothing_else_does_not_hide_them() -> None:
    held = thumbs([scene(i) for i in range(20)])
    copies = thumbs([c for i in range(20) for c in burst(scene(i))])
    found = near_copies(copies, held)
    assert {p.a for p in found} == set(range(240)) and all(p.b == p.a // 12 for p in found)
    assert near_copies(thumbs([scene(i) for i in range(20, 60)]), held) == []


def test_too_few_held_images_have_no_spacing() -> None:
    assert near_copies(thumbs(burst(scene(0))), thumbs([scene(0), scene(1)])) == [] == near_copies(np.zeros((0, 32, 32), np.uint8), thumbs([scene(0)]))


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_digits_are_no_copies_of_other_digits(share: float) -> None:
    images = open_images("digits")
    shuffled = np.random.default_rng(0).permutation(len(images))
    all_thumbs = np.stack([thumbnail(images.reader.read(int(i))) for i in shuffled])
    n, sides = int(share * len(images)), np.full(len(images), 8)
    assert near_copies(all_thumbs[n:], all_thumbs[:n], sides[n:], sides[:n]) == []


def test_flat_images_are_never_near_copies() -> None:
    assert near_duplicates(np.full((30, 32, 32), 128, np.uint8)) == []


def test_no_images_and_one_image_have_no_pairs() -> None:
    assert near_duplicates(np.zeros((0, 32, 32), np.uint8)) == [] and near_duplicates(thumbs([scene(0)])) == []


def test_order_does_not_change_the_pairs() -> None:
    images = thumbs([scene(i % 25) for i in range(30)])
    order = np.random.default_rng(0).permutation(30)
    pairs = {(p.a, p.b) for p in near_duplicates(images)}
    again = {tuple(sorted((int(order[p.a]), int(order[p.b])))) for p in near_duplicates(images[order])}
    assert pairs == again == {(i, 25 + i) for i in range(5)}


def test_the_largest_of_long_rows_are_exact() -> None:
    from mitate.intake.duplicates import _largest

    rows = np.random.default_rng(0).normal(size=(7, 5003)).astype(np.float32)
    expected = np.sort(np.argsort(-rows, axis=1)[:, :8], axis=1)
    assert np.array_equal(np.sort(_largest(rows, 8), axis=1), expected)


def test_all_digits_are_seen_as_different_images() -> None:
    assert kinds(find("digits:20")) == []


@real
@pytest.mark.parametrize("name", ["coffee_leaf", "grocery_fruit"])
def test_real_sets_without_copies_give_no_false_alarm(name: str) -> None:
    assert [f for f in find(Path(DATA or "") / name) if f.severity != "warning"] == []


@real
def test_the_cell_photographed_twice_is_found_across_train_and_test() -> None:
    data = open_data(Path(DATA or "") / "bccd_cells", per_class=20)
    assert [f.items for f in data.findings if f.kind == "near leak"] == [("train/WBC/BloodImage_00258_136.jpg",)]
    assert data.splits.train.counts() == {"Platelets": 20, "RBC": 20, "WBC": 20}


@real
def test_reencoded_real_images_are_found_among_their_like(tmp_path: Path) -> None:
    with np.load(Path(DATA or "") / "fashion_mnist.npz") as d:
        x = d["x_train"][:500]
    copies = []
    for image in x[:40]:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "JPEG", quality=75)
        copies.append(np.asarray(Image.open(out)))
    images = np.stack([thumbnail(a[..., None]) for a in (*x, *copies)])
    found = {(p.a, p.b) for p in near_duplicates(images)}
    assert len(found & {(i, 500 + i) for i in range(40)}) >= 39 and len(found) <= 41
