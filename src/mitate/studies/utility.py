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
from mitate.metrics.detection import FOREIGN_ACCEPTED, FOREIGN_AUROC
from mitate.metrics.intervals import Interval, quantile_t, two_way
from mitate.metrics.measures import Measure, at_mix, df_at_mix
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
STRESS: Mapping[str, Any] = {"most": 256}  # held-out images that are attacked and corrupted, at most; else as `Stress` says
TWO_WAY = "two-way over trainings and test images, each widened by its own Student's t"
TRAINED_ON_SYNTHETIC = Metric("trained_on_synthetic", "utility", "higher", 2, TWO_WAY, "accuracy on held-out real images; floor: the same trained on real ones")
RECOGNISED = Metric("recognised", "utility", "higher", 2, TWO_WAY, "share of synthetic images that a model of real ones labels as asked")
GAIN = Metric("gain", "utility", "higher", 2, TWO_WAY, "accuracy with synthetic images mixed in, balanced, over real ones alone")
NO_FOREIGN = "give --foreign FOLDER"
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
    if held_out.groups is not None and len(set(group_numbers(held_out.groups, held_out.names)[1])) < 2:
        return "the held-out images are of one group"
    if len(real.classes) < 2:
        return "one class only: there is nothing to tell apart"
    for which, images in (("synthetic", fakes), ("real", real), ("held-out", held_out)):
        if missing := [c for c, n in images.counts().items() if n == 0]:
            return f"no {which} image of {', '.join(missing[:3])}"
    return ""


def training_of(real: ImageSet, *, shape: tuple[int, int, int], steps: int) -> dict[str, Any]:
    """The settings that all trainings share; images are mirrored where that keeps their class."""
    from mitate.training.augmentation import flips_are_safe
    from mitate.training.loop import Training

    size, _, channels = shape
    return plain(Training(steps=steps, flip=flips_are_safe(real.pixels(size=min(size, 32), channels=channels), real.y)))


def model_job(digests: Mapping[str, str], arm: str, r: int, *, training: Mapping[str, Any], seed: int) -> Job:
    """The training of an arm, replicate `r`."""
    inputs: dict[str, Job | str] = {"real": digests["real"], **({"synthetic": digests["synthetic"]} if arm != REAL else {})}
    settings = {"arm": arm, "training": training, "backbone": BACKBONE, "seed": seed_of("assess", seed, r)}
    return Job(f"train/r{r}/{arm}", "train", VERBS["train"].version, settings, inputs, SECONDS["train"])


def prediction(name: str, model: Job, images: str) -> Job:
    """A model's probabilities of a stored image set."""
    return Job(f"predict/{name}", "predict", VERBS["predict"].version, {"backbone": BACKBONE}, {"model": model, "images": images}, SECONDS["predict"])


def plan(digests: Mapping[str, str], *, training: Mapping[str, Any], replicates: int, seed: int, stress: bool) -> Trainings:
    """Jobs of every training, its predictions, and stress tests of the models that a user might deploy."""
    predicted, stressed = {}, {}
    for r in range(replicates):
        for arm in ARMS:
            model = model_job(digests, arm, r, training=training, seed=seed)
            for role in ("held_out", *(["synthetic"] if arm == REAL else ["real"] if arm == MADE else [])):
                predicted[arm, role, r] = prediction(f"r{r}/{arm}/{role}", model, digests[role])
            if stress and arm != MADE:
                settings = {"backbone": BACKBONE, **STRESS, "seed": seed_of("stress", seed)}
                inputs: dict[str, Job | str] = {"model": model, "images": digests["held_out"]}
                if "foreign" in digests:
                    inputs |= {"foreign": digests["foreign"], "real": digests["real"]}
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
        _score(RECOGNISED, subject, recognised, floor=_at_mix_of(fakes, tables[REAL], held_out, groups), within=(0.0, 1.0)),
        _score(GAIN, subject, gain, floor=Interval(0.0, 0.0, 0.0, len(held_out)), note="a measurement; the verdict is a pilot's"),
        Score(LEEP.name, LEEP.axis, subject, transferable, n=len(real), better=LEEP.better, note="of the model trained on synthetic images, on the real ones"),
    ]


def robustness(trainings: Trainings, found: Mapping[Job, Entry], *, subject: str) -> list[Score]:
    """Each stress measure of the model trained on both, beside that of real images alone; means over the trainings.

    Both models met the same images in every training. Where a job kept what each image adds to a measure (accuracies, AUROC), the two are
    compared image by image, two-way over trainings and images or groups; else by their two intervals, as if other images had been tried.
    """
    rows: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for (arm, _), job in trainings.stressed.items():
        for row in found[job].result["scores"]:
            rows.setdefault(row["metric"], {}).setdefault(arm, []).append(row)
    each = _each(trainings, found)
    scores = []
    for metric, by_arm in rows.items():
        both, alone = by_arm[BOTH], by_arm[REAL]
        if any(row["value"] is None for row in (*both, *alone)):
            scores.append(Score(metric, "robustness", subject, None, note=next(r["note"] for r in (*both, *alone) if r["value"] is None)))
            continue
        told: dict[str, Any] = {"n": both[0]["n"], "better": both[0]["better"], "note": both[0]["note"]}
        if metric in each:
            told |= _paired(each[metric])
        else:
            value, floor = _mean(both), _mean(alone)
            told |= {"value": value.value, "low": value.low, "high": value.high, "floor": floor.value, "floor_low": floor.low, "floor_high": floor.high}
        scores.append(Score(metric, "robustness", subject, **told))
    missing = [metric for metric in (FOREIGN_AUROC, FOREIGN_ACCEPTED) if metric.name not in rows]
    return [*scores, *(Score(metric.name, metric.axis, subject, None, note=NO_FOREIGN, better=metric.better) for metric in missing)]


@dataclass(frozen=True)
class _Each:
    """What each image adds to one measure of two models: float64 [replicates, images] each, with the images' groups."""

    both: np.ndarray
    alone: np.ndarray
    groups: np.ndarray
    least: float  # how far one image that changes its mind moves a mean


def _each(trainings: Trainings, found: Mapping[Job, Entry]) -> dict[str, _Each]:
    """By measure, what the stress jobs kept of every image."""
    tables: dict[str, _Each] = {}
    for name in ("tried.npz", "foreign.npz"):
        kept: dict[str, list[Mapping[str, np.ndarray]]] = {}
        for (arm, _), job in trainings.stressed.items():
            if (path := found[job].path(name)).exists():
                with np.load(path, allow_pickle=False) as held:
                    kept.setdefault(arm, []).append(dict(held))
        if not kept:
            continue
        groups, least = kept[BOTH][0]["groups"], float(kept[BOTH][0]["least"])
        for metric in set.intersection(*(set(part) for parts in kept.values() for part in parts)) - {"groups", "least"}:
            both, alone = (np.stack([part[metric] for part in kept[arm]]) for arm in (BOTH, REAL))
            tables[metric] = _Each(both, alone, groups, least)
    return tables


def _paired(each: _Each) -> dict[str, Any]:
    """Value, floor and how far apart they are, of shares: as fields of a Score."""
    settings: dict[str, Any] = {"confidence": 0.95, "groups": each.groups, "least": each.least}
    value, floor, apart = (two_way(table, **settings) for table in (each.both, each.alone, each.both - each.alone))
    found = {"value": value.value, "floor": floor.value, "apart_low": max(-1.0, apart.low), "apart_high": min(1.0, apart.high)}
    return found | {"low": max(0.0, value.low), "high": min(1.0, value.high), "floor_low": max(0.0, floor.low), "floor_high": min(1.0, floor.high)}


def _table(trainings: Trainings, found: Mapping[Job, Entry], arm: str, role: str, images: ImageSet) -> np.ndarray:
    """Right or wrong, float64 [replicates, images]."""
    plainly = Measure("accuracy", images.classes)
    jobs = [job for (a, on, _), job in trainings.predicted.items() if (a, on) == (arm, role)]
    return np.stack([plainly.contributions(images.y, np.load(found[j].path("probabilities.npy"), allow_pickle=False).argmax(axis=1)) for j in jobs])


def _at_mix_of(fakes: ImageSet, table: np.ndarray, held_out: ImageSet, groups: np.ndarray | None) -> Interval:
    """What held-out images score, right or wrong in `table` [replicates, images], had they the synthetic images' mix of classes.

    Else a set with more of the classes that are hard to know would seem to be labelled wrongly, and one with fewer of them rightly.
    """
    k = len(held_out.classes)
    mix, counts = np.bincount(fakes.y, minlength=k) / len(fakes), np.bincount(held_out.y, minlength=k)
    rows = np.stack([at_mix(held_out.y, right, mix) for right in table])
    least = float((mix / np.maximum(counts, 1)).max())
    return two_way(rows, confidence=0.95, groups=groups, least=least, df_images=df_at_mix(counts, mix))


def _mean(rows: list[Mapping[str, Any]]) -> Interval:
    """The mean over trainings of values on the same images: the images' interval of one training, shifted, plus how far trainings differ."""
    values = np.array([row["value"] for row in rows])
    spread = quantile_t(0.975, len(values) - 1) * float(values.std(ddof=1)) / np.sqrt(len(values))
    value = float(values.mean())
    low, high = (float(np.mean([abs(row[end] - row["value"]) for row in rows])) for end in ("low", "high"))
    return Interval(value, value - float(np.hypot(low, spread)), value + float(np.hypot(high, spread)), rows[0]["n"])


def _score(metric: Metric, subject: str, found: Interval, *, floor: Interval, within: tuple[float, float] = (-1.0, 1.0), note: str = "") -> Score:
    low, high = max(within[0], found.low), min(within[1], found.high)
    return Score(
        metric.name, metric.axis, subject, found.value, low, high, found.n, floor=floor.value, note=note, better=metric.better, floor_low=floor.low,
        floor_high=floor.high,
    )  # fmt: skip
