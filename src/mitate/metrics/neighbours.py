"""Precision, recall, density, coverage, authenticity: who lies among whose nearest neighbours.

Three blocks of distances (real to real, synthetic to synthetic, real to synthetic) are walked once, tile by tile; every number of this
file comes from that one pass. NN_k(p) is the distance from p to its k-th nearest neighbour in its own set, itself not counted.

Every radius and comparison is what float64 differences give (metrics/distances.py has how): ties are ties, copies are at distance 0.
Memory beside the input: O(n k) for the answer and a few blocks; no n x n matrix. How many threads the product takes is the caller's matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mitate.metrics.distances import Distances
from mitate.metrics.intervals import Interval, quantile_t, wilson
from mitate.metrics.nearest import BLOCK
from mitate.metrics.subsampling import SUBSAMPLED
from mitate.score import Metric

K = 5
LEAST = 10  # images on either side; also more than k

GIVEN_REAL = "Wilson 1927, over synthetic images, for this real set"
GIVEN_FAKE = "Wilson 1927, over real images, for this synthetic set"
PRECISION = Metric("precision", "fidelity", "higher", LEAST, GIVEN_REAL, "Kynkaanniemi et al. 2019, eq. 2, with < and k = 5 (prdc)")
RECALL = Metric("recall", "diversity", "higher", LEAST, GIVEN_FAKE, "Kynkaanniemi et al. 2019, eq. 2, with < and k = 5 (prdc)")
DENSITY = Metric("density", "fidelity", "higher", LEAST, "Student's t over synthetic images, for this real set", "Naeem et al. 2020, with k = 5 (prdc)")
COVERAGE = Metric("coverage", "diversity", "higher", LEAST, SUBSAMPLED, "Naeem et al. 2020, with k = 5 (prdc)")
AUTHENTICITY = Metric("authenticity", "privacy", "higher", LEAST, GIVEN_REAL, "after Alaa et al. 2022; AuthPct of Stein et al. 2023")


@dataclass(frozen=True)
class Neighbourhood:
    """What one pass over the distances tells. n real images, m synthetic ones; column j belongs to ks[j]."""

    ks: tuple[int, ...]
    real_radii: np.ndarray  # float64 [n, ks], NN_k of each real image among the real
    fake_radii: np.ndarray  # float64 [m, ks], NN_k of each synthetic image among the synthetic
    real_balls: np.ndarray  # int64 [m, ks], real images whose radius reaches further than to this synthetic one
    in_fake_ball: np.ndarray  # bool [n, ks], some synthetic image's radius reaches further than to this real one
    to_real: np.ndarray  # float64 [m], distance to the nearest real image
    nearest_real: np.ndarray  # int64 [m], its row; the first of equals, of many copies any
    to_fake: np.ndarray  # float64 [n], distance to the nearest synthetic image
    real_gap: np.ndarray  # float64 [n], distance to the nearest other real image
    covered: np.ndarray  # bool [n, ks], to_fake < real_radii
    authentic: np.ndarray  # bool [m]

    def column(self, k: int) -> int:
        if k not in self.ks:
            raise ValueError(f"k = {k} was not measured, only {', '.join(map(str, self.ks))}; fix: name it in ks")
        return self.ks.index(k)


def neighbourhood(real: np.ndarray, fake: np.ndarray, *, ks: tuple[int, ...] = (K,), block: int = BLOCK) -> Neighbourhood:
    """All that the neighbour metrics need, from one pass over the three blocks of distances.

    real [n, d], fake [m, d]: float32 or float64 features of one extractor. block changes time and memory, never the answer.
    Raises ValueError below 10 images on a side, with no more images than k, or on features that are not finite.
    """
    real, fake = _checked("real", real, ks), _checked("synthetic", fake, ks)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real features have {real.shape[1]} columns, synthetic ones {fake.shape[1]}; fix: use one extractor")
    passes = Distances(real, fake, block=block)
    real_squares, fake_squares = passes.radii(0, (1, *ks)), passes.radii(1, ks)
    between = passes.across(0, 1, real_squares[:, 1:], fake_squares)
    gap, radii = real_squares[:, 0], real_squares[:, 1:]
    return Neighbourhood(
        tuple(ks),
        np.sqrt(radii),
        np.sqrt(fake_squares),
        between.real_balls,
        between.in_fake_ball,
        np.sqrt(between.to_real),
        between.nearest_real,
        np.sqrt(between.to_fake),
        np.sqrt(gap),
        between.to_fake[:, None] < radii,
        between.to_real > gap[between.nearest_real],
    )


def radii(points: np.ndarray, *, ks: tuple[int, ...] = (K,), block: int = BLOCK) -> np.ndarray:
    """Distance from each point to its k-th nearest neighbour in the set, itself not counted. points [n, d]; float64 [n, ks]."""
    points = _checked("given", points, ks)
    return np.sqrt(Distances(points, block=block).radii(0, ks))


def precision(found: Neighbourhood, *, k: int = K, confidence: float = 0.95) -> Interval:
    """Share of synthetic images that lie nearer to some real image than that one's k-th real neighbour. 0 to 1.

    As prdc: strict <, k = 5. torch-fidelity uses <= and k = 3; at equal k the two differ only at exact ties.
    Blurred averages score high: read it beside recall.
    """
    return _share(found.real_balls[:, found.column(k)] > 0, confidence)


def recall(found: Neighbourhood, *, k: int = K, confidence: float = 0.95) -> Interval:
    """Share of real images that lie nearer to some synthetic image than that one's k-th synthetic neighbour. 0 to 1.

    As prdc: strict <, k = 5; torch-fidelity has <= and k = 3. A few far-out synthetic images have large radii and inflate it.
    """
    return _share(found.in_fake_ball[:, found.column(k)], confidence)


def density(found: Neighbourhood, *, k: int = K, confidence: float = 0.95) -> Interval:
    """Mean number of real balls around a synthetic image, over k. 0 or more; about 1 for fresh real images, above 1 near dense ones."""
    counts = found.real_balls[:, found.column(k)] / k
    value, half = float(counts.mean()), quantile_t(0.5 + confidence / 2, len(counts) - 1) * float(counts.std(ddof=1)) / math.sqrt(len(counts))
    return Interval(value, max(0.0, value - half), value + half, len(counts))


def coverage(found: Neighbourhood, *, k: int = K) -> float:
    """Share of real images whose nearest synthetic image is nearer than their k-th real neighbour. 0 to 1; choose k so that real scores 0.95."""
    return float(found.covered[:, found.column(k)].mean())


def authenticity(found: Neighbourhood, *, confidence: float = 0.95) -> Interval:
    """Share of synthetic images farther from their nearest real image than that one is from its nearest other real image. 0 to 1.

    Blurred images fail it without being copies, and fresh real ones score far below 1: read it beside the floor of a hold-out.
    """
    return _share(found.authentic, confidence)


def _share(hits: np.ndarray, confidence: float) -> Interval:
    return wilson(int(hits.sum()), len(hits), confidence=confidence)


def _checked(which: str, points: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] < 1:
        raise ValueError(f"{which} features have shape {points.shape}; fix: give [images, features]")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {ks}; fix: give whole numbers of 1 or more")
    if len(points) < (least := max(LEAST, max(ks) + 1)):
        raise ValueError(f"needs {least} {which} images, has {len(points)}; fix: give more")
    return points if points.dtype in (np.float32, np.float64) else points.astype(np.float64)
