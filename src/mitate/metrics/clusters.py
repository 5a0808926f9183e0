"""Intra-cluster distance: are the synthetic images around one real image different from each other, or one image again and again?

Few-shot generators often give variations of their shots. Each synthetic image joins its nearest real one, and the mean distance within these
clusters tells how much they vary (Ojha et al. 2021, section 4.1, there with LPIPS). In the published code a cluster without images scores 0,
the number of clusters is fixed at ten, and the first fifty images stand for all. Here a cluster needs two images to have a distance,
all pairs count, and how many clusters had none is told beside the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mitate.metrics.nearest import BLOCK
from mitate.metrics.subsampling import SUBSAMPLED
from mitate.score import Metric

LEAST = 10  # images on either side, for the nearest real image to be known
INTRA_CLUSTER = Metric("intra_cluster", "diversity", "higher", LEAST, SUBSAMPLED, "after Ojha et al. 2021, with features in place of LPIPS")


@dataclass(frozen=True)
class IntraCluster:
    """value: mean distance between synthetic images of one cluster, averaged over clusters that have two or more. Clusters are real images."""

    value: float
    clusters: int  # with two synthetic images or more: what the value rests on
    alone: int  # with one
    empty: int  # with none
    largest: float  # share of the synthetic images in the fullest cluster, 0 to 1
    n: int  # synthetic images


def intra_cluster(fake: np.ndarray, nearest_real: np.ndarray, *, n_real: int, block: int = BLOCK) -> IntraCluster:
    """How different the synthetic images around one real image are. fake [m, d]; nearest_real: int [m], `Neighbourhood.nearest_real`; n_real images.

    In the unit of the features: two values are compared for one extractor and one real set only. 0 where each cluster is one image;
    distances below about 1e-7 of a cluster's spread count as 0. Empty clusters do not lower it, so read it beside them: a set that varies
    well around one shot of ten has left nine out. The floor is that of held-out real images. Raises ValueError where no real image is
    nearest to two synthetic ones.
    """
    if len(nearest_real) != len(fake) or not len(fake) or not (0 <= nearest_real.min() and nearest_real.max() < n_real):
        raise ValueError(f"nearest_real does not name one of {n_real} real images for each of {len(fake)}; fix: give Neighbourhood.nearest_real")
    counts = np.bincount(nearest_real, minlength=n_real)
    members = [some for some in np.split(np.argsort(nearest_real, kind="stable"), np.cumsum(counts)[:-1]) if len(some) > 1]
    if not members:
        raise ValueError(f"needs two synthetic images with one nearest real image, has none among {len(fake)}; fix: give more synthetic images")
    value = float(np.mean([_mean_distance(fake, some, block) for some in members]))
    return IntraCluster(value, len(members), int((counts == 1).sum()), int((counts == 0).sum()), float(counts.max() / len(fake)), len(fake))


def _mean_distance(points: np.ndarray, members: np.ndarray, block: int) -> float:
    """Mean distance of all pairs of the members, in tiles of `block`, as differences to a point among them."""
    centre = points[members[:block]].mean(axis=0, dtype=np.float64)
    total = 0.0
    for i in range(0, len(members), block):
        left = points[members[i : i + block]] - centre
        for j in range(i, len(members), block):
            right = points[members[j : j + block]] - centre
            square = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2.0 * (left @ right.T)
            noise = 8 * len(centre) * 2.0**-53 * (float((left**2).sum(1).max()) + float((right**2).sum(1).max()))
            square[square < noise] = 0.0
            total += float(np.sqrt(square).sum()) * (1 if i == j else 2)
    return total / (len(members) * (len(members) - 1))
