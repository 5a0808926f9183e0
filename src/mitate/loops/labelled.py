"""A labelled image set as a ground: generators and classifiers, from scratch, that train on what they made. A caption is a class's number.

pool         real pairs that loops draw from, as if newly collected
reference    real pairs that features are compared with, and that the scorer (a classifier, none of the agents) learns from
test         real pairs on which utility is measured; the alarm does without it

The parts are the house's own splits by content (`intake/splits`): no picture is in two of them, and agents learn from the pool alone. A pool has an end: within
a draw no pair comes twice, two draws overlap, the more the larger n is beside the pool. So `real` and `fresh` know a little less than an endless supply would.
The agents are those of `scratch`: a kind of generator that is fitted anew each time, and a small classifier that goes on from where it stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate import registry
from mitate.errors import DataError, JobError, SettingError
from mitate.generator import Pixels
from mitate.loops import indicators as seen
from mitate.loops.agents import Captioner, Decode, Generator, Samples, Seat
from mitate.loops.chance import chosen, seeds_of, uniforms
from mitate.loops.loop import Loop
from mitate.loops.scratch import Labels, Refitted, dialled, log_softmax, logits, trained
from mitate.runtime import seed_of, torch_threads
from mitate.settings import digest, plain, record, suggest

if TYPE_CHECKING:
    from mitate.images import ImageSet
    from mitate.training.backbones import Classifier

EXACT = ("utility",)  # what only real test data can tell
PRESET = 500  # images that a kind's own settings are taken for, whatever n is: then policies differ by their data alone
MOST_SIDE = 64  # pixels, unless asked for more
MOST_REFERENCE, MOST_TEST = 1000, 2000  # images, about evenly of all classes
MEASURED = 500  # pairs of a generation that are measured: features are compared at equal n, however many samples are kept
CELLS = 100  # of the reference's features, at most
RARE = 0.25  # of these cells, the emptiest are the tail


@dataclass(frozen=True)
class Parts:
    """The images of a ground at its size, and the digest of all that indicators follow from beside the agents."""

    pool: Pixels
    reference: Pixels
    test: Pixels
    content: str
    names: tuple[str, ...]  # of classes


@dataclass(frozen=True)
class Labelled:
    """A labelled image set as a ground for loops (`mitate.loops.loop.Ground`).

    data: what `mitate.intake` opens. kind: of the generator, one that is fitted from scratch; settings: its own, over its preset. features: an extractor.
    size: pixels (0: the images' own, at most 64). seed: of the splits. classifier_steps: of each training of a classifier (captioner, utility; twice as many
    for the scorer). content: digest that images and features had; others are refused. named: names of the classes, for whoever reads a run folder.
    """

    data: str
    kind: str = "vae"
    settings: Mapping[str, Any] = field(default_factory=dict)
    features: str = "mitate-small"
    size: int = 0
    seed: int = 0
    classifier_steps: int = 150
    content: str = ""
    named: tuple[str, ...] = ()

    name = "labelled"

    def __post_init__(self) -> None:
        known = generator_kinds()
        if self.kind not in known:
            raise SettingError(f"There is no generator {self.kind!r} for loops.", fix=suggest(self.kind, known))
        if self.classifier_steps < 1 or not (self.size == 0 or 8 <= self.size <= 256):
            told = f"size={self.size}, classifier_steps={self.classifier_steps} cannot be."
            raise SettingError(told, fix="give a size of 8 to 256 pixels or 0, and 1 or more steps")
        if getattr(self.kind_for((16, 16, 1)), "epsilon", 0):
            raise SettingError("Private fits are not looped: what a later generation costs is not counted.", fix="leave epsilon out")

    def kind_for(self, shape: tuple[int, int, int]) -> Any:
        """The generator's settings for images of a shape: its preset, and over it what was asked for."""
        found = registry.find("generator", self.kind)
        preset = found.default_for(shape, PRESET) if hasattr(found, "default_for") else found()
        return record(found, {**plain(preset), **self.settings}, where=f"generator {self.kind}")

    @property
    def asked(self) -> dict[str, Any]:
        """Its settings with the digest of its images: what a run folder keeps."""
        return plain(dataclasses.replace(self, content=self.parts.content, named=self.parts.names))

    @cached_property
    def parts(self) -> Parts:
        """Pool, reference and test. DataError where images have no class, or are no longer those of `content`."""
        found = _opened(self)
        if self.content and self.content != found.content:
            raise DataError(f"{self.data} or its features are not what they were in this loop.", fix="give the same images, or another --out")
        return found

    @property
    def classes(self) -> int:
        return self.parts.pool.n_classes

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.parts.pool.x.shape[1:]
        return height, width, channels

    # what loops ask of a ground -------------------------------------------------------------------------------------------

    def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """n real pairs of the pool, none twice: uint8 [n, h, w, c], int64 [n]. Every class comes at least once where n allows it.

        SettingError where the pool has fewer.
        """
        x, y = self.parts.pool.x, self.parts.pool.y
        if n > len(x):
            raise SettingError(f"{n} real pairs are more than the {len(x)} of {self.data} to draw from.", fix=f"give --n {len(x)} or less, or more images")
        order = np.argsort(seeds_of(len(x), "labelled", seed), kind="stable")
        first = np.unique(y[order], return_index=True)[1]
        places = np.concatenate([first, np.setdiff1d(np.arange(len(x)), first)])[:n] if n >= len(first) else np.arange(n)
        rows = order[np.sort(places)]
        return x[rows], y[rows]

    def generator(self, index: int) -> Generator:
        return Refitted(self.kind_for(self.shape), self.kind)

    def captioner(self, index: int) -> Captioner:
        return Labels(self.shape, self.classes, self.classifier_steps)

    def written(self, images: np.ndarray) -> np.ndarray:
        """The class that the scorer thinks likeliest: nobody knows what a made image shows, so it stands in for a person."""
        return logits(self._scorer, images).argmax(axis=1)

    @cached_property
    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference and test."""
        reference, test = self.parts.reference, self.parts.test
        return np.concatenate([reference.x, test.x]), np.concatenate([reference.y, test.y])

    def loop(self, **settings: Any) -> Loop:
        """A loop on this ground. Where nothing else is said, images take as many sampling steps as the kind has of its own, and captions one pass."""
        usual = {"images": Decode(depth=getattr(self.kind_for(self.shape), "sample_steps", 1)), "captions": Decode(depth=1)}
        return Loop(**{**usual, **settings})

    def notes(self, loop: Loop) -> list[str]:
        """Dials of a loop that turn nothing here, in words. SettingError for a temperature of images that the generator does not have."""
        kind, found = self.kind_for(self.shape), []
        if loop.setting != "captions":
            dialled(kind, loop.images, self.kind)
            if loop.images.depth > 1 and not hasattr(kind, "sample_steps"):
                found.append(f"depth={loop.images.depth} has no effect on {self.kind}, which draws in one pass; the cost counts it")
        if loop.setting != "images" and loop.captions.depth > 1:
            found.append(f"depth={loop.captions.depth} has no effect on a classifier, which reads in one pass; the cost counts it")
        return found

    def indicators(
        self, made: Samples, first: Samples, generators: list[Seat[Generator]], captioners: list[Seat[Captioner]], *, exact: bool = True
    ) -> dict[str, float]:  # fmt: skip
        """All that can be told of a generation, from at most 500 of its pairs; exact: also utility, for which real test data are needed."""
        from mitate.metrics.kernel import kernel_distance
        from mitate.metrics.neighbours import LEAST, coverage, neighbourhood, precision, recall
        from mitate.metrics.vendi import vendi

        if len(made) < LEAST:
            raise JobError(f"{len(made)} pairs are too few to be measured.", fix=f"give an n of {LEAST} or more, or a milder keep rule")
        rows = chosen(len(made), MEASURED, "labelled", "measured")
        images, captions = made.images[rows], made.captions[rows]
        with torch_threads():
            features = self._extractor(images).astype(np.float64)
            near = neighbourhood(self._reference, features)
            scored = np.exp(log_softmax(logits(self._scorer, images)))[np.arange(len(captions)), captions]
            mean, sd = seen.alignment(scored)
            found = {
                "variance": seen.variance(features), "within_variance": seen.within_variance(features, captions),
                "kernel_distance": kernel_distance(self._reference, features).value, "precision": precision(near).value, "recall": recall(near).value,
                "coverage": coverage(near), "vendi": vendi(features), "tail": seen.tail_recall(_cell(features, self._cells), self._rare),
                "alignment": mean, "alignment_sd": sd, "entropy": seen.entropy(captions), "distinct": seen.distinct(captions),
                "caption_variance": seen.caption_variance(captions), "class_drift": seen.attribute_drift(captions, self._shares),
            }  # fmt: skip
            if len(captioners) > 1:
                shown, seeds = self.parts.reference.x, seeds_of(len(self.parts.reference.x), "labelled", "alike")
                found["disagreement"] = seen.disagreement(np.stack([s.agent.describe(shown, seeds, Decode(depth=1)) for s in captioners]))
            if exact:
                found["utility"] = self._utility(made)
        return found

    def _utility(self, made: Samples) -> float:
        """Accuracy on real test images of a classifier that learnt from the generation's pairs, from 0 to 1."""
        seed = seed_of("labelled", self.seed, "utility")
        net = trained(made.images, made.captions, self.classes, steps=self.classifier_steps, seed=seed)
        return float((logits(net, self.parts.test.x).argmax(axis=1) == self.parts.test.y).mean())

    @cached_property
    def _scorer(self) -> Classifier:
        reference = self.parts.reference
        return trained(reference.x, reference.y, self.classes, steps=2 * self.classifier_steps, seed=seed_of("labelled", self.seed, "scorer"))

    @cached_property
    def _extractor(self) -> Any:
        from mitate.features.extractor import extractor

        return extractor(self.features)

    @cached_property
    def _reference(self) -> np.ndarray:
        """Features of the reference, float64 [n, d]."""
        return self._extractor(self.parts.reference.x).astype(np.float64)

    @cached_property
    def _cells(self) -> np.ndarray:
        """Centres of the reference's cells, float64 [k, d]."""
        return cells(self._reference, min(CELLS, max(2, len(self._reference) // 5)), seed=seed_of("labelled", self.seed, "cells"))

    @cached_property
    def _rare(self) -> np.ndarray:
        """Numbers of the cells in which the fewest real images lie."""
        counts = np.bincount(_cell(self._reference, self._cells), minlength=len(self._cells))
        return seen.tail_of(counts / counts.sum(), share=RARE)

    @cached_property
    def _shares(self) -> np.ndarray:
        """Of classes in the pool, float64 [classes]."""
        return np.bincount(self.parts.pool.y, minlength=self.classes) / len(self.parts.pool.y)


def generator_kinds() -> list[str]:
    """Kinds of generators that are fitted from scratch, by name."""
    return [name for name in registry.names("generator") if name not in registry.ON_TOP]


# images ---------------------------------------------------------------------------------------------------------------


def _opened(asked: Labelled) -> Parts:
    from mitate.features.extractor import extractor
    from mitate.intake.opening import open_data

    splits = open_data(asked.data, seed=asked.seed).splits
    sets: list[ImageSet] = [splits.train, splits.selection, splits.holdout, splits.test]
    if unlabelled := sum(k < 0 for part in sets for k in part.labels):
        raise DataError(f"{unlabelled} images of {asked.data} have no class.", fix="put images into one folder a class, or name labels in metadata.jsonl")
    shapes = [splits.train.reader.read(i).shape for i in range(min(len(splits.train), 50))]
    side, channels = asked.size or max(8, min(MOST_SIDE, min(min(s[:2]) for s in shapes))), max(s[2] for s in shapes)
    classes = len(splits.train.classes)
    most = (MOST_REFERENCE // 2, MOST_REFERENCE // 2, MOST_TEST)
    few = [part.few(max(2, count // classes), seed=asked.seed) for part, count in zip(sets[1:], most, strict=True)]
    pool, selection, holdout, test = (Pixels.of(part, size=side, channels=channels) for part in (splits.train, *few))
    reference = Pixels(np.concatenate([selection.x, holdout.x]), np.concatenate([selection.y, holdout.y]), classes)
    held = {image.tobytes() for part in (reference, test) for image in part.x}
    own = np.array([image.tobytes() not in held for image in pool.x])  # other pictures may be the same at this size
    content = digest("mitate.labelled", [part.digest for part in (splits.train, *few)] + [extractor(asked.features).digest])
    return Parts(Pixels(pool.x[own], pool.y[own], classes), reference, test, content, tuple(splits.train.classes))


def cells(points: np.ndarray, k: int, *, seed: int, rounds: int = 20) -> np.ndarray:
    """Centres of k cells of points [n, d], float64 [k, d]: Lloyd's k-means after the first centres of Arthur and Vassilvitskii 2007. A cell that is left
    without points stays where it is.
    """
    chance = uniforms(seeds_of(1, "cells", seed), k)[0]
    centres = points[[int(chance[0] * len(points))]]
    for u in chance[1:]:
        share = np.cumsum(_squares(points, centres).min(axis=1))
        centres = np.concatenate([centres, points[[min(int(np.searchsorted(share, u * share[-1], side="right")), len(points) - 1)]]])
    for _ in range(rounds):
        own = _cell(points, centres)
        counts = np.bincount(own, minlength=k)
        sums = np.zeros_like(centres)
        np.add.at(sums, own, points)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return centres


def _cell(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each point, int64 [n]."""
    return _squares(points, centres).argmin(axis=1)


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    found = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.maximum(found, 0.0)
