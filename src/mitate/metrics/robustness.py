"""Robustness of one classifier on one set of images: attacks, corruptions, calibration, each beside what the same images give clean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mitate.metrics.ascent import Norm, evaluating
from mitate.metrics.attacks import CHUNK, FGSM_ACCURACY, PGD_ACCURACY, PGD_STEPS, ROBUST_ACCURACY, TARGETS, apgd, correct, fgsm, pgd, square, under_attack
from mitate.metrics.calibration import BINS, BRIER, CALIBRATION_ERROR, LOG_LOSS, Calibration, calibration
from mitate.metrics.corruptions import CORRUPTED_ACCURACY, KINDS, UnderCorruption, answers, corrupted_accuracy
from mitate.metrics.intervals import Interval, share_of, wilson
from mitate.score import Metric

LEAST = 10  # images
A_BIN = 10  # images a bin of the calibration error, 15 bins at most
SEARCHED = 64  # images that PGD left, at most, on which attacks without many gradients are tried
HIDDEN = 0.1  # share of them that falls from which on gradients look hidden

CLEAN_ACCURACY = Metric("clean_accuracy", "robustness", "higher", LEAST, ROBUST_ACCURACY.interval, "share of right answers on images as they are")
SHIFTED_CALIBRATION_ERROR, SHIFTED_BRIER, SHIFTED_LOG_LOSS = (
    Metric(f"shifted_{m.name}", m.axis, m.better, m.least_n, m.interval, f"{m.source}; on corrupted images") for m in (CALIBRATION_ERROR, BRIER, LOG_LOSS)
)
METRICS = (  # of `rows`
    *(CLEAN_ACCURACY, FGSM_ACCURACY, PGD_ACCURACY, ROBUST_ACCURACY, CORRUPTED_ACCURACY),
    *(CALIBRATION_ERROR, BRIER, LOG_LOSS, SHIFTED_CALIBRATION_ERROR, SHIFTED_BRIER, SHIFTED_LOG_LOSS),
)


@dataclass(frozen=True)
class Stress:
    """How hard a model is tried. eps in the unit of images in 0 to 1; `headline` is the one of them that stands for all where one number is wanted.

    The steps of APGD are for comparing models; a claim that one resists should rest on 100, with all targets.
    """

    norm: Norm = "linf"
    eps: tuple[float, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    headline: float = 2 / 255
    pgd_steps: int = PGD_STEPS
    apgd_steps: int = 20
    targets: int = TARGETS
    queries: int = 100
    corruptions: tuple[str, ...] = tuple(KINDS)

    def __post_init__(self) -> None:
        if not self.eps or any(not 0 < eps < math.inf for eps in self.eps) or list(self.eps) != sorted(set(self.eps)):
            raise ValueError(f"eps is {self.eps}; fix: give sizes above 0 that rise")
        if self.headline not in self.eps:
            raise ValueError(f"headline is {self.headline}; fix: choose one of eps")
        if min(self.pgd_steps, self.apgd_steps, self.targets, self.queries) < 1:
            raise ValueError("steps, targets and queries are whole numbers; fix: give 1 or more")
        if not self.corruptions or set(self.corruptions) - set(KINDS):
            raise ValueError(f"corruptions are {self.corruptions}; fix: choose from {', '.join(KINDS)}")


@dataclass(frozen=True)
class Attacked:
    """Accuracy under one attack at one eps, and what it took away from clean accuracy."""

    attack: str  # fgsm, pgd, or worst: FGSM, PGD, APGD and the search together
    eps: float
    accuracy: Interval
    drop: Interval
    kept: np.ndarray  # bool [n], right under the attack


@dataclass(frozen=True)
class Robustness:
    """What `robustness` measures; every part is of the same n images."""

    n: int
    counted: int  # groups of images that vary together; images where there are none
    stress: Stress
    clean: Interval
    right: np.ndarray  # bool [n], when clean
    attacks: tuple[Attacked, ...]
    hidden: Interval | None  # at the largest eps, share of images that PGD left and one step or a search without gradients fools; None below 10
    corruption: UnderCorruption
    calibration: Calibration
    shifted: Calibration  # of the corrupted images; intervals count images

    @property
    def gradients_hidden(self) -> bool:
        """Whether attacks by gradients look weak on this model: then their accuracies say little, and more queries are called for."""
        return self.hidden is not None and self.hidden.low > HIDDEN

    def under(self, attack: str, eps: float) -> Attacked:
        for found in self.attacks:
            if (found.attack, found.eps) == (attack, eps):
                return found
        raise KeyError((attack, eps))


def robustness(
    model: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    *,
    seed: int,
    stress: Stress | None = None,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Robustness:
    """Accuracy clean, attacked and corrupted, and calibration clean and corrupted. x: uint8 [n, h, w, c], c of 1 or 3; y: int64 [n].

    model: any torch module from float [n, c, h, w] in 0 to 1 to logits. `worst` at an eps is the share that no attack fooled at that eps or
    a smaller one; APGD goes from the largest eps down and leaves out what it could not fool there, so that time is not spent twice on
    images that resist. All are upper bounds. groups: int [n], images of one patient or plant: intervals then count groups (that of `hidden`, a
    warning, does not). Raises ValueError below 10 images, or with a single group.
    """
    stress = stress or Stress()
    if len(x) < LEAST:
        raise ValueError(f"needs {LEAST} images, has {len(x)}; fix: give more")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images, labels = _tensor(x).to(device), torch.from_numpy(y).to(device)
    right = correct(model, images, labels)
    attacks, hidden = _attack(model, images, labels, right, stress, seed, groups, confidence)
    with evaluating(model):
        predict = partial(_predict, model, device)
        clean, said = predict(x), answers(predict, x, seed=seed, kinds=stress.corruptions)
    versions = said.shape[0] * said.shape[1]
    bins, members = min(BINS, len(x) // A_BIN), np.arange(len(x)) if groups is None else groups
    return Robustness(
        len(x),
        len(np.unique(members)),
        stress,
        share_of(right, groups=groups, confidence=confidence),
        right,
        attacks,
        hidden,
        corrupted_accuracy(said.argmax(axis=3) == y, right, groups=groups, confidence=confidence),
        calibration(clean, y, groups=groups, bins=bins, confidence=confidence),
        calibration(said.reshape(-1, said.shape[3]), np.tile(y, versions), groups=np.tile(members, versions), bins=bins, confidence=confidence),
    )


def _attack(
    model: nn.Module, x: Tensor, y: Tensor, right: np.ndarray, stress: Stress, seed: int, groups: np.ndarray | None, confidence: float
) -> tuple[tuple[Attacked, ...], Interval | None]:
    def kept(mask: np.ndarray, attack: Callable[..., Tensor]) -> np.ndarray:
        """Which of the images of `mask` are still right under the attack."""
        rows = np.flatnonzero(mask)
        left = mask.copy()
        if len(rows):
            chosen = torch.from_numpy(rows).to(x.device)
            left[rows] = correct(model, attack(model, x[chosen], y[chosen], rows=rows), y[chosen])
        return left

    simple = {
        eps: (kept(right, partial(fgsm, eps=eps, norm=stress.norm)), kept(right, partial(pgd, eps=eps, norm=stress.norm, steps=stress.pgd_steps, seed=seed)))
        for eps in stress.eps
    }
    left, worst = right, {}
    for eps, (one_step, many) in simple.items():
        left = left & one_step & many  # what falls at a smaller eps has fallen at this one too
        worst[eps] = left
    resists = np.zeros(len(x), dtype=bool)  # at a larger eps
    for eps in reversed(stress.eps):
        tried = kept(worst[eps] & ~resists, partial(apgd, eps=eps, norm=stress.norm, steps=stress.apgd_steps, targets=stress.targets, seed=seed))
        resists |= tried
        worst[eps] = worst[eps] & resists
    most = stress.eps[-1]
    one_step, many = simple[most]
    some = np.zeros(len(x), dtype=bool)
    some[np.flatnonzero(many)[:SEARCHED]] = True
    searched = kept(some, partial(square, eps=most, norm=stress.norm, queries=stress.queries, seed=seed))
    hidden = wilson(int((some & ~(searched & one_step)).sum()), int(some.sum()), confidence=confidence) if some.sum() >= LEAST else None
    worst[most] = worst[most] & (searched | ~some)
    found = []
    for eps, (one_step, many) in simple.items():
        for name, mask in (("fgsm", one_step), ("pgd", many), ("worst", worst[eps])):
            result = under_attack(right, mask, groups=groups, confidence=confidence)
            found.append(Attacked(name, eps, result.robust, result.drop, result.kept))
    return tuple(found), hidden


@torch.no_grad()
def _predict(model: nn.Module, device: torch.device, x: np.ndarray) -> np.ndarray:
    parts = [torch.softmax(model(_tensor(x[i : i + CHUNK]).to(device)), dim=1).cpu() for i in range(0, len(x), CHUNK)]
    return torch.cat(parts).numpy()


def _tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(x)).permute(0, 3, 1, 2).float().div_(255)


# written down ---------------------------------------------------------------------------------------------------------


def facts(found: Robustness) -> dict[str, Any]:
    """All of it as plain values; each number with its ends and n."""
    return {
        "images": found.n,
        "groups": found.counted,
        "norm": found.stress.norm,
        "clean": found.clean.record,
        "attacks": [{"attack": a.attack, "eps": a.eps, "accuracy": a.accuracy.record, "drop": a.drop.record} for a in found.attacks],
        "hidden": None if found.hidden is None else found.hidden.record,
        "gradients_hidden": found.gradients_hidden,
        "corruption": {
            "accuracy": found.corruption.corrupted.record,
            "drop": found.corruption.drop.record,
            "kept": found.corruption.kept,
            "by_kind": {kind: part.record for kind, part in zip(found.stress.corruptions, found.corruption.by_kind, strict=True)},
            "by_severity": [part.record for part in found.corruption.by_severity],
        },
        "calibration": _calibration(found.calibration),
        "shifted": _calibration(found.shifted),
    }


def rows(found: Robustness) -> list[dict[str, Any]]:
    """One row a metric, as a Score without its subject; attacks at the headline eps."""
    at = f"{found.stress.norm}, eps {found.stress.headline:.3g} of 1"
    attacked = {name: found.under(name, found.stress.headline).accuracy for name in ("fgsm", "pgd", "worst")}
    doubt = "; gradients look hidden, so it may be far too high" if found.gradients_hidden else ""
    scores = [
        _row(CLEAN_ACCURACY, found.clean),
        _row(FGSM_ACCURACY, attacked["fgsm"], f"{at}: one step"),
        _row(PGD_ACCURACY, attacked["pgd"], f"{at}: {found.stress.pgd_steps} steps{doubt}"),
        _row(ROBUST_ACCURACY, attacked["worst"], f"{at}: no attack found, APGD of {found.stress.apgd_steps} steps and {found.stress.targets} targets{doubt}"),
        _row(CORRUPTED_ACCURACY, found.corruption.corrupted, f"mean over {len(found.stress.corruptions)} corruptions, 5 severities"),
    ]
    for metrics, part in (
        ((CALIBRATION_ERROR, BRIER, LOG_LOSS), found.calibration),
        ((SHIFTED_CALIBRATION_ERROR, SHIFTED_BRIER, SHIFTED_LOG_LOSS), found.shifted),
    ):
        for metric, value in zip(metrics, (part.error, part.brier.score, part.log_loss), strict=True):
            has = f"images, has {found.n}" if found.counted == found.n else f"images or groups, has {found.counted}"
            scores.append(_row(metric, value, "" if value is not None else f"needs {metric.least_n} {has}"))
    return [row | {"n": found.n} if row["value"] is not None else row for row in scores]


def outcomes(found: Robustness) -> dict[str, np.ndarray]:
    """What each image adds to the accuracies of `rows`, float64 [n] by metric, 0 to 1: their means are the values."""
    attacked = {name: found.under(name, found.stress.headline).kept for name in ("fgsm", "pgd", "worst")}
    each = {
        CLEAN_ACCURACY: found.right, FGSM_ACCURACY: attacked["fgsm"], PGD_ACCURACY: attacked["pgd"], ROBUST_ACCURACY: attacked["worst"],
        CORRUPTED_ACCURACY: found.corruption.each,
    }  # fmt: skip
    return {metric.name: values.astype(np.float64) for metric, values in each.items()}


def _row(metric: Metric, value: Interval | None, note: str = "") -> dict[str, Any]:
    numbers = {"value": None} if value is None else value.record
    return {"metric": metric.name, "axis": metric.axis, **numbers, "note": note, "better": metric.better}


def _calibration(part: Calibration) -> dict[str, Any]:
    pieces = {name: getattr(part.brier, name) for name in ("reliability", "resolution", "uncertainty", "within")}
    error, debiased = (None if value is None else value.record for value in (part.error, part.debiased))
    return {"error": error, "debiased": debiased, "brier": part.brier.score.record, "brier_parts": pieces, "log_loss": part.log_loss.record}
