"""How the next look at the same test images is likely to end, given what is known now: `go`, `stop`, or neither.

The test images stay the same, so only the replicates' part of the gain can move. With R replicates behind us (mean g, spread s of a
row, R - 1 degrees of freedom) and m more, the next mean is g + s sqrt(1 / R - 1 / (R + m)) T(R - 1): the replicates to come are
predicted with the uncertainty of what has been seen, not with g taken for the truth (Spiegelhalter, Freedman, Parmar 1994, call this
predictive power). The next interval's width is predicted along with it: the spread s is estimated anew from all R + m rows, and the
images' part stays as it is. docs/statistics.md has the derivation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from mitate.metrics.intervals import Interval, reach

FUTILE = 0.2  # a smaller chance of an answer than this is not worth a look
_VARIANCES, _MEANS, _SPREADS = 64, 129, 16  # points of the quadrature: the rows' true variance, their mean, the new rows' own spread


@dataclass(frozen=True)
class Chances:
    """Chances that add up to 1: the next look ends in `go`, in `stop`, or in `more evidence` once more (neither)."""

    go: float
    stop: float
    neither: float

    @property
    def answer(self) -> float:
        """The chance that the next look settles the question."""
        return self.go + self.stop


def next_look(gain: Interval, *, replicates: int, add: int, overlap: float, confidence: float, low_share: float, worthwhile: float) -> Chances:
    """Chances of the look after `add` more replicates, for a gain measured with `replicates` (2 or more) on the same test images.

    confidence, low_share: of the next look's interval. overlap: of cross-fitting, as in `two_way`; it is no part of what moves.
    A quadrature over equal-probability points, so the same arguments give the same numbers; good to about half a percent.
    """
    if replicates < 2 or add < 1:
        raise ValueError(f"{replicates} replicates and {add} more foretell nothing")
    df, total = replicates - 1, replicates + add
    squares = df * gain.se_replicates**2 / (1 / replicates + overlap)  # sum of squares of the rows so far
    variance = squares / (2 * special.gammaincinv(df / 2, _points(_VARIANCES)))[:, None, None]  # squares / chi^2(R - 1)
    z = special.ndtri(_points(_MEANS))[None, :, None]
    new = 2 * special.gammaincinv((add - 1) / 2, _points(_SPREADS)) if add > 1 else np.zeros(1)  # chi^2(m - 1)
    value = gain.value + np.sqrt(variance * (1 / replicates - 1 / total)) * z
    spread = (squares + variance * (z**2 + new[None, None, :])) / (total - 1)  # z^2: how far the new rows' mean lies from the old rows'
    parts = (spread * (1 / total + overlap), total - 1.0), (gain.se_images**2, gain.df_images)
    error = 1 - confidence
    go = float((value - reach(error * low_share, *parts) > worthwhile).mean())
    stop = float((value + reach(error * (1 - low_share), *parts) < worthwhile).mean())
    return Chances(go, stop, max(0.0, 1 - go - stop))


def _points(n: int) -> np.ndarray:
    """Middles of n equal parts of 0 to 1."""
    return (np.arange(n) + 0.5) / n
