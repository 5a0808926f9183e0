"""Agents that are networks: a text-to-image pipeline with a LoRA, and a captioner. What is frozen is in memory once, however many agents stand on it.

Painter     captions -> images. The pipeline stays as it is; an agent's state is its LoRA (generators/lora.py), put on for each call and taken off again.
            No LoRA yet is the pipeline itself. A fit goes on from the LoRA that the agent has.
Describer   images -> captions. The state is what the captioner learns in (captioners/learning.py): all weights of a small one, a LoRA of a large one.

An image depends on caption, seed and LoRA alone, a caption on image, seed and weights alone. Depth is denoising steps, and tokens of a caption (its end
included). Temperature sharpens or flattens captions; a pipeline has none, so any but 1 is refused for images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mitate.captioners.learning import Learner, Lesson
from mitate.errors import SettingError
from mitate.loops.agents import Decode, Score, State
from mitate.loops.chance import uniforms
from mitate.progress import Silent

if TYPE_CHECKING:
    from mitate.generators.pipelines import Pipeline

DROPOUT, CLIP = 0.1, 1.0  # of a LoRA's fit: share of sentences left empty, largest norm of the gradient; as for experts of skills


@dataclass(frozen=True)
class Tuning:
    """How a LoRA is learnt in one generation, and the guidance that is painted with (0: the pipeline's own; 1: none)."""

    rank: int = 8
    steps: int = 40
    rate: float = 1e-3
    batch: int = 16
    guidance: float = 0.0

    def __post_init__(self) -> None:
        if min(self.rank, self.steps, self.batch) < 1 or not 0 < self.rate < 1 or not (self.guidance == 0 or self.guidance >= 1):
            told = f"rank={self.rank}, steps={self.steps}, batch={self.batch}, rate={self.rate:g}, guidance={self.guidance:g} cannot be."
            raise SettingError(told, fix="give counts of 1 or more, a rate between 0 and 1, and a guidance of 0 or from 1")


@dataclass
class Painter:
    """A generator agent. lora: tensors by name as `load_lora_weights` takes them, float32; empty before the first fit."""

    pipeline: Pipeline
    tuning: Tuning = field(default_factory=Tuning)
    lora: dict[str, np.ndarray] = field(default_factory=dict)
    architecture: str = field(init=False)

    def __post_init__(self) -> None:
        self.architecture = f"pipeline {self.pipeline.digest[:12]}"

    def generate(self, captions: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        """uint8 [n, size, size, 3]. Of a caption that is longer than the pipeline reads, the last words are left out."""
        from mitate.generators.learnt import Learnt
        from mitate.generators.pipelines import How

        if decode.temperature != 1:
            raise SettingError(f"A pipeline has no temperature, and {decode.temperature:g} was asked for.", fix="leave it at 1; guidance is the dial of images")
        how = How(steps=decode.depth, guidance=self.tuning.guidance)
        with tempfile.TemporaryDirectory() as folder:
            learnt = Learnt(lora=self._written(Path(folder)))
            return self.pipeline.paint(fitting(self.pipeline, captions), [int(s) for s in seeds], how, learnt=learnt)

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int) -> None:
        import torch

        from mitate.generators.inversion import Effort, Told
        from mitate.generators.lora import tune
        from mitate.runtime import torch_threads

        t, sentences = self.tuning, fitting(self.pipeline, captions)
        told, nothing = Told(images, np.arange(len(images)), sentences), Told(images[:0], np.arange(0), ())
        with tempfile.TemporaryDirectory() as folder, torch_threads(), torch.random.fork_rng(devices=[]):
            tensors, _ = tune(
                self.pipeline.loaded, told, nothing, Effort(t.steps, t.batch, t.rate, checks=1, patience=0), rank=t.rank, size=self.pipeline.size, seed=seed,
                checkpoint=Path(folder) / "fit", progress=Silent(), dropout=DROPOUT, clip=CLIP, start=self._written(Path(folder)),
            )  # fmt: skip
        self.lora = {name: tensor.float().cpu().numpy().copy() for name, tensor in tensors.items()}

    def _written(self, folder: Path) -> Path | None:
        """The LoRA as a file; None where there is none yet."""
        if not self.lora:
            return None
        from safetensors.numpy import save_file

        file = folder / "lora.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in self.lora.items()}, file)
        return file

    def clone(self) -> Self:
        return type(self)(self.pipeline, self.tuning, {name: array.copy() for name, array in self.lora.items()})

    def state(self) -> State:
        return dict(self.lora)

    def restore(self, state: State) -> None:
        self.lora = {name: np.array(array) for name, array in state.items()}


@dataclass
class Describer:
    """A captioner agent. weights: as `Learner.start` has them. chooser: what a search goes by instead of the agent's own likelihood."""

    learner: Learner
    lesson: Lesson = field(default_factory=Lesson)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    chooser: Score | None = None
    architecture: str = field(init=False)

    def __post_init__(self) -> None:
        self.weights = self.weights or self.learner.start
        self.architecture = f"captioner {self.learner.captioner.digest[:12]}"

    def describe(self, images: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        """Text [n], drawn token by token."""
        chance = uniforms(seeds, min(decode.depth, self.learner.longest))
        return np.array(self.learner.describe(self.weights, images, chance, temperature=decode.temperature), dtype=np.str_)

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Mean log probability of a caption's tokens given its image, float64 [n]; the chooser's own score where there is one."""
        if self.chooser is not None:
            return self.chooser(images, captions)
        return self._mean(images, captions)

    def confidence(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Geometric mean of the probabilities of a caption's tokens, 0 to 1, float64 [n]."""
        return np.exp(self._mean(images, captions))

    def _mean(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        total, tokens = self.learner.likelihood(self.weights, images, list(captions))
        return total / tokens

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int) -> None:
        self.weights = self.learner.fit(self.weights, images, list(captions), self.lesson, seed=seed)

    def clone(self) -> Self:
        return type(self)(self.learner, self.lesson, {name: array.copy() for name, array in self.weights.items()}, self.chooser)

    def state(self) -> State:
        return dict(self.weights)

    def restore(self, state: State) -> None:
        self.weights = {name: np.array(array) for name, array in state.items()}


def fitting(pipeline: Pipeline, captions: Sequence[str] | np.ndarray) -> list[str]:
    """Captions without the last words (of a single word, letters) that the pipeline's first text encoder would not read."""
    from mitate.generators.pipelines import LONGEST

    words: Any = getattr(pipeline.loaded, "tokenizer", None)
    most = getattr(words, "model_max_length", 0)
    if not callable(words) or not 0 < most < LONGEST:
        return [str(c) for c in captions]

    def long(text: str) -> bool:
        return len(words(text, verbose=False).input_ids) > most

    found = []
    for text in map(str, captions):
        while long(text):
            text = text.rpartition(" ")[0] or text[:-1]
        found.append(text)
    return found
