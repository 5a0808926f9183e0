"""Choosing: which pictures of a judged set are kept, by a rule that was fixed before, each drop with its reason; and what that does to their diversity.

keep = chosen(verdicts, sentences, "right")      those that are wholly right
keep = chosen(verdicts, sentences, "best:0.5")   the half with the highest scores
keep = chosen(verdicts, sentences, "each:1")     of each sentence's pictures the best one (best of n)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mitate.curation.verdicts import Verdicts
from mitate.errors import DataError, SettingError
from mitate.metrics.vendi import vendi

RULES = ("all", "right", "best:SHARE", "each:NUMBER")


@dataclass(frozen=True)
class Rule:
    """kind: all, right, best or each; amount: a share, or a number of pictures."""

    kind: str
    amount: float = 0.0

    @classmethod
    def read(cls, text: str) -> Rule:
        kind, _, amount = text.partition(":")
        try:
            value = float(amount) if amount else 0.0
        except ValueError:
            value = -1.0
        fine = {"all": not amount, "right": not amount, "best": 0 < value <= 1, "each": value >= 1 and value.is_integer()}
        if not fine.get(kind, False):
            raise SettingError(f"{text!r} is no rule for what is kept.", fix=f"write one of {', '.join(RULES)}, like best:0.5")
        return cls(kind, value)


def chosen(verdicts: Verdicts, sentences: Sequence[str], rule: str) -> np.ndarray:
    """What is kept, bool [n]. Of equal scores the earlier picture is the better one. DataError for `right` of a judge that cannot tell."""
    how, n = Rule.read(rule), len(verdicts.score)
    if how.kind == "all":
        return np.ones(n, bool)
    if how.kind == "right":
        if verdicts.right is None:
            raise DataError("This judge gives scores and does not say what is right.", fix="keep best:0.5, or judge by the oracle")
        return verdicts.right.copy()
    order = sorted(range(n), key=lambda i: (-verdicts.score[i], i))
    kept = np.zeros(n, bool)
    if how.kind == "best":
        kept[order[: max(1, round(how.amount * n))]] = True
        return kept
    taken: dict[str, int] = {}
    for i in order:
        taken[sentences[i]] = taken.get(sentences[i], 0) + 1
        kept[i] = taken[sentences[i]] <= how.amount
    return kept


def reason(verdicts: Verdicts, i: int, rule: str, judge: str) -> str:
    """Why picture i was dropped."""
    if Rule.read(rule).kind == "right":
        return f"{judge}: {verdicts.score[i]:.0%} of the questions answered yes"
    return f"{judge}: score {verdicts.score[i]:.3g}, not among {rule}"


def variety(features: np.ndarray, kept: np.ndarray, *, seed: int) -> tuple[float, float]:
    """Vendi scores (effective numbers of different pictures) of those kept, and of as many of all by chance: choosing must not cost variety unseen.

    features: float [n, d]; kept: bool [n], at least 2.
    """
    count = int(kept.sum())
    some = np.random.default_rng(seed).permutation(len(kept))[:count]
    return vendi(features[kept]), vendi(features[np.sort(some)])
