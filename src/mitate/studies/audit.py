"""The audit of a kind of generator: pictures that look like nothing else are planted, each by its own coin, and then sought in what was learnt.

    audit(mi.VAE(), mi.open_images("leaves/train"), store=Store.find()) -> Audit

Who guesses the coins better than e^epsilon allows has refuted that epsilon (Steinke, Nasr and Jagielski 2023). The generator that was fitted on
canaries belongs in no product: it is kept under no name and dropped once it has been scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mitate import __version__
from mitate.errors import SettingError
from mitate.files import write_json, writing
from mitate.fitted import fit_question, prepare
from mitate.images import ImageSet, from_arrays
from mitate.metrics.audit import LEAST, make_canaries
from mitate.progress import Progress
from mitate.settings import plain
from mitate.store import Asked, Entry, Store
from mitate.verbs import VERBS, keep_images, perform

DRAWN = 200  # images of each class, where the kind tells no loss
MANY = 0.1  # planted canaries for each image: more change what is learnt
SEED = 0  # of the noise in the losses


@dataclass(frozen=True)
class Audit:
    """What an audit found. epsilon: no training with a smaller one can have been guessed so well; 0 proves nothing."""

    kind: str
    settings: Mapping[str, Any]
    images: int  # that the generator was fitted on, beside the canaries
    size: int
    canaries: int
    planted: int
    by: str  # loss, or distance to the nearest of what it draws
    epsilon: float
    delta: float
    p: float  # the chance of such guesses, at most, where epsilon is 0
    most: float  # the bound that a perfect attack would have shown
    rule: str  # the guesses that gave it
    promised: float | None  # the epsilon that the fit promises at this delta, if any
    seed: int
    findings: tuple[str, ...] = ()

    @property
    def refuted(self) -> bool:
        """Whether the promise does not hold."""
        return self.promised is not None and self.epsilon > self.promised

    def __str__(self) -> str:
        found = (
            f"epsilon is at least {self.epsilon:.3g} at delta {self.delta:.2g}: {self.rule} (p = {self.p:.2g})"
            if self.epsilon > 0
            else f"nothing was found, which proves nothing: {self.rule}"
        )
        promise = (
            "no epsilon was promised"
            if self.promised is None
            else f"epsilon {self.promised:.3g} at delta {self.delta:.2g} was promised" + ("; that promise does not hold" if self.refuted else "")
        )
        return "\n".join(
            [
                f"{self.kind}: fitted on {self.images} images and {self.planted} of {self.canaries} canaries, which were told by their {self.by}",
                found,
                f"a perfect attack would have shown {self.most:.3g}; {promise}",
                *(f"note: {finding}" for finding in self.findings),
            ]
        )


def audit(
    kind: Any, images: ImageSet, *, canaries: int = 200, seed: int = 0, size: int = 0, store: Store | None = None, progress: Progress | None = None
) -> Audit:
    """Fit a generator kind on real images with planted canaries, and tell how well they are found; the same question is computed once.

    canaries: how many are made, 10 or more; about half are planted. size: pixels (0: the images' own, at most 64). Raises DataError or
    SettingError for what cannot be used.
    """
    store = store or Store.find()
    parts = prepare(kind, images, seed=seed, size=size)
    train = parts.train.pixels(size=parts.size, channels=parts.channels)
    if canaries < LEAST:
        raise SettingError(f"{canaries} canaries are too few to prove anything.", fix=f"give {LEAST} or more: --canaries 200")
    try:
        made = make_canaries(train, parts.train.y, count=canaries, seed=seed)
    except ValueError as wrong:
        message, _, fix = str(wrong).partition("; fix: ")
        raise SettingError(f"The canaries cannot be made: {message}.", fix=fix) from wrong
    planted = from_arrays(*made.plant(train, parts.train.y), classes=images.classes, name=f"{images.name} with canaries")
    blind = store.blind(planted.digest) if parts.private else ""
    shape: dict[str, Any] = {"size": parts.size, "channels": parts.channels}
    digests = {
        "train": keep_images(store, planted, **shape, blind=blind),
        "selection": keep_images(store, parts.selection, **shape, blind=blind),
    }
    apart = keep_images(store, from_arrays(made.x, made.y, classes=images.classes, name="canaries"), **shape)
    coins = "".join("1" if x else "0" for x in made.included)
    fit = fit_question(kind, digests, seed=seed)
    result = _found(fit, apart, coins, store, progress).result
    n = len(parts.train)
    many = (f"{result['planted']} canaries among {n} images change what is learnt; give fewer, or more images",) if result["planted"] > MANY * n else ()
    return Audit(
        kind=fit.settings["kind"], settings=plain(kind), images=n, size=parts.size, seed=seed, findings=many,
        **{name: result[name] for name in ("canaries", "planted", "by", "epsilon", "delta", "p", "most", "rule", "promised")},
    )  # fmt: skip


def write(found: Audit, path: Path) -> None:
    """The whole record as one JSON file."""
    with writing(path):
        write_json(path, {"version": __version__, **asdict(found), "refuted": found.refuted})


def _found(fit: Asked, canaries: str, coins: str, store: Store, progress: Progress | None) -> Entry:
    """The audit's result. The generator, and what it drew, are dropped once it is there."""
    losses = Asked("losses", VERBS["losses"].version, {"seed": SEED}, {"generator": fit.digest, "images": canaries})
    told = store.get(losses)
    if told is None:
        perform(store, fit, progress=progress)
        told = perform(store, losses, progress=progress)
    draw = Asked("sample", VERBS["sample"].version, {"per_class": DRAWN, "seed": SEED}, {"generator": fit.digest, "like": canaries})
    source = {"synthetic": draw.digest} if "why" in told.result else {"losses": losses.digest}
    asked = Asked("audit", VERBS["audit"].version, {"included": coins}, {"generator": fit.digest, "canaries": canaries, **source})
    found = store.get(asked)
    if found is None:
        perform(store, fit, progress=progress)
        if "synthetic" in source:
            perform(store, draw, progress=progress)
        found = perform(store, asked, progress=progress)
    kept = set(store.refs().values())
    for name in (draw.digest, fit.digest):
        if name not in kept:  # a name that somebody gave it is theirs
            store.drop(name)
    return found
