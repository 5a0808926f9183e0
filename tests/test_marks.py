"""Marks: what files of generators say is heard, in every format that carries it; what cameras, editors and captions say is none."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mitate import codec
from mitate.marks import GENERATORS, MANIFEST, SYNTHETIC_TYPES

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
SETTINGS = "a leaf on a table\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234, Size: 512x512, Model: leafy"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 7}}})
EDITOR = json.dumps({"nodes": [{"id": 1, "type": "KSampler"}], "links": []})
SOFTWARE, MAKE, MODEL, DESCRIPTION, PROCESSING, COMMENT, EXIF = 0x0131, 0x010F, 0x0110, 0x010E, 0x000B, 0x9286, 0x8769


def png(texts: dict[str, str] | None = None, *, xmp: str = "", compressed: bool = False, exif: bytes = b"") -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value in (texts or {}).items():
        info.add_itxt(key, value, zip=compressed)
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp, zip=compressed)
    return saved("PNG", pnginfo=info, **({"exif": exif} if exif else {}))


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, kind, **options)
    return out.getvalue()


def exif(*, comment: bytes = b"", **fields: str) -> bytes:
    tags = Image.Exif()
    for name, value in fields.items():
        tags[globals()[name.upper()]] = value
    if comment:
        tags.get_ifd(EXIF)[COMMENT] = comment
    return tags.tobytes()


def packet(inner: str = "", *, attributes: str = "") -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )


def with_manifest(assertion: bytes) -> bytes:
    """A JPEG with a C2PA manifest store that holds one assertion, unsigned: what a reader of marks sees of one."""
    inside = struct.pack(">I", 8 + len(assertion)) + b"cbor" + assertion
    described = struct.pack(">I", 8 + 17 + 5) + b"jumd" + MANIFEST + b"\x03c2pa\0"
    store = struct.pack(">I", 8 + len(described) + len(inside)) + b"jumb" + described + inside
    body = b"JP" + struct.pack(">HI", 1, 1) + store
    jpeg = saved("JPEG")
    return jpeg[:2] + b"\xff\xeb" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def mark(data: bytes) -> str | None:
    return codec.decode(data).synthetic


# declared -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SYNTHETIC_TYPES)
def test_every_synthetic_source_type_is_a_mark(kind: str) -> None:
    address = f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
    assert mark(png(xmp=packet(attributes=f'Iptc4xmpExt:DigitalSourceType="{address}"'))) == f"IPTC {kind}"


@pytest.mark.parametrize(
    "xmp",
    [
        packet(attributes='Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"'),
        packet("<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"),
        packet('<Iptc4xmpExt:DigitalSourceType rdf:resource="https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'),
        packet("<Iptc4xmpExt:DigitalSourceType>digsrctype:trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"),
        packet(attributes="Iptc4xmpExt:DigitalSourceType = 'TrainedAlgorithmicMedia'"),
    ],
    ids=["attribute", "element", "resource", "short name", "bare name"],
)
def test_a_source_type_is_heard_however_it_is_written(xmp: str) -> None:
    assert mark(png(xmp=xmp)) == "IPTC trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    "data",
    [
        lambda xmp: png(xmp=xmp),
        lambda xmp: png(xmp=xmp, compressed=True),
        lambda xmp: saved("JPEG", xmp=xmp.encode()),
        lambda xmp: saved("WEBP", xmp=xmp.encode()),
        lambda xmp: saved("TIFF", tiffinfo={700: xmp.encode()}),
        lambda xmp: saved("TIFF", tiffinfo={700: xmp.encode()}, compression="tiff_lzw"),
    ],
    ids=["png", "png, compressed", "jpeg", "webp", "tiff", "tiff, compressed pixels"],
)
def test_a_source_type_is_heard_in_every_format(data: object) -> None:
    xmp = packet(attributes='Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"')
    assert mark(data(xmp)) == "IPTC compositeWithTrainedAlgorithmicMedia"  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["digitalCapture", "negativeFilm", "computationalCapture", "compositeCapture", "algorithmicallyEnhanced", "humanEdits"])
def test_source_types_of_photographs_are_no_marks(kind: str) -> None:
    assert mark(png(xmp=packet(attributes=f'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"'))) is None


def test_a_manifest_counts_only_for_what_it_declares() -> None:
    model = codec.decode(with_manifest(b"digitalSourceTypexFhttp://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"))
    camera = codec.decode(with_manifest(b"digitalSourceTypex<http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"))
    assert (model.synthetic, model.signed) == ("IPTC trainedAlgorithmicMedia", True)
    assert (camera.synthetic, camera.signed) == (None, True)
    assert not codec.decode(saved("JPEG")).signed


@pytest.mark.parametrize(
    ("xmp", "said"),
    [
        (packet(attributes='Iptc4xmpExt:AISystemUsed="Leaf Painter 2"'), "IPTC AI system"),
        (packet("<Iptc4xmpExt:AISystemUsed>Leaf Painter 2</Iptc4xmpExt:AISystemUsed>"), "IPTC AI system"),
        (packet("<Iptc4xmpExt:AIPromptInformation><rdf:Alt><rdf:li>a leaf</rdf:li></rdf:Alt></Iptc4xmpExt:AIPromptInformation>"), "IPTC AI system"),
        (packet(attributes='Iptc4xmpExt:AISystemUsed=""'), None),
        (packet("<Iptc4xmpExt:AISystemUsed>  </Iptc4xmpExt:AISystemUsed>"), None),
    ],
)
def test_the_fields_of_iptc_2025_count_where_they_say_something(xmp: str, said: str | None) -> None:
    assert mark(png(xmp=xmp)) == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png({"AIGC": '{"Label":"1","ContentProducer":"x"}'}), "AIGC label of GB 45438"),
        (png({"AIGC": '{"Label":"1","ContentProducer":"x"}'}, compressed=True), "AIGC label of GB 45438"),
        (png({"Comment": '{"AIGC":{"Label":"1","ContentProducer":"x"}}'}), "AIGC label of GB 45438"),
        (png(xmp=packet("<TC260:AIGC>{&quot;Label&quot;:&quot;1&quot;,&quot;ContentProducer&quot;:&quot;x&quot;}</TC260:AIGC>")), "AIGC label of GB 45438"),
        (saved("JPEG", exif=exif(comment=b'ASCII\0\0\0{"AIGC": {"Label": 1, "ProduceID": "7"}}')), "AIGC label of GB 45438"),
        (png({"Comment": '{"AIGC":{"Label":"2"}}'}), None),
        (png({"Comment": '{"AIGC":{"Label":"10"}}'}), None),
        (png({"Comment": '{"AIGC": false, "Label": 1}'}), None),
    ],
)
def test_the_chinese_label_counts_where_it_says_generated(data: bytes, said: str | None) -> None:
    assert mark(data) == said


# a tool's own text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png({"parameters": SETTINGS}), "Stable Diffusion web UI parameters"),
        (png({"parameters": SETTINGS}, compressed=True), "Stable Diffusion web UI parameters"),
        (saved("JPEG", exif=exif(comment=b"UNICODE\0" + SETTINGS.encode("utf-16-be"))), "Stable Diffusion web UI parameters"),
        (saved("JPEG", exif=exif(comment=b"UNICODE\0" + SETTINGS.encode("utf-16-le"))), "Stable Diffusion web UI parameters"),
        (saved("WEBP", exif=exif(comment=b"ASCII\0\0\0" + SETTINGS.encode())), "Stable Diffusion web UI parameters"),
        (png({"prompt": GRAPH}), "generation workflow in the metadata"),
        (png({"workflow": EDITOR}), "generation workflow in the metadata"),
        (saved("WEBP", exif=exif(make=f"workflow:{EDITOR}")), "generation workflow in the metadata"),
        (saved("WEBP", exif=exif(model=f"prompt:{GRAPH}")), "generation workflow in the metadata"),
        (png({"invokeai_metadata": "{}"}), "InvokeAI metadata"),
        (png({"sd-metadata": "{}"}), "InvokeAI metadata"),
        (png({"fooocus_scheme": "fooocus"}), "Fooocus metadata"),
        (png({"parameters": '{"sui_image_params": {"prompt": "a leaf"}}'}), "SwarmUI parameters"),
        (saved("JPEG", exif=exif(comment=b'ASCII\0\0\0{"sui_image_params": {}}')), "SwarmUI parameters"),
        (png({"Description": "a leaf --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef"}), "Midjourney job"),
        (saved("JPEG", exif=exif(description="a leaf Job ID: 01234567-89ab-cdef-0123-456789abcdef")), "Midjourney job"),
        (png({"Software": "NovelAI", "Comment": '{"steps": 28}'}), "software field: NovelAI"),
    ],
)
def test_a_generation_tools_own_text_is_a_mark(data: bytes, said: str) -> None:
    assert mark(data) == said


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_is_known_by_its_name_in_a_software_field(name: str) -> None:
    assert mark(png({"Software": f"{name} 2.1"})) == f"software field: {name}"


@pytest.mark.parametrize(
    "data",
    [
        saved("JPEG", exif=exif(software="Midjourney 6")),
        saved("JPEG", exif=exif(make="Midjourney")),
        saved("JPEG", exif=exif(processing="Midjourney")),
        png(exif=exif(software="Midjourney")),
        png({"Source": "Midjourney"}),
        png({"Generator": "midjourney"}),
        png(xmp=packet(attributes='xmp:CreatorTool="Midjourney 6"')),
        saved("JPEG", xmp=packet("<xmp:CreatorTool>Midjourney</xmp:CreatorTool>").encode()),
        saved("WEBP", xmp=packet(attributes="photoshop:Credit='Midjourney'").encode()),
    ],
)
def test_software_is_heard_in_every_field_that_names_it(data: bytes) -> None:
    assert (mark(data) or "").lower() == "software field: midjourney"


@pytest.mark.parametrize("spelling", ["DALL-E 3", "DALL·E 2", "dall.e", "DALLE"])
def test_dall_e_is_known_in_its_spellings(spelling: str) -> None:
    assert (mark(png({"Software": spelling})) or "").startswith("software field: ")


def test_what_mitate_writes_is_marked() -> None:
    assert mark(codec.encode_png(PIXELS, description="a leaf")) == "IPTC trainedAlgorithmicMedia"


# no marks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        saved("JPEG", exif=exif(make="Canon", model="Canon EOS R5", software="Adobe Photoshop Lightroom Classic 13.2", description="a leaf")),
        saved("JPEG", exif=exif(make="Google", model="Pixel 9", software="HDR+ 1.0.6")),
        saved("JPEG", exif=exif(make="ISG", model="Firefly 8SE")),
        saved("JPEG", exif=exif(software="Imagenomic Portraiture")),
        saved("JPEG", exif=exif(software="ImagenAI 12")),
        saved("JPEG", exif=exif(comment=b"ASCII\0\0\0Steps: 12, then left at the tree")),
        saved("JPEG", exif=exif(description="A photograph, not one that Midjourney or Stable Diffusion made")),
        saved("JPEG", comment=b"compare with DALL-E 3 and ComfyUI"),
        png({"Description": "in the look of Midjourney", "Title": "Stable Diffusion, explained", "Comment": "AI generated images fool this judge"}),
        png({"Software": "Matplotlib version3.9.0"}),
        png({"Software": "Undraw Thingsboard"}),
        png({"parameters": "exposure 1/60, iso 100"}),
        png({"prompt": "photograph your leaf from above"}),
        png({"workflow": "scan, crop, label"}),
        png({"annotation": '{"class_type": "leaf", "box": [1, 2, 3, 4]}'}),
        png(xmp=packet("<dc:description>Digital source type: trainedAlgorithmicMedia is what the other folder says</dc:description>")),
        png(xmp=packet("<dc:subject>Midjourney</dc:subject>", attributes='xmp:CreatorTool="Adobe Photoshop 26.1"')),
        png(xmp=packet("<dc:description>an aigc label would be here</dc:description>")),
        png({"Description": "Job ID: 1234"}),
        saved("GIF"),
        saved("BMP"),
    ],
)
def test_photographs_editors_and_captions_carry_no_mark(data: bytes) -> None:
    assert mark(data) is None


def test_a_bare_picture_carries_no_mark_in_any_format() -> None:
    assert [mark(saved(kind)) for kind in codec.FORMATS] == [None] * len(codec.FORMATS)


# damage ---------------------------------------------------------------------------------------------------------------


def test_damaged_metadata_never_stop_a_look() -> None:
    whole = saved("JPEG", exif=exif(make="Canon", software="Midjourney", comment=b"ASCII\0\0\0" + SETTINGS.encode()))
    rng = np.random.default_rng(1)
    heard = 0
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(30, 30 + 120, 6):  # inside the EXIF segment
            data[at] = rng.integers(256)
        heard += mark(bytes(data)) is not None
    assert 0 < heard < 300


def test_a_broken_text_chunk_is_no_mark_and_no_error() -> None:
    data = png()
    body = b"XML:com.adobe.xmp\0\1\0\0\0not zlib"
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
    assert mark(data[:33] + chunk + data[33:]) is None
