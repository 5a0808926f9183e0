"""The exact toy pair: images are points of Gaussians, captions are words of a multinomial, and the truth is known in closed form.

World   kind k of w_k; its wordings by Zipf's law; caption = kind and wording; an image of kind k is a point of N(m_k, s^2 I), the m_k on a circle.
        One kind is one Gaussian; several are a mixture. Every wording also has one of two values of an attribute, the odd ones 1.
ToyImages     caption -> image: a mean and a full covariance for each kind, refitted by maximum likelihood (by n, not n - 1)
ToyCaptions   image -> caption: shares, means and one common variance tell the kind; a multinomial of the kind tells the wording

Both are fitted to a share `step` of the way from where they stand; a kind that did not come stays as it was. `bias` is the error of an architecture: what
more samples do not repair. Agents of one architecture share it, agents of different ones err in different directions.

The toy dials: depth of images, a sampler that has come 1 - 2^-depth of the way; depth of captions, words: wording v (from 0) takes 1 + floor(log2(v + 1)) words
and its prefix is a more frequent wording, so a caption cut short is another caption. Temperature scales the covariance and the logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

from mitate.errors import SettingError
from mitate.loops import indicators as seen
from mitate.loops.agents import Captioner, Decode, Generator, Samples, Seat, State
from mitate.loops.chance import normals, seeds_of, uniforms
from mitate.runtime import seed_of

HELD = 500  # real pairs that utility is measured on; they are in no pool
ALIKE_ON = 100  # images that captioners are compared on
TINY = 1e-300


@dataclass(frozen=True)
class World:
    """The truth. skew, tail: exponents of Zipf's law over kinds and over the wordings of a kind; 0 is uniform. radius: of the circle of centres."""

    kinds: int = 5
    wordings: int = 20
    dims: int = 2
    spread: float = 0.35
    radius: float = 1.0
    skew: float = 0.5
    tail: float = 1.0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.spread, self.radius, self.skew, self.tail))):
            raise SettingError("A number of the toy world is none.", fix="give finite numbers for spread, radius, skew and tail")
        if min(self.kinds, self.wordings, self.dims) < 1 or self.spread <= 0 or (self.dims < 2 and self.kinds > 2):
            told = f"A world of {self.kinds} kinds, {self.wordings} wordings, {self.dims} dimensions and spread {self.spread:g} cannot be."
            raise SettingError(told, fix="give 1 or more of each, two dimensions for more than two kinds, and a spread above 0")

    @cached_property
    def shares(self) -> np.ndarray:
        """Of kinds, float64 [kinds]."""
        return _zipf(self.kinds, self.skew)

    @cached_property
    def wording(self) -> np.ndarray:
        """Of the wordings of each kind, float64 [kinds, wordings]."""
        return np.tile(_zipf(self.wordings, self.tail), (self.kinds, 1))

    @cached_property
    def captions(self) -> np.ndarray:
        """Of captions, float64 [kinds * wordings]."""
        return (self.shares[:, None] * self.wording).ravel()

    @cached_property
    def centres(self) -> np.ndarray:
        """float64 [kinds, dims]; the origin where there is one kind."""
        found = np.zeros((self.kinds, self.dims))
        if self.kinds > 1:
            angle = 2 * np.pi * np.arange(self.kinds) / self.kinds
            found[:, 0] = self.radius * np.cos(angle)
            if self.dims > 1:
                found[:, 1] = self.radius * np.sin(angle)
        return found

    @cached_property
    def covariance(self) -> np.ndarray:
        """float64 [kinds, dims, dims]."""
        return np.tile(self.spread**2 * np.eye(self.dims), (self.kinds, 1, 1))

    @cached_property
    def tail_captions(self) -> np.ndarray:
        return seen.tail_of(self.captions)

    @cached_property
    def attribute_shares(self) -> np.ndarray:
        """Of the attribute's two values in each kind, float64 [kinds, 2]."""
        odd = self.wording[:, 1::2].sum(axis=1)
        return np.stack([1 - odd, odd], axis=1)

    def kind(self, captions: np.ndarray) -> np.ndarray:
        return captions // self.wordings

    def attribute(self, captions: np.ndarray) -> np.ndarray:
        return (captions % self.wordings) % 2

    def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Real images float64 [n, dims] and their captions int64 [n]; pair i follows from seed and i."""
        seeds = seeds_of(n, "toy", seed)
        captions = _picked(np.cumsum(self.captions), uniforms(seeds, 1)[:, 0])
        return self.centres[self.kind(captions)] + self.spread * normals(seeds, self.dims, stream=1), captions

    def right(self, images: np.ndarray) -> np.ndarray:
        """The captions that a person would write: the kind that is most likely in truth, in its most frequent wording; int64 [n]."""
        return self._told(images).argmax(axis=1) * self.wordings

    def alignment(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Chance that an image is of its caption's kind, by the truth: float64 [n]. The scorer that is none of the agents."""
        return self._told(images)[np.arange(len(captions)), self.kind(captions)]

    def _told(self, images: np.ndarray) -> np.ndarray:
        return _posterior(images, self.shares, self.centres, self.spread**2, 1.0)


@dataclass
class ToyImages:
    """The image model. mean: [kinds, dims]; cov: [kinds, dims, dims]."""

    world: World
    architecture: str = "toy"
    step: float = 1.0
    bias: float = 0.0
    mean: np.ndarray = field(init=False)
    cov: np.ndarray = field(init=False)

    def __post_init__(self) -> None:  # a base that knows no kind from another: wide, around the middle
        w = self.world
        self.mean = np.zeros((w.kinds, w.dims))
        self.cov = np.tile((w.spread**2 + w.radius**2 / 2) * np.eye(w.dims), (w.kinds, 1, 1))
        self._root = seen.square_root(self.cov)

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int = 0) -> None:
        """Means and covariances by maximum likelihood."""
        w = self.world
        kinds = w.kind(captions)
        counts, mean = _means(images, kinds, w.kinds)
        left = images - mean[kinds]
        squares = (left[:, :, None] * left[:, None, :]).reshape(len(left), -1)
        cov = _means(squares, kinds, w.kinds)[1].reshape(w.kinds, w.dims, w.dims)
        mean = mean + self.bias * w.spread * _lean(self.architecture, w.kinds, w.dims)
        there = counts > 0
        self.mean = np.where(there[:, None], (1 - self.step) * self.mean + self.step * mean, self.mean)
        self.cov = np.where(there[:, None, None], (1 - self.step) * self.cov + self.step * cov, self.cov)
        self._root = seen.square_root(self.cov)

    def generate(self, captions: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        kinds = self.world.kind(captions)
        z = normals(seeds, self.world.dims) * (np.sqrt(decode.temperature) * (1 - 2.0**-decode.depth))
        return self.mean[kinds] + np.einsum("nij,nj->ni", self._root[kinds], z)

    def clone(self) -> Self:
        other = type(self)(self.world, self.architecture, self.step, self.bias)
        other.restore(self.state())
        return other

    def state(self) -> State:
        return {"mean": self.mean.copy(), "cov": self.cov.copy()}

    def restore(self, state: State) -> None:
        self.mean, self.cov = np.array(state["mean"]), np.array(state["cov"])
        self._root = seen.square_root(self.cov)


@dataclass
class ToyCaptions:
    """The captioner. share: [kinds]; mean: [kinds, dims]; var: [], per dimension; wording: [kinds, wordings]."""

    world: World
    architecture: str = "toy"
    step: float = 1.0
    bias: float = 0.0
    share: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    var: np.ndarray = field(init=False)
    wording: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        w = self.world
        self.share = np.full(w.kinds, 1 / w.kinds)
        self.mean = np.zeros((w.kinds, w.dims))
        self.var = np.array(w.spread**2 + w.radius**2 / 2)
        self.wording = np.full((w.kinds, w.wordings), 1 / w.wordings)

    @property
    def captions(self) -> np.ndarray:
        """How often it says what, of images of the kinds it knows: float64 [kinds * wordings]."""
        return (self.share[:, None] * self.wording).ravel()

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int = 0) -> None:
        """Everything by maximum likelihood; wordings are counted."""
        w, step = self.world, self.step
        kinds = w.kind(captions)
        counts, mean = _means(images, kinds, w.kinds)
        var = float(((images - mean[kinds]) ** 2).mean())
        told = np.bincount(captions, minlength=w.kinds * w.wordings).reshape(w.kinds, w.wordings) / np.maximum(counts, 1)[:, None]
        if self.bias:
            told = told * np.exp(self.bias * _lean(self.architecture, w.kinds, w.wordings, stream=1) * np.sqrt(w.wordings))
            told = told / np.maximum(told.sum(axis=1, keepdims=True), TINY)
        there = (counts > 0)[:, None]
        self.share = (1 - step) * self.share + step * counts / len(captions)
        self.mean = np.where(there, (1 - step) * self.mean + step * mean, self.mean)
        self.var = np.array((1 - step) * float(self.var) + step * var)
        self.wording = np.where(there, (1 - step) * self.wording + step * told, self.wording)

    def describe(self, images: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        chance = uniforms(seeds, 2, stream=2)
        kinds = _row_picked(np.cumsum(self._told(images, decode.temperature), axis=1), chance[:, 0])
        wording = self.wording if decode.temperature == 1 else _tempered(self.wording, decode.temperature)
        words = _row_picked(np.cumsum(wording, axis=1)[kinds], chance[:, 1])
        return kinds * self.world.wordings + cut(words, decode.depth)

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Log density of image and caption together."""
        kinds, var = self.world.kind(captions), max(float(self.var), TINY)
        far = ((images - self.mean[kinds]) ** 2).sum(axis=1)
        return -far / (2 * var) - self.world.dims / 2 * np.log(var) + np.log(np.maximum(self.captions[captions], TINY))

    def confidence(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        return self._told(images, 1.0)[np.arange(len(captions)), self.world.kind(captions)]

    def _told(self, images: np.ndarray, temperature: float) -> np.ndarray:
        return _posterior(images, self.share, self.mean, float(self.var), temperature)

    def clone(self) -> Self:
        other = type(self)(self.world, self.architecture, self.step, self.bias)
        other.restore(self.state())
        return other

    def state(self) -> State:
        return {"share": self.share.copy(), "mean": self.mean.copy(), "var": self.var.copy(), "wording": self.wording.copy()}

    def restore(self, state: State) -> None:
        self.share, self.mean, self.var, self.wording = (np.array(state[name]) for name in ("share", "mean", "var", "wording"))


@dataclass(frozen=True)
class Toy:
    """The toy world as a ground for loops (`mitate.loops.loop.Ground`). mixed: agents of one side have architectures of their own."""

    world: World = field(default_factory=World)
    step: float = 1.0
    bias: float = 0.0
    mixed: bool = False

    name = "toy"

    def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return self.world.draw(n, seed=seed)

    def generator(self, index: int) -> Generator:
        return ToyImages(self.world, f"images-{index if self.mixed else 0}", self.step, self.bias)

    def captioner(self, index: int) -> Captioner:
        return ToyCaptions(self.world, f"captions-{index if self.mixed else 0}", self.step, self.bias)

    def written(self, images: np.ndarray) -> np.ndarray:
        return self.world.right(images)

    @cached_property
    def held(self) -> tuple[np.ndarray, np.ndarray]:
        return self.world.draw(HELD, seed=seed_of("toy", "held"))

    def indicators(
        self, made: Samples, first: Samples, generators: list[Seat[Generator]], captioners: list[Seat[Captioner]], *, exact: bool = True
    ) -> dict[str, float]:  # fmt: skip
        """All that can be told of a generation. exact: also what only a known truth, or real test data, can tell (the names in EXACT)."""
        w, kinds = self.world, self.world.kind(made.captions)
        attributes = w.attribute(made.captions)
        mean, sd = seen.alignment(w.alignment(made.images, made.captions))
        found = {
            "variance": seen.variance(made.images), "within_variance": seen.within_variance(made.images, kinds),
            "alignment": mean, "alignment_sd": sd,
            "entropy": seen.entropy(made.captions), "distinct": seen.distinct(made.captions), "caption_variance": seen.caption_variance(made.captions),
            "tail": seen.tail_recall(made.captions, w.tail_captions), "attribute": float(attributes.mean()),
        }  # fmt: skip
        if len(captioners) > 1:
            images, seeds = self.held[0][:ALIKE_ON], seeds_of(ALIKE_ON, "toy", "alike")
            found["disagreement"] = seen.disagreement(np.stack([w.kind(s.agent.describe(images, seeds, Decode())) for s in captioners]))
        if exact:
            real = w.attribute_shares
            found |= {
                "survival": seen.survival(made.captions, first.captions), "drift": seen.attribute_drift(attributes, w.shares @ real),
                "amplification": seen.bias_amplification(attributes, kinds, real), "utility": utility(made.images, kinds, *self.held, w),
            }  # fmt: skip
            if captioners:
                said = [s.agent.captions for s in captioners if isinstance(s.agent, ToyCaptions)]
                found["caption_tv"] = float(np.mean([seen.total_variation(p, w.captions) for p in said]))
                found["caption_kl"] = float(np.mean([seen.divergence(w.captions, p) for p in said]))
            if generators:
                models = [s.agent for s in generators if isinstance(s.agent, ToyImages)]
                found["image_w2"] = float(np.mean([seen.wasserstein(m.mean, m.cov, w.centres, w.covariance) for m in models]))
        return found


EXACT = ("survival", "drift", "amplification", "utility", "caption_tv", "caption_kl", "image_w2")


def utility(images: np.ndarray, kinds: np.ndarray, held: np.ndarray, held_captions: np.ndarray, world: World) -> float:
    """Accuracy on real pairs of a classifier that learnt kinds from these pairs: shares, means and one variance."""
    counts, mean = _means(images, kinds, world.kinds)
    var = float(((images - mean[kinds]) ** 2).mean())
    guess = _posterior(held, counts / len(kinds), mean, var, 1.0).argmax(axis=1)
    return float((guess == world.kind(held_captions)).mean())


def cut(wordings: np.ndarray, words: int) -> np.ndarray:
    """Wordings (from 0) that say no more than `words` words: wording v is v + 1 in binary, a word a digit, and what is too long loses its last ones."""
    length = np.frexp(wordings + 1.0)[1]  # digits of v + 1
    return ((wordings + 1) >> np.maximum(length - words, 0)) - 1


# a loop of one regression, of which everything is known ------------------------------------------------------------------


def regression_errors(policy: str, *, features: int, n: int, noise: float, generations: int, seed: int) -> np.ndarray:
    """Squared distance of fitted from true weights in each generation, float64 [generations]: what a test point with features N(0, I) is off by.

    Each generation draws n rows, labels them with the weights fitted last (the true ones at first) and noise, and fits by least squares: to these rows alone
    (`replace`) or to all since the beginning (`accumulate`). Gerstgrasser et al. 2024.
    """
    if policy not in ("replace", "accumulate"):
        raise SettingError(f"The regression has no policy {policy!r}.", fix="give replace or accumulate")
    rng = np.random.default_rng(seed)
    weights: np.ndarray = np.zeros(features)
    errors = np.empty(generations)
    gram, right = np.zeros((features, features)), np.zeros(features)
    for t in range(generations):
        x = rng.standard_normal((n, features))
        y = x @ weights + noise * rng.standard_normal(n)
        keep = float(policy == "accumulate")
        gram, right = keep * gram + x.T @ x, keep * right + x.T @ y
        weights = np.linalg.solve(gram, right)
        errors[t] = weights @ weights
    return errors


def regression_replace(t: int, *, features: int, n: int, noise: float) -> float:
    """Expected error of generation t (from 1) under replace: t noise^2 d / (n - d - 1)."""
    return t * noise**2 * features / (n - features - 1)


def regression_bound(*, features: int, n: int, noise: float) -> float:
    """What the expected error stays under with accumulate, at any t: noise^2 d / (n - d - 1) pi^2 / 6."""
    return noise**2 * features / (n - features - 1) * np.pi**2 / 6


# ----------------------------------------------------------------------------------------------------------------------


def _zipf(n: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def _means(values: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the groups, and the mean of each, zeros where there is none."""
    sizes = np.bincount(groups, minlength=count)
    sums = np.stack([np.bincount(groups, weights=column, minlength=count) for column in values.T], axis=1)
    return sizes, sums / np.maximum(sizes, 1)[:, None]


def _posterior(images: np.ndarray, share: np.ndarray, mean: np.ndarray, var: float, temperature: float) -> np.ndarray:
    """Chance of each kind, float64 [n, kinds]."""
    far = (images**2).sum(axis=1)[:, None] - 2 * images @ mean.T + (mean**2).sum(axis=1)
    logits = (np.log(np.maximum(share, TINY)) - far / (2 * max(var, 1e-12))) / temperature
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def _tempered(p: np.ndarray, temperature: float) -> np.ndarray:
    found = (p / p.max(axis=1, keepdims=True)) ** (1 / temperature)
    return found / found.sum(axis=1, keepdims=True)


def _picked(cumulative: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(cumulative) - 1)


def _row_picked(cumulative: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One place of each row, by cumulative shares [n, k] and uniforms [n]. A place of share 0 is never picked."""
    return np.minimum((cumulative <= (u * cumulative[:, -1])[:, None]).sum(axis=1), cumulative.shape[1] - 1)


def _lean(architecture: str, rows: int, columns: int, *, stream: int = 0) -> np.ndarray:
    """A unit direction for each row that belongs to an architecture, float64 [rows, columns]."""
    found = normals(seeds_of(rows, "architecture", architecture), columns, stream=stream)
    return found / np.sqrt((found**2).sum(axis=1, keepdims=True))
