"""A text-to-image pipeline as a generator of classes: a sentence for each class, and in it, if wanted, the look of the real set.

TextToImage.of("lab", classes)                      plain sentences; nothing is learnt
TextToImage.of("my-model/", classes, style="learnt")    one word for the set's look, by dataset style inversion (inversion.py)

style: `none`; `learnt`; and what it must be compared with: `untrained`, the same sentence with the word as it begins; `each-class`, a word of its own for
each class, by as many steps; `lora`, low-rank changes of the model, by as many steps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from safetensors.torch import save_file

from mitate.codec import resize
from mitate.errors import DataError, SettingError
from mitate.fitting import Log
from mitate.generator import Pixels, in_words
from mitate.generators import inversion
from mitate.generators.learnt import LORA, WORDS, Learnt
from mitate.generators.lora import tune
from mitate.generators.packing import check
from mitate.generators.pipelines import How, Pipeline, opened
from mitate.generators.places import Place, is_hub_name, is_pipeline
from mitate.generators.tokens import Words
from mitate.progress import Progress
from mitate.runtime import seed_of, torch_threads
from mitate.settings import suggest

STYLES = ("none", "untrained", "learnt", "each-class", "lora")
TRAINED = ("learnt", "each-class", "lora")
SHORT = {"style": "learnt", "untrained": "untrained", "each-class": "each-class", "lora": "lora"}  # as typed after a model's name
LEARNING = 600  # steps, unless told otherwise
WORD = "<style>"


@dataclass(frozen=True)
class TextToImage:
    """Settings of a pipeline as a generator. `steps` is the work of learning a style; it is 1 where none is learnt."""

    version: ClassVar[int] = 2
    most_size: ClassVar[int] = 1024  # pixels

    model: str = "lab"  # as `open_pipeline` takes it
    weights: str = ""  # the pipeline's digest: another model under the same name is an error
    words: tuple[str, ...] = ()  # what each class is called in a sentence
    template: str = ""  # with {label}, and {style} where there is one
    style: str = "none"
    steps: int = 1
    batch: int = 16
    rate: float = 0.15  # of a step, in spreads of the model's table of words; of a LoRA 1e-3 times (rate / 0.15)
    vectors: int = 1  # of a word
    start: str = "photo"  # a plain word that the vectors begin as
    rank: int = 4  # of a LoRA
    checks: int = 10  # looks at the selection loss
    patience: int = 4  # looks without a better loss before learning ends; 0 for never
    sample_steps: int = 0  # of the sampler; 0 for the pipeline's own
    guidance: float = 0.0  # 0 for the pipeline's own, 1 for none
    negative: str = ""
    sampler: str = ""
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise SettingError(f"There is no style {self.style!r}.", fix=suggest(self.style, STYLES))
        if min(self.steps, self.batch, self.vectors, self.rank, self.checks) < 1 or not self.rate > 0 or self.patience < 0:
            raise SettingError("Settings of a text-to-image generator are out of range.", fix="give counts of 1 or more, and a rate above 0")
        _ = self.how

    @property
    def place(self) -> Place:
        return Place(device=self.device, precision=self.precision)

    @property
    def how(self) -> How:
        return How(steps=self.sample_steps, guidance=self.guidance, negative=self.negative, sampler=self.sampler)

    @classmethod
    def of(cls, model: str, classes: Sequence[str], *, style: str = "none", steps: int = 0, **settings: Any) -> TextToImage:
        """The settings for a model and classes by name. steps: of learning (default: LEARNING)."""
        return cls(model=model, style=style, steps=steps or (LEARNING if style in TRAINED else 1), **settings).bound(classes)

    def bound(self, classes: Sequence[str]) -> TextToImage:
        """The same with what is left open fixed: the model's digest, its template, what the classes are called; steps where nothing is learnt: 1."""
        model = placed(self.model)
        pipeline = opened(model, self.place)
        styled = self.style not in ("none", "lora")
        template = self.template or (pipeline.styled if styled else pipeline.template)
        if "{label}" not in template or ("{style}" in template) != styled:
            wanted = "{label} and {style}" if styled else "{label}, and no {style}"
            raise SettingError(f"The template {template!r} does not go with the style {self.style!r}.", fix=f"write {wanted} into it")
        how, words = pipeline.settled(self.how), self.words or tuple(in_words(c) for c in classes)
        made = replace(
            self, model=model, weights=self.weights or pipeline.digest, template=template, words=words, sample_steps=how.steps, guidance=how.guidance,
            steps=self.steps if self.style in TRAINED else 1,
        )  # fmt: skip
        sentences = [made.sentence(k) for k in range(len(words))]
        if len(set(sentences)) < len(sentences):
            raise SettingError("Two classes have the same sentence.", fix="call their folders by different words")
        pipeline.check(sentences, how, Learnt(made.begun(pipeline)) if styled else Learnt())
        return made

    def begun(self, pipeline: Pipeline) -> Words:
        """The words of its sentences as they are before any step."""
        return inversion.untrained(pipeline.loaded, words=self.learned, start=self.start, vectors=self.vectors)

    @property
    def opened(self) -> Pipeline:
        """The pipeline where it shall run. DataError where it is another one than `weights` says."""
        pipeline = opened(self.model, self.place)
        if self.weights and pipeline.digest != self.weights:
            raise DataError(f"The model {self.model} is another one than when this was planned.", fix="put it back, or plan again with another --out")
        return pipeline

    def sentence(self, k: int) -> str:
        """What is asked for class k."""
        return self.template.replace("{label}", self.words[k]).replace("{style}", self.word(k))

    @property
    def learned(self) -> list[str]:
        """The learned words of its sentences, each once."""
        return list(dict.fromkeys(self.word(k) for k in range(len(self.words))))

    def word(self, k: int) -> str:
        """The learned word in the sentence of class k."""
        return class_word(self.words[k]) if self.style == "each-class" else WORD

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        shape = check(train, selection)
        if len(self.words) != train.n_classes:
            message = f"{train.n_classes} classes have {len(self.words)} names."
            raise SettingError(message, fix="name what each class is called, in the order of the classes: TextToImage.of(model, classes)")
        pipeline = self.opened
        effort = inversion.Effort(self.steps, self.batch, self.rate, self.checks, self.patience)
        told, seen = (inversion.Told(p.x, p.y, [self.sentence(k) for k in range(p.n_classes)]) for p in (train, selection))
        words, log, tensors = None, Log(steps=1, best_step=1), None
        how: dict[str, Any] = {"size": pipeline.size, "seed": seed, "checkpoint": checkpoint, "progress": progress}
        folder.mkdir(parents=True, exist_ok=True)
        with torch_threads(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("init", seed))
            if self.style == "lora":
                effort = replace(effort, rate=self.rate / 0.15 * 1e-3)
                tensors, log = tune(pipeline.loaded, told, seen, effort, rank=self.rank, **how)
            elif self.style == "untrained":
                words = self.begun(pipeline)
            elif self.style != "none":
                words, log = inversion.invert(pipeline.loaded, told, seen, effort, words=self.learned, start=self.start, vectors=self.vectors, **how)
        if words is not None:
            words.write(folder / WORDS)
        if tensors is not None:
            save_file(tensors, folder / LORA)
        (folder / "generator.json").write_text(json.dumps({"shape": list(shape), "n_classes": train.n_classes}, sort_keys=True) + "\n")
        progress.step(self.steps, self.steps)
        learnt = sum(v.size for vs in words.vectors.values() for v in vs) if words is not None else sum(t.numel() for t in (tensors or {}).values())
        return {"parameters": learnt, "base": pipeline.digest, **asdict(log)}

    def load(self, folder: Path) -> Painter:
        facts = json.loads((folder / "generator.json").read_text())
        learnt = Learnt.of_fit(folder)
        if self.style not in ("none", "lora") and (learnt.words is None or not set(self.learned) <= set(learnt.words.vectors)):
            raise DataError(f"{folder} does not hold the words of its sentences.", fix="fit it again")
        return Painter(self, self.opened, tuple(facts["shape"]), facts["n_classes"], learnt)


class Sentences(Protocol):
    """What a class is asked for by."""

    @property
    def how(self) -> How: ...

    def sentence(self, k: int) -> str: ...


class Painter:
    """A pipeline that draws classes, at the size of the images it stands in for."""

    def __init__(self, kind: Sentences, pipeline: Pipeline, shape: tuple[int, ...], n_classes: int, learnt: Learnt) -> None:
        assert len(shape) == 3
        self.kind, self.pipeline, self.learnt = kind, pipeline, learnt
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.n_classes = n_classes

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        sentences = [self.kind.sentence(int(k)) for k in conditions]
        x = self.pipeline.paint(sentences, [int(s) for s in seeds], self.kind.how, learnt=self.learnt)
        if x.shape[1:] == self.shape:
            return x
        if self.shape[0] == self.shape[1]:
            return np.stack([resize(image, self.shape[0], self.shape[2]) for image in x]) if len(x) else np.zeros((0, *self.shape), np.uint8)
        raise DataError(f"A text-to-image model paints squares, not {self.shape[0]} x {self.shape[1]} pixels.", fix="give a --size")


def placed(model: str) -> str:
    """A model's name that means the same wherever a job runs: a folder's whole path."""
    return model if model == "lab" or is_hub_name(model) else str(Path(model).resolve())


def class_word(called: str) -> str:
    """The learned word of a class that is called so, where each class has its own."""
    return f"<style-{'-'.join(called.split())}>"


def named(name: str) -> tuple[str, str, float] | None:
    """(model, style, guidance) of a generator's name as typed: `lab`, `lab+style`, `my-model/+untrained`, `lab@2+style`; None where it is no such name.

    Guidance 0 is the model's own. A model is `lab`, a folder of a pipeline, or a name of the hub.
    """
    model, plus, style = name.rpartition("+") if name.rpartition("+")[2] in SHORT else (name, "", "")
    model, at, told = model.rpartition("@") if _number(model.rpartition("@")[2]) else (model, "", "")
    if model != "lab" and not is_pipeline(Path(model)) and not is_hub_name(model):
        return None
    return model, SHORT[style] if plus else "none", float(told) if at else 0.0


def _number(text: str) -> bool:
    try:
        return 1 <= float(text) < float("inf")
    except ValueError:
        return False
