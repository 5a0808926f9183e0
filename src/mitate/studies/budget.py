"""A budget held by construction: speed is probed once, the integers that fit the budget are chosen, and never derived again.

What is given up when time is short, first to last: replicates beyond five, generator steps, the candidate's part of the learning curve,
training steps, the arms that teach least, replicates down to three, the learning curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate import recipe as recipes
from mitate.errors import SettingError
from mitate.progress import clock
from mitate.runtime import THREADS
from mitate.settings import plain

CORE = ("real", recipes.BASELINE, "real+augment+mixup", "synthetic+augment", "balanced+augment", "bridged+++augment")
PROBE_STEPS = 6
PROBE_IMAGES = 64  # through a frozen body
HEADROOM = 1.25  # jobs that run side by side slow each other down, and a worker starts up once
STARTUP = 6.0  # seconds until the first job of a worker runs
LEAST_STEPS = 120  # of an arm: below this, strong augmentation still costs accuracy and the baseline is not one
FORWARD = 3  # images that are answered in the time of training on one
CURVE_POINTS = 2  # sizes of the learning curve below all images (studies/curve.py)
LONGEST = 4  # the compute-matched arm gets at most this many times the steps


@dataclass(frozen=True)
class Speeds:
    """Seconds on one thread of this machine. generators: name -> (a training step, an image sampled). image: one through a frozen body, 0 where the body
    is trained.
    """

    step: float
    generators: Mapping[str, tuple[float, float]]
    image: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """Integers of a pilot that time decides."""

    full: int  # replicates at full
    steps: int
    generator_share: float  # of the steps that its preset gives a generator
    arms: tuple[str, ...]
    curve: str  # learning curve: none, real (of the baseline), full (of the candidate too)


SMALL = 2  # replicates at small


# What is tried, the best first: replicates, share of the training steps, share of the generators' steps, every arm or the core, curve.
# Five replicates are kept as long as possible: with three, t has about two degrees of freedom and the interval is wide whatever else is done.
RUNGS = (
    (8, 1.0, 1.0, True, "full"), (6, 1.0, 1.0, True, "full"), (5, 1.0, 1.0, True, "full"), (5, 1.0, 0.5, True, "full"), (5, 1.0, 0.5, True, "real"),
    (5, 0.67, 0.5, True, "real"), (5, 0.67, 0.25, True, "real"), (5, 0.67, 0.25, False, "real"), (5, 0.5, 0.25, False, "real"),
    (4, 0.5, 0.25, False, "real"), (3, 0.5, 0.25, False, "real"), (3, 0.5, 0.25, False, "none"), (3, 0.33, 0.12, False, "none"),
    (3, 0.33, 0.06, False, "none"),
)  # fmt: skip


def ladder(arms: Sequence[str], *, steps: int, replicates: int, curve: str) -> list[Sizes]:
    """Every size worth trying, the best first. replicates: fixed by the user, or 0; curve: so too, or `auto`. Arms that the user chose
    are never left out."""
    core = tuple(a for a in arms if a in CORE) if tuple(arms) in (recipes.DEFAULT_ARMS, recipes.of_frozen(recipes.DEFAULT_ARMS)) else tuple(arms)
    least = min(steps, LEAST_STEPS)
    rows = [
        Sizes(replicates or r, max(least, round(steps * share)), g, tuple(arms) if every else core, c if curve == "auto" else curve)
        for r, share, g, every, c in RUNGS
    ]
    return list(dict.fromkeys(rows))


def testing(speeds: Speeds, images: float, *, batch: int) -> float:
    """Seconds of asking one model about so many images."""
    return 0.1 + images * (speeds.image or speeds.step / (FORWARD * batch))


def training(speeds: Speeds, steps: float, images: float) -> float:
    """Seconds of one training on so many images. A frozen body sees each of them plainly and in some views; another, what the steps draw."""
    return 0.1 + steps * speeds.step + images * (1 + recipes.VIEWS) * speeds.image


def share_of(steps: int, sizes: Sizes) -> int:
    """A generator's steps after the budget's cut, at least 1."""
    return max(1, round(steps * sizes.generator_share))


def estimate(
    sizes: Sizes, speeds: Speeds, *, generator_steps: Mapping[str, int], images: int, cells_small: int, folds: int, long_steps: int, tested: float,
    real: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Seconds of one worker for one job of each verb (`fit:vae`; `train`: of an arm with synthetic images), and `total` for the whole pilot. images, real:
    synthetic and real ones that are trained on; tested: seconds of asking one model about the test images."""
    seconds = {"train": training(speeds, sizes.steps, real + images), "predict": tested, "copies": 0.3, "align": 1.0, "pick": 0.1}
    made, dearest = 0.0, 0.0
    for name, (step, image) in speeds.generators.items():
        seconds[f"fit:{name}"] = share_of(generator_steps[name], sizes) * step
        seconds[f"sample:{name}"] = images * image + 0.1
        one = seconds[f"fit:{name}"] + seconds[f"sample:{name}"]
        made, dearest = made + one, max(dearest, one)
    cells = cells_small + sizes.full * folds
    trainings = 0.0
    for arm in sizes.arms:
        recipe = recipes.parse(arm)
        steps, shown = long_steps if recipe.compute_matched else sizes.steps, real + images * recipe.uses_synthetic
        trainings += (len(speeds.generators) if recipe.uses_synthetic else 1) * (training(speeds, steps, shown) + seconds["predict"])
    trained = seconds["train"] + seconds["predict"]
    points = {"none": 0.0, "real": trained, "full": 2 * trained + dearest}[sizes.curve]
    seconds["total"] = cells * (made + trainings) + sizes.full * folds * CURVE_POINTS * points
    return seconds


def choose(
    arms: Sequence[str],
    speeds: Speeds,
    *,
    budget: float,
    steps: int,
    replicates: int,
    generator_steps: Mapping[str, int],
    images: int,
    small: int,
    folds: int,
    workers: int,
    tested: float,
    curve: str,
    real: int = 0,
) -> tuple[Sizes, int, dict[str, float]]:
    """The best sizes whose whole pilot takes at most `budget` seconds: (sizes, steps of the compute-matched arm, estimates)."""
    work: dict[str, Any] = {"generator_steps": generator_steps, "images": images}

    def seconds(sizes: Sizes) -> dict[str, float]:
        matched = matched_steps(sizes, speeds, **work)
        return estimate(sizes, speeds, **work, cells_small=small, folds=folds, long_steps=matched, tested=tested, real=real)

    rungs = ladder(arms, steps=steps, replicates=replicates, curve=curve)
    chosen, found = first_within(budget, rungs, seconds, workers=workers, study="pilot", smaller="fewer generators or a smaller --size")
    return chosen, matched_steps(chosen, speeds, **work), found


def first_within(
    budget: float, rungs: Sequence[Sizes], seconds: Callable[[Sizes], dict[str, float]], *, workers: int, study: str, smaller: str
) -> tuple[Sizes, dict[str, float]]:
    """The first sizes whose whole study takes at most `budget` seconds, and their estimates with `wall`, the time from start to end.

    seconds: as `estimate` gives them. SettingError where no sizes fit; study, smaller: what it calls the study, and what to give up.
    """
    walls = []
    for sizes in rungs:
        found = seconds(sizes)
        wall = found["total"] / max(1, workers) * HEADROOM + STARTUP
        if wall <= budget:
            return sizes, {**found, "wall": wall}
        walls.append(wall)
    raise SettingError(
        f"A budget of {clock(budget)} is too small: the smallest {study} on this machine takes about {clock(min(walls))}.",
        fix=f"give --budget {max(1, round(min(walls) * 1.3 / 60 + 0.5))}m, {smaller}",
    )


def matched_steps(sizes: Sizes, speeds: Speeds, *, generator_steps: Mapping[str, int], images: int) -> int:
    """Steps of the compute-matched arm: its own, and as many more as the cheapest generator's fit and sampling would buy."""
    costs = [share_of(generator_steps[n], sizes) * step + images * image for n, (step, image) in speeds.generators.items()]
    extra = round(min(costs, default=0.0) / speeds.step)
    return min(LONGEST * sizes.steps, sizes.steps + extra)


def probe(
    shape: tuple[int, int, int], n_classes: int, *, backbone: Mapping[str, Any], weights: Any, training: Any, kinds: Mapping[str, Any],
    bases: Mapping[str, tuple[Path, int]] | None = None,
) -> Speeds:  # fmt: skip
    """Measure the speed of a training step and of every generator kind, on one thread, with made-up images of this shape. bases: of few-shot kinds,
    the folder of the stored fit that one stands on, and its shots."""
    import time

    import numpy as np

    from mitate.generator import Pixels
    from mitate.generators.probe import probe as probe_generator
    from mitate.runtime import torch_threads
    from mitate.stored import build_classifier
    from mitate.training.loop import predict, train

    rng = np.random.default_rng(0)
    n = max(2 * n_classes, 16)
    data = Pixels(rng.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n, dtype=np.int64) % n_classes, n_classes)

    def seconds(steps: int) -> float:
        started = time.perf_counter()
        train(
            recipes.parse("balanced+augment"), lambda: build_classifier(backbone, shape, n_classes, weights),
            real=data, synthetic=data, training=type(training)(**{**plain(training), "steps": steps}), seed=0, pretrained=weights is not None,
        )  # fmt: skip
        return time.perf_counter() - started

    with torch_threads(THREADS):
        seconds(1)
        once, more = seconds(1), seconds(1 + PROBE_STEPS)
        step = max((more - once) / PROBE_STEPS, 1e-4)
        image = 0.0
        if (net := build_classifier(backbone, shape, n_classes, weights)).frozen:
            many = np.resize(data.x, (PROBE_IMAGES, *shape))
            predict(net, many[:1])
            started = time.perf_counter()
            predict(net, many)
            image = (time.perf_counter() - started) / PROBE_IMAGES
        costs = {name: probe_generator(kind, shape, n_classes=n_classes, base=(bases or {}).get(name)) for name, kind in kinds.items()}
    return Speeds(step, {name: (cost.step_seconds, cost.image_seconds) for name, cost in costs.items()}, image)
