"""The scan: copies of known synthetic images are found however they were changed, distinct images of one class are not, and the
command line says so without touching anything."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import mitate as mi
from mitate import cli, codec
from mitate.drawn import known_of, known_sets
from mitate.errors import DataError, SettingError, StoreError
from mitate.intake import seen as memory
from mitate.intake.duplicates import thumbnail
from mitate.intake.opening import open_images
from mitate.intake.scanning import FOUND, Known, Scan, listing_of, scan_listing, write_drop_list
from mitate.intake.tracing import copies
from mitate.store import Store

KNOWN = 60
CLASSES = 3


@cache
def photo(seed: int, side: int = 64) -> Image.Image:
    """A picture of class seed % 3. Two of one class correlate at 0.9; like photographs they have detail at every scale."""
    rng, of_class = np.random.default_rng([seed, 1]), np.random.default_rng([seed % CLASSES, 2])

    def field(chance: np.random.Generator, cells: int) -> np.ndarray:
        return np.asarray(Image.fromarray(chance.normal(size=(cells, cells)).astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))

    channels = [3 * field(of_class, 4) + sum(share * field(rng, cells) for cells, share in ((4, 1), (8, 0.8), (16, 0.4), (32, 0.15))) for _ in range(3)]
    return Image.fromarray(np.clip(128 + 16 * np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert(image.mode)


def crop(image: Image.Image, share: float) -> Image.Image:
    """`share` of the area, off the centre."""
    w, h = image.size
    a, b = round(w * share**0.5), round(h * share**0.5)
    left, top = (w - a) // 3, h - b
    return image.crop((left, top, left + a, top + b))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda i: i,
    "jpeg 90": lambda i: jpeg(i, 90),
    "jpeg 50": lambda i: jpeg(i, 50),
    "jpeg 30": lambda i: jpeg(i, 30),
    "half size": lambda i: scaled(i, 0.5),
    "double size": lambda i: scaled(i, 2),
    "squeezed": lambda i: i.resize((i.width, i.height * 3 // 4), Image.Resampling.BICUBIC),
    "90 % of the area": lambda i: crop(i, 0.9),
    "80 % of the area": lambda i: crop(i, 0.8),
    "70 % of the area": lambda i: crop(i, 0.7),
    "70 % of the area, old size": lambda i: crop(i, 0.7).resize(i.size, Image.Resampling.BICUBIC),
    "mirrored": mirrored,
    "upside down": lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned": lambda i: i.transpose(Image.Transpose.ROTATE_90),
    "turned back, mirrored": lambda i: mirrored(i.transpose(Image.Transpose.ROTATE_270)),
    "brighter": lambda i: ImageEnhance.Brightness(i).enhance(1.3),
    "less contrast": lambda i: ImageEnhance.Contrast(i).enhance(0.6),
    "grey": lambda i: i.convert("L"),
    "sharper": lambda i: ImageEnhance.Sharpness(i).enhance(2),
    "mirrored, cropped, smaller, jpeg": lambda i: jpeg(scaled(crop(mirrored(i), 0.8), 0.75), 75),
}


def thumbs(images: list[Image.Image]) -> np.ndarray:
    return np.stack([thumbnail(codec.decode(png(i)).pixels) for i in images])


@cache
def known_thumbs() -> np.ndarray:
    return thumbs([photo(i) for i in range(KNOWN)])


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def fill(folder: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def synthetic(folder: Path, n: int = KNOWN) -> Path:
    return fill(folder, {f"k{i:03d}.png": photo(i) for i in range(n)})


def bytes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


# tracing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_and_traced_to_its_image(change: str) -> None:
    rows = [7, 20, 33]
    changed = [CHANGES[change](photo(i)) for i in rows]
    others = [photo(1000 + i) for i in range(30)]
    sides = [min(i.size) for i in changed + others]
    found = copies(thumbs(changed + others), known_thumbs(), sides=sides)
    assert {c.row: c.known for c in found} == dict(enumerate(rows))


def test_how_a_copy_was_changed_is_told() -> None:
    image = mirrored(photo(5)).crop((0, 0, 56, 60))
    (found,) = copies(thumbs([image, *(photo(1000 + i) for i in range(30))]), known_thumbs())
    assert found.turn == 1 and found.known == 5
    top, height, left, width = found.window  # of what is known, mirrored: 56 of 64 columns on the right
    assert abs(top) < 0.02 and abs(height - 60 / 64) < 0.02 and abs(left - 8 / 64) < 0.02 and abs(width - 56 / 64) < 0.02
    assert found.residual < 0.001 and abs(found.gain - 1) < 0.02


def edge(seed: int) -> Image.Image:
    """A leaf's edge before a wall, and little else: two tones, a slanted border, faint texture on one side."""
    rng = np.random.default_rng([seed, 3])
    down, right = np.mgrid[:64, :64] / 63
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(-0.15, 0.15)
    leaf = np.clip(32 * ((down - 0.5) * np.cos(angle) + (right - 0.5) * np.sin(angle) - depth + 0.02 * np.sin(9 * right + seed)), 0, 1)
    texture = np.asarray(Image.fromarray(rng.normal(size=(16, 16)).astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(250 - leaf * (150 - 9 * texture), 0, 255).astype(np.uint8))


def test_pictures_of_one_edge_are_not_taken_for_each_other() -> None:
    known = [edge(i) for i in range(40)]
    assert copies(thumbs([edge(1000 + i) for i in range(60)]), thumbs(known)) == []
    assert [c.known for c in copies(thumbs([jpeg(known[3], 90), *(edge(1000 + i) for i in range(30))]), thumbs(known))] == [3]


@pytest.mark.parametrize("m", [2, 10, 60])
def test_distinct_images_of_the_same_classes_are_no_copies(m: int) -> None:
    assert copies(thumbs([photo(1000 + i) for i in range(90)]), known_thumbs()[:m]) == []


def test_what_is_found_does_not_depend_on_the_order_of_either_set() -> None:
    ours = thumbs([jpeg(mirrored(photo(i)), 60) for i in range(10)] + [photo(1000 + i) for i in range(40)])
    rng = np.random.default_rng(0)
    a, b = rng.permutation(len(ours)), rng.permutation(KNOWN)
    plain = {(c.row, c.known) for c in copies(ours, known_thumbs())}
    mixed = {(int(a[c.row]), int(b[c.known])) for c in copies(ours[a], known_thumbs()[b])}
    assert plain == mixed and len(plain) == 10


def test_blank_images_match_nothing() -> None:
    flat = np.full((3, 32, 32), 200, np.uint8)
    almost = flat + np.random.default_rng(0).integers(0, 3, flat.shape, dtype=np.uint8)
    assert copies(flat, flat) == [] and copies(almost, np.concatenate([known_thumbs(), almost])) == []
    assert copies(known_thumbs()[:0], known_thumbs()) == [] and copies(known_thumbs(), known_thumbs()[:0]) == []


def test_several_variants_of_one_known_image_do_not_hide_its_copies() -> None:
    variants = [photo(5), jpeg(photo(5), 80), scaled(photo(5), 0.75), ImageEnhance.Brightness(photo(5)).enhance(1.1)]
    known = np.concatenate([known_thumbs(), thumbs(variants)])
    found = copies(thumbs([jpeg(crop(photo(5), 0.8), 70), *(photo(1000 + i) for i in range(30))]), known)
    assert [c.row for c in found] == [0] and found[0].known in (5, *range(KNOWN, KNOWN + 4))


def test_the_centre_square_of_a_wide_known_image_is_found() -> None:
    wide = [Image.fromarray(np.asarray(photo(i, 120))[20:100]) for i in range(30)]
    square = [i.crop((20, 0, 100, 80)) for i in wide[:3]]
    found = copies(thumbs(square + [photo(1000 + i) for i in range(30)]), thumbs(wide), known_shapes=[(80, 120)] * 30)
    assert {c.row: c.known for c in found} == {0: 0, 1: 1, 2: 2}
    assert all(abs(c.window[2] - 1 / 6) < 0.03 and abs(c.window[3] - 2 / 3) < 0.03 for c in found)


@pytest.mark.parametrize(("data", "most"), [("coffee_leaf", 0), ("bccd_cells", 1)])
def test_real_images_of_a_class_are_told_apart(real_data: Path, data: str, most: int) -> None:
    """The test images against the training images. Some blood cells stand on two photographs."""
    ours, theirs = (np.stack([thumbnail(codec.decode(f).pixels) for f in sorted((real_data / data / part).rglob("*.jpg"))]) for part in ("test", "train"))
    ours = ours[::2]
    found = copies(ours, theirs[::3])
    assert len(found) <= most
    ways = [Image.open(f).convert("RGB") for f in sorted((real_data / data / "train").rglob("*.jpg"))[:60:6]]
    changed = thumbs([jpeg(crop(mirrored(i), 0.8), 80) for i in ways])
    traced = {c.row: c.known for c in copies(np.concatenate([changed, ours]), theirs[::3]) if c.row < len(ways)}
    assert sum(traced.get(i) == 2 * i for i in range(len(ways))) >= 0.9 * len(ways)


# verdicts -------------------------------------------------------------------------------------------------------------


def scanned(data: Path, *known: Path, originals: frozenset[str] = frozenset()) -> Scan:
    return scan_listing(listing_of(data), [Known(k.name, listing_of(k), originals) for k in known])


def test_each_image_gets_its_verdict(tmp_path: Path) -> None:
    known = synthetic(tmp_path / "fakes")
    data = fill(tmp_path / "data", {f"p{i}.png": photo(1000 + i) for i in range(20)})
    fill(data, {"in/copy.jpg": photo(3), "in/same.png": photo(4)})
    (data / "own.png").write_bytes(codec.encode_png(np.asarray(photo(2000))))
    (data / "both.png").write_bytes(codec.encode_png(np.asarray(photo(6))))
    (data / "broken.png").write_bytes(b"\x89PNG nothing more")
    found = scanned(data, known)
    by = {v.name: v for v in found.verdicts}
    assert found.counts == {"marked": 2, "copy": 2, "original": 0, "clean": 20, "unreadable": 1}
    assert (by["in/copy.jpg"].verdict, by["in/copy.jpg"].copy_of, by["in/copy.jpg"].by) == ("copy", "k003.png", "encoded again")
    assert (by["in/same.png"].copy_of, by["in/same.png"].by, by["in/same.png"].residual) == ("k004.png", "pixel for pixel", 0)
    assert by["own.png"].mark == "IPTC trainedAlgorithmicMedia" and by["own.png"].copy_of is None
    assert by["both.png"].verdict == "marked" and by["both.png"].copy_of == "k006.png"
    assert by["broken.png"].verdict == "unreadable" and any("broken.png" in note for note in found.notes)
    assert set(found.found) == {"in/copy.jpg", "in/same.png", "own.png", "both.png"}
    assert found.known == (("fakes", KNOWN),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (mirrored, "mirrored"),
        (lambda i: scaled(i, 0.5), "resized from 64 x 64"),
        (lambda i: i.convert("L"), "in grey"),
        (lambda i: crop(i, 0.8), "cropped to 89 x 89 %"),
        (lambda i: ImageEnhance.Brightness(i).enhance(1.3), "brightness or contrast changed"),
        (lambda i: i.transpose(Image.Transpose.ROTATE_180), "turned by 180 degrees"),
    ],
)
def test_a_verdict_says_in_words_how_the_copy_was_changed(tmp_path: Path, change: Callable[[Image.Image], Image.Image], words: str) -> None:
    known = synthetic(tmp_path / "fakes", 40)
    data = fill(tmp_path / "data", {"copy.png": change(photo(3)), **{f"p{i}.png": photo(1000 + i) for i in range(20)}})
    (verdict,) = (v for v in scanned(data, known).verdicts if v.verdict in FOUND)
    numbers = "".join(c if not c.isdigit() else "#" for c in words), "".join(c if not c.isdigit() else "#" for c in verdict.by or "")
    assert verdict.name == "copy.png" and numbers[0] in numbers[1], verdict.by


def test_a_real_image_that_its_generator_copied_is_told_from_a_copy(tmp_path: Path) -> None:
    known = synthetic(tmp_path / "fakes", 40)
    data = fill(tmp_path / "data", {"mine.png": jpeg(photo(3), 95), "theirs.jpg": photo(4), **{f"p{i}.png": photo(1000 + i) for i in range(20)}})
    mine = codec.decode(data / "mine.png").digest
    found = scanned(data, known, originals=frozenset({mine}))
    by = {v.name: v for v in found.verdicts}
    assert (by["mine.png"].verdict, by["theirs.jpg"].verdict) == ("original", "copy")
    assert found.found == ("theirs.jpg",) and "mine.png" in str(found)


def test_two_blank_pictures_are_the_same_and_prove_nothing(tmp_path: Path) -> None:
    blank = Image.new("RGB", (40, 40), (255, 255, 255))
    known = fill(tmp_path / "fakes", {"blank.png": blank, "k.png": photo(1)})
    found = scanned(fill(tmp_path / "data", {"blank.png": blank, "p.png": photo(1001)}), known)
    assert found.counts["clean"] == 2


def test_a_camera_that_signs_is_named_and_not_accused(tmp_path: Path) -> None:
    from mitate.marks import MANIFEST

    out = io.BytesIO()
    photo(1000).save(out, "JPEG")
    body = b"JP\0\1\0\0\0\1" + b"\0\0\0\x29jumb\0\0\0\x1djumd" + MANIFEST + b"\3c2pa\0"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "camera.jpg").write_bytes(out.getvalue()[:2] + b"\xff\xeb" + (len(body) + 2).to_bytes(2, "big") + body + out.getvalue()[2:])
    found = scanned(tmp_path / "data")
    assert (found.found, found.signed) == ((), ("camera.jpg",)) and any("manifest" in note for note in found.notes)


def test_without_known_images_the_scan_says_that_it_looked_for_marks_only(tmp_path: Path) -> None:
    found = scanned(synthetic(tmp_path / "data", 3))
    assert found.counts["clean"] == 3 and any("only marks" in note for note in found.notes)


def test_the_record_is_json_and_tells_every_image(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"copy.jpg": photo(3), **{f"p{i}.png": photo(1000 + i) for i in range(12)}})
    record = json.loads(json.dumps(scanned(data, synthetic(tmp_path / "fakes", 40)).record, allow_nan=False))
    assert record["counts"] == {"images": 13, "marked": 0, "copy": 1, "original": 0, "clean": 12, "unreadable": 0}
    assert [v["name"] for v in record["verdicts"]] == ["copy.jpg", *sorted(f"p{i}.png" for i in range(12))]
    assert record["verdicts"][0]["copy_of"] == "k003.png" and "copy_of" not in record["verdicts"][1]


# sources and memory ---------------------------------------------------------------------------------------------------


def test_folders_arrays_files_and_sets_can_be_scanned_and_known(tmp_path: Path) -> None:
    known = synthetic(tmp_path / "fakes", 40)
    data = fill(tmp_path / "data", {"copy.jpg": photo(3), **{f"p{i}.png": photo(1000 + i) for i in range(12)}})
    pixels = np.stack([np.asarray(photo(i)) for i in range(40)])
    np.savez(tmp_path / "fakes.npz", x=pixels, y=np.zeros(40, np.int64))
    for source in (known, str(known), tmp_path / "fakes.npz", mi.from_arrays(pixels, np.zeros(40, np.int64))):
        found = mi.scan(data, known=[source], stored=False)
        assert found.found == ("copy.jpg",), source
    assert mi.scan(data / "copy.jpg", known=[known]).found == ("copy.jpg",)
    assert mi.scan(mi.from_arrays(pixels[:5], np.zeros(5, np.int64)), known=[known]).counts["copy"] == 5


def test_a_second_scan_decodes_and_compares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WORTH_TRACING", 10)
    data = fill(tmp_path / "data", {"copy.jpg": mirrored(photo(3)), **{f"p{i}.png": photo(1000 + i) for i in range(12)}})
    known = synthetic(tmp_path / "fakes", 40)
    first = scanned(data, known)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(memory, "copies", never)
    monkeypatch.setattr(memory, "thumbnail", never)
    assert scanned(data, known) == first and first.counts["copy"] == 1
    os.utime(data / "copy.jpg", ns=(1, 1))
    with pytest.raises(AssertionError):
        scanned(data, known)


def test_a_damaged_memory_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_store: Path) -> None:
    monkeypatch.setattr(memory, "WORTH_TRACING", 10)
    data = fill(tmp_path / "data", {"copy.jpg": mirrored(photo(3)), **{f"p{i}.png": photo(1000 + i) for i in range(12)}})
    known = synthetic(tmp_path / "fakes", 40)
    first = scanned(data, known)
    lines = (own_store / "seen.jsonl").read_text().splitlines()
    old = json.dumps([1, *json.loads(next(line for line in lines if line))[1:]])  # of an earlier version
    (own_store / "seen.jsonl").write_text("\n".join([old, "[2, ", *(line[:-9] for line in lines)]))
    for kept in (own_store / "near").iterdir():
        kept.write_text("[[1, 2]]")
    assert scanned(data, known) == first


# the store ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """60 images of three classes in folders."""
    return fill(tmp_path / "leaves", {f"{'abc'[i % 3]}/{i:02d}.png": photo(3000 + i, 32) for i in range(60)})


def test_what_a_store_drew_is_known_without_being_named(tmp_path: Path, leaves: Path) -> None:
    generator = mi.fit(mi.Gaussian(), open_images(leaves), seed=0, name="leaves-gauss")
    fakes = mi.generate(generator, per_class=12, seed=0)
    shots = {f"g{i}.png": mirrored(Image.fromarray(fakes.reader.read(i))) for i in (0, 13, 30)}
    data = fill(tmp_path / "data", {**shots, **{f"p{i}.png": photo(4000 + i, 32) for i in range(30)}})
    found = mi.scan(data)
    assert set(found.found) == set(shots) and found.known == (("leaves-gauss seed 0", 36),)
    assert {v.name: v.copy_of for v in found.verdicts if v.copy_of} == {"g0.png": "a/0", "g13.png": "b/13", "g30.png": "c/30"}
    assert mi.scan(data, stored=False).found == ()
    assert set(mi.scan(data, generators=["leaves-gauss"], stored=False).found) == set(shots)
    assert mi.scan(data, generators=[generator]).known == found.known  # once, not twice


def test_a_generator_that_drew_nothing_yet_draws_for_the_scan(tmp_path: Path, leaves: Path) -> None:
    generator = mi.fit(mi.Gaussian(), open_images(leaves), seed=0, name="leaves-gauss")
    assert known_sets(Store.find()) == []
    (known,) = known_of("leaves-gauss", store=Store.find(), per_class=5)
    assert len(known.listing.rows) == 15
    early = mi.generate(generator, per_class=3, seed=0)  # the same first images
    first = [known.listing.picture(i).pixels for i in (0, 5, 10)]
    assert all(np.array_equal(a, early.reader.read(i)) for a, i in zip(first, (0, 3, 6), strict=True))


def test_a_known_set_names_the_real_images_its_generator_saw(leaves: Path) -> None:
    images = open_images(leaves)
    mi.generate(mi.fit(mi.Gaussian(), images, seed=0, name="g"), per_class=4, seed=0)
    (known,) = known_sets(Store.find())
    assert known.originals and known.originals < set(images.digests)  # the held-out fifth was not seen


def test_a_damaged_object_is_passed_over(leaves: Path, own_store: Path) -> None:
    mi.generate(mi.fit(mi.Gaussian(), open_images(leaves), seed=0, name="g"), per_class=4, seed=0)
    mi.generate(mi.fit(mi.Gaussian(), open_images(leaves), seed=0, name="g"), per_class=5, seed=1)
    asked = [f for f in own_store.glob("objects/*/*/asked.json") if json.loads(f.read_text())["verb"] == "sample"]
    assert len(known_sets(Store.find())) == 2
    asked[0].write_text("{")
    assert len(known_sets(Store.find())) == 1


# refusals -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_scanned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "bad", {})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    (tmp_path / "bad" / "b.png").write_bytes(b"no picture")
    data = synthetic(tmp_path / "data", 3)
    for source in ("", tmp_path / "nowhere", tmp_path / "empty", tmp_path / "bad", tmp_path / "bad" / "a.png"):
        with pytest.raises(DataError):
            mi.scan(source)
        with pytest.raises(DataError):
            mi.scan(data, known=[source])
    with pytest.raises(SettingError, match="nope"):
        mi.scan(data, generators=["nope"])
    with pytest.raises(SettingError, match="-3"):
        mi.scan(data, per_class=-3)


def test_a_name_that_no_line_can_hold_is_refused_by_the_drop_list(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"one\ntwo.png": photo(3), **{f"p{i}.png": photo(1000 + i) for i in range(12)}})
    found = scanned(data, synthetic(tmp_path / "fakes", 40))
    with pytest.raises(DataError, match="line break"):
        write_drop_list(found, tmp_path / "drop.txt")
    assert not (tmp_path / "drop.txt").exists()


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        write_drop_list(Scan("x", ()), tmp_path / "file" / "drop.txt")


# the command line -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    code: int | str | None
    out: str
    err: str


@pytest.fixture
def mitate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["mitate", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = capsys.readouterr()
        return Said(ended.value.code, found.out, found.err)

    return call


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    known = synthetic(tmp_path / "fakes", 40)
    return fill(tmp_path / "data", {"x/copy.jpg": mirrored(photo(3)), **{f"p{i}.png": photo(1000 + i) for i in range(15)}}), known


def test_the_command_finds_writes_and_changes_nothing(mitate: Callable[..., Said], folders: tuple[Path, Path]) -> None:
    data, known = folders
    before = bytes_of(data), bytes_of(known)
    said = mitate("scan", data, "--known", known, "--json", "out/scan.json", "--drop-list", "out/drop.txt")
    assert said.code == 0 and said.err == ""
    assert said.out.splitlines()[-1] == "data: 16 images against 40 known synthetic images: 0 marked, 1 copy, 15 clean"
    assert "x/copy.jpg" in said.out.splitlines()[0] and "mirrored" in said.out.splitlines()[0]
    assert Path("out/drop.txt").read_text() == "x/copy.jpg\n"
    record = json.loads(Path("out/scan.json").read_text())
    assert record["counts"]["copy"] == 1 and record["known"] == [{"name": str(known), "images": 40}]
    assert (bytes_of(data), bytes_of(known)) == before


def test_fail_ends_with_ten_only_where_something_was_found(mitate: Callable[..., Said], folders: tuple[Path, Path], tmp_path: Path) -> None:
    data, known = folders
    assert mitate("scan", data, "--known", known, "--fail").code == 10
    assert mitate("scan", data, "--fail").code == 0
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "own.png").write_bytes(codec.encode_png(np.asarray(photo(5))))
    assert mitate("scan", tmp_path / "one", "--fail", "--drop-list", "drop.txt").code == 10
    assert Path("drop.txt").read_text() == "own.png\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Missing argument"),
        (("nowhere",), "nowhere is not there"),
        (("empty",), "holds no images"),
        (("bad",), "is not an image"),
        (("data", "--known", "nowhere"), "nowhere is not there"),
        (("data", "--known", "bad"), "None of the 1 known images"),
        (("data", "--generator", "nope"), "There is no kept generator 'nope'"),
        (("data", "--per-class", "-1"), "-1"),
        (("data", "--known", "data"), "is one of the known images"),
        (("data/x", "--known", "data"), "is one of the known images"),
        (("data", "--json", "data"), "is a folder"),
        (("data", "--json", "data/p1.png"), "has the name of an image"),
        (("data", "--drop-list", "text.txt/drop.txt"), "is a file"),
        (("data", "--json", "one.txt", "--drop-list", "./one.txt"), "named twice"),
    ],
)
def test_bad_input_is_one_line_a_fix_and_exit_two(
    mitate: Callable[..., Said], folders: tuple[Path, Path], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    (tmp_path / "text.txt").write_text("text")
    before = bytes_of(folders[0])
    said = mitate("scan", *words)
    lines = said.err.splitlines()
    assert (said.code, said.out, len(lines)) == (2, "", 2), said
    assert lines[0].startswith("error: ") and message in lines[0] and lines[1].startswith("fix: ")
    assert bytes_of(folders[0]) == before
