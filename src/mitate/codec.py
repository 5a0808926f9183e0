"""Image bytes to pixels and back: one door for every picture that comes in or goes out.

Pixels are uint8 [h, w, c] with c = 1 (grey) or 3 (RGB), upright (EXIF rotation applied), alpha laid over white, 16 bits scaled
to 8. Everything we write is PNG and carries a machine-readable mark: the IPTC digital source type "trained algorithmic media".
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from mitate.errors import DataError
from mitate.marks import has_manifest, mark_of

MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 picture; above this a small file can fill the memory ("decompression bomb")
MAX_BYTES = 1_000_000_000  # of a file: 100 megapixels of 16 bits have 600 MB
ROWS = 256  # that are narrowed to 8 bits at a time
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jfif"})
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # whatever the suffix: Pillow's EPS reader would start Ghostscript
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@dataclass(frozen=True)
class Picture:
    """A decoded picture. `digest` is of the pixels, not of the file: a re-saved copy without loss has the same one."""

    pixels: np.ndarray  # uint8 [h, w, c], c = 1 or 3
    digest: str  # 32 hex characters
    synthetic: str | None  # the mark that says so, or None
    signed: bool = False  # it carries a C2PA manifest, as photographs of some cameras do too


def decode(source: bytes | Path, *, name: str = "") -> Picture:
    """The picture in `source` (bytes or a file). Raises DataError for what is no picture, is cut off, or is too large."""
    name = name or str(source if isinstance(source, Path) else "image")
    try:
        if isinstance(source, Path) and (size := source.stat().st_size) > MAX_BYTES:
            raise DataError(f"{name} has {size / 1e9:.0f} GB.", fix="shrink it below 100 megapixels, or remove it")
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as wrong:
        raise DataError(f"{name} cannot be read ({wrong.strerror}).", fix="check its permissions, or remove it") from wrong
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError("Pillow was told to accept truncated images.", fix="set PIL.ImageFile.LOAD_TRUNCATED_IMAGES = False")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{name} is {image.width} x {image.height} pixels.", fix="shrink it below 100 megapixels, or remove it")
            image.load()
            pixels = _pixels(image)
    except DataError:
        raise
    except Image.DecompressionBombError as wrong:
        raise DataError(f"{name} is too large to open safely.", fix="shrink it below 100 megapixels, or remove it") from wrong
    except Exception as wrong:  # Pillow's readers raise what they like: SyntaxError, struct.error, EOFError, OSError, ...
        what = "is not an image" if isinstance(wrong, Image.UnidentifiedImageError) else f"is broken ({wrong})"
        raise DataError(f"{name} {what}.", fix="remove it, or replace it by a good copy") from wrong
    return Picture(pixels, pixel_digest(pixels), mark_of(image, data), has_manifest(data))


def encode_png(pixels: np.ndarray, *, description: str = "") -> bytes:
    """PNG bytes of a synthetic image (uint8 [h, w, c]), with the IPTC mark in its XMP; same pixels and text, same bytes."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", _XMP)
    if description:
        info.add_itxt("Description", description)
    out = io.BytesIO()
    to_image(pixels).save(out, "PNG", pnginfo=info, optimize=False, compress_level=6)
    return out.getvalue()


def to_image(pixels: np.ndarray) -> Image.Image:
    """The Pillow image of uint8 [h, w, c] pixels, c = 1 or 3."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def pixel_digest(pixels: np.ndarray) -> str:
    """32 hex characters that name uint8 pixels and their shape."""
    head = ",".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(head + b"\0" + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:32]


def resize(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Centre square of uint8 [h, w, c] pixels, as uint8 [size, size, channels]; antialiased bicubic, as the field does."""
    image = to_image(pixels)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (side, side):
        image = image.crop((left, top, left + side, top + side))
    if side != size:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


def _pixels(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _narrow(np.asarray(image))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB"))
    return np.ascontiguousarray(array[..., None] if array.ndim == 2 else array)


def _narrow(wide: np.ndarray) -> np.ndarray:
    """16-bit integers (or 32-bit ones and floats as some readers return them) to uint8 [h, w, 1]."""
    low, top = float(wide.min()), float(wide.max())
    if not (math.isfinite(low) and math.isfinite(top)) or low < 0:
        raise ValueError("pixel values are negative or not finite")
    scale = 255.0 if top <= 1 and wide.dtype.kind == "f" else 1.0 if top <= 255 and wide.dtype.kind == "f" else 255.0 / 65535.0
    if top * scale > 255.5:
        raise ValueError(f"pixel values reach {top:g}")
    out = np.empty((*wide.shape, 1), np.uint8)
    for row in range(0, len(wide), ROWS):  # float64 of 100 megapixels at once would take gigabytes
        out[row : row + ROWS, :, 0] = np.clip(np.rint(wide[row : row + ROWS].astype(np.float64) * scale), 0, 255)
    return out
