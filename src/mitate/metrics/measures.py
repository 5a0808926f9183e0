"""What the user wants more of: accuracy, balanced accuracy, macro-F1, recall of a named class, or their own costs.

A measure turns class probabilities into one contribution an image whose mean is the measure. For a measure that is not a plain
average (macro-F1) or whose classes are fixed strata (balanced accuracy, recall) the contributions are its linearisation, so that
their spread is the sampling variance of the measure and paired differences keep their meaning.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, SettingError
from mitate.settings import suggest

NAMES = ("accuracy", "balanced", "macro-f1", "recall:CLASS", "FILE.csv")


@dataclass(frozen=True)
class Measure:
    """name: as typed. target: the class of a recall. costs: [k][k] cost of answering column for row; None for the others."""

    name: str
    classes: tuple[str, ...]
    target: int | None = None
    costs: tuple[tuple[float, ...], ...] | None = None

    @property
    def points(self) -> bool:
        """Whether a hundredth of it is a point; costs have their own unit."""
        return self.costs is None

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Answers, int64 [n], for probabilities [n, k]: the likeliest class, or with costs the one of least expected cost."""
        if self.costs is None:
            return probabilities.argmax(axis=1)
        return (probabilities.astype(np.float64) @ np.asarray(self.costs)).argmin(axis=1)

    def contributions(self, y: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """float64 [n] whose mean is the measure; more is better (costs count negative). y, answers: int64 [n]."""
        right = (y == answers).astype(np.float64)
        if self.costs is not None:
            return -np.asarray(self.costs, dtype=np.float64)[y, answers]
        if self.name == "balanced":
            return at_mix(y, right, np.full(len(self.classes), 1 / len(self.classes)))
        if self.target is not None:
            return at_mix(y, right, np.eye(len(self.classes))[self.target])
        if self.name == "macro-f1":
            return _macro_f1(y, answers, len(self.classes))
        return right

    def counted(self, y: np.ndarray) -> int:
        """Test images that count: of a recall, those of its class; of the others, all."""
        return len(y) if self.target is None else int((y == self.target).sum())

    def one_image(self, y: np.ndarray) -> float:
        """How far the measure moves, at most, when the answer for one image changes.

        Macro-F1: a right answer lost costs its class under 2 / n_k, the class named instead under 1 / (2 n_k); 2.5 / (K n_k) of the
        rarest class bounds the two. Where most answers are right it is nearer to 1 / (K n_k).
        """
        counts = np.maximum(np.bincount(y, minlength=len(self.classes)), 1)
        if self.costs is not None:
            return float(np.ptp(np.asarray(self.costs, dtype=np.float64)) or 1.0) / len(y)
        if self.target is not None:
            return 1 / float(counts[self.target])
        if self.name == "balanced":
            return 1 / float(len(self.classes) * counts.min())
        if self.name == "macro-f1":
            return 2.5 / float(len(self.classes) * counts.min())
        return 1 / len(y)

    def df_images(self, y: np.ndarray) -> float:
        """Degrees of freedom that the images leave: of the rarest class that counts, where classes are strata."""
        counts = np.bincount(y, minlength=len(self.classes))
        if self.target is not None:
            return float(max(1, counts[self.target] - 1))
        if self.name == "balanced":
            return df_at_mix(counts, np.full(len(self.classes), 1 / len(self.classes)))
        return float(max(1, len(y) - 1))

    def check(self, y: np.ndarray) -> None:
        """Raise DataError where these test images cannot carry the measure."""
        counts = np.bincount(y, minlength=len(self.classes))
        needed = [self.target] if self.target is not None else range(len(self.classes)) if self.name in ("balanced", "macro-f1") else []
        for k in needed:
            if counts[k] < 2:
                raise DataError(
                    f"The measure {self.name} needs test images of {self.classes[k]!r}; there are {counts[k]}.", fix="add test images of that class"
                )


def parse(text: str, classes: Sequence[str]) -> Measure:
    """The measure as typed: a name, `recall:CLASS`, or a CSV file of costs (first row and column: class names)."""
    classes = tuple(classes)
    if text in ("accuracy", "balanced", "macro-f1"):
        return Measure(text, classes)
    if text.startswith("recall:"):
        name = text.removeprefix("recall:")
        if name not in classes:
            raise SettingError(f"There is no class {name!r}.", fix=suggest(name, classes))
        return Measure(text, classes, target=classes.index(name))
    if text.endswith(".csv"):
        return Measure("costs", classes, costs=_read_costs(Path(text), classes))
    raise SettingError(f"There is no measure {text!r}.", fix=suggest(text, NAMES))


def freeze(measure: Measure) -> dict[str, Any]:
    """The measure as a plain record: a CSV of costs is read once and its numbers are what is kept."""
    return {"name": measure.name, "target": measure.target, "costs": measure.costs}


def thaw(facts: Mapping[str, Any], classes: Sequence[str]) -> Measure:
    """The measure of a record written by `freeze`."""
    costs = facts["costs"]
    return Measure(facts["name"], tuple(classes), facts["target"], tuple(tuple(row) for row in costs) if costs else None)


def at_mix(y: np.ndarray, right: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Contributions, float64 [n], centred within their class, whose mean is that of `right` had the classes the shares `mix` [classes], of sum 1.

    right float64 [n], y int64 [n]. Every class that has a share needs an image (direct standardisation). A class of n_k images leaves
    n_k - 1 degrees of freedom to its spread. The mean of squares over all n images is taken over n - 1 (`two_way`), so the centred part
    is stretched by the root of n_k / (n_k - 1) * (n - 1) / n.
    """
    n, out, value = len(y), np.zeros(len(y)), 0.0
    for k in np.flatnonzero(mix):
        mine = y == k
        n_k = int(mine.sum())
        share = right[mine].mean()
        value += share * mix[k]
        stretch = np.sqrt(n_k / (n_k - 1) * (n - 1) / n) if n_k > 1 else 1.0
        out[mine] = (right[mine] - share) * stretch * n * mix[k] / n_k
    return out + value


def df_at_mix(counts: np.ndarray, mix: np.ndarray) -> float:
    """Degrees of freedom that `counts` [classes] images leave to a number at the mix, with equal spread within the classes (Satterthwaite 1946)."""
    parts = mix**2 / np.maximum(counts, 1)
    return float(parts.sum() ** 2 / (parts**2 / np.maximum(counts - 1, 1)).sum())


def _macro_f1(y: np.ndarray, answers: np.ndarray, n_classes: int) -> np.ndarray:
    """Macro-F1 plus n times its derivative in each image's weight (the infinitesimal jackknife)."""
    n, out, value = len(y), np.zeros(len(y)), 0.0
    for k in range(n_classes):
        true, said = y == k, answers == k
        top, bottom = 2.0 * (true & said), true.astype(float) + said
        if bottom.sum() == 0:
            continue
        f1 = top.sum() / bottom.sum()
        value += f1 / n_classes
        out += n * (top - f1 * bottom) / bottom.sum() / n_classes
    return out + value


def _read_costs(path: Path, classes: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        raise SettingError(f"The costs {path} cannot be read ({wrong}).", fix="give a CSV file in UTF-8, or a measure by name") from wrong
    head = [name.strip() for name in rows[0][1:]] if rows else []
    body = {row[0].strip(): row[1:] for row in rows[1:]}
    if set(head) != set(classes) or set(body) != set(classes):
        raise SettingError(
            f"The costs {path} name other classes than the images ({', '.join(classes)}).",
            fix="first row: answers; first column: truth; every class once in both",
        )
    try:
        table = {name: dict(zip(head, map(float, row), strict=True)) for name, row in body.items()}
    except ValueError as wrong:
        raise SettingError(f"The costs {path} hold something that is no number ({wrong}).", fix="one number in every cell") from wrong
    if not all(np.isfinite(v) for row in table.values() for v in row.values()):
        raise SettingError(f"The costs {path} hold a number that is not finite.", fix="one finite number in every cell")
    return tuple(tuple(table[a][b] for b in classes) for a in classes)
