"""What is watched in a loop, on the image side, the text side and between them: functions of arrays, none of which needs a network.

Each is one number of one generation's pairs. The floor of an indicator is what real pairs of the same number give: `read` computes it with the same function,
and where it is known in closed form a function of its own says it (`expected_tail`). What a loop reads is compared with that, not with the ideal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

SMOOTHING = 1e-3  # added to every probability before a Kullback-Leibler divergence, in shares of the uniform one
RARE = 0.1  # of the distinct captions, those of lowest probability are the tail


@dataclass(frozen=True)
class Reading:
    """An indicator, and what as many real pairs give."""

    value: float
    floor: float


def read(indicator: Callable[[np.ndarray], float], made: np.ndarray, real: np.ndarray) -> Reading:
    """An indicator of what was made, beside the same of as many real ones. ValueError where the numbers differ: many indicators depend on n."""
    if len(made) != len(real):
        raise ValueError(f"{len(made)} made and {len(real)} real: the floor is that of as many real ones")
    return Reading(indicator(made), indicator(real))


# images ---------------------------------------------------------------------------------------------------------------


def variance(features: np.ndarray) -> float:
    """Trace of the covariance of features [n, d], by n - 1: the sum of the variances."""
    return float(features.var(axis=0, ddof=1).sum())


def within_variance(features: np.ndarray, groups: np.ndarray) -> float:
    """The same within prompts (or kinds of prompts) `groups`, int [n]: pooled over groups, by n less the number of groups."""
    counts = np.bincount(groups)
    there = int((counts > 0).sum())
    if len(groups) <= there:
        raise ValueError("no prompt has two images")
    sums = np.stack([np.bincount(groups, weights=column) for column in features.T], axis=1)
    left = float((features**2).sum() - (sums[counts > 0] ** 2 / counts[counts > 0, None]).sum())
    return max(0.0, left) / (len(groups) - there)


# captions -------------------------------------------------------------------------------------------------------------


def entropy(captions: np.ndarray) -> float:
    """Entropy of the captions that came, in nats (plug-in: too small by about (distinct - 1) / 2n)."""
    shares = np.unique(captions, return_counts=True)[1] / len(captions)
    return float(-(shares * np.log(shares)).sum())


def distinct(captions: np.ndarray) -> float:
    """How many different captions came."""
    return float(len(np.unique(captions)))


def caption_variance(captions: np.ndarray) -> float:
    """Chance that two captions of the set differ (Gini-Simpson, without bias): the variance of captions as one-hot rows."""
    counts, n = np.unique(captions, return_counts=True)[1], len(captions)
    return float(1 - (counts * (counts - 1)).sum() / (n * (n - 1)))


def distinct_n(texts: Sequence[Sequence[str]], n: int) -> float:
    """Distinct-n of captions as words: different runs of n words over all of them (Li et al. 2016). ValueError where no caption has n words."""
    runs = [tuple(words[i : i + n]) for words in texts for i in range(len(words) - n + 1)]
    if not runs:
        raise ValueError(f"no caption has {n} words")
    return len(set(runs)) / len(runs)


def survival(captions: np.ndarray, first: np.ndarray) -> float:
    """Share of the different captions of generation 1 that still come."""
    before = np.unique(first)
    return float(np.isin(before, captions).mean())


def tail_recall(captions: np.ndarray, tail: np.ndarray) -> float:
    """Share of the rare captions `tail` that come at least once."""
    return float(np.isin(tail, captions).mean())


def tail_of(probabilities: np.ndarray, *, share: float = RARE) -> np.ndarray:
    """Numbers of the captions of lowest probability among those that can come, int [k], k at least 1."""
    order = np.argsort(probabilities, kind="stable")
    order = order[probabilities[order] > 0]
    return np.sort(order[: max(1, round(share * len(order)))])


def expected_tail(probabilities: np.ndarray, tail: np.ndarray, n: int) -> float:
    """The floor of `tail_recall`: the mean of 1 - (1 - p)^n."""
    return float((1 - (1 - probabilities[tail]) ** n).mean())


def expected_distinct(probabilities: np.ndarray, n: int) -> float:
    """The floor of `distinct`: the sum of 1 - (1 - p)^n."""
    return float((1 - (1 - probabilities) ** n).sum())


# between them ---------------------------------------------------------------------------------------------------------


def alignment(scores: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the scores of pairs, from a scorer that is none of the agents."""
    return float(scores.mean()), float(scores.std(ddof=1))


def attribute_drift(attributes: np.ndarray, real: np.ndarray) -> float:
    """Total variation between the shares of an attribute's values, made int [n] against `real` shares [values]: 0 to 1."""
    return total_variation(np.bincount(attributes, minlength=len(real)) / len(attributes), real)


def bias_amplification(attributes: np.ndarray, groups: np.ndarray, real: np.ndarray) -> float:
    """How much the majority value of each group has grown: mean over groups of its share less its share in reality.

    attributes, groups: int [n]; real: [groups, values], rows of shares. Groups that did not come are left out.
    """
    counts = np.zeros(real.shape)
    np.add.at(counts, (groups, attributes), 1)
    there = counts.sum(axis=1) > 0
    major = real.argmax(axis=1)
    shares = counts[there, major[there]] / counts[there].sum(axis=1)
    return float((shares - real[there, major[there]]).mean())


def disagreement(outputs: np.ndarray) -> float:
    """How often two agents say different things of the same input: outputs [agents, n], mean over pairs of agents; 0 to 1."""
    agents = len(outputs)
    pairs = [(outputs[a] != outputs[b]).mean() for a in range(agents) for b in range(a)]
    if not pairs:
        raise ValueError("one agent disagrees with nobody")
    return float(np.mean(pairs))


# distribution error, where the truth is known ---------------------------------------------------------------------------


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of absolute differences of two distributions."""
    return float(np.abs(p - q).sum() / 2)


def divergence(p: np.ndarray, q: np.ndarray, *, smoothing: float = SMOOTHING) -> float:
    """Kullback-Leibler divergence of p from q in nats, both mixed with a share `smoothing` of the uniform distribution, so that it is finite."""
    p, q = ((1 - smoothing) * v + smoothing / len(v) for v in (p, q))
    return float((p * np.log(p / q)).sum())


def wasserstein(mean: np.ndarray, cov: np.ndarray, other_mean: np.ndarray, other_cov: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of Gaussians (Dowson and Landau 1982): |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2).

    mean: [..., d], cov: [..., d, d]; several at once give the mean of their distances.
    """
    root = square_root(other_cov)
    middle = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov @ root), 0)).sum(-1)
    traces = np.trace(cov, axis1=-2, axis2=-1) + np.trace(other_cov, axis1=-2, axis2=-1)
    return float(np.mean(((mean - other_mean) ** 2).sum(-1) + np.maximum(traces - 2 * middle, 0)))


def square_root(cov: np.ndarray) -> np.ndarray:
    """Symmetric root of positive semi-definite matrices [..., d, d]."""
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
