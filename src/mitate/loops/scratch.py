"""Agents from scratch: a generator of classes that is fitted anew each time, and a classifier that goes on from where it stands.

Refitted     class -> image. No kind of generator goes on from given weights, so a restart from the base changes nothing but that classes which no longer come
             are forgotten at once
Labels       image -> class, drawn from its probabilities at the temperature asked for, so near 0 it is the likeliest one
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mitate.errors import JobError, SettingError
from mitate.generator import Pixels
from mitate.loops.agents import Decode, State
from mitate.loops.chance import chosen, seeds_of, uniforms
from mitate.progress import Silent
from mitate.runtime import torch_threads

if TYPE_CHECKING:
    from mitate.training.backbones import Classifier

ASIDE = 0.2  # of a class, on which a generator's fit stops in time
PASS = 64  # images that a classifier is shown at once, always
REMEMBERED = 8  # images of a class that no longer comes, drawn from the last fit so that the next one still knows it


@dataclass
class Refitted:
    """An image model of classes. files: what a fit wrote; known: the classes that it learnt, rising, int64 [k]."""

    kind: Any
    architecture: str
    files: dict[str, bytes] = field(default_factory=dict)
    known: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int) -> None:
        """From scratch, on four fifths of each class; the fit stops in time by the rest. Of a class that no longer comes it keeps what it knew, by images
        of its own.
        """
        gone = np.repeat(np.setdiff1d(self.known, captions), REMEMBERED)
        if len(gone):
            remembered = self._drawn(self.kind, gone, seeds_of(len(gone), "labelled", "remembered", seed))
            images, captions = np.concatenate([images, remembered]), np.concatenate([captions, gone])
        known, y = np.unique(captions, return_inverse=True)
        aside = _aside(y, seed)
        train, rest = (Pixels(images[rows], y[rows], len(known)) for rows in (~aside, aside))
        with tempfile.TemporaryDirectory() as place, torch_threads():
            folder = Path(place) / "fit"
            self.kind.fit(train, rest, seed=seed, folder=folder, checkpoint=Path(place) / "checkpoint", progress=Silent())
            self.files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        self.known, self._loaded = known, None

    def generate(self, captions: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        """uint8 [n, h, w, c]. JobError for a class that it never learnt, SettingError for a temperature where the kind has none."""
        return self._drawn(dialled(self.kind, decode, self.architecture), captions, seeds)

    def _drawn(self, kind: Any, captions: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        if len(strange := np.setdiff1d(captions, self.known)):
            raise JobError(f"A {self.architecture} generator is asked for class {strange[0]}, which it never learnt.", fix="give a larger n")
        if self._loaded is None or self._loaded[0] != kind:
            with tempfile.TemporaryDirectory() as place:
                for name, content in self.files.items():
                    path = Path(place) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self._loaded = kind, kind.load(Path(place))
        with torch_threads():
            return self._loaded[1].sample((seeds >> np.uint64(1)).astype(np.int64), np.searchsorted(self.known, captions))

    def clone(self) -> Self:
        other = type(self)(self.kind, self.architecture)
        other.restore(self.state())
        return other

    def state(self) -> State:
        """Each file of the fit as uint8 [bytes], and the classes."""
        return {"known": self.known.copy(), **{f"file/{name}": np.frombuffer(content, np.uint8) for name, content in self.files.items()}}

    def restore(self, state: State) -> None:
        self.known, self._loaded = np.array(state["known"]), None
        self.files = {name.removeprefix("file/"): array.tobytes() for name, array in state.items() if name.startswith("file/")}


def dialled(kind: Any, decode: Decode, name: str) -> Any:
    """The kind with its sampler as asked: depth is steps of the sampler, temperature the variance of codes."""
    told: dict[str, Any] = {"sample_steps": decode.depth} if hasattr(kind, "sample_steps") else {}
    if decode.temperature != 1:
        if not hasattr(kind, "spread"):
            fix = "set its guidance instead (-o guidance=3)" if hasattr(kind, "guidance") else "leave the temperature of images at 1"
            raise SettingError(f"A generator of the kind {name} has no temperature.", fix=fix)
        told["spread"] = kind.spread * math.sqrt(decode.temperature)
    return dataclasses.replace(kind, **told)


def _aside(y: np.ndarray, seed: int) -> np.ndarray:
    """Which rows a fit is stopped by: a fifth of each class, rounded down, bool [n]."""
    found = np.zeros(len(y), dtype=bool)
    for k in range(y.max() + 1):
        own = np.flatnonzero(y == k)
        found[own[chosen(len(own), int(ASIDE * len(own)), "labelled", "aside", seed, k)]] = True
    return found


@dataclass
class Labels:
    """A classifier as a captioner. classes: how many there are; steps: of each training."""

    shape: tuple[int, int, int]
    classes: int
    steps: int
    architecture: str = "small"
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    _net: Classifier | None = field(default=None, repr=False)

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int) -> None:
        self._net = trained(images, captions, self.classes, steps=self.steps, seed=seed, start=self.weights)
        self.weights = {name: tensor.numpy().copy() for name, tensor in self._net.state_dict().items()}

    def describe(self, images: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        share = np.cumsum(np.exp(log_softmax(logits(self.net, images) / decode.temperature)), axis=1)
        return np.minimum((share <= uniforms(seeds, 1) * share[:, -1:]).sum(axis=1), self.classes - 1)

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Log probability of each class given its image."""
        return log_softmax(logits(self.net, images))[np.arange(len(captions)), captions]

    def confidence(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        return np.exp(self.score(images, captions))

    @property
    def net(self) -> Classifier:
        if not self.weights:
            raise JobError("A classifier is asked before it has learnt anything.", fix="fit it first")
        if self._net is None:
            self._net = _built(self.shape, self.classes, self.weights).eval()
        return self._net

    def clone(self) -> Self:
        other = type(self)(self.shape, self.classes, self.steps, self.architecture)
        other.restore(self.state())
        return other

    def state(self) -> State:
        return {name: array.copy() for name, array in self.weights.items()}

    def restore(self, state: State) -> None:
        self.weights, self._net = {name: np.array(array) for name, array in state.items()}, None


def trained(images: np.ndarray, captions: np.ndarray, classes: int, *, steps: int, seed: int, start: State | None = None) -> Classifier:
    """A small classifier that learnt from these pairs, from scratch or from given weights."""
    from mitate.recipe import parse
    from mitate.training.loop import Training, train

    shape = images.shape[1:]
    pairs = Pixels(images, captions, classes)
    with torch_threads():
        return train(parse("real"), lambda: _built(shape, classes, start), real=pairs, synthetic=None, training=Training(steps=steps), seed=seed)


def _built(shape: tuple[int, ...], classes: int, weights: State | None) -> Classifier:
    import torch

    from mitate.training.backbones import small

    height, width, channels = shape
    with torch.random.fork_rng(devices=[], enabled=bool(weights)):  # weights that are written over are drawn for nothing
        net = small(shape=(height, width, channels), n_classes=classes)
    if weights:
        net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return net


def logits(net: Classifier, x: np.ndarray) -> np.ndarray:
    """Float64 [n, classes]; passes are filled up to one size, so a row depends on its image alone."""
    from mitate.training.loop import read_off

    filled = np.concatenate([x, np.repeat(x[-1:], -len(x) % PASS, axis=0)])
    with torch_threads():
        parts = [read_off(net, filled[i : i + PASS])[0] for i in range(0, len(filled), PASS)]
    return np.concatenate(parts)[: len(x)].astype(np.float64)


def log_softmax(said: np.ndarray) -> np.ndarray:
    left = said - said.max(axis=1, keepdims=True)
    return left - np.log(np.exp(left).sum(axis=1, keepdims=True))
