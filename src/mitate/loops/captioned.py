"""Images with sentences as a ground for loops: any text-to-image pipeline with a LoRA, and any captioner; the lab's models and scenes unless told otherwise.

ground = Captioned()                                              scenes of the lab, painted and described by the lab's models
ground = Captioned(data="leaves/", model="my-pipeline/", describer="my-captioner/", scorer="my-clip/", device="cuda")
found  = collapse(ground, ground.loop(policy="replace", generations=6), seeds=3, out="runs/lab-loop")

In the lab real pairs are new scenes with full captions, people read as the oracle does, and the truth is known: EXACT names what only it, or a comparison with
generation 1, can tell. Of a folder (captions in its metadata.jsonl) a fifth of the images, by content, is held for measuring, or its test split, and real
pairs are drawn from the rest without replacement; of two draws they may be the same ones.

All agents of a side begin as the same base. `model` and `describer` may name several, separated by commas: agent i has name i, and round again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.captioners.learning import Learner, Lesson
from mitate.captioners.writers import open_captioner
from mitate.curation.judges import OURS, Similarity
from mitate.errors import DataError, SettingError
from mitate.loops import indicators as seen
from mitate.loops import scenes, wording
from mitate.loops.agents import Captioner, Decode, Generator, Samples, Seat
from mitate.loops.chance import chosen, seeds_of
from mitate.loops.loop import Loop
from mitate.loops.painters import Describer, Painter, Tuning
from mitate.runtime import seed_of
from mitate.settings import digest, plain

if TYPE_CHECKING:
    from mitate.generators.pipelines import Pipeline
    from mitate.images import ImageSet
    from mitate.lab.world import Scene, World

LAB = "lab"
N = 96  # pairs of a generation, unless told otherwise
HELD, SHARE = 200, 5  # real pairs that are held for measuring, at most; of a folder one image of so many
PROMPTS, EACH = 8, 2  # held captions that every generator paints in each generation, and images of each
ASKED = 32  # held images that every captioner describes in each generation
LEAST = 10  # images on either side of a comparison of features
NO_TEMPERATURE = "leave it at 1: guidance is the dial of images"
NO_PERSON = "give human=0, or caption them by hand: mitate review"
LARGEST = 256  # pixels that the feature extractor takes
OF_TRUTH = tuple(f"tv_{name}" for name in scenes.ATTRIBUTES) + ("drift", "tail", "amplification")
EXACT = ("survival", "faithful", "understood", "painted_right", "told_right", *(f"{side}_{what}" for side in ("image", "caption") for what in OF_TRUTH))


@dataclass(frozen=True)
class Captioned:
    """The ground. data: lab, or a folder; model, describer: the text-to-image model and the captioner, as they are opened elsewhere.

    rank, steps, rate, batch, guidance: of LoRAs of the image model (`Tuning`); captioner_steps, captioner_rate: of the captioner's lessons, with the same
    batch and, of a large one, the same rank. scorer: the image-text model that alignment is read from, in the lab lab-clip where none is named; chooser: one
    that a search goes by, where it is not the frozen captioner's likelihood. skew, bias: of the lab's world (`scenes.world_of`). weights: digest of models
    and data; others under the same names are an error.
    """

    data: str = LAB
    model: str = LAB
    describer: str = LAB
    scorer: str = ""
    chooser: str = ""
    style: str = "flat"
    skew: float = 1.0
    bias: float = 0.7
    rank: int = 8
    steps: int = 40
    rate: float = 1e-3
    batch: int = 16
    guidance: float = 0.0
    captioner_steps: int = 40
    captioner_rate: float = 3e-4
    device: str = "cpu"
    weights: str = ""

    name = "captioned"

    def __post_init__(self) -> None:
        _ = self.tuning, self.lesson, self.world
        if self.data != LAB and self.style != "flat":
            raise SettingError(f"The style {self.style!r} is one of the lab's drawings.", fix="leave it out where the data are a folder")
        if self.data != LAB and self.chooser and self.chooser == self.scorer:
            raise SettingError(f"{self.scorer} would judge what it has chosen itself.", fix="give another scorer, or another chooser")

    @property
    def tuning(self) -> Tuning:
        return Tuning(self.rank, self.steps, self.rate, self.batch, self.guidance)

    @property
    def lesson(self) -> Lesson:
        return Lesson(self.captioner_steps, self.batch, self.captioner_rate)

    @property
    def world(self) -> World:
        """Of the lab."""
        return scenes.world_of(skew=self.skew, bias=self.bias)

    @property
    def asked(self) -> dict[str, Any]:
        """The settings with the digest of what they name: what a run folder keeps."""
        return plain(replace(self, weights=self._models.digest))

    def loop(self, **settings: Any) -> Loop:
        """A loop on this ground, with as many pairs, denoising steps and tokens as are usual here where nothing else is said."""
        usual = {"n": N, "images": Decode(depth=self._models.pipelines[0].steps), "captions": Decode(depth=self._models.learners[0].longest)}
        return Loop(**{**usual, **settings})

    def notes(self, loop: Loop) -> list[str]:
        """What a loop asks for that has no effect here, in words. SettingError for what cannot be done."""
        if loop.setting != "captions" and loop.images.temperature != 1:
            raise SettingError(f"A pipeline has no temperature, and {loop.images.temperature:g} was asked for.", fix=NO_TEMPERATURE)
        if self.data != LAB and loop.human:
            raise SettingError(f"No person is here to write {loop.human} captions of {self.data} a generation.", fix=NO_PERSON)
        found = []
        if loop.setting != "images" and loop.captions.depth > (longest := self._models.learners[0].longest):
            found.append(f"depth={loop.captions.depth} of captions is cut to the {longest} tokens that the captioner writes; the cost counts what was asked")
        if self.chooser and max(loop.images.search, loop.captions.search) == 1:
            found.append(f"chooser={self.chooser} has nothing to choose from without a search")
        return found

    # a ground for loops -------------------------------------------------------------------------------------------------

    def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, size, size, 3] and text [n]. DataError where a folder has fewer."""
        if self.data == LAB:
            return scenes.drawn(self.world, n, size=self.size, style=self.style, seed=seed)[:2]
        there = self._models.folder[0]
        if n > len(there):
            raise DataError(f"{self.data} has {len(there)} images to learn from, and {n} are asked for.", fix=f"give an n of at most {len(there)}")
        return self._pairs(there.subset(chosen(len(there), n, "captioned", "draw", seed)))

    def generator(self, index: int) -> Generator:
        pipelines = self._models.pipelines
        return Painter(pipelines[index % len(pipelines)], self.tuning)

    def captioner(self, index: int) -> Captioner:
        learners = self._models.learners
        chooser = self._models.chooser
        return Describer(learners[index % len(learners)], self.lesson, chooser=None if chooser is None else lambda x, c: chooser.look(x, list(c)).score)

    def written(self, images: np.ndarray) -> np.ndarray:
        """What the oracle reads in an image, by the grammar. SettingError for a folder: nobody here could write it."""
        if self.data != LAB:
            raise SettingError(f"No person is here to write captions of {self.data}.", fix=NO_PERSON)
        return np.array([scenes.written(image, style=self.style) for image in images], dtype=np.str_)

    @property
    def held(self) -> tuple[np.ndarray, np.ndarray]:
        return self._held[:2]

    def indicators(
        self, made: Samples, first: Samples, generators: list[Seat[Generator]], captioners: list[Seat[Captioner]], *, exact: bool = True
    ) -> dict[str, float]:  # fmt: skip
        """All that can be told of a generation. exact: also the names in EXACT, where they can be told.

        Left out is what cannot be told: without a scorer what is between images and captions, of fewer than 10 pairs what compares features with held ones.
        """
        texts, images, scorer = [str(c) for c in made.captions], self._features(made.images), self._models.scorer
        words = [wording.words_of(t) for t in texts]
        found = {
            "variance": seen.variance(images), "entropy": seen.entropy(made.captions), "distinct": seen.distinct(made.captions),
            "word_entropy": wording.word_entropy(words), "distinct_1": seen.distinct_n(words, 1), "distinct_2": seen.distinct_n(words, 2),
            "self_bleu": wording.self_bleu(words), "length": float(np.mean([len(w) for w in words])), **self._likeness(images),
        }  # fmt: skip
        if scorer is not None:
            found |= _between(scorer.of_images(made.images), scorer.of_texts(texts), made.captions)
        probes = [self._painted(seat.agent) for seat in generators]
        if probes:
            groups = np.repeat(np.arange(PROMPTS), EACH)[: len(probes[0])]
            found["within_variance"] = float(np.mean([seen.within_variance(self._features(x), groups) for x in probes]))
        told = [self._told(seat.agent) for seat in captioners]
        if len(told) > 1 and scorer is not None:
            found["disagreement"] = wording.dissent([scorer.of_texts(t) for t in told])
        if exact:
            found["survival"] = wording.word_survival(words, [wording.words_of(str(c)) for c in first.captions])
            if self.data == LAB:
                found |= self._against_truth(made.images, texts, probes, told)
        return found

    # ----------------------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Pixels of a side of all images. SettingError where models paint different ones."""
        sizes = {pipeline.size for pipeline in self._models.pipelines}
        if len(sizes) > 1:
            raise SettingError(f"These models paint {' and '.join(map(str, sorted(sizes)))} pixels.", fix="give models of one size")
        return sizes.pop()

    @cached_property
    def _models(self) -> _Models:
        return _Models(self)

    @cached_property
    def _held(self) -> tuple[np.ndarray, np.ndarray, list[Scene]]:
        if self.data == LAB:
            return scenes.drawn(self.world, HELD, size=self.size, style=self.style, seed=seed_of("captioned", "held"))
        return (*self._pairs(self._models.folder[1]), [])

    @cached_property
    def _held_features(self) -> np.ndarray:
        return self._features(self.held[0])

    @cached_property
    def _truth(self) -> scenes.Truth:
        return scenes.Truth(self.world)

    def _pairs(self, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        return images.pixels(size=self.size, channels=3), np.array([" ".join(c.split()) for c in images.captions or ()], dtype=np.str_)

    def _features(self, images: np.ndarray) -> np.ndarray:
        """float64 [n, d], by the default extractor."""
        from mitate.codec import resize
        from mitate.features.extractor import extractor

        if self.size > LARGEST:
            images = np.stack([resize(image, LARGEST, 3) for image in images])
        return extractor()(images).astype(np.float64)

    def _likeness(self, images: np.ndarray) -> dict[str, float]:
        """Recall, coverage and kernel distance of features to those of held images; nothing for fewer than LEAST."""
        from mitate.metrics.kernel import kernel_distance
        from mitate.metrics.neighbours import coverage, neighbourhood, recall

        if min(len(images), len(self._held_features)) < LEAST:
            return {}
        near = neighbourhood(self._held_features, images)
        return {"recall": recall(near).value, "coverage": coverage(near), "kernel_distance": kernel_distance(self._held_features, images).value}

    def _painted(self, agent: Generator) -> np.ndarray:
        """EACH images of PROMPTS held captions, always from the same seeds."""
        prompts = np.repeat(self.held[1][:PROMPTS], EACH)
        return agent.generate(prompts, seeds_of(len(prompts), "captioned", "probe"), Decode(depth=self._models.pipelines[0].steps))

    def _told(self, agent: Captioner) -> list[str]:
        """Captions of ASKED held images, always from the same seeds."""
        images = self.held[0][:ASKED]
        return [str(c) for c in agent.describe(images, seeds_of(len(images), "captioned", "asked"), Decode(depth=self._models.learners[0].longest))]

    def _against_truth(self, images: np.ndarray, texts: Sequence[str], probes: Sequence[np.ndarray], told: Sequence[Sequence[str]]) -> dict[str, float]:
        """faithful: images that are what their captions say; understood: captions of the lab; painted_right: the agents' images of held captions; told_right:
        their captions of held images; all shares of questions, or of captions. The rest: `scenes.Truth`."""
        prompts, shown = scenes.understood(texts), scenes.scenes_of(images, style=self.style)
        found = {"faithful": scenes.right(prompts, shown), "understood": float(np.mean([p is not None for p in prompts]))}
        found |= self._truth.of_images(shown) | self._truth.of_captions(prompts)
        if probes:
            wanted = scenes.understood(list(np.repeat(self.held[1][:PROMPTS], EACH)))
            found["painted_right"] = float(np.mean([scenes.right(wanted, scenes.scenes_of(x, style=self.style)) for x in probes]))
        if told:
            found["told_right"] = float(np.mean([scenes.right(scenes.understood(t), self._held[2][:ASKED]) for t in told]))
        return found


def _between(shown: np.ndarray, said: np.ndarray, captions: np.ndarray) -> dict[str, float]:
    """Alignment, retrieval and how far captions lie apart, from unit vectors of images and captions, [n, d] both."""
    mean, sd = seen.alignment((shown * said).sum(1))
    by_image, by_caption = wording.retrieval(shown, said, captions)
    return {"alignment": mean, "alignment_sd": sd, "caption_found": by_image, "image_found": by_caption, "text_variance": seen.variance(said)}


class _Models:
    """What a ground's names stand for, each opened once. DataError where it is not what `weights` says."""

    def __init__(self, ground: Captioned) -> None:
        from mitate.generators.pipelines import open_pipeline
        from mitate.generators.places import Place

        place = Place(device=ground.device)
        self.pipelines: list[Pipeline] = [open_pipeline(name, place) for name in _names(ground.model)]
        self.learners = [Learner(open_captioner(_found(name)), rank=ground.rank, device=ground.device) for name in _names(ground.describer)]
        scorer = ground.scorer or (OURS if ground.data == LAB else "")
        self.scorer = Similarity(_found(scorer)) if scorer else None
        self.chooser = Similarity(_found(ground.chooser)) if ground.chooser else None
        self.data = ground.data
        judges = [judge.digest if judge is not None else "" for judge in (self.scorer, self.chooser)]
        data = "" if ground.data == LAB else digest("mitate.captioned data", [part.digest for part in self.folder])
        agents = [[p.digest for p in self.pipelines], [learner.captioner.digest for learner in self.learners]]
        self.digest = digest("mitate.captioned", [agents, judges, data])
        if ground.weights and ground.weights != self.digest:
            raise DataError("The models or images of this loop are others than when it began.", fix="put them back, or begin again with another --out")

    @cached_property
    def folder(self) -> tuple[ImageSet, ImageSet]:
        """Images to learn from and those that are held; copies of one image are all on the same side."""
        from mitate.intake.opening import open_images

        images = open_images(self.data)
        if lost := sum(not c.strip() for c in images.captions or [""] * len(images)):
            raise DataError(f"{lost} of {len(images)} images of {self.data} have no caption.", fix="write one for each into its metadata.jsonl")
        try:
            test = set(open_images(self.data, split="test").digests)
        except SettingError:  # it has splits, and none of them is for tests
            test = set()
        whole = not test or test == set(images.digests)
        held = {d for d in images.digests if (seed_of("captioned held", d) % SHARE == 0 if whole else d in test)}
        sides = [[i for i, d in enumerate(images.digests) if (d in held) == side] for side in (False, True)]
        if not all(sides):
            raise DataError(f"{self.data} has {len(images)} images, too few to hold some for measuring.", fix="give more images")
        return images.subset(sides[0]), images.subset(sides[1][:HELD])


def _names(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise SettingError(f"{text!r} names an empty model.", fix="write names separated by commas")
    return found


def _found(name: str) -> str:
    """A folder, or the name as it is; a name of the hub is fetched."""
    from mitate.generators.places import fetch_model, is_hub_name

    return str(fetch_model(name)) if is_hub_name(name) else name
