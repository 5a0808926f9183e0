"""Machine-readable marks of synthetic images: what a file itself says of its origin.

A mark must be right, so only what no camera, scanner or photo editor writes on a plain photograph counts:

    the IPTC digital source type (in XMP or inside a C2PA manifest)     trained, composite with trained, algorithmic, ...
    the fields of IPTC 2025.1 for the AI system and its prompt          Iptc4xmpExt:AISystemUsed
    the label of GB 45438-2025, "generated"                             TC260:AIGC {"Label": "1", ...}
    a generation tool's own text                                        web UI parameters, ComfyUI graphs, InvokeAI, NovelAI, ...
    a field that names the software, where that is a generator          EXIF Software and Make, XMP CreatorTool, PNG Software

Free text (a caption that speaks of Midjourney) is no mark. A C2PA manifest alone is none either: cameras sign photographs with one.
Marks are as easily stripped as any metadata; copies without them are found by their pixels (intake/tracing).
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from PIL import Image

SYNTHETIC_TYPES = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic", "algorithmicMedia", "trainedAlgorithmicData")
GENERATORS = (  # as whole words, in fields that name software; "Firefly" alone is a camera and "Imagen" alone a photo editor
    "AI generated", "Adobe Firefly", "Black Forest Labs", "Bing Image Creator", "ComfyUI", "Craiyon", "DALL-E", "Draw Things", "DreamStudio", "Fooocus",
    "Ideogram AI", "InvokeAI", "Leonardo.Ai", "Made with Google AI", "Midjourney", "NovelAI", "Stable Diffusion", "SwarmUI",
)  # fmt: skip
OWN_TEXTS = {  # PNG text that only one tool writes
    "invokeai_metadata": "InvokeAI metadata",
    "invokeai_graph": "InvokeAI metadata",
    "sd-metadata": "InvokeAI metadata",
    "fooocus_scheme": "Fooocus metadata",
}
MANIFEST = bytes.fromhex("6332706100110010800000aa00389b71")  # JUMBF type of a C2PA manifest store (C2PA specification, 11.1.4.2)

_TYPE = re.compile(
    rb"(?:digitalsourcetype/|digsrctype:|DigitalSourceType(?:\s*=\s*[\"']|>)\s*)(%s)\b" % b"|".join(k.encode() for k in SYNTHETIC_TYPES), re.IGNORECASE
)
_SYSTEM = re.compile(rb"Iptc4xmpExt:AI(?:SystemUsed|PromptInformation)(?:\s*=\s*[\"']\s*[^\"'\s]|>\s*[^<\s]|>\s*<rdf:)")
_LABEL = re.compile(rb"AIGC[^{}]{0,40}\{[^}]{0,200}?Label(?:\"|&quot;|\\\")?\s*:\s*(?:\"|&quot;|\\\")?1(?!\d)")
_TOOL = re.compile(rb"(?:CreatorTool|tiff:Software|tiff:Make|photoshop:Credit)(?:\s*=\s*[\"']|>)([^\"'<]{1,120})")
_NAMES = re.compile("|".join(rf"(?<!\w){re.escape(n)}(?!\w)" for n in GENERATORS).replace("DALL\\-E", "DALL[-·. ]?E"), re.IGNORECASE)
_SETTINGS = re.compile(r"\bSteps: \d+, .*\b(?:Sampler|Seed|CFG scale): ", re.DOTALL)
_JOB = re.compile(r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SOFTWARE, _MAKE, _MODEL, _DESCRIPTION, _PROCESSING, _EXIF, _COMMENT = 0x0131, 0x010F, 0x0110, 0x010E, 0x000B, 0x8769, 0x9286


def mark_of(image: Image.Image, data: bytes) -> str | None:
    """What in a file's metadata says that a model made the picture, for people; None where nothing does.

    image: as Pillow opened it; data: the whole file. Never raises: metadata that cannot be read say nothing.
    """
    texts = {k: v for k, v in image.info.items() if isinstance(k, str) and isinstance(v, str)}
    exif = _exif(image)
    packets = [
        data,
        *(_bytes(image.info.get(k)) for k in ("xmp", "XML:com.adobe.xmp", "comment")),
        *(f"{k}={t}".encode("utf-8", "replace") for k, t in texts.items()),
        *(t.encode("utf-8", "replace") for t in exif.values()),
    ]
    for packet in packets:
        if found := _declared(packet):
            return found
    return _own_text(texts, exif) or _software(texts, exif)


def has_manifest(data: bytes) -> bool:
    """Whether a file carries a C2PA manifest: signed provenance, of a camera as well as of a generator."""
    return MANIFEST in data


def _declared(packet: bytes) -> str | None:
    """What XMP, a manifest, or a label inside text declares. Plain searches first: packets are whole files of many megabytes."""
    if any(word in packet for word in (b"igitalsourcetype", b"igitalSourceType", b"digsrctype")) and (found := _TYPE.search(packet)):
        kind = found[1].decode().lower()
        return f"IPTC {next(k for k in SYNTHETIC_TYPES if k.lower() == kind)}"
    if b"Iptc4xmpExt:AI" in packet and _SYSTEM.search(packet):
        return "IPTC AI system"
    if b"AIGC" in packet and _LABEL.search(packet):
        return "AIGC label of GB 45438"
    for tool in _TOOL.finditer(packet) if b"adobe:ns:meta" in packet else ():
        if name := _NAMES.search(tool[1].decode("utf-8", "replace")):
            return f"software field: {name[0]}"
    return None


def _own_text(texts: dict[str, str], exif: dict[int, str]) -> str | None:
    """A generation tool's own text: in PNG chunks, or where it puts the same text into a JPEG or WebP."""
    for key, tool in OWN_TEXTS.items():
        if key in texts:
            return tool
    if "Steps:" in texts.get("parameters", "") or _SETTINGS.search(exif.get(_COMMENT, "")):
        return "Stable Diffusion web UI parameters"
    everything = [*texts.values(), *exif.values()]
    if any("sui_image_params" in text for text in everything):
        return "SwarmUI parameters"
    graphs = [texts.get("workflow", ""), *exif.values()]  # ComfyUI puts them into EXIF fields of a WebP
    if any('"class_type"' in text and '"inputs"' in text for text in everything) or any('"nodes"' in graph and '"links"' in graph for graph in graphs):
        return "generation workflow in the metadata"
    if any(_JOB.search(text) for text in (texts.get("Description", ""), exif.get(_DESCRIPTION, ""))):
        return "Midjourney job"
    return None


def _software(texts: dict[str, str], exif: dict[int, str]) -> str | None:
    """A field that names the software (or the camera's maker) and names a generator."""
    fields = [*(texts.get(k, "") for k in ("Software", "Source", "Generator")), *(exif.get(k, "") for k in (_SOFTWARE, _PROCESSING, _MAKE))]
    for field in fields:
        if name := _NAMES.search(field):
            return f"software field: {name[0]}"
    return None


def _exif(image: Image.Image) -> dict[int, str]:
    """The text fields of the EXIF data that are looked at; nothing where they cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = image.getexif()
            found = {k: tags.get(k) for k in (_SOFTWARE, _PROCESSING, _MAKE, _MODEL, _DESCRIPTION)}
            found[_COMMENT] = tags.get_ifd(_EXIF).get(_COMMENT)
    except Exception:  # Pillow's EXIF reader raises what it likes on damaged tags: SyntaxError, struct.error, KeyError, ...
        return {}
    return {k: _text(v) for k, v in found.items() if v is not None}


def _text(value: Any) -> str:
    """An EXIF value as text. A user comment starts with eight bytes that name its encoding."""
    if not isinstance(value, bytes):
        return str(value)
    if value.startswith(b"UNICODE\0"):
        wide = value[8:]
        order = "utf-16-be" if wide[:1] == b"\0" else "utf-16-le"  # ASCII characters, which all tools begin with, tell the order
        return wide.decode(order, "replace")
    return value.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace") if isinstance(value, str) else b""
