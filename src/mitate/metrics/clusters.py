"""Intra-cluster distance: are the synthetic images around one real image different from each other, or one image again and again?

Few-shot generators often give variations of their shots. Each synthetic image joins its nearest real one, and the mean distance within these
clusters tells how much they vary (Ojha et al. 2021, section 4.1, there with LPIPS). In the published code a cluster without images scores 0,
the number of clusters is fixed at ten, and the first fifty images stand for all. Here a cluster needs two images to have a distance,
all pairs count, and how many clusters had none is told beside the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mitate.metrics.neighbours import BLOCK, INTRA_CLUSTER, intra_cluster

__all__ = ["INTRA_CLUSTER", "IntraCluster", "intra_cluster_distance"]


@dataclass(frozen=True)
class IntraCluster:
    """value: mean distance between synthetic images of one cluster, averaged over clusters that have two or more. Clusters are real images."""

    value: float
    clusters: int  # with two synthetic images or more: what the value rests on
    alone: int  # with one
    empty: int  # with none
    largest: float  # share of the synthetic images in the fullest cluster, 0 to 1
    n: int  # synthetic images


def intra_cluster_distance(fake: np.ndarray, nearest_real: np.ndarray, *, n_real: int, block: int = BLOCK) -> IntraCluster:
    """How different the synthetic images around one real image are. fake [m, d]; nearest_real: int [m], `Neighbourhood.nearest_real`; n_real images.

    In the unit of the features: two values are compared for one extractor and one real set only. Empty clusters do not lower it, so read it
    beside them: a set that varies well around one shot of ten has left nine out. The floor is that of held-out real images.
    Raises ValueError where no real image is nearest to two synthetic ones.
    """
    if len(nearest_real) != len(fake) or not (0 <= nearest_real.min() and nearest_real.max() < n_real):
        raise ValueError(f"nearest_real does not name one of {n_real} real images for each of {len(fake)}; fix: give Neighbourhood.nearest_real")
    counts = np.bincount(nearest_real, minlength=n_real)
    value = intra_cluster(fake, nearest_real, block=block)
    return IntraCluster(value, int((counts > 1).sum()), int((counts == 1).sum()), int((counts == 0).sum()), float(counts.max() / len(fake)), len(fake))
