"""What metrics of features refuse, in one wording."""

from __future__ import annotations

import numpy as np


def check_features(least: int, **sets: np.ndarray) -> None:
    """ValueError where sets of features [n, d], by the name of each, cannot be measured: fewer than `least` images, other columns, or no finite numbers."""
    first = next(iter(sets.values()))
    for which, points in sets.items():
        if len(points) < least:
            raise ValueError(f"needs {least} {which} images, has {len(points)}; fix: give more")
        if points.ndim != 2 or points.shape[1] != first.shape[1]:
            raise ValueError(f"{which} features have shape {points.shape}; fix: give [images, features] of one extractor")
        if not np.isfinite(points.sum(dtype=np.float64)):
            raise ValueError(f"{which} features are not finite; fix: drop the rows with NaN or infinity")
