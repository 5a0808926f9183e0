"""The verdict and its rules: three answers, a test split opened at most three times, and what a test can show at all.

The rule looks at one interval: that of the candidate's gain over the baseline on the test split.

    go              the whole interval lies above the smallest worthwhile gain
    stop            the whole interval lies below it
    more evidence   neither

The first look uses the 95 % interval, the second and third 97.5 %. A fifth of the error lies beyond the low end, which a `go` rests
on, and four fifths beyond the high end: replicates that fail now and then make a gain lean to one side, and an equal-tailed interval
then says `go` twice as often as it should. Over all three looks a false `go` stays within 5 %, a false `stop` within 10 %
(benchmarks/decision_quality.py; docs/statistics.md).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mitate.errors import DataError
from mitate.files import disk_errors, locked
from mitate.metrics.intervals import Interval, quantile_t
from mitate.settings import parsed
from mitate.store import Store

Verdict = Literal["go", "stop", "more evidence"]
CONFIDENCE = (0.95, 0.975, 0.975)  # of the interval at looks 1, 2, 3
LOW_SHARE = 0.2  # of its error, beyond the low end
SCREEN = 0.90  # confidence of the reach gate: with two replicates its rows' own t is wide enough (docs/statistics.md has its true rates)
COPIES_MARGIN = 0.05  # share of copies above the hold-out's own that no generator may exceed
POWER = 0.8

# Planning values for the smallest detectable gain, before anything has been measured: guesses, see docs/statistics.md.
PLAN_ROW_SD = 0.025  # spread of a replicate's gain
PLAN_IMAGE_VARIANCE = 0.10  # variance over images of the mean paired difference


def decide(gain: Interval, *, worthwhile: float) -> Verdict:
    """The verdict on one interval."""
    if gain.low > worthwhile:
        return "go"
    if gain.high < worthwhile:
        return "stop"
    return "more evidence"


def detectable(
    *,
    test_images: int,
    replicates: int,
    confidence: float,
    row_sd: float = PLAN_ROW_SD,
    image_variance: float = PLAN_IMAGE_VARIANCE,
    overlap: float = 0.0,
) -> float:
    """The gain above the worthwhile one that gets a `go` with 80 % power. overlap: of cross-fitting, as in `two_way`."""
    se_rows, se_images = row_sd * math.sqrt(1 / replicates + overlap), math.sqrt(image_variance / test_images)
    planned = Interval(0.0, 0.0, 0.0, test_images, se_rows, se_images, max(1, replicates - 1), max(1, test_images - 1))
    return detectable_from(planned, confidence=confidence)


def detectable_from(gain: Interval, *, confidence: float) -> float:
    """The same from an interval's standard errors."""
    return gain.reach((1 - confidence) * LOW_SHARE) + gain.reach(1 - POWER)


def smaller_by(
    *,
    test_images: int,
    replicates: int,
    confidence: float,
    row_sd: float = PLAN_ROW_SD,
    image_variance: float = PLAN_IMAGE_VARIANCE,
    overlap: float = 0.0,
) -> list[dict[str, Any]]:
    """What would make the detectable gain clearly smaller (by a tenth or more), and to what; may be empty.

    More replicates do not shrink the part of `overlap`: it stays however many there are.
    """
    spread = {"row_sd": row_sd, "image_variance": image_variance, "confidence": confidence, "overlap": overlap}
    now = detectable(test_images=test_images, replicates=replicates, **spread)
    changes = [("test_images", k * test_images, replicates) for k in (2, 4)] + [("replicates", test_images, k * replicates) for k in (2, 3)]
    options = []
    for change, images, rounds in changes:
        gain = detectable(test_images=images, replicates=rounds, **spread)
        if gain < 0.9 * now:
            options.append({"change": change, "to": images if change == "test_images" else rounds, "gain": gain})
    return options


# the ledger of opened test images -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opening:
    """One look at test images by one study."""

    study: str
    test: str
    run: str
    images: tuple[str, ...]


def look_number(store: Store, *, study: str, images: tuple[str, ...]) -> int:
    """Which look at these test images `study` is: 1 to 3. The same study again is the same look. DataError for a fourth.

    Another run counts as a look when it shares a tenth of the smaller test split: overlapping tests share their luck.
    """
    mine, before = set(images), []
    for opening in _openings(store):
        shared = len(mine.intersection(opening.images))
        if shared and shared >= 0.1 * min(len(mine), len(opening.images)) and opening.study not in before:
            before.append(opening.study)
    if study in before:
        return before.index(study) + 1
    if len(before) >= len(CONFIDENCE):
        raise DataError(
            f"These test images were opened {len(before)} times already; a further look would no longer be honest.",
            fix="collect new test images, and test on those",
        )
    return len(before) + 1


def record_opening(store: Store, *, study: str, test: str, run: Path, images: tuple[str, ...]) -> int:
    """Write the opening down, once a study, before any test image is looked at, and return which look it is.

    The number is taken and written under a lock, so pilots that run side by side on the same test images take turns.
    """
    line = json.dumps({"study": study, "test": test, "run": run.name, "images": list(images)}, ensure_ascii=False)
    with disk_errors(store.root), locked(store.root / "openings.lock"):
        look = look_number(store, study=study, images=images)
        if any(o.study == study for o in _openings(store)):
            return look
        path = _ledger(store)
        whole = not path.exists() or path.read_bytes()[-1:] in (b"\n", b"")
        with open(path, "a", encoding="utf-8") as out:
            out.write(("" if whole else "\n") + line + "\n")
            out.flush()
            os.fsync(out.fileno())
    return look


def _openings(store: Store) -> list[Opening]:
    """The readable lines of the ledger; a line that a full disk cut short was never an opening, the study stops before it looks."""
    try:
        lines = _ledger(store).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            facts = parsed(line)
            found.append(Opening(str(facts["study"]), str(facts["test"]), str(facts["run"]), tuple(map(str, facts["images"]))))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _ledger(store: Store) -> Path:
    return store.root / "openings.jsonl"


def above_chance(contributions: np.ndarray, *, chance: float, least: float, groups: np.ndarray | None = None) -> tuple[float, float, bool]:
    """Mean, its upper 97.5 % bound, and whether that bound lies above chance: can a model learn anything from these labels?

    least: how far one image moves the mean; the standard error is never taken smaller. groups: int [images], images that vary
    together; at least two groups.
    """
    n = len(contributions)
    members = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(members.max()) + 1
    if count < 2:
        raise ValueError(f"{count} groups of images have no bound")
    mean = float(contributions.mean())
    squares = float((np.bincount(members, weights=contributions - mean) ** 2).sum())
    high = mean + quantile_t(0.975, count - 1) * max(math.sqrt(squares * count / (count - 1)) / n, least)
    return mean, high, high > chance
