"""Frozen labellers: which class does a picture show? Nothing of them is learnt on the pictures that they label.

Classifier      a network that was trained once, on real images
ZeroShot        an image-text model and a sentence for each class (Radford et al. 2021, section 3.1.4)

Neither's probabilities are calibrated: a network of few real images is too sure of itself, an image-text model says what its own temperature makes of it.
They rank pictures; how often a labeller that is 90 % sure is right must be measured (docs/relabel.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mitate.curation.judges import BATCH, Similarity
from mitate.errors import SettingError
from mitate.generator import in_words
from mitate.lab.sets import TEMPLATE
from mitate.settings import digest, suggest

if TYPE_CHECKING:
    from mitate.training.backbones import Classifier as Network

KINDS = ("real", "similarity", "caption", "lab")
SIDES = (8, 256)  # pixels that an image-text model is given; what it wants is at most that as a rule
SCALE = 100.0  # of cosines, for an image-text model that tells none: where CLIP stops its own


class Labeller(Protocol):
    """name: for people, and in the ledger; digest: of all that its probabilities follow from."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes that it knows; None where it takes any."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of a side and channels of the images that it is given."""
        ...

    def probabilities(self, x: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Float64 [n, k], rows that sum to 1, of uint8 [n, side, side, channels]; column j is of `classes[j]`."""
        ...


@dataclass(frozen=True)
class Named:
    """A model as it was typed. kind: real, similarity or caption; place: a folder, or the name of one of ours."""

    kind: str
    place: str


def named(text: str) -> Named:
    """What `--with TEXT` asks for. SettingError names the nearest."""
    kind, _, place = text.partition(":")
    if text == "lab":
        return Named("caption", "lab")
    if kind in ("real", "similarity", "caption") and place.strip():
        return Named(kind, place)
    fix = "write real:FOLDER, similarity:MODEL, caption:FOLDER or lab"
    raise SettingError(f"There is no labeller {text[:60]!r}.", fix=fix if kind in KINDS or not kind else f"{suggest(kind, KINDS)} ({fix})")


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network, frozen. digest: of the training that made it."""

    name: str
    digest: str
    classes: tuple[str, ...]
    shape: tuple[int, int]
    network: Network = field(repr=False)

    def probabilities(self, x: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        from mitate.runtime import torch_threads
        from mitate.training.loop import predict

        columns = [self.classes.index(label) for label in classes]
        with torch_threads():
            found = predict(self.network, x).astype(np.float64)[:, columns]
        return found / found.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class ZeroShot:
    """Softmax over classes of the model's scale times the cosine of picture and sentence. template: a sentence with {label}."""

    model: str
    template: str = TEMPLATE
    classes: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        return f"similarity:{Path(self.model).name or self.model}"

    @cached_property
    def digest(self) -> str:
        return digest("mitate.zero-shot", [self._judge.digest, self.template])

    @cached_property
    def shape(self) -> tuple[int, int]:
        look = getattr(self._judge._loaded[1], "image_processor", None)
        size = getattr(look, "size", None) or {}
        side = size.get("height") or size.get("shortest_edge") or 224
        return min(max(int(side), SIDES[0]), SIDES[1]), 3

    def sentences(self, classes: Sequence[str]) -> list[str]:
        """The sentence of each class. SettingError for a template without a place, and for classes that are called the same."""
        if "{label}" not in self.template:
            raise SettingError(f"The template {self.template[:60]!r} has no place for the class.", fix='write {label} into it: "a picture of a {label}"')
        found = [self.template.replace("{label}", in_words(label)) for label in classes]
        if len(set(found)) < len(found):
            raise SettingError("Two classes have the same sentence.", fix="call their folders by different words")
        return found

    def probabilities(self, x: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        texts, judge = self.sentences(classes), self._judge
        starts = range(0, len(texts), BATCH)
        of_texts = judge._vectors("get_text_features", [{"text": texts[i : i + BATCH], "padding": "max_length", "truncation": True} for i in starts])
        of_images = judge._vectors("get_image_features", [{"images": list(x[i : i + BATCH])} for i in range(0, len(x), BATCH)])
        logits = self._scale * of_images @ of_texts.T
        found = np.exp(logits - logits.max(axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)

    @cached_property
    def _judge(self) -> Similarity:
        return Similarity(self.model)

    @cached_property
    def _scale(self) -> float:
        """What the model was trained to multiply cosines by; it keeps the logarithm."""
        found = getattr(self._judge._loaded[0], "logit_scale", None)
        return SCALE if found is None else math.exp(float(found.detach()))
