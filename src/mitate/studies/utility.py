"""Utility and robustness of a synthetic set: small models trained on it, beside it and without it, and tested on held-out real images.

    real+augment        real images only: the floor
    synthetic+augment   synthetic images only, tested on real ones (TSTR)
    balanced+augment    both, half of each batch real: what a user would do

The set is fixed, so a replicate is another training: what is said holds for this set, not for its generator (a pilot refits that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mitate.images import ImageSet
from mitate.metrics.intervals import Interval, two_way
from mitate.metrics.measures import Measure
from mitate.runtime import seed_of
from mitate.score import Metric, Score
from mitate.settings import plain
from mitate.store import Entry
from mitate.studies.arms import group_numbers
from mitate.study import Job
from mitate.verbs import VERBS

REAL, MADE, BOTH = "real+augment", "synthetic+augment", "balanced+augment"
ARMS = (REAL, MADE, BOTH)
BACKBONE = {"name": "small", "variant": "", "frozen": False}
STRESSED = 256  # held-out images that are attacked and corrupted, at most
TWO_WAY = "two-way over trainings and test images, each widened by its own Student's t"
TRAINED_ON_SYNTHETIC = Metric("trained_on_synthetic", "utility", "higher", 2, TWO_WAY, "accuracy on held-out real images; floor: the same trained on real ones")
RECOGNISED = Metric("recognised", "utility", "higher", 2, TWO_WAY, "share of synthetic images that a model of real ones labels as asked")
GAIN = Metric("gain", "utility", "higher", 2, TWO_WAY, "accuracy with synthetic images mixed in, balanced, over real ones alone")
SECONDS = {"train": 15.0, "predict": 0.3, "stress": 30.0}  # guesses, for the progress line only


@dataclass(frozen=True)
class Trainings:
    """The jobs: predictions by (arm, on which set, replicate), and stress tests by (arm, replicate)."""

    predicted: Mapping[tuple[str, str, int], Job]
    stressed: Mapping[tuple[str, int], Job]

    @property
    def jobs(self) -> list[Job]:
        return [*self.predicted.values(), *self.stressed.values()]


def why_not(fakes: ImageSet, real: ImageSet, held_out: ImageSet | None) -> str:
    """Why utility cannot be measured; "" where it can."""
    if held_out is None:
        return "needs held-out real images to test on"
    if any(k < 0 for k in real.labels) or any(k < 0 for k in held_out.labels):
        return "real images without a label"
    if held_out.classes != real.classes:
        return "the held-out images have other classes than the real ones"
    if len(real.classes) < 2:
        return "one class only: there is nothing to tell apart"
    for which, images in (("synthetic", fakes), ("real", real), ("held-out", held_out)):
        if missing := [c for c, n in images.counts().items() if n == 0]:
            return f"no {which} image of {', '.join(missing[:3])}"
    return ""


def plan(digests: Mapping[str, str], real: ImageSet, *, shape: tuple[int, int, int], steps: int, replicates: int, seed: int, stress: bool) -> Trainings:
    """Jobs of every training, its predictions, and stress tests of the models that a user might deploy."""
    from mitate.training.augmentation import flips_are_safe
    from mitate.training.loop import Training

    size, _, channels = shape
    training = plain(Training(steps=steps, flip=flips_are_safe(real.pixels(size=min(size, 32), channels=channels), real.y)))
    predicted, stressed = {}, {}
    for r in range(replicates):
        for arm in ARMS:
            inputs: dict[str, Job | str] = {"real": digests["real"], **({"synthetic": digests["synthetic"]} if arm != REAL else {})}
            settings = {"arm": arm, "training": training, "backbone": BACKBONE, "seed": seed_of("assess", seed, r)}
            model = Job(f"train/r{r}/{arm}", "train", VERBS["train"].version, settings, inputs, SECONDS["train"])
            for role in ("held_out", *(["synthetic"] if arm == REAL else ["real"] if arm == MADE else [])):
                inputs = {"model": model, "images": digests[role]}
                predicted[arm, role, r] = Job(
                    f"predict/r{r}/{arm}/{role}", "predict", VERBS["predict"].version, {"backbone": BACKBONE}, inputs, SECONDS["predict"]
                )
            if stress and arm != MADE:
                settings = {"backbone": BACKBONE, "most": STRESSED, "seed": seed_of("stress", seed)}
                inputs = {"model": model, "images": digests["held_out"]}
                stressed[arm, r] = Job(f"stress/r{r}/{arm}", "stress", VERBS["stress"].version, settings, inputs, SECONDS["stress"])
    return Trainings(predicted, stressed)


def utility(trainings: Trainings, found: Mapping[Job, Entry], *, fakes: ImageSet, real: ImageSet, held_out: ImageSet, subject: str) -> list[Score]:
    """Trained on synthetic and tested on real, recognised by a model of real images, the gain, and LEEP; each with its floor."""
    from mitate.metrics.transfer import LEEP, leep

    groups, _ = group_numbers(held_out.groups, held_out.names)
    tables = {arm: _table(trainings, found, arm, "held_out", held_out) for arm in ARMS}
    settings: dict[str, Any] = {"confidence": 0.95, "groups": groups}
    alone, made = two_way(tables[REAL], **settings), two_way(tables[MADE], **settings)
    gain = two_way(tables[BOTH] - tables[REAL], **settings)
    known = _table(trainings, found, REAL, "synthetic", fakes)
    recognised = two_way(known, confidence=0.95)
    source = [
        np.load(found[trainings.predicted[key]].path("probabilities.npy"), allow_pickle=False) for key in trainings.predicted if key[:2] == (MADE, "real")
    ]
    transferable = float(np.mean([leep(p, real.y) for p in source]))
    return [
        _score(TRAINED_ON_SYNTHETIC, subject, made, floor=alone, within=(0.0, 1.0)),
        _score(RECOGNISED, subject, recognised, floor=alone, within=(0.0, 1.0)),
        _score(GAIN, subject, gain, floor=Interval(0.0, 0.0, 0.0, len(held_out)), note="a measurement; the verdict is a pilot's"),
        Score(LEEP.name, LEEP.axis, subject, transferable, n=len(real), better=LEEP.better, note="of the model trained on synthetic images, on the real ones"),
    ]


def robustness(trainings: Trainings, found: Mapping[Job, Entry], *, subject: str) -> list[Score]:
    """Each stress measure of the model trained on both, beside that of real images alone; means over the trainings."""
    rows: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for (arm, _), job in trainings.stressed.items():
        for row in found[job].result["scores"]:
            rows.setdefault(row["metric"], {}).setdefault(arm, []).append(row)
    scores = []
    for metric, by_arm in rows.items():
        both, alone = by_arm[BOTH], by_arm[REAL]
        if any(row["value"] is None for row in (*both, *alone)):
            scores.append(Score(metric, "robustness", subject, None, note=next(r["note"] for r in (*both, *alone) if r["value"] is None)))
            continue
        value, floor = _mean(both), _mean(alone)
        ends: dict[str, Any] = {"low": value.low, "high": value.high, "floor": floor.value, "floor_low": floor.low, "floor_high": floor.high}
        scores.append(Score(metric, "robustness", subject, value.value, n=value.n, better=both[0]["better"], note=both[0]["note"], **ends))
    return scores


def _table(trainings: Trainings, found: Mapping[Job, Entry], arm: str, role: str, images: ImageSet) -> np.ndarray:
    """Right or wrong, float64 [replicates, images]."""
    plainly = Measure("accuracy", images.classes)
    jobs = [job for (a, on, _), job in trainings.predicted.items() if (a, on) == (arm, role)]
    return np.stack([plainly.contributions(images.y, np.load(found[j].path("probabilities.npy"), allow_pickle=False).argmax(axis=1)) for j in jobs])


def _mean(rows: list[Mapping[str, Any]]) -> Interval:
    """The mean over trainings of values on the same images: the images' interval of one training, shifted, plus how far trainings differ."""
    values = np.array([row["value"] for row in rows])
    spread = 2.0 * float(values.std(ddof=1)) / np.sqrt(len(values))
    value = float(values.mean())
    low, high = (float(np.mean([abs(row[end] - row["value"]) for row in rows])) for end in ("low", "high"))
    return Interval(value, value - float(np.hypot(low, spread)), value + float(np.hypot(high, spread)), rows[0]["n"])


def _score(metric: Metric, subject: str, found: Interval, *, floor: Interval, within: tuple[float, float] = (-1.0, 1.0), note: str = "") -> Score:
    low, high = max(within[0], found.low), min(within[1], found.high)
    return Score(
        metric.name, metric.axis, subject, found.value, low, high, found.n, floor=floor.value, note=note, better=metric.better, floor_low=floor.low,
        floor_high=floor.high,
    )  # fmt: skip
