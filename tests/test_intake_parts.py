"""Tables part by part: listing leaves images alone, memory holds a few chunks, and a file that is damaged or changes is named."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mitate.errors import DataError
from mitate.intake import cells, parts, tables
from mitate.intake.cells import Kept
from mitate.intake.listing import SourceError
from mitate.intake.opening import find, list_source, open_images
from mitate.intake.scanning import listing_of, scan_listing

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N = 40
X = np.random.default_rng(0).integers(0, 256, (N, 16, 16, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


BLOBS = [png(x) for x in X]
SIZE = len(BLOBS[0])


def table(label: Any = None) -> Any:
    cells = pa.array([{"bytes": blob, "path": f"{i}.png"} for i, blob in enumerate(BLOBS)])
    label = pa.array(["b" if i % 3 else "a" for i in range(N)]) if label is None else label
    return pa.table({"number": list(range(N)), "image": cells, "label": label, "caption": [f"leaf {i}" for i in range(N)]})


def parquet(path: Path, made: Any, rows: int) -> None:
    pq.write_table(made, path, row_group_size=rows, use_dictionary=["label"])


def stream(path: Path, made: Any, rows: int, compression: str | None = None) -> None:
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, made.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as to:
        to.write_table(made, max_chunksize=rows)


def packed_stream(path: Path, made: Any, rows: int) -> None:
    stream(path, made, rows, "zstd")


def numbered(path: Path, made: Any, rows: int) -> None:
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, made.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as to:
        to.write_table(made, max_chunksize=rows)


Write = Callable[[Path, Any, int], None]
FORMS: dict[str, Write] = {"parquet": parquet, "stream.arrow": stream, "zstd.arrow": packed_stream, "numbered.arrow": numbered}


@pytest.fixture(params=list(FORMS))
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """Write a table of 40 images in the form at hand, so many rows a part."""

    def written(made: Any = None, rows: int = 10) -> Path:
        path = tmp_path / f"d.{request.param.rpartition('.')[2]}"
        FORMS[request.param](path, table() if made is None else made, rows)
        return path

    return written


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """What is kept of images in this test: none at first, and no more than a dozen of them."""
    fresh = Kept(12 * SIZE)
    monkeypatch.setattr(cells, "KEPT", fresh)
    return fresh


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Places of the parts whose images were read, each time from their beginning."""
    found: list[int] = []

    def counted(file: Any, part: Any, column: str) -> Iterator[Any]:
        found.append(part.place)
        return parts.images(file, part, column)

    monkeypatch.setattr(cells, "images", counted)
    return found


def test_every_image_is_found_in_order_and_out_of_order_and_little_is_held(write: Callable[..., Path], kept: Kept) -> None:
    reader = list_source(write()).reader
    order = [*range(N), *np.random.default_rng(1).permutation(N)]
    most = 0
    for i in order:
        assert reader.blob(int(i)) == BLOBS[i]  # type: ignore[attr-defined]
        most = max(most, kept.size)
    assert most <= 12 * SIZE * 1.1
    with pytest.raises(IndexError):
        reader.blob(N)  # type: ignore[attr-defined]


def test_in_order_each_part_is_read_once(write: Callable[..., Path], begun: list[int]) -> None:
    images = open_images(write())
    assert len(begun) == 4 and images.captions is not None and images.captions[39] == "leaf 39" and images.classes == ("a", "b")
    assert np.array_equal(images.pixels(size=16, channels=3), X) and len(begun) == 8


def test_a_table_that_fits_is_read_once_in_any_order(write: Callable[..., Path], begun: list[int], kept: Kept) -> None:
    kept.held = 100 * SIZE
    reader = list_source(write()).reader
    for i in np.random.default_rng(1).permutation(N):
        assert np.array_equal(reader.read(int(i)), X[i])
    assert len(begun) == len(set(begun)) == 4


def test_listing_reads_no_image(write: Callable[..., Path], begun: list[int], kept: Kept) -> None:
    listing = list_source(write())
    assert [row.label for row in listing.rows] == ["b" if i % 3 else "a" for i in range(N)] and listing.rows[7].caption == "leaf 7"
    assert begun == [] and kept.size == 0


def test_damage_among_the_images_of_a_parquet_file_is_no_matter_of_its_labels_and_ends_the_reading_in_one_line(tmp_path: Path) -> None:
    parquet(tmp_path / "d.parquet", table(), 10)
    data = bytearray((tmp_path / "d.parquet").read_bytes())
    group = pq.read_metadata(tmp_path / "d.parquet").row_group(2)
    column = next(group.column(k) for k in range(group.num_columns) if group.column(k).path_in_schema == "image.bytes")
    start = column.data_page_offset + 30
    data[start : start + 2000] = os.urandom(2000)
    (tmp_path / "d.parquet").write_bytes(data)
    assert len(list_source(tmp_path / "d.parquet").rows) == N
    for read in (open_images, find, lambda path: scan_listing(listing_of(path))):
        with pytest.raises(DataError, match=r"d.parquet cannot be read as a table \("):
            read(tmp_path / "d.parquet")


def test_a_row_group_larger_than_what_is_held_is_read_in_order_once_and_said_to_be_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[int], kept: Kept
) -> None:
    monkeypatch.setattr(parts, "CHUNK", 4 * SIZE)
    monkeypatch.setattr(tables, "HELD", 12 * SIZE)
    parquet(tmp_path / "d.parquet", table(), N)
    listing = list_source(tmp_path / "d.parquet")
    assert [note[0] for note in listing.notes] == ["row group"] and "in one row group" in listing.notes[0][1] and "row_group_size" in listing.notes[0][2]
    for i in range(N):
        assert listing.reader.blob(i) == BLOBS[i] and kept.size <= 12 * SIZE * 1.1  # type: ignore[attr-defined]
    assert begun == [0]
    for i in (30, 3, 2, 35):  # kept; going back; kept; on from there
        assert np.array_equal(listing.reader.read(i), X[i])
    assert begun == [0, 0]


def test_small_row_groups_have_no_note(write: Callable[..., Path]) -> None:
    assert list_source(write()).notes == ()


def test_a_file_that_changes_between_listing_and_reading_is_said_to_have_changed(write: Callable[..., Path]) -> None:
    listing = list_source(path := write())
    listing.reader.read(0)
    os.utime(path, ns=(1, 1))
    for i in (0, 20):  # also of what is still held
        with pytest.raises(SourceError, match=r"has changed while it was being read") as wrong:
            listing.reader.read(i)
    assert "run the same command again" in wrong.value.fix
    with pytest.raises(DataError, match="has changed while it was being read"):
        open_images(listing)
    path.unlink()
    with pytest.raises(SourceError, match="has changed"):
        listing.reader.read(3)


def test_a_file_that_is_cut_off_while_it_is_read_does_not_end_the_process(write: Callable[..., Path]) -> None:
    listing = list_source(path := write())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(SourceError, match="has changed"):
        listing.reader.read(N - 1)


def test_a_file_that_is_written_to_while_it_is_listed_is_said_to_have_changed(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = write(), tables.said_split

    def touch(*words: str) -> str:
        os.utime(path, ns=(1, 1))
        return real(*words)

    monkeypatch.setattr(tables, "said_split", touch)
    path = write(table().append_column("split", pa.array(["train"] * N)))
    with pytest.raises(SourceError, match="has changed while it was being read"):
        list_source(path)


def test_categories_of_a_column_do_not_hinder_the_images(write: Callable[..., Path]) -> None:
    images = open_images(write(table(pa.array(["b" if i % 3 else "a" for i in range(N)]).dictionary_encode())))
    assert images.classes == ("a", "b") and images.labels == tuple(int(i % 3 > 0) for i in range(N)) and np.array_equal(images.reader.read(25), X[25])


def test_a_table_of_nothing_but_images_opens(write: Callable[..., Path]) -> None:
    images = open_images(write(table().select(["image"])))
    assert len(images) == N and set(images.labels) == {-1} and np.array_equal(images.reader.read(39), X[39])


def test_more_rows_than_are_taken_are_refused_in_every_form(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    monkeypatch.setattr(tables, "MOST_ROWS", 25)
    with pytest.raises(DataError, match=r"has (30|40) rows"):
        list_source(path)


def test_facts_larger_than_the_memory_are_refused(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    monkeypatch.setattr(parts, "memory", lambda: 100)
    with pytest.raises(DataError, match="of facts beside its images"):
        list_source(path)


def test_a_column_that_stands_twice_is_one_line(tmp_path: Path, write: Callable[..., Path]) -> None:
    made = table()
    path = write(made.append_column("label", made.column("label")))
    with pytest.raises(DataError, match="cannot be read as a table"):
        list_source(path)


def test_a_column_of_numbers_that_is_said_to_be_images_is_not_read_as_zeros(write: Callable[..., Path]) -> None:
    made = pa.table({"image": [10**9] * N, "label": ["a"] * N}).replace_schema_metadata(
        {"huggingface": '{"info": {"features": {"image": {"_type": "Image"}}}}'}
    )
    with pytest.raises(DataError, match="Row 0 of .* has no image bytes"):
        list_source(write(made)).reader.read(0)


def test_several_files_are_one_table_and_rows_are_named_by_their_file(tmp_path: Path) -> None:
    parquet(tmp_path / "train-00000-of-00002.parquet", table().slice(0, 15), 4)
    stream(tmp_path / "train-00001-of-00002.arrow", table().slice(15), 7)
    images = open_images(tmp_path)
    assert [np.array_equal(images.reader.read(i), X[i]) for i in (14, 15, 39, 0)] == [True] * 4
    empty = table().set_column(1, "image", pa.array([{"bytes": None, "path": "x.png"}] * N))
    stream(tmp_path / "train-00001-of-00002.arrow", empty.slice(15), 7)
    with pytest.raises(DataError, match=r"Row 9 of train-00001-of-00002.arrow has no image bytes \(path 'x.png'\)"):
        list_source(tmp_path).reader.read(24)


def test_no_flipped_bit_of_what_a_parquet_file_says_of_its_columns_ends_the_process(tmp_path: Path) -> None:
    """pyarrow ends the process where a damaged column is asked for its size; some of these bits make such a column."""
    parquet(tmp_path / "d.parquet", table().slice(0, 6).select(["image", "label"]), 3)
    script = (
        "import sys, pathlib\n"
        "from mitate.errors import MitateError\n"
        "from mitate.intake.opening import open_images\n"
        "path = pathlib.Path(sys.argv[1]); data = path.read_bytes(); start = len(data) - 8 - int.from_bytes(data[-8:-4], 'little')\n"
        "for bit in range(8 * 16, 8 * 24):\n"
        "    changed = bytearray(data); changed[start + bit // 8] ^= 1 << bit % 8; path.write_bytes(changed)\n"
        "    try: open_images(path)\n"
        "    except MitateError: pass\n"
        "print('all of them')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "d.parquet")], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "all of them\n", done.stderr[-2000:]


@pytest.mark.parametrize("write", ["parquet", "stream.arrow"], indirect=True)
def test_names_of_columns_that_are_no_text_are_one_line(write: Callable[..., Path]) -> None:
    path = write(table().rename_columns(["number", "image", "label", "qqqqqqq"]))
    path.write_bytes(path.read_bytes().replace(b"qqqqqqq", b"\xff" * 7))
    with pytest.raises(DataError, match="cannot be read as a table"):
        open_images(path)
