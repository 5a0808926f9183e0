"""codec: every kind of picture that users have, the marks, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from mitate import codec
from mitate.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def bomb_png(side: int = 40_000) -> bytes:
    """A small PNG file that says it is side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_grey_and_rgb_come_back_as_they_are() -> None:
    assert np.array_equal(codec.decode(saved(Image.fromarray(GREY), "PNG")).pixels, GREY[..., None])
    assert np.array_equal(codec.decode(saved(Image.fromarray(RGB), "PNG")).pixels, RGB)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    wide = GREY.astype(np.uint16) * 257
    pixels = codec.decode(saved(Image.fromarray(wide), "PNG")).pixels
    assert pixels.dtype == np.uint8 and np.array_equal(pixels[..., 0], GREY)


def test_sixteen_bit_tiff_is_scaled_like_png() -> None:
    wide = GREY.astype(np.uint16) * 257
    assert np.array_equal(codec.decode(saved(Image.fromarray(wide), "TIFF")).pixels[..., 0], GREY)


def test_alpha_lies_over_white() -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3] = 0
    pixels = codec.decode(saved(Image.fromarray(rgba), "PNG")).pixels
    assert pixels[0, 0].tolist() == [255, 255, 255] and np.array_equal(pixels[1:], RGB[1:])


def test_grey_with_alpha_is_laid_over_white() -> None:
    la = Image.fromarray(GREY).convert("LA")
    la.putalpha(0)
    assert codec.decode(saved(la, "PNG")).pixels.min() == 255


def test_palette_keeps_its_colours() -> None:
    image = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(codec.decode(saved(image, "PNG")).pixels, np.asarray(image.convert("RGB")))


def test_one_bit_becomes_black_and_white_grey() -> None:
    image = Image.fromarray(GREY).convert("1")
    pixels = codec.decode(saved(image, "PNG")).pixels
    assert pixels.shape == (12, 10, 1) and set(np.unique(pixels)) == {0, 255}


def test_cmyk_becomes_rgb() -> None:
    pixels = codec.decode(saved(Image.new("CMYK", (9, 9), (0, 0, 0, 0)), "JPEG")).pixels
    assert pixels.shape == (9, 9, 3) and pixels.min() > 250


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    pixels = codec.decode(saved(Image.fromarray(RGB), "PNG", exif=exif)).pixels
    assert np.array_equal(pixels, np.rot90(RGB, -1))


def test_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("L", (8, 8), v) for v in (10, 200)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(codec.decode(data).pixels).tolist() == [10]


def test_digest_is_of_pixels_not_of_the_file() -> None:
    image = Image.fromarray(RGB)
    assert codec.decode(saved(image, "PNG")).digest == codec.decode(saved(image, "BMP")).digest
    assert codec.pixel_digest(RGB) != codec.pixel_digest(RGB.reshape(10, 12, 3))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]), st.integers(0, 9))
def test_png_round_trip_keeps_every_pixel(h: int, w: int, c: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8)
    data = codec.encode_png(pixels, description="seed 7")
    again = codec.decode(data)
    assert np.array_equal(again.pixels, pixels) and again.digest == codec.pixel_digest(pixels)
    assert data == codec.encode_png(pixels, description="seed 7")


def test_what_we_write_is_marked_and_the_mark_is_read() -> None:
    data = codec.encode_png(RGB, description="généré")
    assert codec.decode(data).synthetic == "IPTC trainedAlgorithmicMedia"
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert codec.SOURCE_TYPE in image.info["XML:com.adobe.xmp"] and image.info["Description"] == "généré"


def test_mark_survives_a_copy_through_pillow_that_keeps_xmp() -> None:
    with Image.open(io.BytesIO(codec.encode_png(RGB))) as image:
        data = saved(image, "JPEG", xmp=image.info["xmp"])
    assert codec.decode(data).synthetic == "IPTC trainedAlgorithmicMedia"


def test_mark_of_the_web_ui_is_read() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a leaf\nSteps: 20, Sampler: Euler a")
    assert "Stable Diffusion" in (codec.decode(saved(Image.fromarray(RGB), "PNG", pnginfo=info)).synthetic or "")


def test_a_photograph_has_no_mark() -> None:
    assert codec.decode(saved(Image.fromarray(RGB), "JPEG")).synthetic is None


@pytest.mark.parametrize("data", [b"", b"hello, this is text", saved(Image.fromarray(RGB), "PNG")[:60], saved(Image.fromarray(RGB), "JPEG")[:300]])
def test_broken_files_are_refused_with_name_and_fix(data: bytes) -> None:
    with pytest.raises(DataError, match=r"leaf\.jpg (is not an image|is broken)") as wrong:
        codec.decode(data, name="leaf.jpg")
    assert wrong.value.fix and "\n" not in str(wrong.value)


@pytest.mark.parametrize("side", [11_000, 40_000])
def test_bombs_are_refused_before_they_unfold(side: int) -> None:
    data = bomb_png(side)
    assert len(data) < 200
    with pytest.raises(DataError, match="bomb.png") as wrong:
        codec.decode(data, name="bomb.png")
    assert "100 megapixels" in wrong.value.fix


def test_negative_floats_are_refused() -> None:
    with pytest.raises(DataError, match="negative"):
        codec.decode(saved(Image.fromarray(GREY.astype(np.float32) - 300), "TIFF"))


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        codec.decode(tmp_path / "gone.png")


def test_resize_takes_the_centre_square() -> None:
    wide = np.zeros((8, 24, 1), np.uint8)
    wide[:, 8:16] = 200
    assert np.array_equal(codec.resize(wide, 8, 1), np.full((8, 8, 1), 200, np.uint8))
    assert codec.resize(RGB, 16, 1).shape == (16, 16, 1) and codec.resize(wide, 4, 3).shape == (4, 4, 3)


@pytest.mark.parametrize("data", [saved(Image.fromarray(RGB), "EPS"), b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 12, 10, 8, 3) + bytes(400)], ids=["eps", "psd"])
def test_formats_beyond_those_we_read_are_no_images_whatever_the_suffix(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(DataError, match="is not an image"):
        codec.decode(tmp_path / "x.png")
    Image.open(io.BytesIO(data))  # Pillow itself would know it
