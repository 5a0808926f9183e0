"""Few-shot adaptation: ten images of a new domain on a frozen diffusion model of a related one (generators/few_shot.py), with its dials chosen by themselves.

greek = mi.adapt("letters", mi.open_images("greek/"), mi.Shots(few=10), seed=0, name="greek-10")
fakes = mi.generate(greek, per_class=100)

How much noise images start from decides nearly everything: at little they are the shots again, at much they are images of the base. It is chosen on the
shots alone. A shot is left out, images are drawn from the others, and scored against it by the energy score (metrics/energy.py), which images of the base lose
because they are far away. Few shots again can still score best, for they are real and spread as real ones do: so dials whose images are copies of the shots, by
the rule of a pilot's gate, or lie nearer to the shots than left-out shots lie to each other, are out, whatever they score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mitate.errors import DataError, SettingError
from mitate.features.extractor import Extractor, extractor
from mitate.fitted import Fitted, fit, load_generator
from mitate.images import ImageSet
from mitate.metrics import privacy
from mitate.metrics.energy import energy_score
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of
from mitate.settings import from_text, plain, record
from mitate.store import Asked, Store
from mitate.stored import load_fitted
from mitate.verbs import VERBS, perform

if TYPE_CHECKING:
    from mitate.generators.few_shot import Drawer, FewShot

DIVERSITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
KIND, VERSION = "shots", 4
FIXED = ("base", "diffusion", "model", "weights", "method", "sentences")
DIALLED = ("crdi", "mean", "noised")  # methods whose images start where diversity says
LEFT_OUT, DRAWN = 20, 6  # shots left out in turn at most, and images drawn for each
OWN = 64  # images of the base itself that say how far the shots are
FAR = 2.0  # above this the target is told to be far
AGAIN = 0.75  # of the distance from a left-out shot to the nearest other one: images that lie nearer than that are shots again
COPIED = 0.05  # so many more of the images than of left-out shots are copies: shots again


@dataclass(frozen=True)
class Shots:
    """Few-shot adaptation. method: crdi, and its controls base, noised, inverted, mean, tuned, lora. diversity: from 0, the shots, to 1; None: chosen on the
    shots. few: shots of a class at most, 0 for all. options: further settings of `FewShot`.
    """

    few: int = 0
    method: str = "crdi"
    diversity: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def typed(options: Sequence[str]) -> dict[str, Any]:
    """Settings of `FewShot` as typed, name=value."""
    from mitate.generators.few_shot import FewShot

    names = [o.partition("=")[0] for o in options]
    if own := [name for name in names if name in FIXED]:
        raise SettingError(f"{own[0]} is no setting to type.", fix="use --base and --method" if own[0] != "sentences" else "give sentences from Python")
    read = plain(from_text(FewShot, options, where="shots"))
    return {name: read[name] for name in names}


class Tried(NamedTuple):
    """What was seen of one pair of dials.

    score: energy score, mean over left-out shots. near: how far images lie from the nearest of the shots that they were drawn from, over how far the left-out
    shots lie (medians, same class): 1 for new images of the domain, 0 for copies. copied: the share of images that are copies of these shots
    (metrics/privacy.py) less that of left-out shots; None for fewer shots than the rule wants.
    """

    score: float
    near: float
    copied: float | None = None

    @property
    def again(self) -> bool:
        """Whether the images are the shots again."""
        return self.near < AGAIN or (self.copied is not None and self.copied > COPIED)


@dataclass(frozen=True)
class Choice:
    """Dials tried on the shots alone: what was seen of each (diversity, strength), and the best.

    Of dials that do not draw the shots again the best score is taken; where there are none, the most noise.
    far: how many times farther a shot lies from the nearest of the base's own images than those lie from each other (medians, same features): about 1
    where the base could have drawn the shots.
    """

    diversity: float
    strength: float
    tried: Mapping[tuple[float, float], Tried]
    far: float

    @classmethod
    def of(cls, tried: Mapping[tuple[float, float], Tried], far: float) -> Choice:
        """The choice among dials."""
        free = [dials for dials in tried if not tried[dials].again]
        return cls(*(min(free, key=lambda dials: tried[dials].score) if free else max(tried)), tried, far)

    @property
    def found(self) -> Tried:
        """What was seen of the chosen dials."""
        return self.tried[self.diversity, self.strength]


def adapt_shots(
    base: str | Fitted, train: ImageSet, how: Shots, *, seed: int = 0, name: str | None = None, size: int = 0, store: Store | None = None,
    progress: Progress | None = None,
) -> tuple[Fitted, Choice | None]:  # fmt: skip
    """A generator of the domain of `train` on a frozen base, kept in the store, and how its dials were chosen (None where they were given, or could not be).

    Every image of `train` is a shot. base: a diffusion generator that `fit` kept, a folder of diffusers with a `UNet2DModel`, or a text-to-image pipeline.
    """
    store = store or Store.find()
    train = train.few(how.few, seed=seed) if how.few else train
    kind, own = kind_on(base, how, store, classes=train.classes)
    kept = partial(fit, train=train, seed=seed, size=own or size, store=store, progress=progress)
    if how.diversity is not None or "diversity" in how.options or how.method not in DIALLED or how.options.get("start") == "noise":
        return kept(kind, name=name), None
    found = choose(kept(kind), seed=seed, store=store, progress=progress)
    if found is None:  # one shot of each class: nothing can be left out
        return kept(kind, name=name), None
    return kept(replace(kind, diversity=found.diversity, strength=found.strength), name=name), found


def kind_on(base: str | Fitted, how: Shots, store: Store, *, classes: Sequence[str]) -> tuple[FewShot, int]:
    """The settings on a base, and the pixels of a side that it wants (0: any)."""
    from mitate.generators.diffusion import Diffusion
    from mitate.generators.few_shot import FewShot
    from mitate.painted import split_name

    learning = {"tuned": {"steps": 300, "rate": 3e-4}, "lora": {"steps": 300, "rate": 1e-3}}.get(how.method, {})
    told = {**learning, **how.options, "method": how.method} | ({} if how.diversity is None else {"diversity": how.diversity})
    if isinstance(base, str) and base not in store.refs() and (split_name(base) is not None or Path(base).is_dir()):
        on = record(FewShot, {"model": base, **told}, where="shots").bound(tuple(classes))
        return on, on.size
    kept = base if isinstance(base, Fitted) else load_generator(base, store=store)
    if not isinstance(kept, Fitted) or kept.kind not in ("diffusion", "restyled"):
        raise SettingError(f"Shots cannot stand on {base!r}.", fix="name a kept diffusion generator, a folder of diffusers, or a text-to-image model")
    options = kept.settings["options"]
    diffusion = record(Diffusion, options if kept.kind == "diffusion" else options["diffusion"], where="diffusion")
    if kept.shape[0] != kept.shape[1]:
        raise DataError(f"{kept!r} draws no squares.", fix="fit a base of square images")
    if how.options.get("told") and tuple(classes) != kept.classes:
        raise DataError(
            f"The base draws {', '.join(kept.classes[:5])}; the images are {', '.join(classes[:5])}.", fix="leave told out: it is then told no class"
        )
    made = record(FewShot, {"base": kept.digest, **told}, where="shots")
    return replace(made, diffusion=diffusion), kept.shape[0]


def choose(fitted: Fitted, *, seed: int = 0, store: Store | None = None, progress: Progress | None = None) -> Choice | None:
    """The dials with the best energy score on left-out shots, of those that do not draw the shots again, in features of the package's own extractor; None
    where no class has two shots.

    All dials are asked with the same left-out shots and the same noise. Diversities are tried from the largest down, until images are the shots again: at less
    noise they are so all the more; then half way back. With crdi the best of them is tried at strength 0 as well (the noised start alone). Found in the store
    where they were tried before.
    """
    eye = extractor()

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        from mitate.generators.few_shot import Drawer

        drawer = load_fitted(fitted.entry)
        assert isinstance(drawer, Drawer)
        tried = _tried(drawer, eye, seed=seed, progress=progress or Silent())
        return {"tried": [[*dials, *told] for dials, told in tried.items()], "far": _far(drawer, eye, seed=seed)}

    asked = Asked("dials", VERSION, {"seed": seed, "extractor": eye.digest}, {"generator": fitted.digest})
    found = (store or Store.find()).make(asked, build).result
    tried = {(d, s): Tried(*told) for d, s, *told in found["tried"]}
    return Choice.of(tried, found["far"]) if tried else None


def _far(drawer: Drawer, eye: Extractor, *, seed: int) -> float:
    base = drawer.like(replace(drawer.kind, method="base"))
    seeds = np.array([seed_of("far", seed, i) for i in range(OWN)], dtype=np.int64)
    own, shots = eye(base.sample(seeds, np.resize(drawer.shots.y, OWN))), eye(drawer.shown(np.arange(len(drawer.shots.y))))
    among = np.linalg.norm(own[:, None] - own[None], axis=2)
    np.fill_diagonal(among, np.inf)
    return float(np.median(np.linalg.norm(shots[:, None] - own[None], axis=2).min(1)) / np.median(among.min(1)))


def _tried(drawer: Drawer, eye: Extractor, *, seed: int, progress: Progress) -> dict[tuple[float, float], Tried]:
    """What is seen of each pair of dials; nothing where no class has two shots."""
    kind, shots = drawer.kind, drawer.shots
    several = [i for i, k in enumerate(shots.y) if len(shots.of(int(k))) > 1]
    if not several:
        return {}
    left = np.random.default_rng(seed_of("left out", seed)).permutation(several)[:LEFT_OUT]
    rows = np.repeat(left, DRAWN)
    seeds = np.array([seed_of("left out", seed, i) for i in range(len(rows))], dtype=np.int64)
    pixels = drawer.shown(np.arange(len(shots.y)))
    every, flat = eye(pixels), privacy.features(pixels)
    others = [every[[j for j in shots.of(int(shots.y[i])) if j != i]] for i in left]
    truth = every[left]
    apart = np.median([np.linalg.norm(own - t, axis=1).min() for own, t in zip(others, truth, strict=True)])
    floor = _copied(flat[left], flat, left)
    found: dict[tuple[float, float], Tried] = {}
    most = len(DIVERSITIES) + 1 + (kind.method == "crdi")

    def look(diversity: float, strength: float) -> Tried:
        x = drawer.leaving_out(replace(kind, diversity=diversity, strength=strength), seeds, rows)
        drawn = eye(x).reshape(len(left), DRAWN, -1)
        score = np.mean([energy_score(f, t) for f, t in zip(drawn, truth, strict=True)])
        near = np.median([np.linalg.norm(own[:, None] - f[None], axis=2).min(axis=0) for f, own in zip(drawn, others, strict=True)]) / max(apart, 1e-12)
        copied = None if floor is None else (_copied(privacy.features(x), flat, rows) or 0.0) - floor
        found[diversity, strength] = Tried(float(score), float(near), copied)
        progress.step(len(found), most, "dials")
        return found[diversity, strength]

    before = None
    for diversity in reversed(DIVERSITIES):
        if look(diversity, kind.strength).again:
            if before is not None:
                look((before + diversity) / 2, kind.strength)
            break
        before = diversity
    if kind.method == "crdi" and kind.strength:
        look(Choice.of(found, far=0.0).diversity, 0.0)
    progress.step(most, most, "dials")
    return found


def _copied(queries: np.ndarray, shots: np.ndarray, without: np.ndarray) -> float | None:
    """The share of images that are copies of a shot, image i beside all shots but without[i]; None below four shots. In features of metrics/privacy.py."""
    if len(shots) < 4:
        return None
    ratios = [privacy.ratio_to_nearest(queries[without == i], np.delete(shots, i, axis=0))[0] for i in np.unique(without)]
    return float((np.concatenate(ratios) < privacy.COPY).mean())


def is_shots(name: str, *, store: Store | None = None) -> bool:
    """Whether a few-shot generator is kept under a name."""
    try:
        entry = (store or Store.find()).kept(name)
    except DataError:  # no possible name
        return False
    return entry is not None and entry.result.get("kind") == KIND


def load_adapted(name: str, *, store: Store | None = None) -> Fitted:
    """The generator kept under NAME, or under BASE+NAME where it stands on that base. SettingError for another base."""
    store = store or Store.find()
    base, plus, own = name.rpartition("+")
    if not plus or not is_shots(own, store=store):
        return load_generator(name, store=store)
    found = load_generator(own, store=store)
    options = found.settings["options"]
    known = (options["base"], "") if options["base"] else (options["weights"], options["model"])
    if options["base"] and (base not in store.refs() or load_generator(base, store=store).digest != known[0]):
        raise SettingError(f"{own} does not stand on {base}.", fix=f"name it alone: {own}")
    if options["model"] and base not in (known[1], Path(known[1]).name) and str(Path(base).resolve()) != known[1]:
        raise SettingError(f"{own} does not stand on {base}.", fix=f"name it alone, or on {known[1]}")
    return found


def drawn_with(fitted: Fitted, diversity: float, *, store: Store | None = None) -> Fitted:
    """The same few-shot generator with another diversity. SettingError for other generators."""
    from mitate.generators.few_shot import FewShot

    if fitted.kind != KIND:
        raise SettingError(f"{fitted!r} is no few-shot generator.", fix="leave the diversity out")
    if fitted.settings["options"]["method"] not in (*DIALLED, "inverted"):
        raise SettingError(f"The method {fitted.settings['options']['method']} has no diversity.", fix="leave the diversity out")
    asked = json.loads(fitted.entry.path("asked.json").read_text(encoding="utf-8"))
    settings = {**asked["settings"], "options": {**asked["settings"]["options"], "diversity": diversity}}
    store = store or Store.find()
    entry = perform(store, Asked("fit", 1000 * VERBS["fit"].version + FewShot.version, settings, asked["inputs"]))
    return load_generator(entry.digest, store=store)
