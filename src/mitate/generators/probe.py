"""What a fit will cost: a few real steps and a few real draws, timed once, so that a budget planner can set whole numbers of steps."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mitate.generator import GeneratorKind, Pixels
from mitate.runtime import seed_of

STEPS = 8  # timed, with a look at the selection loss after the 4th and the 8th
DRAWN = 32  # images: one micro-batch
FEW = 4  # shots that a few-shot kind is timed with


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of one training step (its share of looks at the selection loss in it), and of one image drawn."""

    step_seconds: float
    image_seconds: float


def probe(
    kind: GeneratorKind, shape: tuple[int, int, int], *, n_classes: int, batch: int = 0, n_selection: int = 64, base: tuple[Path, int] | None = None
) -> Cost:
    """The cost of `kind` for images of `shape` (height, width, channels), with `batch` images a step where one is given. base: of a few-shot
    kind, the folder of the stored fit that it stands on, and its shots, by whose number the cost of a few is multiplied.

    Takes about ten steps of real time, on pixels of noise. A kind without a setting `steps` has no training cost that grows: its whole
    fit counts as one step. Run it alone on the machine: other work on the same cores makes steps look slower than they are.
    """
    settings: Any = kind
    fields = {f.name for f in dataclasses.fields(settings)}
    steps, checks = getattr(settings, "steps", 1), getattr(settings, "checks", 0)
    changes: dict[str, Any] = {"steps": STEPS} if "steps" in fields else {}
    changes |= {"checks": 2, "patience": 0} if {"checks", "patience"} <= fields else {}
    changes |= {"batch": batch} if batch and "batch" in fields else {}
    small = dataclasses.replace(settings, **changes)
    chance = np.random.Generator(np.random.PCG64(seed_of("probe")))

    def pixels(n: int) -> Pixels:
        y = np.arange(max(n, n_classes)) % n_classes
        return Pixels(chance.integers(0, 256, (len(y), *shape), dtype=np.uint8), y, n_classes)

    watch = _Watch()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        started = time.perf_counter()
        on = {"base": base[0]} if base is not None else {}
        fitted = pixels(64 if base is None else FEW)
        small.fit(fitted, pixels(n_selection), seed=0, folder=folder, checkpoint=folder / "checkpoint", progress=watch, **on)
        whole = (time.perf_counter() - started) * (1 if base is None else base[1] / len(fitted.x))
        generator = small.load(folder)
        seeds, conditions = np.arange(DRAWN), np.arange(DRAWN) % n_classes
        started = time.perf_counter()
        generator.sample(seeds, conditions)
        image = (time.perf_counter() - started) / DRAWN
    if "steps" not in fields or len(watch.seconds) < STEPS or not getattr(kind, "trained", True):
        return Cost(whole, image)
    gaps = [b - a for a, b in zip(watch.seconds, watch.seconds[1:], strict=False)]  # gap i is step i + 2
    looks = [gaps[2], gaps[6]]
    step = statistics.median(gaps[:2] + gaps[3:6])
    look = max(0.0, min(looks) - step)
    return Cost(step + look * min(checks, steps) / steps, image)


class _Watch:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def step(self, done: int, total: int, note: str = "") -> None:
        self.seconds.append(time.perf_counter())
