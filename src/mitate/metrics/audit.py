"""Audits: a lower bound on the epsilon of differential privacy that a training can have had, from an attack's guesses.

(epsilon, delta)-privacy limits how well anyone can guess what a training saw; whoever guesses better refutes it. A bound above 0 refutes
*any* privacy and every smaller epsilon; a bound of 0 proves nothing. Two ways to get the guesses:

- `epsilon_over_runs`: many independent trainings, with and without one image; then epsilon >= log((TPR - delta) / FPR) (Kairouz et al. 2015).
- `epsilon_one_run`: one training with planted canaries, each in or out by its own fair coin (Steinke, Nasr and Jagielski 2023). Hits and
  misses of one training are not independent, so the first formula must not be used on them.

Canaries are made for this and belong in no product: a generator that was audited is thrown away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from mitate.metrics.intervals import Interval, clopper_pearson
from mitate.runtime import seed_of
from mitate.score import Metric

LEAST = 10  # runs with and without the image, or canaries
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the canaries that are guessed
HALVINGS = 40
MOST_EPSILON = 700.0  # e^-epsilon is 0 in float64 soon after
BLOCKS = 8  # a side of a canary's mosaic, 4 in pictures of less than 16 pixels
TRIES = 300  # in a row without a canary that is unlike the others

EPSILON = Metric(
    "epsilon_at_least",
    "privacy",
    "lower",
    LEAST,
    "low end only: Clopper and Pearson 1934 with Bonferroni over thresholds",
    "Kairouz et al. 2015; Jagielski et al. 2020",
)
EPSILON_ONE_RUN = Metric(
    "epsilon_at_least_one_run", "privacy", "lower", LEAST, "low end only: exact, Bonferroni over numbers of guesses", "Steinke, Nasr and Jagielski 2023"
)


@dataclass(frozen=True)
class Bound:
    """A lower bound on epsilon. p: the chance of such guesses, at most, where epsilon is 0; most: the bound that a perfect attack would have got."""

    epsilon: Interval  # value: what the chosen guesses would give if their rates were the true ones; high is infinite
    delta: float
    p: float
    most: float
    rule: str  # the guesses that gave it


@dataclass(frozen=True)
class Canaries:
    """Pictures that look like nothing else, labels of classes that there are, and which are in, by fair coins."""

    x: np.ndarray  # uint8 [m, h, w, c]
    y: np.ndarray  # int64 [m]
    included: np.ndarray  # bool [m]

    def plant(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Training images and labels with the included canaries after them."""
        return np.concatenate([x, self.x[self.included]]), np.concatenate([y, self.y[self.included]])


def make_canaries(x: np.ndarray, y: np.ndarray, *, count: int, seed: int) -> Canaries:
    """Canaries for training images x uint8 [n, h, w, c] with labels y int64 [n]: mosaics of 8 x 8 (4 x 4) blocks, each channel black or white.

    At least a quarter of the blocks differ between any two, and each has a quarter of either colour. Classes come in turn, in random order.
    The coins come from another stream than the pictures. As many canaries as a tenth of the images already change what is learnt.
    Raises ValueError below 10, and where so many do not fit.
    """
    if x.ndim != 4 or x.dtype != np.uint8 or min(x.shape[1:3]) < 4 or len(x) != len(y):
        raise ValueError(f"images have shape {x.shape} and type {x.dtype}, {len(y)} labels; fix: give uint8 [images, height, width, channels] and their labels")
    if count < LEAST:
        raise ValueError(f"needs {LEAST} canaries, has {count}; fix: ask for more")
    _, h, w, c = x.shape
    side = BLOCKS if min(h, w) >= 2 * BLOCKS else BLOCKS // 2
    rng = np.random.default_rng(seed_of("canaries", seed))
    bits = np.zeros((0, side * side * c), bool)
    failed = 0
    while len(bits) < count:
        new = rng.random(bits.shape[1]) < 0.5
        if 0.25 <= new.mean() <= 0.75 and ((bits != new).mean(axis=1) >= 0.25).all():
            bits, failed = np.concatenate([bits, new[None]]), 0
        elif (failed := failed + 1) == TRIES:
            raise ValueError(f"{count} canaries of {side} x {side} blocks would be too alike; fix: ask for at most {len(bits)}")
    rows, columns = (np.arange(length) * side // length for length in (h, w))
    mosaic = bits.reshape(count, side, side, c)[:, rows][:, :, columns]
    classes = rng.permutation(np.unique(y))
    coins = np.random.default_rng(seed_of("canary coins", seed)).random(count) < 0.5
    return Canaries(mosaic.astype(np.uint8) * np.uint8(255), np.resize(classes, count).astype(np.int64), coins)


def epsilon_over_runs(inside: np.ndarray, outside: np.ndarray, *, delta: float = 0.0, confidence: float = 0.95) -> Bound:
    """Lower bound on epsilon from independent trainings. inside [n], outside [m]: the attack's score in runs with and without the image.

    At a threshold that leaves the k highest of `outside` above it (k = 0, 1, 2, 4, ...), a true positive rate of at least t and a false positive
    rate of at most f give epsilon >= log((t - delta) / f); at one that leaves the k lowest of `inside` below it, the same for guesses
    of "outside". The threshold is an order statistic of one side, so f has the interval of Clopper and Pearson, and the other side's rate has its
    own, given the threshold. All rates share (1 - confidence) / 2, evenly (Bonferroni). Scores of one training are no independent runs.
    """
    inside, outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    _check(delta, inside, outside)
    counts = _counts(inside, outside)
    spill = (1 - confidence) / 2
    low, rule, value = _over_runs(counts, delta, spill)
    p = 1.0
    if _over_runs(counts, delta, 1.0)[0] > 0:
        small, large = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (small + large) / 2
            small, large = (small, middle) if _over_runs(counts, delta, middle)[0] > 0 else (middle, large)
        p = large
    perfect = _over_runs(_counts(np.ones(len(inside)), np.zeros(len(outside))), delta, spill)[0]
    return Bound(Interval(value, low, math.inf, len(inside) + len(outside)), delta, p, perfect, rule)


def epsilon_one_run(scores: np.ndarray, included: np.ndarray, *, delta: float = 0.0, shares: tuple[float, ...] = SHARES, confidence: float = 0.95) -> Bound:
    """Lower bound on epsilon from one training with canaries. scores [m], higher for "was in"; included: bool [m], fair coins of each one's own.

    The highest are guessed in and the lowest out, as many of either, the rest not at all: once for each share of the canaries that is guessed; and
    once more without the lowest, for attacks that know a copy but not its absence. Bonferroni over all of them.
    Under (epsilon, delta)-privacy the number of right guesses among r is, but for delta, at most binomial with
    e^epsilon / (1 + e^epsilon) (the main theorem of Steinke et al. 2023); the bound is the largest epsilon that this refutes at (1 - confidence) / 2.
    Only for coins: images that happen to be in or out are no canaries.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included, bool)
    m = len(scores)
    if m < LEAST or included.shape != scores.shape:
        raise ValueError(f"needs {LEAST} canaries with a score and a coin each, has {m} scores and {len(included)} coins; fix: plant more")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN; fix: drop those canaries, whether in or out")
    if not 0 <= delta < 1 or not shares or not all(0 < s <= 1 for s in shares):
        raise ValueError(f"delta is {delta}, shares are {shares}; fix: give 0 to below 1, and shares above 0 to 1")
    order = np.argsort(-scores, kind="stable")
    ways = sorted({(k, bottom) for s in shares for k in (max(1, math.floor(s * m / 2)),) for bottom in (k, 0)})
    spill = (1 - confidence) / 2 / len(ways)
    best, p = (0.0, ways[0], 0), 1.0
    for top, bottom in ways:
        right = int(included[order[:top]].sum()) + int((~included[order[m - bottom :]]).sum() if bottom else 0)
        found = _largest_refuted(m, top + bottom, right, delta, spill)
        p = min(p, len(ways) * chance_of_guesses(m, top + bottom, right, epsilon=0.0, delta=delta))
        if found > best[0]:
            best = found, (top, bottom), right
    top, bottom = best[1]
    share = best[2] / (top + bottom)
    value = max(best[0], 0.0 if share <= 0.5 else math.inf if share == 1 else math.log(share / (1 - share)))
    most = max(_largest_refuted(m, a + b, a + b, delta, spill) for a, b in ways)
    rule = f"{best[2]} of {top + bottom} guesses right: {top} in, {bottom} out" if best[0] else f"no way of {len(ways)} to guess beats chance"
    return Bound(Interval(value, best[0], math.inf, m), delta, min(1.0, p), most, rule)


def chance_of_guesses(m: int, r: int, right: int, *, epsilon: float, delta: float = 0.0) -> float:
    """Chance, at most, of so many right guesses or more among r on m canaries under (epsilon, delta)-privacy. 0 to 1.

    Main theorem of Steinke et al. 2023: with W binomial (r, e^epsilon / (1 + e^epsilon)), P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i.
    """
    if right <= 0:
        return 1.0
    q = float(special.expit(epsilon))
    at_least = float(special.betainc(right, r - right + 1, q))
    if delta == 0:
        return at_least
    i = np.arange(1, right + 1)
    exactly = np.exp(special.gammaln(r + 1) - special.gammaln(right - i + 1) - special.gammaln(r - right + i + 1) + _log_weights(right - i, r, epsilon))
    return min(1.0, at_least + 2 * m * delta * float((np.cumsum(exactly) / i).max()))


def _log_weights(k: np.ndarray, r: int, epsilon: float) -> np.ndarray:
    """log of q^k (1 - q)^(r - k), q = e^epsilon / (1 + e^epsilon)."""
    return -k * np.log1p(math.exp(-epsilon)) - (r - k) * (epsilon + np.log1p(math.exp(-epsilon)))


def _largest_refuted(m: int, r: int, right: int, delta: float, spill: float) -> float:
    if chance_of_guesses(m, r, right, epsilon=0.0, delta=delta) > spill:
        return 0.0
    low, high = 0.0, 1.0
    while high < MOST_EPSILON and chance_of_guesses(m, r, right, epsilon=high, delta=delta) <= spill:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if chance_of_guesses(m, r, right, epsilon=middle, delta=delta) <= spill else (low, middle)
    return low


def _counts(inside: np.ndarray, outside: np.ndarray) -> list[tuple[int, int, int, int, str]]:
    """(true, of, false, of, rule) at each threshold, for guesses of "inside" and of "outside"; the false ones as ranks say, ties or not."""
    found = []
    for right, wrong, word in ((inside, outside, "inside"), (-outside, -inside, "outside")):
        ordered = np.sort(wrong)[::-1]
        ks = [0, *(2**i for i in range(len(wrong).bit_length()) if 2**i <= len(wrong) // 2)]
        found += [(int((right > ordered[k]).sum()), len(right), k, len(wrong), f"{word}, {k} of {len(wrong)} wrong") for k in ks]
    return found


def _over_runs(counts: list[tuple[int, int, int, int, str]], delta: float, spill: float) -> tuple[float, str, float]:
    confidence = 1 - 2 * spill / (2 * len(counts))  # two rates at each threshold, one end each
    best = (0.0, f"no threshold of {len(counts)} beats chance", 0.0)
    for right, n, wrong, m, rule in counts:
        sure = clopper_pearson(right, n, confidence=confidence).low - delta
        bound = math.log(sure / clopper_pearson(wrong, m, confidence=confidence).high) if sure > 0 else 0.0
        if bound > best[0]:
            best = bound, rule, math.log((right / n - delta) / (wrong / m)) if wrong else math.inf
    return best


def _check(delta: float, inside: np.ndarray, outside: np.ndarray) -> None:
    if min(len(inside), len(outside)) < LEAST:
        raise ValueError(f"needs {LEAST} runs with and without the image, has {len(inside)} and {len(outside)}; fix: train more")
    if np.isnan(inside).any() or np.isnan(outside).any():
        raise ValueError("scores hold NaN; fix: drop those runs")
    if not 0 <= delta < 1:
        raise ValueError(f"delta is {delta}; fix: give 0 to below 1")
