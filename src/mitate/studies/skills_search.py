"""The merge `searched` of a study of skills: the mean of its experts by weights that were searched on prompts held out.

These prompts are of the content that training may show, of every skill as many; no expert of the replicate has learnt by them, and no model is measured by them
(`search_prompts`). Every merge paints them from the same seeds, and the chooser judges: the judge that measures has no part in it, unless it is the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mitate.curation.verdicts import Verdicts
from mitate.generators.merging import DeltaMean, Merge, merge
from mitate.generators.searching import Found, search
from mitate.generators.updates import Updates


def searched(experts: Mapping[str, Updates], look: Callable[[Updates], Mapping[str, Verdicts]], *, budget: int) -> tuple[Merge, Found]:
    """The best mean of the experts, and how it was found. look: what is made of a merge's pictures, by skill."""
    found = search(lambda weights: score_of(look(merge(experts, DeltaMean(weights=weights)).updates).values()), len(experts), budget=budget)
    return merge(experts, DeltaMean(weights=found.weights)), found


def score_of(found: Iterable[Verdicts]) -> float:
    """One number of verdicts on several skills, each counting the same: the share that is wholly right, or the mean score of a judge that cannot tell."""
    return float(np.mean([one.score.mean() if one.right is None else one.right.mean() for one in found]))


def told(found: Found, skills: Sequence[str], *, replicate: int, prompts: int, judge: str) -> dict[str, Any]:
    """As the answer has it: the weights, and every merge that was tried with its score."""
    return {
        "replicate": replicate, "method": "mean", "judge": judge, "prompts": prompts, "whole": found.whole, "score": found.best.score,
        "weights": dict(zip(skills, found.weights, strict=True)),
        "tried": [{"weights": list(one.weights), "score": one.score} for one in found.tried],
    }  # fmt: skip
