"""The energy score: how well a sample of drawn images stands for where one more real image will lie. Copies lose by not spreading, strangers by being far."""

from __future__ import annotations

import numpy as np


def energy_score(drawn: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance from the drawn to the truth, less half their mean distance from each other; lower is better, 0 for copies of the truth itself.

    drawn: [m, d], m of 2 or more, truth: [d]. Gneiting & Raftery 2007, eq. 22 with beta = 1, pairs of a point with itself left out: strictly proper, so no
    other distribution does better on average than that of the truth.
    """
    if len(drawn) < 2:
        raise ValueError(f"{len(drawn)} drawn images have no distance from each other")
    to_truth = np.linalg.norm(drawn.astype(np.float64) - truth.astype(np.float64), axis=1).mean()
    apart = np.linalg.norm(drawn[:, None].astype(np.float64) - drawn[None].astype(np.float64), axis=2).sum() / (len(drawn) * (len(drawn) - 1))
    return float(to_truth - apart / 2)
