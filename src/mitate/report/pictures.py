"""The pictures of the report: real ones, and each synthetic one with its nearest real training image."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mitate import codec
from mitate.errors import MitateError
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_share
from mitate.report.part import Part

THUMBNAIL = 112  # pixels a side at most, so that a report of large photographs stays small
SHOWN_CLASSES, SHOWN_REAL, SHOWN_SYNTHETIC = 10, 4, 6  # pictures a generator


@dataclass(frozen=True)
class Pair:
    """A synthetic picture and the real training picture nearest to it, as data URIs; an empty one is missing."""

    image: str
    nearest: str
    copy: bool
    remark: str


@dataclass(frozen=True)
class Strip:
    """The pictures of a class: real ones, and pairs of one generator."""

    label: str
    real: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Gallery:
    """The strips of one generator."""

    generator: str
    note: str
    share: str
    alarm: bool
    strips: tuple[Strip, ...]


class Pictures(Part):
    """What the images look like."""

    @cached_property
    def galleries(self) -> list[Gallery]:
        facts = self._optional("samples/samples.json")
        real = as_mapping(facts.get("real"))
        out = []
        for generator, classes in as_mapping(facts.get("generators")).items():
            strips = []
            classes = as_mapping(classes)
            for label in self._shown_classes(facts, classes):
                pairs = tuple(self._pair(as_mapping(facts)) for facts in as_list(classes.get(label))[:SHOWN_SYNTHETIC])
                strips.append(Strip(label, tuple(self._picture(str(f), synthetic=False) for f in as_list(real.get(label))[:SHOWN_REAL]), pairs))
            pairs_shown = [pair for strip in strips for pair in strip.pairs]
            copies = sum(pair.copy for pair in pairs_shown)
            n = say_count(len(pairs_shown))
            note = self.w("pictures.copies_shown", copies=say_count(copies), n=n) if copies else self.w("pictures.no_copies", n=n) if pairs_shown else ""
            out.append(Gallery(str(generator), note, self._copy_share(str(generator)), copies > 0, tuple(strips)))
        return out

    @property
    def pictures_note(self) -> str:
        facts = self._optional("samples/samples.json")
        n = len(as_list(facts.get("classes")))
        return self.w("pictures.some", shown=say_count(SHOWN_CLASSES), n=say_count(n)) if n > SHOWN_CLASSES else ""

    def _shown_classes(self, facts: Mapping[str, Any], classes: Mapping[str, Any]) -> list[str]:
        """Classes with a copy first, for nothing alarming may be cut off; then the others in their order."""
        names = [str(name) for name in as_list(facts.get("classes"))] or list(classes)
        if len(names) <= SHOWN_CLASSES:
            return names
        with_copy = [name for name in names if any(as_mapping(p).get("copy") for p in as_list(classes.get(name)))]
        chosen = {*with_copy[:SHOWN_CLASSES]}
        for name in names:
            if len(chosen) < SHOWN_CLASSES:
                chosen.add(name)
        return [name for name in names if name in chosen]

    def _pair(self, facts: Mapping[str, Any]) -> Pair:
        ratio = as_number(facts.get("ratio"))
        remark = self.w("pictures.ratio", ratio=say_digits(ratio)) if ratio is not None else self.w("pictures.unknown")
        return Pair(self._picture(facts.get("file"), synthetic=True), self._picture(facts.get("nearest"), synthetic=False), facts.get("copy") is True, remark)

    def _picture(self, file: Any, *, synthetic: bool) -> str:
        """A picture of the run folder as a data URI, at most THUMBNAIL pixels a side; empty where it is missing or no picture.

        It is decoded and written anew, so nothing of a strange file but its pixels gets into the page; synthetic ones keep the mark.
        """
        if not isinstance(file, str):
            return ""
        for base in (self.run.folder / "samples", self.run.folder):
            path = base / file
            try:
                if not path.resolve().is_relative_to(self.run.folder.resolve()) or not path.is_file():
                    continue
                pixels = codec.decode(path).pixels
            except (MitateError, OSError, ValueError):
                return ""
            return data_uri(pixels, synthetic=synthetic)
        return ""

    def _copy_share(self, generator: str) -> str:
        """The share of copies in all images of a generator with that of real images, from its gate or its score; else empty."""
        found = [g for g in map(as_mapping, as_list(self.decision.get("gates"))) if g.get("name") in ("copies", "privacy") and g.get("subject") == generator]
        found += [s for s in self.scores if s.get("metric") == "copies" and s.get("subject") == generator]
        for facts in found:
            value, floor = as_number(facts.get("value")), as_number(facts.get("floor"))
            if value is not None:
                return self.w("pictures.share", share=say_share(value), floor=say_share(floor) if floor is not None else self.missing(facts.get("note")))
        return ""


def data_uri(pixels: np.ndarray, *, synthetic: bool) -> str:
    """A picture, uint8 [h, w, c], as PNG of a thumbnail's size at most; a synthetic one keeps its mark."""
    if max(pixels.shape[:2]) > THUMBNAIL:
        pixels = codec.resize(pixels, THUMBNAIL, pixels.shape[-1])
    if synthetic:
        data = codec.encode_png(pixels)
    else:
        buffer = io.BytesIO()
        codec.to_image(pixels).save(buffer, "PNG", compress_level=9)
        data = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(data).decode()
